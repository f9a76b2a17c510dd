//! What the users actor can be asked.

use std::net::IpAddr;

use actix::Message;

use crate::actors::errors::DomainError;
use crate::config::Secret;
use crate::domain::api_keys::{ApiKey, ApiKeyScopes};
use crate::domain::ids::{ApiKeyId, MailRequestId, SessionId, UserId};
use crate::domain::page::{Page, PageRequest};
use crate::domain::text::Email;
use crate::domain::time::Timestamp;
use crate::domain::users::{Preferences, PreferencesEdit, Role, Session, Subscription, User};
use crate::store::api_keys::ApiKeyState;
use crate::store::users::SessionState;

/// A password as it was typed: never printed, never logged.
#[derive(Clone)]
pub struct Password(pub String);

/// A session that just began or went on. The tokens are secrets: this type has no `Debug`.
#[derive(Clone)]
pub struct SignedIn {
    pub user: User,
    pub session_id: SessionId,
    pub access_token: String,
    pub refresh_token: String,
    /// Of the access token.
    pub expires_at: Timestamp,
}

/// Who begins a session, as the gateway sees them.
#[derive(Debug, Clone, Default)]
pub struct SignInClient {
    /// As the client names itself.
    pub user_agent: Option<String>,
    /// `None`: not over the network.
    pub address: Option<IpAddr>,
}

/// Whether an account signed in from the network of this address within the last 30 days. It is no secret to who is there.
#[derive(Message)]
#[rtype(result = "Result<bool, DomainError>")]
pub struct IsNetworkKnown {
    pub email: String,
    pub address: IpAddr,
}

/// Creates a customer and signs them in. Refusals: InvalidInput (`email`, `name`), WeakPassword (`password`),
/// EmailTaken, Busy.
#[derive(Message)]
#[rtype(result = "Result<SignedIn, DomainError>")]
pub struct SignUp {
    /// Checked by the actor.
    pub email: String,
    pub name: String,
    pub password: Password,
    pub preferences: PreferencesEdit,
    pub client: SignInClient,
}

/// Signs in. Refusals: InvalidCredentials (also for an unknown address, in the same time), Busy.
#[derive(Message)]
#[rtype(result = "Result<SignedIn, DomainError>")]
pub struct SignIn {
    pub email: String,
    pub password: Password,
    pub client: SignInClient,
}

/// Exchanges a refresh token for a new pair. Refusal: TokenInvalid.
#[derive(Message)]
#[rtype(result = "Result<SignedIn, DomainError>")]
pub struct RefreshTokens {
    pub refresh_token: String,
}

/// Ends a session of this user, or all of them. Refusal: TokenInvalid (not a token of this user's).
#[derive(Message)]
#[rtype(result = "Result<(), DomainError>")]
pub struct SignOut {
    pub user_id: UserId,
    pub refresh_token: String,
    pub everywhere: bool,
}

/// What a session and its user are now. `None`: no such session.
#[derive(Message)]
#[rtype(result = "Result<Option<SessionState>, DomainError>")]
pub struct CheckSession {
    pub session_id: SessionId,
}

/// The same of many at once: of those sessions that there are.
#[derive(Message)]
#[rtype(result = "Result<Vec<(SessionId, SessionState)>, DomainError>")]
pub struct CheckSessions {
    pub session_ids: Vec<SessionId>,
}

/// Those that exist, in no order.
#[derive(Message)]
#[rtype(result = "Result<Vec<User>, DomainError>")]
pub struct GetUsers {
    pub ids: Vec<UserId>,
}

/// Newest first. Refusal: InvalidInput (`after`).
#[derive(Message)]
#[rtype(result = "Result<Page<User>, DomainError>")]
pub struct ListUsers {
    pub search: Option<String>,
    pub page: PageRequest,
}

/// Refusal: NotFound.
#[derive(Message)]
#[rtype(result = "Result<User, DomainError>")]
pub struct EditPreferences {
    pub user_id: UserId,
    pub edit: PreferencesEdit,
}

/// Changes a role and ends the user's tokens. Refusal: NotFound.
#[derive(Message)]
#[rtype(result = "Result<User, DomainError>")]
pub struct ChangeRole {
    pub user_id: UserId,
    pub role: Role,
}

/// Has a reset link sent to the address, if it is an account's; the answer is the same, and takes the same time, for one
/// that is none. Refusal: InvalidInput (`email`).
#[derive(Message)]
#[rtype(result = "Result<(), DomainError>")]
pub struct RequestPasswordReset {
    pub email: String,
}

/// Sets a new password by the token of a reset link, which is used up, and ends all sessions. Answers a new session when
/// `signs_in`. Refusals: WeakPassword (the token stays good), TokenInvalid, Busy.
#[derive(Message)]
#[rtype(result = "Result<Option<SignedIn>, DomainError>")]
pub struct ResetPassword {
    pub token: String,
    pub new_password: Password,
    pub signs_in: bool,
    pub client: SignInClient,
}

/// Changes the password, ends all sessions and begins a new one. Refusals: WeakPassword, WrongPassword, Busy.
#[derive(Message)]
#[rtype(result = "Result<SignedIn, DomainError>")]
pub struct ChangePassword {
    pub user_id: UserId,
    pub current_password: Password,
    pub new_password: Password,
    pub client: SignInClient,
}

/// Marks an address as verified by the token of its link, which is used up. Refusal: TokenInvalid.
#[derive(Message)]
#[rtype(result = "Result<User, DomainError>")]
pub struct VerifyEmail {
    pub token: String,
}

/// Has another verification link sent, unless the address is verified. Refusal: NotFound.
#[derive(Message)]
#[rtype(result = "Result<User, DomainError>")]
pub struct RequestVerification {
    pub user_id: UserId,
}

/// Ends the mails that an unsubscribe token is about; again changes nothing. Refusal: TokenInvalid.
#[derive(Message)]
#[rtype(result = "Result<(), DomainError>")]
pub struct EndSubscription {
    pub token: String,
}

/// Changes what is given. Refusals: InvalidInput (`name`), NotFound.
#[derive(Message)]
#[rtype(result = "Result<User, DomainError>")]
pub struct UpdateUser {
    pub user_id: UserId,
    pub name: Option<String>,
}

/// Where a user is signed in, newest first.
#[derive(Message)]
#[rtype(result = "Result<Vec<Session>, DomainError>")]
pub struct ListSessions {
    pub user_id: UserId,
}

/// A key that was just made, with its token: nobody is told it again.
#[derive(Clone)]
pub struct MadeApiKey {
    pub key: ApiKey,
    pub token: Secret,
}

/// Makes a key for a user who is signed in. Refusals: InvalidInput (`name`, `scopes`, `expiresAt`, or no field: too many),
/// Busy (signed out meanwhile).
#[derive(Message)]
#[rtype(result = "Result<MadeApiKey, DomainError>")]
pub struct CreateApiKey {
    pub user_id: UserId,
    pub session_id: SessionId,
    pub name: String,
    pub scopes: ApiKeyScopes,
    pub expires_at: Option<Timestamp>,
}

/// Ends a key, if given only one `of` this user; again changes nothing. Refusal: NotFound.
#[derive(Message)]
#[rtype(result = "Result<ApiKey, DomainError>")]
pub struct RevokeApiKey {
    pub id: ApiKeyId,
    pub of: Option<UserId>,
}

/// All keys of a user that are kept, newest first.
#[derive(Message)]
#[rtype(result = "Result<Vec<ApiKey>, DomainError>")]
pub struct ListApiKeys {
    pub user_id: UserId,
}

/// What keys and their users are now: of those that there are.
#[derive(Message)]
#[rtype(result = "Result<Vec<(ApiKeyId, ApiKeyState)>, DomainError>")]
pub struct CheckApiKeys {
    pub ids: Vec<ApiKeyId>,
}

/// All that is kept about a user, as JSON. Refusals: WrongPassword, NotFound, Busy.
#[derive(Message)]
#[rtype(result = "Result<serde_json::Value, DomainError>")]
pub struct ExportAccount {
    pub user_id: UserId,
    pub password: Password,
}

/// Erases an account; its orders stay. Refusals: WrongPassword, NotFound, Busy.
#[derive(Message)]
#[rtype(result = "Result<(), DomainError>")]
pub struct DeleteAccount {
    pub user_id: UserId,
    pub password: Password,
}

/// Makes an account of any role, for `admin create` and the demo. Refusals as of [`SignUp`].
#[derive(Message)]
#[rtype(result = "Result<User, DomainError>")]
pub struct CreateAccount {
    pub email: Email,
    pub name: String,
    pub password: Password,
    pub role: Role,
}

/// What the link of a mail is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkWanted {
    /// Of a verification or a reset: its token.
    Request(MailRequestId),
    /// A signed, expiring token that ends mails of this sort.
    Unsubscribe(Subscription),
}

/// The token of a mail's link: a secret, this type has no `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub enum MailLink {
    Token(String),
    /// Expired, used, or replaced by a newer one: nothing is to be sent.
    Void,
}

/// Where a mail goes, and what decides whether it goes.
#[derive(Clone, PartialEq, Eq)]
pub struct Recipient {
    pub email: Email,
    pub name: String,
    pub preferences: Preferences,
    pub email_verified: bool,
    /// Made by the demo: nobody is to be written to.
    pub demo: bool,
    /// Absent when none was wanted.
    pub link: Option<MailLink>,
}

/// Whom a mail goes to, asked at the moment of sending. `None`: no such user, or an erased one.
#[derive(Message)]
#[rtype(result = "Result<Option<Recipient>, DomainError>")]
pub struct GetRecipient {
    pub user_id: UserId,
    pub link: Option<LinkWanted>,
}

/// Users by id order, for audiences: those with the preference on, after an id.
#[derive(Message)]
#[rtype(result = "Result<Vec<UserId>, DomainError>")]
pub struct ListAudience {
    pub subscription: Subscription,
    pub after: Option<UserId>,
    pub limit: u32,
}
