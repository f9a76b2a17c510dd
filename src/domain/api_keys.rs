//! API keys: by which a machine acts for its user, within scopes, until the key is revoked or expires.
//!
//! A key is never worth more than its user: the role is asked at every use, the scopes only narrow it down.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::ids::{ApiKeyId, UserId};
use super::text::{InvalidText, MAX_NAME, check_text};
use super::time::Timestamp;
use super::users::Role;

/// So many keys a user may have that serve.
pub const MAX_LIVING: usize = 20;
/// So many a user has that are kept, those that serve no more among them: a new one takes the place of the oldest of these.
pub const MAX_KEPT: usize = 50;

/// What a key may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ApiKeyScope {
    AccountRead,
    AccountWrite,
    OrdersRead,
    OrdersWrite,
    CatalogueWrite,
    Campaigns,
    Operations,
}

impl ApiKeyScope {
    pub const ALL: [Self; 7] = [
        Self::AccountRead,
        Self::AccountWrite,
        Self::OrdersRead,
        Self::OrdersWrite,
        Self::CatalogueWrite,
        Self::Campaigns,
        Self::Operations,
    ];

    /// The name under which it is stored: never changes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AccountRead => "ACCOUNT_READ",
            Self::AccountWrite => "ACCOUNT_WRITE",
            Self::OrdersRead => "ORDERS_READ",
            Self::OrdersWrite => "ORDERS_WRITE",
            Self::CatalogueWrite => "CATALOGUE_WRITE",
            Self::Campaigns => "CAMPAIGNS",
            Self::Operations => "OPERATIONS",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == name)
    }

    /// Whether nobody but staff can do anything with it.
    pub fn is_for_staff(self) -> bool {
        matches!(self, Self::CatalogueWrite | Self::Campaigns | Self::Operations)
    }

    /// Whether it is good for what the other is needed for: who may change something sees what became of it.
    pub fn includes(self, other: Self) -> bool {
        self == other
            || matches!((self, other), (Self::AccountWrite, Self::AccountRead) | (Self::OrdersWrite, Self::OrdersRead))
    }
}

impl fmt::Display for ApiKeyScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The scopes of a key: a bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ApiKeyScopes(u8);

impl ApiKeyScopes {
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// In the order of [`ApiKeyScope::ALL`].
    pub fn iter(self) -> impl Iterator<Item = ApiKeyScope> {
        ApiKeyScope::ALL.into_iter().filter(move |scope| self.0 & bit(*scope) != 0)
    }

    /// Whether what `needed` is needed for may be done.
    pub fn allow(self, needed: ApiKeyScope) -> bool {
        self.iter().any(|scope| scope.includes(needed))
    }
}

impl FromIterator<ApiKeyScope> for ApiKeyScopes {
    fn from_iter<I: IntoIterator<Item = ApiKeyScope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | bit(scope)))
    }
}

fn bit(scope: ApiKeyScope) -> u8 {
    1 << scope as u8
}

/// A key as stored, without the hash of its token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    pub id: ApiKeyId,
    pub user_id: UserId,
    /// As its user calls it.
    pub name: String,
    pub scopes: ApiKeyScopes,
    pub created_at: Timestamp,
    /// To the minute or so; absent of one that was never used.
    pub last_used_at: Option<Timestamp>,
    /// Absent of one that serves until it is revoked.
    pub expires_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
}

impl ApiKey {
    /// Neither revoked nor expired.
    pub fn is_alive(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|expiry| now < expiry)
    }

    /// Whether it is one that can be made: its name, that it is good for something, and for some time.
    pub fn check(&self) -> Result<(), InvalidKey> {
        check_text("name", &self.name, 1, MAX_NAME).map_err(InvalidKey::Name)?;
        if self.scopes.is_empty() {
            return Err(InvalidKey::NoScopes);
        }
        if self.expires_at.is_some_and(|expiry| expiry <= self.created_at) {
            return Err(InvalidKey::Expired);
        }
        Ok(())
    }
}

/// Why a key is not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    #[error(transparent)]
    Name(InvalidText),
    #[error("a key needs a scope")]
    NoScopes,
    #[error("the scope {0} is for staff only")]
    StaffScope(ApiKeyScope),
    #[error("the time has passed")]
    Expired,
    #[error("{MAX_LIVING} keys are in use: revoke one first")]
    TooMany,
}

/// Whether a user of this role may have this key besides those that they have; if so, which of those it takes the place of.
pub fn admit(key: &ApiKey, role: Role, kept: &[ApiKey]) -> Result<Vec<ApiKeyId>, InvalidKey> {
    if let Some(scope) = key.scopes.iter().find(|scope| scope.is_for_staff() && !role.is_staff()) {
        return Err(InvalidKey::StaffScope(scope));
    }
    let (living, mut ended): (Vec<_>, Vec<_>) = kept.iter().partition(|kept| kept.is_alive(key.created_at));
    if living.len() >= MAX_LIVING {
        return Err(InvalidKey::TooMany);
    }
    ended.sort_by_key(|key| key.id);
    let replaced = (kept.len() + 1).saturating_sub(MAX_KEPT);
    Ok(ended.into_iter().take(replaced).map(|key| key.id).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::TypedId;
    use uuid::Uuid;

    fn key(n: u128, scopes: &[ApiKeyScope]) -> ApiKey {
        ApiKey {
            id: ApiKeyId::from_uuid(Uuid::from_u128(n)),
            user_id: UserId::from_uuid(Uuid::nil()),
            name: "Warehouse".into(),
            scopes: scopes.iter().copied().collect(),
            created_at: Timestamp(1_000),
            last_used_at: None,
            expires_at: None,
            revoked_at: None,
        }
    }

    #[test]
    fn a_scope_has_its_name_and_its_bit() {
        for scope in ApiKeyScope::ALL {
            assert_eq!(ApiKeyScope::named(scope.as_str()), Some(scope));
            assert_eq!(serde_json::to_value(scope).unwrap(), scope.as_str());
            assert_eq!(key(1, &[scope, scope]).scopes.iter().collect::<Vec<_>>(), [scope]);
        }
        assert_eq!(key(1, &ApiKeyScope::ALL).scopes.iter().count(), ApiKeyScope::ALL.len());
        assert_eq!(ApiKeyScope::named("EVERYTHING"), None);
    }

    #[test]
    fn who_may_change_may_read_the_same_and_nothing_else() {
        use ApiKeyScope::{AccountRead, AccountWrite, OrdersRead, OrdersWrite};
        for held in ApiKeyScope::ALL {
            for needed in ApiKeyScope::ALL {
                let allowed = held == needed
                    || [(AccountWrite, AccountRead), (OrdersWrite, OrdersRead)].contains(&(held, needed));
                assert_eq!(key(1, &[held]).scopes.allow(needed), allowed, "{held} {needed}");
            }
        }
        assert!(!ApiKeyScopes::default().allow(AccountRead));
    }

    #[test]
    fn a_key_lives_until_it_expires_or_is_revoked() {
        let endless = key(1, &[ApiKeyScope::OrdersRead]);
        assert!(endless.is_alive(Timestamp(i64::MAX)));
        let expiring = ApiKey { expires_at: Some(Timestamp(2_000)), ..endless.clone() };
        assert!(expiring.is_alive(Timestamp(1_999)) && !expiring.is_alive(Timestamp(2_000)));
        let revoked = ApiKey { revoked_at: Some(Timestamp(1_500)), ..endless };
        assert!(!revoked.is_alive(Timestamp(1_600)));
    }

    #[test]
    fn a_key_needs_a_name_a_scope_and_time() {
        let good = key(1, &[ApiKeyScope::OrdersRead]);
        assert_eq!(good.check(), Ok(()));
        for name in ["", " ", "a\tb", &"x".repeat(MAX_NAME + 1)] {
            let named = ApiKey { name: name.into(), ..good.clone() };
            assert!(matches!(named.check(), Err(InvalidKey::Name(_))), "{name}");
        }
        assert_eq!(key(1, &[]).check(), Err(InvalidKey::NoScopes));
        for (expiry, checked) in [(999, Err(InvalidKey::Expired)), (1_000, Err(InvalidKey::Expired)), (1_001, Ok(()))] {
            assert_eq!(ApiKey { expires_at: Some(Timestamp(expiry)), ..good.clone() }.check(), checked, "{expiry}");
        }
    }

    #[test]
    fn scopes_of_staff_are_for_staff() {
        for scope in ApiKeyScope::ALL {
            let judged = |role| admit(&key(1, &[ApiKeyScope::OrdersRead, scope]), role, &[]);
            assert_eq!(judged(Role::Staff), Ok(Vec::new()));
            let refused = if scope.is_for_staff() { Err(InvalidKey::StaffScope(scope)) } else { Ok(Vec::new()) };
            assert_eq!(judged(Role::Customer), refused, "{scope}");
        }
    }

    #[test]
    fn the_living_are_limited_and_of_the_others_the_oldest_go() {
        let new = key(1_000, &[ApiKeyScope::OrdersRead]);
        let living = |count: usize| (0..count as u128).map(|n| key(n, &[ApiKeyScope::OrdersRead]));
        let ended = |count: usize| {
            (0..count as u128).rev().map(|n| ApiKey { revoked_at: Some(Timestamp(1)), ..key(500 + n, &[]) })
        };
        let judged = |kept: Vec<ApiKey>| admit(&new, Role::Customer, &kept);
        assert_eq!(judged(living(MAX_LIVING - 1).collect()), Ok(Vec::new()));
        assert_eq!(judged(living(MAX_LIVING).collect()), Err(InvalidKey::TooMany));
        assert_eq!(judged(living(3).chain(ended(MAX_KEPT - 4)).collect()), Ok(Vec::new()));
        let oldest = [500, 501].map(|n| ApiKeyId::from_uuid(Uuid::from_u128(n)));
        assert_eq!(judged(living(3).chain(ended(MAX_KEPT - 2)).collect()), Ok(oldest.to_vec()));
    }
}
