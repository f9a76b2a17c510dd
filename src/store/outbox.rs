//! The events that a domain's store holds until they are published.

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::StoreError;
use crate::domain::events::PendingEvent;
use crate::domain::time::Timestamp;

/// Which pending events to forget: aggregate and sequence.
pub type PendingEventId = (String, i64);

/// How much a domain has still to publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backlog {
    pub events: u64,
    /// When the oldest was made.
    pub oldest: Option<Timestamp>,
}

impl Backlog {
    /// Both together.
    pub fn and(self, other: Self) -> Self {
        Self { events: self.events + other.events, oldest: self.oldest.into_iter().chain(other.oldest).min() }
    }
}

/// Pending events of one domain's database. Its one user is the relay.
#[async_trait]
pub trait Outbox: Send + Sync {
    /// The domain, for logs and metrics: `users`, `products`, `orders`, `notifications`, `operations`.
    fn domain(&self) -> &'static str;

    /// The events of each commit of this process from now on, in commit order, right after the commit. The newest
    /// receiver gets them and an earlier one ends, so that a relay that was cut off can be replaced. The channel is
    /// bounded: what does not fit stays pending, and a sweep is asked for.
    fn committed(&self) -> mpsc::Receiver<Vec<PendingEvent>>;

    /// Fires when events may be pending that `committed` does not carry: another process has written to this database
    /// (SQLite's `data_version`), or the channel had overflowed and is empty again. Time to sweep. After an overflow
    /// nothing is sent until then, so that no event overtakes an earlier one of its aggregate.
    fn foreign_writes(&self) -> tokio::sync::watch::Receiver<u64>;

    /// Up to `limit` events that were made before `before`, whoever wrote them: all of an aggregate in sequence.
    async fn pending(&self, before: Timestamp, limit: u32) -> Result<Vec<PendingEvent>, StoreError>;

    /// Everything pending of these aggregates, whoever wrote it: each in sequence.
    async fn pending_of(&self, aggregates: &[String]) -> Result<Vec<PendingEvent>, StoreError>;

    /// How many are pending and since when, whoever wrote them.
    async fn backlog(&self) -> Result<Backlog, StoreError>;

    /// Forgets exactly these, after the log has them durably.
    async fn clear(&self, published: Vec<PendingEventId>) -> Result<(), StoreError>;

    /// Whether the database can be read and, by its last commit, written. One that could not be written is written to
    /// anew, so that it counts again once its fault has passed.
    async fn check(&self) -> Result<(), StoreError>;
}
