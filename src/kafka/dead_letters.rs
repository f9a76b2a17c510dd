//! Dead letters: events that failed for good.
//!
//! The failing domain saves a letter as a pending event together with its offset move; the event travels over the topic
//! `dead-letter-queue`; the group `dead-letters` keeps it in the operations store. A replay carries the original event
//! back to its topic, addressed to the one group that failed.

use std::sync::Arc;

use async_trait::async_trait;

use super::Record;
use super::consumer::{BatchHandler, BatchOutcome, ConsumedEvent, EventFailure, HandlerError};
use super::envelope;
use crate::domain::events::{
    HEADER_ORIGIN, HEADER_REPLAY_GROUP, HEADER_ROUND, PendingEvent, Topic, event_type, source,
};
use crate::domain::page::{Page, PageRequest};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::consumption::{Consumption, StoredRecord};
use crate::store::operations::{DeadLetter, OperationsStore, SettleDeadLetter};

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

fn is_replay_header(name: &str) -> bool {
    [HEADER_REPLAY_GROUP, HEADER_ROUND, HEADER_ORIGIN].contains(&name)
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
        discarded_at: None,
    }
}

/// The event by which a letter travels to the operations store.
pub(super) fn letter_event(letter: &DeadLetter, source: &'static str) -> PendingEvent {
    let (topic, id) = (Topic::DeadLetterQueue, letter.id.clone());
    PendingEvent::new(topic, source, event_type::DEAD_LETTER, id, 1, letter.failed_at, letter)
}

/// Why a letter cannot go back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotReplayable {
    #[error("its topic {0} is none of the shop's")]
    UnknownTopic(String),
    #[error("it has no header {0}: it was no event and would fail again")]
    MissingHeader(&'static str),
}

/// The event that carries a letter's record back to the group that failed. The same letter gives the same event id.
pub fn replay_event(letter: &DeadLetter, now: Timestamp) -> Result<PendingEvent, NotReplayable> {
    let record = &letter.record;
    let topic = Topic::named(&record.topic).ok_or_else(|| NotReplayable::UnknownTopic(record.topic.clone()))?;
    let attribute = |name: &'static str| {
        let header = record.headers.iter().find(|(known, _)| known == name);
        header.map(|(_, value)| value.clone().into()).ok_or(NotReplayable::MissingHeader(name))
    };
    let kept = |name: &str| !envelope::is_attribute(name) && !is_replay_header(name);
    let mut headers: Vec<(String, String)> = record.headers.iter().filter(|(name, _)| kept(name)).cloned().collect();
    let origin = format!("{}/{}/{}", record.topic, record.partition, record.offset);
    headers.push((HEADER_REPLAY_GROUP.to_owned(), letter.source.clone()));
    headers.push((HEADER_ROUND.to_owned(), (letter.round + 1).to_string()));
    headers.push((HEADER_ORIGIN.to_owned(), origin));
    Ok(PendingEvent {
        topic,
        aggregate: format!("replay/{}", letter.id),
        sequence: 1,
        key: record.key.clone(),
        event_type: attribute(envelope::TYPE)?,
        source: attribute(envelope::SOURCE)?,
        at: now,
        body: record.body.clone(),
        headers,
    })
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
        Ok(self.store.add_dead_letters(letters, consumption).await?.into())
    }
}

/// What a replay did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replay {
    Settled(SettleDeadLetter),
    NotReplayable(NotReplayable),
}

/// Newest first; `open_only` leaves out what was replayed or discarded.
pub async fn list(
    store: &dyn OperationsStore,
    group: Option<&str>,
    open_only: bool,
    page: &PageRequest,
) -> Result<Page<DeadLetter>, StoreError> {
    store.list_dead_letters(group, open_only, page).await
}

/// Sends a letter's event back to the group that failed on it. A letter is replayed once; when it fails again it is a
/// new letter of the next round.
pub async fn replay(store: &dyn OperationsStore, id: &str, now: Timestamp) -> Result<Replay, StoreError> {
    let Some(letter) = store.dead_letters(&[id.to_owned()]).await?.pop() else {
        return Ok(Replay::Settled(SettleDeadLetter::NotFound));
    };
    match replay_event(&letter, now) {
        Ok(event) => store.replay_dead_letter(id, event, now).await.map(Replay::Settled),
        Err(reason) => Ok(Replay::NotReplayable(reason)),
    }
}

/// Marks a letter as not to be replayed.
pub async fn discard(
    store: &dyn OperationsStore,
    id: &str,
    by: &str,
    now: Timestamp,
) -> Result<SettleDeadLetter, StoreError> {
    store.discard_dead_letter(id, by, now).await
}
