//! One actor on one thread: build, poll, catch, report, again.
//!
//! [`run`] is the task. It waits until the actor may start, builds value and context, and polls them as [`Life`] until
//! that ends; what follows is decided by the domain. Inside the context the [`Pump`] takes messages from the inbox and
//! hands them to the actor; actix's own mailbox carries only what the actor sends itself.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};

use actix::dev::ContextFut;
use actix::dev::channel::{self, AddressSender};
use actix::fut::{ActorFuture, wrap_future};
use actix::{ActorContext, AsyncContext, Context};
use futures_util::future::LocalBoxFuture;
use tokio::time::{Instant, sleep_until};

use super::super::inbox::{Inbox, Next, Order, Seat};
use super::domain::{Domain, Verdict};
use super::faults::{self, FAILED_STARTS, Fault};
use super::panics;
use super::spec::{Factory, RestartPolicy, StartError, SupervisedActor};
use super::status::{ActorState, Failure, MailboxCounts, Vitals};
use super::thread::ThreadLife;

/// Messages handed over before timers, other futures and the thread's other tasks get their turn.
const MESSAGES_A_TURN: u32 = 64;

/// Senders that actix's channel keeps a place for; nothing but the actor itself uses it.
const OWN_CHANNEL_CAPACITY: usize = 16;

/// An actor of the tree without its type.
pub(super) trait Member: Send + Sync {
    fn vitals(&self) -> &Vitals;
    fn policy(&self) -> RestartPolicy;
    fn mailbox(&self) -> MailboxCounts;
    /// The task that runs the actor on the thread that `thread` stands for.
    fn run(
        self: Arc<Self>,
        index: usize,
        domain: Arc<Domain>,
        thread: Arc<ThreadLife>,
        start: Start,
    ) -> LocalBoxFuture<'static, ()>;
    fn hand_over(&self, generation: u64);
    fn order_restart(&self, at: Instant);
    fn inject(&self, fault: Fault);
    fn end(&self, state: ActorState);
    fn has_ended(&self) -> bool;
    fn drain(&self) -> futures_util::future::BoxFuture<'_, ()>;
}

pub(super) struct SupervisedMember<A: SupervisedActor> {
    pub(super) inbox: Arc<Inbox<A>>,
    pub(super) factory: Factory<A>,
    pub(super) policy: RestartPolicy,
}

impl<A: SupervisedActor> Member for SupervisedMember<A> {
    fn vitals(&self) -> &Vitals {
        self.inbox.vitals()
    }

    fn policy(&self) -> RestartPolicy {
        self.policy
    }

    fn mailbox(&self) -> MailboxCounts {
        self.inbox.counts()
    }

    fn run(
        self: Arc<Self>,
        index: usize,
        domain: Arc<Domain>,
        thread: Arc<ThreadLife>,
        start: Start,
    ) -> LocalBoxFuture<'static, ()> {
        Box::pin(run(self, index, domain, thread, start))
    }

    fn hand_over(&self, generation: u64) {
        self.inbox.hand_over(generation);
    }

    fn order_restart(&self, at: Instant) {
        self.inbox.order_restart(at);
    }

    fn inject(&self, fault: Fault) {
        self.inbox.inject(fault);
    }

    fn end(&self, state: ActorState) {
        self.inbox.end(state);
    }

    fn has_ended(&self) -> bool {
        self.inbox.has_ended()
    }

    fn drain(&self) -> futures_util::future::BoxFuture<'_, ()> {
        Box::pin(self.inbox.drain())
    }
}

/// When a value is to be built, and whether it replaces one.
#[derive(Debug, Clone, Copy)]
pub(super) enum Start {
    First,
    RestartAt(Instant),
}

/// How a value's time ended.
enum End {
    /// The supervisor ordered it, for good.
    Stopped,
    /// A sibling failed.
    Restart(Instant),
    /// The actor stopped itself.
    Finished,
    Failed(String),
    /// The thread has lost the actor.
    Abandoned,
}

async fn run<A: SupervisedActor>(
    member: Arc<SupervisedMember<A>>,
    index: usize,
    domain: Arc<Domain>,
    thread: Arc<ThreadLife>,
    mut start: Start,
) {
    let inbox = &member.inbox;
    loop {
        let end = match live_once(&member, index, &thread, start).await {
            _ if thread.is_abandoned() => return,
            end => end,
        };
        start = match end {
            End::Abandoned => return,
            End::Stopped => return inbox.end(ActorState::Stopped),
            End::Restart(_) if member.policy == RestartPolicy::Temporary => return inbox.end(ActorState::Stopped),
            End::Restart(at) => Start::RestartAt(at),
            End::Finished if member.policy != RestartPolicy::Permanent => return inbox.end(ActorState::Stopped),
            End::Failed(_) if member.policy == RestartPolicy::Temporary => return inbox.end(ActorState::Stopped),
            End::Finished => match domain.member_failed(index, "stopped itself") {
                Verdict::RestartAt(at) => Start::RestartAt(at),
                Verdict::Ended => return,
            },
            End::Failed(cause) => match domain.member_failed(index, &cause) {
                Verdict::RestartAt(at) => Start::RestartAt(at),
                Verdict::Ended => return,
            },
        };
        inbox.vitals().set_state(ActorState::Restarting);
    }
}

async fn live_once<A: SupervisedActor>(
    member: &SupervisedMember<A>,
    index: usize,
    thread: &Arc<ThreadLife>,
    start: Start,
) -> End {
    let inbox = &member.inbox;
    if let Start::RestartAt(at) = start {
        if let Some(end) = wait_until(at, inbox, thread).await {
            return end;
        }
        inbox.vitals().count_restart();
    }
    let built = thread.busy_with(index, || build(member, index, thread, start));
    match built {
        Ok(mut life) => poll_fn(|task| life.poll(task)).await,
        Err((failure, cause)) => {
            if !thread.is_abandoned() {
                inbox.vitals().record_failure(failure, &cause);
            }
            End::Failed(cause)
        }
    }
}

/// Waits for the time of a restart. A sibling's failure in the meantime changes nothing: the value is rebuilt anyway.
async fn wait_until<A: SupervisedActor>(at: Instant, inbox: &Inbox<A>, thread: &ThreadLife) -> Option<End> {
    let mut pause = (at > Instant::now()).then(|| Box::pin(sleep_until(at)));
    poll_fn(move |task| {
        if !inbox.register(thread.generation(), task.waker()) {
            return Poll::Ready(Some(End::Abandoned));
        }
        while let Some(order) = inbox.next_order(thread.generation(), false) {
            if matches!(order, Order::Stop) {
                return Poll::Ready(Some(End::Stopped));
            }
        }
        match pause.as_mut() {
            Some(pause) => pause.as_mut().poll(task).map(|()| None),
            None => Poll::Ready(None),
        }
    })
    .await
}

/// A new value in a new context. The context is not kept from one value to the next: actix would carry cancelled
/// handles over, which then hit futures of the new value.
fn build<A: SupervisedActor>(
    member: &SupervisedMember<A>,
    index: usize,
    thread: &Arc<ThreadLife>,
    start: Start,
) -> Result<Life<A>, (Failure, String)> {
    if member.inbox.take_failing_start() {
        return Err((Failure::FailedStart, "failed to start: injected fault".to_owned()));
    }
    let allowance = Rc::new(Cell::new(0));
    let built = panics::catch(|| {
        let actor = (member.factory)()?;
        let (own_sender, receiver) = channel::channel(OWN_CHANNEL_CAPACITY);
        let mut future = Context::with_receiver(receiver).into_future(actor);
        if matches!(start, Start::RestartAt(_)) {
            future.restart();
        }
        let pump = Pump {
            inbox: Arc::clone(&member.inbox),
            thread: Arc::clone(thread),
            index,
            allowance: Rc::clone(&allowance),
        };
        future.ctx().spawn(pump);
        Ok((Box::new(future), own_sender))
    });
    let (future, own_sender) = match built {
        Ok(Ok(parts)) => parts,
        Ok(Err(StartError(why))) => return Err((Failure::FailedStart, format!("failed to start: {why}"))),
        Err(panic) => return Err((Failure::Panic, panic)),
    };
    Ok(Life {
        inbox: Arc::clone(&member.inbox),
        thread: Arc::clone(thread),
        index,
        future: Some(future),
        _own_sender: own_sender,
        allowance,
        started: false,
        waker: None,
    })
}

/// A value being polled.
struct Life<A: SupervisedActor> {
    inbox: Arc<Inbox<A>>,
    thread: Arc<ThreadLife>,
    index: usize,
    /// `None` once it has ended.
    future: Option<Box<ContextFut<A, Context<A>>>>,
    /// A context without any sender would stop itself.
    _own_sender: AddressSender<A>,
    /// Messages the pump may still take in this poll.
    allowance: Rc<Cell<u32>>,
    started: bool,
    /// What the inbox wakes; it rarely changes, so the inbox is told only when it does.
    waker: Option<Waker>,
}

impl<A: SupervisedActor> Life<A> {
    fn poll(&mut self, task: &mut TaskContext<'_>) -> Poll<End> {
        if self.thread.is_abandoned() {
            return self.ended(End::Abandoned);
        }
        if !self.waker.as_ref().is_some_and(|waker| waker.will_wake(task.waker())) {
            if !self.inbox.register(self.thread.generation(), task.waker()) {
                return self.ended(End::Abandoned);
            }
            self.waker = Some(task.waker().clone());
        }
        if !self.started {
            // `started` alone: a fault or message that waits belongs to an actor that is up.
            self.allowance.set(0);
            if let Some(end) = self.poll_actor(task) {
                return self.ended(end);
            }
            self.started = true;
            self.inbox.vitals().set_state(ActorState::Running);
        }
        while let Some(order) = self.inbox.next_order(self.thread.generation(), true) {
            let end = match order {
                Order::Stop => Some(self.stop(task, End::Stopped)),
                Order::RestartAt(at) => Some(self.stop(task, End::Restart(at))),
                Order::Strike(Fault::FailStart) => {
                    self.inbox.fail_next_starts(FAILED_STARTS);
                    Some(self.stop(task, End::Failed("injected fault: stopped".to_owned())))
                }
                Order::Strike(fault) => self.supervised(|_| faults::strike(fault)).err().map(End::Failed),
            };
            if self.thread.is_abandoned() {
                return self.ended(End::Abandoned);
            }
            if let Some(end) = end {
                return self.ended(end);
            }
        }
        self.allowance.set(MESSAGES_A_TURN);
        match self.poll_actor(task) {
            Some(end) => self.ended(end),
            None => Poll::Pending,
        }
    }

    fn poll_actor(&mut self, task: &mut TaskContext<'_>) -> Option<End> {
        let polled = self.supervised(|future| Pin::new(future).poll(task));
        if self.thread.is_abandoned() {
            return Some(End::Abandoned);
        }
        match polled {
            Ok(Poll::Pending) => None,
            Ok(Poll::Ready(())) => Some(End::Finished),
            Err(cause) => Some(End::Failed(cause)),
        }
    }

    /// The actor's own way out: `stopping` and `stopped` run, futures are dropped.
    fn stop(&mut self, task: &mut TaskContext<'_>, end: End) -> End {
        self.allowance.set(0);
        // A panic on the way out is on record; it ends as ordered all the same.
        let _ = self.supervised(|future| {
            future.ctx().stop();
            Pin::new(future).poll(task)
        });
        end
    }

    fn supervised<T>(&mut self, work: impl FnOnce(&mut ContextFut<A, Context<A>>) -> T) -> Result<T, String> {
        let Some(future) = self.future.as_deref_mut() else { return Err("polled after its end".to_owned()) };
        let outcome = self.thread.busy_with(self.index, || panics::catch(|| work(future)));
        if let Err(cause) = &outcome
            && !self.thread.is_abandoned()
        {
            self.inbox.vitals().record_failure(Failure::Panic, cause);
        }
        outcome
    }

    fn ended(&mut self, end: End) -> Poll<End> {
        self.discard();
        Poll::Ready(end)
    }

    /// Drops value, context and futures without calling `stopping` or `stopped` on a value that may be half-written.
    fn discard(&mut self) {
        if let Some(mut future) = self.future.take() {
            let dropped = self.thread.busy_with(self.index, || {
                panics::catch(move || {
                    future.ctx().terminate();
                    drop(future);
                })
            });
            if let Err(cause) = dropped
                && !self.thread.is_abandoned()
            {
                self.inbox.vitals().record_failure(Failure::Panic, &cause);
            }
        }
    }
}

impl<A: SupervisedActor> Drop for Life<A> {
    fn drop(&mut self) {
        self.discard();
    }
}

/// Takes messages from the inbox into the actor, from inside its context.
struct Pump<A: SupervisedActor> {
    inbox: Arc<Inbox<A>>,
    thread: Arc<ThreadLife>,
    index: usize,
    allowance: Rc<Cell<u32>>,
}

impl<A: SupervisedActor> ActorFuture<A> for Pump<A> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, actor: &mut A, context: &mut Context<A>, task: &mut TaskContext<'_>) -> Poll<()> {
        // A context that waits for a future, or stops, takes no messages; it polls the pump again when it goes on.
        while !context.waiting() {
            let Some(left) = self.allowance.get().checked_sub(1) else {
                task.waker().wake_by_ref();
                return Poll::Pending;
            };
            match self.inbox.next(self.thread.generation()) {
                Next::Message(envelope, number) => {
                    self.allowance.set(left);
                    let seat = Seat::new(Arc::clone(&self.inbox), Arc::clone(&self.thread), self.index, number);
                    envelope.begin(actor, context, seat);
                    if self.thread.is_abandoned() {
                        halt(context);
                    }
                }
                Next::Nothing => return Poll::Pending,
                Next::OrderFirst => {
                    task.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Next::Abandoned => halt(context),
            }
        }
        Poll::Pending
    }
}

/// Keeps an abandoned value from doing anything more, hooks included, until it is dropped after this poll.
fn halt<A: SupervisedActor>(context: &mut Context<A>) {
    context.wait(wrap_future(std::future::pending()));
}
