//! Dead letters: events that failed for good.
//!
//! The failing domain saves a letter as a pending event together with its offset move; the event travels over the topic
//! `dead-letter-queue`; the group `dead-letters` keeps it in the operations store, which tells so on the same topic. A
//! replay (`actors/operations`) carries the original event back to its topic, addressed to the one group that failed.

use std::sync::Arc;

use async_trait::async_trait;

use super::Record;
use super::consumer::{BatchHandler, BatchOutcome, ConsumedEvent, EventFailure, HandlerError};
use crate::actors::clock::now;
use crate::domain::dead_letters::{DeadLetter, is_replay_header};
use crate::domain::events::{
    HEADER_ORIGIN, HEADER_ROUND, PendingEvent, StoredRecord, Topic, event_type, header, source,
};
use crate::domain::time::Timestamp;
use crate::store::consumption::Consumption;
use crate::store::operations::OperationsStore;

/// The group that keeps dead letters.
pub const GROUP: &str = "dead-letters";

/// Who took part in an event's failure: where it was first, and how often it has been replayed.
struct Origin {
    topic: String,
    partition: i32,
    offset: i64,
    round: u32,
}

impl Origin {
    fn of(record: &Record) -> Self {
        let here = || Self {
            topic: record.topic.name().to_owned(),
            partition: record.partition,
            offset: record.offset,
            round: 0,
        };
        let replayed = || {
            let mut parts = record.header(HEADER_ORIGIN)?.rsplitn(3, '/');
            let offset = parts.next()?.parse().ok()?;
            let partition = parts.next()?.parse().ok()?;
            let topic = parts.next()?.to_owned();
            Some(Self { topic, partition, offset, round: record.header(HEADER_ROUND)?.parse().ok()? })
        };
        replayed().unwrap_or_else(here)
    }
}

/// The letter of a record that `group` gives up. A replayed record's letter names the original place.
pub(super) fn letter(group: &str, record: &Record, reason: &str, attempts: u32, now: Timestamp) -> DeadLetter {
    let Origin { topic, partition, offset, round } = Origin::of(record);
    let mut stored = record.to_stored();
    stored.headers.retain(|(name, _)| !is_replay_header(name));
    let id = format!("{group}/{topic}/{partition}/{offset}/{round}");
    let record = StoredRecord { topic, partition, offset, ..stored };
    DeadLetter {
        id,
        source: group.to_owned(),
        reason: reason.to_owned(),
        attempts,
        record,
        round,
        failed_at: now,
        replayed_at: None,
        replayed_by: None,
        discarded_at: None,
        discarded_by: None,
    }
}

/// The event by which a letter travels to the operations store.
pub(super) fn letter_event(letter: &DeadLetter, source: &'static str) -> PendingEvent {
    let (topic, id) = (Topic::DeadLetterQueue, letter.id.clone());
    let mut event = PendingEvent::new(topic, source, event_type::DEAD_LETTER, id, 1, letter.failed_at, letter);
    if let Some((_, cause)) = letter.record.headers.iter().find(|(name, _)| name == header::TRACEPARENT) {
        event.follow(cause);
    }
    event
}

/// Keeps the letters that arrive on `dead-letter-queue`.
pub struct DeadLetterKeeper {
    store: Arc<dyn OperationsStore>,
}

impl DeadLetterKeeper {
    pub const SOURCE: &'static str = source::OPERATIONS;
    pub const TOPICS: [Topic; 1] = [Topic::DeadLetterQueue];

    pub fn new(store: Arc<dyn OperationsStore>) -> Self {
        Self { store }
    }
}

#[async_trait]
impl BatchHandler for DeadLetterKeeper {
    fn wants(&self, event_type: &str) -> bool {
        event_type == event_type::DEAD_LETTER
    }

    async fn handle(&self, events: &[ConsumedEvent], consumption: Consumption) -> Result<BatchOutcome, HandlerError> {
        let mut letters = Vec::with_capacity(events.len());
        let mut failures = Vec::new();
        for (position, event) in events.iter().enumerate() {
            match event.body::<DeadLetter>() {
                Ok(letter) => letters.push(letter),
                Err(error) => failures.push(EventFailure::undecodable(position, &error)),
            }
        }
        if !failures.is_empty() {
            return Ok(BatchOutcome::Failed(failures));
        }
        Ok(self.store.add_dead_letters(letters, consumption, now()).await?.into())
    }
}
