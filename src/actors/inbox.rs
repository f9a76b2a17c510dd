//! What the supervisor holds of an actor outside its context: queue, messages in flight, orders, injected faults.
//!
//! Askers push, the pump of the actor's current thread takes, a seat is kept for each message in flight. Every thread
//! that runs the actor has a generation; only the latest may take messages, so an abandoned thread finds nothing.
//! One mutex guards it all; it is never held across an await, a wake or a foreign destructor.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::ask::{AskError, Envelope};
use super::mailbox::{Lane, LaneFull, TwoLaneQueue};
use super::supervisor::status::{ActorState, MailboxCounts, Vitals};
use super::supervisor::thread::ThreadLife;
use super::supervisor::{Fault, MailboxLimits, SupervisedActor};

pub(super) struct Inbox<A: SupervisedActor> {
    vitals: Vitals,
    /// Set with every order or fault, so that the runner looks at the mutex only when there is something.
    attention: AtomicBool,
    inner: Mutex<Inner<A>>,
    /// Told when a draining inbox may have become empty, and when the actor has ended.
    progress: Notify,
}

struct Inner<A: SupervisedActor> {
    queue: TwoLaneQueue<Arc<dyn Envelope<A>>>,
    in_flight: Seats<Arc<dyn Envelope<A>>>,
    in_flight_limit: usize,
    generation: u64,
    /// False once asks are refused: draining, stopped or escalated.
    open: bool,
    /// No runner will come any more.
    ended: bool,
    /// The pump found nothing to do; the next push has to wake it.
    idle: bool,
    waker: Option<Waker>,
    stop_ordered: bool,
    restart_ordered: Option<Instant>,
    faults: VecDeque<Fault>,
    failing_starts: u32,
    handled: u64,
}

/// What the runner has to do before it polls its actor on.
pub(super) enum Order {
    Stop,
    RestartAt(Instant),
    Strike(Fault),
}

/// What the pump finds.
pub(super) enum Next<A: SupervisedActor> {
    Message(Arc<dyn Envelope<A>>, usize),
    Nothing,
    /// An order or fault came, which goes first.
    OrderFirst,
    /// The actor runs on another thread now.
    Abandoned,
}

impl<A: SupervisedActor> Inbox<A> {
    pub(super) fn new(name: &str) -> Self {
        let limits = MailboxLimits::default();
        Self {
            vitals: Vitals::new(name),
            attention: AtomicBool::new(false),
            inner: Mutex::new(Inner {
                queue: TwoLaneQueue::new(limits.lanes()),
                in_flight: Seats::default(),
                in_flight_limit: limits.in_flight,
                generation: 0,
                open: true,
                ended: false,
                idle: false,
                waker: None,
                stop_ordered: false,
                restart_ordered: None,
                faults: VecDeque::new(),
                failing_starts: 0,
                handled: 0,
            }),
            progress: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<A>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn name(&self) -> &str {
        self.vitals.name()
    }

    pub(super) fn vitals(&self) -> &Vitals {
        &self.vitals
    }

    pub(super) fn set_limits(&self, limits: MailboxLimits) {
        let mut inner = self.lock();
        inner.queue.set_limits(limits.lanes());
        inner.in_flight_limit = limits.in_flight.max(1);
    }

    pub(super) fn counts(&self) -> MailboxCounts {
        let inner = self.lock();
        MailboxCounts {
            critical: inner.queue.lane_len(Lane::Critical),
            standard: inner.queue.lane_len(Lane::Standard),
            in_flight: inner.in_flight.len(),
            handled: inner.handled,
        }
    }

    pub(super) fn push(&self, lane: Lane, envelope: Arc<dyn Envelope<A>>) -> Result<(), AskError> {
        let mut inner = self.lock();
        if !inner.open {
            return Err(AskError::Stopped);
        }
        inner.queue.push(lane, envelope).map_err(|LaneFull(_)| AskError::Busy)?;
        inner.wake_pump_and_unlock();
        Ok(())
    }

    /// The next message and its seat, if the actor may take one more.
    pub(super) fn next(&self, generation: u64) -> Next<A> {
        let mut inner = self.lock();
        if inner.generation != generation {
            return Next::Abandoned;
        }
        if self.attention.load(Ordering::Acquire) {
            return Next::OrderFirst;
        }
        if inner.in_flight.len() < inner.in_flight_limit
            && let Some(envelope) = inner.queue.pop()
        {
            let seat = inner.in_flight.take(Arc::clone(&envelope));
            return Next::Message(envelope, seat);
        }
        inner.idle = true;
        Next::Nothing
    }

    fn leave(&self, generation: u64, seat: usize, answered: bool) {
        let mut inner = self.lock();
        if inner.generation != generation {
            return;
        }
        let envelope = inner.in_flight.give_back(seat);
        inner.handled += u64::from(answered);
        if inner.queue.is_empty() {
            let drained = !inner.open && inner.in_flight.len() == 0;
            drop(inner);
            if drained {
                self.progress.notify_one();
            }
        } else {
            inner.wake_pump_and_unlock();
        }
        drop(envelope);
    }

    /// Makes `waker` the one that wakes the actor's runner; false if the actor runs on another thread now.
    pub(super) fn register(&self, generation: u64, waker: &Waker) -> bool {
        let mut inner = self.lock();
        if inner.generation != generation {
            return false;
        }
        inner.waker = Some(waker.clone());
        true
    }

    /// The most urgent order; the runner asks again until there is none.
    pub(super) fn next_order(&self, generation: u64, strike: bool) -> Option<Order> {
        if !self.attention.load(Ordering::Acquire) {
            return None;
        }
        let mut inner = self.lock();
        if inner.generation != generation {
            return None;
        }
        if inner.stop_ordered {
            return Some(Order::Stop);
        }
        if let Some(at) = inner.restart_ordered.take() {
            return Some(Order::RestartAt(at));
        }
        if strike && let Some(fault) = inner.faults.pop_front() {
            return Some(Order::Strike(fault));
        }
        if inner.faults.is_empty() {
            self.attention.store(false, Ordering::Release);
        }
        None
    }

    fn order(&self, give: impl FnOnce(&mut Inner<A>)) {
        let mut inner = self.lock();
        give(&mut inner);
        self.attention.store(true, Ordering::Release);
        let waker = inner.waker.clone();
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(super) fn order_restart(&self, at: Instant) {
        self.order(|inner| inner.restart_ordered = Some(at));
    }

    pub(super) fn inject(&self, fault: Fault) {
        self.order(|inner| inner.faults.push_back(fault));
    }

    pub(super) fn fail_next_starts(&self, starts: u32) {
        self.lock().failing_starts += starts;
    }

    pub(super) fn take_failing_start(&self) -> bool {
        let mut inner = self.lock();
        let fails = inner.failing_starts > 0;
        inner.failing_starts = inner.failing_starts.saturating_sub(1);
        fails
    }

    /// Hands the actor to the thread of `generation`. What was in flight on the old thread is interrupted at once, what
    /// is queued stays.
    pub(super) fn hand_over(&self, generation: u64) {
        let mut inner = self.lock();
        inner.generation = generation;
        inner.idle = false;
        inner.waker = None;
        inner.restart_ordered = None;
        let interrupted = inner.in_flight.clear();
        drop(inner);
        for envelope in &interrupted {
            envelope.refuse(AskError::Interrupted);
        }
        // A drain that waited for them has nothing more to wait for.
        self.progress.notify_one();
    }

    /// Ends the actor for good: refuses what waits, cuts off what is in flight, tells its runner to go.
    pub(super) fn end(&self, state: ActorState) {
        let mut inner = self.lock();
        if inner.ended {
            return;
        }
        inner.open = false;
        inner.ended = true;
        inner.stop_ordered = true;
        self.attention.store(true, Ordering::Release);
        let waiting: Vec<_> = inner.queue.drain().collect();
        let in_flight = inner.in_flight.occupants();
        let waker = inner.waker.clone();
        drop(inner);
        self.vitals.set_state(state);
        for envelope in &waiting {
            envelope.refuse(AskError::Stopped);
        }
        for envelope in &in_flight {
            envelope.refuse(AskError::Interrupted);
        }
        if let Some(waker) = waker {
            waker.wake();
        }
        self.progress.notify_one();
    }

    pub(super) fn has_ended(&self) -> bool {
        self.lock().ended
    }

    fn drained(&self) -> Drained {
        let inner = self.lock();
        match inner.queue.is_empty() && inner.in_flight.len() == 0 {
            _ if inner.ended => Drained::Ended,
            true => Drained::Quiet,
            false => Drained::Busy,
        }
    }

    /// Refuses new asks, finishes queue and flight, stops the actor. Down actors come back first to do it.
    pub(super) async fn drain(&self) {
        self.lock().open = false;
        loop {
            match self.drained() {
                Drained::Ended => return,
                Drained::Quiet => self.order(|inner| inner.stop_ordered = true),
                Drained::Busy => {}
            }
            self.progress.notified().await;
        }
    }
}

enum Drained {
    Busy,
    Quiet,
    Ended,
}

impl<A: SupervisedActor> Inner<A> {
    fn may_take(&self) -> bool {
        self.in_flight.len() < self.in_flight_limit
    }
}

trait WakePump {
    fn wake_pump_and_unlock(self);
}

impl<A: SupervisedActor> WakePump for MutexGuard<'_, Inner<A>> {
    /// Wakes an idle pump that may take a message, after the lock is released.
    fn wake_pump_and_unlock(mut self) {
        if !self.idle || !self.may_take() {
            return;
        }
        self.idle = false;
        let waker = self.waker.clone();
        drop(self);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// One message in flight. Dropped, it makes room for the next.
pub(super) struct Seat<A: SupervisedActor> {
    inbox: Arc<Inbox<A>>,
    thread: Arc<ThreadLife>,
    member: usize,
    number: usize,
    began: std::time::Instant,
    answered: bool,
}

impl<A: SupervisedActor> Seat<A> {
    pub(super) fn new(inbox: Arc<Inbox<A>>, thread: Arc<ThreadLife>, member: usize, number: usize) -> Self {
        Self { inbox, thread, member, number, began: std::time::Instant::now(), answered: false }
    }

    pub(super) fn leave_answered(mut self) {
        self.answered = true;
        self.vitals().handler_seconds().observe(self.began.elapsed().as_secs_f64());
    }

    pub(super) fn thread(&self) -> &ThreadLife {
        &self.thread
    }

    pub(super) fn member(&self) -> usize {
        self.member
    }

    pub(super) fn vitals(&self) -> &Vitals {
        self.inbox.vitals()
    }
}

impl<A: SupervisedActor> Drop for Seat<A> {
    fn drop(&mut self) {
        self.inbox.leave(self.thread.generation(), self.number, self.answered);
    }
}

/// Numbered places with constant-time take and give back.
struct Seats<T> {
    places: Vec<Option<T>>,
    free: Vec<usize>,
}

impl<T> Default for Seats<T> {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }
}

impl<T: Clone> Seats<T> {
    fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    fn take(&mut self, occupant: T) -> usize {
        if let Some(number) = self.free.pop() {
            self.places[number] = Some(occupant);
            return number;
        }
        self.places.push(Some(occupant));
        self.places.len() - 1
    }

    fn give_back(&mut self, number: usize) -> Option<T> {
        let occupant = self.places.get_mut(number)?.take();
        if occupant.is_some() {
            self.free.push(number);
        }
        occupant
    }

    fn occupants(&self) -> Vec<T> {
        self.places.iter().flatten().cloned().collect()
    }

    fn clear(&mut self) -> Vec<T> {
        self.free.clear();
        self.places.drain(..).flatten().collect()
    }
}
