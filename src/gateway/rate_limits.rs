//! Limits on what can be guessed or flooded: sign-in, sign-up, passwords, API keys, mails that are asked for; for each process.
//!
//! GCRA with one cell an account and one an address. A cell is a few bytes and idle ones are dropped now and then, so
//! that a flood of invented accounts does not fill the memory.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use sha2::{Digest, Sha256};

use super::sign_in_delays::SignInDelays;
use crate::actors::users::networks::network_of;
use crate::domain::ids::UserId;

/// Come back after this time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryAfter(pub Duration);

/// How many are allowed; each limit is also the burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimitSettings {
    /// False lets everything through.
    pub enabled: bool,
    pub sign_in_per_account_per_minute: NonZeroU32,
    /// Of API keys that are none as many.
    pub sign_in_per_address_per_minute: NonZeroU32,
    pub sign_up_per_address_per_minute: NonZeroU32,
    /// Of verification mails as many.
    pub reset_per_account_per_hour: NonZeroU32,
}

impl Default for RateLimitSettings {
    fn default() -> Self {
        let per_minute = |count| NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN);
        Self {
            enabled: true,
            sign_in_per_account_per_minute: per_minute(10),
            sign_in_per_address_per_minute: per_minute(60),
            sign_up_per_address_per_minute: per_minute(20),
            reset_per_account_per_hour: per_minute(3),
        }
    }
}

/// An account name as it is counted: a digest, so that a cell has one size however long the name is.
pub type AccountKey = [u8; 16];

struct Limiters {
    sign_in_account: DefaultKeyedRateLimiter<AccountKey>,
    sign_in_address: DefaultKeyedRateLimiter<IpAddr>,
    /// Of an account, from one network that it is known to sign in from.
    sign_in_known: DefaultKeyedRateLimiter<(AccountKey, IpAddr)>,
    sign_in_delays: SignInDelays,
    sign_up_address: DefaultKeyedRateLimiter<IpAddr>,
    reset_account: DefaultKeyedRateLimiter<AccountKey>,
    reset_address: DefaultKeyedRateLimiter<IpAddr>,
    api_key_address: DefaultKeyedRateLimiter<IpAddr>,
    /// Networks that have guessed too many API keys, and until when.
    guessers: Mutex<HashMap<IpAddr, Instant>>,
    clock: DefaultClock,
    /// Checks since idle cells were last dropped.
    checks: AtomicU32,
}

/// Shared by all requests; cheap to clone.
#[derive(Clone)]
pub struct RateLimits {
    /// `None`: switched off.
    limiters: Option<Arc<Limiters>>,
}

/// Why a sign-in is not tried now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignInRefusal {
    /// Too many from where it comes.
    Source(RetryAfter),
    /// Too many to this account, from everywhere.
    Account(RetryAfter),
}

impl SignInRefusal {
    pub fn retry_after(self) -> RetryAfter {
        let (Self::Source(limit) | Self::Account(limit)) = self;
        limit
    }
}

/// Idle cells are dropped once in so many checks.
const CHECKS_BETWEEN_SWEEPS: u32 = 4_096;

impl RateLimits {
    pub fn new(settings: RateLimitSettings) -> Self {
        let limiters = settings.enabled.then(|| {
            Arc::new(Limiters {
                sign_in_account: RateLimiter::keyed(Quota::per_minute(settings.sign_in_per_account_per_minute)),
                sign_in_address: RateLimiter::keyed(Quota::per_minute(settings.sign_in_per_address_per_minute)),
                sign_in_known: RateLimiter::keyed(Quota::per_minute(settings.sign_in_per_account_per_minute)),
                sign_in_delays: SignInDelays::new(settings.sign_in_per_account_per_minute),
                sign_up_address: RateLimiter::keyed(Quota::per_minute(settings.sign_up_per_address_per_minute)),
                reset_account: RateLimiter::keyed(Quota::per_hour(settings.reset_per_account_per_hour)),
                reset_address: RateLimiter::keyed(Quota::per_minute(settings.sign_in_per_address_per_minute)),
                api_key_address: RateLimiter::keyed(Quota::per_minute(settings.sign_in_per_address_per_minute)),
                guessers: Mutex::default(),
                clock: DefaultClock::default(),
                checks: AtomicU32::new(0),
            })
        });
        Self { limiters }
    }

    /// Lets everything through.
    pub fn disabled() -> Self {
        Self { limiters: None }
    }

    /// Counts an attempt to sign in to an account, whether or not there is one, from an address.
    pub fn check_sign_in(&self, account_key: &str, address: IpAddr) -> Result<(), SignInRefusal> {
        let Some(limiters) = &self.limiters else { return Ok(()) };
        limiters.sweep_now_and_then();
        let (account, network) = (account(account_key), network_of(address));
        limiters.check(&limiters.sign_in_address, &network).map_err(SignInRefusal::Source)?;
        limiters.sign_in_delays.begin((account, network), Instant::now()).map_err(SignInRefusal::Source)?;
        limiters.check(&limiters.sign_in_account, &account).map_err(|limit| {
            limiters.sign_in_delays.take_back(&(account, network));
            SignInRefusal::Account(limit)
        })
    }

    /// Counts an attempt from a network that the account is known to sign in from: such a network has as many for itself as
    /// all others have together.
    pub fn check_known_sign_in(&self, account_key: &str, address: IpAddr) -> Result<(), RetryAfter> {
        let Some(limiters) = &self.limiters else { return Ok(()) };
        let source = (account(account_key), network_of(address));
        limiters.check(&limiters.sign_in_known, &source)?;
        limiters.sign_in_delays.begin(source, Instant::now())
    }

    /// No password was looked at in the attempt from this address.
    pub fn note_not_judged(&self, account_key: &str, address: IpAddr) {
        if let Some(limiters) = &self.limiters {
            limiters.sign_in_delays.take_back(&(account(account_key), network_of(address)));
        }
    }

    /// The account was signed in to from this address: the attempts before were its owner's.
    pub fn note_signed_in(&self, account_key: &str, address: IpAddr) {
        if let Some(limiters) = &self.limiters {
            limiters.sign_in_delays.forget(&(account(account_key), network_of(address)));
        }
    }

    /// Counts an attempt to sign up from an address.
    pub fn check_sign_up(&self, address: IpAddr) -> Result<(), RetryAfter> {
        let Some(limiters) = &self.limiters else { return Ok(()) };
        limiters.sweep_now_and_then();
        limiters.check(&limiters.sign_up_address, &network_of(address))
    }

    /// Counts a request from an address to reset the password of an account, whether or not there is one. Where it comes
    /// from counts first: invented accounts are not to fill the memory.
    pub fn check_reset(&self, account_key: &str, address: IpAddr) -> Result<(), RetryAfter> {
        let Some(limiters) = &self.limiters else { return Ok(()) };
        limiters.sweep_now_and_then();
        limiters.check(&limiters.reset_address, &network_of(address))?;
        limiters.check(&limiters.reset_account, &account(account_key))
    }

    /// Counts a request of a user for another verification mail.
    pub fn check_verification(&self, user: UserId) -> Result<(), RetryAfter> {
        let Some(limiters) = &self.limiters else { return Ok(()) };
        limiters.sweep_now_and_then();
        limiters.check(&limiters.reset_account, &account_of(user))
    }

    /// Counts a password that a signed-in user is asked for: a stolen access token must not serve to guess it.
    pub fn check_password(&self, user: UserId) -> Result<(), RetryAfter> {
        let Some(limiters) = &self.limiters else { return Ok(()) };
        limiters.sweep_now_and_then();
        limiters.check(&limiters.sign_in_account, &account_of(user))
    }

    /// Counts an API key from an address that is none, or none any more. Good ones are not counted.
    pub fn check_api_key(&self, address: IpAddr) -> Result<(), RetryAfter> {
        let Some(limiters) = &self.limiters else { return Ok(()) };
        limiters.sweep_now_and_then();
        let network = network_of(address);
        limiters.check(&limiters.api_key_address, &network).inspect_err(|RetryAfter(wait)| {
            limiters.guessers().insert(network, Instant::now() + *wait);
        })
    }

    /// Whether an address has to wait before it may show a key that nobody knows.
    pub fn check_guesser(&self, address: IpAddr) -> Result<(), RetryAfter> {
        let Some(limiters) = &self.limiters else { return Ok(()) };
        let until = limiters.guessers().get(&network_of(address)).copied();
        match until.map(|until| until.saturating_duration_since(Instant::now())) {
            Some(wait) if !wait.is_zero() => Err(RetryAfter(wait)),
            _ => Ok(()),
        }
    }
}

impl Limiters {
    fn guessers(&self) -> MutexGuard<'_, HashMap<IpAddr, Instant>> {
        self.guessers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check<K: Hash + Eq + Clone>(&self, limiter: &DefaultKeyedRateLimiter<K>, key: &K) -> Result<(), RetryAfter> {
        limiter.check_key(key).map_err(|refusal| RetryAfter(refusal.wait_time_from(self.clock.now())))
    }

    fn sweep_now_and_then(&self) {
        if self.checks.fetch_add(1, Ordering::Relaxed) % CHECKS_BETWEEN_SWEEPS == CHECKS_BETWEEN_SWEEPS - 1 {
            self.sign_in_account.retain_recent();
            self.sign_in_address.retain_recent();
            self.sign_in_known.retain_recent();
            self.sign_in_delays.sweep(Instant::now());
            self.sign_up_address.retain_recent();
            self.reset_account.retain_recent();
            self.reset_address.retain_recent();
            self.api_key_address.retain_recent();
            let now = Instant::now();
            self.guessers().retain(|_, until| now < *until);
        }
    }
}

/// Addresses are compared without case and surrounding space.
fn account(name: &str) -> AccountKey {
    cell("address", name.trim().to_lowercase().as_bytes())
}

/// Of a signed-in user. No text that is sent as an address leads to this cell.
fn account_of(user: UserId) -> AccountKey {
    cell("user", user.as_bytes())
}

fn cell(kind: &str, name: &[u8]) -> AccountKey {
    let digest = Sha256::new().chain_update(kind).chain_update([0]).chain_update(name).finalize();
    let mut key = AccountKey::default();
    key.copy_from_slice(&digest[..16]);
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::TypedId;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_account_is_limited_whatever_its_spelling_and_others_are_not() {
        let limits = RateLimits::new(RateLimitSettings::default());
        for attempt in 0..10u8 {
            let from = IpAddr::from([10, 0, 0, attempt]);
            assert_eq!(limits.check_sign_in(if attempt % 2 == 0 { "Ada@x.yz" } else { " ada@X.yz" }, from), Ok(()));
        }
        let SignInRefusal::Account(RetryAfter(wait)) =
            limits.check_sign_in("ada@x.yz", address("10.0.1.1")).unwrap_err()
        else {
            panic!("the account is limited, not the address")
        };
        assert!(wait > Duration::ZERO && wait <= Duration::from_secs(60), "{wait:?}");
        assert_eq!(limits.check_sign_in("bob@x.yz", address("10.0.1.1")), Ok(()));
    }

    #[test]
    fn a_known_network_has_attempts_of_its_own() {
        let limits = RateLimits::new(RateLimitSettings::default());
        for attempt in 0..20u8 {
            let _refused = limits.check_sign_in("ada@x.yz", IpAddr::from([10, 0, 0, attempt]));
        }
        assert!(matches!(limits.check_sign_in("ada@x.yz", address("2001:db8::1")), Err(SignInRefusal::Account(_))));
        for _ in 0..10 {
            assert_eq!(limits.check_known_sign_in("Ada@x.yz", address("2001:db8::1")), Ok(()));
        }
        assert!(limits.check_known_sign_in("ada@x.yz", address("2001:db8::2")).is_err(), "one network is one");
    }

    #[test]
    fn an_address_is_limited_over_all_accounts() {
        let limits = RateLimits::new(RateLimitSettings::default());
        for attempt in 0..60 {
            let from = address(&format!("2001:db8::{attempt:x}"));
            assert_eq!(limits.check_sign_in(&format!("user{attempt}"), from), Ok(()));
        }
        assert!(limits.check_sign_in("another", address("2001:db8::ffff")).is_err());
        assert_eq!(limits.check_sign_in("another", address("2001:db8:0:1::1")), Ok(()));
        for _ in 0..20 {
            assert_eq!(limits.check_sign_up(address("10.0.0.1")), Ok(()));
        }
        assert!(limits.check_sign_up(address("10.0.0.1")).is_err());
    }

    #[test]
    fn mails_and_passwords_are_limited_per_account_each_for_itself() {
        let limits = RateLimits::new(RateLimitSettings::default());
        let user = UserId::from_uuid(uuid::Uuid::from_u128(1));
        for _ in 0..3 {
            assert_eq!(limits.check_reset("ada@x.yz", address("10.0.0.1")), Ok(()));
            assert_eq!(limits.check_verification(user), Ok(()));
        }
        let RetryAfter(wait) = limits.check_reset("Ada@X.yz", address("10.0.0.2")).unwrap_err();
        assert!(wait > Duration::from_secs(19 * 60) && wait <= Duration::from_secs(20 * 60), "{wait:?}");
        assert!(limits.check_verification(user).is_err());
        assert_eq!(limits.check_reset("bob@x.yz", address("10.0.0.1")), Ok(()));
        assert!((0..10).all(|_| limits.check_password(user).is_ok()));
        assert!(limits.check_password(user).is_err());
    }

    #[test]
    fn guesses_of_api_keys_are_limited_per_address_and_apart_from_sign_ins() {
        let limits = RateLimits::new(RateLimitSettings::default());
        assert!((0..60).all(|_| limits.check_api_key(address("10.0.0.1")).is_ok()));
        assert_eq!(limits.check_guesser(address("10.0.0.1")), Ok(()));
        assert!(limits.check_api_key(address("10.0.0.1")).is_err());
        assert!(limits.check_guesser(address("10.0.0.1")).is_err());
        assert_eq!(limits.check_guesser(address("10.0.0.2")), Ok(()));
        assert_eq!(limits.check_api_key(address("10.0.0.2")), Ok(()));
        assert_eq!(limits.check_sign_in("ada@x.yz", address("10.0.0.1")), Ok(()));
    }

    #[test]
    fn resets_are_limited_by_where_they_come_from_before_an_account_is_noted() {
        let limits = RateLimits::new(RateLimitSettings::default());
        let reset = |number: u32, from| limits.check_reset(&format!("invented{number}@x.yz"), address(from));
        assert!((0..60).all(|number| reset(number, "10.0.0.1").is_ok()));
        assert!((60..100).all(|number| reset(number, "10.0.0.1").is_err()));
        assert_eq!(limits.limiters.as_ref().map(|limiters| limiters.reset_account.len()), Some(60));
        assert_eq!(reset(60, "10.0.0.2"), Ok(()));
    }

    #[test]
    fn no_text_that_is_sent_as_an_address_takes_what_a_user_may_ask() {
        let limits = RateLimits::new(RateLimitSettings::default());
        let user = UserId::from_uuid(uuid::Uuid::from_u128(7));
        let texts = [user.to_string(), user.uuid().to_string(), format!("user\0{user}")];
        for (number, text) in (1u8..).zip(texts.iter().cycle()).take(90) {
            let from = IpAddr::from([10, 0, 1, number]);
            let _ = (limits.check_reset(text, from), limits.check_sign_in(text, from));
        }
        assert!(limits.check_reset(&user.to_string(), address("10.0.2.1")).is_err());
        assert_eq!(limits.check_verification(user), Ok(()));
        assert_eq!(limits.check_password(user), Ok(()));
    }

    #[test]
    fn switched_off_nothing_is_limited() {
        let limits = RateLimits::disabled();
        assert!((0..1_000).all(|_| limits.check_sign_in("a", address("10.0.0.1")).is_ok()));
        assert!((0..1_000).all(|_| limits.check_reset("a", address("10.0.0.1")).is_ok()));
    }
}
