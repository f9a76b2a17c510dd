//! Port of the users store: users, credentials, sessions, refresh tokens, mail requests, signing keys.

use async_trait::async_trait;

use super::StoreError;
use crate::domain::events::PendingEvent;
use crate::domain::ids::{MailRequestId, SessionId, UserId};
use crate::domain::mail_requests::{MailRequest, MailRequestKind};
use crate::domain::networks::NetworkDigest;
use crate::domain::page::{Page, PageRequest};
use crate::domain::signing_keys::KeyTerm;
use crate::domain::text::Email;
use crate::domain::time::Timestamp;
use crate::domain::users::{
    PasswordHash, PreferencesEdit, RefreshVerdict, Role, Session, Subscription, TokenHash, User,
};

/// No name with its address has words with more beginnings than this: a search for more finds nobody.
pub const MAX_SEARCH_WORDS: usize = 354;

/// A user to be saved, with what is asked of their address and the event that announces them.
#[derive(Debug, Clone)]
pub struct NewUser {
    pub user: User,
    pub password_hash: PasswordHash,
    /// `None`: nobody is to be written to.
    pub verification: Option<MailRequest>,
    pub event: PendingEvent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InsertUser {
    Inserted,
    /// The address belongs to a user already; case does not count.
    EmailTaken,
}

/// A session to be saved with its first refresh token.
#[derive(Debug, Clone)]
pub struct NewSession {
    pub session: Session,
    pub token: TokenHash,
}

/// What became of a refresh token that was shown.
#[derive(Debug, Clone)]
pub enum Exchanged {
    Done {
        session: Session,
        user: Box<User>,
    },
    /// Refused with this verdict; a reuse has revoked the session.
    Refused(RefreshVerdict),
    Unknown,
}

/// What an access token is checked against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionState {
    pub user_id: UserId,
    pub role: Role,
    /// Revoked or expired: its tokens are void.
    pub ended: bool,
    /// The user's present epoch: tokens of an earlier one are void.
    pub token_epoch: i64,
}

/// A key that signs access tokens in its term.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredSigningKey {
    pub kid: String,
    /// PKCS#8, encrypted when `encrypted`.
    pub private_key: Vec<u8>,
    pub encrypted: bool,
    pub created_at: Timestamp,
    pub term: KeyTerm,
}

/// A mail request to be saved once its user is found.
#[derive(Debug, Clone, Copy)]
pub struct NewMailRequest {
    pub id: MailRequestId,
    pub token: TokenHash,
    pub at: Timestamp,
}

/// Why a password may be replaced.
#[derive(Debug, Clone)]
pub enum PasswordProof {
    /// The token of an open reset request, which it uses up.
    ResetToken(TokenHash),
    /// The hash that the user's present password was checked against: another one by now is no proof any more.
    Present(UserId, PasswordHash),
}

impl PasswordProof {
    /// Whether who has lost the password sets another one.
    pub fn is_reset(&self) -> bool {
        matches!(self, Self::ResetToken(_))
    }
}

/// A password to be saved in the place of another.
#[derive(Debug, Clone)]
pub struct NewPassword {
    pub proof: PasswordProof,
    pub hash: PasswordHash,
    /// Begins as the others end.
    pub session: Option<NewSession>,
    pub at: Timestamp,
}

/// The server's secret, from which tokens in mails and other keys are derived.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredSecret {
    /// 32 bytes, encrypted when `encrypted`.
    pub secret: Vec<u8>,
    pub encrypted: bool,
    pub created_at: Timestamp,
}

#[async_trait]
pub trait UserStore: Send + Sync {
    async fn insert_user(&self, user: NewUser) -> Result<InsertUser, StoreError>;

    async fn users(&self, ids: &[UserId]) -> Result<Vec<User>, StoreError>;

    /// The user of an address with the hash of the password.
    async fn credentials(&self, email: &Email) -> Result<Option<(User, PasswordHash)>, StoreError>;

    /// As [`Self::credentials`], by id. Deleted accounts have none.
    async fn credentials_of(&self, id: UserId) -> Result<Option<(User, PasswordHash)>, StoreError>;

    /// Newest first, without deleted accounts; `search` matches the beginnings of words of name and address.
    async fn list_users(&self, search: Option<&str>, page: &PageRequest) -> Result<Page<User>, StoreError>;

    /// Users in the store, those of `admin create` (role ADMIN) not counted.
    async fn count_shoppers(&self) -> Result<u64, StoreError>;

    /// `None`: no such user. Announces the change.
    async fn edit_preferences(
        &self,
        id: UserId,
        edit: PreferencesEdit,
        at: Timestamp,
    ) -> Result<Option<User>, StoreError>;

    /// `None`: no such user. Announces the change.
    async fn rename(&self, id: UserId, name: String, at: Timestamp) -> Result<Option<User>, StoreError>;

    /// Saves a password if its proof holds, ends all sessions and open reset requests, raises the token epoch, begins the
    /// new session, and announces it. A reset ends all API keys too, each of them announced. `None`: the proof does not hold.
    async fn replace_password(&self, new: NewPassword) -> Result<Option<User>, StoreError>;

    /// Puts another hash of the same password in the place of `present`, if that is the user's still. Nobody is told: what
    /// the user can sign in with stays the same.
    async fn renew_password_hash(
        &self,
        id: UserId,
        present: &PasswordHash,
        renewed: PasswordHash,
    ) -> Result<bool, StoreError>;

    /// Erases the account (`domain::users::User::erase`) with its sessions, API keys and mail requests if
    /// `present` is its password's hash, and announces it. False: it is not, or there is no such user.
    async fn erase_user(&self, id: UserId, present: &PasswordHash, at: Timestamp) -> Result<bool, StoreError>;

    /// Changes the role when it differs; then raises the token epoch and ends all API keys, each of them announced. `None`:
    /// no such user.
    async fn change_role(&self, id: UserId, role: Role, at: Timestamp) -> Result<Option<User>, StoreError>;

    /// False, and nothing saved: the user's token epoch is another one by now, so what the sign-in was judged by no
    /// longer holds.
    async fn insert_session(&self, session: NewSession, token_epoch: i64) -> Result<bool, StoreError>;

    /// Whether a session of the address's user, ended or not, began in this network at `since` or later, as far as sessions
    /// are kept. A deleted account has none.
    async fn signed_in_from(&self, email: &Email, network: NetworkDigest, since: Timestamp)
    -> Result<bool, StoreError>;

    /// All that are kept, ended ones too, newest first.
    async fn sessions(&self, user: UserId) -> Result<Vec<Session>, StoreError>;

    /// Judges a shown token (`domain::users::judge_refresh`) and does what the verdict says, in one transaction. A
    /// session whose token was exchanged lives on until `expires_at`.
    async fn exchange_refresh_token(
        &self,
        shown: TokenHash,
        successor: TokenHash,
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Result<Exchanged, StoreError>;

    /// Ends the session of a refresh token, used or not, if it is this user's, and tells which. `None`: no such session
    /// of this user.
    async fn end_session(&self, user: UserId, token: TokenHash, at: Timestamp)
    -> Result<Option<SessionId>, StoreError>;

    /// Ends every session of a user and raises the token epoch.
    async fn end_all_sessions(&self, user: UserId, at: Timestamp) -> Result<(), StoreError>;

    async fn session_state(&self, session: SessionId, now: Timestamp) -> Result<Option<SessionState>, StoreError>;

    /// Of those sessions that there are.
    async fn session_states(
        &self,
        sessions: &[SessionId],
        now: Timestamp,
    ) -> Result<Vec<(SessionId, SessionState)>, StoreError>;

    /// Removes sessions that expired before `before`, with their tokens; returns how many.
    async fn purge_sessions(&self, before: Timestamp) -> Result<u64, StoreError>;

    /// Newest first.
    async fn signing_keys(&self) -> Result<Vec<StoredSigningKey>, StoreError>;

    /// Saves the shop's first key unless one is there; returns the keys that are there then.
    async fn ensure_signing_key(&self, key: StoredSigningKey) -> Result<Vec<StoredSigningKey>, StoreError>;

    /// Adds a key, ends the terms of the others at `others_end` at the latest (`KeyTerm::ending`) and removes those whose
    /// term was over when the new one was made, in one commit; returns the keys that are there then, newest first.
    async fn rotate_signing_key(
        &self,
        key: StoredSigningKey,
        others_end: Timestamp,
    ) -> Result<Vec<StoredSigningKey>, StoreError>;

    async fn server_secret(&self) -> Result<Option<StoredSecret>, StoreError>;

    /// Saves the server's secret unless there is one; returns the one that is there then.
    async fn ensure_server_secret(&self, secret: StoredSecret) -> Result<StoredSecret, StoreError>;

    /// Puts sealed forms in the place of what is stored as it is, in one commit: of signing keys by their id, and of the
    /// server's secret. False: one of them is not there, or is sealed already, and nothing was changed.
    async fn seal_secrets(
        &self,
        signing_keys: Vec<(String, Vec<u8>)>,
        server_secret: Option<Vec<u8>>,
    ) -> Result<bool, StoreError>;

    async fn mail_request(&self, id: MailRequestId) -> Result<Option<MailRequest>, StoreError>;

    /// All of a user that are kept, newest first.
    async fn mail_requests(&self, user: UserId) -> Result<Vec<MailRequest>, StoreError>;

    /// The request of a token, if it is of this kind and open.
    async fn open_mail_request(
        &self,
        token: TokenHash,
        kind: MailRequestKind,
        now: Timestamp,
    ) -> Result<Option<MailRequest>, StoreError>;

    /// Saves a request to reset the password of an address's user, and announces it. An unknown address costs the same
    /// commit, of which nothing stays.
    async fn request_password_reset(&self, email: &Email, request: NewMailRequest) -> Result<(), StoreError>;

    /// Saves a request to verify the user's address, and announces it; an address that is verified asks for nothing.
    /// `None`: no such user.
    async fn request_verification(&self, user: UserId, request: NewMailRequest) -> Result<Option<User>, StoreError>;

    /// Uses up the token of an open verification, marks its user's address as verified, and announces it. `None`: no such
    /// open request.
    async fn verify_email(&self, token: TokenHash, at: Timestamp) -> Result<Option<User>, StoreError>;

    /// Removes requests that expired before `before`; returns how many.
    async fn purge_mail_requests(&self, before: Timestamp) -> Result<u64, StoreError>;

    /// Up to `limit` users who want mails of this sort, by id, after an id. Deleted accounts want none.
    async fn audience(
        &self,
        subscription: Subscription,
        after: Option<UserId>,
        limit: u32,
    ) -> Result<Vec<UserId>, StoreError>;
}
