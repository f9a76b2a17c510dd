//! Failed sign-ins to one account from one network: each after the allowed ones has to wait longer than the one before.
//!
//! An attempt counts as failed until the sign-in has succeeded, so that many at the same time are counted too.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::rate_limits::{AccountKey, RetryAfter};

/// After the first attempt that has to wait; every further one waits twice as long as the one before.
const FIRST_DELAY: Duration = Duration::from_secs(6);
const LONGEST_DELAY: Duration = Duration::from_secs(15 * 60);
/// Without an attempt for so long, all is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60 * 60);

/// More sources than these are remembered only while they have to wait: a flood of invented accounts does not fill the memory.
const REMEMBERED: usize = 100_000;

/// Whose attempts: to which account, from which network.
type Source = (AccountKey, IpAddr);

struct Attempts {
    count: u32,
    /// Of the last one, and of the one before it.
    last: Instant,
    before: Instant,
    next_at: Instant,
}

impl Attempts {
    fn none(now: Instant) -> Self {
        Self { count: 0, last: now, before: now, next_at: now }
    }
}

pub struct SignInDelays {
    /// Attempts that need not wait for each other.
    free: u32,
    attempts: Mutex<HashMap<Source, Attempts>>,
}

impl SignInDelays {
    pub fn new(free: NonZeroU32) -> Self {
        Self { free: free.get(), attempts: Mutex::default() }
    }

    /// Counts an attempt, unless it comes too early.
    pub fn begin(&self, source: Source, now: Instant) -> Result<(), RetryAfter> {
        let mut all = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        let attempts = all.entry(source).or_insert(Attempts::none(now));
        if now.duration_since(attempts.last) >= FORGOTTEN_AFTER {
            *attempts = Attempts::none(now);
        }
        if now < attempts.next_at {
            return Err(RetryAfter(attempts.next_at - now));
        }
        attempts.count = attempts.count.saturating_add(1);
        attempts.before = std::mem::replace(&mut attempts.last, now);
        attempts.next_at = now + self.delay_after(attempts.count);
        Ok(())
    }

    fn delay_after(&self, count: u32) -> Duration {
        match count.checked_sub(self.free) {
            None => Duration::ZERO,
            Some(beyond) => FIRST_DELAY.saturating_mul(1 << beyond.min(16)).min(LONGEST_DELAY),
        }
    }

    /// The attempt that was counted last was not judged: no password was looked at. It had waited for its turn, so the next
    /// one need not.
    pub fn take_back(&self, source: &Source) {
        let mut all = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(attempts) = all.get_mut(source) {
            attempts.count = attempts.count.saturating_sub(1);
            attempts.next_at = attempts.last;
            attempts.last = attempts.before;
        }
    }

    /// The sign-in succeeded.
    pub fn forget(&self, source: &Source) {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner).remove(source);
    }

    /// Drops what would be forgotten anyway, and in a flood all that need not wait.
    pub fn sweep(&self, now: Instant) {
        let mut all = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, attempts| now.duration_since(attempts.last) < FORGOTTEN_AFTER);
        if all.len() > REMEMBERED {
            all.retain(|_, attempts| now < attempts.next_at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADA: Source = ([1; 16], IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)));

    fn delays() -> SignInDelays {
        SignInDelays::new(NonZeroU32::new(3).unwrap())
    }

    #[test]
    fn each_attempt_after_the_free_ones_waits_twice_as_long_up_to_a_quarter_of_an_hour() {
        let (delays, mut now) = (delays(), Instant::now());
        for _ in 0..3 {
            assert_eq!(delays.begin(ADA, now), Ok(()));
        }
        for seconds in [6, 12, 24, 48, 96, 192, 384, 768, 900, 900] {
            let wait = Duration::from_secs(seconds);
            assert_eq!(delays.begin(ADA, now), Err(RetryAfter(wait)));
            now += wait;
            assert_eq!(delays.begin(ADA, now), Ok(()), "after {seconds} s");
        }
    }

    #[test]
    fn another_account_and_another_network_do_not_wait() {
        let (delays, now) = (delays(), Instant::now());
        for _ in 0..3 {
            assert_eq!(delays.begin(ADA, now), Ok(()));
        }
        assert!(delays.begin(ADA, now).is_err());
        assert_eq!(delays.begin(([2; 16], ADA.1), now), Ok(()));
        assert_eq!(delays.begin((ADA.0, [10, 0, 0, 2].into()), now), Ok(()));
    }

    #[test]
    fn what_was_not_judged_does_not_count() {
        let (delays, now) = (delays(), Instant::now());
        for _ in 0..10 {
            assert_eq!(delays.begin(ADA, now), Ok(()));
            delays.take_back(&ADA);
        }
        for _ in 0..3 {
            assert_eq!(delays.begin(ADA, now), Ok(()));
        }
        assert!(delays.begin(ADA, now).is_err());
    }

    #[test]
    fn what_was_not_judged_takes_nobodys_turn_and_is_forgotten_no_later() {
        let (delays, began) = (delays(), Instant::now());
        for _ in 0..3 {
            assert_eq!(delays.begin(ADA, began), Ok(()));
        }
        let due = began + FIRST_DELAY;
        for _ in 0..5 {
            assert_eq!(delays.begin(ADA, due), Ok(()));
            delays.take_back(&ADA);
        }
        assert_eq!(delays.begin(ADA, due), Ok(()));
        assert_eq!(delays.begin(ADA, due), Err(RetryAfter(2 * FIRST_DELAY)));
        delays.take_back(&ADA);
        for _ in 0..3 {
            assert_eq!(delays.begin(ADA, began + FORGOTTEN_AFTER), Ok(()));
        }
    }

    #[test]
    fn in_a_flood_only_those_who_have_to_wait_are_remembered() {
        let (delays, now) = (delays(), Instant::now());
        while delays.begin(ADA, now).is_ok() {}
        for n in 0..=REMEMBERED as u128 {
            assert_eq!(delays.begin((n.to_be_bytes(), ADA.1), now), Ok(()));
        }
        delays.sweep(now);
        assert_eq!(delays.attempts.lock().unwrap().len(), 1);
        assert!(delays.begin(ADA, now).is_err());
    }

    #[test]
    fn a_success_and_a_quiet_hour_end_the_delay() {
        let (delays, now) = (delays(), Instant::now());
        let exhaust = |at| while delays.begin(ADA, at).is_ok() {};
        exhaust(now);
        delays.forget(&ADA);
        assert_eq!(delays.begin(ADA, now), Ok(()));
        exhaust(now);
        let later = now + FORGOTTEN_AFTER;
        delays.sweep(later);
        assert!(delays.attempts.lock().unwrap().is_empty());
        exhaust(later);
        assert_eq!(delays.begin(ADA, later + FORGOTTEN_AFTER), Ok(()));
    }
}
