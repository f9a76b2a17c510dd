//! The numbers of supervision; the defaults are the ones operators are promised.

use std::time::Duration;

#[derive(Debug, Clone, PartialEq)]
pub struct SupervisionSettings {
    /// Delay of the second restart; the first comes at once, each further one waits twice as long.
    pub backoff_base: Duration,
    pub backoff_max: Duration,
    /// Without a failure for this long, the next restart comes at once again.
    pub backoff_reset: Duration,
    /// The part of a delay that is random, 0.0 to 1.0; it only shortens, so `backoff_max` stays the longest.
    pub backoff_jitter: f64,
    /// Failures that a supervisor repairs within `intensity_window`; one more and it fails itself.
    pub intensity: usize,
    pub intensity_window: Duration,
    pub heartbeat: Duration,
    /// Heartbeats a thread may miss; with the next one missing too it counts as blocked.
    pub missed_heartbeats: u64,
    /// Abandoned threads of one domain that may be blocked at the same time; one more escalates.
    pub blocked_threads: usize,
}

impl Default for SupervisionSettings {
    fn default() -> Self {
        Self {
            backoff_base: Duration::from_millis(50),
            backoff_max: Duration::from_secs(5),
            backoff_reset: Duration::from_secs(60),
            backoff_jitter: 0.25,
            intensity: 10,
            intensity_window: Duration::from_secs(60),
            heartbeat: Duration::from_secs(1),
            missed_heartbeats: 2,
            blocked_threads: 3,
        }
    }
}
