//! What is read when somebody scrapes: the tree's counts, the relays', the consumers', and how far behind they are.
//!
//! These are counted where they happen; a scrape copies them into the registry, so that nothing is counted twice and an
//! idle process does nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use prometheus::IntCounterVec;
use tokio::sync::Mutex;

use crate::actors::supervisor::{ActorStatus, SupervisionTree};
use crate::kafka::EventLog;
use crate::kafka::consumer::ConsumerStats;
use crate::kafka::relay::Relay;
use crate::store::notifications::NotificationStore;
use crate::telemetry::Metrics;

pub(super) struct Readings {
    pub metrics: Metrics,
    pub tree: Arc<SupervisionTree>,
    pub log: Arc<dyn EventLog>,
    pub relays: Vec<Arc<Relay>>,
    /// By group.
    pub consumers: Vec<(String, Arc<ConsumerStats>)>,
    pub notifications: Arc<dyn NotificationStore>,
    /// One copy at a time: two would each see the other's half.
    pub copying: Mutex<()>,
}

fn set(counters: &IntCounterVec, label: &str, value: u64) {
    let counter = counters.with_label_values(&[label]);
    counter.reset();
    counter.inc_by(value);
}

impl Readings {
    pub(super) async fn refresh(&self) {
        let _copying = self.copying.lock().await;
        self.read_actor(&self.tree.status());
        for relay in &self.relays {
            let published = relay.stats().published.load(Ordering::Relaxed);
            set(&self.metrics.outbox_published, relay.domain(), published);
        }
        for (group, stats) in &self.consumers {
            set(&self.metrics.events_handled, group, stats.handled.load(Ordering::Relaxed));
            set(&self.metrics.event_attempts_failed, group, stats.failed_attempts.load(Ordering::Relaxed));
            set(&self.metrics.dead_letters, group, stats.dead_letters.load(Ordering::Relaxed));
        }
        // While the store is away the last depths stay.
        if let Ok(depths) = self.notifications.queue_depths().await {
            for (lane, depth) in [("critical", depths.critical), ("standard", depths.standard)] {
                let depth = i64::try_from(depth).unwrap_or(i64::MAX);
                self.metrics.notification_queue_depth.with_label_values(&[lane]).set(depth);
            }
        }
        // While the log is away its lag is not known; the last one stays.
        for (group, progress) in self.log.progress().await.unwrap_or_default() {
            let mut by_topic = BTreeMap::<&str, i64>::new();
            for partition in progress {
                *by_topic.entry(partition.partition.topic.name()).or_default() += partition.lag();
            }
            for (topic, lag) in by_topic {
                self.metrics.consumer_lag.with_label_values(&[&group, topic]).set(lag);
            }
        }
    }

    fn read_actor(&self, status: &ActorStatus) {
        // The root is the process itself: it restarts nothing and handles nothing.
        for child in &status.children {
            set(&self.metrics.actor_messages_handled, &child.name, child.handled);
            set(&self.metrics.actor_restarts, &child.name, child.restarts);
            let depth = i64::try_from(child.mailbox_depth).unwrap_or(i64::MAX);
            self.metrics.actor_mailbox_depth.with_label_values(&[&child.name]).set(depth);
            self.read_actor(child);
        }
    }
}
