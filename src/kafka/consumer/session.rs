//! The run loop of a group while it holds a reader: everything here is made from the domain's database and may be
//! dropped at any await.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::FutureExt;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::Span;

use super::super::{Delivery, GroupConsumer, LogError, Record, TopicPartition};
use super::batch::{Batch, Judgement};
use super::parking::{Parking, WallClock};
use super::router::{Route, route};
use super::{BatchOutcome, ConsumedEvent, ConsumerGroup, ConsumerSettings, EventFailure, HandlerError, count, stopped};
use crate::domain::events::Topic;
use crate::store::consumption::{Causes, OffsetMove, ParkedEvent};
use crate::telemetry::trace_context::TraceParent;
use crate::telemetry::traces;

/// Records of a batch that are tried together once the whole batch has interrupted its actor twice. After them each is
/// tried alone. A panic costs a restart, of which the supervisor allows ten a minute: so few and wide steps, not a
/// bisection.
const SEARCH_WIDTH: usize = 32;
/// How often a batch may get no answer in time before it goes on in halves: what holds it up may be over soon.
const TIMEOUTS_OF_A_WHOLE: u32 = 1;

/// How far the group is in one partition.
#[derive(Clone, Copy)]
struct Position {
    /// As the database has it: the condition of the next move.
    stored: i64,
    /// The next offset to look at. Differs from `stored` by records that only had to be skipped.
    reached: i64,
}

/// What a batch is made of, before it is routed.
enum Work {
    Fresh(Vec<Arc<Record>>),
    Retry(Vec<ParkedEvent>),
}

impl Work {
    fn len(&self) -> usize {
        match self {
            Self::Fresh(records) => records.len(),
            Self::Retry(events) => events.len(),
        }
    }

    fn split_at_half(self) -> Vec<Self> {
        let half = self.len().div_ceil(2);
        self.split(half)
    }

    fn split(self, width: usize) -> Vec<Self> {
        match self {
            Self::Fresh(records) => records.chunks(width).map(|part| Self::Fresh(part.to_vec())).collect(),
            Self::Retry(events) => events.chunks(width).map(|part| Self::Retry(part.to_vec())).collect(),
        }
    }
}

pub(super) struct Session<'a> {
    group: &'a ConsumerGroup,
    reader: Box<dyn GroupConsumer>,
    positions: BTreeMap<TopicPartition, Position>,
    parking: Parking,
    /// Lost conditions since the last commit: more than one says that somebody else works on these partitions.
    losses: u32,
    /// When the first of the skipped records was skipped that the stored offset does not show yet.
    skipping_since: Option<Instant>,
    /// The last attempt to store what was skipped has failed.
    moves_fail: bool,
    /// Of a busy group: when it reads again.
    read_again_at: Option<Instant>,
    worked: bool,
}

impl<'a> Session<'a> {
    pub(super) async fn open(group: &'a ConsumerGroup) -> Result<Self, LogError> {
        let reader = group.log.consumer(&group.group, &group.topics, group.settings.pace).await?;
        let (positions, parking) = (BTreeMap::new(), Parking::default());
        Ok(Self {
            group,
            reader,
            positions,
            parking,
            losses: 0,
            skipping_since: None,
            moves_fail: false,
            read_again_at: None,
            worked: false,
        })
    }

    /// Whether anything was committed: an outage that follows is a new one.
    pub(super) fn has_worked(&self) -> bool {
        self.worked
    }

    pub(super) async fn run(&mut self, stop: &mut watch::Receiver<bool>) -> Result<(), LogError> {
        let max = self.group.settings.max_batch;
        while !*stop.borrow() {
            let due = self.parking.next_due();
            if due.is_some_and(|due| due <= Instant::now()) {
                let events = self.parking.take_due(max);
                self.work(Work::Retry(events), stop).await?;
                // Other keys go on between the attempts.
                if let Some(delivery) = self.reader.next(max).now_or_never() {
                    self.take(delivery?, stop).await?;
                }
                continue;
            }
            let save_at = self.skipping_since.map(|since| since + self.group.settings.flush_after);
            let delivery = tokio::select! {
                biased;
                () = stopped(stop) => break,
                () = sleep_until(save_at.unwrap_or_else(Instant::now)), if save_at.is_some() => {
                    self.save_skipped(stop).await?;
                    None
                }
                delivery = read(&mut *self.reader, max, self.read_again_at, &self.group.settings) => Some(delivery?),
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => None,
            };
            if let Some(delivery) = delivery {
                self.take(delivery, stop).await?;
            }
        }
        self.save_skipped_at_end().await;
        Ok(())
    }

    async fn take(&mut self, delivery: Delivery, stop: &mut watch::Receiver<bool>) -> Result<(), LogError> {
        match delivery {
            Delivery::Records(records) => {
                let busy = records.len() >= self.group.settings.busy_from;
                self.read_again_at = busy.then(|| Instant::now() + self.group.settings.linger);
                self.work(Work::Fresh(records), stop).await
            }
            Delivery::Assigned(partitions) => {
                for at in partitions {
                    self.positions.insert(at, Position { stored: 0, reached: 0 });
                }
                self.reload(stop).await
            }
            Delivery::Revoked(partitions) => {
                tracing::info!(group = %self.group.group, partitions = partitions.len(), "partitions went elsewhere");
                for at in partitions {
                    self.positions.remove(&at);
                    self.parking.forget(at);
                }
                self.note_parked();
                Ok(())
            }
        }
    }

    /// Brings the work to its commit, however many attempts, splits and waits that takes. Returns early when the group
    /// is to stop or has to look anew at where it is; what was not committed then comes again.
    async fn work(&mut self, work: Work, stop: &mut watch::Receiver<bool>) -> Result<(), LogError> {
        // A parked event that is tried alone has failed before: its actor's end is taken for its own fault at once.
        let patient = !matches!(&work, Work::Retry(events) if events.len() == 1);
        let mut queue = VecDeque::from([(work, patient)]);
        let mut waits = 0;
        while let Some((work, mut patience)) = queue.pop_front() {
            let mut batch = self.plan(&work);
            if work.len() > 1 && self.weighs_too_much(&batch) {
                for part in work.split_at_half().into_iter().rev() {
                    queue.push_front((part, patience));
                }
                continue;
            }
            let mut timed_out = 0;
            loop {
                match submit(self.group, &batch).await {
                    Ok(BatchOutcome::Done) => {
                        waits = 0;
                        self.settle(batch);
                        break;
                    }
                    Ok(BatchOutcome::Lost) => return self.lose(stop).await,
                    Ok(BatchOutcome::Failed(failures)) if self.makes_sense(&failures, &batch) => {
                        batch.fail(&failures, &self.judgement());
                        continue;
                    }
                    Ok(BatchOutcome::Failed(_)) => waits += 1,
                    Err(HandlerError::Interrupted(reason)) => {
                        count(&self.group.stats.interrupted, 1);
                        waits += 1;
                        tracing::warn!(group = %self.group.group, events = batch.events.len(), error = reason,
                            "a batch was interrupted");
                        if patience || batch.events.is_empty() {
                            patience = false;
                        } else if batch.events.len() == 1 {
                            let failures = [EventFailure::failed(0, reason)];
                            batch.fail(&failures, &self.judgement());
                        } else {
                            let width = if work.len() > SEARCH_WIDTH { SEARCH_WIDTH } else { 1 };
                            for part in work.split(width).into_iter().rev() {
                                queue.push_front((part, false));
                            }
                            break;
                        }
                    }
                    Err(HandlerError::TimedOut) if timed_out == TIMEOUTS_OF_A_WHOLE && work.len() > 1 => {
                        tracing::warn!(group = %self.group.group, events = batch.events.len(),
                            "a batch takes too long: going on with its halves");
                        for part in work.split_at_half().into_iter().rev() {
                            queue.push_front((part, patience));
                        }
                        break;
                    }
                    Err(error @ (HandlerError::Busy | HandlerError::Unavailable(_) | HandlerError::TimedOut)) => {
                        waits += 1;
                        timed_out += u32::from(matches!(error, HandlerError::TimedOut));
                        // Once an outage.
                        if waits == 1 && !matches!(error, HandlerError::Busy) {
                            tracing::warn!(group = %self.group.group, error = %error, "consumer waits for its domain");
                        }
                    }
                }
                count(&self.group.stats.waits, 1);
                if self.group.pause(waits, stop).await.is_break() {
                    return Ok(());
                }
            }
            if *stop.borrow() {
                break;
            }
        }
        Ok(())
    }

    fn weighs_too_much(&self, batch: &Batch) -> bool {
        let weight_of = |event: &ConsumedEvent| self.group.handler.weight(event.event_type());
        batch.events.iter().map(weight_of).sum::<usize>() > self.group.settings.max_batch
    }

    fn wall_clock(&self) -> WallClock {
        let settings = &self.group.settings;
        WallClock { now: (settings.clock)(), longest_wait: settings.retry.max }
    }

    fn judgement(&self) -> Judgement<'a> {
        let group = self.group;
        Judgement { group: &group.group, settings: &group.settings, now: (group.settings.clock)() }
    }

    /// A handler that names no event of the batch has a fault of its own: the batch waits.
    fn makes_sense(&self, failures: &[EventFailure], batch: &Batch) -> bool {
        let sound = failures.iter().any(|failure| failure.position < batch.events.len());
        if !sound {
            tracing::error!(group = %self.group.group, "a handler reported a failure of no event");
        }
        sound
    }

    /// Routes the work. Nothing changes yet: the same work may be planned again in parts.
    fn plan(&self, work: &Work) -> Batch {
        match work {
            Work::Fresh(records) => self.plan_fresh(records),
            Work::Retry(events) => {
                let mut batch = Batch::retry(&self.group.group, self.in_turn(events).into_iter());
                // A move that stays in place: only the owner of the partition may try again.
                let touched = batch.events.iter().map(|event| event.record.place()).collect();
                self.add_moves(&mut batch, &HashMap::new(), &touched);
                batch
            }
        }
    }

    /// Those of the events that no earlier one of their key stands before: part of the work may have parked it anew.
    fn in_turn<'e>(&self, events: &'e [ParkedEvent]) -> Vec<&'e ParkedEvent> {
        let mut keys = HashSet::new();
        let in_turn = events.iter().filter(|event| {
            let Some(topic) = Topic::named(&event.record.topic) else { return false };
            let (at, key) = (TopicPartition { topic, partition: event.record.partition }, event.record.key.as_str());
            keys.contains(&(at, key)) || self.parking.is_first(at, key, event.record.offset) && keys.insert((at, key))
        });
        in_turn.collect()
    }

    fn plan_fresh(&self, records: &[Arc<Record>]) -> Batch {
        let judgement = self.judgement();
        let mut batch = Batch::fresh(&self.group.group);
        let mut reached: HashMap<TopicPartition, i64> = HashMap::new();
        for record in records {
            let at = record.place();
            let Some(position) = self.positions.get(&at) else { continue };
            let next = reached.entry(at).or_insert(position.reached);
            if record.offset < *next {
                continue;
            }
            *next = record.offset + 1;
            match route(record, judgement.group, &*self.group.handler) {
                Route::Skip => {}
                Route::DeadLetter(reason) => batch.bury(record, &reason, 1, &judgement),
                Route::Handle if self.parking.holds(at, &record.key) => batch.park_behind(record, judgement.now),
                Route::Handle => {
                    batch.events.push(super::ConsumedEvent { record: record.clone(), attempt: 1 });
                }
            }
        }
        self.add_moves(&mut batch, &reached, &HashSet::new());
        batch
    }

    /// The moves of a batch: where it gets to, what was only skipped before, and `touched` even if it stays in place.
    fn add_moves(&self, batch: &mut Batch, reached: &HashMap<TopicPartition, i64>, touched: &HashSet<TopicPartition>) {
        for (at, position) in &self.positions {
            let to = reached.get(at).copied().unwrap_or(position.reached);
            if to != position.stored || touched.contains(at) {
                let (topic, partition) = (at.topic, at.partition);
                batch.consumption.moves.push(OffsetMove { topic, partition, from: position.stored, to });
            }
        }
    }

    /// Takes over what was committed; of a batch that had nothing to commit, where it got to.
    fn settle(&mut self, batch: Batch) {
        let stats = &self.group.stats;
        let committed = !batch.is_empty();
        batch.log_failures();
        let mut moved = 0;
        for step in &batch.consumption.moves {
            let at = TopicPartition { topic: step.topic, partition: step.partition };
            let Some(position) = self.positions.get_mut(&at) else { continue };
            moved += (step.to - position.reached).max(0) as usize;
            position.reached = step.to;
            if committed {
                position.stored = step.to;
                self.reader.commit(at, step.to);
            }
        }
        if committed {
            count(&stats.batches, 1);
            batch.count_by_topic(stats);
            self.parking.apply(batch.consumption, self.wall_clock());
            self.note_parked();
            self.losses = 0;
            self.skipping_since = None;
            self.worked = true;
        } else {
            count(&stats.skipped, moved);
            self.skipping_since.get_or_insert_with(Instant::now);
        }
    }

    fn note_parked(&self) {
        self.group.stats.parked.store(self.parking.len() as u64, Ordering::Relaxed);
    }

    async fn lose(&mut self, stop: &mut watch::Receiver<bool>) -> Result<(), LogError> {
        count(&self.group.stats.lost, 1);
        self.losses += 1;
        tracing::info!(group = %self.group.group, "an offset had moved: looking anew where to go on");
        if self.losses > 1 && self.group.pause(self.losses - 1, stop).await.is_break() {
            return Ok(());
        }
        self.reload(stop).await
    }

    /// Reads where the group is and goes on there.
    async fn reload(&mut self, stop: &mut watch::Receiver<bool>) -> Result<(), LogError> {
        let group = self.group;
        let mut failures = 0;
        let (offsets, parked) = loop {
            // In this order what is parked is at least as new as the offsets; what is newer shows as a lost condition.
            let loaded = async {
                let offsets = group.store.offsets(&group.group).await?;
                Ok::<_, crate::store::StoreError>((offsets, group.store.parked(&group.group).await?))
            };
            match loaded.await {
                Ok(loaded) => break loaded,
                Err(error) => {
                    failures += 1;
                    if failures == 1 {
                        tracing::warn!(group = %group.group, error = %error, "consumer waits for its domain");
                    }
                    count(&group.stats.waits, 1);
                    if group.pause(failures, stop).await.is_break() {
                        return Ok(());
                    }
                }
            }
        };
        let stored: HashMap<TopicPartition, i64> = offsets
            .iter()
            .map(|known| (TopicPartition { topic: known.topic, partition: known.partition }, known.next_offset))
            .collect();
        let partitions: Vec<TopicPartition> = self.positions.keys().copied().collect();
        for at in partitions {
            let reached = self.find_start(at, stored.get(&at).copied()).await?;
            self.reader.seek(at, reached).await?;
            let stored = stored.get(&at).copied().unwrap_or(0);
            self.positions.insert(at, Position { stored, reached });
        }
        self.parking = Parking::load(parked, |at| self.positions.contains_key(&at), self.wall_clock());
        self.note_parked();
        Ok(())
    }

    /// Where to read a partition from: the stored offset, as far as the log has it.
    async fn find_start(&mut self, at: TopicPartition, stored: Option<i64>) -> Result<i64, LogError> {
        let bounds = self.reader.bounds(at).await?;
        let group = &self.group.group;
        match stored {
            None => Ok(bounds.start),
            Some(offset) if offset > bounds.end => {
                tracing::error!(group = %group, partition = %at, offset, end = bounds.end,
                    "the log is not the one that the stored offset is of: starting at its beginning, see docs/lost-log.md");
                Ok(bounds.start)
            }
            Some(offset) if offset < bounds.start => {
                count(&self.group.stats.missed, (bounds.start - offset) as usize);
                tracing::error!(group = %group, partition = %at, offset, start = bounds.start,
                    "records were removed before the group had read them: going on at the log's start");
                Ok(bounds.start)
            }
            Some(offset) => Ok(offset),
        }
    }

    /// Stores how far the group has skipped, with no effect to carry it.
    async fn save_skipped(&mut self, stop: &mut watch::Receiver<bool>) -> Result<(), LogError> {
        match self.store_moves().await {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => self.lose(stop).await,
        }
    }

    async fn save_skipped_at_end(&mut self) {
        // Without it the same records are skipped again.
        let _ = self.store_moves().await;
    }

    /// Breaks when another owner has moved an offset.
    async fn store_moves(&mut self) -> ControlFlow<()> {
        let mut batch = Batch::fresh(&self.group.group);
        self.add_moves(&mut batch, &HashMap::new(), &HashSet::new());
        self.skipping_since = None;
        if batch.consumption.moves.is_empty() {
            return ControlFlow::Continue(());
        }
        match self.group.store.consume(batch.consumption.clone()).await.map(BatchOutcome::from) {
            Ok(BatchOutcome::Lost) => return ControlFlow::Break(()),
            // Tried again with the next batch or the next pause.
            Err(error) => {
                // Once an outage.
                if !std::mem::replace(&mut self.moves_fail, true) {
                    tracing::warn!(group = %self.group.group, error = %error, "could not store an offset");
                }
                self.skipping_since = Some(Instant::now());
            }
            Ok(_) => {
                self.moves_fail = false;
                for step in &batch.consumption.moves {
                    let at = TopicPartition { topic: step.topic, partition: step.partition };
                    if let Some(position) = self.positions.get_mut(&at) {
                        position.stored = step.to;
                        self.reader.commit(at, step.to);
                    }
                }
            }
        }
        ControlFlow::Continue(())
    }
}

async fn submit(group: &ConsumerGroup, batch: &Batch) -> Result<BatchOutcome, HandlerError> {
    if batch.is_empty() {
        // Other tasks of the thread have their turn also while a group only skips.
        tokio::task::yield_now().await;
        return Ok(BatchOutcome::Done);
    }
    if batch.events.is_empty() {
        return Ok(group.store.consume(batch.consumption.clone()).await?.into());
    }
    let mut consumption = batch.consumption.clone();
    let _handled = follow(&group.group, &batch.events, &mut consumption.causes);
    group.handler.handle(&batch.events, consumption).await
}

/// Notes what each event's effects follow from: a span of its own where there is a collector, else what it followed from.
fn follow(group: &str, events: &[ConsumedEvent], causes: &mut Causes) -> Vec<Span> {
    let mut spans = Vec::new();
    for event in events {
        let Some(cause) = event.traceparent().and_then(TraceParent::parse) else { continue };
        let span = tracing::info_span!(target: traces::TARGET, "consume", group, event = event.event_type());
        traces::continue_from(&span, cause);
        let cause = traces::cause_in(&span).unwrap_or(cause);
        causes.add(&event.record.key, cause);
        causes.add(event.id(), cause);
        spans.push(span);
    }
    spans
}

/// The next delivery, not before `from`, and after what goes before it. Dropping the future loses nothing.
async fn read(
    reader: &mut dyn GroupConsumer,
    max: usize,
    from: Option<Instant>,
    settings: &ConsumerSettings,
) -> Result<Delivery, LogError> {
    if let Some(from) = from {
        sleep_until(from).await;
    }
    if let Some((precedence, rank)) = &settings.precedence {
        precedence.give_way(*rank).await;
    }
    reader.next(max).await
}
