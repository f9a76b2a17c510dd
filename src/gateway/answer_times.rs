//! Answers that must not tell by their time what was done for them come at a multiple of one step after the request, and a
//! random part of a step later.
//!
//! The random part hides what no step can: a machine that has just worked for a request wakes some 0.1 ms sooner than one
//! that has slept for all of the step.

use std::time::Duration;

use rand::Rng;
use tokio::time::{Instant, sleep_until};

/// Longer than a commit takes, and than the cost of a hash can miss another's.
const STEP: Duration = Duration::from_millis(50);

/// The random part is less than this.
const SPREAD: Duration = Duration::from_millis(10);

/// Waits for the next multiple of the step after a request came, and the random part.
pub async fn next_step(came_at: Instant) {
    let spread = SPREAD.mul_f64(rand::rng().random_range(0.0..1.0));
    sleep_until(came_at + rounded_up(came_at.elapsed()) + spread).await;
}

/// The next multiple of the step that is not before this, and at least one.
fn rounded_up(taken: Duration) -> Duration {
    let steps = taken.as_nanos().div_ceil(STEP.as_nanos()).max(1);
    STEP.saturating_mul(u32::try_from(steps).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_an_answer_tells_how_many_steps_it_took_and_no_more() {
        let millis = Duration::from_millis;
        for (taken, answered) in [(0, 50), (1, 50), (49, 50), (50, 50), (51, 100), (1_234, 1_250)] {
            assert_eq!(rounded_up(millis(taken)), millis(answered), "{taken} ms");
        }
    }
}
