//! Following the log without a group: every partition, from the end on.
//!
//! A connection that was lost and is back goes on by offset, so nothing is missed. A place that the log does not hold any
//! more is lost: the tail goes on at the end and says so.

use std::sync::Arc;

use async_trait::async_trait;
use rdkafka::consumer::Consumer;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::Notify;

use super::super::{LogError, Tail, Tailed, TopicPartition};
use super::BrokerSettings;
use super::clients::{away, blocking, config};
use super::membership::{GroupClient, Membership};
use super::offsets;
use super::records::{Interruption, take};
use super::topics::{Names, Topics};
use crate::domain::events::Topic;

/// The most records that a tail gets at once.
const BATCH: usize = 1_000;
/// librdkafka reads no partition without the name of a group. This one has no members and no offsets.
const GROUP: &str = "tail";

pub(super) struct BrokerTail {
    /// `None` only while it is dropped.
    client: Option<Arc<GroupClient>>,
    names: Arc<Names>,
    all_topics: Arc<Topics>,
    places: Vec<TopicPartition>,
    wake: Arc<Notify>,
    interrupted: Option<Interruption>,
}

impl BrokerTail {
    pub(super) async fn open(
        settings: &BrokerSettings,
        names: &Arc<Names>,
        all_topics: &Arc<Topics>,
        topics: &[Topic],
    ) -> Result<Self, LogError> {
        let wake = Arc::new(Notify::new());
        let mut config = config(settings);
        config.set("group.id", names.group(GROUP));
        offsets::set_reading(&mut config);
        let woken = wake.clone();
        // A client waits for its threads to run.
        let client = blocking(move || {
            let mut client: GroupClient = config.create_with_context(Membership::new(woken.clone())).map_err(away)?;
            client.set_nonempty_callback(move || woken.notify_one());
            Ok(client)
        })
        .await?;
        let partitions = i32::try_from(settings.partitions).unwrap_or(i32::MAX);
        let places = topics
            .iter()
            .flat_map(|&topic| (0..partitions).map(move |partition| TopicPartition { topic, partition }))
            .collect();
        let (names, all_topics) = (names.clone(), all_topics.clone());
        let tail = Self { client: Some(Arc::new(client)), names, all_topics, places, wake, interrupted: None };
        tail.go_to_end().await?;
        Ok(tail)
    }

    async fn go_to_end(&self) -> Result<(), LogError> {
        let Some(client) = self.client.clone() else { return Ok(()) };
        let (names, places) = (self.names.clone(), self.places.clone());
        blocking(move || {
            let ends = offsets::at_end(&client, &names, &places, Offset::End)?;
            let mut list = TopicPartitionList::with_capacity(ends.len());
            for (at, end) in ends {
                offsets::add(&mut list, &names, at, Offset::Offset(end));
            }
            client.assign(&list).map_err(away)
        })
        .await
    }
}

impl Drop for BrokerTail {
    fn drop(&mut self) {
        let client = self.client.take();
        // Closing takes its time. Without a thread it happens here.
        let _ = std::thread::Builder::new().name("souk-kafka-tail".to_owned()).spawn(move || drop(client));
    }
}

#[async_trait]
impl Tail for BrokerTail {
    async fn next(&mut self) -> Result<Tailed, LogError> {
        loop {
            match self.interrupted.take() {
                None => {}
                Some(Interruption::LostPlace) => {
                    // Dropped meanwhile, it has still lost its place.
                    self.interrupted = Some(Interruption::LostPlace);
                    self.go_to_end().await?;
                    self.interrupted = None;
                    return Ok(Tailed::LostPlace);
                }
                Some(Interruption::Failed(error)) => {
                    self.all_topics.look_again();
                    return Err(error);
                }
            }
            let Some(client) = self.client.as_deref() else { return std::future::pending().await };
            let (records, interrupted) = take(client, &self.names, BATCH, || true);
            self.interrupted = interrupted;
            if !records.is_empty() {
                return Ok(Tailed::Records(records));
            }
            if self.interrupted.is_none() {
                self.wake.notified().await;
            }
        }
    }
}
