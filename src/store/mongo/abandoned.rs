//! Transactions that nobody will end, because their process was killed.
//!
//! The server ends one only after `transactionLifetimeLimitSeconds`, which is a minute and more, and until then refuses or
//! holds up whoever writes what it has written. So a write that takes long looks for transactions of the shop in which
//! nothing happens any more, and ends them. A process that was only stopped finds its own ended and runs it again.

use std::collections::HashMap;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use mongodb::Client;
use mongodb::bson::{Document, Uuid, deserialize_from_document, doc};
use mongodb::options::ReadConcern;
use serde::Deserialize;
use tokio::sync::Mutex;

use super::connections::APP_NAME;
use super::failure::Failure;

/// A write that takes longer may be held up by such a transaction; also the time between two looks for them.
const LONG: Duration = Duration::from_secs(1);
/// For so long nothing has happened in a transaction that is ended. Between two commands of a live one lie milliseconds.
const QUIET: Duration = Duration::from_secs(3);

/// What is known of the transactions on one server.
#[derive(Default)]
pub(super) struct AbandonedTransactions {
    /// Held while somebody looks.
    seen: Mutex<Seen>,
}

impl AbandonedTransactions {
    /// Runs a write, and looks for abandoned transactions for as long as it takes long.
    pub(super) async fn watched<T>(&self, client: &Client, write: impl Future<Output = T>) -> T {
        let mut write = pin!(write);
        loop {
            let looking = async {
                tokio::time::sleep(LONG).await;
                if let Err(error) = self.look(client).await {
                    tracing::debug!(%error, "abandoned transactions cannot be looked for");
                }
            };
            tokio::select! {
                biased;
                written = &mut write => return written,
                () = looking => {}
            }
        }
    }

    async fn look(&self, client: &Client) -> Result<(), Failure> {
        // One of the writes that wait looks for all.
        let Ok(mut seen) = self.seen.try_lock() else { return Ok(()) };
        if seen.looked.is_some_and(|looked| looked.elapsed() < LONG) {
            return Ok(());
        }
        let abandoned = seen.note(between_commands(client).await?, Instant::now());
        if abandoned.is_empty() {
            return Ok(());
        }
        let sessions: Vec<Document> = abandoned.iter().map(|session| doc! { "id": session }).collect();
        client.database("admin").run_command(doc! { "killSessions": sessions }).await?;
        tracing::warn!(transactions = abandoned.len(), "ended transactions that another process had left open");
        Ok(())
    }
}

/// A transaction whose process is not waiting for an answer.
#[derive(Deserialize)]
struct Waiting {
    session: Uuid,
    number: i64,
    /// Spent in its commands so far.
    active: i64,
}

async fn between_commands(client: &Client) -> Result<Vec<Waiting>, Failure> {
    // Without other users' operations, which takes no privilege.
    let pipeline = [
        doc! { "$currentOp": { "idleSessions": true } },
        doc! { "$match": {
            "type": "idleSession", "appName": APP_NAME, "transaction.parameters.autocommit": false,
        } },
        doc! { "$project": {
            "session": "$lsid.id",
            "number": "$transaction.parameters.txnNumber",
            "active": "$transaction.timeActiveMicros",
        } },
    ];
    // What a server does now is no data: a look has no other read concern.
    let found = client.database("admin").aggregate(pipeline).read_concern(ReadConcern::local()).await?;
    let documents: Vec<Document> = found.try_collect().await?;
    Ok(documents.into_iter().map(deserialize_from_document).collect::<Result<_, _>>()?)
}

#[derive(Default)]
struct Seen {
    looked: Option<Instant>,
    /// By session and number: the time spent in commands, and since when it is the same.
    waiting: HashMap<(Uuid, i64), (i64, Instant)>,
}

impl Seen {
    /// Takes over what a look has found, and tells the sessions whose transactions have been quiet for too long.
    fn note(&mut self, found: Vec<Waiting>, now: Instant) -> Vec<Uuid> {
        self.looked = Some(now);
        let before = std::mem::take(&mut self.waiting);
        for Waiting { session, number, active } in found {
            let since = match before.get(&(session, number)) {
                Some(&(same, since)) if same == active => since,
                _ => now,
            };
            self.waiting.insert((session, number), (active, since));
        }
        let quiet = self.waiting.iter().filter(|(_, (_, since))| now.duration_since(*since) >= QUIET);
        quiet.map(|(&(session, _), _)| session).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_is_abandoned_when_nothing_has_happened_in_it_for_long() {
        let (dead, alive) = (Uuid::new(), Uuid::new());
        let waiting = |session, number, active| Waiting { session, number, active };
        let began = Instant::now();
        let mut seen = Seen::default();
        assert!(seen.note(vec![waiting(dead, 1, 40), waiting(alive, 1, 40)], began).is_empty());
        // It went on, or its session has begun another one.
        let next = began + QUIET / 2;
        assert!(seen.note(vec![waiting(dead, 1, 40), waiting(alive, 1, 50)], next).is_empty());
        let last = began + QUIET;
        assert_eq!(seen.note(vec![waiting(dead, 1, 40), waiting(alive, 2, 50)], last), [dead]);
        // One that has ended is forgotten.
        assert!(seen.note(Vec::new(), last).is_empty() && seen.waiting.is_empty());
    }
}
