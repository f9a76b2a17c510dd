//! One SQLite file: a writer thread that commits in batches, readers that never wait for it, and the shared tables.
//!
//! A call is one hop to a thread that owns a connection and one hop back; no connection is ever shared. Other processes
//! may open the same file: WAL and the busy timeout order their writes with ours.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::Instrument;

use super::failure::Failure;
use super::migrations::{Migrated, Migration, OpenError, migrate};
use super::queue::{Closed, Popped, Queue};
pub use super::writer::Write;
use super::writer::{Announcer, CommittedSender, Job, Writer, data_version, panic_message};
use super::{consumption, outbox};
use crate::domain::events::PendingEvent;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::consumption::{Consumed, Consumption, ParkedEvent, StoredOffset};
use crate::store::outbox::{Backlog, PendingEventId};
use crate::telemetry::traces;

/// How long a statement waits for a lock of another process.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Jobs that wait for a thread; further callers wait for room.
const QUEUE_CAPACITY: usize = 1024;
const READERS: usize = 2;
/// Statements that a connection keeps prepared: more than any domain has.
const STATEMENTS: usize = 128;
/// Domains whose files hold what is erased with an account: what is deleted there is overwritten, not only unlinked.
const PERSONAL: [&str; 3] = ["users", "recommendations", "notifications"];
/// Commits that the relay may lie behind before it has to sweep.
const COMMITTED_CAPACITY: usize = 256;

type ReadJob = Box<dyn FnOnce(&Connection) + Send>;

/// A handle to a file; clones share its threads. Dropping the last one closes the file.
#[derive(Clone)]
pub struct Database {
    inner: Arc<Inner>,
}

struct Inner {
    domain: &'static str,
    writes: Arc<Queue<Job>>,
    reads: Arc<Queue<ReadJob>>,
    readers: Mutex<Vec<JoinHandle<()>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    committed: CommittedSender,
    sweep: watch::Receiver<u64>,
    write_failed: Arc<AtomicBool>,
}

impl Database {
    /// Opens a file, makes it if it is missing, and brings it to the newest version.
    pub(super) fn open(
        path: &Path,
        domain: &'static str,
        migrations: &[Migration],
    ) -> Result<(Self, Migrated), OpenError> {
        let failed = |source| OpenError::Sqlite { path: path.to_owned(), source };
        let thread_failed = |source| OpenError::Thread { path: path.to_owned(), source };
        let mut connection = connect(path, false).map_err(failed)?;
        connection.pragma_update(None, "secure_delete", PERSONAL.contains(&domain)).map_err(failed)?;
        let migrated = migrate(&mut connection, path, migrations)?;
        let writes = Arc::new(Queue::new(QUEUE_CAPACITY));
        let reads = Arc::new(Queue::new(QUEUE_CAPACITY));
        let committed = CommittedSender::default();
        let (sweep, sweep_asked) = watch::channel(0);
        let write_failed = Arc::new(AtomicBool::new(false));
        let inner = Arc::new(Inner {
            domain,
            writes: Arc::clone(&writes),
            reads: Arc::clone(&reads),
            readers: Mutex::new(Vec::new()),
            writer: Mutex::new(None),
            committed: Arc::clone(&committed),
            sweep: sweep_asked,
            write_failed: Arc::clone(&write_failed),
        });
        for number in 0..READERS {
            let connection = connect(path, true).map_err(failed)?;
            let reads = Arc::clone(&reads);
            let thread = std::thread::Builder::new()
                .name(format!("{domain}-r{number}"))
                .spawn(move || read_jobs(&connection, &reads))
                .map_err(thread_failed)?;
            lock(&inner.readers).push(thread);
        }
        let writer = Writer {
            data_version: data_version(&connection).map_err(failed)?,
            connection,
            queue: writes,
            announcer: Announcer { committed, sweep, behind: false },
            durable: true,
            failed: write_failed,
        };
        let thread = std::thread::Builder::new()
            .name(format!("{domain}-w"))
            .spawn(move || writer.run())
            .map_err(thread_failed)?;
        *lock(&inner.writer) = Some(thread);
        Ok((Self { inner }, migrated))
    }

    /// Finishes what was accepted, folds the WAL into the file and ends the threads. Blocks; later calls are refused.
    pub fn close(&self) {
        self.inner.close();
    }

    /// Runs a job in a transaction and answers after its commit. What it emits is saved with it.
    pub(super) async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        F: FnOnce(&mut Write<'_>) -> Result<T, Failure> + Send + 'static,
        T: Send + 'static,
    {
        self.enqueue(false, work).await
    }

    /// Runs a job on a consistent snapshot that holds every write answered before.
    pub(super) async fn read<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        F: FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
        T: Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job: ReadJob = Box::new(move |connection| {
            if reply.is_closed() {
                return;
            }
            let outcome = catch_unwind(AssertUnwindSafe(|| snapshot(connection, work)));
            let outcome = outcome.unwrap_or_else(|panic| Err(Failure::Broken(panic_message(&*panic))));
            // Nobody waits any more when the caller has given up.
            let _ = reply.send(outcome.map_err(StoreError::from));
        });
        self.inner.reads.push(job).await.map_err(closed)?;
        answer.await.map_err(|_| closed(Closed))?
    }

    /// Runs a job that a crash may take back: it joins the next commit, or is written without waiting for the disk.
    pub(super) async fn ride_along<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        F: FnOnce(&mut Write<'_>) -> Result<T, Failure> + Send + 'static,
        T: Send + 'static,
    {
        self.enqueue(true, work).await
    }

    async fn enqueue<T, F>(&self, rider: bool, work: F) -> Result<T, StoreError>
    where
        F: FnOnce(&mut Write<'_>) -> Result<T, Failure> + Send + 'static,
        T: Send + 'static,
    {
        let span = tracing::info_span!(target: traces::TARGET, "write", domain = self.inner.domain);
        // Events that the job emits belong to the trace of whoever asked for it.
        let cause = traces::cause_of(&span);
        let (job, answer) = Job::new(rider, move |write: &mut Write<'_>| {
            write.cause = cause;
            work(write)
        });
        let written = async {
            self.inner.writes.push(job).await.map_err(closed)?;
            answer.await.map_err(|_| closed(Closed))?
        };
        written.instrument(span).await
    }
}

/// The verbs of [`Outbox`](crate::store::outbox::Outbox) and
/// [`ConsumptionStore`](crate::store::consumption::ConsumptionStore), the same for every domain.
impl Database {
    pub(super) fn domain(&self) -> &'static str {
        self.inner.domain
    }

    pub(super) fn committed(&self) -> mpsc::Receiver<Vec<PendingEvent>> {
        let (sender, receiver) = mpsc::channel(COMMITTED_CAPACITY);
        *lock(&self.inner.committed) = Some(sender);
        receiver
    }

    pub(super) fn foreign_writes(&self) -> watch::Receiver<u64> {
        self.inner.sweep.clone()
    }

    pub(super) async fn pending(&self, before: Timestamp, limit: u32) -> Result<Vec<PendingEvent>, StoreError> {
        self.read(move |connection| outbox::select(connection, before, limit)).await
    }

    pub(super) async fn pending_of(&self, aggregates: &[String]) -> Result<Vec<PendingEvent>, StoreError> {
        let aggregates = aggregates.to_vec();
        self.read(move |connection| outbox::select_of(connection, &aggregates)).await
    }

    pub(super) async fn backlog(&self) -> Result<Backlog, StoreError> {
        self.read(outbox::backlog).await
    }

    pub(super) async fn clear(&self, published: Vec<PendingEventId>) -> Result<(), StoreError> {
        self.ride_along(move |write| outbox::delete(write.sql(), &published)).await
    }

    pub(super) async fn check(&self) -> Result<(), StoreError> {
        if self.inner.write_failed.load(Ordering::Relaxed) {
            // Whoever asks may be all that comes while the store counts as away. The version is written as it is.
            self.write(|write| {
                let version: u32 = write.sql().pragma_query_value(None, "user_version", |row| row.get(0))?;
                Ok(write.sql().pragma_update(None, "user_version", version)?)
            })
            .await?;
        }
        self.read(|connection| Ok(connection.prepare_cached("SELECT 1")?.query_row((), |_| Ok(()))?)).await
    }

    pub(super) async fn offsets(&self, group: &str) -> Result<Vec<StoredOffset>, StoreError> {
        let group = group.to_owned();
        self.read(move |connection| consumption::offsets(connection, &group)).await
    }

    pub(super) async fn parked(&self, group: &str) -> Result<Vec<ParkedEvent>, StoreError> {
        let group = group.to_owned();
        self.read(move |connection| consumption::parked(connection, &group)).await
    }

    pub(super) async fn consume(&self, consumption: Consumption) -> Result<Consumed<()>, StoreError> {
        self.consume_with(consumption, |_| Ok(())).await
    }

    /// Writes an effect together with the progress of the group that caused it, or neither.
    pub(super) async fn consume_with<T: Send + 'static>(
        &self,
        consumption: Consumption,
        effect: impl FnOnce(&mut Write<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<Consumed<T>, StoreError> {
        self.write(move |write| consumption::consume_with(write, consumption, effect)).await
    }
}

impl Inner {
    fn close(&self) {
        // Readers first: the last connection to go removes the WAL.
        self.reads.close();
        for thread in lock(&self.readers).drain(..) {
            join(thread);
        }
        self.writes.close();
        if let Some(thread) = lock(&self.writer).take() {
            join(thread);
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

fn join(thread: JoinHandle<()>) {
    if let Err(panic) = thread.join() {
        tracing::error!("a store thread died: {}", panic_message(&*panic));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn closed(_: Closed) -> StoreError {
    StoreError::Unavailable("the store is closed".into())
}

fn read_jobs(connection: &Connection, queue: &Queue<ReadJob>) {
    while let Popped::Item(job) = queue.pop(None) {
        job(connection);
    }
}

/// Runs a read in a transaction, so that all its statements see one state.
fn snapshot<T>(connection: &Connection, work: impl FnOnce(&Connection) -> Result<T, Failure>) -> Result<T, Failure> {
    /// Ends the transaction also when the read panics.
    struct Ended<'c>(&'c Connection);
    impl Drop for Ended<'_> {
        fn drop(&mut self) {
            let ended = self.0.prepare_cached("COMMIT").and_then(|mut commit| commit.execute(()));
            if let Err(error) = ended {
                tracing::error!(%error, "could not end a read");
            }
        }
    }
    connection.prepare_cached("BEGIN")?.execute(())?;
    let _ended = Ended(connection);
    work(connection)
}

fn connect(path: &Path, reads_only: bool) -> rusqlite::Result<Connection> {
    let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    if !reads_only {
        flags |= OpenFlags::SQLITE_OPEN_CREATE;
    }
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    switch_to_wal(&connection)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", false)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    // Negative: KiB. Filled only as pages are used.
    connection.pragma_update(None, "cache_size", if reads_only { -8_192 } else { -16_384 })?;
    connection.pragma_update(None, "query_only", reads_only)?;
    // 16 MiB of WAL before its pages are copied to the file: fewer copies of pages that change in every commit.
    connection.pragma_update(None, "wal_autocheckpoint", 4_096)?;
    connection.pragma_update(None, "journal_size_limit", 64 * 1024 * 1024)?;
    Ok(connection)
}

/// The switch needs the file to itself for a moment, and SQLite does not wait there: two processes that open a new file at
/// once would refuse one another.
fn switch_to_wal(connection: &Connection) -> rusqlite::Result<()> {
    let began = Instant::now();
    loop {
        match connection.pragma_update(None, "journal_mode", "WAL") {
            Err(error)
                if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy)
                    && began.elapsed() < BUSY_TIMEOUT =>
            {
                std::thread::park_timeout(Duration::from_millis(5));
            }
            switched => return switched,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIGRATIONS: &[Migration] = &[Migration {
        name: "test",
        sql: &[outbox::SCHEMA, consumption::SCHEMA, "CREATE TABLE t (n INTEGER PRIMARY KEY)"],
    }];

    fn open() -> (tempfile::TempDir, Database) {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(&folder.path().join("test.db"), "test", MIGRATIONS).unwrap().0;
        (folder, database)
    }

    fn insert(write: &mut Write<'_>, n: i64) -> Result<i64, Failure> {
        write.sql().execute("INSERT INTO t (n) VALUES (?1)", [n])?;
        Ok(n)
    }

    async fn rows(database: &Database) -> Vec<i64> {
        let read = |connection: &Connection| {
            let mut statement = connection.prepare_cached("SELECT n FROM t ORDER BY n")?;
            let rows = statement.query_map((), |row| row.get(0))?.collect::<Result<_, _>>()?;
            Ok(rows)
        };
        database.read(read).await.unwrap()
    }

    /// Holds the writer up, so that what is enqueued meanwhile makes one batch; nothing of it has written before the
    /// first job does when `writes` is false.
    async fn in_one_batch(database: &Database, writes: bool) -> std::sync::mpsc::Sender<()> {
        let (go, gate) = std::sync::mpsc::channel::<()>();
        let (started, running) = oneshot::channel();
        let database = database.clone();
        tokio::spawn(async move {
            let job = move |write: &mut Write<'_>| {
                let _ = started.send(());
                let _ = gate.recv();
                if writes { insert(write, 1_000) } else { Err(Failure::Broken("as planned".into())) }
            };
            let _ = database.write(job).await;
        });
        running.await.unwrap();
        go
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_job_that_fails_takes_back_its_own_writes_only() {
        for first_writes in [true, false] {
            let (_folder, database) = open();
            let go = in_one_batch(&database, first_writes).await;
            let outcomes: Vec<_> = (0..12)
                .map(|n| {
                    let database = database.clone();
                    tokio::spawn(async move {
                        database
                            .write(move |write| {
                                insert(write, n)?;
                                match n % 4 {
                                    0 => panic!("job {n} panics"),
                                    1 => Err(Failure::Broken("fails".into())),
                                    2 => {
                                        write.undo();
                                        Ok(n)
                                    }
                                    _ => Ok(n),
                                }
                            })
                            .await
                    })
                })
                .collect();
            go.send(()).unwrap();
            for (n, outcome) in (0..).zip(outcomes) {
                match (n % 4, outcome.await.unwrap()) {
                    (0, Err(StoreError::Broken(why))) => assert!(why.contains(&format!("job {n} panics")), "{why}"),
                    (1, Err(StoreError::Broken(_))) => {}
                    (2 | 3, Ok(answer)) => assert_eq!(answer, n),
                    (_, other) => panic!("job {n}: {other:?}"),
                }
            }
            let mut kept = vec![3, 7, 11];
            kept.extend(first_writes.then_some(1_000));
            assert_eq!(rows(&database).await, kept);
        }
    }

    #[tokio::test]
    async fn a_check_sees_a_failed_commit_until_writing_works_again() {
        let (folder, database) = open();
        database.check().await.unwrap();
        let fail = |write: &mut Write<'_>| {
            write.sql().execute_batch("ROLLBACK")?;
            Ok(())
        };
        assert!(matches!(database.write(fail).await, Err(StoreError::Unavailable(_))));
        let other = Connection::open(folder.path().join("test.db")).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        assert!(database.check().await.is_err());
        other.execute_batch("COMMIT").unwrap();
        database.check().await.unwrap();
        assert!(!database.inner.write_failed.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn a_read_that_panics_leaves_the_readers_working() {
        let (_folder, database) = open();
        for _ in 0..5 {
            let read = database.read(|_| -> Result<(), Failure> { panic!("as planned") }).await;
            assert!(matches!(read, Err(StoreError::Broken(_))));
        }
        assert!(rows(&database).await.is_empty());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn closing_finishes_what_was_accepted() {
        let (_folder, database) = open();
        let go = in_one_batch(&database, true).await;
        let accepted = tokio::spawn({
            let database = database.clone();
            async move { database.write(|write| insert(write, 1)).await }
        });
        while database.inner.writes.len() == 0 {
            tokio::task::yield_now().await;
        }
        go.send(()).unwrap();
        tokio::task::spawn_blocking({
            let database = database.clone();
            move || database.close()
        })
        .await
        .unwrap();
        assert_eq!(accepted.await.unwrap().unwrap(), 1);
        assert!(matches!(database.write(|write| insert(write, 2)).await, Err(StoreError::Unavailable(_))));
    }
}
