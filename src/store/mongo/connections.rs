//! The thread on which everything of the MongoDB adapters runs, and one client for each server address.
//!
//! The driver's sockets and monitors belong to the runtime that made them. Actors may freeze or be abandoned with their
//! thread; what they asked of a store goes on here, so no transaction and no connection ever hangs on an actor.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::future::join_all;
use mongodb::Client;
use mongodb::options::{Acknowledgment, ClientOptions, ReadConcern, ReadPreference, SelectionCriteria, WriteConcern};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::failure::Failure;
use super::server::Server;

/// By this name the processes of a shop know one another's transactions.
pub(super) const APP_NAME: &str = "souk";
/// How long a server or a primary is looked for, so that one that is away is told quickly.
pub(super) const SERVER_SELECTION_TIMEOUT: Duration = Duration::from_secs(2);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// After this long without its majority a write is answered as one of unknown outcome.
const MAJORITY_TIMEOUT: Duration = Duration::from_secs(10);
/// Calls at once on one server address; further ones wait for a connection.
const MAX_CONNECTIONS: u32 = 64;
/// How long the end of a client may take.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// The thread with its clients, shared by the stores of all domains. Dropping the last handle ends it.
pub struct Connections {
    handle: Handle,
    /// Each call holds a clone: the thread ends when this one and all of those are gone.
    open: Mutex<Option<mpsc::Sender<Infallible>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    servers: Servers,
}

/// By URI.
type Servers = Arc<Mutex<HashMap<String, Server>>>;

impl Connections {
    /// Starts the thread; nothing is connected yet.
    pub fn start() -> std::io::Result<Arc<Self>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (open, mut closed) = mpsc::channel::<Infallible>(1);
        let servers = Servers::default();
        let ending = Arc::clone(&servers);
        let thread = std::thread::Builder::new().name("mongo".into()).spawn(move || {
            runtime.block_on(async {
                closed.recv().await;
                let servers: Vec<Server> = lock(&ending).drain().map(|(_, server)| server).collect();
                let ended = servers.into_iter().map(|server| server.client.shutdown().into_future());
                if tokio::time::timeout(SHUTDOWN_TIMEOUT, join_all(ended)).await.is_err() {
                    tracing::warn!("connections to mongodb did not end in time");
                }
            });
        })?;
        Ok(Arc::new(Self { handle, open: Mutex::new(Some(open)), thread: Mutex::new(Some(thread)), servers }))
    }

    /// Runs a call on the thread, to its end even if nobody waits for it any more.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> Result<T, Failure> {
        let open = lock(&self.open).clone().ok_or(Failure::Closed)?;
        let task = self.handle.spawn(async move {
            let _open = open;
            work.await
        });
        match task.await {
            Ok(outcome) => outcome,
            Err(error) => Err(match error.try_into_panic() {
                Ok(panic) => Failure::panicked(&*panic),
                Err(_) => Failure::Closed,
            }),
        }
    }

    /// The server of an address; it is connected to at its first call.
    pub(super) async fn server(&self, uri: &str) -> Result<Server, Failure> {
        let (servers, uri) = (Arc::clone(&self.servers), uri.to_owned());
        self.run(async move {
            if let Some(server) = lock(&servers).get(&uri) {
                return Ok(server.clone());
            }
            let server = Server::new(Client::with_options(options(&uri).await?)?);
            Ok(lock(&servers).entry(uri).or_insert(server).clone())
        })
        .await
    }

    /// Finishes the calls that were accepted and ends the thread. Blocks; later calls are refused.
    pub fn close(&self) {
        drop(lock(&self.open).take());
        if let Some(thread) = lock(&self.thread).take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of mongodb died");
        }
    }
}

/// What the shop's promises rest on overrides the URI; what is a matter of taste the URI may say.
async fn options(uri: &str) -> Result<ClientOptions, Failure> {
    let mut options = ClientOptions::parse(uri).await?;
    options.app_name = Some(APP_NAME.into());
    options.server_selection_timeout.get_or_insert(SERVER_SELECTION_TIMEOUT);
    options.connect_timeout.get_or_insert(CONNECT_TIMEOUT);
    options.max_pool_size.get_or_insert(MAX_CONNECTIONS);
    options.retry_reads = Some(true);
    options.retry_writes = Some(true);
    options.read_concern = Some(ReadConcern::majority());
    options.write_concern = Some(majority());
    options.selection_criteria = Some(SelectionCriteria::ReadPreference(ReadPreference::Primary));
    Ok(options)
}

/// Durable on most of the replica set before it is answered.
pub(super) fn majority() -> WriteConcern {
    WriteConcern::builder().w(Acknowledgment::Majority).journal(true).w_timeout(MAJORITY_TIMEOUT).build()
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
