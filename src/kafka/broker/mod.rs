//! The event log on Kafka (3.3 or later), through librdkafka.
//!
//! Appends go through one idempotent producer and are durable on every in-sync replica when they answer. A group's
//! readers share its partitions by the cooperative-sticky assignor; where they read from is told by the domain's
//! database, Kafka's own group offsets are copies for lag. Reading is pulled: what is fetched ahead is bounded, and a
//! reader that is not asked fetches no more. Nothing here blocks a thread of the runtime: calls that wait for the broker
//! run on threads that may. A broker that is away is [`LogError::Unavailable`] and never stops a start.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;

use super::{EventLog, GroupConsumer, LogError, Progress, Tail, check_size};
use crate::config::Secret;
use crate::domain::events::{PendingEvent, Topic};
use closing::Closing;
use consumer::{BrokerConsumer, Seat};
use producer::Producer;
use tail::BrokerTail;
use topics::{Names, Topics};
pub use topics::{State as TopicsFound, inspect};

mod clients;
mod closing;
mod consumer;
mod membership;
mod offsets;
mod producer;
mod records;
mod tail;
mod topics;

/// How long `close` waits for what is still to be sent, and for groups to be left.
const CLOSE: Duration = Duration::from_secs(5);
/// How long a new reader waits for an earlier one of this process to leave the group.
const LEAVE: Duration = Duration::from_secs(3);

#[derive(Debug, Clone)]
pub struct BrokerSettings {
    /// `host:port` of the servers to begin with.
    pub brokers: Vec<String>,
    /// Before the names of topics and groups.
    pub prefix: String,
    /// Of each topic that is made; a topic that is there with another number is refused.
    pub partitions: u32,
    /// How long topics that are made keep their records.
    pub retention: Duration,
    /// Without a sign of life for so long a reader is gone, and its partitions go to the others.
    pub session_timeout: Duration,
    pub security: Security,
}

/// How the broker's clients protect themselves and sign in.
#[derive(Debug, Clone, Default)]
pub struct Security {
    pub tls: bool,
    /// The certificates that the servers' are checked against; `None` takes the system's.
    pub ca_file: Option<PathBuf>,
    pub sign_in: Option<SignIn>,
}

#[derive(Debug, Clone)]
pub struct SignIn {
    /// As SASL calls it: `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    pub mechanism: &'static str,
    pub user: String,
    pub password: Secret,
}

/// The log on Kafka.
pub struct BrokerLog {
    settings: Arc<BrokerSettings>,
    names: Arc<Names>,
    topics: Arc<Topics>,
    producer: Producer,
    /// By group: the newest reader that this process had.
    seats: Mutex<BTreeMap<String, Arc<Seat>>>,
    closing: Arc<Closing>,
}

impl BrokerLog {
    /// Connects and makes the topics that are missing. A broker that is away is no error: the topics are made once it is
    /// there. Topics with another number of partitions are refused.
    pub async fn open(settings: BrokerSettings) -> Result<Self, LogError> {
        let settings = Arc::new(settings);
        let names = Arc::new(Names::new(&settings.prefix));
        let topics = Arc::new(Topics::new(settings.clone(), names.clone()));
        let producer = Producer::new(&settings)?;
        match topics.ensure().await {
            Ok(()) => {}
            Err(LogError::Unavailable(reason)) => {
                tracing::warn!(error = reason, "starting without the event log: it is used once it is there");
            }
            Err(error) => return Err(error),
        }
        Ok(Self { settings, names, topics, producer, seats: Mutex::default(), closing: Arc::default() })
    }

    /// Sends what was accepted and leaves the groups, within a few seconds. Blocks.
    pub fn close(&self) {
        for seat in clients::lock(&self.seats).values() {
            seat.vacate(&self.closing);
        }
        self.producer.flush(CLOSE);
        self.closing.wait(None, CLOSE);
    }
}

#[async_trait]
impl EventLog for BrokerLog {
    async fn append(&self, events: Vec<PendingEvent>) -> Result<(), LogError> {
        events.iter().try_for_each(check_size)?;
        if events.is_empty() {
            return Ok(());
        }
        self.topics.ensure().await?;
        let appended = self.producer.append(events, &self.names, self.settings.partitions).await;
        if appended.is_err() {
            // Also a topic that was removed is looked for before the next attempt.
            self.topics.look_again();
        }
        appended
    }

    async fn consumer(
        &self,
        group: &str,
        topics: &[Topic],
        pace: Duration,
    ) -> Result<Box<dyn GroupConsumer>, LogError> {
        self.topics.ensure().await?;
        let earlier = clients::lock(&self.seats).get(group).cloned();
        if let Some(earlier) = earlier {
            earlier.vacate(&self.closing);
            // Partitions come sooner from a reader that has left than from one that is asked to give them up.
            let (closing, group) = (self.closing.clone(), group.to_owned());
            clients::blocking(move || {
                closing.wait(Some(&group), LEAVE);
                Ok(())
            })
            .await?;
        }
        let (settings, names, all_topics) = (self.settings.clone(), self.names.clone(), self.topics.clone());
        let (closing, own_group, topics) = (self.closing.clone(), group.to_owned(), topics.to_vec());
        // A client waits for its threads to run.
        let reader = clients::blocking(move || {
            BrokerConsumer::open(&settings, &names, &all_topics, &closing, &own_group, &topics, pace)
        })
        .await?;
        let replaced = clients::lock(&self.seats).insert(group.to_owned(), reader.seat());
        if let Some(replaced) = replaced {
            replaced.vacate(&self.closing);
        }
        Ok(Box::new(reader))
    }

    async fn tail(&self, topics: &[Topic]) -> Result<Box<dyn Tail>, LogError> {
        self.topics.ensure().await?;
        Ok(Box::new(BrokerTail::open(&self.settings, &self.names, &self.topics, topics).await?))
    }

    /// Of the groups that this process has read for.
    async fn progress(&self) -> Result<Vec<(String, Vec<Progress>)>, LogError> {
        let seats: Vec<Arc<Seat>> = clients::lock(&self.seats).values().cloned().collect();
        let (settings, names) = (self.settings.clone(), self.names.clone());
        clients::blocking(move || seats.iter().map(|seat| offsets::progress(seat, &settings, &names)).collect()).await
    }

    async fn check(&self) -> Result<(), LogError> {
        // Topics with another number of partitions are of no use, however well the broker is.
        self.topics.ensure().await?;
        self.producer.check().await
    }
}
