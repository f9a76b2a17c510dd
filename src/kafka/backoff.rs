//! Delays between attempts: doubling, capped, with jitter.

use std::time::Duration;

use rand::Rng;

/// Exponential backoff. A delay is between half of its step and the whole, so that retries spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    pub base: Duration,
    pub max: Duration,
}

impl Backoff {
    pub const fn new(base: Duration, max: Duration) -> Self {
        Self { base, max }
    }

    /// The delay after the `attempt`-th failure, counted from 1.
    pub fn delay(&self, attempt: u32) -> Duration {
        let doublings = attempt.saturating_sub(1).min(31);
        let step = self.base.saturating_mul(1 << doublings).min(self.max);
        step.mul_f64(rand::rng().random_range(0.5..=1.0))
    }

    /// The same in whole milliseconds, as due times are stored.
    pub fn delay_ms(&self, attempt: u32) -> i64 {
        i64::try_from(self.delay(attempt).as_millis()).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_cap_and_stay_within_their_step() {
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        for (attempt, step) in [(1, 100), (2, 200), (3, 400), (4, 800), (5, 1000), (60, 1000), (u32::MAX, 1000)] {
            for _ in 0..100 {
                let delay = backoff.delay(attempt).as_millis();
                assert!((step / 2..=step).contains(&delay), "attempt {attempt}: {delay} ms");
            }
        }
    }
}
