//! The one thread that writes the file. It takes whatever has queued while the previous commit was in flight and commits
//! it in one go, copies of group offsets included. With nothing to do it sleeps.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::super::{LogError, TopicPartition};
use super::memory::Memory;
use super::schema::{self, Copied, TopicIds};
use crate::domain::events::{PendingEvent, partition_of};
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

/// A retention under way: one chunk a turn of the thread, with the appends that have queued in between.
struct Pass {
    before: Timestamp,
    /// Still to be gone through, the next one last.
    partitions: Vec<TopicPartition>,
    removed: u64,
    /// Who asked; nobody of one by age.
    reply: Option<Reply<u64>>,
}

struct Append {
    events: Vec<PendingEvent>,
    reply: Reply<()>,
    place: OwnedSemaphorePermit,
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
        let mut passes = VecDeque::new();
        loop {
            let mut due = copies_due.map_or(retention_due, |copies| copies.min(retention_due));
            if !passes.is_empty() {
                due = Instant::now();
            }
            let command = match commands.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(command) => Some(command),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => Some(Command::Stop),
            };
            let command = match command {
                Some(Command::Append(events, reply, place)) => {
                    let (batch, next) = gather(Append { events, reply, place }, commands);
                    if self.append(batch) {
                        copies_due = None;
                    }
                    next
                }
                command => command,
            };
            if let Some(command) = command
                && !self.other(command, &mut copies_due, &mut passes)
            {
                return;
            }
            let now = Instant::now();
            if copies_due.is_some_and(|due| due <= now) {
                copies_due = None;
                self.flush_copies();
            }
            if retention_due <= now {
                retention_due = now + RETENTION_EVERY;
                passes.extend(self.pass_by_age());
            }
            if let Some(pass) = passes.pop_front() {
                passes.extend(self.retain_chunk(pass));
            }
        }
    }

    /// False: the thread is to end.
    fn other(&self, command: Command, copies_due: &mut Option<Instant>, passes: &mut VecDeque<Pass>) -> bool {
        match command {
            // `gather` takes every append.
            Command::Append(events, reply, place) => {
                self.append(vec![Append { events, reply, place }]);
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
                passes.push_back(self.pass(before, Some(reply)));
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
            batch.into_iter().map(|append| (append.events, (append.reply, append.place))).unzip();
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
                let at =
                    TopicPartition { topic: event.topic, partition: partition_of(&event.key, self.partitions) as i32 };
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

    fn pass(&self, before: Timestamp, reply: Option<Reply<u64>>) -> Pass {
        Pass { before, partitions: lock(&self.memory).all_partitions(), removed: 0, reply }
    }

    fn pass_by_age(&self) -> Option<Pass> {
        let retention = self.retention?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let before = now.saturating_sub(retention).as_millis();
        Some(self.pass(Timestamp(i64::try_from(before).unwrap_or(0)), None))
    }

    /// Goes on with a pass until it has removed a chunk; the pass when it has not ended.
    fn retain_chunk(&self, mut pass: Pass) -> Option<Pass> {
        while let Some(&at) = pass.partitions.last() {
            match self.remove_old(at, pass.before) {
                Ok((removed, more)) => {
                    pass.removed += removed;
                    if !more {
                        pass.partitions.pop();
                    }
                    if removed > 0 {
                        return Some(pass);
                    }
                }
                Err(error) => {
                    end_pass(pass, Some(error));
                    return None;
                }
            }
        }
        end_pass(pass, None);
        None
    }

    /// Removes a chunk of what is older than `before` and read by every group; how many records that were, and whether
    /// there may be more. The newest record of a partition stays: it carries the partition's end.
    fn remove_old(&self, at: TopicPartition, before: Timestamp) -> Result<(u64, bool), LogError> {
        let (bounds, unread) = {
            let memory = lock(&self.memory);
            (memory.bounds(at), memory.unread_from(at))
        };
        let to = unread.min(bounds.end - 1);
        if to <= bounds.start {
            return Ok((0, false));
        }
        let range = (bounds.start, to);
        let (start, more) = schema::remove_old(&self.connection, &self.ids, at, range, before, RETENTION_CHUNK)
            .map_err(schema::failure)?;
        lock(&self.memory).set_start(at, start);
        Ok(((start - bounds.start) as u64, more))
    }
}

fn end_pass(pass: Pass, failed: Option<LogError>) {
    match (pass.reply, failed) {
        (Some(reply), failed) => {
            let _ = reply.send(failed.map_or(Ok(pass.removed), Err));
        }
        (None, Some(error)) => tracing::warn!(error = %error, "could not remove old records from the event log"),
        (None, None) if pass.removed > 0 => {
            tracing::info!(records = pass.removed, "removed old records from the event log");
        }
        (None, None) => {}
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
                batch.push(Append { events: more, reply, place });
            }
            Ok(Command::Copies) => {}
            Ok(other) => return (batch, Some(other)),
            Err(_) => break,
        }
    }
    (batch, None)
}
