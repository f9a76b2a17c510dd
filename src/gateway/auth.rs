//! Who asks: a bearer token becomes a [`Viewer`]: an access token, or an API key (`api_key_auth`).
//!
//! The signature is checked once for each token and remembered until the token expires or its key's term is over; whether the
//! session still lives and the token is of the user's present epoch is checked each time, against a copy of at most 5 s
//! ([`SessionCheck`]). A bad token is refused, never taken for no token.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use quick_cache::sync::Cache;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::api_key_auth::{ApiKeyAuth, ShownKey};
use super::context::Viewer;
use super::rate_limits::RetryAfter;
use super::request_errors::RequestError;
use super::session_check::{ApiKeyWatch, MAX_COPY_AGE, SessionCheck, SessionWatch};
use super::top_level_errors::Code;
use crate::actors::clock;
use crate::actors::users::api_keys::is_api_key;
use crate::actors::users::key_ring::{KeyId, KeyRing};
use crate::actors::users::tokens::{AccessTokens, CheckedToken};
use crate::domain::ids::{SessionId, UserId};
use crate::domain::time::Timestamp;
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

/// What proved who asks; it is worth what the state of its session or key says.
#[derive(Debug, Clone, Copy)]
pub enum Proof {
    Token(VerifiedToken),
    ApiKey(ShownKey),
}

/// A proof whose session or key is watched.
pub(super) enum WatchedProof {
    Token(VerifiedToken, SessionWatch),
    ApiKey(ShownKey, ApiKeyWatch),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthError {
    BadToken,
    /// The session cannot be checked at present.
    Unavailable,
    /// Too many API keys that are none came from the address.
    TooMany(RetryAfter),
}

impl From<AuthError> for RequestError {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::BadToken => Self::unauthenticated(),
            AuthError::Unavailable => Self {
                retry_after: Some(Duration::from_secs(1)),
                ..Self::new(Code::Unavailable, "the session cannot be checked at present")
            },
            AuthError::TooMany(RetryAfter(wait)) => Self {
                // Up to a whole second: who comes back in time must not be refused again.
                retry_after: Some(Duration::from_secs(wait.as_secs() + 1)),
                ..Self::new(Code::RateLimited, "too many API keys that are not valid, try again later")
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
    /// Absent: none is accepted.
    api_keys: Option<ApiKeyAuth>,
    meter: Option<CacheMeter>,
}

impl Auth {
    pub fn new(tokens: AccessTokens, sessions: SessionCheck) -> Self {
        Self { tokens, verified: Arc::new(Cache::new(CACHED_TOKENS)), sessions, api_keys: None, meter: None }
    }

    /// Counts what the copies of verified tokens are good for.
    pub fn metered_by(self, meter: CacheMeter) -> Self {
        Self { meter: Some(meter), ..self }
    }

    /// Accepts API keys besides access tokens.
    pub fn accepting_keys(self, api_keys: ApiKeyAuth) -> Self {
        Self { api_keys: Some(api_keys), ..self }
    }

    /// Who shows this from this address. The proof is absent for an anonymous viewer.
    pub async fn viewer(&self, credential: &Credential, address: IpAddr) -> Result<(Viewer, Option<Proof>), AuthError> {
        match credential {
            Credential::None => Ok((Viewer::Anonymous, None)),
            Credential::Malformed => Err(AuthError::BadToken),
            Credential::Bearer(token) if is_api_key(token) => {
                let (viewer, key) = self.api_keys()?.viewer_of(token, address, MAX_COPY_AGE).await?;
                Ok((viewer, Some(Proof::ApiKey(key))))
            }
            Credential::Bearer(token) => {
                let proof = Proof::Token(self.verify(token)?);
                let viewer = self.check(&proof, MAX_COPY_AGE).await?;
                Ok((viewer, Some(proof)))
            }
        }
    }

    /// Whether a proof still serves, judged by a copy of its session or key no older than `max_age`.
    pub async fn check(&self, proof: &Proof, max_age: Duration) -> Result<Viewer, AuthError> {
        match proof {
            Proof::Token(token) => {
                let state = self.sessions.state(token.session_id, max_age).await.map_err(|_| AuthError::Unavailable)?;
                token.viewer(state)
            }
            Proof::ApiKey(key) => self.api_keys()?.viewer(key, max_age).await,
        }
    }

    /// Watches a proof's session or key, from a state of it no older than `max_age`.
    pub(super) async fn watch(&self, proof: Proof, max_age: Duration) -> Result<WatchedProof, AuthError> {
        match proof {
            Proof::Token(token) => {
                let watch = self.sessions.watch(token.session_id, max_age).await.map_err(|_| AuthError::Unavailable)?;
                token.viewer(watch.latest().state).map(|_| WatchedProof::Token(token, watch))
            }
            Proof::ApiKey(key) => {
                let watch = self.api_keys()?.watch(&key, max_age).await?;
                Ok(WatchedProof::ApiKey(key, watch))
            }
        }
    }

    fn api_keys(&self) -> Result<&ApiKeyAuth, AuthError> {
        self.api_keys.as_ref().ok_or(AuthError::BadToken)
    }

    /// The keys whose tokens are accepted.
    pub(super) fn keys(&self) -> &KeyRing {
        self.tokens.keys()
    }

    /// Looks at the sessions and keys that are watched; see [`SessionCheck::keep_watch`].
    pub async fn keep_watch(&self, interval: Duration) {
        let keys = async {
            match &self.api_keys {
                Some(keys) => keys.check.keep_watch(interval).await,
                None => std::future::pending().await,
            }
        };
        tokio::join!(self.sessions.keep_watch(interval), keys);
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

impl WatchedProof {
    pub(super) fn proof(&self) -> Proof {
        match self {
            Self::Token(token, _) => Proof::Token(*token),
            Self::ApiKey(key, _) => Proof::ApiKey(*key),
        }
    }

    /// Resolves when the session or key has changed.
    pub(super) async fn changed(&mut self) {
        match self {
            Self::Token(_, watch) => watch.changed().await,
            Self::ApiKey(_, watch) => watch.changed().await,
        }
    }

    /// When the question was asked whose answer was seen last.
    pub(super) fn asked_at(&self) -> Instant {
        match self {
            Self::Token(_, watch) => watch.latest().asked_at,
            Self::ApiKey(_, watch) => watch.latest().asked_at,
        }
    }

    /// Whether it still serves, by what was seen last.
    pub(super) fn is_good(&self, keys: &KeyRing) -> bool {
        match self {
            Self::Token(token, watch) => is_good(*token, keys) && token.viewer(watch.latest().state).is_ok(),
            Self::ApiKey(key, watch) => key.viewer(watch.latest().state).is_ok(),
        }
    }

    /// When it ends by itself.
    pub(super) fn expires_at(&self) -> Option<Timestamp> {
        match self {
            Self::Token(token, _) => Some(Timestamp(token.expires_at.saturating_mul(1_000))),
            Self::ApiKey(_, watch) => watch.latest().state.and_then(|state| state.expires_at),
        }
    }
}

/// Whether a token that was verified once still is one: in its time, its key in its term.
fn is_good(token: VerifiedToken, keys: &KeyRing) -> bool {
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
