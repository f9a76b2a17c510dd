//! The state of a relay's run: what is published, owed, to be cleared and to be looked for.

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

#[derive(Debug, thiserror::Error)]
pub(super) enum RelayError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The most events that are remembered when their clear failed.
const UNCLEARED: usize = 64 * 1024;
/// The most events that wait in memory for the log.
const OWED: usize = 64 * 1024;

/// The state of one run.
pub(super) struct Round<'a> {
    relay: &'a Relay,
    published: Published,
    /// Published and not cleared yet.
    to_clear: Vec<PendingEventId>,
    pub clear_at: Option<Instant>,
    /// Published, but their clear failed: a sweep that finds them clears them.
    uncleared: HashSet<PendingEventId>,
    /// The log will never take them: a sweep passes them over.
    refused: HashSet<PendingEventId>,
    /// Of this process, and the log has not taken them. Kept only beside other processes.
    owed: Vec<PendingEvent>,
    /// Committed while some were owed, not yet looked at.
    fresh: Vec<PendingEvent>,
    /// Aggregates of which something is missing that could not be read.
    gaps: BTreeSet<String>,
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
            uncleared: HashSet::new(),
            refused: HashSet::new(),
            owed: Vec::new(),
            fresh: Vec::new(),
            gaps: BTreeSet::new(),
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

    pub(super) fn owes(&self) -> bool {
        !self.owed.is_empty() || !self.gaps.is_empty()
    }

    /// Empties the channel, so that it does not run over while the log is away.
    pub(super) fn take_in(&mut self, inbox: Option<&mut mpsc::Receiver<Vec<PendingEvent>>>) {
        let Some(inbox) = inbox else { return };
        while let Ok(commit) = inbox.try_recv() {
            self.fresh.extend(commit);
        }
        if self.owed.len() + self.fresh.len() > OWED {
            // The store has them too.
            (self.owed, self.fresh) = (Vec::new(), Vec::new());
            self.sweep = Some(Sweep::All);
        }
    }

    /// Publishes what is owed, and then what has come meanwhile.
    pub(super) async fn pay(&mut self) -> Result<(), RelayError> {
        let mut owed = std::mem::take(&mut self.owed);
        owed.retain(|event| !self.refused.contains(&(event.aggregate.clone(), event.sequence)));
        self.append(owed, true).await?;
        let gaps = std::mem::take(&mut self.gaps);
        self.close_gaps(gaps).await?;
        let fresh = std::mem::take(&mut self.fresh);
        self.publish_fresh(fresh.into_iter()).await
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
            // What was in hand is left to it.
            self.sweep = Some(Sweep::All);
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
        let mut gaps = BTreeSet::new();
        for event in events {
            let aggregate = self.published.hash(&event.aggregate);
            let last = ahead.get(&aggregate).copied().or_else(|| self.published.last(aggregate));
            match last {
                // Published already, by a sweep.
                Some(last) if event.sequence <= last => continue,
                Some(last) if event.sequence == last + 1 => {}
                None if event.sequence == 1 => {}
                _ => {
                    gaps.insert(event.aggregate);
                    continue;
                }
            }
            ahead.insert(aggregate, event.sequence);
            batch.push(event);
        }
        // Looked up also if the others fail.
        self.gaps.append(&mut gaps);
        self.append(batch, true).await?;
        let gaps = std::mem::take(&mut self.gaps);
        self.close_gaps(gaps).await
    }

    /// Publishes all that is pending of these aggregates.
    async fn close_gaps(&mut self, aggregates: BTreeSet<String>) -> Result<(), RelayError> {
        if aggregates.is_empty() {
            return Ok(());
        }
        let aggregates: Vec<String> = aggregates.into_iter().collect();
        let mut missing = match self.relay.outbox.pending_of(&aggregates).await {
            Ok(missing) => missing,
            Err(error) => {
                self.gaps.extend(aggregates);
                return Err(error.into());
            }
        };
        missing.retain(|event| {
            let is_out = self.published.last(self.published.hash(&event.aggregate)) >= Some(event.sequence);
            !is_out && !self.refused.contains(&(event.aggregate.clone(), event.sequence))
        });
        self.append(missing, true).await
    }

    /// Appends in pieces; what is acknowledged is noted as published and to be cleared. `is_own`: what is not acknowledged
    /// stays in hand where nobody else may publish it.
    async fn append(&mut self, mut events: Vec<PendingEvent>, is_own: bool) -> Result<(), RelayError> {
        let relay = self.relay;
        let keeps = is_own && self.is_beside_others();
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
            let copy = if keeps { batch.clone() } else { Vec::new() };
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
                if keeps {
                    self.owed = copy;
                    self.owed.append(&mut events);
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
            if let Err(error) = cleared {
                if keeps {
                    self.owed = events;
                }
                return Err(error);
            }
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

    /// Clears what the log has. What cannot be cleared now is cleared later, or known to the sweep that follows.
    pub(super) async fn clear(&mut self) -> Result<(), RelayError> {
        self.clear_at = None;
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
            self.append(fresh, false).await?;
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
    pub(super) async fn finish(&mut self, inbox: Option<&mut mpsc::Receiver<Vec<PendingEvent>>>) {
        self.take_in(inbox);
        let mut result = self.pay().await;
        if result.is_ok()
            && let Some(sweep) = self.sweep
        {
            result = self.sweep(sweep).await;
        }
        if result.is_ok() {
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
