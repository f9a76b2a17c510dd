//! Readers of the embedded log: a group's consumer and a tail.

use std::future::pending;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Notify;

use super::super::{Bounds, Delivery, GroupConsumer, LogError, Tail, Tailed, TopicPartition};
use super::memory::Taken;
use super::writer::{Command, lock};
use super::{Shared, closed};
use crate::domain::events::Topic;

/// The most records that a tail gets at once.
const TAIL_BATCH: usize = 1_000;

/// A group's reader. The process is the only one, so it has every partition until a newer reader of the group takes
/// them.
pub(super) struct EmbeddedConsumer {
    shared: Arc<Shared>,
    id: u64,
    wake: Arc<Notify>,
    group: String,
    partitions: Vec<TopicPartition>,
    told: Told,
}

/// What the reader has heard about its partitions.
#[derive(PartialEq)]
enum Told {
    Nothing,
    Assigned,
    Revoked,
}

impl EmbeddedConsumer {
    pub(super) fn new(shared: Arc<Shared>, group: &str, topics: &[Topic]) -> Self {
        let (id, wake, partitions) = {
            let mut memory = lock(&shared.memory);
            let (id, wake) = memory.add_reader(topics, Some(group));
            (id, wake, memory.partitions_of(topics))
        };
        Self { shared, id, wake, group: group.to_owned(), partitions, told: Told::Nothing }
    }
}

impl Drop for EmbeddedConsumer {
    fn drop(&mut self) {
        lock(&self.shared.memory).remove_reader(self.id);
    }
}

#[async_trait]
impl GroupConsumer for EmbeddedConsumer {
    async fn next(&mut self, max: usize) -> Result<Delivery, LogError> {
        loop {
            if !lock(&self.shared.memory).owns(&self.group, self.id) {
                if self.told != Told::Assigned {
                    return pending().await;
                }
                self.told = Told::Revoked;
                lock(&self.shared.memory).release(self.id);
                return Ok(Delivery::Revoked(self.partitions.clone()));
            }
            if self.told == Told::Nothing {
                self.told = Told::Assigned;
                return Ok(Delivery::Assigned(self.partitions.clone()));
            }
            let taken = lock(&self.shared.memory).take(self.id, max);
            match taken {
                Taken::Records(records) => return Ok(Delivery::Records(records)),
                Taken::Behind(ranges) => {
                    let records = self.shared.read(ranges).await?;
                    let mut memory = lock(&self.shared.memory);
                    records.iter().for_each(|record| memory.advance_past(self.id, record));
                    return Ok(Delivery::Records(records));
                }
                Taken::Closed => return Err(closed()),
                Taken::Nothing => self.wake.notified().await,
            }
        }
    }

    async fn bounds(&mut self, partition: TopicPartition) -> Result<Bounds, LogError> {
        Ok(lock(&self.shared.memory).bounds(partition))
    }

    async fn seek(&mut self, partition: TopicPartition, offset: i64) -> Result<(), LogError> {
        let mut memory = lock(&self.shared.memory);
        if memory.owns(&self.group, self.id) {
            memory.seek(self.id, partition, offset);
        }
        Ok(())
    }

    fn commit(&mut self, partition: TopicPartition, next_offset: i64) {
        let tell = lock(&self.shared.memory).commit(&self.group, partition, next_offset);
        if tell {
            // A writer that has ended writes no copies; the domain's database has the offset.
            let _ = self.shared.commands.send(Command::Copies);
        }
    }
}

/// Sees what is appended from its making on, from memory only: one that falls behind is told so and goes on at the end.
pub(super) struct EmbeddedTail {
    shared: Arc<Shared>,
    id: u64,
    wake: Arc<Notify>,
}

impl EmbeddedTail {
    pub(super) fn new(shared: Arc<Shared>, topics: &[Topic]) -> Self {
        let (id, wake) = lock(&shared.memory).add_reader(topics, None);
        Self { shared, id, wake }
    }
}

impl Drop for EmbeddedTail {
    fn drop(&mut self) {
        lock(&self.shared.memory).remove_reader(self.id);
    }
}

#[async_trait]
impl Tail for EmbeddedTail {
    async fn next(&mut self) -> Result<Tailed, LogError> {
        loop {
            let taken = {
                let mut memory = lock(&self.shared.memory);
                if memory.skip_to_end(self.id) {
                    return Ok(Tailed::LostPlace);
                }
                memory.take(self.id, TAIL_BATCH)
            };
            match taken {
                Taken::Records(records) => return Ok(Tailed::Records(records)),
                // Ruled out by `skip_to_end` under the same lock.
                Taken::Behind(_) => return Ok(Tailed::LostPlace),
                Taken::Closed => return Err(closed()),
                Taken::Nothing => self.wake.notified().await,
            }
        }
    }
}
