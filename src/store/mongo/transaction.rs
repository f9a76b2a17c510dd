//! Transactions: run again after a conflict, committed on most of the replica set, announced after the commit.

use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use futures_util::future::BoxFuture;
use mongodb::options::{ReadConcern, TransactionOptions};
use mongodb::{Client, ClientSession, Collection, Database, SessionCursor};
use rand::Rng;
use serde::de::DeserializeOwned;

use super::connections::{SERVER_SELECTION_TIMEOUT, majority};
use super::failure::Failure;
use super::updates::{self, Update, Updated};
use super::{consumption, outbox};
use crate::domain::events::PendingEvent;
use crate::store::consumption::{Causes, Consumption};
use crate::telemetry::trace_context::TraceParent;

/// How long the server may take to commit.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest pause between two attempts; the first is a few milliseconds.
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// A transaction as the work in it sees it.
pub struct Tx {
    session: ClientSession,
    database: Database,
    /// Saved with the commit.
    pending: Vec<PendingEvent>,
    committed: Committed,
    undone: bool,
    attempt: u32,
    /// What caused the transaction, as far as a trace is known.
    cause: Option<TraceParent>,
    /// What caused its parts, where it is the effect of several events.
    causes: Causes,
}

impl Tx {
    /// For `.session(tx.session())` of every command that belongs to the transaction.
    pub(super) fn session(&mut self) -> &mut ClientSession {
        &mut self.session
    }

    /// Whether it ran into another one before. Of two that write the same document the one that writes it first wins, so a
    /// large transaction that writes it last would lose to small ones again and again: it writes it first when repeated.
    pub(super) fn is_repeated(&self) -> bool {
        self.attempt > 0
    }

    pub(super) fn collection<T: Send + Sync>(&self, name: &str) -> Collection<T> {
        self.database.collection(name)
    }

    /// All that a cursor of the transaction finds.
    pub(super) async fn collect<T>(&mut self, mut found: SessionCursor<T>) -> Result<Vec<T>, Failure>
    where
        T: DeserializeOwned + Unpin + Send + Sync + 'static,
    {
        Ok(found.stream(&mut self.session).try_collect().await?)
    }

    /// Saves an event with the state, all of a transaction in one command, and publishes it after the commit. It becomes
    /// one of its cause's trace.
    pub(super) fn emit(&mut self, mut event: PendingEvent) {
        self.causes.trace(&mut event, self.cause);
        self.pending.push(event);
    }

    /// Takes back everything that was written; the work's result is answered all the same.
    pub(super) fn undo(&mut self) {
        self.undone = true;
    }

    /// Moves a group's progress, its dead letters with it. False: another owner was faster, and the work is to
    /// [`undo`](Self::undo) and answer `Lost`.
    pub(super) async fn consume(&mut self, consumption: &Consumption) -> Result<bool, Failure> {
        let advanced = consumption::advance(self, consumption).await?;
        if advanced {
            self.causes.clone_from(&consumption.causes);
            consumption.dead_letters.iter().for_each(|letter| self.emit(letter.clone()));
        }
        Ok(advanced)
    }

    /// Many updates of a collection in one command, in their order.
    pub(super) async fn update(&mut self, collection: &str, updates: Vec<Update>) -> Result<Updated, Failure> {
        updates::update(&self.database, Some(&mut self.session), collection, updates, true).await
    }

    async fn save_pending(&mut self) -> Result<(), Failure> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let documents = outbox::insert(&self.database, &mut self.session, &self.pending).await?;
        self.committed = Committed { events: std::mem::take(&mut self.pending), documents };
        Ok(())
    }
}

/// What a commit leaves to do.
#[derive(Default)]
pub(super) struct Committed {
    /// To be announced.
    pub events: Vec<PendingEvent>,
    /// Where they wait until they are published.
    pub documents: Vec<outbox::Waiting>,
}

/// Runs work until its transaction is committed or fails for a reason of its own; returns its result with what it committed.
pub(super) async fn transact<C, T>(
    client: &Client,
    database: &Database,
    cause: Option<TraceParent>,
    input: &C,
    work: impl for<'a> Fn(&'a mut Tx, &'a C) -> BoxFuture<'a, Result<T, Failure>>,
) -> Result<(T, Committed), Failure> {
    let mut session = client.start_session().await?;
    let began = Instant::now();
    let mut attempt = 0;
    loop {
        let options = TransactionOptions::builder()
            .read_concern(ReadConcern::snapshot())
            .write_concern(majority())
            .max_commit_time(COMMIT_TIMEOUT)
            .build();
        session.start_transaction().with_options(options).await?;
        let mut tx = Tx {
            session,
            database: database.clone(),
            pending: Vec::new(),
            committed: Committed::default(),
            undone: false,
            attempt,
            cause,
            causes: Causes::default(),
        };
        let outcome = run(&mut tx, input, &work).await;
        session = tx.session;
        match outcome {
            Ok(value) => return Ok((value, tx.committed)),
            Err(failure) if failure.is_transient() && !is_given_up(&failure, began) => {
                attempt += 1;
                pause(attempt).await;
                if failure.is_unreachable() {
                    session = client.start_session().await?;
                }
            }
            Err(failure) => return Err(failure),
        }
    }
}

/// Whether a server that did not answer was given as long as the search for one takes.
fn is_given_up(failure: &Failure, since: Instant) -> bool {
    failure.is_unreachable() && since.elapsed() >= SERVER_SELECTION_TIMEOUT
}

async fn run<C, T>(
    tx: &mut Tx,
    input: &C,
    work: &impl for<'a> Fn(&'a mut Tx, &'a C) -> BoxFuture<'a, Result<T, Failure>>,
) -> Result<T, Failure> {
    let mut outcome = work(tx, input).await;
    if !tx.undone
        && outcome.is_ok()
        && let Err(failure) = tx.save_pending().await
    {
        outcome = Err(failure);
    }
    if matches!(&outcome, Err(failure) if failure.is_unreachable()) {
        // Nobody waits for the end of this transaction: its session is dropped, and the driver ends it if it can.
        return outcome;
    }
    if outcome.is_err() || tx.undone {
        // One that the server has ended already is nothing to end.
        let _ = tx.session.abort_transaction().await;
        return outcome;
    }
    commit(&mut tx.session).await?;
    outcome
}

/// Asks again while it is unknown whether the commit happened: the server answers the same commit the same.
async fn commit(session: &mut ClientSession) -> Result<(), Failure> {
    let began = Instant::now();
    let mut attempt = 0;
    loop {
        match session.commit_transaction().await.map_err(Failure::from) {
            Err(failure) if failure.is_unknown_commit() && !is_given_up(&failure, began) => {
                attempt += 1;
                pause(attempt).await;
            }
            committed => return committed,
        }
    }
}

/// Doubling and with jitter, so that those who ran into one another do not again.
async fn pause(attempt: u32) {
    let step = Duration::from_millis(4).saturating_mul(1 << attempt.min(10)).min(LONGEST_PAUSE);
    let fraction = rand::rng().random_range(0.1..=1.0);
    tokio::time::sleep(step.mul_f64(fraction)).await;
}
