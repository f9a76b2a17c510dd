//! A batch on its way: the events for the handler, and what its commit changes besides their effects.

use std::collections::HashSet;
use std::sync::Arc;

use super::super::dead_letters;
use super::super::{Record, TopicPartition};
use super::{ConsumedEvent, ConsumerSettings, ConsumerStats, EventFailure};
use crate::domain::events::Topic;
use crate::domain::time::Timestamp;
use crate::store::consumption::{Consumption, ParkedEvent};

/// The longest error text that is kept with an event.
const MAX_ERROR_CHARS: usize = 1_000;

pub(super) struct Batch {
    pub events: Vec<ConsumedEvent>,
    pub consumption: Consumption,
    /// Why each of the consumption's dead letters is one, and the topic that it came from.
    buried: Vec<(String, Topic)>,
    /// The events are parked in the database already: they come from there, not from the log.
    parked: bool,
}

/// What a failure is judged by.
pub(super) struct Judgement<'a> {
    pub group: &'a str,
    pub settings: &'a ConsumerSettings,
    pub now: Timestamp,
}

impl Batch {
    /// An empty batch of records from the log.
    pub(super) fn fresh(group: &str) -> Self {
        let consumption = Consumption { group: group.to_owned(), ..Consumption::default() };
        Self { events: Vec::new(), consumption, buried: Vec::new(), parked: false }
    }

    /// Another attempt at these. Success settles them all.
    pub(super) fn retry<'e>(group: &str, events: impl Iterator<Item = &'e ParkedEvent>) -> Self {
        let mut batch = Self { parked: true, ..Self::fresh(group) };
        for event in events {
            let Some(record) = Record::from_stored(event.record.clone()) else { continue };
            batch.consumption.unpark.push(parked_id(&record));
            batch.events.push(ConsumedEvent { record: Arc::new(record), attempt: event.attempts + 1 });
        }
        batch
    }

    /// Nothing in it needs a commit.
    pub(super) fn is_empty(&self) -> bool {
        let consumption = &self.consumption;
        self.events.is_empty()
            && consumption.park.is_empty()
            && consumption.unpark.is_empty()
            && consumption.dead_letters.is_empty()
    }

    /// Sets a fresh record aside behind an earlier one of its key.
    pub(super) fn park_behind(&mut self, record: &Record, now: Timestamp) {
        self.consumption.park.push(ParkedEvent {
            record: record.to_stored(),
            attempts: 0,
            next_attempt_at: now,
            last_error: String::new(),
        });
    }

    pub(super) fn bury(&mut self, record: &Record, reason: &str, attempts: u32, judgement: &Judgement<'_>) {
        let letter = dead_letters::letter(judgement.group, record, reason, attempts, judgement.now);
        let event = dead_letters::letter_event(&letter, judgement.settings.source);
        // A replay that was published twice fails twice with one letter.
        if self.consumption.dead_letters.iter().all(|known| known.id() != event.id()) {
            self.buried.push((letter.reason, record.topic));
            self.consumption.dead_letters.push(event);
        }
    }

    /// Takes the failed events out: parked for another attempt, or dead letters; what follows a parked one of its key
    /// waits behind it.
    pub(super) fn fail(&mut self, failures: &[EventFailure], judgement: &Judgement<'_>) {
        let mut blocked: HashSet<(TopicPartition, String)> = HashSet::new();
        for (position, event) in std::mem::take(&mut self.events).into_iter().enumerate() {
            let record = event.record.clone();
            let failure = failures.iter().find(|failure| failure.position == position);
            if blocked.contains(&(record.place(), record.key.clone())) {
                if self.parked {
                    self.keep_parked(&record);
                } else {
                    self.park_behind(&record, judgement.now);
                }
            } else if let Some(failure) = failure {
                let error: String = failure.error.chars().take(MAX_ERROR_CHARS).collect();
                if !failure.retry || event.attempt >= judgement.settings.max_attempts {
                    self.bury(&record, &error, event.attempt, judgement);
                } else {
                    self.park(&event, error, judgement);
                    blocked.insert((record.place(), record.key.clone()));
                }
            } else {
                self.events.push(event);
            }
        }
    }

    fn park(&mut self, event: &ConsumedEvent, last_error: String, judgement: &Judgement<'_>) {
        // One that was parked stays in `unpark` too: it is parked anew only if it still is parked. An attempt whose
        // outcome was unknown may have settled it.
        let record = &event.record;
        self.consumption.park.push(ParkedEvent {
            record: record.to_stored(),
            attempts: event.attempt,
            next_attempt_at: judgement.now.plus_millis(judgement.settings.retry.delay_ms(event.attempt)),
            last_error,
        });
    }

    /// Tells what failed, once it is committed.
    pub(super) fn log_failures(&self) {
        let consumption = &self.consumption;
        for event in consumption.park.iter().filter(|event| event.attempts > 0) {
            let ParkedEvent { record, attempts, last_error, .. } = event;
            tracing::warn!(
                group = consumption.group,
                topic = record.topic,
                partition = record.partition,
                offset = record.offset,
                attempts,
                error = last_error,
                "event failed and is tried again later"
            );
        }
        for (event, (reason, _)) in consumption.dead_letters.iter().zip(&self.buried) {
            tracing::error!(
                group = consumption.group,
                letter = event.aggregate,
                error = reason,
                "event is a dead letter"
            );
        }
    }

    /// Counts what was done, once it is committed.
    pub(super) fn count_by_topic(&self, stats: &ConsumerStats) {
        self.events.iter().for_each(|event| stats.handled.add(event.record.topic));
        self.buried.iter().for_each(|(_, topic)| stats.dead_letters.add(*topic));
        let failed = self.consumption.park.iter().filter(|event| event.attempts > 0);
        failed.filter_map(|event| Topic::named(&event.record.topic)).for_each(|topic| stats.failed_attempts.add(topic));
    }

    fn keep_parked(&mut self, record: &Record) {
        let id = parked_id(record);
        self.consumption.unpark.retain(|known| *known != id);
    }
}

fn parked_id(record: &Record) -> (String, i32, i64) {
    (record.topic.name().to_owned(), record.partition, record.offset)
}
