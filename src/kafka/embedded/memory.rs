//! What the writer and the readers of this process share: where each partition starts and ends, the records that a
//! reader has still to take, and how far everyone has come.
//!
//! A record stays in memory until every reader of its topic has taken it, so a consumer that keeps up never touches
//! SQLite; one that falls behind by more than [`PARTITION_BYTES`] reads the rest from the file.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tokio::sync::Notify;

use super::super::{Bounds, Progress, Record, TopicPartition};
use super::schema::Copied;
use crate::domain::events::Topic;

/// The most that a partition keeps for slow readers.
const PARTITION_BYTES: usize = 2 * 1024 * 1024;

pub(super) struct Memory {
    partitions: usize,
    slots: Vec<Slot>,
    readers: HashMap<u64, Reader>,
    last_reader: u64,
    groups: HashMap<String, Group>,
    copies_dirty: bool,
    /// The writer has ended: nothing comes any more.
    pub closed: bool,
}

#[derive(Default)]
struct Slot {
    bounds: (i64, i64),
    /// The newest records, without a gap, up to the end.
    recent: VecDeque<Arc<Record>>,
    bytes: usize,
}

impl Slot {
    fn oldest(&self) -> i64 {
        self.bounds.1 - self.recent.len() as i64
    }

    fn drop_oldest(&mut self) {
        if let Some(record) = self.recent.pop_front() {
            self.bytes -= weight(&record);
        }
        if self.recent.is_empty() && self.recent.capacity() > 64 {
            self.recent = VecDeque::new();
        }
    }
}

fn weight(record: &Record) -> usize {
    // The headers and the allocations around them.
    record.key.len() + record.body.len() + 512
}

struct Reader {
    topics: Vec<Topic>,
    wake: Arc<Notify>,
    /// By slot: the next offset; `None` of a partition that is not read (yet).
    positions: Vec<Option<i64>>,
    /// The slot at which the next read starts, so that no partition waits for ever behind the others.
    turn: usize,
    /// Its partitions are another's for good. It may not know yet, and must not hold on to records meanwhile.
    released: bool,
}

#[derive(Default)]
struct Group {
    /// By slot; `None` where the group does not read.
    copies: Vec<Option<i64>>,
    dirty: Vec<usize>,
    /// The reader that has the partitions.
    owner: Option<u64>,
}

/// What a reader can have now.
pub(super) enum Taken {
    Records(Vec<Arc<Record>>),
    /// Only the file has it: these ranges, each with its fair part of the batch.
    Behind(Vec<(TopicPartition, (i64, i64), usize)>),
    Nothing,
    Closed,
}

impl Memory {
    pub(super) fn new(partitions: usize) -> Self {
        let slots = (0..Topic::ALL.len() * partitions).map(|_| Slot::default()).collect();
        Self {
            partitions,
            slots,
            readers: HashMap::new(),
            last_reader: 0,
            groups: HashMap::new(),
            copies_dirty: false,
            closed: false,
        }
    }

    fn slot(&self, at: TopicPartition) -> usize {
        at.topic as usize * self.partitions + at.partition as usize
    }

    fn at(&self, slot: usize) -> TopicPartition {
        TopicPartition { topic: Topic::ALL[slot / self.partitions], partition: (slot % self.partitions) as i32 }
    }

    pub(super) fn all_partitions(&self) -> Vec<TopicPartition> {
        (0..self.slots.len()).map(|slot| self.at(slot)).collect()
    }

    pub(super) fn partitions_of(&self, topics: &[Topic]) -> Vec<TopicPartition> {
        self.all_partitions().into_iter().filter(|at| topics.contains(&at.topic)).collect()
    }

    pub(super) fn bounds(&self, at: TopicPartition) -> Bounds {
        let (start, end) = self.slots[self.slot(at)].bounds;
        Bounds { start, end }
    }

    /// Sets the bounds as the file has them, after opening or a failed commit; nothing stays in memory.
    pub(super) fn set_bounds(&mut self, at: TopicPartition, bounds: (i64, i64)) {
        let slot = self.slot(at);
        self.slots[slot] = Slot { bounds, ..Slot::default() };
    }

    pub(super) fn set_start(&mut self, at: TopicPartition, start: i64) {
        let slot = self.slot(at);
        self.slots[slot].bounds.0 = start;
    }

    /// Takes in what the writer has committed and wakes whoever reads those topics.
    pub(super) fn append(&mut self, records: Vec<Arc<Record>>) {
        let mut topics = [false; Topic::ALL.len()];
        let mut touched = Vec::new();
        for record in records {
            topics[record.topic as usize] = true;
            let slot = self.slot(record.place());
            if !touched.contains(&slot) {
                touched.push(slot);
            }
            let state = &mut self.slots[slot];
            debug_assert_eq!(record.offset, state.bounds.1, "a partition has no gaps");
            state.bounds.1 = record.offset + 1;
            state.bytes += weight(&record);
            state.recent.push_back(record);
        }
        for slot in touched {
            self.trim(slot);
        }
        for reader in self.readers.values() {
            if reader.topics.iter().any(|&topic| topics[topic as usize]) {
                reader.wake.notify_one();
            }
        }
    }

    /// Drops what every reader has taken, and the oldest beyond the limit.
    fn trim(&mut self, slot: usize) {
        let wanted = self.readers.values().filter_map(|reader| reader.positions[slot]).min().unwrap_or(i64::MAX);
        let state = &mut self.slots[slot];
        while !state.recent.is_empty() && (state.oldest() < wanted || state.bytes > PARTITION_BYTES) {
            state.drop_oldest();
        }
    }

    /// A reader that begins at the end of every partition (a tail), or nowhere until it seeks (a group's).
    pub(super) fn add_reader(&mut self, topics: &[Topic], group: Option<&str>) -> (u64, Arc<Notify>) {
        self.last_reader += 1;
        let id = self.last_reader;
        let mut positions = vec![None; self.slots.len()];
        if let Some(group) = group {
            let group = self.groups.entry(group.to_owned()).or_default();
            let earlier = group.owner.replace(id);
            if let Some(earlier) = earlier {
                // It may be stuck on a thread that was given up and never come to release them itself.
                self.release(earlier);
                if let Some(earlier) = self.readers.get(&earlier) {
                    earlier.wake.notify_one();
                }
            }
        } else {
            for at in self.partitions_of(topics) {
                let slot = self.slot(at);
                positions[slot] = Some(self.slots[slot].bounds.1);
            }
        }
        let wake = Arc::new(Notify::new());
        let reader = Reader { topics: topics.to_vec(), wake: wake.clone(), positions, turn: 0, released: false };
        self.readers.insert(id, reader);
        (id, wake)
    }

    pub(super) fn remove_reader(&mut self, id: u64) {
        self.readers.remove(&id);
        for slot in 0..self.slots.len() {
            self.trim(slot);
        }
    }

    pub(super) fn owns(&self, group: &str, id: u64) -> bool {
        self.groups.get(group).is_some_and(|group| group.owner == Some(id))
    }

    /// Stops reading: the partitions are another's.
    pub(super) fn release(&mut self, id: u64) {
        if let Some(reader) = self.readers.get_mut(&id) {
            reader.positions.fill(None);
            reader.released = true;
        }
        for slot in 0..self.slots.len() {
            self.trim(slot);
        }
    }

    pub(super) fn seek(&mut self, id: u64, at: TopicPartition, offset: i64) {
        let slot = self.slot(at);
        self.set_position(id, slot, offset);
        self.trim(slot);
    }

    /// The next records of a reader, at most `max`, of every partition that has some.
    pub(super) fn take(&mut self, id: u64, max: usize) -> Taken {
        if self.closed {
            return Taken::Closed;
        }
        let Some(reader) = self.readers.get(&id) else { return Taken::Closed };
        let count = self.slots.len();
        let ready: Vec<usize> = (0..count)
            .map(|step| (reader.turn + step) % count)
            .filter(|&slot| reader.positions[slot].is_some_and(|position| position < self.slots[slot].bounds.1))
            .collect();
        let Some(&first) = ready.first() else { return Taken::Nothing };
        let share = (max / ready.len()).max(1);
        let from_file = self.is_behind(id, first);
        let mut records = Vec::new();
        let mut behind = Vec::new();
        let mut room = max;
        // Whichever partition's turn it is decides between memory and file, so that neither waits for ever.
        for slot in ready.into_iter().filter(|&slot| self.is_behind(id, slot) == from_file).collect::<Vec<_>>() {
            let Some(position) = self.readers[&id].positions[slot] else { continue };
            let limit = share.min(room);
            if limit == 0 {
                break;
            }
            let state = &self.slots[slot];
            if from_file {
                let (start, end) = state.bounds;
                behind.push((self.at(slot), (position.max(start), end), limit));
                room -= limit;
                continue;
            }
            let before = records.len();
            let skip = (position - state.oldest()) as usize;
            records.extend(state.recent.iter().skip(skip).take(limit).cloned());
            let taken = records.len() - before;
            room -= taken;
            self.advance(id, slot, position + taken as i64);
        }
        if let Some(reader) = self.readers.get_mut(&id) {
            reader.turn = first + 1;
        }
        if from_file { Taken::Behind(behind) } else { Taken::Records(records) }
    }

    fn is_behind(&self, id: u64, slot: usize) -> bool {
        self.readers[&id].positions[slot].is_some_and(|position| position < self.slots[slot].oldest())
    }

    fn advance(&mut self, id: u64, slot: usize, position: i64) {
        self.set_position(id, slot, position);
        self.trim(slot);
    }

    fn set_position(&mut self, id: u64, slot: usize, position: i64) {
        if let Some(reader) = self.readers.get_mut(&id).filter(|reader| !reader.released) {
            reader.positions[slot] = Some(position);
        }
    }

    /// Notes what a reader got from the file.
    pub(super) fn advance_past(&mut self, id: u64, record: &Record) {
        let slot = self.slot(record.place());
        self.advance(id, slot, record.offset + 1);
    }

    /// Moves a tail that has fallen behind to the end. True: it had.
    pub(super) fn skip_to_end(&mut self, id: u64) -> bool {
        let Some(reader) = self.readers.get_mut(&id) else { return false };
        let mut skipped = Vec::new();
        for (slot, position) in reader.positions.iter_mut().enumerate() {
            if let Some(position) = position
                && *position != self.slots[slot].bounds.1
                && (*position < self.slots[slot].oldest() || *position > self.slots[slot].bounds.1)
            {
                *position = self.slots[slot].bounds.1;
                skipped.push(slot);
            }
        }
        for &slot in &skipped {
            self.trim(slot);
        }
        !skipped.is_empty()
    }

    /// Nothing is written any more: wakes everyone to see it.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.readers.values().for_each(|reader| reader.wake.notify_one());
    }

    /// Whether the log knows the group as a reader of all of these.
    pub(super) fn knows(&self, group: &str, partitions: &[TopicPartition]) -> bool {
        self.groups.get(group).is_some_and(|known| {
            partitions.iter().all(|&at| known.copies.get(self.slot(at)).is_some_and(Option::is_some))
        })
    }

    pub(super) fn load_copy(&mut self, copy: &Copied) {
        // Of a partition that does not exist: the file was changed by hand.
        if copy.at.partition < 0 || copy.at.partition as usize >= self.partitions {
            return;
        }
        let (slot, count) = (self.slot(copy.at), self.slots.len());
        let group = self.groups.entry(copy.group.clone()).or_default();
        group.copies.resize(count, None);
        group.copies[slot] = group.copies[slot].max(Some(copy.next_offset));
    }

    /// Notes a copy to be written. True: the writer has to be told that there are some.
    pub(super) fn commit(&mut self, group: &str, at: TopicPartition, next_offset: i64) -> bool {
        let slot = self.slot(at);
        let Some(group) = self.groups.get_mut(group) else { return false };
        let Some(Some(copy)) = group.copies.get_mut(slot) else { return false };
        if *copy >= next_offset {
            return false;
        }
        *copy = next_offset;
        if !group.dirty.contains(&slot) {
            group.dirty.push(slot);
        }
        !std::mem::replace(&mut self.copies_dirty, true)
    }

    /// The copies that changed since they were last taken.
    pub(super) fn take_dirty(&mut self) -> Vec<Copied> {
        if !std::mem::replace(&mut self.copies_dirty, false) {
            return Vec::new();
        }
        let partitions = self.partitions;
        let mut copies = Vec::new();
        for (name, group) in &mut self.groups {
            for slot in std::mem::take(&mut group.dirty) {
                let Some(next_offset) = group.copies[slot] else { continue };
                let topic = Topic::ALL[slot / partitions];
                let at = TopicPartition { topic, partition: (slot % partitions) as i32 };
                copies.push(Copied { group: name.clone(), at, next_offset });
            }
        }
        copies
    }

    /// Takes copies back that could not be written; they wait for the next append.
    pub(super) fn redo(&mut self, copies: &[Copied]) {
        for copy in copies {
            let slot = self.slot(copy.at);
            if let Some(group) = self.groups.get_mut(&copy.group)
                && !group.dirty.contains(&slot)
            {
                group.dirty.push(slot);
                self.copies_dirty = true;
            }
        }
    }

    /// The first offset that some group has still to read; the end where no group reads.
    pub(super) fn unread_from(&self, at: TopicPartition) -> i64 {
        let slot = self.slot(at);
        let read = self.groups.values().filter_map(|group| group.copies.get(slot).copied().flatten()).min();
        let end = self.slots[slot].bounds.1;
        read.map_or(end, |read| read.min(end))
    }

    pub(super) fn progress(&self) -> Vec<(String, Vec<Progress>)> {
        let of_group = |group: &Group| {
            let known = group.copies.iter().enumerate();
            known
                .filter_map(|(slot, copy)| {
                    let (end, committed) = (self.slots[slot].bounds.1, (*copy)?);
                    Some(Progress { partition: self.at(slot), committed, end })
                })
                .collect()
        };
        self.groups.iter().map(|(name, group)| (name.clone(), of_group(group))).collect()
    }
}
