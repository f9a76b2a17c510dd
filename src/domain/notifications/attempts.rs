//! Attempts at sending: how a failed one goes on, and at what pace standard mail may leave.

use super::{Notification, NotificationStatus, SkipReason};
use crate::domain::time::Timestamp;

/// How an attempt at sending a notification ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt {
    /// The server has taken the mail.
    Sent,
    /// It is not to be sent.
    Skipped(SkipReason),
    /// Refused for now: another attempt may succeed.
    Refused(String),
    /// Refused for good.
    RefusedForGood(String),
    /// Never got as far as the recipient: no connection, no sign-in, a server that takes nothing just now.
    NotReached(String),
}

/// How often and when a mail is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts that got as far as the recipient.
    pub max_attempts: u32,
    pub backoff_base_ms: u64,
    pub backoff_max_ms: u64,
}

/// How long a server that cannot be reached is tried. Milliseconds.
pub const REACH_FOR_MS: i64 = 24 * 60 * 60 * 1000;

/// The longest wait for a server that cannot be reached. Milliseconds: when it is back, mails leave soon after.
pub const REACH_AGAIN_MS: i64 = 60 * 1000;

/// The longest error text that is kept.
const MAX_ERROR_CHARS: usize = 500;

impl RetryPolicy {
    /// Full jitter: anything from nothing to the step, which doubles with each failure. `chance` is 0.0 to 1.0.
    pub fn delay_ms(&self, failed_attempts: u32, chance: f64) -> i64 {
        let doublings = failed_attempts.saturating_sub(1).min(40);
        let step = self.backoff_base_ms.saturating_mul(1 << doublings).min(self.backoff_max_ms);
        (step as f64 * chance.clamp(0.0, 1.0)) as i64
    }
}

impl Notification {
    /// Takes over how an attempt ended; when to try again, if at all.
    pub fn settle(&mut self, attempt: Attempt, policy: &RetryPolicy, at: Timestamp, chance: f64) -> Option<Timestamp> {
        if let Attempt::Skipped(reason) = attempt {
            self.skip(reason);
            return None;
        }
        self.attempts += 1;
        let first_attempt_at = *self.first_attempt_at.get_or_insert(at);
        let delay = policy.delay_ms(self.attempts, chance);
        let (error, gives_up, delay) = match attempt {
            Attempt::Sent | Attempt::Skipped(_) => {
                self.status = NotificationStatus::Sent;
                self.sent_at = Some(at);
                self.last_error = None;
                return None;
            }
            Attempt::Refused(error) => {
                self.failures += 1;
                (error, self.failures >= policy.max_attempts, delay)
            }
            Attempt::RefusedForGood(error) => {
                self.failures += 1;
                (error, true, delay)
            }
            Attempt::NotReached(error) => {
                let longest = policy.backoff_max_ms.min(REACH_AGAIN_MS as u64);
                let delay = RetryPolicy { backoff_max_ms: longest, ..*policy }.delay_ms(self.attempts, chance);
                (error, at.millis_since(first_attempt_at) >= REACH_FOR_MS, delay)
            }
        };
        self.last_error = Some(error.chars().take(MAX_ERROR_CHARS).collect());
        if gives_up {
            self.status = NotificationStatus::Dead;
            return None;
        }
        Some(at.plus_millis(delay))
    }
}

/// The pace of standard mail: so many a second, exact over time, with a short burst after a pause.
///
/// One number says it all (the generic cell rate algorithm): the time at which all that was taken is paid for.
/// Nanoseconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pace {
    pub paid_until_ns: i64,
}

const NS_PER_MS: i64 = 1_000_000;
const NS_PER_SECOND: i64 = 1_000_000_000;

/// The part of a second whose mail may leave at once.
const BURST_OF_SECOND: u32 = 8;

impl Pace {
    /// What a burst has at most. At least two: with one alone, whoever comes a little late would lose that time for good.
    pub fn burst(per_second: u32) -> u32 {
        (per_second / BURST_OF_SECOND).max(2)
    }

    fn interval_ns(per_second: u32) -> i64 {
        NS_PER_SECOND / i64::from(per_second.max(1))
    }

    /// How many may leave now. What is paid for further ahead than a burst was paid by a clock that has been put back since:
    /// that is forgotten, or nothing would leave until the clock is there again.
    pub fn available(&mut self, per_second: u32, now: Timestamp) -> u32 {
        let interval = Self::interval_ns(per_second);
        let full = now.0.saturating_mul(NS_PER_MS) + i64::from(Self::burst(per_second)) * interval;
        self.paid_until_ns = self.paid_until_ns.min(full);
        let ahead = full - self.paid_until_ns;
        u32::try_from((ahead / interval).max(0)).unwrap_or(u32::MAX).min(Self::burst(per_second))
    }

    /// Takes places that are available.
    pub fn take(&mut self, count: u32, per_second: u32, now: Timestamp) {
        let from = self.paid_until_ns.max(now.0.saturating_mul(NS_PER_MS));
        self.paid_until_ns = from + i64::from(count) * Self::interval_ns(per_second);
    }

    /// Gives back a place that was not used.
    pub fn give_back(&mut self, per_second: u32) {
        self.paid_until_ns -= Self::interval_ns(per_second);
    }

    /// When so many are available, at most a burst.
    pub fn when(&self, count: u32, per_second: u32) -> Timestamp {
        let missing = i64::from(Self::burst(per_second)) - i64::from(count.min(Self::burst(per_second)));
        let at = self.paid_until_ns - missing * Self::interval_ns(per_second);
        Timestamp(at.div_euclid(NS_PER_MS) + i64::from(at.rem_euclid(NS_PER_MS) > 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::{NotificationId, TypedId, UserId};
    use crate::domain::notifications::NewNotification;
    use crate::domain::notifications::content::Content;
    use uuid::Uuid;

    const POLICY: RetryPolicy = RetryPolicy { max_attempts: 5, backoff_base_ms: 1_000, backoff_max_ms: 600_000 };

    fn queued() -> Notification {
        let new = NewNotification {
            id: NotificationId::from_uuid(Uuid::from_u128(1)),
            user_id: UserId::from_uuid(Uuid::from_u128(2)),
            content: Content::PasswordChanged,
            dedupe_key: "cause".into(),
            traceparent: None,
        };
        new.admitted(None, Timestamp(0))
    }

    #[test]
    fn a_sent_one_is_over_and_a_skipped_one_was_no_attempt() {
        let mut sent = queued();
        assert_eq!(sent.settle(Attempt::Refused("451".into()), &POLICY, Timestamp(5), 0.5), Some(Timestamp(505)));
        assert_eq!(sent.settle(Attempt::Sent, &POLICY, Timestamp(600), 0.5), None);
        assert_eq!((sent.status, sent.sent_at, sent.attempts), (NotificationStatus::Sent, Some(Timestamp(600)), 2));
        assert_eq!(sent.last_error, None);
        let mut skipped = queued();
        assert_eq!(skipped.settle(Attempt::Skipped(SkipReason::LinkExpired), &POLICY, Timestamp(5), 0.5), None);
        assert_eq!((skipped.status, skipped.attempts), (NotificationStatus::Skipped, 0));
    }

    #[test]
    fn refusals_are_repeated_with_growing_delays_and_the_last_attempt_ends_it() {
        let mut notification = queued();
        let delays: Vec<_> = (0..5)
            .map(|_| notification.settle(Attempt::Refused("451 later".into()), &POLICY, Timestamp(0), 1.0))
            .map(|next| next.map(|at| at.0))
            .collect();
        assert_eq!(delays, [Some(1_000), Some(2_000), Some(4_000), Some(8_000), None]);
        assert_eq!((notification.status, notification.attempts), (NotificationStatus::Dead, 5));
        assert_eq!(notification.last_error.as_deref(), Some("451 later"));
    }

    #[test]
    fn a_refusal_for_good_ends_it_at_once() {
        let mut notification = queued();
        assert_eq!(notification.settle(Attempt::RefusedForGood("550".into()), &POLICY, Timestamp(0), 1.0), None);
        assert_eq!((notification.status, notification.attempts), (NotificationStatus::Dead, 1));
    }

    #[test]
    fn a_server_that_is_not_reached_costs_no_attempt_for_a_day() {
        let mut notification = queued();
        let not_reached = || Attempt::NotReached("connection refused".into());
        for n in 0..30 {
            assert!(notification.settle(not_reached(), &POLICY, Timestamp(n), 1.0).is_some());
        }
        assert_eq!((notification.attempts, notification.failures), (30, 0));
        for chance in [0.5, 1.0] {
            let again_at = Timestamp(5 + (REACH_AGAIN_MS as f64 * chance) as i64);
            assert_eq!(notification.settle(not_reached(), &POLICY, Timestamp(5), chance), Some(again_at));
        }
        assert!(notification.settle(not_reached(), &POLICY, Timestamp(REACH_FOR_MS - 1), 1.0).is_some());
        assert_eq!(notification.settle(not_reached(), &POLICY, Timestamp(REACH_FOR_MS), 1.0), None);
        assert_eq!(notification.status, NotificationStatus::Dead);
    }

    #[test]
    fn a_delay_is_anything_up_to_its_step_and_never_past_the_longest() {
        assert_eq!(POLICY.delay_ms(1, 0.0), 0);
        assert_eq!(POLICY.delay_ms(3, 0.25), 1_000);
        assert_eq!(POLICY.delay_ms(u32::MAX, 1.0), 600_000);
        let widest = RetryPolicy { backoff_base_ms: u64::MAX, backoff_max_ms: u64::MAX, ..POLICY };
        assert!(widest.delay_ms(40, 1.0) > 0);
    }

    #[test]
    fn an_error_is_cut_where_it_gets_long() {
        let mut notification = queued();
        notification.settle(Attempt::Refused("é".repeat(9_000)), &POLICY, Timestamp(0), 1.0);
        assert_eq!(notification.last_error.map(|error| error.chars().count()), Some(500));
    }

    /// Takes all that is available at each of these times; how many that were.
    fn taken(pace: &mut Pace, per_second: u32, times: impl Iterator<Item = i64>) -> u32 {
        times
            .map(|at| {
                let count = pace.available(per_second, Timestamp(at));
                pace.take(count, per_second, Timestamp(at));
                count
            })
            .sum()
    }

    #[test]
    fn the_pace_is_exact_over_twenty_seconds_however_often_it_is_asked() {
        for per_second in [1, 3, 50, 333, 1_000, 100_000] {
            for step_ms in [1, 7, 60] {
                let mut pace = Pace::default();
                let start = 1_700_000_000_000;
                // The burst of the first moment is not the steady pace.
                taken(&mut pace, per_second, std::iter::once(start));
                let window = (start + 1..=start + 20_000).step_by(step_ms);
                let count = f64::from(taken(&mut pace, per_second, window));
                let expected = 20.0 * f64::from(per_second);
                assert!((count - expected).abs() <= (expected * 0.01).max(1.0), "{per_second} a second: {count}");
            }
        }
    }

    #[test]
    fn what_a_clock_that_was_ahead_has_paid_holds_nothing_up() {
        let mut pace = Pace::default();
        let (now, hours_ahead) = (1_700_000_000_000, 1_700_000_000_000 + 6 * 60 * 60 * 1_000);
        taken(&mut pace, 50, (hours_ahead..hours_ahead + 1_000).step_by(20));
        assert_eq!(pace.available(50, Timestamp(now)), 0);
        assert_eq!(pace.when(1, 50), Timestamp(now + 20));
        assert_eq!(pace.available(50, Timestamp(now + 20)), 1);
    }

    #[test]
    fn a_pause_saves_up_no_more_than_a_burst() {
        let mut pace = Pace::default();
        assert_eq!(pace.available(50, Timestamp(1_000_000)), 6);
        assert_eq!(taken(&mut pace, 50, [1_000_000, 1_000_000].into_iter()), 6);
        assert_eq!(pace.when(1, 50), Timestamp(1_000_020));
        assert_eq!(pace.available(50, Timestamp(1_000_019)), 0);
        assert_eq!(pace.available(50, Timestamp(1_000_020)), 1);
        assert_eq!(pace.when(3, 50), Timestamp(1_000_060));
        assert_eq!(pace.when(99, 50), Timestamp(1_000_120));
        pace.give_back(50);
        assert_eq!(pace.available(50, Timestamp(1_000_000)), 1);
    }
}
