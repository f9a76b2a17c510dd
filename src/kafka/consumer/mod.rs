//! Consumer groups: from the log, in batches, to the handler that commits the effect and the offset together.
//!
//! The flow of a batch: the [`router`] decides for each record whether it is skipped, handled, parked behind an earlier
//! one of its key, or a dead letter; the [`BatchHandler`] commits the effects with the [`Consumption`] in one
//! transaction; an event that fails for its own reason is [`parking`] with backoff and the rest is submitted again.
//! Nothing is remembered outside the domain's database: the run loop may be dropped at any await and started anew.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use super::backoff::Backoff;
use super::envelope::{self, DecodeError};
use super::precedence::{Precedence, Rank};
use super::{EventLog, LogError, Record};
use crate::actors::AskError;
use crate::actors::clock::now;
use crate::domain::events::{HEADER_EVENT, Topic};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::consumption::{Consumed, Consumption, ConsumptionStore};
use session::Session;

mod batch;
mod parking;
mod router;
mod session;

/// An event as a handler gets it. Its envelope has been checked; its body is the handler's to decode.
#[derive(Debug, Clone)]
pub struct ConsumedEvent {
    pub record: Arc<Record>,
    /// 1 the first time.
    pub attempt: u32,
}

impl ConsumedEvent {
    /// `ce_id`: the same however often the event is delivered.
    pub fn id(&self) -> &str {
        self.record.header(envelope::ID).unwrap_or_default()
    }

    /// `ce_id` as it was the first time, also of a replayed event: an effect is once per event by this.
    pub fn original_id(&self) -> &str {
        self.record.header(HEADER_EVENT).unwrap_or_else(|| self.id())
    }

    /// The event's place among those of its aggregate, which its first `ce_id` ends with.
    pub fn sequence(&self) -> Result<i64, DecodeError> {
        let id = self.original_id();
        let sequence = id.rsplit_once('-').and_then(|(_, sequence)| sequence.parse().ok());
        sequence.ok_or_else(|| DecodeError::BadHeader {
            header: envelope::ID,
            value: id.to_owned(),
            expected: "an id that ends with a sequence",
        })
    }

    /// `ce_type`, one of `domain::events::event_type`.
    pub fn event_type(&self) -> &str {
        self.record.header(envelope::TYPE).unwrap_or_default()
    }

    pub fn traceparent(&self) -> Option<&str> {
        self.record.header(envelope::TRACEPARENT)
    }

    /// The body as the struct that belongs to the type. Its error makes the event a dead letter:
    /// [`EventFailure::undecodable`].
    pub fn body<T: DeserializeOwned>(&self) -> Result<T, DecodeError> {
        envelope::body(&self.record)
    }
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BatchOutcome {
    /// Effects and consumption are committed.
    Done,
    /// Another owner has moved the offset; nothing was committed.
    Lost,
    /// These events fail, each for its own reason; nothing was committed. The rest comes again without them.
    Failed(Vec<EventFailure>),
}

impl From<Consumed<()>> for BatchOutcome {
    fn from(consumed: Consumed<()>) -> Self {
        match consumed {
            Consumed::Done(()) => Self::Done,
            Consumed::Lost => Self::Lost,
        }
    }
}

/// An event of a batch that failed for its own reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventFailure {
    /// In the batch.
    pub position: usize,
    /// Kept with the event and shown to operators: names no secrets and no personal data.
    pub error: String,
    /// False: no further attempt can help, it is a dead letter at once.
    pub retry: bool,
}

impl EventFailure {
    /// Tried again later, with backoff.
    pub fn failed(position: usize, error: impl ToString) -> Self {
        Self { position, error: error.to_string(), retry: true }
    }

    /// A dead letter at once.
    pub fn undecodable(position: usize, error: &DecodeError) -> Self {
        Self { position, error: error.to_string(), retry: false }
    }
}

/// Why a batch could not be handled, for a reason that is not one event's own.
#[derive(Debug, Clone, thiserror::Error)]
pub enum HandlerError {
    /// The actor takes nothing more at the moment. Nothing parks; the batch waits.
    #[error("busy")]
    Busy,
    /// The store is away. Nothing parks; the batch waits.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// The answer did not come in time. Nothing parks; a batch to which it happens again and again is more than can be done
    /// in that time, and goes on in parts.
    #[error("no answer in time")]
    TimedOut,
    /// The actor ended with the batch in hand. The outcome is unknown, and an event of the batch may be the cause.
    #[error("interrupted: {0}")]
    Interrupted(String),
}

impl From<AskError> for HandlerError {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Busy => Self::Busy,
            AskError::Interrupted => Self::Interrupted(error.to_string()),
            AskError::Timeout => Self::TimedOut,
            AskError::Stopped => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<StoreError> for HandlerError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(reason) => Self::Unavailable(reason),
            // Perhaps of the data that one event touches: the search for it parks only that event, and when the whole
            // store is broken nothing can be parked.
            StoreError::Broken(reason) => Self::Interrupted(format!("the store is broken: {reason}")),
            StoreError::InvalidCursor => Self::Interrupted("a page cursor where none was given".to_owned()),
        }
    }
}

/// What a group does with its events.
#[async_trait]
pub trait BatchHandler: Send + Sync {
    /// Whether events of this type concern the group; the others are passed over without waking the domain.
    fn wants(&self, event_type: &str) -> bool;

    /// How many effects an event of this type can have: those of a batch are together at most
    /// [`ConsumerSettings::max_batch`], unless it is one event.
    fn weight(&self, _event_type: &str) -> usize {
        1
    }

    /// Commits the effects of `events`, in this order, and `consumption` in one transaction of the group's domain.
    /// May get an event again whose effect is there already.
    async fn handle(&self, events: &[ConsumedEvent], consumption: Consumption) -> Result<BatchOutcome, HandlerError>;
}

#[derive(Clone)]
pub struct ConsumerSettings {
    /// `ce_source` of the domain, for the dead letters that it emits.
    pub source: &'static str,
    /// The most records of one batch, and the most effects of several events.
    pub max_batch: usize,
    /// Attempts after which a failing event is a dead letter.
    pub max_attempts: u32,
    /// Between the attempts of a parked event.
    pub retry: Backoff,
    /// While the store or the log is away.
    pub wait: Backoff,
    /// A group that is busy starts its batches this far apart: each then carries more, and all of them together cost
    /// fewer commits. One that is not busy reads at once.
    pub linger: Duration,
    /// How long records may wait for others in the log.
    pub pace: Duration,
    /// Records of a batch from which on the group counts as busy.
    pub busy_from: usize,
    /// What goes before the group's next batch for a while.
    pub precedence: Option<(Arc<Precedence>, Rank)>,
    /// Skipped records alone move the stored offset only after this long: they mostly travel with the next effect.
    pub flush_after: Duration,
    pub clock: fn() -> Timestamp,
}

impl ConsumerSettings {
    pub fn new(source: &'static str) -> Self {
        Self {
            source,
            max_batch: 500,
            max_attempts: 5,
            retry: Backoff::new(Duration::from_secs(1), Duration::from_secs(600)),
            wait: Backoff::new(Duration::from_millis(50), Duration::from_secs(5)),
            linger: Duration::from_millis(20),
            pace: Duration::ZERO,
            busy_from: 8,
            precedence: None,
            flush_after: Duration::from_secs(1),
            clock: now,
        }
    }
}

/// A count for each topic.
#[derive(Debug, Default)]
pub struct TopicCounts([AtomicU64; Topic::ALL.len()]);

impl TopicCounts {
    fn add(&self, topic: Topic) {
        self.0[topic as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub fn of(&self, topic: Topic) -> u64 {
        self.0[topic as usize].load(Ordering::Relaxed)
    }

    pub fn total(&self) -> u64 {
        self.0.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

/// Counters of a group, for metrics. They only rise while the process lives.
#[derive(Debug, Default)]
pub struct ConsumerStats {
    /// Events whose effect was committed.
    pub handled: TopicCounts,
    pub batches: AtomicU64,
    /// Records that did not concern the group.
    pub skipped: AtomicU64,
    /// Attempts that failed for an event's own reason and will be repeated.
    pub failed_attempts: TopicCounts,
    pub dead_letters: TopicCounts,
    /// Offsets that another owner had moved.
    pub lost: AtomicU64,
    /// Batches whose actor ended with them in hand.
    pub interrupted: AtomicU64,
    /// Waits because the store or the actor could not be reached.
    pub waits: AtomicU64,
    /// Records that retention had removed before the group read them.
    pub missed: AtomicU64,
    /// Parked now.
    pub parked: AtomicU64,
}

fn count(counter: &AtomicU64, by: usize) {
    counter.fetch_add(by as u64, Ordering::Relaxed);
}

/// One group of one domain. Cheap to keep: all state is made anew by each [`ConsumerGroup::run`].
pub struct ConsumerGroup {
    group: String,
    topics: Vec<Topic>,
    log: Arc<dyn EventLog>,
    store: Arc<dyn ConsumptionStore>,
    handler: Arc<dyn BatchHandler>,
    settings: ConsumerSettings,
    stats: Arc<ConsumerStats>,
}

impl ConsumerGroup {
    pub fn new(
        group: impl Into<String>,
        topics: &[Topic],
        log: Arc<dyn EventLog>,
        store: Arc<dyn ConsumptionStore>,
        handler: Arc<dyn BatchHandler>,
        settings: ConsumerSettings,
    ) -> Self {
        let stats = Arc::default();
        Self { group: group.into(), topics: topics.to_vec(), log, store, handler, settings, stats }
    }

    pub fn name(&self) -> &str {
        &self.group
    }

    pub fn stats(&self) -> Arc<ConsumerStats> {
        self.stats.clone()
    }

    /// Consumes until `stop` turns true (or its sender is gone), finishing the batch in hand. The future may be
    /// dropped at any await and run again: nothing is lost and nothing takes effect twice.
    pub async fn run(&self, mut stop: watch::Receiver<bool>) {
        let mut failures = 0;
        while !*stop.borrow() {
            let error = match Session::open(self).await {
                Ok(mut session) => match session.run(&mut stop).await {
                    Ok(()) => return,
                    Err(error) => {
                        failures = if session.has_worked() { 1 } else { failures + 1 };
                        error
                    }
                },
                Err(error) => {
                    failures += 1;
                    error
                }
            };
            self.log_away(&error, failures);
            count(&self.stats.waits, 1);
            if self.pause(failures, &mut stop).await.is_break() {
                return;
            }
        }
    }

    fn log_away(&self, error: &LogError, failures: u32) {
        // Once an outage.
        if failures == 1 {
            tracing::warn!(group = %self.group, error = %error, "consumer waits for the event log");
        }
    }

    /// Waits with backoff. Breaks when the group is to stop.
    async fn pause(&self, failures: u32, stop: &mut watch::Receiver<bool>) -> std::ops::ControlFlow<()> {
        tokio::select! {
            biased;
            () = stopped(stop) => std::ops::ControlFlow::Break(()),
            () = tokio::time::sleep(self.settings.wait.delay(failures)) => std::ops::ControlFlow::Continue(()),
        }
    }
}

/// Until `stop` is true or can never become it.
pub(in crate::kafka) async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}
