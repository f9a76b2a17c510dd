//! Asking an actor: an address, a question, an answer or a typed refusal.
//!
//! A question is one allocation shared by asker and queue. The supervisor's pump takes the message out of it, calls the
//! actor's handler and passes the reply on; a reply that is dropped (panic, freeze, stop) answers `Interrupted`.
//! What an asker no longer waits for is not started any more.

use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use actix::dev::MessageResponse;
use actix::fut::{ActorFuture, ActorFutureExt};
use actix::{AsyncContext, Context, Handler, Message, MessageResult, ResponseActFuture, ResponseFuture};
use thiserror::Error;
use tokio::sync::oneshot;
use tracing::Span;

use super::inbox::{Inbox, Seat};
use super::mailbox::Lane;
use super::supervisor::SupervisedActor;
use super::supervisor::panics;
use super::supervisor::status::Failure;
use crate::telemetry::traces;

/// Why an ask has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AskError {
    /// The lane is full; nothing was done.
    #[error("the actor's queue is full")]
    Busy,
    /// The actor panicked, froze or was cut off with the message in hand: whether it took effect is unknown; ask again.
    #[error("the actor failed with the message in hand")]
    Interrupted,
    /// The deadline passed. A message still queued is dropped, one in hand goes on: the outcome is unknown.
    #[error("the actor did not answer in time")]
    Timeout,
    /// The actor is shutting down or has given up; a queued message was not started.
    #[error("the actor has stopped")]
    Stopped,
}

/// Where an actor is asked. It outlives every restart of the actor; clones are cheap.
pub struct Address<A: SupervisedActor> {
    pub(super) inbox: Arc<Inbox<A>>,
}

impl<A: SupervisedActor> Clone for Address<A> {
    fn clone(&self) -> Self {
        Self { inbox: Arc::clone(&self.inbox) }
    }
}

impl<A: SupervisedActor> std::fmt::Debug for Address<A> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Address").field(&self.name()).finish()
    }
}

impl<A: SupervisedActor> Address<A> {
    /// An address for an actor whose spec comes later (`ActorSpec::at`), for factories that need one another's address.
    pub fn reserve(name: &str) -> Self {
        Self { inbox: Arc::new(Inbox::new(name)) }
    }

    pub fn name(&self) -> &str {
        self.inbox.name()
    }

    /// Asks on the standard lane. An actor that is down keeps the question until it is back or the deadline passes.
    pub async fn ask<M>(&self, message: M, deadline: Duration) -> Result<M::Result, AskError>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        self.ask_on(Lane::Standard, message, deadline).await
    }

    /// Asks on the critical lane, ahead of the standard one.
    pub async fn ask_critical<M>(&self, message: M, deadline: Duration) -> Result<M::Result, AskError>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        self.ask_on(Lane::Critical, message, deadline).await
    }

    async fn ask_on<M>(&self, lane: Lane, message: M, deadline: Duration) -> Result<M::Result, AskError>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        let question = Arc::new(Question::new(message, self.name()));
        let answer = match self.inbox.push(lane, Arc::clone(&question) as Arc<dyn Envelope<A>>) {
            // `timeout` looks at the answer first and registers its timer only if there is none yet.
            Ok(()) => tokio::time::timeout(deadline, Answer { question }).await.unwrap_or(Err(AskError::Timeout)),
            Err(refused) => Err(refused),
        };
        if let Err(error) = &answer {
            self.inbox.vitals().count_failed_ask(*error);
        }
        answer
    }
}

/// The name of a message's type without its modules.
fn name_of<M>() -> &'static str {
    let name = std::any::type_name::<M>();
    let name = name.split_once('<').map_or(name, |(name, _)| name);
    name.rsplit("::").next().unwrap_or(name)
}

/// A queued message without its type.
pub(super) trait Envelope<A: SupervisedActor>: Send + Sync {
    /// Hands the message to the actor, unless its asker has gone. The seat is kept until the reply is given.
    fn begin(self: Arc<Self>, actor: &mut A, context: &mut Context<A>, seat: Seat<A>);

    /// Answers with an error; the first answer counts.
    fn refuse(&self, error: AskError);
}

struct Question<M: Message> {
    state: Mutex<QuestionState<M>>,
    /// What the actor does about the message belongs to it: the asker's, or one of the question below it.
    span: Span,
}

struct QuestionState<M: Message> {
    /// Present until the actor starts on it or the asker goes.
    message: Option<M>,
    answer: Option<Result<M::Result, AskError>>,
    answered: bool,
    asker: Option<Waker>,
}

impl<M: Message> Question<M> {
    fn new(message: M, actor: &str) -> Self {
        let state = QuestionState { message: Some(message), answer: None, answered: false, asker: None };
        let asked = tracing::info_span!(target: traces::TARGET, "ask", actor, message = name_of::<M>());
        let span = if asked.is_disabled() { Span::current() } else { asked };
        Self { state: Mutex::new(state), span }
    }

    fn lock(&self) -> MutexGuard<'_, QuestionState<M>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settle(&self, answer: Result<M::Result, AskError>) {
        let mut state = self.lock();
        if state.answered {
            return;
        }
        state.answered = true;
        state.answer = Some(answer);
        let asker = state.asker.take();
        drop(state);
        if let Some(asker) = asker {
            asker.wake();
        }
    }
}

impl<A, M> Envelope<A> for Question<M>
where
    A: SupervisedActor + Handler<M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    fn begin(self: Arc<Self>, actor: &mut A, context: &mut Context<A>, seat: Seat<A>) {
        let Some(message) = self.lock().message.take() else { return };
        let span = self.span.clone();
        let reply = Reply { question: self, seat: Some(seat) };
        let _inside = span.enter();
        let response = <A as Handler<M>>::handle(actor, message, context);
        pass_on(response, context, reply);
    }

    fn refuse(&self, error: AskError) {
        self.settle(Err(error));
    }
}

/// Brings a handler's response to its asker.
///
/// The usual response types are recognised by type, which costs nothing at run time and keeps futures where their
/// panics can be told apart: a `ResponseActFuture` runs inside the actor (its panic is the actor's), a `ResponseFuture`
/// is a task of its own (its panic interrupts its asker only). Any other type goes through actix's own reply channel.
fn pass_on<A, M>(response: <A as Handler<M>>::Result, context: &mut Context<A>, reply: Reply<A, M>)
where
    A: SupervisedActor + Handler<M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    let mut slot = Some(response);
    if let Some(value) = take_as::<_, M::Result>(&mut slot) {
        reply.send(value);
    } else if let Some(MessageResult(value)) = take_as::<_, MessageResult<M>>(&mut slot) {
        reply.send(value);
    } else if let Some(future) = take_as::<_, ResponseFuture<M::Result>>(&mut slot) {
        actix_rt::spawn(Detached { future: Some(future), reply: Some(reply) });
    } else if let Some(future) = take_as::<_, ResponseActFuture<A, M::Result>>(&mut slot) {
        let future = Inside { span: reply.question.span.clone(), future };
        context.spawn(future.map(move |value, _, _| reply.send(value)));
    } else if let Some(response) = slot {
        let (sender, receiver) = oneshot::channel();
        response.handle(context, Some(sender));
        actix_rt::spawn(async move {
            if let Ok(value) = receiver.await {
                reply.send(value);
            }
        });
    }
}

/// A `ResponseActFuture` polled inside the asker's span.
struct Inside<A: SupervisedActor, T> {
    span: Span,
    future: ResponseActFuture<A, T>,
}

impl<A: SupervisedActor, T> ActorFuture<A> for Inside<A, T> {
    type Output = T;

    fn poll(
        mut self: Pin<&mut Self>,
        actor: &mut A,
        context: &mut Context<A>,
        task: &mut TaskContext<'_>,
    ) -> Poll<Self::Output> {
        let this = &mut *self;
        let _inside = this.span.enter();
        this.future.as_mut().poll(actor, context, task)
    }
}

// Nothing in it is pinned in place: the future is boxed.
impl<A: SupervisedActor, T> Unpin for Inside<A, T> {}

fn take_as<T: 'static, U: 'static>(slot: &mut Option<T>) -> Option<U> {
    (slot as &mut dyn Any).downcast_mut::<Option<U>>()?.take()
}

/// The obligation to answer one question. Dropped without an answer, it answers `Interrupted`.
struct Reply<A, M>
where
    A: SupervisedActor + Handler<M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    question: Arc<Question<M>>,
    seat: Option<Seat<A>>,
}

impl<A, M> Reply<A, M>
where
    A: SupervisedActor + Handler<M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    /// The seat is given back first, so that an asker who has its answer also finds it counted.
    fn send(mut self, value: M::Result) {
        if let Some(seat) = self.seat.take() {
            seat.leave_answered();
        }
        self.question.settle(Ok(value));
    }
}

impl<A, M> Drop for Reply<A, M>
where
    A: SupervisedActor + Handler<M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    fn drop(&mut self) {
        if self.seat.take().is_some() {
            self.question.settle(Err(AskError::Interrupted));
        }
    }
}

/// A `ResponseFuture` as a task of its own on the actor's thread: it outlives a restart of its actor and still answers.
struct Detached<A, M>
where
    A: SupervisedActor + Handler<M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    future: Option<ResponseFuture<M::Result>>,
    reply: Option<Reply<A, M>>,
}

impl<A, M> Future for Detached<A, M>
where
    A: SupervisedActor + Handler<M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<()> {
        let this = &mut *self;
        let (Some(future), Some(seat)) =
            (this.future.as_mut(), this.reply.as_ref().and_then(|reply| reply.seat.as_ref()))
        else {
            return Poll::Ready(());
        };
        if seat.thread().is_abandoned() {
            return Poll::Ready(());
        }
        let span = this.reply.as_ref().map_or_else(Span::none, |reply| reply.question.span.clone());
        let _inside = span.enter();
        let polled = seat.thread().busy_with(seat.member(), || panics::catch(|| future.as_mut().poll(task)));
        match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(value)) => {
                if let Some(reply) = this.reply.take() {
                    reply.send(value);
                }
            }
            Err(panic) => {
                if !seat.thread().is_abandoned() {
                    seat.vitals().record_failure(Failure::Panic, &panic);
                }
                this.reply = None;
                // A destructor that panics too must not take the thread's other tasks along.
                let future = this.future.take();
                let _ = panics::catch(move || drop(future));
            }
        }
        Poll::Ready(())
    }
}

// Nothing in it is pinned in place: the future is boxed.
impl<A, M> Unpin for Detached<A, M>
where
    A: SupervisedActor + Handler<M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
}

/// The asker's end of a question. Dropped early, it takes a message back that was not started.
struct Answer<M: Message> {
    question: Arc<Question<M>>,
}

impl<M: Message> Future for Answer<M> {
    type Output = Result<M::Result, AskError>;

    fn poll(self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let mut state = self.question.lock();
        if let Some(answer) = state.answer.take() {
            return Poll::Ready(answer);
        }
        if !state.asker.as_ref().is_some_and(|asker| asker.will_wake(task.waker())) {
            state.asker = Some(task.waker().clone());
        }
        Poll::Pending
    }
}

impl<M: Message> Drop for Answer<M> {
    fn drop(&mut self) {
        let mut state = self.question.lock();
        let unstarted = state.message.take();
        let unread = state.answer.take();
        state.answered = true;
        drop(state);
        drop((unstarted, unread));
    }
}
