//! The relay: publishes what a domain has committed, then makes it forget it.
//!
//! Commits arrive through the outbox's channel; whatever has queued is appended in one go, and what the log has durably
//! is cleared from the store a little later. What the channel did not carry (a crash, a full channel, another process) is
//! found by sweeps of the store: at the start, after a failure, when another process has written, and every few seconds
//! for events that have grown old. Sweeps and fresh commits run in one task, one after the other.
//!
//! Order: a fresh event goes out only if it is its aggregate's first or its predecessor is known to be out; otherwise
//! something may have been missed, the event is left to a sweep, and the sweep has all of the aggregate in sequence.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tracing::Span;

use super::backoff::Backoff;
use super::consumer::stopped;
use super::{EventLog, LogError, check_size};
use crate::actors::clock::now;
use crate::domain::events::PendingEvent;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::outbox::{Outbox, PendingEventId};
use crate::telemetry::trace_context::TraceParent;
use crate::telemetry::traces;

#[derive(Clone)]
pub struct RelaySettings {
    /// The most commits that are taken from the channel at once.
    pub max_commits: usize,
    /// The most events of one append.
    pub max_batch: usize,
    /// Published events are cleared from the store after this long, or when there are `clear_batch` of them.
    pub clear_after: Duration,
    pub clear_batch: usize,
    /// How often the store is searched for events that were left over, and how old those are at least.
    pub sweep_every: Duration,
    pub sweep_age: Duration,
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
            sweep_every: Duration::from_secs(2),
            sweep_age: Duration::from_secs(10),
            wait: Backoff::new(Duration::from_millis(50), Duration::from_secs(5)),
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

    /// Waits until everything that was committed before the call is published and cleared. False: it was not by the
    /// deadline. Needs the run loop.
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
            if let Some(sweep) = round.sweep_due() {
                let swept = round.sweep(sweep).await;
                if round.after(swept, &mut stop).await.is_break() {
                    continue;
                }
            }
            let number = *asked.borrow_and_update();
            let idle = inbox.as_ref().is_none_or(mpsc::Receiver::is_empty);
            if number > *self.drain_done.borrow() && idle {
                // Also what a full channel did not carry.
                let swept = round.sweep(Sweep::All).await;
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
                    if inbox.as_ref().is_some_and(|inbox| count + inbox.len() >= inbox.max_capacity()) {
                        // It was full: commits may have been left out.
                        round.sweep = Some(Sweep::All);
                    }
                    let published = round.publish_fresh(commits.drain(..).flatten()).await;
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
                _ = asked.changed() => {}
                () = sleep_until(round.next_sweep) => round.sweep = Some(Sweep::Old),
            }
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

/// What a sweep looks for.
#[derive(Clone, Copy, PartialEq)]
enum Sweep {
    /// What has been pending for so long that nobody seems to have it in hand.
    Old,
    /// Everything pending.
    All,
}

#[derive(Debug, thiserror::Error)]
enum RelayError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The state of one run.
struct Round<'a> {
    relay: &'a Relay,
    published: Published,
    /// Published and not cleared yet.
    to_clear: Vec<PendingEventId>,
    clear_at: Option<Instant>,
    /// Published, but their clear failed: a sweep that finds them clears them.
    uncleared: HashSet<PendingEventId>,
    /// The log will never take them: a sweep passes them over.
    refused: HashSet<PendingEventId>,
    sweep: Option<Sweep>,
    next_sweep: Instant,
    failures: u32,
}

impl<'a> Round<'a> {
    fn new(relay: &'a Relay) -> Self {
        relay.in_flight.store(0, Ordering::Relaxed);
        Self {
            relay,
            published: Published::default(),
            to_clear: Vec::new(),
            clear_at: None,
            uncleared: HashSet::new(),
            refused: HashSet::new(),
            sweep: Some(Sweep::All),
            next_sweep: Instant::now() + relay.settings.sweep_every,
            failures: 0,
        }
    }

    fn sweep_due(&self) -> Option<Sweep> {
        self.sweep
    }

    /// Waits after a failure; what was in hand is left to a sweep. Breaks then.
    async fn after(&mut self, result: Result<(), RelayError>, stop: &mut watch::Receiver<bool>) -> ControlFlow<()> {
        let Err(error) = result else {
            self.failures = 0;
            return ControlFlow::Continue(());
        };
        self.note_failure(&error);
        tokio::select! {
            biased;
            () = stopped(stop) => {}
            () = sleep(self.relay.settings.wait.delay(self.failures)) => {}
        }
        ControlFlow::Break(())
    }

    fn note_failure(&mut self, error: &RelayError) {
        self.failures += 1;
        self.sweep = Some(Sweep::All);
        self.relay.in_flight.store(0, Ordering::Relaxed);
        self.relay.stats.failures.fetch_add(1, Ordering::Relaxed);
        // Once an outage.
        if self.failures == 1 {
            tracing::warn!(domain = self.relay.domain(), error = %error, "events wait to be published");
        }
    }

    /// Publishes what was committed just now, as far as the order allows; the rest is left to a sweep.
    async fn publish_fresh(&mut self, events: impl Iterator<Item = PendingEvent>) -> Result<(), RelayError> {
        let mut batch = Vec::new();
        let mut ahead: HashMap<u64, i64> = HashMap::new();
        for event in events {
            let aggregate = self.published.hash(&event.aggregate);
            let last = ahead.get(&aggregate).copied().or_else(|| self.published.last(aggregate));
            match last {
                // Published already, by a sweep.
                Some(last) if event.sequence <= last => continue,
                Some(last) if event.sequence == last + 1 => {}
                None if event.sequence == 1 => {}
                _ => {
                    self.sweep = Some(Sweep::All);
                    continue;
                }
            }
            ahead.insert(aggregate, event.sequence);
            batch.push(event);
        }
        self.append(batch).await
    }

    /// Appends in pieces; what is acknowledged is noted as published and to be cleared.
    async fn append(&mut self, mut events: Vec<PendingEvent>) -> Result<(), RelayError> {
        let relay = self.relay;
        relay.in_flight.store(events.len(), Ordering::Relaxed);
        while !events.is_empty() {
            let rest = events.split_off(events.len().min(relay.settings.max_batch));
            let mut batch = std::mem::replace(&mut events, rest);
            batch.retain(|event| match check_size(event) {
                Ok(()) => true,
                Err(error) => {
                    self.refuse(&event.aggregate, event.sequence, &error);
                    false
                }
            });
            let ids: Vec<PendingEventId> =
                batch.iter().map(|event| (event.aggregate.clone(), event.sequence)).collect();
            if ids.is_empty() {
                continue;
            }
            // They end when the log has the events.
            let publishing = publishing(&batch);
            // Under load a clear that is due goes along with the append instead of holding it up.
            let clear_due = self.to_clear.len() >= relay.settings.clear_batch
                || self.clear_at.is_some_and(|due| due <= Instant::now());
            let (appended, cleared) =
                tokio::join!(relay.log.append(batch), async { if clear_due { self.clear().await } else { Ok(()) } });
            drop(publishing);
            if let Err(error) = appended {
                if let LogError::TooLarge { aggregate, sequence, .. } = &error {
                    self.refuse(aggregate, *sequence, &error);
                }
                return Err(error.into());
            }
            for (aggregate, sequence) in &ids {
                self.published.note(aggregate, *sequence);
            }
            relay.stats.published.fetch_add(ids.len() as u64, Ordering::Relaxed);
            relay.in_flight.store(events.len(), Ordering::Relaxed);
            self.to_clear.extend(ids);
            self.clear_at.get_or_insert_with(|| Instant::now() + relay.settings.clear_after);
            cleared?;
        }
        Ok(())
    }

    /// An event that no attempt can publish stays in the store and holds nothing up.
    fn refuse(&mut self, aggregate: &str, sequence: i64, error: &LogError) {
        // What follows it in its aggregate goes on.
        self.published.note(aggregate, sequence);
        self.refused.insert((aggregate.to_owned(), sequence));
        self.relay.stats.refused.fetch_add(1, Ordering::Relaxed);
        tracing::error!(domain = self.relay.domain(), aggregate, sequence, error = %error, "event cannot be published");
    }

    /// Clears what the log has. What cannot be cleared now is known to the sweep that follows.
    async fn clear(&mut self) -> Result<(), RelayError> {
        self.clear_at = None;
        let ids = std::mem::take(&mut self.to_clear);
        if ids.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.relay.outbox.clear(ids.clone()).await {
            // Beyond the limit they are published again, which is harmless.
            if self.uncleared.len() < UNCLEARED {
                self.uncleared.extend(ids);
            }
            return Err(error.into());
        }
        Ok(())
    }

    /// Publishes what is pending in the store, page by page.
    async fn sweep(&mut self, sweep: Sweep) -> Result<(), RelayError> {
        let settings = &self.relay.settings;
        let before = match sweep {
            Sweep::All => Timestamp(i64::MAX),
            Sweep::Old => {
                let age = i64::try_from(settings.sweep_age.as_millis()).unwrap_or(i64::MAX);
                (settings.clock)().plus_millis(-age)
            }
        };
        self.relay.stats.sweeps.fetch_add(1, Ordering::Relaxed);
        loop {
            // Else the page would hold what is out already.
            self.clear().await?;
            let page = self.relay.outbox.pending(before, settings.max_batch as u32).await?;
            let full = page.len() >= settings.max_batch;
            let mut fresh = Vec::new();
            for event in page {
                let id = (event.aggregate.clone(), event.sequence);
                if self.uncleared.remove(&id) {
                    self.to_clear.push(id);
                } else if !self.refused.contains(&id) {
                    fresh.push(event);
                }
            }
            self.relay.stats.swept.fetch_add(fresh.len() as u64, Ordering::Relaxed);
            let progress = !fresh.is_empty() || !self.to_clear.is_empty();
            self.append(fresh).await?;
            if !full || !progress {
                break;
            }
        }
        self.clear().await?;
        if sweep == Sweep::All {
            self.uncleared.clear();
        }
        self.sweep = None;
        self.next_sweep = Instant::now() + settings.sweep_every;
        Ok(())
    }

    /// At the end: what is queued, once; the store still has what the log does not take.
    async fn finish(&mut self, inbox: Option<&mut mpsc::Receiver<Vec<PendingEvent>>>) {
        let mut queued = Vec::new();
        if let Some(inbox) = inbox {
            while let Ok(commit) = inbox.try_recv() {
                queued.extend(commit);
            }
        }
        let mut result = self.publish_fresh(queued.into_iter()).await;
        if result.is_ok() && self.sweep.is_some() {
            result = self.sweep(Sweep::All).await;
        }
        if result.is_ok() {
            result = self.clear().await;
        }
        if let Err(error) = result {
            self.note_failure(&error);
        }
    }
}

/// The last published sequence of the aggregates that were published recently, by the hash of their names: two
/// generations, of which the older goes when the newer is full.
struct Published {
    hasher: RandomState,
    recent: HashMap<u64, i64>,
    older: HashMap<u64, i64>,
}

/// The most events that are remembered when their clear failed.
const UNCLEARED: usize = 64 * 1024;
/// Aggregates of a generation.
const GENERATION: usize = 32 * 1024;

impl Default for Published {
    fn default() -> Self {
        Self { hasher: RandomState::new(), recent: HashMap::new(), older: HashMap::new() }
    }
}

impl Published {
    fn hash(&self, aggregate: &str) -> u64 {
        self.hasher.hash_one(aggregate)
    }

    fn last(&self, aggregate: u64) -> Option<i64> {
        self.recent.get(&aggregate).or_else(|| self.older.get(&aggregate)).copied()
    }

    fn note(&mut self, aggregate: &str, sequence: i64) {
        let aggregate = self.hash(aggregate);
        let last = self.last(aggregate).unwrap_or(0).max(sequence);
        if self.recent.len() >= GENERATION && !self.recent.contains_key(&aggregate) {
            self.older = std::mem::take(&mut self.recent);
        }
        self.recent.insert(aggregate, last);
    }
}
/// A span for each event whose trace is known, where there is a collector.
fn publishing(events: &[PendingEvent]) -> Vec<Span> {
    let traced = events.iter().filter_map(|event| Some((event, TraceParent::parse(event.traceparent()?)?)));
    let span = |(event, cause): (&PendingEvent, TraceParent)| {
        let span = tracing::info_span!(target: traces::TARGET, "publish", event = &*event.event_type);
        traces::continue_from(&span, cause);
        span
    };
    traced.map(span).filter(|span| !span.is_disabled()).collect()
}
