//! The one thread that writes a file.
//!
//! It takes whatever has queued, runs it all in one `BEGIN IMMEDIATE` transaction, commits once, hands the events of the
//! commit to the relay, and only then answers. A job that fails or panics takes back its own writes and nobody else's.
//! While it commits, the next batch queues: batches grow with load, without a timer.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot, watch};

use super::failure::Failure;
use super::outbox;
use super::queue::{Popped, Queue};
use crate::domain::events::PendingEvent;
use crate::store::StoreError;
use crate::store::consumption::Causes;
use crate::telemetry::trace_context::TraceParent;

/// The most jobs of one commit: bounds how long the first of them waits for its answer.
const MAX_BATCH: usize = 512;
/// How often the file is looked at for commits of other processes: the only polling there is.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The transaction as a job sees it.
pub struct Write<'c> {
    connection: &'c Connection,
    events: Vec<PendingEvent>,
    undone: bool,
    /// What caused the job, as far as a trace is known.
    pub(super) cause: Option<TraceParent>,
    /// What caused its parts, where it is the effect of several events.
    pub(super) causes: Causes,
}

impl<'c> Write<'c> {
    /// The connection, inside the transaction.
    pub(super) fn sql(&self) -> &'c Connection {
        self.connection
    }

    /// Saves an event with the job's state; it is published after the commit.
    pub(super) fn emit(&mut self, mut event: PendingEvent) -> Result<(), Failure> {
        self.trace(&mut event);
        outbox::insert(self.connection, &event)?;
        self.publish(event);
        Ok(())
    }

    /// Makes an event one of its cause's trace.
    pub(super) fn trace(&self, event: &mut PendingEvent) {
        self.causes.trace(event, self.cause);
    }

    /// Publishes an event after the commit. That it is pending the job has saved in a form of its own.
    pub(super) fn publish(&mut self, event: PendingEvent) {
        self.events.push(event);
    }

    /// Takes back everything that this job wrote; its result is answered all the same.
    pub(super) fn undo(&mut self) {
        self.undone = true;
    }
}

/// A job in the queue.
pub(super) struct Job {
    work: Box<dyn Work>,
    /// May be lost in a crash: joins the next commit, or is written without waiting for the disk when there is none.
    rider: bool,
}

trait Work: Send {
    /// Runs the job and keeps its result; false when its writes are to be taken back.
    fn run(&mut self, write: &mut Write<'_>) -> bool;

    /// Answers with the result, or with why the commit failed.
    fn answer(self: Box<Self>, failed: Option<&StoreError>);
}

struct Typed<F, T> {
    work: Option<F>,
    outcome: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<F, T> Work for Typed<F, T>
where
    F: FnOnce(&mut Write<'_>) -> Result<T, Failure> + Send,
    T: Send,
{
    fn run(&mut self, write: &mut Write<'_>) -> bool {
        let Some(work) = self.work.take() else { return false };
        // The savepoint is rolled back after a panic, so nothing half done is seen again.
        let outcome = catch_unwind(AssertUnwindSafe(|| work(write)));
        let outcome = outcome.unwrap_or_else(|panic| Err(Failure::Broken(panic_message(&*panic)))).map_err(Into::into);
        let keep = outcome.is_ok() && !write.undone;
        self.outcome = Some(outcome);
        keep
    }

    fn answer(self: Box<Self>, failed: Option<&StoreError>) {
        let outcome = match (self.outcome, failed) {
            (Some(Err(own)), _) => Err(own),
            (_, Some(failed)) => Err(failed.clone()),
            (Some(done), None) => done,
            (None, None) => Err(StoreError::Broken("a write was not run".into())),
        };
        // Nobody waits any more when the caller has given up.
        let _ = self.reply.send(outcome);
    }
}

impl Job {
    pub(super) fn new<F, T>(rider: bool, work: F) -> (Self, oneshot::Receiver<Result<T, StoreError>>)
    where
        F: FnOnce(&mut Write<'_>) -> Result<T, Failure> + Send + 'static,
        T: Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        (Self { work: Box::new(Typed { work: Some(work), outcome: None, reply }), rider }, answer)
    }
}

pub(super) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let message = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    format!("a job of the store panicked: {message}")
}

/// Where commits are announced; empty until a relay takes the other end.
pub(super) type CommittedSender = Arc<Mutex<Option<mpsc::Sender<Vec<PendingEvent>>>>>;

/// Hands the events of each commit to the relay.
///
/// When the relay falls behind and its channel is full, later events are held back too, so that none overtakes an
/// earlier one of its aggregate; once the channel is empty again a sweep is asked for, which finds them all.
pub(super) struct Announcer {
    pub(super) committed: CommittedSender,
    pub(super) sweep: watch::Sender<u64>,
    pub(super) behind: bool,
}

impl Announcer {
    fn announce(&mut self, events: Vec<PendingEvent>) {
        self.catch_up();
        if events.is_empty() || self.behind {
            return;
        }
        if let Some(committed) = self.receiver() {
            self.behind = matches!(committed.try_send(events), Err(mpsc::error::TrySendError::Full(_)));
        }
    }

    fn catch_up(&mut self) {
        if self.behind && self.receiver().is_none_or(|sender| sender.capacity() == sender.max_capacity()) {
            self.behind = false;
            self.ask_for_sweep();
        }
    }

    fn receiver(&self) -> Option<mpsc::Sender<Vec<PendingEvent>>> {
        self.committed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn ask_for_sweep(&self) {
        self.sweep.send_modify(|count| *count += 1);
    }
}

pub(super) struct Writer {
    pub(super) connection: Connection,
    pub(super) queue: Arc<Queue<Job>>,
    pub(super) announcer: Announcer,
    /// Whether commits wait for the disk at present.
    pub(super) durable: bool,
    /// Changes when another connection commits, and in this process there is none that does.
    pub(super) data_version: i64,
    /// Whether the last transaction failed, as opposed to a job in it.
    pub(super) failed: Arc<AtomicBool>,
}

impl Writer {
    /// Works until the queue is closed and empty, then folds the WAL into the file.
    pub(super) fn run(mut self) {
        let mut next_look = Instant::now() + LOOK_INTERVAL;
        loop {
            match self.queue.pop(Some(next_look)) {
                Popped::Item(first) => {
                    let mut batch = vec![first];
                    self.queue.drain(&mut batch, MAX_BATCH - 1);
                    self.commit(batch);
                }
                Popped::Idle => {}
                Popped::Closed => break,
            }
            if Instant::now() >= next_look {
                self.look();
                next_look = Instant::now() + LOOK_INTERVAL;
            }
        }
        if let Err(error) = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(())) {
            tracing::warn!(%error, "could not checkpoint a store while closing it");
        }
    }

    fn commit(&mut self, mut batch: Vec<Job>) {
        match self.transact(&mut batch) {
            Ok(events) => {
                self.announcer.announce(events);
                batch.into_iter().for_each(|job| job.work.answer(None));
            }
            Err(failure) => {
                self.failed.store(true, Ordering::Relaxed);
                if !self.connection.is_autocommit()
                    && let Err(error) = self.connection.execute_batch("ROLLBACK")
                {
                    tracing::error!(%error, "could not roll back a failed commit");
                }
                // Whatever it was, it befell the transaction and not one job: the same job may succeed later.
                let failed = StoreError::Unavailable(failure.to_string());
                batch.into_iter().for_each(|job| job.work.answer(Some(&failed)));
            }
        }
    }

    /// Runs the batch, and what queues meanwhile, in one transaction; returns the events that it committed.
    fn transact(&mut self, batch: &mut Vec<Job>) -> Result<Vec<PendingEvent>, Failure> {
        let durable = batch.iter().any(|job| !job.rider);
        self.wait_for_disk(durable)?;
        self.execute("BEGIN IMMEDIATE")?;
        let mut batch_events = Vec::new();
        // Jobs that ran, and whether one of them has written.
        let (mut done, mut written) = (0, false);
        while done < batch.len() {
            while done < batch.len() {
                written |= self.run_job(&mut batch[done], written, &mut batch_events)?;
                done += 1;
            }
            if durable {
                self.queue.drain(batch, MAX_BATCH.saturating_sub(done));
            }
        }
        self.execute("COMMIT")?;
        // One that had nothing to write says nothing about writing.
        if written {
            self.failed.store(false, Ordering::Relaxed);
        }
        Ok(batch_events)
    }

    /// Runs a job; true when its writes stay in the transaction. The first one that writes needs no savepoint, which
    /// copies every page before it changes: to take its writes back the transaction starts anew.
    fn run_job(&self, job: &mut Job, others_wrote: bool, events: &mut Vec<PendingEvent>) -> Result<bool, Failure> {
        if others_wrote {
            self.execute("SAVEPOINT job")?;
        }
        let mut write = Write {
            connection: &self.connection,
            events: Vec::new(),
            undone: false,
            cause: None,
            causes: Causes::default(),
        };
        let kept = job.work.run(&mut write);
        if kept {
            events.append(&mut write.events);
        }
        match (kept, others_wrote) {
            (true, false) => {}
            (true, true) => self.execute("RELEASE job")?,
            (false, true) => {
                self.execute("ROLLBACK TO job")?;
                self.execute("RELEASE job")?;
            }
            (false, false) => {
                self.execute("ROLLBACK")?;
                self.execute("BEGIN IMMEDIATE")?;
            }
        }
        Ok(kept)
    }

    /// Riders on their own need no fsync: the next durable commit carries them, and a crash only repeats them.
    fn wait_for_disk(&mut self, durable: bool) -> Result<(), Failure> {
        if self.durable != durable {
            self.connection.pragma_update(None, "synchronous", if durable { "FULL" } else { "NORMAL" })?;
            self.durable = durable;
        }
        Ok(())
    }

    fn execute(&self, sql: &'static str) -> Result<(), Failure> {
        self.connection.prepare_cached(sql)?.execute(())?;
        Ok(())
    }

    /// Asks for a sweep when another process has committed, or when the relay has caught up after an overflow.
    fn look(&mut self) {
        self.announcer.catch_up();
        match data_version(&self.connection) {
            Ok(version) if version != self.data_version => {
                self.data_version = version;
                self.announcer.ask_for_sweep();
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "could not look for commits of other processes"),
        }
    }
}

pub(super) fn data_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached("PRAGMA data_version")?.query_row((), |row| row.get(0))
}
