//! Who goes first when a machine has more to do than it can: new orders, then their verdicts, then what follows from those.
//!
//! Verdicts that come late say that it is so. In a rush of new orders, which come in large commits then, relay and
//! consumers of the order flow give way; what they do later costs less, because their batches are larger. And while
//! verdicts are late, consumers of the background (recommendations) give way to them. Nobody waits for ever: a precedence
//! that lasts has its pauses, in which all go on as ever, and a group's member that waits still counts as at work. Mails go
//! on, fewer at a time, for one may be about a sign-in.
//!
//! Only a process that both accepts orders and applies verdicts knows of a rush; where roles are apart, so are the machines.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// How long new orders go before their verdicts at a time, and from one time to the next.
const RUSH: Limits = Limits { longest: Duration::from_secs(4), pause: Duration::from_secs(7) };
/// How long verdicts go before the background at a time, and from one time to the next.
const BACKLOG: Limits = Limits { longest: Duration::from_secs(7), pause: Duration::from_secs(7) };

/// New orders of a commit from which on it belongs to a rush, and how soon the next such commit follows.
const RUSH_FROM: usize = 24;
const NEXT_COMMIT: Duration = Duration::from_millis(100);
/// An order's time to its verdict from which on verdicts are late, and for how long one late verdict says so.
const LATE_FROM: Duration = Duration::from_millis(150);
const LATE_FOR: Duration = Duration::from_secs(1);

/// Mails that are on their way at a time in a rush, and while verdicts are late. Never none: one that is claimed is its
/// recipient's only one.
const MAILS_IN_RUSH: usize = 1;
const MAILS_WHILE_LATE: usize = 2;

/// Who gives way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rank {
    /// What brings orders to their verdicts.
    OrderFlow,
    /// What nobody waits for.
    Background,
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    longest: Duration,
    pause: Duration,
}

/// A time in which somebody goes first.
#[derive(Debug)]
struct Turn {
    limits: Limits,
    /// When it began and when it ends, or that of the last one.
    last: Option<(Instant, Instant)>,
}

impl Turn {
    fn new(limits: Limits) -> Self {
        Self { limits, last: None }
    }

    fn ends(&self, now: Instant) -> Option<Instant> {
        self.last.map(|(_, ends)| ends).filter(|ends| now < *ends)
    }

    /// Goes on until then, as long as it may.
    fn go_on(&mut self, until: Instant, now: Instant) -> bool {
        let Some((began, ends)) = self.last.filter(|_| self.ends(now).is_some()) else { return false };
        self.last = Some((began, ends.max(until).min(began + self.limits.longest)));
        true
    }

    /// Begins, if the last one is long enough ago.
    fn begin(&mut self, until: Instant, now: Instant) {
        if self.last.is_none_or(|(_, ends)| now >= ends + self.limits.pause) {
            self.last = Some((now, until));
        }
    }
}

#[derive(Debug)]
struct State {
    late_until: Option<Instant>,
    rush: Turn,
    backlog: Turn,
}

impl State {
    fn note_commit(&mut self, orders: usize, now: Instant) {
        if orders < RUSH_FROM {
            return;
        }
        let until = now + NEXT_COMMIT;
        if !self.rush.go_on(until, now) && self.is_late(now) {
            self.rush.begin(until, now);
        }
        if self.rush.ends(now).is_some() {
            // No verdict comes while it lasts; those that come after it are late.
            self.note_late(now);
        }
    }

    fn is_late(&self, now: Instant) -> bool {
        self.late_until.is_some_and(|until| now < until)
    }

    fn note_late(&mut self, now: Instant) {
        let until = now + LATE_FOR;
        self.late_until = Some(until);
        if !self.backlog.go_on(until, now) {
            self.backlog.begin(until, now);
        }
    }

    fn note_verdict(&mut self, took: Duration, now: Instant) {
        if took >= LATE_FROM {
            self.note_late(now);
        }
    }

    /// When those of this rank go on, if they give way.
    fn ends(&self, rank: Rank, now: Instant) -> Option<Instant> {
        let backlog = self.backlog.ends(now).filter(|_| rank == Rank::Background);
        self.rush.ends(now).max(backlog)
    }
}

/// What the order writer and the verdicts tell, and those ask who give way.
#[derive(Debug)]
pub struct Precedence {
    state: Mutex<State>,
}

impl Default for Precedence {
    fn default() -> Self {
        let state = State { late_until: None, rush: Turn::new(RUSH), backlog: Turn::new(BACKLOG) };
        Self { state: Mutex::new(state) }
    }
}

impl Precedence {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many new orders were committed together.
    pub fn note_commit(&self, orders: usize) {
        self.state().note_commit(orders, Instant::now());
    }

    /// An order had its verdict so long after it was placed.
    pub fn note_verdict(&self, took: Duration) {
        self.state().note_verdict(took, Instant::now());
    }

    /// How many mails may be on their way at a time, if that is bounded just now.
    pub fn mails_at_a_time(&self) -> Option<usize> {
        let (state, now) = (self.state(), Instant::now());
        match () {
            () if state.rush.ends(now).is_some() => Some(MAILS_IN_RUSH),
            () if state.is_late(now) => Some(MAILS_WHILE_LATE),
            () => None,
        }
    }

    /// Waits while somebody else goes first.
    pub async fn give_way(&self, rank: Rank) {
        loop {
            let ends = self.state().ends(rank, Instant::now());
            let Some(ends) = ends else { return };
            sleep_until(ends).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLIS: Duration = Duration::from_millis(1);

    fn state() -> State {
        State { late_until: None, rush: Turn::new(RUSH), backlog: Turn::new(BACKLOG) }
    }

    /// Large commits every 10 ms for so long, and late verdicts outside of a rush; for how much of it those of this rank give
    /// way.
    fn given_way(state: &mut State, from: Instant, time: Duration, rank: Rank) -> Duration {
        let step = 10 * MILLIS;
        let mut given = Duration::ZERO;
        for number in 0..(time.as_millis() / step.as_millis()) as u32 {
            let now = from + step * number;
            if state.rush.ends(now).is_none() {
                state.note_verdict(LATE_FROM, now);
            }
            state.note_commit(RUSH_FROM, now);
            assert!(state.is_late(now));
            given += if state.ends(rank, now).is_some() { step } else { Duration::ZERO };
        }
        given
    }

    #[test]
    fn a_rush_goes_first_until_its_last_commit() {
        let (mut state, began) = (state(), Instant::now());
        assert_eq!(given_way(&mut state, began, 500 * MILLIS, Rank::OrderFlow), 500 * MILLIS);
        assert_eq!(state.ends(Rank::OrderFlow, began + 500 * MILLIS + NEXT_COMMIT), None);
    }

    #[test]
    fn what_lasts_has_its_pauses() {
        let Limits { longest, pause } = RUSH;
        assert_eq!(given_way(&mut state(), Instant::now(), longest + pause, Rank::OrderFlow), longest);
        assert_eq!(given_way(&mut state(), Instant::now(), 2 * longest + pause, Rank::OrderFlow), 2 * longest);
        // In the pause of the backlog's turn a rush still goes before the background as well.
        let Limits { longest, pause } = BACKLOG;
        let given = given_way(&mut state(), Instant::now(), longest + pause, Rank::Background);
        let second_rush = longest + pause - (RUSH.longest + RUSH.pause);
        assert_eq!(given, longest + second_rush);
    }

    #[test]
    fn late_verdicts_without_a_rush_hold_up_the_background_alone() {
        let (mut state, now) = (state(), Instant::now());
        state.note_verdict(LATE_FROM, now);
        state.note_commit(RUSH_FROM - 1, now);
        assert_eq!(state.ends(Rank::OrderFlow, now), None);
        assert_eq!(state.ends(Rank::Background, now), Some(now + LATE_FOR));
        // One that was late long ago says nothing of now.
        state.note_commit(RUSH_FROM, now + LATE_FOR);
        assert_eq!(state.ends(Rank::Background, now + LATE_FOR), None);
    }

    #[test]
    fn nobody_gives_way_to_verdicts_in_time() {
        let (mut state, now) = (state(), Instant::now());
        state.note_verdict(LATE_FROM - MILLIS, now);
        state.note_commit(RUSH_FROM, now);
        assert_eq!(state.ends(Rank::Background, now), None);
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_way_waits_for_the_end_and_no_longer() {
        let precedence = Precedence::default();
        let began = Instant::now();
        precedence.give_way(Rank::Background).await;
        assert_eq!(began.elapsed(), Duration::ZERO);
        precedence.note_verdict(LATE_FROM);
        precedence.note_commit(RUSH_FROM);
        assert_eq!(precedence.mails_at_a_time(), Some(MAILS_IN_RUSH));
        precedence.give_way(Rank::OrderFlow).await;
        assert_eq!(began.elapsed(), NEXT_COMMIT);
        assert_eq!(precedence.mails_at_a_time(), Some(MAILS_WHILE_LATE));
        precedence.give_way(Rank::Background).await;
        assert_eq!(began.elapsed(), LATE_FOR);
        assert_eq!(precedence.mails_at_a_time(), None);
    }
}
