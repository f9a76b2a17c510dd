//! The event log and what moves events through it.
//!
//! A domain saves its events with its state; the [`relay`] appends them to the [`EventLog`] and then forgets them. Each
//! [`consumer`] group reads its topics in batches and hands them to a [`consumer::BatchHandler`], which commits the
//! effect together with the group's offset in the domain's own database. What fails for its own reason is parked and,
//! after its attempts, becomes a dead letter ([`dead_letters`]). The [`tail`] follows new records without a group and
//! wakes live subscriptions.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::domain::events::{PendingEvent, Topic};
use crate::store::consumption::StoredRecord;

pub mod backoff;
pub mod broker;
pub mod campaigns;
pub mod consumer;
pub mod dead_letters;
pub mod embedded;
pub mod envelope;
pub mod inventory;
pub mod live;
pub mod notifications;
pub mod precedence;
pub mod recommendations;
pub mod relay;
pub mod supervised;
pub mod tail;
pub mod verdicts;

/// The most bytes that key, headers and body of an event may have together.
pub const MAX_EVENT_BYTES: usize = 1024 * 1024;
/// The same of a dead letter: it carries an event as text inside JSON, which can grow by its escapes.
pub const MAX_DEAD_LETTER_BYTES: usize = 4 * MAX_EVENT_BYTES;

/// Why the log did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogError {
    /// Cannot be reached or failed: try again later. Whether an append happened is unknown.
    #[error("the event log is unavailable: {0}")]
    Unavailable(String),
    /// This event can never be appended. None of its batch was.
    #[error("event {aggregate}-{sequence} has {bytes} bytes, more than the {limit} that the event log takes")]
    TooLarge { aggregate: String, sequence: i64, bytes: usize, limit: usize },
    /// The log was made with another number of partitions: keys would move to other partitions and lose their order.
    #[error("{log} has {existing} partitions, but events.partitions is {configured}: both have to be the same")]
    PartitionCount { log: String, existing: u32, configured: u32 },
    #[error("the event log is broken: {0}")]
    Broken(String),
}

/// A header of a record. The names and values that never change are not allocated.
pub type Header = (Cow<'static, str>, Cow<'static, str>);

/// One partition of one topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    pub topic: Topic,
    pub partition: i32,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// A record as the log carries it. Shared, never changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub topic: Topic,
    pub partition: i32,
    pub offset: i64,
    pub key: String,
    pub headers: Vec<Header>,
    pub body: String,
}

impl Record {
    pub fn place(&self) -> TopicPartition {
        TopicPartition { topic: self.topic, partition: self.partition }
    }

    /// The first header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_ref())
    }

    /// A copy for a database: parked, or in a dead letter.
    pub fn to_stored(&self) -> StoredRecord {
        StoredRecord {
            topic: self.topic.name().to_owned(),
            partition: self.partition,
            offset: self.offset,
            key: self.key.clone(),
            headers: self.headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
            body: self.body.clone(),
        }
    }

    /// The record of a stored copy; `None` when its topic is not one of the shop's.
    pub fn from_stored(stored: StoredRecord) -> Option<Self> {
        Some(Self {
            topic: Topic::named(&stored.topic)?,
            partition: stored.partition,
            offset: stored.offset,
            key: stored.key,
            headers: stored.headers.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
            body: stored.body,
        })
    }
}

/// What a group's reader gets next.
#[derive(Debug)]
pub enum Delivery {
    /// These partitions are the reader's from now on. Nothing comes from them until it has sought each to the offset
    /// that the domain's database holds.
    Assigned(Vec<TopicPartition>),
    /// These belong to another reader now.
    Revoked(Vec<TopicPartition>),
    /// At least one record; those of a partition follow one another by offset.
    Records(Vec<Arc<Record>>),
}

/// The offsets that a partition holds: from `start` up to, not including, `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    pub start: i64,
    pub end: i64,
}

/// How far a group has come in one partition, by the log's own copy of its offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub partition: TopicPartition,
    /// The next offset that the group reads.
    pub committed: i64,
    pub end: i64,
}

impl Progress {
    /// Records that the group has still to read.
    pub fn lag(&self) -> i64 {
        (self.end - self.committed).max(0)
    }
}

/// Port of the event log: topics with partitions, order for each key, groups, and a tail without a group.
#[async_trait]
pub trait EventLog: Send + Sync {
    /// Appends all or none, in this order for each key; durable when it answers. Appends that wait for one another
    /// are written together. After [`LogError::Unavailable`] the events may be there or not.
    async fn append(&self, events: Vec<PendingEvent>) -> Result<(), LogError>;

    /// A reader of the group. Readers of one group share its partitions; in one process the newest takes them all. A record
    /// may wait for others up to `pace`, zero for none that is noticed: a log on a server has less to do then.
    async fn consumer(&self, group: &str, topics: &[Topic], pace: Duration)
    -> Result<Box<dyn GroupConsumer>, LogError>;

    /// Follows every record that is appended from now on, without a group.
    async fn tail(&self, topics: &[Topic]) -> Result<Box<dyn Tail>, LogError>;

    /// The progress of the groups that the log knows, for lag: at least of those that have a reader here.
    async fn progress(&self) -> Result<Vec<(String, Vec<Progress>)>, LogError>;

    /// Whether the log answers.
    async fn check(&self) -> Result<(), LogError> {
        self.progress().await.map(drop)
    }
}

/// A reader of one group. Reading is pulled: an adapter whose buffer is full stops fetching by itself.
#[async_trait]
pub trait GroupConsumer: Send {
    /// Waits for the next delivery; `Records` has at most `max`. Dropping the future loses nothing.
    async fn next(&mut self, max: usize) -> Result<Delivery, LogError>;

    /// What an assigned partition holds now.
    async fn bounds(&mut self, partition: TopicPartition) -> Result<Bounds, LogError>;

    /// Goes on at this offset.
    async fn seek(&mut self, partition: TopicPartition, offset: i64) -> Result<(), LogError>;

    /// Copies the offset that the domain's database has committed, for lag and retention. Written some time later; a
    /// lower offset than the copied one changes nothing.
    fn commit(&mut self, partition: TopicPartition, next_offset: i64);
}

/// What a tail sees.
#[derive(Debug)]
pub enum Tailed {
    Records(Vec<Arc<Record>>),
    /// Records may have been missed: whoever waits for one has to look for itself.
    LostPlace,
}

/// A reader of everything that is appended after it began.
#[async_trait]
pub trait Tail: Send {
    /// Waits for what comes next. Dropping the future loses nothing.
    async fn next(&mut self) -> Result<Tailed, LogError>;
}

/// Refuses an event that is larger than its topic takes.
pub fn check_size(event: &PendingEvent) -> Result<(), LogError> {
    let headers: usize = event.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    let bytes = event.key.len() + event.body.len() + headers;
    let limit = if event.topic == Topic::DeadLetterQueue { MAX_DEAD_LETTER_BYTES } else { MAX_EVENT_BYTES };
    if bytes <= limit {
        return Ok(());
    }
    Err(LogError::TooLarge { aggregate: event.aggregate.clone(), sequence: event.sequence, bytes, limit })
}
