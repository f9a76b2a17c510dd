//! Machines that show an API key: the key's id finds its state, of which a copy is at most 5 s old, and the hash of what was
//! shown must be the one that is kept. Copies are apart from those of sessions: made-up keys drive out nothing but keys.

use std::net::IpAddr;
use std::time::Duration;

use super::auth::AuthError;
use super::context::Viewer;
use super::rate_limits::RateLimits;
use super::session_check::{ApiKeyCheck, ApiKeyWatch};
use crate::actors::clock;
use crate::actors::users::api_key_uses::ApiKeyUses;
use crate::actors::users::api_keys;
use crate::domain::ids::ApiKeyId;
use crate::domain::users::TokenHash;
use crate::store::api_keys::ApiKeyState;

/// A key as it was shown: whether it is a good one its state tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShownKey {
    pub id: ApiKeyId,
    token: TokenHash,
}

impl ShownKey {
    /// Whom the key stands for while this is its state.
    pub fn viewer(&self, state: Option<ApiKeyState>) -> Result<Viewer, AuthError> {
        match state {
            Some(state) if state.token.matches(&self.token) && state.is_alive(clock::now()) => {
                Ok(Viewer::ByKey { user_id: state.user_id, role: state.role, scopes: state.scopes })
            }
            _ => Err(AuthError::BadToken),
        }
    }
}

/// What keys are judged by. Cheap to clone.
#[derive(Clone)]
pub struct ApiKeyAuth {
    pub check: ApiKeyCheck,
    /// Told of every use.
    pub uses: ApiKeyUses,
    pub limits: RateLimits,
}

impl ApiKeyAuth {
    /// Who shows this token from this address. What is no good key counts as a guess; after too many of them only keys that
    /// have served before are looked at, so that a flood of guesses is no flood of questions to the store.
    pub(super) async fn viewer_of(
        &self,
        token: &str,
        address: IpAddr,
        max_age: Duration,
    ) -> Result<(Viewer, ShownKey), AuthError> {
        let judged = match api_keys::parse(token) {
            Some((id, token)) => {
                if !self.check.knows(id) {
                    self.limits.check_guesser(address).map_err(AuthError::TooMany)?;
                }
                let key = ShownKey { id, token };
                self.viewer(&key, max_age).await.map(|viewer| (viewer, key))
            }
            None => Err(AuthError::BadToken),
        };
        if judged == Err(AuthError::BadToken) {
            self.limits.check_api_key(address).map_err(AuthError::TooMany)?;
        }
        judged
    }

    /// Whether a key serves, judged by a copy of its state no older than `max_age`.
    pub(super) async fn viewer(&self, key: &ShownKey, max_age: Duration) -> Result<Viewer, AuthError> {
        let state = self.check.state(key.id, max_age).await.map_err(|_| AuthError::Unavailable)?;
        let viewer = key.viewer(state)?;
        self.uses.note(key.id, clock::now());
        Ok(viewer)
    }

    /// Watches a key, from a state of it no older than `max_age`.
    pub(super) async fn watch(&self, key: &ShownKey, max_age: Duration) -> Result<ApiKeyWatch, AuthError> {
        let watch = self.check.watch(key.id, max_age).await.map_err(|_| AuthError::Unavailable)?;
        key.viewer(watch.latest().state).map(|_| watch)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use async_trait::async_trait;

    use super::*;
    use crate::actors::errors::DomainError;
    use crate::domain::api_keys::ApiKeyScope;
    use crate::domain::ids::{TypedId, UserId};
    use crate::domain::time::Timestamp;
    use crate::domain::users::Role;
    use crate::gateway::rate_limits::RateLimitSettings;
    use crate::gateway::session_check::Source;
    use uuid::Uuid;

    /// Knows one key. Counts the questions.
    struct OneKey {
        id: ApiKeyId,
        state: ApiKeyState,
        asked: Arc<AtomicU32>,
    }

    #[async_trait]
    impl Source<ApiKeyId, ApiKeyState> for OneKey {
        async fn state(&self, id: ApiKeyId) -> Result<Option<ApiKeyState>, DomainError> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            Ok((id == self.id).then_some(self.state))
        }

        async fn states(&self, _: Vec<ApiKeyId>) -> Result<Vec<(ApiKeyId, ApiKeyState)>, DomainError> {
            Ok(Vec::new())
        }
    }

    #[tokio::test]
    async fn after_too_many_guesses_only_a_key_that_has_served_before_is_looked_up() {
        let text = |number: u32| format!("souk_{number:026}_{}", "A".repeat(43));
        let (id, token) = api_keys::parse(&text(9_999)).unwrap();
        let (user_id, scopes) = (UserId::from_uuid(Uuid::nil()), [ApiKeyScope::OrdersRead].into_iter().collect());
        let state = ApiKeyState { user_id, role: Role::Customer, scopes, token, expires_at: None, revoked: false };
        let asked = Arc::new(AtomicU32::new(0));
        let check = ApiKeyCheck::new(OneKey { id, state, asked: Arc::clone(&asked) });
        let limits = RateLimits::new(RateLimitSettings::default());
        let auth = ApiKeyAuth { check, uses: ApiKeyUses::default(), limits };
        let shown = async |number| {
            let address = IpAddr::from([10, 0, 0, 1]);
            auth.viewer_of(&text(number), address, Duration::from_secs(5)).await.map(drop)
        };
        assert_eq!(shown(9_999).await, Ok(()));
        let mut guesses = 0;
        while shown(guesses).await == Err(AuthError::BadToken) {
            guesses += 1;
        }
        let before = asked.load(Ordering::Relaxed);
        assert!(matches!(shown(guesses + 1).await, Err(AuthError::TooMany(_))));
        assert_eq!(asked.load(Ordering::Relaxed), before);
        auth.check.forget_all();
        assert_eq!(shown(9_999).await, Ok(()));
        assert_eq!(asked.load(Ordering::Relaxed), before + 1);
    }

    #[test]
    fn a_key_serves_by_its_own_token_until_it_ends() {
        let key = ShownKey { id: ApiKeyId::from_uuid(Uuid::nil()), token: TokenHash([1; 32]) };
        let state = ApiKeyState {
            user_id: UserId::from_uuid(Uuid::nil()),
            role: Role::Staff,
            scopes: [ApiKeyScope::OrdersRead].into_iter().collect(),
            token: TokenHash([1; 32]),
            expires_at: None,
            revoked: false,
        };
        let expiring = |in_ms| ApiKeyState { expires_at: Some(clock::now().plus_millis(in_ms)), ..state };
        let good = Ok(Viewer::ByKey { user_id: state.user_id, role: state.role, scopes: state.scopes });
        assert_eq!(key.viewer(Some(state)), good);
        assert_eq!(key.viewer(Some(expiring(60_000))), good);
        for bad in [
            None,
            Some(expiring(0)),
            Some(ApiKeyState { expires_at: Some(Timestamp(0)), ..state }),
            Some(ApiKeyState { revoked: true, ..state }),
            Some(ApiKeyState { token: TokenHash([2; 32]), ..state }),
        ] {
            assert_eq!(key.viewer(bad), Err(AuthError::BadToken), "{bad:?}");
        }
    }
}
