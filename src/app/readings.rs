//! What is read when somebody scrapes: the tree's counts, the relays', the consumers', how far behind they are, and what
//! waits in the stores.
//!
//! Counts are kept where they happen; a scrape copies them into the registry, so that nothing is counted twice and an
//! idle process does nothing. What has to be asked of stores and log is waited for only a moment: a scrape then shows
//! what was last known, and the answer comes with the next one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::{join_all, join5};
use prometheus::{GaugeVec, IntGaugeVec};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::actors::clock::now;
use crate::actors::supervisor::{ActorState, ActorStatus, SupervisionTree};
use crate::actors::users::hasher::PasswordHasher;
use crate::domain::events::Topic;
use crate::domain::time::Timestamp;
use crate::gateway::admin::{Health, Phase};
use crate::kafka::EventLog;
use crate::kafka::consumer::ConsumerStats;
use crate::kafka::relay::Relay;
use crate::store::cache::SharedCache;
use crate::store::notifications::NotificationStore;
use crate::store::orders::OrderStore;
use crate::store::outbox::Outbox;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::copy_count;

/// How long a scrape waits for stores and log.
const PATIENCE: Duration = Duration::from_millis(250);

/// Dependencies are asked whether they are there at most so often for the sake of a scrape.
const PROBE_EVERY: Duration = Duration::from_secs(10);

/// The consumer of a group.
pub(super) struct GroupReading {
    pub group: String,
    pub topics: Vec<Topic>,
    pub stats: Arc<ConsumerStats>,
}

pub(super) struct Readings {
    pub metrics: Metrics,
    pub tree: Arc<SupervisionTree>,
    pub log: Arc<dyn EventLog>,
    pub relays: Vec<Arc<Relay>>,
    /// Of the domains that the process's roles write to.
    pub outboxes: Vec<Arc<dyn Outbox>>,
    pub consumers: Vec<GroupReading>,
    /// Where this process applies stock's verdicts, or serves those who wait for them: also when nobody applies them.
    pub orders: Option<Arc<dyn OrderStore>>,
    /// Where this process delivers mail, or serves those who wait for it.
    pub notifications: Option<Arc<dyn NotificationStore>>,
    pub cache: Option<Arc<dyn SharedCache>>,
    pub hasher: PasswordHasher,
    /// Stores and log are asked once at a time.
    pub asking: Mutex<()>,
}

fn set(gauges: &IntGaugeVec, labels: &[&str], value: impl TryInto<i64>) {
    gauges.with_label_values(labels).set(value.try_into().unwrap_or(i64::MAX));
}

/// How long ago; nothing, and what is still to come, is no time ago.
fn seconds_since(time: Option<Timestamp>) -> f64 {
    time.map_or(0.0, |time| now().millis_since(time).max(0) as f64 / 1_000.0)
}

fn set_age(gauges: &GaugeVec, label: &str, since: Option<Timestamp>) {
    gauges.with_label_values(&[label]).set(seconds_since(since));
}

impl Readings {
    /// Brings the registry up to date. Must be called inside an actix system.
    pub(super) async fn refresh(self: &Arc<Self>, health: &Health) {
        self.copy_counts();
        self.metrics.process.ready.set(i64::from(health.phase() == Phase::Ready));
        let (readings, health) = (Arc::clone(self), health.clone());
        let asking = actix_rt::spawn(async move {
            if let Ok(_turn) = readings.asking.try_lock() {
                readings.ask(&health).await;
            }
        });
        // What is not answered in time goes on by itself.
        let _ = timeout(PATIENCE, asking).await;
    }

    fn copy_counts(&self) {
        let Metrics { events, caches, sign_in, .. } = &self.metrics;
        self.copy_actor(&self.tree.status());
        for relay in &self.relays {
            let (domain, stats) = (&[relay.domain()], relay.stats());
            copy_count(&events.outbox_published.with_label_values(domain), stats.published.load(Ordering::Relaxed));
            copy_count(&events.outbox_failures.with_label_values(domain), stats.failures.load(Ordering::Relaxed));
            copy_count(&events.outbox_refused.with_label_values(domain), stats.refused.load(Ordering::Relaxed));
        }
        for GroupReading { group, topics, stats } in &self.consumers {
            for topic in topics {
                let labels = &[group.as_str(), topic.name()];
                copy_count(&events.handled.with_label_values(labels), stats.handled.of(*topic));
                copy_count(&events.retries.with_label_values(labels), stats.failed_attempts.of(*topic));
                copy_count(&events.dead_letters.with_label_values(labels), stats.dead_letters.of(*topic));
            }
            set(&events.parked, &[group], stats.parked.load(Ordering::Relaxed));
            copy_count(&events.waits.with_label_values(&[group]), stats.waits.load(Ordering::Relaxed));
            copy_count(&events.missed.with_label_values(&[group]), stats.missed.load(Ordering::Relaxed));
        }
        if let Some(cache) = &self.cache {
            copy_count(&caches.errors.with_label_values(&["redis"]), cache.failures());
        }
        sign_in.hashes.set(i64::try_from(self.hasher.taken_places()).unwrap_or(i64::MAX));
        copy_count(&sign_in.hashes_refused, self.hasher.refused());
    }

    fn copy_actor(&self, status: &ActorStatus) {
        let actors = &self.metrics.actors;
        // The root is the process itself: it restarts nothing and handles nothing.
        for child in &status.children {
            let (actor, mailbox, failures) = (child.name.as_str(), child.mailbox, child.failures);
            set(&actors.up, &[actor], i64::from(child.state == ActorState::Running));
            set(&actors.mailbox_depth, &[actor, "critical"], mailbox.critical);
            set(&actors.mailbox_depth, &[actor, "standard"], mailbox.standard);
            set(&actors.messages_in_flight, &[actor], mailbox.in_flight);
            copy_count(&actors.messages_handled.with_label_values(&[actor]), mailbox.handled);
            copy_count(&actors.restarts.with_label_values(&[actor]), child.restarts);
            copy_count(&actors.panics.with_label_values(&[actor]), failures.panics);
            copy_count(&actors.freezes.with_label_values(&[actor]), failures.freezes);
            let escalated = u64::from(child.state == ActorState::Escalated);
            copy_count(&actors.escalations.with_label_values(&[actor]), escalated);
            for (reason, count) in [
                ("busy", failures.asks_busy),
                ("timeout", failures.asks_timeout),
                ("interrupted", failures.asks_interrupted),
                ("stopped", failures.asks_stopped),
            ] {
                copy_count(&actors.asks_failed.with_label_values(&[actor, reason]), count);
            }
            self.copy_actor(child);
        }
    }

    /// What is not answered keeps its last value.
    async fn ask(&self, health: &Health) {
        join5(
            join_all(self.outboxes.iter().map(|outbox| self.ask_outbox(outbox.as_ref()))),
            self.ask_orders(),
            self.ask_mails(),
            self.ask_log(),
            health.ask_again_after(PROBE_EVERY),
        )
        .await;
    }

    async fn ask_outbox(&self, outbox: &dyn Outbox) {
        if let Ok(backlog) = outbox.backlog().await {
            set(&self.metrics.events.outbox_depth, &[outbox.domain()], backlog.events);
            set_age(&self.metrics.events.outbox_oldest_seconds, outbox.domain(), backlog.oldest);
        }
    }

    async fn ask_orders(&self) {
        let Some(orders) = &self.orders else { return };
        if let Ok(pending) = orders.pending_orders().await {
            self.metrics.orders.pending.set(i64::try_from(pending.count).unwrap_or(i64::MAX));
            self.metrics.orders.pending_oldest_seconds.set(seconds_since(pending.oldest));
        }
    }

    async fn ask_mails(&self) {
        let Some(notifications) = &self.notifications else { return };
        if let Ok(depths) = notifications.queue_depths().await {
            for (lane, depth) in [("critical", depths.critical), ("standard", depths.standard)] {
                set(&self.metrics.mail.queue_depth, &[lane], depth.queued);
                set_age(&self.metrics.mail.queue_oldest_seconds, lane, depth.first_due);
            }
        }
    }

    async fn ask_log(&self) {
        for (group, progress) in self.log.progress().await.unwrap_or_default() {
            let mut by_topic = BTreeMap::<&str, i64>::new();
            for partition in progress {
                *by_topic.entry(partition.partition.topic.name()).or_default() += partition.lag();
            }
            for (topic, lag) in by_topic {
                set(&self.metrics.events.lag, &[&group, topic], lag);
            }
        }
    }
}
