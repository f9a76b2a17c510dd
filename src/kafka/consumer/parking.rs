//! Events that wait for another attempt, and those of their keys behind them: this process's copy of what the domain's
//! database holds.
//!
//! The first event of a key is the one that is tried again; those behind it have no attempt yet and become due the
//! moment they are first. The database has due times of the wall clock; here they are instants, at most the longest
//! backoff ahead, so that a clock that is put back holds nothing up.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use super::super::TopicPartition;
use crate::domain::events::Topic;
use crate::domain::time::Timestamp;
use crate::store::consumption::{Consumption, ParkedEvent};

#[derive(Default)]
pub(super) struct Parking {
    keys: HashMap<TopicPartition, HashMap<String, BTreeMap<i64, Parked>>>,
    /// The first event of each key: when it is due, and where it is.
    due: BTreeSet<(Instant, TopicPartition, String)>,
    /// The key of each parked event.
    places: HashMap<(TopicPartition, i64), String>,
}

struct Parked {
    due: Instant,
    event: ParkedEvent,
}

/// What time it is where due times are understood.
#[derive(Clone, Copy)]
pub(super) struct WallClock {
    pub now: Timestamp,
    /// No event waits longer.
    pub longest_wait: Duration,
}

impl WallClock {
    fn instant_of(self, at: Timestamp) -> Instant {
        let wait = Duration::from_millis(u64::try_from(at.millis_since(self.now)).unwrap_or(0));
        Instant::now() + wait.min(self.longest_wait)
    }
}

fn place(event: &ParkedEvent) -> Option<TopicPartition> {
    Some(TopicPartition { topic: Topic::named(&event.record.topic)?, partition: event.record.partition })
}

impl Parking {
    /// What is parked of these partitions.
    pub(super) fn load(
        parked: Vec<ParkedEvent>,
        mut owned: impl FnMut(TopicPartition) -> bool,
        clock: WallClock,
    ) -> Self {
        let mut parking = Self::default();
        for event in parked {
            if place(&event).is_some_and(&mut owned) {
                parking.insert(event, clock);
            }
        }
        parking
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn holds(&self, at: TopicPartition, key: &str) -> bool {
        self.keys.get(&at).is_some_and(|keys| keys.contains_key(key))
    }

    /// Whether the event is the first of its key.
    pub(super) fn is_first(&self, at: TopicPartition, key: &str, offset: i64) -> bool {
        let events = self.keys.get(&at).and_then(|keys| keys.get(key));
        events.and_then(BTreeMap::first_key_value).is_some_and(|(first, _)| *first == offset)
    }

    /// When the next attempt is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(at, ..)| *at)
    }

    /// What to try now. An event that has failed before comes alone: when it fails again it disturbs no other. Of keys
    /// whose first event has had no attempt yet come all up to the next that has, at most `max` together.
    pub(super) fn take_due(&self, max: usize) -> Vec<ParkedEvent> {
        let (mut batch, now) = (Vec::new(), Instant::now());
        for (_, at, key) in self.due.iter().take_while(|(due, ..)| *due <= now) {
            let Some(events) = self.keys.get(at).and_then(|keys| keys.get(key)) else { continue };
            for Parked { event, .. } in events.values() {
                if event.attempts > 0 {
                    if batch.is_empty() {
                        return vec![event.clone()];
                    }
                    break;
                }
                batch.push(event.clone());
                if batch.len() == max {
                    return batch;
                }
            }
        }
        batch
    }

    /// Takes over what was committed.
    pub(super) fn apply(&mut self, consumption: Consumption, clock: WallClock) {
        for (topic, partition, offset) in consumption.unpark {
            let Some(topic) = Topic::named(&topic) else { continue };
            self.remove(TopicPartition { topic, partition }, offset);
        }
        for event in consumption.park {
            self.insert(event, clock);
        }
    }

    pub(super) fn forget(&mut self, at: TopicPartition) {
        if self.keys.remove(&at).is_some() {
            self.places.retain(|(known, _), _| *known != at);
            self.due.retain(|(_, known, _)| *known != at);
        }
    }

    fn insert(&mut self, event: ParkedEvent, clock: WallClock) {
        let Some(at) = place(&event) else { return };
        let (key, offset) = (event.record.key.clone(), event.record.offset);
        self.places.insert((at, offset), key.clone());
        self.change(at, key, |events| {
            events.insert(offset, Parked { due: clock.instant_of(event.next_attempt_at), event });
        });
    }

    fn remove(&mut self, at: TopicPartition, offset: i64) {
        let Some(key) = self.places.remove(&(at, offset)) else { return };
        self.change(at, key, |events| {
            events.remove(&offset);
        });
    }

    /// Changes the events of a key and keeps what is due in step.
    fn change(&mut self, at: TopicPartition, key: String, change: impl FnOnce(&mut BTreeMap<i64, Parked>)) {
        let keys = self.keys.entry(at).or_default();
        let events = keys.entry(key.clone()).or_default();
        if let Some(first) = events.values().next() {
            self.due.remove(&(first.due, at, key.clone()));
        }
        change(events);
        match events.values().next() {
            Some(first) => {
                self.due.insert((first.due, at, key));
            }
            None => {
                keys.remove(&key);
            }
        }
    }
}
