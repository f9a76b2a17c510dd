//! A reader's membership in its group, as librdkafka sees it.
//!
//! librdkafka announces which partitions come and go, and waits until it is answered. An announcement is kept here until
//! the reader has done its part: what comes is answered once every new partition has its offset, what goes once the work
//! in hand is done. Meanwhile the membership lives on by heartbeats; a reader that takes longer than
//! `max.poll.interval.ms` loses it, and the offsets in the domain's database fence its late commits.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::Notify;

use super::clients::{lock, log_error, log_line};

pub(super) type GroupClient = BaseConsumer<Membership>;

/// What librdkafka waits to be answered.
#[derive(Debug, Clone)]
pub(super) enum Announcement {
    /// These come.
    Assigned(TopicPartitionList),
    /// These go.
    Revoked(TopicPartitionList),
}

pub(super) struct Membership {
    /// Told of everything that happens: a poll that served an event may have left records behind it.
    wake: Arc<Notify>,
    unanswered: Mutex<Option<Announcement>>,
    leaving: AtomicBool,
}

impl Membership {
    pub(super) fn new(wake: Arc<Notify>) -> Self {
        Self { wake, unanswered: Mutex::default(), leaving: AtomicBool::new(false) }
    }

    pub(super) fn unanswered(&self) -> Option<Announcement> {
        lock(&self.unanswered).clone()
    }

    pub(super) fn has_unanswered(&self) -> bool {
        lock(&self.unanswered).is_some()
    }
}

/// Answers an assignment with the offsets in the list.
pub(super) fn accept(client: &GroupClient, partitions: &TopicPartitionList) -> KafkaResult<()> {
    lock(&client.context().unanswered).take();
    client.incremental_assign(partitions)
}

/// Answers a revocation.
pub(super) fn give_up(client: &GroupClient, partitions: &TopicPartitionList) -> KafkaResult<()> {
    lock(&client.context().unanswered).take();
    answer_revocation(client, partitions)
}

fn answer_revocation(client: &GroupClient, partitions: &TopicPartitionList) -> KafkaResult<()> {
    match client.rebalance_protocol() {
        RebalanceProtocol::Cooperative => client.incremental_unassign(partitions),
        RebalanceProtocol::Eager | RebalanceProtocol::None => client.unassign(),
    }
}

/// From now on announcements are answered by themselves: a client closes only when none waits. Dropping it does the rest.
pub(super) fn prepare_to_leave(client: &GroupClient) {
    let membership = client.context();
    membership.leaving.store(true, Ordering::Release);
    let unanswered = lock(&membership.unanswered).take();
    let answered = match unanswered {
        None => Ok(()),
        Some(Announcement::Assigned(mut partitions)) => {
            partitions.set_all_offsets(Offset::End).and_then(|()| client.incremental_assign(&partitions))
        }
        Some(Announcement::Revoked(partitions)) => answer_revocation(client, &partitions),
    };
    if let Err(error) = answered {
        tracing::debug!(%error, "an announcement could not be answered while leaving");
    }
}

impl ConsumerContext for Membership {
    fn rebalance(&self, client: &BaseConsumer<Self>, kind: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        let assigned = kind == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.leaving.load(Ordering::Acquire) {
            let answered =
                if assigned { client.incremental_assign(partitions) } else { answer_revocation(client, partitions) };
            if let Err(error) = answered {
                tracing::debug!(%error, "an announcement could not be answered while leaving");
            }
            return;
        }
        let announcement = if assigned {
            Announcement::Assigned(partitions.clone())
        } else {
            Announcement::Revoked(partitions.clone())
        };
        *lock(&self.unanswered) = Some(announcement);
        self.wake.notify_one();
    }

    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        if let Err(error) = result {
            // The copies are written again; the truth is in the domain's database.
            tracing::debug!(%error, "copies of offsets were not written");
        }
        self.wake.notify_one();
    }
}

impl ClientContext for Membership {
    fn log(&self, level: RDKafkaLogLevel, subject: &str, line: &str) {
        log_line(level, subject, line);
        self.wake.notify_one();
    }

    fn error(&self, error: KafkaError, reason: &str) {
        log_error(&error, reason);
        self.wake.notify_one();
    }
}
