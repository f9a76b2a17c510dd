//! The embedded event log: one SQLite file, `events.db`.
//!
//! Appends queue to one writer thread, which commits whatever has queued (durably) and then hands the records to the
//! readers of this process through memory. Readers are woken, they never poll; the file is read only by one that starts
//! or has fallen behind. One process appends: the server, which holds the data folder's lock.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::Connection;
use tokio::sync::{Semaphore, oneshot};

use super::{EventLog, GroupConsumer, LogError, Progress, Record, Tail, TopicPartition, check_size};
use crate::domain::events::{PendingEvent, Topic};
use crate::domain::time::Timestamp;
use memory::Memory;
use reader::{EmbeddedConsumer, EmbeddedTail};
use schema::{Copied, TopicIds};
use writer::{Command, Reply, Writer, lock};

mod memory;
mod reader;
mod schema;
mod writer;

/// The file's name under the data folder.
pub const FILE_NAME: &str = "events.db";
/// Appends that may wait for the writer; further callers wait for a place.
const QUEUE: usize = 256;

#[derive(Debug, Clone)]
pub struct EmbeddedLogOptions {
    /// Partitions of each topic, fixed when the log is made.
    pub partitions: u32,
    /// How long records are kept that every group has read; `None` keeps them all.
    pub retention: Option<Duration>,
}

impl Default for EmbeddedLogOptions {
    fn default() -> Self {
        Self { partitions: 8, retention: Some(Duration::from_secs(30 * 24 * 3_600)) }
    }
}

/// The log in a SQLite file. Dropping it closes it.
pub struct EmbeddedLog {
    shared: Arc<Shared>,
    queue: Arc<Semaphore>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// What readers hold of the log.
struct Shared {
    path: PathBuf,
    ids: TopicIds,
    memory: Arc<Mutex<Memory>>,
    commands: Sender<Command>,
    /// Connections for reading; as many as readers have ever needed at once.
    connections: Mutex<Vec<Connection>>,
}

impl EmbeddedLog {
    /// Opens `events.db` in this folder, or makes it. Blocks for as long as the file takes.
    pub fn open(data_dir: &Path, options: &EmbeddedLogOptions) -> Result<Self, LogError> {
        if !(1..=schema::MAX_PARTITIONS).contains(&options.partitions) {
            let limit = schema::MAX_PARTITIONS;
            return Err(LogError::Broken(format!("{} partitions: 1 to {limit} are possible", options.partitions)));
        }
        let path = data_dir.join(FILE_NAME);
        let (connection, ids, _) = schema::open_writer(&path, options.partitions)?;
        let mut memory = Memory::new(options.partitions as usize);
        for at in memory.all_partitions() {
            memory.set_bounds(at, schema::bounds(&connection, &ids, at).map_err(schema::failure)?);
        }
        for copy in schema::load_copies(&connection).map_err(schema::failure)? {
            memory.load_copy(&copy);
        }
        let memory = Arc::new(Mutex::new(memory));
        let (commands, inbox) = channel();
        let writer = Writer {
            connection,
            ids,
            partitions: options.partitions,
            memory: memory.clone(),
            retention: options.retention,
        };
        let writer = std::thread::Builder::new()
            .name("souk-events".to_owned())
            .spawn(move || writer.run(&inbox))
            .map_err(|error| LogError::Unavailable(format!("no thread for the writer: {error}")))?;
        let shared = Arc::new(Shared { path, ids, memory, commands, connections: Mutex::default() });
        Ok(Self { shared, queue: Arc::new(Semaphore::new(QUEUE)), writer: Mutex::new(Some(writer)) })
    }

    /// Writes what was accepted and ends the thread that writes. Blocks; later calls are refused.
    pub fn close(&self) {
        let _ = self.shared.commands.send(Command::Stop);
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            let _ = writer.join();
        }
    }

    /// Removes now what is older than `before` and read by every group; the log also does it by itself, at start and
    /// every hour. Returns the number of records removed.
    pub async fn retain(&self, before: Timestamp) -> Result<u64, LogError> {
        self.shared.ask(|reply| Command::Retain(before, reply)).await
    }
}

/// Brings `events.db` of this folder to this version's schema, or makes it: the versions before and after. Blocks.
pub fn migrate(data_dir: &Path, options: &EmbeddedLogOptions) -> Result<(u32, u32), LogError> {
    let (_, _, from) = schema::open_writer(&data_dir.join(FILE_NAME), options.partitions)?;
    Ok((from, schema::SCHEMA_VERSION))
}

/// Looks at `events.db` and changes nothing; false: it is not there, a start makes it. Blocks.
pub fn inspect(data_dir: &Path, options: &EmbeddedLogOptions) -> Result<bool, LogError> {
    let path = data_dir.join(FILE_NAME);
    let there = path.try_exists().map_err(|error| LogError::Broken(error.to_string()))?;
    if there {
        schema::inspect(&path, options.partitions)?;
    }
    Ok(there)
}

impl Drop for EmbeddedLog {
    fn drop(&mut self) {
        self.close();
    }
}

#[async_trait]
impl EventLog for EmbeddedLog {
    async fn append(&self, events: Vec<PendingEvent>) -> Result<(), LogError> {
        events.iter().try_for_each(check_size)?;
        if events.is_empty() {
            return Ok(());
        }
        let place = self.queue.clone().acquire_owned().await.map_err(|_| closed())?;
        self.shared.ask(|reply| Command::Append(events, reply, place)).await
    }

    async fn consumer(&self, group: &str, topics: &[Topic], _: Duration) -> Result<Box<dyn GroupConsumer>, LogError> {
        let partitions = lock(&self.shared.memory).partitions_of(topics);
        if !lock(&self.shared.memory).knows(group, &partitions) {
            let copies = partitions.iter().map(|&at| Copied { group: group.to_owned(), at, next_offset: 0 }).collect();
            self.shared.ask(|reply| Command::Register(copies, reply)).await?;
        }
        Ok(Box::new(EmbeddedConsumer::new(self.shared.clone(), group, topics)))
    }

    async fn tail(&self, topics: &[Topic]) -> Result<Box<dyn Tail>, LogError> {
        Ok(Box::new(EmbeddedTail::new(self.shared.clone(), topics)))
    }

    async fn progress(&self) -> Result<Vec<(String, Vec<Progress>)>, LogError> {
        let memory = lock(&self.shared.memory);
        if memory.closed { Err(closed()) } else { Ok(memory.progress()) }
    }
}

fn closed() -> LogError {
    LogError::Unavailable("its writer has ended".to_owned())
}

impl Shared {
    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, LogError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    /// Reads ranges from the file, on a thread that may block.
    async fn read(
        self: &Arc<Self>,
        ranges: Vec<(TopicPartition, (i64, i64), usize)>,
    ) -> Result<Vec<Arc<Record>>, LogError> {
        let shared = self.clone();
        tokio::task::spawn_blocking(move || shared.read_blocking(&ranges))
            .await
            .map_err(|error| LogError::Unavailable(format!("reading failed: {error}")))?
    }

    fn read_blocking(&self, ranges: &[(TopicPartition, (i64, i64), usize)]) -> Result<Vec<Arc<Record>>, LogError> {
        let pooled = self.connections.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match pooled {
            Some(connection) => connection,
            None => schema::open_reader(&self.path)?,
        };
        let mut records = Vec::new();
        for &(at, range, limit) in ranges {
            let read = schema::read(&connection, &self.ids, at, range, limit).map_err(schema::failure)?;
            if read.is_empty() {
                return Err(LogError::Broken(format!("{at} has no record at {}", range.0)));
            }
            records.extend(read.into_iter().map(Arc::new));
        }
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        Ok(records)
    }
}
