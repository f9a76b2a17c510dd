//! The state of a relay's run: what is published, to be read again, to be cleared and to be looked for.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};
use tracing::Span;

use super::super::consumer::stopped;
use super::super::{LogError, check_size};
use super::Relay;
use super::published::Published;
use crate::domain::events::PendingEvent;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::outbox::PendingEventId;
use crate::telemetry::trace_context::TraceParent;
use crate::telemetry::traces;

/// What a sweep looks for.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Sweep {
    /// What has been pending for so long that nobody seems to have it in hand.
    Old,
    /// What no other process can have in hand any more.
    Left,
    /// Everything pending.
    All,
}

/// Where the relay has events from.
#[derive(Clone, Copy, PartialEq)]
enum Origin {
    /// Committed by this process, or of an aggregate that it writes to.
    Own,
    Sweep,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum RelayError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The most events that are remembered when their clear failed.
const UNCLEARED: usize = 64 * 1024;
/// The most aggregates that are remembered to be read again; beyond them everything pending is looked for.
const GAPS: usize = 64 * 1024;
/// Aggregates that are read at once.
const GAPS_AT_ONCE: usize = 500;

/// The state of one run.
pub(super) struct Round<'a> {
    relay: &'a Relay,
    published: Published,
    /// Published and not cleared yet.
    to_clear: Vec<PendingEventId>,
    pub clear_at: Option<Instant>,
    /// First events of their aggregates, published and to be cleared then, or with the second one.
    first: HashMap<String, Instant>,
    /// Published, but their clear failed: a sweep that finds them clears them.
    uncleared: HashSet<PendingEventId>,
    /// The log will never take them: a sweep passes them over.
    refused: HashSet<PendingEventId>,
    /// Aggregates whose pending events are to be read again: something may have been missed, or the log did not take what
    /// this process had in hand, and another may have published it since.
    gaps: BTreeSet<String>,
    /// Before it no fresh commits are published.
    pub publish_at: Instant,
    pub sweep: Option<Sweep>,
    pub next_sweep: Instant,
    began: Instant,
    failures: u32,
}

impl<'a> Round<'a> {
    pub(super) fn new(relay: &'a Relay) -> Self {
        relay.in_flight.store(0, Ordering::Relaxed);
        Self {
            relay,
            published: Published::default(),
            to_clear: Vec::new(),
            clear_at: None,
            first: HashMap::new(),
            uncleared: HashSet::new(),
            refused: HashSet::new(),
            gaps: BTreeSet::new(),
            publish_at: Instant::now(),
            sweep: Some(Sweep::Left),
            next_sweep: Instant::now() + relay.settings.sweep_every,
            began: Instant::now(),
            failures: 0,
        }
    }

    /// The first one also finds what was committed while nobody had the channel and was too young at the start.
    pub(super) fn timed_sweep(&self) -> Sweep {
        if self.began.elapsed() < self.relay.settings.sweep_every * 2 { Sweep::Left } else { Sweep::Old }
    }

    /// Others write to the store as well, and have events of it in hand.
    fn is_beside_others(&self) -> bool {
        !self.relay.settings.left_age.is_zero()
    }

    pub(super) fn has_gaps(&self) -> bool {
        !self.gaps.is_empty()
    }

    /// While the log is away the channel is emptied, so that it does not run over; the store has the events.
    pub(super) fn leave_to_the_store(&mut self, inbox: Option<&mut mpsc::Receiver<Vec<PendingEvent>>>) {
        let Some(inbox) = inbox.filter(|_| self.failures > 0) else { return };
        while let Ok(commit) = inbox.try_recv() {
            self.read_again(commit.into_iter().map(|event| event.aggregate));
        }
    }

    fn read_again(&mut self, aggregates: impl Iterator<Item = String>) {
        self.gaps.extend(aggregates);
        if self.gaps.len() > GAPS {
            self.gaps.clear();
            self.sweep = Some(Sweep::All);
        }
    }

    /// Waits after a failure. Breaks then.
    pub(super) async fn after(
        &mut self,
        result: Result<(), RelayError>,
        stop: &mut watch::Receiver<bool>,
    ) -> ControlFlow<()> {
        let Err(error) = result else {
            if self.failures > 0 && self.is_beside_others() {
                // The others publish first what they have in hand.
                self.next_sweep = Instant::now() + self.relay.settings.sweep_age;
            }
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
        if !self.is_beside_others() {
            // It finds what was in hand.
            self.sweep = Some(Sweep::All);
            self.gaps.clear();
        } else if self.sweep != Some(Sweep::All) {
            // What is left over of others waits for the next one: they may be back before.
            self.sweep = None;
            self.next_sweep = Instant::now() + self.relay.settings.sweep_age;
        }
        self.relay.in_flight.store(0, Ordering::Relaxed);
        self.relay.stats.failures.fetch_add(1, Ordering::Relaxed);
        // Once an outage.
        if self.failures == 1 {
            tracing::warn!(domain = self.relay.domain(), error = %error, "events wait to be published");
        }
    }

    /// Publishes what was committed just now, each aggregate's in sequence.
    pub(super) async fn publish_fresh(&mut self, events: impl Iterator<Item = PendingEvent>) -> Result<(), RelayError> {
        let mut batch = Vec::new();
        let mut ahead: HashMap<u64, i64> = HashMap::new();
        for event in events {
            let aggregate = self.published.hash(&event.aggregate);
            let last = ahead.get(&aggregate).copied().or_else(|| self.published.last(aggregate));
            match last {
                // Published already, by a sweep.
                Some(last) if event.sequence <= last => continue,
                _ if self.gaps.contains(&event.aggregate) => continue,
                Some(last) if event.sequence == last + 1 => {}
                None if event.sequence == 1 => {}
                _ => {
                    self.read_again(std::iter::once(event.aggregate));
                    continue;
                }
            }
            ahead.insert(aggregate, event.sequence);
            batch.push(event);
        }
        self.append(batch, Origin::Own).await
    }

    /// Publishes all that is pending of some of the aggregates with gaps, the oldest names first.
    pub(super) async fn close_gaps(&mut self) -> Result<(), RelayError> {
        let aggregates: Vec<String> = self.gaps.iter().take(GAPS_AT_ONCE).cloned().collect();
        let mut missing = self.relay.outbox.pending_of(&aggregates).await?;
        missing.retain(|event| {
            let is_out = self.published.last(self.published.hash(&event.aggregate)) >= Some(event.sequence);
            !is_out && !self.refused.contains(&(event.aggregate.clone(), event.sequence))
        });
        for aggregate in &aggregates {
            self.gaps.remove(aggregate);
        }
        self.append(missing, Origin::Own).await
    }

    /// Appends in pieces; what is acknowledged is noted as published and to be cleared. The aggregates of what is not have
    /// gaps, unless a sweep found it: it is of others, who may be back before this process, or a sweep finds it again.
    async fn append(&mut self, mut events: Vec<PendingEvent>, origin: Origin) -> Result<(), RelayError> {
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
            let made: Vec<Timestamp> = batch.iter().map(|event| event.at).collect();
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
                if origin == Origin::Own {
                    let unpublished = ids.into_iter().map(|(aggregate, _)| aggregate);
                    self.read_again(unpublished.chain(events.into_iter().map(|event| event.aggregate)));
                }
                return Err(error.into());
            }
            for (aggregate, sequence) in &ids {
                self.published.note(aggregate, *sequence);
            }
            relay.stats.published.fetch_add(ids.len() as u64, Ordering::Relaxed);
            relay.in_flight.store(events.len(), Ordering::Relaxed);
            self.clear_later(ids, made);
            if let Err(error) = cleared {
                if origin == Origin::Own {
                    self.read_again(events.into_iter().map(|event| event.aggregate));
                }
                return Err(error);
            }
        }
        Ok(())
    }

    fn clear_later(&mut self, published: Vec<PendingEventId>, made: Vec<Timestamp>) {
        let settings = &self.relay.settings;
        let (now, time) = (Instant::now(), (settings.clock)());
        if settings.clear_first_after.is_zero() {
            self.to_clear.extend(published);
        } else {
            for ((aggregate, sequence), made) in published.into_iter().zip(made) {
                let age = Duration::from_millis(time.millis_since(made).max(0).unsigned_abs());
                if sequence == 1 && age < settings.clear_first_after {
                    self.first.insert(aggregate, now + settings.clear_first_after.saturating_sub(age));
                } else {
                    if self.first.remove(&aggregate).is_some() {
                        self.to_clear.push((aggregate.clone(), 1));
                    }
                    self.to_clear.push((aggregate, sequence));
                }
            }
        }
        self.clear_at.get_or_insert(now + settings.clear_after);
    }

    /// So many commits came from the channel. When it was full some may have been left out.
    pub(super) fn note_fullness(&mut self, inbox: Option<&mpsc::Receiver<Vec<PendingEvent>>>, count: usize) {
        if inbox.is_some_and(|inbox| count + inbox.len() >= inbox.max_capacity()) {
            self.sweep = Some(Sweep::All);
        }
    }

    /// First events that no second one has followed for long enough, or all.
    fn take_first(&mut self, all: bool) {
        let now = Instant::now();
        let due = self.first.extract_if(|_, due| all || *due <= now);
        self.to_clear.extend(due.map(|(aggregate, _)| (aggregate, 1)));
    }

    /// An event that no attempt can publish stays in the store and holds nothing up.
    fn refuse(&mut self, aggregate: &str, sequence: i64, error: &LogError) {
        self.refused.insert((aggregate.to_owned(), sequence));
        self.relay.stats.refused.fetch_add(1, Ordering::Relaxed);
        tracing::error!(domain = self.relay.domain(), aggregate, sequence, error = %error, "event cannot be published");
    }

    /// Clears what the log has. What cannot be cleared now is cleared later, or known to the sweep that follows.
    pub(super) async fn clear(&mut self) -> Result<(), RelayError> {
        self.take_first(false);
        let settings = &self.relay.settings;
        self.clear_at = (!self.first.is_empty()).then(|| Instant::now() + settings.clear_after);
        let ids = std::mem::take(&mut self.to_clear);
        if ids.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.relay.outbox.clear(ids.clone()).await {
            // Beyond the limit they are published again, which is harmless.
            if self.is_beside_others() && ids.len() < UNCLEARED {
                self.to_clear = ids;
                self.clear_at = Some(Instant::now() + self.relay.settings.clear_after);
            } else if self.uncleared.len() < UNCLEARED {
                self.uncleared.extend(ids);
            }
            return Err(error.into());
        }
        Ok(())
    }

    /// Publishes what is pending in the store, page by page.
    pub(super) async fn sweep(&mut self, sweep: Sweep) -> Result<(), RelayError> {
        let settings = &self.relay.settings;
        let age = match sweep {
            Sweep::All => Duration::ZERO,
            Sweep::Left => settings.left_age,
            Sweep::Old => settings.sweep_age,
        };
        let before = if age.is_zero() {
            Timestamp(i64::MAX)
        } else {
            (settings.clock)().plus_millis(-i64::try_from(age.as_millis()).unwrap_or(i64::MAX))
        };
        self.relay.stats.sweeps.fetch_add(1, Ordering::Relaxed);
        if sweep == Sweep::Left {
            self.take_first(true);
        }
        loop {
            // Else the page would hold what is out already.
            self.clear().await?;
            let page = self.relay.outbox.pending(before, settings.max_batch as u32).await?;
            let full = page.len() >= settings.max_batch;
            let mut fresh = Vec::new();
            for event in page {
                let id = (event.aggregate.clone(), event.sequence);
                let is_out = id.1 == 1 && self.first.remove(&id.0).is_some();
                if self.uncleared.remove(&id) || is_out {
                    self.to_clear.push(id);
                } else if !self.refused.contains(&id) {
                    fresh.push(event);
                }
            }
            self.relay.stats.swept.fetch_add(fresh.len() as u64, Ordering::Relaxed);
            let progress = !fresh.is_empty() || !self.to_clear.is_empty();
            self.append(fresh, Origin::Sweep).await?;
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
    pub(super) async fn finish(&mut self, mut inbox: Option<&mut mpsc::Receiver<Vec<PendingEvent>>>) {
        let mut commits = Vec::new();
        while let Some(commit) = inbox.as_mut().and_then(|inbox| inbox.try_recv().ok()) {
            commits.extend(commit);
        }
        let mut result = self.publish_fresh(commits.into_iter()).await;
        while result.is_ok() && self.has_gaps() {
            result = self.close_gaps().await;
        }
        if result.is_ok()
            && let Some(sweep) = self.sweep
        {
            result = self.sweep(sweep).await;
        }
        if result.is_ok() {
            self.take_first(true);
            result = self.clear().await;
        }
        if let Err(error) = result {
            self.note_failure(&error);
        }
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
