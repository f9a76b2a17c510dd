//! Dead letters: events that failed for good.
//!
//! The failing domain saves a letter as a pending event together with its offset move; the event travels over the topic
//! `dead-letter-queue`; the group `dead-letters` keeps it in the operations store, which tells so on the same topic. A
//! replay (`actors/operations`) carries the original event back to its topic, addressed to the one group that failed.

use std::sync::Arc;

use async_trait::async_trait;

use super::consumer::{BatchHandler, BatchOutcome, ConsumedEvent, EventFailure, HandlerError};
use super::{MAX_DEAD_LETTER_BYTES, Record};
use crate::actors::clock::now;
use crate::domain::dead_letters::{DeadLetter, is_replay_header};
use crate::domain::events::{
    HEADER_ORIGIN, HEADER_ROUND, PendingEvent, StoredRecord, Topic, event_type, header, source,
};
use crate::domain::time::Timestamp;
use crate::store::consumption::Consumption;
use crate::store::operations::OperationsStore;
use crate::telemetry::trace_context::TraceParent;

/// The most bytes that a record's copy takes in the text of its letter; the rest is for what the letter says itself.
const COPY_BYTES: usize = MAX_DEAD_LETTER_BYTES - 64 * 1024;

/// What a header takes in the text of a letter besides its name and value.
const HEADER_FRAME_BYTES: usize = 8;
/// The longest reason that is kept, in characters: it may quote what was wrong.
const MAX_REASON: usize = 500;

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
            let topic = Topic::named(parts.next()?)?.name().to_owned();
            Some(Self { topic, partition, offset, round: record.header(HEADER_ROUND)?.parse().ok()? })
        };
        replayed().unwrap_or_else(here)
    }
}

/// Bytes of a character in a JSON string.
fn escaped_bytes(character: char) -> usize {
    match character {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        control if control < ' ' => 6,
        other => other.len_utf8(),
    }
}

/// Keeps the beginning of a text that has room; true when something had none.
fn cut(text: &mut String, room: &mut usize) -> bool {
    let mut kept = 0;
    for character in text.chars() {
        let Some(left) = room.checked_sub(escaped_bytes(character)) else { break };
        *room = left;
        kept += character.len_utf8();
    }
    let was_cut = kept < text.len();
    text.truncate(kept);
    was_cut
}

/// Keeps of a record what fits into a letter; true when that is not all. Only what is no JSON grows that much by its
/// escapes, or what came over the topic of the letters itself: neither can be done over.
fn cut_copy(record: &mut StoredRecord) -> bool {
    let mut room = COPY_BYTES;
    let mut was_cut = cut(&mut record.key, &mut room);
    let mut kept = 0;
    for (name, value) in &mut record.headers {
        let Some(left) = room.checked_sub(HEADER_FRAME_BYTES) else { break };
        room = left;
        kept += 1;
        was_cut |= cut(name, &mut room) | cut(value, &mut room);
    }
    was_cut |= kept < record.headers.len();
    record.headers.truncate(kept);
    was_cut | cut(&mut record.body, &mut room)
}

/// The letter of a record that `group` gives up. A replayed record's letter names the original place. What is too large for
/// a letter is cut, which its reason says.
pub(super) fn letter(group: &str, record: &Record, reason: &str, attempts: u32, now: Timestamp) -> DeadLetter {
    let Origin { topic, partition, offset, round } = Origin::of(record);
    let mut stored = record.to_stored();
    stored.headers.retain(|(name, _)| !is_replay_header(name));
    let id = format!("{group}/{topic}/{partition}/{offset}/{round}");
    let mut record = StoredRecord { topic, partition, offset, ..stored };
    let mut reason: String = reason.chars().take(MAX_REASON).collect();
    if cut_copy(&mut record) {
        reason.push_str(" (too large: cut here)");
    }
    DeadLetter {
        id,
        source: group.to_owned(),
        reason,
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
    let cause = letter.record.headers.iter().find(|(name, _)| name == header::TRACEPARENT);
    if let Some(cause) = cause.and_then(|(_, cause)| TraceParent::parse(cause)) {
        event.follow(&cause.to_string());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::{MAX_EVENT_BYTES, check_size};

    fn record(topic: Topic, header: &str, body: String) -> Record {
        let headers = vec![("note".into(), header.to_owned().into())];
        Record { topic, partition: 0, offset: 7, key: "ord_1".into(), headers, body }
    }

    #[test]
    fn a_foreign_record_makes_no_letter_too_large_by_its_headers_or_its_reason() {
        let bytes = "\"".repeat(MAX_EVENT_BYTES);
        let many = vec![("a".into(), "\u{1}\u{1}".into()); 400_000];
        let traced = vec![(header::TRACEPARENT.into(), bytes.clone().into())];
        let replayed = vec![(HEADER_ORIGIN.into(), format!("{bytes}/0/1").into()), (HEADER_ROUND.into(), "1".into())];
        for headers in [many, traced, replayed] {
            let record = Record { headers, ..record(Topic::DeadLetterQueue, "", bytes.repeat(3)) };
            let letter = letter("dead-letters", &record, &bytes, 1, Timestamp(1));
            check_size(&letter_event(&letter, source::OPERATIONS)).unwrap();
            assert_eq!(letter.id, "dead-letters/dead-letter-queue/0/7/0");
        }
    }

    #[test]
    fn whatever_fails_becomes_a_letter_that_the_log_takes() {
        let full = MAX_EVENT_BYTES - 1_000;
        for (topic, header, body, whole) in [
            (Topic::OrderEvents, "a note".to_owned(), "\u{1}".repeat(full), false),
            (Topic::OrderEvents, "\u{1}".repeat(full), String::new(), false),
            (Topic::OrderEvents, "a note".to_owned(), "\"".repeat(full), true),
            (Topic::OrderEvents, "a note".to_owned(), "é".repeat(full / 2), true),
            (Topic::DeadLetterQueue, "a note".to_owned(), "\\".repeat(4 * full), false),
        ] {
            let record = record(topic, &header, body.clone());
            let letter = letter("inventory", &record, "cannot be read", 1, Timestamp(1));
            check_size(&letter_event(&letter, source::OPERATIONS)).unwrap();
            assert_eq!(letter.record == record.to_stored(), whole, "{topic:?}");
            assert_eq!(letter.reason == "cannot be read", whole, "{}", letter.reason);
            assert!(body.starts_with(&letter.record.body) && letter.record.key == "ord_1");
        }
    }
}
