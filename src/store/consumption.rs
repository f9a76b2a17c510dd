//! How far each consumer group has come, and what it has set aside.
//!
//! The offset moves in the transaction of the effect, by condition: when the stored offset is not the one the consumer
//! started from, another process owns the partition now and nothing is written.

use std::collections::HashMap;

use async_trait::async_trait;

use super::StoreError;
pub use crate::domain::events::StoredRecord;
use crate::domain::events::{PendingEvent, Topic};
use crate::domain::time::Timestamp;
use crate::telemetry::trace_context::TraceParent;

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
    /// What the events that the effect emits follow from.
    pub causes: Causes,
}

/// The traces of the events of a batch. An event that its effect emits goes on with the trace of the one that has its
/// aggregate, or its key, for a key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Causes(HashMap<String, TraceParent>);

impl Causes {
    /// Known by the key of the event, and by its id where several have that key.
    pub fn add(&mut self, name: &str, cause: TraceParent) {
        self.0.insert(name.to_owned(), cause);
    }

    pub fn of(&self, name: &str) -> Option<TraceParent> {
        self.0.get(name).copied()
    }

    /// Puts an emitted event into its cause's trace; `otherwise` is the cause of those that nothing here is known of.
    pub fn trace(&self, event: &mut PendingEvent, otherwise: Option<TraceParent>) {
        let cause = self.of(&event.aggregate).or_else(|| self.of(&event.key)).or(otherwise);
        if let Some(cause) = cause {
            event.follow(&cause.to_string());
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::events::{event_type, source};

    #[test]
    fn an_event_follows_the_cause_of_its_aggregate_then_of_its_key_and_keeps_the_one_that_it_has() {
        let cause = |digit: char| {
            let header = format!("00-{}-{}-01", String::from(digit).repeat(32), String::from(digit).repeat(16));
            TraceParent::parse(&header).unwrap()
        };
        let mut causes = Causes::default();
        causes.add("ord_1", cause('1'));
        causes.add("usr_1", cause('2'));
        let event = |aggregate: &str, key: &str| {
            let (topic, kind) = (Topic::OrderEvents, event_type::ORDER_CONFIRMED);
            let event = PendingEvent::new(topic, source::ORDERS, kind, aggregate.into(), 1, Timestamp(1), &"");
            PendingEvent { key: key.into(), ..event }
        };
        let traced = |mut event: PendingEvent, otherwise| {
            causes.trace(&mut event, otherwise);
            event.headers
        };
        let header = |digit| vec![("traceparent".to_owned(), cause(digit).to_string())];
        assert_eq!(traced(event("ord_1", "usr_1"), None), header('1'));
        assert_eq!(traced(event("ntf_1", "usr_1"), None), header('2'));
        assert_eq!(traced(event("ntf_1", "usr_2"), Some(cause('3'))), header('3'));
        assert_eq!(traced(event("ntf_1", "usr_2"), None), []);
        let mut own = event("ord_1", "ord_1");
        own.follow(&cause('4').to_string());
        assert_eq!(traced(own, None), header('4'));
    }
}
