//! The relay: publishes what a domain has committed, then makes it forget it.
//!
//! Commits arrive through the outbox's channel; whatever has queued is appended in one go, and what the log has durably
//! is cleared from the store a little later. What the channel did not carry (a crash, a full channel, another process) is
//! found by sweeps of the store: at the start, after a failure, when another process has written, and every few seconds
//! for events that have grown old. Sweeps and fresh commits run in one task, one after the other.
//!
//! Order: a fresh event goes out only if it is its aggregate's first or its predecessor is known to be out; otherwise
//! something may have been missed, most often because another process has it in hand, and all that is pending of the
//! aggregate goes out in sequence.

mod published;
mod round;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout_at};

use self::round::{Round, Sweep};
use super::EventLog;
use super::backoff::Backoff;
use super::consumer::stopped;
use super::precedence::{Precedence, Rank};
use crate::actors::clock::now;
use crate::domain::events::PendingEvent;
use crate::domain::time::Timestamp;
use crate::store::outbox::Outbox;

#[derive(Clone)]
pub struct RelaySettings {
    /// The most commits that are taken from the channel at once.
    pub max_commits: usize,
    /// The most events of one append.
    pub max_batch: usize,
    /// Published events are cleared from the store after this long, or when there are `clear_batch` of them.
    pub clear_after: Duration,
    pub clear_batch: usize,
    /// How old an aggregate's first event is when it is cleared at the latest, if no second one has followed: where that
    /// makes the store forget the first, it is worth waiting for. Less than `sweep_age`, after which others would publish it
    /// again.
    pub clear_first_after: Duration,
    /// What goes before publishing for a while.
    pub precedence: Option<Arc<Precedence>>,
    /// Between two appends of what was committed: where nobody waits for it, requests to the broker are worth saving.
    pub pace: Duration,
    /// How often the store is searched for events that were left over, and how old those are at least.
    pub sweep_every: Duration,
    pub sweep_age: Duration,
    /// What is younger at the start and at a drain is left to the process that has it in hand; zero where there is no
    /// other.
    pub left_age: Duration,
    pub wait: Backoff,
    pub clock: fn() -> Timestamp,
}

impl Default for RelaySettings {
    fn default() -> Self {
        Self {
            max_commits: 1_024,
            max_batch: 2_000,
            clear_after: Duration::from_millis(100),
            clear_batch: 2_000,
            clear_first_after: Duration::ZERO,
            precedence: None,
            pace: Duration::ZERO,
            sweep_every: Duration::from_secs(2),
            sweep_age: Duration::from_secs(10),
            left_age: Duration::ZERO,
            wait: Backoff::new(Duration::from_millis(50), Duration::from_secs(2)),
            clock: now,
        }
    }
}

/// Counters of a relay, for metrics. They only rise while the process lives.
#[derive(Debug, Default)]
pub struct RelayStats {
    pub published: AtomicU64,
    pub sweeps: AtomicU64,
    /// Published from a sweep: the channel had not carried them.
    pub swept: AtomicU64,
    /// Appends, sweeps and clears that failed and are repeated.
    pub failures: AtomicU64,
    /// Events that the log will never take; they stay in the store.
    pub refused: AtomicU64,
}

/// Publishes the events of one domain. [`Relay::run`] can be started again at any time, also while an earlier run is
/// stuck on a blocked thread: the newest takes the outbox's channel.
pub struct Relay {
    outbox: Arc<dyn Outbox>,
    log: Arc<dyn EventLog>,
    settings: RelaySettings,
    in_flight: AtomicUsize,
    stats: Arc<RelayStats>,
    /// Numbers of the drains that were asked for and done.
    drain_asked: watch::Sender<u64>,
    drain_done: watch::Sender<u64>,
}

impl Relay {
    pub fn new(outbox: Arc<dyn Outbox>, log: Arc<dyn EventLog>, settings: RelaySettings) -> Self {
        let (in_flight, stats) = (AtomicUsize::new(0), Arc::default());
        let (drain_asked, drain_done) = (watch::Sender::new(0), watch::Sender::new(0));
        Self { outbox, log, settings, in_flight, stats, drain_asked, drain_done }
    }

    pub fn domain(&self) -> &'static str {
        self.outbox.domain()
    }

    pub fn stats(&self) -> Arc<RelayStats> {
        self.stats.clone()
    }

    /// Events taken from the outbox that the log has not acknowledged yet.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Waits until everything that this process committed before the call is published and cleared. False: it was not by
    /// the deadline. Needs the run loop.
    pub async fn drain(&self, deadline: Instant) -> bool {
        let mut number = 0;
        self.drain_asked.send_modify(|asked| {
            *asked += 1;
            number = *asked;
        });
        let mut done = self.drain_done.subscribe();
        matches!(timeout_at(deadline, done.wait_for(|done| *done >= number)).await, Ok(Ok(_)))
    }

    /// Publishes until `stop` turns true (or its sender is gone), then what is still queued if the log takes it. The
    /// future may be dropped at any await and run again: what it had in hand is still pending in the store.
    pub async fn run(&self, mut stop: watch::Receiver<bool>) {
        // Taken before the first sweep: what is committed in between comes twice rather than never.
        let mut inbox = Some(self.outbox.committed());
        let mut asked = self.drain_asked.subscribe();
        let mut foreign = self.outbox.foreign_writes();
        let mut watching_foreign = true;
        let mut round = Round::new(self);
        let mut commits = Vec::new();
        loop {
            // A channel that is closed can never say stop any more.
            if *stop.borrow_and_update() || stop.has_changed().is_err() {
                round.finish(inbox.as_mut()).await;
                return;
            }
            if round.has_gaps() {
                round.leave_to_the_store(inbox.as_mut());
                let closed = round.close_gaps().await;
                if round.after(closed, &mut stop).await.is_break() {
                    continue;
                }
            }
            // Not left to the wait below: where commits come all the time it is never the first to be ready.
            if round.sweep.is_none() && Instant::now() >= round.next_sweep {
                round.sweep = Some(round.timed_sweep());
            }
            if let Some(sweep) = round.sweep {
                let swept = round.sweep(sweep).await;
                if round.after(swept, &mut stop).await.is_break() {
                    continue;
                }
            }
            let number = *asked.borrow_and_update();
            let idle = inbox.as_ref().is_none_or(mpsc::Receiver::is_empty);
            if number > *self.drain_done.borrow() && idle && !round.has_gaps() {
                let swept = round.sweep(Sweep::Left).await;
                if round.after(swept, &mut stop).await.is_continue() {
                    self.drain_done.send_replace(number);
                }
                continue;
            }
            let clear_at = round.clear_at;
            tokio::select! {
                biased;
                () = stopped(&mut stop) => {}
                count = receive(inbox.as_mut(), &mut commits, self.settings.max_commits) => {
                    if count == 0 {
                        // The store is gone, or a newer run has the channel.
                        inbox = None;
                    }
                    round.note_fullness(inbox.as_ref(), count);
                    loop {
                        // Whoever waits still takes in what comes, and clears what others would publish again.
                        let (clear_at, room) = (round.clear_at, self.settings.max_commits.saturating_sub(commits.len()));
                        tokio::select! {
                            biased;
                            () = stopped(&mut stop) => break,
                            () = self.turn(round.publish_at) => break,
                            count = receive(inbox.as_mut(), &mut commits, room), if room > 0 && inbox.is_some() => {
                                round.note_fullness(inbox.as_ref(), count);
                                inbox = inbox.filter(|_| count > 0);
                            }
                            () = sleep_until(clear_at.unwrap_or_else(Instant::now)), if clear_at.is_some() => {
                                let cleared = round.clear().await;
                                let _ = round.after(cleared, &mut stop).await;
                            }
                        }
                    }
                    let published = round.publish_fresh(commits.drain(..).flatten()).await;
                    round.publish_at = Instant::now() + self.settings.pace;
                    let _ = round.after(published, &mut stop).await;
                }
                () = sleep_until(clear_at.unwrap_or_else(Instant::now)), if clear_at.is_some() => {
                    let cleared = round.clear().await;
                    let _ = round.after(cleared, &mut stop).await;
                }
                changed = foreign.changed(), if watching_foreign => match changed {
                    Ok(()) => round.sweep = Some(Sweep::All),
                    Err(_) => watching_foreign = false,
                },
                () = std::future::ready(()), if round.has_gaps() => {}
                _ = asked.changed() => {}
                () = sleep_until(round.next_sweep) => {}
            }
        }
    }

    /// When fresh commits may be published.
    async fn turn(&self, publish_at: Instant) {
        if publish_at > Instant::now() {
            sleep_until(publish_at).await;
        }
        if let Some(precedence) = &self.settings.precedence {
            precedence.give_way(Rank::OrderFlow).await;
        }
    }
}

async fn receive(
    inbox: Option<&mut mpsc::Receiver<Vec<PendingEvent>>>,
    commits: &mut Vec<Vec<PendingEvent>>,
    max: usize,
) -> usize {
    match inbox {
        Some(inbox) => inbox.recv_many(commits, max).await,
        None => std::future::pending().await,
    }
}
