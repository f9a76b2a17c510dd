//! Mail requests: what a person asked for that the link of a mail completes.
//!
//! The store keeps the hash of a request's token; the token itself is derived where the mail is sent. Of one user and
//! kind only the newest request is open: a new one replaces those before it.

use super::ids::{MailRequestId, UserId};
use super::time::Timestamp;
use super::users::TokenHash;

const MINUTE_MS: i64 = 60_000;

/// What a mailed link completes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MailRequestKind {
    /// Shows that the address is the user's.
    Verification,
    /// Sets a new password without the old one.
    PasswordReset,
}

impl MailRequestKind {
    pub const ALL: [Self; 2] = [Self::Verification, Self::PasswordReset];

    /// The name under which it is stored and its tokens are derived: never changes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Verification => "verification",
            Self::PasswordReset => "password-reset",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// How long its link serves, in milliseconds: a day for an address, a quarter of an hour for a password.
    pub fn lifetime_ms(self) -> i64 {
        match self {
            Self::Verification => 24 * 60 * MINUTE_MS,
            Self::PasswordReset => 15 * MINUTE_MS,
        }
    }
}

/// A request as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailRequest {
    pub id: MailRequestId,
    pub user_id: UserId,
    pub kind: MailRequestKind,
    pub token: TokenHash,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    pub used_at: Option<Timestamp>,
    /// When a newer request of its user and kind took its place.
    pub replaced_at: Option<Timestamp>,
}

impl MailRequest {
    /// A request that begins now.
    pub fn new(id: MailRequestId, user_id: UserId, kind: MailRequestKind, token: TokenHash, at: Timestamp) -> Self {
        let expires_at = at.plus_millis(kind.lifetime_ms());
        Self { id, user_id, kind, token, created_at: at, expires_at, used_at: None, replaced_at: None }
    }

    /// Whether its token still serves.
    pub fn is_open(&self, now: Timestamp) -> bool {
        self.used_at.is_none() && self.replaced_at.is_none() && now < self.expires_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::TypedId;
    use uuid::Uuid;

    fn request(kind: MailRequestKind) -> MailRequest {
        let (id, user_id) = (MailRequestId::from_uuid(Uuid::nil()), UserId::from_uuid(Uuid::nil()));
        MailRequest::new(id, user_id, kind, TokenHash([0; 32]), Timestamp(1_000))
    }

    #[test]
    fn a_request_is_open_until_it_expires_is_used_or_replaced() {
        for (kind, lifetime) in [(MailRequestKind::Verification, 86_400_000), (MailRequestKind::PasswordReset, 900_000)]
        {
            let request = request(kind);
            assert!(request.is_open(Timestamp(1_000 + lifetime - 1)), "{kind:?}");
            assert!(!request.is_open(Timestamp(1_000 + lifetime)), "{kind:?}");
        }
        let open = request(MailRequestKind::PasswordReset);
        let used = MailRequest { used_at: Some(Timestamp(1_001)), ..open.clone() };
        let replaced = MailRequest { replaced_at: Some(Timestamp(1_001)), ..open };
        assert!(!used.is_open(Timestamp(1_002)) && !replaced.is_open(Timestamp(1_002)));
    }

    #[test]
    fn a_kind_is_found_by_its_name() {
        for kind in MailRequestKind::ALL {
            assert_eq!(MailRequestKind::named(kind.as_str()), Some(kind));
        }
        assert_eq!(MailRequestKind::named("other"), None);
    }
}
