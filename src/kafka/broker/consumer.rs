//! A group's reader.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::Notify;

use super::super::{Bounds, Delivery, GroupConsumer, LogError, TopicPartition};
use super::BrokerSettings;
use super::clients::{ANSWER, away, blocking, config, lock};
use super::closing::Closing;
use super::membership::{Announcement, GroupClient, Membership, accept, give_up, prepare_to_leave};
use super::offsets;
use super::records::{Interruption, take};
use super::topics::{Names, Topics};
use crate::domain::events::Topic;

/// Signs of life in the time after which a reader without any is gone.
const HEARTBEATS: u32 = 4;
/// The deadline of the work in hand when partitions are to go elsewhere, and of any other.
const WORK: Duration = Duration::from_secs(30);
/// A reader that waits is polled this often, so that it counts as at work.
const SIGN_OF_WORK: Duration = Duration::from_secs(10);
/// Copies of offsets are written this far apart.
const COPY_EVERY: Duration = Duration::from_millis(500);
/// A reply of so many bytes does not wait for more.
const FULL_REPLY_BYTES: &str = "131072";

/// A reader's place in its group. A newer reader of this process takes its client away, also when the older is stuck.
pub(super) struct Seat {
    /// Without the prefix.
    pub group: String,
    pub topics: Vec<Topic>,
    client: Mutex<Option<Arc<GroupClient>>>,
    pub copies: Mutex<Copies>,
    wake: Arc<Notify>,
}

impl Seat {
    /// The client, to ask it something on a thread that may wait.
    pub(super) fn client(&self) -> Option<Arc<GroupClient>> {
        lock(&self.client).clone()
    }

    /// Leaves the group, on another thread.
    pub(super) fn vacate(self: &Arc<Self>, closing: &Arc<Closing>) {
        let Some(client) = lock(&self.client).take() else { return };
        self.wake.notify_one();
        let seat = self.clone();
        closing.start(&self.group, move || {
            prepare_to_leave(&client);
            seat.write_copies(&client, CommitMode::Sync);
            drop(client);
        });
    }

    /// Writes the copies that are new. Blocks when `mode` is [`CommitMode::Sync`].
    pub(super) fn write_copies(&self, client: &GroupClient, mode: CommitMode) {
        let Some(list) = lock(&self.copies).take_new() else { return };
        if let Err(error) = client.commit(&list, mode) {
            // The next ones are higher, and the truth is in the domain's database.
            tracing::debug!(group = %self.group, %error, "copies of offsets were not written");
        }
    }
}

/// The copies of the group's offsets.
pub(super) struct Copies {
    names: Arc<Names>,
    highest: BTreeMap<TopicPartition, i64>,
    new: BTreeSet<TopicPartition>,
    written: Instant,
}

impl Copies {
    fn new(names: Arc<Names>) -> Self {
        Self { names, highest: BTreeMap::new(), new: BTreeSet::new(), written: Instant::now() }
    }

    fn set(&mut self, at: TopicPartition, next_offset: i64) {
        if self.highest.get(&at).is_none_or(|&highest| highest < next_offset) {
            self.highest.insert(at, next_offset);
            self.new.insert(at);
        }
    }

    /// How long until the new ones are to be written; `None` when there are none.
    fn due_in(&self) -> Option<Duration> {
        (!self.new.is_empty()).then(|| COPY_EVERY.saturating_sub(self.written.elapsed()))
    }

    fn take_new(&mut self) -> Option<TopicPartitionList> {
        if self.new.is_empty() {
            return None;
        }
        self.written = Instant::now();
        let mut list = TopicPartitionList::with_capacity(self.new.len());
        for at in std::mem::take(&mut self.new) {
            offsets::add(&mut list, &self.names, at, Offset::Offset(self.highest[&at]));
        }
        Some(list)
    }

    fn forget(&mut self, at: TopicPartition) {
        self.highest.remove(&at);
        self.new.remove(&at);
    }
}

pub(super) struct BrokerConsumer {
    seat: Arc<Seat>,
    names: Arc<Names>,
    all_topics: Arc<Topics>,
    closing: Arc<Closing>,
    /// Partitions that were announced, with the offsets that were sought so far. They are accepted when each has one.
    offered: BTreeMap<TopicPartition, Option<i64>>,
    owned: BTreeSet<TopicPartition>,
    /// What was asked of the broker along with another partition's bounds. Only until the next delivery.
    bounds: HashMap<TopicPartition, Bounds>,
    interrupted: Option<Interruption>,
}

impl BrokerConsumer {
    pub(super) fn open(
        settings: &BrokerSettings,
        names: &Arc<Names>,
        all_topics: &Arc<Topics>,
        closing: &Arc<Closing>,
        group: &str,
        topics: &[Topic],
        pace: Duration,
    ) -> Result<Self, LogError> {
        let wake = Arc::new(Notify::new());
        let mut config = config(settings);
        config
            .set("group.id", names.group(group))
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", settings.session_timeout.as_millis().to_string())
            .set("heartbeat.interval.ms", (settings.session_timeout / HEARTBEATS).as_millis().to_string())
            .set("max.poll.interval.ms", WORK.as_millis().to_string());
        offsets::set_reading(&mut config);
        if !pace.is_zero() {
            config.set("fetch.min.bytes", FULL_REPLY_BYTES).set("fetch.wait.max.ms", pace.as_millis().to_string());
        }
        let mut client: GroupClient =
            config.create_with_context(Membership::new(wake.clone())).map_err(|e| LogError::Broken(e.to_string()))?;
        let woken = wake.clone();
        client.set_nonempty_callback(move || woken.notify_one());
        let subscribed: Vec<&str> = topics.iter().map(|&topic| names.topic(topic)).collect();
        client.subscribe(&subscribed).map_err(away)?;
        let seat = Seat {
            group: group.to_owned(),
            topics: topics.to_vec(),
            client: Mutex::new(Some(Arc::new(client))),
            copies: Mutex::new(Copies::new(names.clone())),
            wake,
        };
        Ok(Self {
            seat: Arc::new(seat),
            names: names.clone(),
            all_topics: all_topics.clone(),
            closing: closing.clone(),
            offered: BTreeMap::new(),
            owned: BTreeSet::new(),
            bounds: HashMap::new(),
            interrupted: None,
        })
    }

    pub(super) fn seat(&self) -> Arc<Seat> {
        self.seat.clone()
    }

    /// What there is now, without waiting.
    fn step(&mut self, client: &GroupClient, max: usize) -> Result<Option<Delivery>, LogError> {
        if lock(&self.seat.copies).due_in() == Some(Duration::ZERO) {
            self.seat.write_copies(client, CommitMode::Async);
        }
        loop {
            match client.context().unanswered() {
                Some(Announcement::Revoked(list)) => {
                    self.seat.write_copies(client, CommitMode::Async);
                    give_up(client, &list).map_err(away)?;
                    let gone = offsets::places(&list, &self.names);
                    for at in &gone {
                        self.owned.remove(at);
                        lock(&self.seat.copies).forget(*at);
                    }
                    if !gone.is_empty() {
                        return Ok(Some(Delivery::Revoked(gone)));
                    }
                }
                Some(Announcement::Assigned(list)) if list.count() == 0 => accept(client, &list).map_err(away)?,
                // Nothing is answered, and nothing can be announced, before all of it is sought.
                Some(Announcement::Assigned(list)) if self.offered.is_empty() => {
                    let new = offsets::places(&list, &self.names);
                    self.offered = new.iter().map(|&at| (at, None)).collect();
                    return Ok(Some(Delivery::Assigned(new)));
                }
                Some(Announcement::Assigned(_)) | None => {}
            }
            if let Some(interrupted) = self.interrupted.take() {
                return Err(self.interruption(interrupted));
            }
            let offered = !self.offered.is_empty();
            let go_on = || offered || !client.context().has_unanswered();
            let (records, interrupted) = take(client, &self.names, max, go_on);
            self.interrupted = interrupted;
            if !records.is_empty() {
                return Ok(Some(Delivery::Records(records)));
            }
            let announced = client.context().has_unanswered() && self.offered.is_empty();
            if self.interrupted.is_none() && !announced {
                return Ok(None);
            }
        }
    }

    /// Whoever runs the group opens another reader, which finds its place anew.
    fn interruption(&self, interruption: Interruption) -> LogError {
        self.all_topics.look_again();
        match interruption {
            Interruption::LostPlace => away("the next offset is not in the log"),
            Interruption::Failed(error) => error,
        }
    }

    /// Everything that the reader has been told about.
    fn known(&self) -> Vec<TopicPartition> {
        self.owned.iter().chain(self.offered.keys()).copied().collect()
    }

    /// A newer reader has its place.
    async fn replaced(&mut self) -> Delivery {
        let gone = self.known();
        self.owned.clear();
        self.offered.clear();
        if gone.is_empty() { pending().await } else { Delivery::Revoked(gone) }
    }

    /// All of what was announced has its offset: reading begins.
    fn accept_offered(&mut self) -> Result<(), LogError> {
        let sought: Option<Vec<(TopicPartition, i64)>> =
            self.offered.iter().map(|(&at, &offset)| Some((at, offset?))).collect();
        let Some(sought) = sought else { return Ok(()) };
        let mut list = TopicPartitionList::with_capacity(sought.len());
        for &(at, offset) in &sought {
            offsets::add(&mut list, &self.names, at, Offset::Offset(offset));
        }
        self.offered.clear();
        let client = lock(&self.seat.client);
        if let Some(client) = &*client {
            accept(client, &list).map_err(away)?;
        }
        self.owned.extend(sought.into_iter().map(|(at, _)| at));
        Ok(())
    }
}

impl Drop for BrokerConsumer {
    fn drop(&mut self) {
        self.seat.vacate(&self.closing);
    }
}

#[async_trait]
impl GroupConsumer for BrokerConsumer {
    async fn next(&mut self, max: usize) -> Result<Delivery, LogError> {
        self.bounds.clear();
        loop {
            let seat = self.seat.clone();
            let stepped = match &*lock(&seat.client) {
                None => None,
                Some(client) => Some(self.step(client, max)?),
            };
            match stepped {
                None => return Ok(self.replaced().await),
                Some(Some(delivery)) => return Ok(delivery),
                Some(None) => {}
            }
            let copies_due = lock(&seat.copies).due_in();
            let limit = copies_due.map_or(SIGN_OF_WORK, |due| due.min(SIGN_OF_WORK));
            // Either way there is something to do.
            let _ = tokio::time::timeout(limit, seat.wake.notified()).await;
        }
    }

    async fn bounds(&mut self, partition: TopicPartition) -> Result<Bounds, LogError> {
        if let Some(bounds) = self.bounds.remove(&partition) {
            return Ok(bounds);
        }
        // Of a place that is another's for good nobody needs to know.
        let Some(client) = self.seat.client() else { return pending().await };
        let mut places = self.known();
        if !places.contains(&partition) {
            places.push(partition);
        }
        let names = self.names.clone();
        self.bounds = blocking(move || offsets::bounds(&*client, &names, &places)).await?;
        self.bounds.remove(&partition).ok_or_else(|| away(format!("the broker does not know {partition}")))
    }

    async fn seek(&mut self, partition: TopicPartition, offset: i64) -> Result<(), LogError> {
        if let Some(sought) = self.offered.get_mut(&partition) {
            *sought = Some(offset);
            return self.accept_offered();
        }
        let Some(client) = self.seat.client().filter(|_| self.owned.contains(&partition)) else { return Ok(()) };
        let mut list = TopicPartitionList::with_capacity(1);
        offsets::add(&mut list, &self.names, partition, Offset::Offset(offset));
        blocking(move || {
            let sought = client.seek_partitions(list, ANSWER).map_err(away)?;
            sought.elements().iter().try_for_each(|element| element.error()).map_err(away)
        })
        .await
    }

    fn commit(&mut self, partition: TopicPartition, next_offset: i64) {
        lock(&self.seat.copies).set(partition, next_offset);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_only_rise_and_are_written_once() {
        let at = TopicPartition { topic: Topic::OrderEvents, partition: 3 };
        let mut copies = Copies::new(Arc::new(Names::new("")));
        assert_eq!(copies.due_in(), None);
        copies.set(at, 8);
        copies.set(at, 3);
        assert!(copies.due_in().is_some());
        let list = copies.take_new().unwrap();
        assert_eq!(list.find_partition("order-events", 3).unwrap().offset(), Offset::Offset(8));
        assert!(copies.take_new().is_none() && copies.due_in().is_none());
        copies.set(at, 8);
        assert!(copies.take_new().is_none());
        copies.forget(at);
        copies.set(at, 5);
        assert!(copies.take_new().is_some());
    }
}
