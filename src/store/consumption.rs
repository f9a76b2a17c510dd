//! How far each consumer group has come, and what it has set aside.
//!
//! The offset moves in the transaction of the effect, by condition: when the stored offset is not the one the consumer
//! started from, another process owns the partition now and nothing is written.

use async_trait::async_trait;

use super::StoreError;
pub use crate::domain::events::StoredRecord;
use crate::domain::events::{PendingEvent, Topic};
use crate::domain::time::Timestamp;

/// Where a group goes on in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredOffset {
    pub topic: Topic,
    pub partition: i32,
    pub next_offset: i64,
}

/// A step of one group through one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetMove {
    pub topic: Topic,
    pub partition: i32,
    /// The stored offset that the consumer knows; 0 when nothing is stored yet.
    pub from: i64,
    pub to: i64,
}

/// An event that waits for another attempt, or behind one of its key that does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedEvent {
    pub record: StoredRecord,
    /// Attempts so far; 0 of one that only waits behind another.
    pub attempts: u32,
    pub next_attempt_at: Timestamp,
    pub last_error: String,
}

/// Identifies a parked event of a group: topic, partition, offset.
pub type ParkedId = (String, i32, i64);

/// What a group's progress changes, in one transaction with the effect.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Consumption {
    pub group: String,
    pub moves: Vec<OffsetMove>,
    /// Newly parked, or parked again with their new attempt count: inserted or replaced.
    pub park: Vec<ParkedEvent>,
    /// Parked events that are settled now: handled, or turned into a dead letter. One that is no longer parked was
    /// settled by another owner: the consumption is lost.
    pub unpark: Vec<ParkedId>,
    /// Saved as pending events of this domain for the topic `dead-letter-queue`.
    pub dead_letters: Vec<PendingEvent>,
}

/// Whether a consumption was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Consumed<T> {
    Done(T),
    /// A stored offset is not the one the consumer started from, or an event that it settles is no longer parked:
    /// another owner. Nothing was written.
    Lost,
}

/// Progress of the groups that live in one domain's database.
#[async_trait]
pub trait ConsumptionStore: Send + Sync {
    /// The stored offsets of a group.
    async fn offsets(&self, group: &str) -> Result<Vec<StoredOffset>, StoreError>;

    /// Everything that a group has parked, by topic, partition and offset.
    async fn parked(&self, group: &str) -> Result<Vec<ParkedEvent>, StoreError>;

    /// Moves on without an effect.
    async fn consume(&self, consumption: Consumption) -> Result<Consumed<()>, StoreError>;
}
