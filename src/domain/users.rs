//! Users, their sessions, and the life of a refresh token.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::api_keys::ApiKey;
use super::events::{ApiKeyChanged, PendingEvent, Topic, UserChanged, source};
use super::ids::{MailRequestId, SessionId, UserId};
use super::networks::NetworkDigest;
use super::text::Email;
use super::time::Timestamp;

/// What a user may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Role {
    Customer,
    Staff,
    Admin,
}

impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Customer => "CUSTOMER",
            Self::Staff => "STAFF",
            Self::Admin => "ADMIN",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        [Self::Customer, Self::Staff, Self::Admin].into_iter().find(|role| role.as_str() == name)
    }

    /// Staff and admins.
    pub fn is_staff(self) -> bool {
        self >= Self::Staff
    }
}

/// What a user wants to be written to about. Account mail always goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preferences {
    pub order_updates: bool,
    pub promotions: bool,
    pub recommendations: bool,
}

/// Promotions and recommendations only for those who asked.
impl Default for Preferences {
    fn default() -> Self {
        Self { order_updates: true, promotions: false, recommendations: false }
    }
}

/// A change of preferences: `None` leaves one as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PreferencesEdit {
    pub order_updates: Option<bool>,
    pub promotions: Option<bool>,
    pub recommendations: Option<bool>,
}

impl Preferences {
    pub fn edited(self, edit: PreferencesEdit) -> Self {
        Self {
            order_updates: edit.order_updates.unwrap_or(self.order_updates),
            promotions: edit.promotions.unwrap_or(self.promotions),
            recommendations: edit.recommendations.unwrap_or(self.recommendations),
        }
    }
}

/// What a user can end with one click in a mail of its sort.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subscription {
    OrderUpdates,
    Promotions,
    Recommendations,
}

impl Subscription {
    pub const ALL: [Self; 3] = [Self::OrderUpdates, Self::Promotions, Self::Recommendations];

    /// Whether it is on.
    pub fn is_on(self, preferences: Preferences) -> bool {
        match self {
            Self::OrderUpdates => preferences.order_updates,
            Self::Promotions => preferences.promotions,
            Self::Recommendations => preferences.recommendations,
        }
    }

    /// The change that turns it off and leaves the others.
    pub fn off(self) -> PreferencesEdit {
        let mut edit = PreferencesEdit::default();
        match self {
            Self::OrderUpdates => edit.order_updates = Some(false),
            Self::Promotions => edit.promotions = Some(false),
            Self::Recommendations => edit.recommendations = Some(false),
        }
        edit
    }
}

/// A user as stored, without the password's hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub id: UserId,
    pub email: Email,
    pub name: String,
    pub role: Role,
    pub email_verified: bool,
    pub preferences: Preferences,
    /// Tokens of an earlier epoch are void: it rises with a new password, a role change, a sign-out everywhere.
    pub token_epoch: i64,
    /// Made by the demo: nobody is to be written to.
    pub demo: bool,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// Of the user's last event.
    pub event_sequence: i64,
    /// When the account was deleted: what is left is a name for its orders to hang on. It never signs in again.
    pub erased_at: Option<Timestamp>,
}

/// What a deleted account is called.
pub const ERASED_NAME: &str = "Deleted account";

impl User {
    /// Under what an account is unique and found at sign-in: its address, or of a deleted one its id, which has the form
    /// of no address.
    pub fn sign_in_key(&self) -> String {
        if self.erased_at.is_some() { self.id.to_string() } else { self.email.key() }
    }

    /// True when that changes anything.
    pub fn rename(&mut self, name: &str) -> bool {
        let changes = self.name != name;
        name.clone_into(&mut self.name);
        changes
    }

    /// True when that changes anything.
    pub fn edit_preferences(&mut self, edit: PreferencesEdit) -> bool {
        let edited = self.preferences.edited(edit);
        std::mem::replace(&mut self.preferences, edited) != edited
    }

    /// Leaves of the account what its orders hang on; every token of it is void.
    pub fn erase(&mut self, at: Timestamp) {
        self.email = Email::erased();
        self.name = ERASED_NAME.to_owned();
        self.role = Role::Customer;
        self.email_verified = false;
        self.preferences = Preferences { order_updates: false, promotions: false, recommendations: false };
        self.token_epoch += 1;
        self.updated_at = at;
        self.erased_at = Some(at);
    }

    /// Makes another role the user's; every token of before is void.
    pub fn change_role(&mut self, role: Role, at: Timestamp) {
        self.role = role;
        self.token_epoch += 1;
        self.updated_at = at;
    }

    /// The event that this user changed; counts it.
    pub fn event(&mut self, event_type: &'static str, at: Timestamp) -> PendingEvent {
        self.event_about(None, event_type, at)
    }

    /// As [`Self::event`], with the request that the mail about it links to.
    pub fn event_about(
        &mut self,
        request_id: Option<MailRequestId>,
        event_type: &'static str,
        at: Timestamp,
    ) -> PendingEvent {
        let body = UserChanged {
            user_id: self.id,
            role: self.role,
            preferences: self.preferences,
            demo: self.demo,
            request_id,
        };
        self.event_with(event_type, at, &body)
    }

    /// The event that a key of this user changed; counts it.
    pub fn api_key_event(&mut self, key: &ApiKey, event_type: &'static str, at: Timestamp) -> PendingEvent {
        let body = ApiKeyChanged {
            user_id: self.id,
            api_key_id: key.id,
            scopes: key.scopes.iter().collect(),
            expires_at: key.expires_at,
        };
        self.event_with(event_type, at, &body)
    }

    fn event_with(&mut self, event_type: &'static str, at: Timestamp, body: &impl Serialize) -> PendingEvent {
        self.event_sequence += 1;
        PendingEvent::new(
            Topic::UserEvents,
            source::USERS,
            event_type,
            self.id.to_string(),
            self.event_sequence,
            at,
            body,
        )
    }
}

/// A bcrypt hash: never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(pub String);

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(***)")
    }
}

/// SHA-256 of a refresh token or an API key: what the store keeps of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenHash(pub [u8; 32]);

impl TokenHash {
    /// As `==`, in the same time wherever they differ.
    pub fn matches(&self, other: &Self) -> bool {
        self.0.iter().zip(other.0).fold(0, |difference, (own, other)| difference | (own ^ other)) == 0
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(***)")
    }
}

/// Where a user is signed in: one family of refresh tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    pub id: SessionId,
    pub user_id: UserId,
    /// As the client named itself, at most 200 characters.
    pub user_agent: Option<String>,
    /// From where the user signed in; `None` when it was not over the network.
    pub network: Option<NetworkDigest>,
    pub created_at: Timestamp,
    pub last_used_at: Timestamp,
    pub expires_at: Timestamp,
    pub revoked_at: Option<Timestamp>,
}

impl Session {
    /// Neither revoked nor expired.
    pub fn is_alive(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && now < self.expires_at
    }
}

/// One refresh token of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefreshToken {
    pub hash: TokenHash,
    pub session_id: SessionId,
    /// When it was exchanged for its successor.
    pub exchanged_at: Option<Timestamp>,
    /// The token it was exchanged for.
    pub successor: Option<TokenHash>,
}

/// A used token shown again this soon is taken for a race, not for theft. Milliseconds.
pub const REFRESH_RACE_WINDOW_MS: i64 = 10_000;

/// What happens to a refresh token that is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefreshVerdict {
    /// Unused, its session alive: it is exchanged for a successor.
    Exchange,
    /// Just exchanged and its successor unused: refused, and nothing more.
    Race,
    /// Shown again later, or after its successor was used: somebody has a copy, the session ends.
    Reuse,
    /// Its session has expired or was revoked.
    Dead,
}

/// What a session's tokens were exchanged before, when one that is made now expires then, to be of no more use: the token
/// itself would have expired. A session that lives for years keeps no more than it needs to know a copy.
pub fn outlived_before(now: Timestamp, expires_at: Timestamp) -> Timestamp {
    now.plus_millis(-expires_at.millis_since(now).max(0))
}

/// Judges a token that the store knows. `successor_used` says whether the token it was exchanged for was exchanged too.
pub fn judge_refresh(token: &RefreshToken, session: &Session, successor_used: bool, now: Timestamp) -> RefreshVerdict {
    if !session.is_alive(now) {
        return RefreshVerdict::Dead;
    }
    match token.exchanged_at {
        None => RefreshVerdict::Exchange,
        Some(at) if now.millis_since(at) <= REFRESH_RACE_WINDOW_MS && !successor_used => RefreshVerdict::Race,
        Some(_) => RefreshVerdict::Reuse,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::TypedId;
    use uuid::Uuid;

    fn session() -> Session {
        Session {
            id: SessionId::from_uuid(Uuid::from_u128(1)),
            user_id: UserId::from_uuid(Uuid::from_u128(2)),
            user_agent: None,
            network: None,
            created_at: Timestamp(0),
            last_used_at: Timestamp(0),
            expires_at: Timestamp(1_000_000),
            revoked_at: None,
        }
    }

    fn token(exchanged_at: Option<i64>) -> RefreshToken {
        RefreshToken {
            hash: TokenHash([1; 32]),
            session_id: session().id,
            exchanged_at: exchanged_at.map(Timestamp),
            successor: exchanged_at.map(|_| TokenHash([2; 32])),
        }
    }

    #[test]
    fn a_refresh_token_is_judged_by_its_age_and_its_successor() {
        let cases = [
            (token(None), false, 5, RefreshVerdict::Exchange),
            (token(Some(0)), false, 10_000, RefreshVerdict::Race),
            (token(Some(0)), false, 10_001, RefreshVerdict::Reuse),
            (token(Some(0)), true, 5, RefreshVerdict::Reuse),
            (token(None), false, 1_000_000, RefreshVerdict::Dead),
        ];
        for (token, successor_used, now, expected) in cases {
            assert_eq!(judge_refresh(&token, &session(), successor_used, Timestamp(now)), expected);
        }
        let revoked = Session { revoked_at: Some(Timestamp(3)), ..session() };
        assert_eq!(judge_refresh(&token(None), &revoked, false, Timestamp(5)), RefreshVerdict::Dead);
    }

    #[test]
    fn ending_a_subscription_leaves_the_others() {
        let all = Preferences { order_updates: true, promotions: true, recommendations: true };
        for ended in Subscription::ALL {
            let left = all.edited(ended.off());
            for other in Subscription::ALL {
                assert_eq!(other.is_on(left), other != ended, "{ended:?} {other:?}");
            }
        }
    }

    #[test]
    fn a_deleted_account_keeps_no_address_and_is_found_by_none() {
        let mut user = User {
            id: session().user_id,
            email: Email::parse("Ada@Example.com").unwrap(),
            name: "Ada".into(),
            role: Role::Admin,
            email_verified: true,
            preferences: Preferences::default(),
            token_epoch: 3,
            demo: false,
            created_at: Timestamp(1),
            updated_at: Timestamp(1),
            event_sequence: 1,
            erased_at: None,
        };
        assert_eq!(user.sign_in_key(), "ada@example.com");
        user.erase(Timestamp(9));
        assert!(Email::parse(&user.sign_in_key()).is_err());
        assert_eq!((user.role, user.token_epoch, user.erased_at), (Role::Customer, 4, Some(Timestamp(9))));
        assert!(!format!("{user:?} {}", user.email.as_str()).to_lowercase().contains("ada"));
    }

    #[test]
    fn secrets_do_not_print() {
        assert!(!format!("{:?}", PasswordHash("$2b$12$abc".into())).contains("abc"));
        assert!(!format!("{:?}", TokenHash([7; 32])).contains('7'));
    }

    #[test]
    fn a_hash_matches_itself_only() {
        let hash = TokenHash([7; 32]);
        assert!(hash.matches(&TokenHash([7; 32])));
        for place in 0..32 {
            let mut other = hash;
            other.0[place] ^= 1;
            assert!(!hash.matches(&other), "{place}");
        }
    }
}
