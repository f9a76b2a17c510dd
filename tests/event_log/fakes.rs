//! A domain's database in memory, a handler with a script, an outbox.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use souk::domain::events::{PendingEvent, Topic};
use souk::domain::time::Timestamp;
use souk::kafka::EventLog;
use souk::kafka::backoff::Backoff;
use souk::kafka::consumer::{
    BatchHandler, BatchOutcome, ConsumedEvent, ConsumerGroup, ConsumerSettings, ConsumerStats, EventFailure,
    HandlerError,
};
use souk::kafka::envelope::DecodeError;
use souk::store::StoreError;
use souk::store::consumption::{Consumed, Consumption, ConsumptionStore, ParkedEvent, ParkedId, StoredOffset};
use souk::store::outbox::{Backlog, Outbox, PendingEventId};
use tokio::sync::{mpsc, watch};

use crate::memory_log::{Handle, MemoryLog};

/// The virtual time of a test that runs with a paused clock.
pub fn virtual_clock() -> Timestamp {
    thread_local! {
        static START: tokio::time::Instant = tokio::time::Instant::now();
    }
    let now = tokio::time::Instant::now();
    Timestamp(START.with(|start| now.saturating_duration_since(*start).as_millis() as i64) + 1_000_000)
}

#[derive(Default)]
pub struct Tables {
    pub offsets: HashMap<(Topic, i32), i64>,
    pub parked: BTreeMap<ParkedId, ParkedEvent>,
    pub letters: Vec<PendingEvent>,
    /// (key, event id) of every effect, in commit order.
    pub effects: Vec<(String, String)>,
    /// Attempts, committed or not: id and when.
    pub attempts: Vec<(String, Timestamp)>,
    pub commits: usize,
}

type Script = dyn Fn(&ConsumedEvent, u32) -> Verdict + Send + Sync;

/// A domain: its database and what its actor does with an event.
pub struct Domain {
    tables: Mutex<Tables>,
    pub changed: watch::Sender<u64>,
    script: Box<Script>,
    tries: Mutex<HashMap<String, u32>>,
    /// Answers to the next calls instead of the script.
    pub next: Mutex<Vec<Next>>,
    pub wanted: fn(&str) -> bool,
}

/// The type of an event that has as many effects as four others.
pub const HEAVY: &str = "souk.test.heavy.v1";

/// What an event comes to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict {
    Fine,
    Fails,
    Undecodable,
    /// Ends its actor.
    Panics,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    Busy,
    Unavailable,
    TimedOut,
    /// The actor ends before the commit.
    InterruptedBefore,
    /// The actor ends after the commit.
    InterruptedAfter,
    /// The store commits and its answer is lost.
    UnavailableAfter,
}

impl Domain {
    /// `script` gets the event and how often it has been attempted, this attempt included.
    pub fn new(script: impl Fn(&ConsumedEvent, u32) -> Verdict + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            tables: Mutex::default(),
            changed: watch::Sender::new(0),
            script: Box::new(script),
            tries: Mutex::default(),
            next: Mutex::default(),
            wanted: |event_type| event_type != "souk.test.ignored.v1",
        })
    }

    pub fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap()
    }

    pub fn effects(&self) -> Vec<String> {
        self.tables().effects.iter().map(|(_, id)| id.clone()).collect()
    }

    pub fn effects_of(&self, key: &str) -> Vec<String> {
        self.tables().effects.iter().filter(|(known, _)| known == key).map(|(_, id)| id.clone()).collect()
    }

    pub async fn until(&self, condition: impl Fn(&Tables) -> bool) {
        let mut changed = self.changed.subscribe();
        let reached = async {
            loop {
                changed.borrow_and_update();
                if condition(&self.tables()) {
                    return;
                }
                let _ = changed.changed().await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(100_000), reached).await.is_err() {
            panic!("never reached; effects {:?}", self.effects());
        }
    }

    /// One transaction, with the rules of the real stores.
    pub fn commit(&self, consumption: Consumption, effects: &[ConsumedEvent]) -> Consumed<()> {
        let mut tables = self.tables();
        for step in &consumption.moves {
            if tables.offsets.get(&(step.topic, step.partition)).copied().unwrap_or(0) != step.from {
                return Consumed::Lost;
            }
        }
        if consumption.unpark.iter().any(|id| !tables.parked.contains_key(id)) {
            return Consumed::Lost;
        }
        for step in consumption.moves {
            tables.offsets.insert((step.topic, step.partition), step.to);
        }
        for id in consumption.unpark {
            tables.parked.remove(&id);
        }
        for event in consumption.park {
            let id = (event.record.topic.clone(), event.record.partition, event.record.offset);
            tables.parked.insert(id, event);
        }
        tables.letters.extend(consumption.dead_letters);
        tables.effects.extend(effects.iter().map(|event| (event.record.key.clone(), event.id().to_owned())));
        tables.commits += 1;
        drop(tables);
        self.changed.send_modify(|count| *count += 1);
        Consumed::Done(())
    }

    /// A group of this domain over a log in memory.
    pub fn group(self: &Arc<Self>, log: &Arc<MemoryLog>, settings: ConsumerSettings) -> Arc<ConsumerGroup> {
        self.group_on(Arc::new(Handle(log.clone())), settings)
    }

    /// A group of this domain.
    pub fn group_on(self: &Arc<Self>, log: Arc<dyn EventLog>, settings: ConsumerSettings) -> Arc<ConsumerGroup> {
        Arc::new(ConsumerGroup::new("g", &[Topic::OrderEvents], log, self.clone(), self.clone(), settings))
    }
}

pub fn settings() -> ConsumerSettings {
    ConsumerSettings {
        retry: Backoff::new(Duration::from_secs(1), Duration::from_secs(60)),
        clock: virtual_clock,
        ..ConsumerSettings::new("/souk/test")
    }
}

#[async_trait]
impl ConsumptionStore for Domain {
    async fn offsets(&self, _group: &str) -> Result<Vec<StoredOffset>, StoreError> {
        tokio::task::yield_now().await;
        let tables = self.tables();
        let offset = |(&(topic, partition), &next_offset)| StoredOffset { topic, partition, next_offset };
        Ok(tables.offsets.iter().map(offset).collect())
    }

    async fn parked(&self, _group: &str) -> Result<Vec<ParkedEvent>, StoreError> {
        tokio::task::yield_now().await;
        Ok(self.tables().parked.values().cloned().collect())
    }

    async fn consume(&self, consumption: Consumption) -> Result<Consumed<()>, StoreError> {
        tokio::task::yield_now().await;
        Ok(self.commit(consumption, &[]))
    }
}

#[async_trait]
impl BatchHandler for Domain {
    fn wants(&self, event_type: &str) -> bool {
        (self.wanted)(event_type)
    }

    fn weight(&self, event_type: &str) -> usize {
        if event_type == HEAVY { 4 } else { 1 }
    }

    async fn handle(&self, events: &[ConsumedEvent], consumption: Consumption) -> Result<BatchOutcome, HandlerError> {
        tokio::task::yield_now().await;
        let next = self.next.lock().unwrap().pop();
        match next {
            Some(Next::Busy) => return Err(HandlerError::Busy),
            Some(Next::Unavailable) => return Err(HandlerError::Unavailable("away".to_owned())),
            Some(Next::TimedOut) => return Err(HandlerError::TimedOut),
            Some(Next::InterruptedBefore) => return Err(HandlerError::Interrupted("ended".to_owned())),
            _ => {}
        }
        let mut failures = Vec::new();
        for (position, event) in events.iter().enumerate() {
            let tries = {
                let mut tries = self.tries.lock().unwrap();
                let tries = tries.entry(event.id().to_owned()).or_default();
                *tries += 1;
                *tries
            };
            self.tables().attempts.push((event.id().to_owned(), virtual_clock()));
            match (self.script)(event, tries) {
                Verdict::Fine => {}
                Verdict::Fails => failures.push(EventFailure::failed(position, "it fails")),
                Verdict::Undecodable => {
                    failures.push(EventFailure::undecodable(position, &DecodeError::MissingHeader("body")));
                }
                Verdict::Panics => return Err(HandlerError::Interrupted("panicked".to_owned())),
            }
        }
        if !failures.is_empty() {
            return Ok(BatchOutcome::Failed(failures));
        }
        let committed = self.commit(consumption, events);
        tokio::task::yield_now().await;
        match next {
            Some(Next::InterruptedAfter) => Err(HandlerError::Interrupted("ended".to_owned())),
            Some(Next::UnavailableAfter) => Err(HandlerError::Unavailable("no answer".to_owned())),
            _ => Ok(committed.into()),
        }
    }
}

/// A group that runs until it is stopped.
pub struct Running {
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
    pub stats: Arc<ConsumerStats>,
}

impl Running {
    pub fn start(group: &Arc<ConsumerGroup>) -> Self {
        let (stop, stopped) = watch::channel(false);
        let stats = group.stats();
        let group = group.clone();
        Self { stop, task: tokio::spawn(async move { group.run(stopped).await }), stats }
    }

    pub async fn stop(self) {
        self.stop.send(true).unwrap();
        tokio::time::timeout(Duration::from_secs(1_000), self.task).await.expect("did not stop").unwrap();
    }

    /// Ends it in whatever it is doing.
    pub async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

/// Pending events of a domain, with a channel of `capacity` commits.
pub struct FakeOutbox {
    pub pending: Mutex<BTreeMap<PendingEventId, PendingEvent>>,
    pub cleared: Mutex<Vec<PendingEventId>>,
    capacity: usize,
    sender: Mutex<Option<mpsc::Sender<Vec<PendingEvent>>>>,
    pub foreign: watch::Sender<u64>,
    pub clear_fails: std::sync::atomic::AtomicBool,
}

impl FakeOutbox {
    pub fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self {
            pending: Mutex::default(),
            cleared: Mutex::default(),
            capacity,
            sender: Mutex::default(),
            foreign: watch::Sender::new(0),
            clear_fails: std::sync::atomic::AtomicBool::new(false),
        })
    }

    /// A commit of this process.
    pub fn commit(&self, events: Vec<PendingEvent>) {
        self.commit_silently(events.clone());
        if let Some(sender) = &*self.sender.lock().unwrap() {
            let _ = sender.try_send(events);
        }
    }

    /// A commit that the channel does not carry.
    pub fn commit_silently(&self, events: Vec<PendingEvent>) {
        let mut pending = self.pending.lock().unwrap();
        for event in events {
            pending.insert((event.aggregate.clone(), event.sequence), event);
        }
    }

    pub fn pending_count(&self) -> usize {
        self.pending.lock().unwrap().len()
    }
}

#[async_trait]
impl Outbox for FakeOutbox {
    fn domain(&self) -> &'static str {
        "test"
    }

    fn committed(&self) -> mpsc::Receiver<Vec<PendingEvent>> {
        let (sender, receiver) = mpsc::channel(self.capacity);
        *self.sender.lock().unwrap() = Some(sender);
        receiver
    }

    fn foreign_writes(&self) -> watch::Receiver<u64> {
        self.foreign.subscribe()
    }

    async fn pending(&self, before: Timestamp, limit: u32) -> Result<Vec<PendingEvent>, StoreError> {
        tokio::task::yield_now().await;
        let pending = self.pending.lock().unwrap();
        Ok(pending.values().filter(|event| event.at < before).take(limit as usize).cloned().collect())
    }

    async fn pending_of(&self, aggregates: &[String]) -> Result<Vec<PendingEvent>, StoreError> {
        tokio::task::yield_now().await;
        let pending = self.pending.lock().unwrap();
        Ok(pending.values().filter(|event| aggregates.contains(&event.aggregate)).cloned().collect())
    }

    async fn backlog(&self) -> Result<Backlog, StoreError> {
        let pending = self.pending.lock().unwrap();
        let oldest = pending.values().map(|event| event.at).min();
        Ok(Backlog { events: pending.len() as u64, oldest })
    }

    async fn clear(&self, published: Vec<PendingEventId>) -> Result<(), StoreError> {
        tokio::task::yield_now().await;
        if self.clear_fails.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(StoreError::Unavailable("away".to_owned()));
        }
        let mut pending = self.pending.lock().unwrap();
        for id in &published {
            pending.remove(id);
        }
        self.cleared.lock().unwrap().extend(published);
        Ok(())
    }

    async fn check(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
