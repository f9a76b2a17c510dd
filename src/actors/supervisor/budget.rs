//! How often and how soon: the intensity window of a supervisor and the backoff of each of its children.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::settings::SupervisionSettings;

/// The failures of the last while.
#[derive(Debug, Default)]
pub(super) struct IntensityWindow {
    failures: VecDeque<Instant>,
}

impl IntensityWindow {
    /// Counts one more failure; false when it is one too many.
    pub(super) fn admit(&mut self, now: Instant, settings: &SupervisionSettings) -> bool {
        while self.failures.front().is_some_and(|at| now.duration_since(*at) >= settings.intensity_window) {
            self.failures.pop_front();
        }
        self.failures.push_back(now);
        self.failures.len() <= settings.intensity
    }

    pub(super) fn forget(&mut self) {
        self.failures.clear();
    }
}

#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures_in_a_row: u32,
    last_failure: Option<Instant>,
}

impl Backoff {
    /// The delay before the restart that follows a failure now. `chance` (0.0 to 1.0) is where in the jitter it falls.
    pub(super) fn next(&mut self, now: Instant, settings: &SupervisionSettings, chance: f64) -> Duration {
        if self.last_failure.is_some_and(|at| now.duration_since(at) >= settings.backoff_reset) {
            self.failures_in_a_row = 0;
        }
        self.last_failure = Some(now);
        let doublings = self.failures_in_a_row.checked_sub(1);
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        let Some(doublings) = doublings else { return Duration::ZERO };
        let delay = settings.backoff_base.saturating_mul(1 << doublings.min(30)).min(settings.backoff_max);
        delay.mul_f64(1.0 - settings.backoff_jitter.clamp(0.0, 1.0) * chance)
    }

    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn without_jitter() -> SupervisionSettings {
        SupervisionSettings { backoff_jitter: 0.0, ..SupervisionSettings::default() }
    }

    fn millis(backoff: &mut Backoff, at: Instant, settings: &SupervisionSettings) -> u128 {
        backoff.next(at, settings, 1.0).as_millis()
    }

    #[test]
    fn the_first_restart_comes_at_once_then_the_delay_doubles_up_to_its_cap() {
        let (mut backoff, now, settings) = (Backoff::default(), Instant::now(), without_jitter());
        let delays: Vec<u128> = (0..10).map(|_| millis(&mut backoff, now, &settings)).collect();
        assert_eq!(delays, [0, 50, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    }

    #[test]
    fn the_delay_starts_over_after_a_quiet_minute_and_not_before() {
        let (mut backoff, start, settings) = (Backoff::default(), Instant::now(), without_jitter());
        for _ in 0..5 {
            millis(&mut backoff, start, &settings);
        }
        let almost = start + Duration::from_millis(59_999);
        assert_eq!(millis(&mut backoff, almost, &settings), 800);
        assert_eq!(millis(&mut backoff, almost + Duration::from_secs(60), &settings), 0);
    }

    #[test]
    fn the_delay_survives_any_number_of_failures() {
        let (mut backoff, now, settings) = (Backoff::default(), Instant::now(), without_jitter());
        for _ in 0..200 {
            assert!(millis(&mut backoff, now, &settings) <= 5000);
        }
    }

    #[test]
    fn jitter_only_shortens_and_by_no_more_than_its_part() {
        let settings = SupervisionSettings::default();
        for step in 0..=100 {
            let (mut backoff, now) = (Backoff::default(), Instant::now());
            backoff.next(now, &settings, 0.0);
            let delay = backoff.next(now, &settings, f64::from(step) / 100.0);
            assert!(delay <= Duration::from_millis(50) && delay >= Duration::from_micros(37_499), "{delay:?}");
        }
    }

    #[test]
    fn the_window_admits_ten_failures_a_minute_and_not_the_eleventh() {
        let (mut window, now, settings) = (IntensityWindow::default(), Instant::now(), SupervisionSettings::default());
        for _ in 0..10 {
            assert!(window.admit(now, &settings));
        }
        assert!(!window.admit(now + Duration::from_millis(59_999), &settings));
    }

    #[test]
    fn the_window_slides_so_that_old_failures_are_forgotten() {
        let (mut window, start, settings) =
            (IntensityWindow::default(), Instant::now(), SupervisionSettings::default());
        for second in 0..600 {
            let at = start + Duration::from_millis(6_001) * second;
            assert!(window.admit(at, &settings), "failure {second}");
        }
    }

    #[test]
    fn an_intensity_of_nought_admits_nothing() {
        let settings = SupervisionSettings { intensity: 0, ..SupervisionSettings::default() };
        assert!(!IntensityWindow::default().admit(Instant::now(), &settings));
    }
}
