//! One domain's database: calls that end in time, transactions, and the collections that every domain has.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use mongodb::bson::{DateTime, Document, doc};
use mongodb::{Collection, Database};
use tokio::sync::{mpsc, watch};
use tracing::Instrument;

use super::announcer::Announcer;
use super::connections::{Connections, lock};
use super::failure::Failure;
use super::migrations::{Migrated, Migration, OpenError, migrate};
use super::server::Server;
use super::transaction::{Tx, transact};
use super::updates::{self, Update, Updated};
use super::{MongoSettings, consumption, outbox};
use crate::config::Domain;
use crate::domain::events::PendingEvent;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::consumption::{Consumed, Consumption, ParkedEvent, StoredOffset};
use crate::store::outbox::{Backlog, PendingEventId};
use crate::telemetry::traces;

/// The longest that any call takes, attempts and commit included: live updates rest on it, for what a commit changes is
/// stamped before it.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// What is written to learn whether the database can be written.
const HEALTH: &str = "health";

/// A handle to a database; clones share its client.
#[derive(Clone)]
pub struct MongoDatabase {
    inner: Arc<Inner>,
}

struct Inner {
    domain: Domain,
    connections: Arc<Connections>,
    server: Server,
    database: Database,
    announcer: Arc<Announcer>,
    own_documents: Mutex<outbox::OwnDocuments>,
    write_failed: AtomicBool,
}

impl MongoDatabase {
    /// Connects to a domain's database and brings it to the newest version.
    pub(super) async fn open(
        connections: &Arc<Connections>,
        settings: &MongoSettings,
        domain: Domain,
        migrations: &'static [Migration],
    ) -> Result<(Self, Migrated), OpenError> {
        let name = settings.database(domain);
        let failed = |failure: Failure| OpenError::of(&name, &failure);
        let server = connections.server(settings.uri_of(domain)).await.map_err(failed)?;
        let database = server.client.database(&name);
        let migrating = database.clone();
        // Its own deadline is the caller's: an index over a large collection takes its time.
        let migrated =
            connections.run(async move { Ok(migrate(&migrating, migrations).await) }).await.map_err(failed)??;
        let announcer = Announcer::new();
        let (connections, write_failed) = (Arc::clone(connections), AtomicBool::new(false));
        let own_documents = Mutex::default();
        let inner = Inner { domain, connections, server, database, announcer, own_documents, write_failed };
        Ok((Self { inner: Arc::new(inner) }, migrated))
    }

    pub(super) fn collection<T: Send + Sync>(&self, name: &str) -> Collection<T> {
        self.inner.database.collection(name)
    }

    /// Runs a call that only reads.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> Result<T, StoreError> {
        Ok(self.run(work).await?)
    }

    /// Runs a call that writes outside a transaction: one document, or documents of which each stands for itself.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let server = self.inner.server.clone();
        let outcome = self.run(async move { server.abandoned.watched(&server.client, work).await }).await;
        match &outcome {
            Ok(_) => self.inner.write_failed.store(false, Ordering::Relaxed),
            Err(failure) if failure.is_passing() => self.inner.write_failed.store(true, Ordering::Relaxed),
            Err(_) => {}
        }
        Ok(outcome?)
    }

    /// On the heap at once: every layer that hands a future on holds it once more, and those of the driver are large.
    fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, Failure>> {
        let server = self.inner.server.clone();
        let work = Box::pin(work);
        let timed = async move {
            let work = async {
                let timeout = tokio::time::timeout(CALL_TIMEOUT, work).await;
                timeout.unwrap_or(Err(Failure::TimedOut(CALL_TIMEOUT.as_secs())))
            };
            server.call(work).await
        };
        Box::pin(self.inner.connections.run(timed))
    }

    /// Runs work in a transaction, again when it ran into another one, and answers after its commit; see the module's head.
    pub(super) async fn transaction<C, T>(
        &self,
        input: C,
        work: impl for<'a> Fn(&'a mut Tx, &'a C) -> BoxFuture<'a, Result<T, Failure>> + Send + Sync + 'static,
    ) -> Result<T, StoreError>
    where
        C: Send + Sync + 'static,
        T: Send + 'static,
    {
        let span = tracing::info_span!(target: traces::TARGET, "transaction", domain = self.domain());
        // Events that the work emits belong to the trace of whoever asked for it.
        let cause = traces::cause_of(&span);
        let inner = Arc::clone(&self.inner);
        let transacting = Box::pin(async move {
            let (value, committed) = transact(&inner.server.client, &inner.database, cause, &input, work).await?;
            lock(&inner.own_documents).note(committed.documents);
            inner.announcer.announce(committed.events);
            Ok(value)
        });
        self.write(transacting).instrument(span).await
    }

    /// Many updates in one command, outside a transaction and in any order.
    pub(super) async fn update(&self, collection: &'static str, updates: Vec<Update>) -> Result<Updated, StoreError> {
        let database = self.inner.database.clone();
        self.write(async move { updates::update(&database, None, collection, updates, false).await }).await
    }

    /// Hands over the events of a commit that was no transaction; on the adapters' thread, that is within [`Self::write`].
    pub(super) fn announce(&self, events: Vec<PendingEvent>) {
        self.inner.announcer.announce(events);
    }

    /// Writes an effect together with the progress of the group that caused it, or neither.
    pub(super) async fn consume_with<C, T>(
        &self,
        consumption: Consumption,
        input: C,
        effect: impl for<'a> Fn(&'a mut Tx, &'a C) -> BoxFuture<'a, Result<T, Failure>> + Send + Sync + 'static,
    ) -> Result<Consumed<T>, StoreError>
    where
        C: Send + Sync + 'static,
        T: Send + 'static,
    {
        let effect = Arc::new(effect);
        self.transaction((consumption, input, effect), |tx, (consumption, input, effect)| {
            Box::pin(async move {
                if !tx.consume(consumption).await? {
                    tx.undo();
                    return Ok(Consumed::Lost);
                }
                Ok(Consumed::Done(effect(tx, input).await?))
            })
        })
        .await
    }
}

/// The verbs of [`Outbox`](crate::store::outbox::Outbox) and
/// [`ConsumptionStore`](crate::store::consumption::ConsumptionStore), the same for every domain.
impl MongoDatabase {
    pub(super) fn domain(&self) -> &'static str {
        self.inner.domain.name()
    }

    pub(super) fn committed(&self) -> mpsc::Receiver<Vec<PendingEvent>> {
        self.inner.announcer.committed()
    }

    /// There is no telling what others wrote: a sweep is due by time.
    pub(super) fn foreign_writes(&self) -> watch::Receiver<u64> {
        self.inner.announcer.sweeps()
    }

    pub(super) async fn pending(&self, before: Timestamp, limit: u32) -> Result<Vec<PendingEvent>, StoreError> {
        let database = self.inner.database.clone();
        self.read(async move { outbox::select(&database, before, limit).await }).await
    }

    pub(super) async fn pending_of(&self, aggregates: &[String]) -> Result<Vec<PendingEvent>, StoreError> {
        let (database, aggregates) = (self.inner.database.clone(), aggregates.to_vec());
        self.read(async move { outbox::select_of(&database, aggregates).await }).await
    }

    pub(super) async fn backlog(&self) -> Result<Backlog, StoreError> {
        let database = self.inner.database.clone();
        self.read(async move { outbox::backlog(&database).await }).await
    }

    pub(super) async fn clear(&self, published: Vec<PendingEventId>) -> Result<(), StoreError> {
        self.forget(published).await.map(drop)
    }

    /// As [`Self::clear`]; returns those that were not there.
    pub(super) async fn forget(&self, published: Vec<PendingEventId>) -> Result<Vec<PendingEventId>, StoreError> {
        if published.is_empty() {
            return Ok(Vec::new());
        }
        let inner = Arc::clone(&self.inner);
        self.write(async move { outbox::delete(&inner.database, &inner.own_documents, published).await }).await
    }

    pub(super) async fn check(&self) -> Result<(), StoreError> {
        let health = self.collection::<Document>(HEALTH);
        if self.inner.write_failed.load(Ordering::Relaxed) {
            // Whoever asks may be all that comes while the store counts as away.
            let noted = doc! { "$set": { "writtenAt": DateTime::now() } };
            let write = async move { Ok(health.update_one(doc! { "_id": "write" }, noted).upsert(true).await?) };
            return self.write(write).await.map(drop);
        }
        self.read(async move { Ok(health.find_one(doc! { "_id": "write" }).await?) }).await.map(drop)
    }

    pub(super) async fn offsets(&self, group: &str) -> Result<Vec<StoredOffset>, StoreError> {
        let (database, group) = (self.inner.database.clone(), group.to_owned());
        self.read(async move { consumption::offsets(&database, &group).await }).await
    }

    pub(super) async fn parked(&self, group: &str) -> Result<Vec<ParkedEvent>, StoreError> {
        let (database, group) = (self.inner.database.clone(), group.to_owned());
        self.read(async move { consumption::parked(&database, &group).await }).await
    }

    pub(super) async fn consume(&self, consumption: Consumption) -> Result<Consumed<()>, StoreError> {
        self.consume_with(consumption, (), |_, ()| Box::pin(async { Ok(()) })).await
    }
}
