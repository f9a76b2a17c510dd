//! The loops that run beside the requests, and how they end: consumers, the tail of the log, relays.
//!
//! Which group gives way to what, and how its batches are spaced, is decided here by the role that it is of.

use std::cell::RefCell;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Stopping;
use super::readings::GroupReading;
use crate::actors::clock::now;
use crate::actors::live::LiveHub;
use crate::actors::notifications::dispatcher::Restraint;
use crate::actors::supervisor::{ActorSpec, RestartPolicy};
use crate::config::{Config, Role};
use crate::domain::events::Topic;
use crate::kafka::EventLog;
use crate::kafka::backoff::Backoff;
use crate::kafka::consumer::{BatchHandler, ConsumerGroup, ConsumerSettings};
use crate::kafka::live::{HubSink, TOPICS as LIVE_TOPICS};
use crate::kafka::precedence::{Precedence, Rank};
use crate::kafka::relay::Relay;
use crate::kafka::supervised::{LoopActor, Work};
use crate::kafka::tail;
use crate::store::consumption::ConsumptionStore;

/// While the log is away.
const LOG_WAIT: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));

/// The loops that run beside the requests: consumers, tail, relays.
pub(super) struct Background {
    stop_consumers: Stopping,
    stop_relays: Stopping,
    relays: Vec<Arc<Relay>>,
    /// One of each consumer and of the tail.
    lives: Vec<NewestLife>,
}

/// How far apart the batches of a group in the background start, and how long the broker gathers records for it.
const BACKGROUND_PACE: Duration = Duration::from_millis(100);

/// The newest life of a loop holds a receiver of this until it ends. An earlier one does not count: it may be stuck for
/// ever on a thread that was given up.
type NewestLife = Arc<std::sync::Mutex<watch::Sender<()>>>;

fn newest(life: &NewestLife) -> std::sync::MutexGuard<'_, watch::Sender<()>> {
    life.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Background {
    /// Lets the consumers finish their batch, within half of the time, and the relays publish what was committed.
    /// True: in time.
    pub(super) async fn finish(&self, deadline: Duration) -> bool {
        let began = Instant::now();
        let by = began + deadline;
        self.stop_consumers.send_replace(true);
        let ended = self.lives.iter().map(|life| async {
            let life = newest(life).clone();
            life.closed().await;
        });
        let consumers = tokio::time::timeout_at(began + deadline / 2, join_all(ended)).await.is_ok();
        let drained = join_all(self.relays.iter().map(|relay| relay.drain(by))).await.into_iter().all(|done| done);
        self.stop_relays.send_replace(true);
        consumers && drained
    }
}

/// What the loops share.
pub(super) struct Loops<'a> {
    config: &'a Config,
    log: Arc<dyn EventLog>,
    pub(super) stop_consumers: Stopping,
    stop_relays: Stopping,
    lives: RefCell<Vec<NewestLife>>,
    readings: RefCell<Vec<GroupReading>>,
    precedence: Arc<Precedence>,
}

impl<'a> Loops<'a> {
    pub(super) fn new(config: &'a Config, log: &Arc<dyn EventLog>, precedence: &Arc<Precedence>) -> Self {
        Self {
            config,
            log: Arc::clone(log),
            stop_consumers: watch::Sender::new(false),
            stop_relays: watch::Sender::new(false),
            lives: RefCell::default(),
            readings: RefCell::default(),
            precedence: Arc::clone(precedence),
        }
    }

    /// No more loops come: what ends these, and what tells of their groups.
    pub(super) fn end(self, relays: Vec<Arc<Relay>>) -> (Background, Vec<GroupReading>) {
        let Self { stop_consumers, stop_relays, lives, readings, .. } = self;
        (Background { stop_consumers, stop_relays, relays, lives: lives.into_inner() }, readings.into_inner())
    }

    /// The consumer of a group, if it is of a role that this process has; every process has what is of none.
    #[expect(clippy::too_many_arguments, reason = "each is named where it is called")]
    pub(super) fn consumer(
        &self,
        role: Option<Role>,
        actor: &str,
        group: &str,
        topics: &[Topic],
        source: &'static str,
        store: &Arc<dyn ConsumptionStore>,
        handler: Arc<dyn BatchHandler>,
    ) -> Option<ActorSpec<LoopActor>> {
        if role.is_some_and(|role| !self.config.roles.has(role)) {
            return None;
        }
        let events = &self.config.events;
        let millis = Duration::from_millis;
        let (linger, busy_from) = linger(role);
        let settings = ConsumerSettings {
            max_batch: events.batch_size,
            max_attempts: events.max_attempts,
            retry: Backoff::new(millis(events.retry_base_ms), millis(events.retry_max_ms)),
            clock: now,
            precedence: rank(role).map(|rank| (Arc::clone(&self.precedence), rank)),
            linger,
            busy_from,
            pace: if is_background(role) { BACKGROUND_PACE } else { Duration::ZERO },
            ..ConsumerSettings::new(source)
        };
        let consumer =
            Arc::new(ConsumerGroup::new(group, topics, Arc::clone(&self.log), Arc::clone(store), handler, settings));
        let reading = GroupReading { group: group.to_owned(), topics: topics.to_vec(), stats: consumer.stats() };
        self.readings.borrow_mut().push(reading);
        Some(self.loop_actor(actor, &self.stop_consumers, move |stop| {
            let consumer = Arc::clone(&consumer);
            async move { consumer.run(stop).await }
        }))
    }

    pub(super) fn restraint(&self) -> Restraint {
        let precedence = Arc::clone(&self.precedence);
        Arc::new(move || precedence.mails_at_a_time())
    }

    pub(super) fn tail(&self, live: &LiveHub) -> ActorSpec<LoopActor> {
        let (log, live) = (Arc::clone(&self.log), live.clone());
        self.loop_actor("events.tail", &self.stop_consumers, move |stop| {
            let (log, sink) = (Arc::clone(&log), Arc::new(HubSink(live.clone())));
            async move { tail::follow(log, &LIVE_TOPICS, sink, LOG_WAIT, stop).await }
        })
    }

    pub(super) fn publisher(&self, relays: &[Arc<Relay>]) -> ActorSpec<LoopActor> {
        let (relays, stop) = (relays.to_vec(), self.stop_relays.subscribe());
        let work: Work = Arc::new(move || {
            let (relays, stop) = (relays.clone(), stop.clone());
            Box::pin(async move {
                join_all(relays.iter().map(|relay| relay.run(stop.clone()))).await;
            })
        });
        ActorSpec::new("events", move || Ok(LoopActor::new(Arc::clone(&work)))).policy(RestartPolicy::Transient)
    }

    pub(super) fn loop_actor<F>(
        &self,
        name: &str,
        stopping: &Stopping,
        run: impl Fn(watch::Receiver<bool>) -> F + Send + Sync + 'static,
    ) -> ActorSpec<LoopActor>
    where
        F: Future<Output = ()> + 'static,
    {
        let (stop, lives) = (stopping.subscribe(), NewestLife::default());
        self.lives.borrow_mut().push(Arc::clone(&lives));
        let work: Work = Arc::new(move || {
            let (sender, life) = watch::channel(());
            *newest(&lives) = sender;
            let running = run(stop.clone());
            Box::pin(async move {
                running.await;
                drop(life);
            })
        });
        ActorSpec::new(name, move || Ok(LoopActor::new(Arc::clone(&work)))).policy(RestartPolicy::Transient)
    }
}

/// `None`: gives way to nobody. That is so of mails, for one may be about a sign-in.
fn rank(role: Option<Role>) -> Option<Rank> {
    match role {
        Some(Role::Inventory | Role::Orders) => Some(Rank::OrderFlow),
        Some(Role::Recommendations) => Some(Rank::Background),
        _ => None,
    }
}

/// Whether no buyer waits for what the role's group does.
fn is_background(role: Option<Role>) -> bool {
    matches!(role, Some(Role::Recommendations | Role::Notifications))
}

/// How far apart the batches of a busy group start, and from how many records on it is one: in the background each commit
/// carries all that came in a while.
fn linger(role: Option<Role>) -> (Duration, usize) {
    if is_background(role) { (BACKGROUND_PACE, 4) } else { (Duration::from_millis(20), 8) }
}
