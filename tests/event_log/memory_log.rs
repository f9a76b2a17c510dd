//! An event log in memory, for tests in virtual time: a thread of its own would not be waited for there. It passes the
//! same conformance suite, and can be made to fail.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use souk::domain::events::{PendingEvent, Topic};
use souk::kafka::{
    Bounds, Delivery, EventLog, GroupConsumer, LogError, Progress, Record, Tail, Tailed, TopicPartition, check_size,
    envelope,
};
use tokio::sync::watch;

#[derive(Default)]
struct State {
    partitions: BTreeMap<TopicPartition, (i64, Vec<Arc<Record>>)>,
    groups: HashMap<String, BTreeMap<TopicPartition, i64>>,
    owners: HashMap<String, u64>,
    readers: u64,
}

pub struct MemoryLog {
    partitions: i32,
    state: Mutex<State>,
    appended: watch::Sender<u64>,
    /// Appends fail without effect.
    pub down: AtomicBool,
    /// Appends take effect and are answered with a failure, this many times.
    pub unknown_outcomes: AtomicUsize,
}

impl MemoryLog {
    pub fn new(partitions: i32) -> Arc<Self> {
        Arc::new(Self {
            partitions,
            state: Mutex::default(),
            appended: watch::Sender::new(0),
            down: AtomicBool::new(false),
            unknown_outcomes: AtomicUsize::new(0),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn of(&self, topics: &[Topic]) -> Vec<TopicPartition> {
        let partitions = 0..self.partitions;
        topics
            .iter()
            .flat_map(|&topic| partitions.clone().map(move |p| TopicPartition { topic, partition: p }))
            .collect()
    }

    /// Forgets the oldest records, or with a new start behind the end the whole log.
    pub fn cut(&self, at: TopicPartition, start: i64) {
        let mut state = self.state();
        let (first, records) = state.partitions.entry(at).or_default();
        records.drain(..((start - *first).max(0) as usize).min(records.len()));
        *first = start;
    }

    pub fn records(&self, topic: Topic) -> Vec<Arc<Record>> {
        let state = self.state();
        let of_topic = state.partitions.iter().filter(|(at, _)| at.topic == topic);
        of_topic.flat_map(|(_, (_, records))| records.iter().cloned()).collect()
    }

    /// Appends a record as it is, whatever its headers.
    pub fn append_raw(&self, topic: Topic, key: &str, headers: Vec<souk::kafka::Header>, body: &str) {
        let partition = (key.bytes().map(i32::from).sum::<i32>()) % self.partitions;
        let mut state = self.state();
        let (first, records) = state.partitions.entry(TopicPartition { topic, partition }).or_default();
        let offset = *first + records.len() as i64;
        let record = Record { topic, partition, offset, key: key.to_owned(), headers, body: body.to_owned() };
        records.push(Arc::new(record));
        drop(state);
        self.appended.send_modify(|count| *count += 1);
    }
}

/// The port's handle: readers hold the log.
#[derive(Clone)]
pub struct Handle(pub Arc<MemoryLog>);

#[async_trait]
impl EventLog for Handle {
    async fn append(&self, events: Vec<PendingEvent>) -> Result<(), LogError> {
        tokio::task::yield_now().await;
        events.iter().try_for_each(check_size)?;
        if self.0.down.load(Ordering::SeqCst) {
            return Err(LogError::Unavailable("down".to_owned()));
        }
        for event in events {
            let topic = event.topic;
            let (key, headers, body) = envelope::headers_of(event);
            self.0.append_raw(topic, &key, headers, &body);
        }
        let unknown = self.0.unknown_outcomes.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if unknown.is_ok() { Err(LogError::Unavailable("no answer".to_owned())) } else { Ok(()) }
    }

    async fn consumer(&self, group: &str, topics: &[Topic], _: Duration) -> Result<Box<dyn GroupConsumer>, LogError> {
        let partitions = self.0.of(topics);
        let mut state = self.0.state();
        state.readers += 1;
        let id = state.readers;
        state.owners.insert(group.to_owned(), id);
        let copies = state.groups.entry(group.to_owned()).or_default();
        partitions.iter().for_each(|&at| {
            copies.entry(at).or_insert(0);
        });
        drop(state);
        self.0.appended.send_modify(|count| *count += 1);
        let appended = self.0.appended.subscribe();
        let (log, group, positions) = (self.0.clone(), group.to_owned(), BTreeMap::new());
        Ok(Box::new(Consumer { log, id, group, partitions, positions, appended, assigned: false, revoked: false }))
    }

    async fn tail(&self, topics: &[Topic]) -> Result<Box<dyn Tail>, LogError> {
        let appended = self.0.appended.subscribe();
        let positions = self.0.of(topics).into_iter().map(|at| (at, end(&self.0.state(), at))).collect();
        Ok(Box::new(Follower { log: self.0.clone(), positions, appended }))
    }

    async fn progress(&self) -> Result<Vec<(String, Vec<Progress>)>, LogError> {
        let state = self.0.state();
        let of_group = |copies: &BTreeMap<TopicPartition, i64>| {
            copies.iter().map(|(&at, &committed)| Progress { partition: at, committed, end: end(&state, at) }).collect()
        };
        Ok(state.groups.iter().map(|(group, copies)| (group.clone(), of_group(copies))).collect())
    }
}

fn end(state: &State, at: TopicPartition) -> i64 {
    state.partitions.get(&at).map_or(0, |(first, records)| first + records.len() as i64)
}

fn read(state: &State, positions: &mut BTreeMap<TopicPartition, i64>, max: usize) -> Vec<Arc<Record>> {
    let mut read = Vec::new();
    for (at, position) in positions {
        let Some((first, records)) = state.partitions.get(at) else { continue };
        let skip = (*position - first).max(0) as usize;
        let before = read.len();
        read.extend(records.iter().skip(skip).take(max - before).cloned());
        *position += (read.len() - before) as i64;
    }
    read
}

struct Consumer {
    log: Arc<MemoryLog>,
    id: u64,
    group: String,
    partitions: Vec<TopicPartition>,
    positions: BTreeMap<TopicPartition, i64>,
    appended: watch::Receiver<u64>,
    assigned: bool,
    revoked: bool,
}

#[async_trait]
impl GroupConsumer for Consumer {
    async fn next(&mut self, max: usize) -> Result<Delivery, LogError> {
        loop {
            self.appended.borrow_and_update();
            {
                let state = self.log.state();
                if state.owners.get(&self.group) != Some(&self.id) {
                    if !std::mem::replace(&mut self.revoked, true) && self.assigned {
                        return Ok(Delivery::Revoked(self.partitions.clone()));
                    }
                } else if !std::mem::replace(&mut self.assigned, true) {
                    return Ok(Delivery::Assigned(self.partitions.clone()));
                } else {
                    let records = read(&state, &mut self.positions, max);
                    if !records.is_empty() {
                        return Ok(Delivery::Records(records));
                    }
                }
            }
            let _ = self.appended.changed().await;
        }
    }

    async fn bounds(&mut self, at: TopicPartition) -> Result<Bounds, LogError> {
        let state = self.log.state();
        let start = state.partitions.get(&at).map_or(0, |(first, _)| *first);
        Ok(Bounds { start, end: end(&state, at) })
    }

    async fn seek(&mut self, at: TopicPartition, offset: i64) -> Result<(), LogError> {
        self.positions.insert(at, offset);
        Ok(())
    }

    fn commit(&mut self, at: TopicPartition, next_offset: i64) {
        let mut state = self.log.state();
        if let Some(copy) = state.groups.get_mut(&self.group).and_then(|copies| copies.get_mut(&at)) {
            *copy = next_offset.max(*copy);
        }
    }
}

struct Follower {
    log: Arc<MemoryLog>,
    positions: BTreeMap<TopicPartition, i64>,
    appended: watch::Receiver<u64>,
}

#[async_trait]
impl Tail for Follower {
    async fn next(&mut self) -> Result<Tailed, LogError> {
        loop {
            self.appended.borrow_and_update();
            let records = read(&self.log.state(), &mut self.positions, 100);
            if !records.is_empty() {
                return Ok(Tailed::Records(records));
            }
            let _ = self.appended.changed().await;
        }
    }
}
