//! Who asks: a bearer token becomes a [`Viewer`].
//!
//! The signature is checked once for each token and remembered until the token expires or its key's term is over; whether the
//! session still lives and the token is of the user's present epoch is checked each time, against a copy of at most 5 s
//! ([`SessionCheck`]). A bad token is refused, never taken for no token.

use std::sync::Arc;
use std::time::Duration;

use quick_cache::sync::Cache;
use sha2::{Digest, Sha256};

use super::context::Viewer;
use super::request_errors::RequestError;
use super::session_check::{MAX_COPY_AGE, SessionCheck, Watch};
use super::top_level_errors::Code;
use crate::actors::clock;
use crate::actors::users::key_ring::{KeyId, KeyRing};
use crate::actors::users::tokens::{AccessTokens, CheckedToken};
use crate::domain::ids::{SessionId, UserId};
use crate::store::users::SessionState;
use crate::telemetry::CacheMeter;

const CACHED_TOKENS: usize = 20_000;
/// Longer than any token of this shop.
const MAX_TOKEN_BYTES: usize = 4_096;

/// What a client showed.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    None,
    Bearer(String),
    /// Something that is no bearer token.
    Malformed,
}

impl Credential {
    /// From the value of an `Authorization` header or field. An empty one says nothing.
    pub fn parse(value: &str) -> Self {
        let value = value.trim();
        if value.is_empty() {
            return Self::None;
        }
        match value.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => {
                let token = token.trim();
                if token.is_empty() || token.len() > MAX_TOKEN_BYTES {
                    Self::Malformed
                } else {
                    Self::Bearer(token.into())
                }
            }
            _ => Self::Malformed,
        }
    }
}

/// What a verified token says, and the key that signed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifiedToken {
    pub user_id: UserId,
    pub session_id: SessionId,
    pub epoch: i64,
    /// Seconds since 1970.
    pub expires_at: i64,
    pub key: KeyId,
}

impl VerifiedToken {
    /// Whom the token stands for while its session is in this state.
    pub fn viewer(&self, state: Option<SessionState>) -> Result<Viewer, AuthError> {
        match state {
            Some(state) if !state.ended && state.token_epoch == self.epoch && state.user_id == self.user_id => {
                Ok(Viewer::SignedIn { user_id: self.user_id, role: state.role, session_id: Some(self.session_id) })
            }
            _ => Err(AuthError::BadToken),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthError {
    BadToken,
    /// The session cannot be checked at present.
    Unavailable,
}

impl From<AuthError> for RequestError {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::BadToken => Self::unauthenticated(),
            AuthError::Unavailable => Self {
                retry_after: Some(Duration::from_secs(1)),
                ..Self::new(Code::Unavailable, "the session cannot be checked at present")
            },
        }
    }
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Auth {
    tokens: AccessTokens,
    /// By the token's SHA-256: the tokens themselves are not kept.
    verified: Arc<Cache<[u8; 32], VerifiedToken>>,
    sessions: SessionCheck,
    meter: Option<CacheMeter>,
}

impl Auth {
    pub fn new(tokens: AccessTokens, sessions: SessionCheck) -> Self {
        Self { tokens, verified: Arc::new(Cache::new(CACHED_TOKENS)), sessions, meter: None }
    }

    /// Counts what the copies of verified tokens are good for.
    pub fn metered_by(self, meter: CacheMeter) -> Self {
        Self { meter: Some(meter), ..self }
    }

    /// Who shows this. The token is absent for an anonymous viewer.
    pub async fn viewer(&self, credential: &Credential) -> Result<(Viewer, Option<VerifiedToken>), AuthError> {
        match credential {
            Credential::None => Ok((Viewer::Anonymous, None)),
            Credential::Malformed => Err(AuthError::BadToken),
            Credential::Bearer(token) => {
                let token = self.verify(token)?;
                let viewer = self.check_session(&token, MAX_COPY_AGE).await?;
                Ok((viewer, Some(token)))
            }
        }
    }

    /// Whether a verified token still serves, judged by a copy of its session no older than `max_age`.
    pub async fn check_session(&self, token: &VerifiedToken, max_age: Duration) -> Result<Viewer, AuthError> {
        let state = self.sessions.state(token.session_id, max_age).await.map_err(|_| AuthError::Unavailable)?;
        token.viewer(state)
    }

    /// Watches a verified token's session, from a state of it no older than `max_age`.
    pub async fn watch(&self, token: &VerifiedToken, max_age: Duration) -> Result<Watch, AuthError> {
        let watch = self.sessions.watch(token.session_id, max_age).await.map_err(|_| AuthError::Unavailable)?;
        token.viewer(watch.latest().state).map(|_| watch)
    }

    /// The keys whose tokens are accepted.
    pub(super) fn keys(&self) -> &KeyRing {
        self.tokens.keys()
    }

    /// Looks at the sessions that are watched; see [`SessionCheck::keep_watch`].
    pub async fn keep_watch(&self, interval: Duration) {
        self.sessions.keep_watch(interval).await;
    }

    fn verify(&self, token: &str) -> Result<VerifiedToken, AuthError> {
        let digest: [u8; 32] = Sha256::digest(token).into();
        let known = self.verified.get(&digest).filter(|known| is_good(*known, self.tokens.keys()));
        if let Some(meter) = &self.meter {
            meter.note(usize::from(known.is_some()), usize::from(known.is_none()));
        }
        if let Some(known) = known {
            return Ok(known);
        }
        let CheckedToken { claims, key } = self.tokens.verify(token).map_err(|_| AuthError::BadToken)?;
        let verified = VerifiedToken {
            user_id: claims.sub,
            session_id: claims.sid,
            epoch: claims.epoch,
            expires_at: claims.exp,
            key,
        };
        self.verified.insert(digest, verified);
        Ok(verified)
    }
}

/// Whether a token that was verified once still is one: in its time, its key in its term.
pub(super) fn is_good(token: VerifiedToken, keys: &KeyRing) -> bool {
    let now = clock::now();
    now.0 < token.expires_at.saturating_mul(1_000) && keys.accepts(token.key, now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bearer_token_is_a_credential() {
        let bearer = |token: &str| Credential::Bearer(token.into());
        let long = format!("Bearer {}", "x".repeat(MAX_TOKEN_BYTES + 1));
        let cases = [
            ("", Credential::None),
            ("  ", Credential::None),
            ("Bearer abc", bearer("abc")),
            ("bearer  abc ", bearer("abc")),
            ("BEARER abc", bearer("abc")),
            ("Bearer", Credential::Malformed),
            ("Bearer ", Credential::Malformed),
            ("Basic abc", Credential::Malformed),
            ("abc", Credential::Malformed),
            (long.as_str(), Credential::Malformed),
        ];
        for (value, expected) in cases {
            assert!(Credential::parse(value) == expected, "{value:.20}");
        }
    }
}
