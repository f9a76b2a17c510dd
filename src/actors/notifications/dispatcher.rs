//! The dispatcher: claims what is due, keeps it in two bounded lanes, and hands it to idle workers.
//!
//! It sleeps until something is queued, becomes due, or is delivered. A full lane makes it claim less: what is not claimed
//! waits in the store. Where there are two workers or more, the first takes only critical mail, so that standard mail
//! and servers that stall never hold all of them up. The others send few mails at a time under restraint.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};
use uuid::Uuid;

use super::worker::{Deliver, DeliveryWorker};
use super::{InHand, Outcome, OutcomeObserver};
use crate::actors::ask::{Address, AskError};
use crate::actors::clock::now;
use crate::actors::mailbox::{Lane, LaneFull, LaneLimits, TwoLaneQueue};
use crate::domain::ids::NotificationId;
use crate::domain::notifications::attempts::{Attempt, RetryPolicy};
use crate::domain::notifications::{Notification, NotificationPriority, StandardLimits};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::notifications::{ClaimWanted, Lease, NotificationStore, SettleAttempt, Settled};

/// How long a claim holds. Longer than any delivery.
pub const LEASE_MS: i64 = 90_000;

/// Places in the critical lane. Many: of a backlog a claim costs about the same for ten mails as for a hundred.
const CRITICAL_LANE: u32 = 128;
/// Places in the standard lane for each worker, and at least. Few: what waits here has left the shop's pace already.
const STANDARD_LANE_A_WORKER: u32 = 2;
const STANDARD_LANE: u32 = 8;

/// What a delivery takes besides the mail server's time: the recipient's look-up, and writing down how it ended.
const BESIDE_DELIVERY: Duration = Duration::from_secs(10);

/// Waits while the store is away.
const STORE_PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// How soon it is asked whether a restraint has ended.
const RESTRAINT_PAUSE: Duration = Duration::from_millis(250);

/// How many mails are in hand at a time for now, because the machine is behind with what buyers wait for at their screens; but
/// the worker that takes only critical mail is never restrained. `None`: as many as there are workers.
pub type Restraint = Arc<dyn Fn() -> Option<usize> + Send + Sync>;

pub struct DispatchTools {
    pub store: Arc<dyn NotificationStore>,
    /// The first takes only critical mail, unless it is alone.
    pub workers: Vec<Address<DeliveryWorker>>,
    /// Told when something was queued by this process.
    pub wake: Arc<Notify>,
    /// Changes when another process has written to the store.
    pub foreign_writes: watch::Receiver<u64>,
    /// No other process delivers from this store: a lease that nobody here holds is nobody's.
    pub alone: bool,
    /// Nothing is sent before links can be made.
    pub origin: watch::Receiver<Option<String>>,
    pub limits: StandardLimits,
    pub policy: RetryPolicy,
    /// How long the mail server may take with one mail.
    pub delivery_deadline: Duration,
    /// Critical mails in a row while a standard one waits.
    pub burst: usize,
    pub in_hand: InHand,
    pub observe: OutcomeObserver,
    pub restraint: Restraint,
}

/// Dispatches until `stop` turns true (or its sender is gone), then gives back what no worker has begun and waits for
/// what they have in hand. May be dropped at any await and run again.
pub async fn run(tools: Arc<DispatchTools>, mut stop: watch::Receiver<bool>) {
    let mut origin = tools.origin.clone();
    tokio::select! {
        biased;
        _ = stop.wait_for(|stop| *stop) => return,
        known = origin.wait_for(Option::is_some) => if known.is_err() { return },
    }
    let mut dispatcher = Dispatcher::new(tools);
    if dispatcher.tools.alone {
        dispatcher.void_leases(&mut stop).await;
    }
    while !*stop.borrow() {
        dispatcher.hand_out().await;
        if dispatcher.is_time_to_claim() {
            dispatcher.claim().await;
            continue;
        }
        dispatcher.wait(&mut stop).await;
    }
    dispatcher.finish().await;
}

/// A mail that was claimed.
struct Claimed {
    notification: Notification,
    lease: Lease,
    until: Timestamp,
}

/// What ended a wait.
enum Woken {
    Stop,
    Delivered(Delivered),
    Queued,
    /// Nothing comes from other processes any more.
    StoreClosed,
    Due,
}

type Delivered = (usize, NotificationId, Lease, Result<Result<Settled, StoreError>, AskError>);

struct Dispatcher {
    tools: Arc<DispatchTools>,
    lanes: TwoLaneQueue<Claimed>,
    limits: LaneLimits,
    /// The numbers of the workers that have nothing in hand; of the one for critical mail apart.
    idle: Vec<usize>,
    critical_idle: Option<usize>,
    deliveries: FuturesUnordered<LocalBoxFuture<'static, Delivered>>,
    /// When to claim again; `None`: only when woken.
    claim_at: Option<Instant>,
    /// Something due of the lane may be in the store.
    left_critical: bool,
    left_standard: bool,
    /// Workers were left idle for the restraint.
    restrained: bool,
    pause: Duration,
    foreign_writes: watch::Receiver<u64>,
    store_closed: bool,
}

impl Dispatcher {
    fn new(tools: Arc<DispatchTools>) -> Self {
        let workers = u32::try_from(tools.workers.len()).unwrap_or(u32::MAX);
        let standard = workers.saturating_mul(STANDARD_LANE_A_WORKER).max(STANDARD_LANE);
        let limits = LaneLimits {
            critical: CRITICAL_LANE.max(workers) as usize,
            standard: standard as usize,
            burst: tools.burst,
        };
        let reserved = usize::from(tools.workers.len() > 1);
        Self {
            lanes: TwoLaneQueue::new(limits),
            limits,
            idle: (reserved..tools.workers.len()).collect(),
            critical_idle: (reserved > 0).then_some(0),
            deliveries: FuturesUnordered::new(),
            claim_at: Some(Instant::now()),
            left_critical: false,
            left_standard: false,
            restrained: false,
            pause: STORE_PAUSE.0,
            foreign_writes: tools.foreign_writes.clone(),
            store_closed: false,
            tools,
        }
    }

    /// What an earlier dispatcher had claimed is due again, but for what workers still have in hand.
    async fn void_leases(&mut self, stop: &mut watch::Receiver<bool>) {
        while !*stop.borrow() {
            match self.tools.store.void_leases(self.tools.in_hand.ids()).await {
                Ok(0) => return,
                Ok(leases) => return tracing::info!(leases, "mails that were claimed before are due again"),
                Err(error) => {
                    tracing::warn!(%error, "the dispatcher of mails waits for its store");
                    let _ = timeout(self.next_pause(), stop.changed()).await;
                }
            }
        }
    }

    fn next_pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(STORE_PAUSE.1);
        pause
    }

    fn limit(&self, lane: Lane) -> usize {
        match lane {
            Lane::Critical => self.limits.critical,
            Lane::Standard => self.limits.standard,
        }
    }

    fn room(&self, lane: Lane) -> u32 {
        u32::try_from(self.limit(lane).saturating_sub(self.lanes.lane_len(lane))).unwrap_or(u32::MAX)
    }

    /// A claim for a mail or two would cost more than they do.
    fn is_half_empty(&self, lane: Lane) -> bool {
        self.room(lane) as usize * 2 >= self.limit(lane)
    }

    fn is_time_to_claim(&self) -> bool {
        let has_room = self.room(Lane::Critical) > 0 || self.room(Lane::Standard) > 0;
        has_room && self.claim_at.is_some_and(|at| at <= Instant::now())
    }

    async fn claim(&mut self) {
        let lease = Lease(Uuid::now_v7());
        let at = now();
        let wanted = ClaimWanted {
            critical: self.room(Lane::Critical),
            standard: self.room(Lane::Standard),
            limits: self.tools.limits,
            lease,
            lease_ms: LEASE_MS,
            now: at,
        };
        let claim = match self.tools.store.claim(wanted).await {
            Ok(claim) => claim,
            Err(error) => {
                // Once an outage.
                if self.pause == STORE_PAUSE.0 {
                    tracing::warn!(%error, "the dispatcher of mails waits for its store");
                }
                self.claim_at = Some(Instant::now() + self.next_pause());
                return;
            }
        };
        self.pause = STORE_PAUSE.0;
        (self.left_critical, self.left_standard) = (claim.left_critical, claim.left_standard);
        self.claim_at = claim.again_at.map(instant_of);
        if claim.skipped > 0 {
            (self.tools.observe)(Outcome::Skipped, claim.skipped.into());
        }
        let until = at.plus_millis(LEASE_MS);
        let mut too_many = Vec::new();
        for notification in claim.taken {
            let lane = match notification.priority() {
                NotificationPriority::Critical => Lane::Critical,
                NotificationPriority::Standard => Lane::Standard,
            };
            let pushed = self.lanes.push(lane, Claimed { notification, lease, until });
            too_many.extend(pushed.err().map(|LaneFull(claimed)| (claimed.notification.id, claimed.lease)));
        }
        self.release(too_many).await;
    }

    /// Gives every idle worker something, if there is something for it.
    async fn hand_out(&mut self) {
        let mut stale = Vec::new();
        let needed = self.tools.delivery_deadline + BESIDE_DELIVERY;
        while let Some((worker, claimed)) = self.next_pair() {
            let left = claimed.until.millis_since(now());
            if u128::try_from(left).is_ok_and(|left| left >= needed.as_millis()) {
                self.deliveries.push(delivery(worker, self.tools.workers[worker].clone(), claimed, needed));
            } else {
                // Its lease might end before the delivery does: somebody else would deliver it again.
                self.make_idle(worker);
                stale.push((claimed.notification.id, claimed.lease));
                self.claim_at = Some(Instant::now());
            }
        }
        self.release(stale).await;
    }

    fn next_pair(&mut self) -> Option<(usize, Claimed)> {
        if self.critical_idle.is_some()
            && let Some(claimed) = self.lanes.pop_critical()
        {
            return self.critical_idle.take().map(|worker| (worker, claimed));
        }
        let could_take = !self.idle.is_empty() && !self.lanes.is_empty();
        self.restrained = could_take && (self.tools.restraint)().is_some_and(|most| self.deliveries.len() >= most);
        if !could_take || self.restrained {
            return None;
        }
        let claimed = self.lanes.pop()?;
        self.idle.pop().map(|worker| (worker, claimed))
    }

    fn make_idle(&mut self, worker: usize) {
        if worker == 0 && self.tools.workers.len() > 1 {
            self.critical_idle = Some(worker);
        } else {
            self.idle.push(worker);
        }
    }

    async fn wait(&mut self, stop: &mut watch::Receiver<bool>) {
        let has_room = self.room(Lane::Critical) > 0 || self.room(Lane::Standard) > 0;
        let claim_at = self.claim_at.filter(|_| has_room);
        let look_again = self.restrained.then(|| Instant::now() + RESTRAINT_PAUSE);
        let claim_at = claim_at.into_iter().chain(look_again).min();
        let due = async {
            match claim_at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let woken = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => Woken::Stop,
            Some(delivered) = self.deliveries.next(), if !self.deliveries.is_empty() => Woken::Delivered(delivered),
            () = self.tools.wake.notified() => Woken::Queued,
            changed = self.foreign_writes.changed(), if !self.store_closed => match changed {
                Ok(()) => Woken::Queued,
                Err(_) => Woken::StoreClosed,
            },
            () = due => Woken::Due,
        };
        match woken {
            Woken::Stop | Woken::Due => {}
            Woken::Delivered(delivered) => self.delivered(delivered).await,
            // With so many waiting the workers are busy, or restrained: the claim that follows takes what was queued, of
            // both lanes.
            Woken::Queued if !self.is_half_empty(Lane::Critical) => self.left_critical = true,
            Woken::Queued => self.claim_at = Some(Instant::now()),
            Woken::StoreClosed => self.store_closed = true,
        }
    }

    async fn delivered(&mut self, (worker, id, lease, answer): Delivered) {
        self.make_idle(worker);
        match answer {
            Ok(Ok(Settled::Again(at))) => {
                let at = instant_of(at);
                self.claim_at = Some(self.claim_at.map_or(at, |known| known.min(at)));
            }
            Ok(_) => {}
            Err(AskError::Interrupted) => self.settle_interrupted(id, lease).await,
            Err(AskError::Busy | AskError::Stopped) => self.release(vec![(id, lease)]).await,
            // It goes on, or its lease ends.
            Err(AskError::Timeout) => {}
        }
        if (self.left_critical && self.is_half_empty(Lane::Critical))
            || (self.left_standard && self.is_half_empty(Lane::Standard))
        {
            self.claim_at = Some(Instant::now());
        }
    }

    /// The worker failed with it in hand: counted as an attempt, so that a mail that fails its worker ends some time.
    async fn settle_interrupted(&mut self, id: NotificationId, lease: Lease) {
        let attempt = SettleAttempt {
            id,
            lease,
            attempt: Attempt::Refused("the worker failed while it delivered this".into()),
            policy: self.tools.policy,
            per_second: self.tools.limits.per_second,
            at: now(),
            chance: rand::random(),
        };
        match self.tools.store.settle(attempt).await {
            Ok(Settled::Again(at)) => {
                (self.tools.observe)(Outcome::Failed, 1);
                let at = instant_of(at);
                self.claim_at = Some(self.claim_at.map_or(at, |known| known.min(at)));
            }
            Ok(Settled::Dead) => (self.tools.observe)(Outcome::Dead, 1),
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "an interrupted delivery waits for the end of its lease"),
        }
    }

    async fn release(&self, claimed: Vec<(NotificationId, Lease)>) {
        if claimed.is_empty() {
            return;
        }
        if let Err(error) = self.tools.store.release(claimed).await {
            tracing::warn!(%error, "mails that were claimed wait for the end of their leases");
        }
    }

    async fn finish(&mut self) {
        let waiting: Vec<_> = self.lanes.drain().map(|claimed| (claimed.notification.id, claimed.lease)).collect();
        self.release(waiting).await;
        while let Some((_, id, lease, answer)) = self.deliveries.next().await {
            if matches!(answer, Err(AskError::Busy | AskError::Stopped)) {
                self.release(vec![(id, lease)]).await;
            }
        }
    }
}

fn delivery(
    worker: usize,
    address: Address<DeliveryWorker>,
    claimed: Claimed,
    needed: Duration,
) -> LocalBoxFuture<'static, Delivered> {
    let Claimed { notification, lease, until } = claimed;
    let id = notification.id;
    Box::pin(async move {
        let answer = address.ask(Deliver { notification, lease, until }, needed).await;
        (worker, id, lease, answer)
    })
}

/// The moment of a time of day, as far as the clocks agree.
fn instant_of(at: Timestamp) -> Instant {
    let millis = u64::try_from(at.millis_since(now())).unwrap_or(0);
    Instant::now() + Duration::from_millis(millis)
}
