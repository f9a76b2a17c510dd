//! The one thread that writes the file. It takes whatever has queued while the previous commit was in flight and commits
//! it in one go, copies of group offsets included. With nothing to do it sleeps.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::super::{LogError, TopicPartition, partition_of};
use super::memory::Memory;
use super::schema::{self, Copied, TopicIds};
use crate::domain::events::PendingEvent;
use crate::domain::time::Timestamp;

/// Copies of group offsets wait this long for an append that takes them along.
const COPIES_WAIT: Duration = Duration::from_secs(1);
/// The most events of one commit: bounds its time and memory.
const COMMIT_EVENTS: usize = 4_096;
/// Records that retention removes in one transaction, so that appends do not wait for it.
const RETENTION_CHUNK: i64 = 2_000;
const RETENTION_EVERY: Duration = Duration::from_secs(3_600);

pub(super) type Reply<T> = oneshot::Sender<Result<T, LogError>>;

pub(super) enum Command {
    /// The permit bounds the queue: it frees its place when the command is done.
    Append(Vec<PendingEvent>, Reply<()>, OwnedSemaphorePermit),
    /// Makes a group known, so that retention waits for it.
    Register(Vec<Copied>, Reply<()>),
    /// Removes what is older than this and read by all; answers how many records.
    Retain(Timestamp, Reply<u64>),
    /// There are copies to write.
    Copies,
    Stop,
}

pub(super) struct Writer {
    pub connection: Connection,
    pub ids: TopicIds,
    pub partitions: u32,
    pub memory: Arc<Mutex<Memory>>,
    pub retention: Option<Duration>,
}

struct Append {
    events: Vec<PendingEvent>,
    reply: Reply<()>,
    _place: OwnedSemaphorePermit,
}

/// Nothing that panics runs while the lock is held, so a poisoned state is a sound one.
pub(super) fn lock(memory: &Mutex<Memory>) -> MutexGuard<'_, Memory> {
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells the readers when the thread ends, however it ends.
struct CloseAtEnd(Arc<Mutex<Memory>>);

impl Drop for CloseAtEnd {
    fn drop(&mut self) {
        lock(&self.0).close();
    }
}

impl Writer {
    /// Works until it is stopped; everything that was queued before is still done.
    pub(super) fn run(self, commands: &Receiver<Command>) {
        let _close = CloseAtEnd(self.memory.clone());
        let mut copies_due: Option<Instant> = None;
        let mut retention_due = Instant::now();
        loop {
            let due = copies_due.map_or(retention_due, |copies| copies.min(retention_due));
            let command = match commands.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(command) => Some(command),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => Some(Command::Stop),
            };
            match command {
                Some(Command::Append(events, reply, place)) => {
                    let first = Append { events, reply, _place: place };
                    let (batch, next) = gather(first, commands);
                    if self.append(batch) {
                        copies_due = None;
                    }
                    if let Some(next) = next
                        && !self.other(next, &mut copies_due)
                    {
                        return;
                    }
                }
                Some(command) => {
                    if !self.other(command, &mut copies_due) {
                        return;
                    }
                }
                None => {}
            }
            let now = Instant::now();
            if copies_due.is_some_and(|due| due <= now) {
                copies_due = None;
                self.flush_copies();
            }
            if retention_due <= now {
                retention_due = now + RETENTION_EVERY;
                self.retain_by_age();
            }
        }
    }

    /// False: the thread is to end.
    fn other(&self, command: Command, copies_due: &mut Option<Instant>) -> bool {
        match command {
            // `gather` takes every append.
            Command::Append(events, reply, place) => {
                self.append(vec![Append { events, reply, _place: place }]);
            }
            Command::Register(copies, reply) => {
                let saved = schema::save_copies(&self.connection, &self.ids, &copies).map_err(schema::failure);
                if saved.is_ok() {
                    let mut memory = lock(&self.memory);
                    copies.iter().for_each(|copy| memory.load_copy(copy));
                }
                let _ = reply.send(saved);
            }
            Command::Retain(before, reply) => {
                let _ = reply.send(self.retain(before));
            }
            Command::Copies => *copies_due = Some(Instant::now() + COPIES_WAIT),
            Command::Stop => {
                self.flush_copies();
                return false;
            }
        }
        true
    }

    /// Commits the batch and answers everyone. True: it was committed, with the copies that waited.
    fn append(&self, batch: Vec<Append>) -> bool {
        let (events, replies): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|append| (append.events, (append.reply, append._place))).unzip();
        let copies = lock(&self.memory).take_dirty();
        let result = self.commit(events.into_iter().flatten(), &copies).map_err(schema::failure);
        match &result {
            Ok(()) => {}
            Err(error) => {
                tracing::error!(error = %error, "could not append to the event log");
                self.recover(&copies);
            }
        }
        for (reply, _place) in replies {
            let _ = reply.send(result.clone());
        }
        result.is_ok()
    }

    fn commit(&self, events: impl Iterator<Item = PendingEvent>, copies: &[Copied]) -> rusqlite::Result<()> {
        self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let mut ends: Vec<(TopicPartition, i64)> = Vec::new();
        let mut records = Vec::with_capacity(events.size_hint().0);
        {
            let mut insert = self.connection.prepare_cached(schema::INSERT)?;
            for event in events {
                let at = TopicPartition { topic: event.topic, partition: partition_of(&event.key, self.partitions) };
                let place = match ends.iter().position(|(known, _)| *known == at) {
                    Some(place) => place,
                    None => {
                        ends.push((at, lock(&self.memory).bounds(at).end));
                        ends.len() - 1
                    }
                };
                let offset = ends[place].1;
                ends[place].1 += 1;
                records.push(Arc::new(schema::insert(&mut insert, &self.ids, at, offset, event)?));
            }
        }
        schema::save_copies(&self.connection, &self.ids, copies)?;
        self.connection.prepare_cached("COMMIT")?.execute([])?;
        lock(&self.memory).append(records);
        Ok(())
    }

    /// After a commit whose outcome is unknown: what the file holds is the truth.
    fn recover(&self, copies: &[Copied]) {
        if !self.connection.is_autocommit() {
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        let mut memory = lock(&self.memory);
        for at in memory.all_partitions() {
            if let Ok(bounds) = schema::bounds(&self.connection, &self.ids, at)
                && (bounds.0, bounds.1) != (memory.bounds(at).start, memory.bounds(at).end)
            {
                memory.set_bounds(at, bounds);
            }
        }
        memory.redo(copies);
    }

    fn flush_copies(&self) {
        let copies = lock(&self.memory).take_dirty();
        if copies.is_empty() {
            return;
        }
        let save = || -> rusqlite::Result<()> {
            let transaction = self.connection.unchecked_transaction()?;
            schema::save_copies(&transaction, &self.ids, &copies)?;
            transaction.commit()
        };
        if let Err(error) = save() {
            tracing::warn!(error = %error, "could not save copies of group offsets");
            lock(&self.memory).redo(&copies);
        }
    }

    fn retain_by_age(&self) {
        let Some(retention) = self.retention else { return };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let before = now.saturating_sub(retention).as_millis();
        match self.retain(Timestamp(i64::try_from(before).unwrap_or(0))) {
            Ok(0) => {}
            Ok(records) => tracing::info!(records, "removed old records from the event log"),
            Err(error) => tracing::warn!(error = %error, "could not remove old records from the event log"),
        }
    }

    /// Removes what is older than `before` and read by every group. The newest record of a partition stays: it carries
    /// the partition's end.
    fn retain(&self, before: Timestamp) -> Result<u64, LogError> {
        let partitions = lock(&self.memory).all_partitions();
        let mut removed = 0;
        for at in partitions {
            loop {
                let (bounds, unread) = {
                    let memory = lock(&self.memory);
                    (memory.bounds(at), memory.unread_from(at))
                };
                let to = unread.min(bounds.end - 1);
                if to <= bounds.start {
                    break;
                }
                let range = (bounds.start, to);
                let (start, more) = schema::remove_old(&self.connection, &self.ids, at, range, before, RETENTION_CHUNK)
                    .map_err(schema::failure)?;
                removed += (start - bounds.start) as u64;
                lock(&self.memory).set_start(at, start);
                if !more {
                    break;
                }
            }
        }
        Ok(removed)
    }
}

/// Takes the appends that have queued behind the first, and what follows them.
fn gather(first: Append, commands: &Receiver<Command>) -> (Vec<Append>, Option<Command>) {
    let mut events = first.events.len();
    let mut batch = vec![first];
    while events < COMMIT_EVENTS {
        match commands.try_recv() {
            Ok(Command::Append(more, reply, place)) => {
                events += more.len();
                batch.push(Append { events: more, reply, _place: place });
            }
            Ok(Command::Copies) => {}
            Ok(other) => return (batch, Some(other)),
            Err(_) => break,
        }
    }
    (batch, None)
}
