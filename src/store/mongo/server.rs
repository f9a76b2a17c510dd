//! One server address: its client, and whether it answers.
//!
//! A call that cannot reach the server has searched for it as long as a server selection takes. From then on one task
//! searches for all; calls wait a moment for it and are refused, so that a request which asks several stores does not add
//! up as many searches.

use std::sync::Arc;
use std::time::Duration;

use mongodb::Client;
use mongodb::bson::doc;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::abandoned::AbandonedTransactions;
use super::failure::Failure;

/// How long a call waits for a server that is away. One that only lost its connections is found sooner.
const PATIENCE: Duration = Duration::from_millis(100);
/// The longest that one search takes, connections that answer nothing included.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two searches.
const PAUSE: Duration = Duration::from_millis(100);

/// Clones share what is known of the server. Used on the thread of the adapters only.
#[derive(Clone)]
pub(super) struct Server {
    pub client: Client,
    pub abandoned: Arc<AbandonedTransactions>,
    away: watch::Sender<bool>,
}

impl Server {
    pub(super) fn new(client: Client) -> Self {
        Self { client, abandoned: Arc::default(), away: watch::Sender::new(false) }
    }

    /// Runs a call, or refuses it while the server is away.
    pub(super) async fn call<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        if *self.away.borrow() {
            let mut away = self.away.subscribe();
            let back = timeout(PATIENCE, away.wait_for(|away| !away)).await;
            if !matches!(back, Ok(Ok(_))) {
                return Err(Failure::Away);
            }
        }
        let outcome = work.await;
        if let Err(failure) = &outcome
            && failure.is_unreachable()
            && !self.away.send_replace(true)
        {
            tokio::spawn(self.clone().search());
        }
        outcome
    }

    /// Ends once the server has answered.
    async fn search(self) {
        while !self.answers().await {
            sleep(PAUSE).await;
        }
        self.away.send_replace(false);
    }

    async fn answers(&self) -> bool {
        let admin = self.client.database("admin");
        let ping = timeout(SEARCH_TIMEOUT, admin.run_command(doc! { "ping": 1 }).into_future()).await;
        matches!(ping, Ok(Ok(_)))
    }
}
