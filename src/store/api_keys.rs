//! Port of the API keys, in the users domain's own database.

use async_trait::async_trait;

use super::StoreError;
use crate::domain::api_keys::{ApiKey, ApiKeyScopes, InvalidKey};
use crate::domain::ids::{ApiKeyId, SessionId, UserId};
use crate::domain::time::Timestamp;
use crate::domain::users::{Role, TokenHash};

/// A key to be saved with the hash of its token.
#[derive(Debug, Clone)]
pub struct NewApiKey {
    pub key: ApiKey,
    pub token: TokenHash,
    /// Where its user asked for it. A session that has ended asks for nothing: who was signed out leaves no key behind.
    pub session: SessionId,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InsertApiKey {
    Inserted,
    /// By `domain::api_keys::admit`.
    Refused(InvalidKey),
    /// The session is not, or no longer, one of the user's.
    SignedOut,
}

/// What a key that is shown is checked against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApiKeyState {
    pub user_id: UserId,
    /// The user's present one.
    pub role: Role,
    pub scopes: ApiKeyScopes,
    pub token: TokenHash,
    pub expires_at: Option<Timestamp>,
    pub revoked: bool,
}

impl ApiKeyState {
    /// Neither revoked nor expired.
    pub fn is_alive(&self, now: Timestamp) -> bool {
        !self.revoked && self.expires_at.is_none_or(|expiry| now < expiry)
    }
}

/// Resets of passwords and changes of roles revoke a user's keys, the end of an account removes them: in the commits of
/// [`UserStore`](super::users::UserStore).
#[async_trait]
pub trait ApiKeyStore: Send + Sync {
    /// Saves a key if its user may have it (`domain::api_keys::admit`), removes those whose place it takes, and announces it.
    async fn insert_api_key(&self, new: NewApiKey) -> Result<InsertApiKey, StoreError>;

    /// All that are kept, those that serve no more too, newest first.
    async fn api_keys(&self, user: UserId) -> Result<Vec<ApiKey>, StoreError>;

    /// Ends a key, if given only one `of` this user, and announces it; one that was revoked stays as it is. `None`: no
    /// such key.
    async fn revoke_api_key(
        &self,
        id: ApiKeyId,
        of: Option<UserId>,
        at: Timestamp,
    ) -> Result<Option<ApiKey>, StoreError>;

    /// Of those keys that there are.
    async fn api_key_states(&self, ids: &[ApiKeyId]) -> Result<Vec<(ApiKeyId, ApiKeyState)>, StoreError>;

    /// Saves when keys were last used, unless a later use is known. Nobody is told.
    async fn record_api_key_uses(&self, uses: &[(ApiKeyId, Timestamp)]) -> Result<(), StoreError>;
}
