//! The order writer: one commit for whatever has queued while the previous one was in flight.
//!
//! Natural batching: an order that comes alone is written at once and a burst shares its commits. Only a writer that
//! is busy keeps its commits a few milliseconds apart, so that each carries more orders. A restart forgets what waits;
//! its askers are told that they were interrupted and write their orders again, which the store puts behind whatever
//! of the first attempt it has still in its queue.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, AsyncContext, Context, Handler, Message, ResponseFuture, Supervised, WrapFuture};
use tokio::sync::oneshot;

use crate::domain::events::PendingEvent;
use crate::domain::orders::Order;
use crate::store::StoreError;
use crate::store::orders::{InsertOrder, OrderStore};

/// Why a write has no outcome.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WriteError {
    /// The writer was restarted with the order in hand: writing it again tells what became of it.
    #[error("the order writer was restarted")]
    Interrupted,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Saves an order with its event. Answers once it is durable.
#[derive(Message)]
#[rtype(result = "Result<InsertOrder, WriteError>")]
pub struct WriteOrder {
    pub order: Order,
    pub event: PendingEvent,
}

/// Orders of a commit from which on the writer counts as busy, and how far apart the commits of a busy one start.
const BUSY_FROM: usize = 8;
const BUSY_INTERVAL: Duration = Duration::from_millis(6);

type Answer = oneshot::Sender<Result<InsertOrder, WriteError>>;

#[derive(Default)]
struct Queue {
    waiting: Vec<(Order, PendingEvent, Answer)>,
    writing: bool,
}

/// Told of each commit: how many orders it had and how long it took.
pub type CommitObserver = Arc<dyn Fn(usize, Duration) + Send + Sync>;

pub struct OrderWriter {
    store: Arc<dyn OrderStore>,
    batch_max: usize,
    observe_commit: CommitObserver,
    queue: Rc<RefCell<Queue>>,
}

impl OrderWriter {
    pub fn new(store: Arc<dyn OrderStore>, batch_max: usize, observe_commit: CommitObserver) -> Self {
        Self { store, batch_max, observe_commit, queue: Rc::default() }
    }
}

impl Actor for OrderWriter {
    type Context = Context<Self>;
}

impl Supervised for OrderWriter {}

impl Handler<WriteOrder> for OrderWriter {
    type Result = ResponseFuture<Result<InsertOrder, WriteError>>;

    fn handle(&mut self, WriteOrder { order, event }: WriteOrder, ctx: &mut Context<Self>) -> Self::Result {
        let (sender, answer) = oneshot::channel();
        let starts_writing = {
            let mut queue = self.queue.borrow_mut();
            queue.waiting.push((order, event, sender));
            !std::mem::replace(&mut queue.writing, true)
        };
        if starts_writing {
            let (store, queue) = (Arc::clone(&self.store), Rc::clone(&self.queue));
            let observe_commit = Arc::clone(&self.observe_commit);
            ctx.spawn(write_what_waits(store, queue, self.batch_max, observe_commit).into_actor(self));
        }
        Box::pin(async move { answer.await.unwrap_or(Err(WriteError::Interrupted)) })
    }
}

async fn write_what_waits(
    store: Arc<dyn OrderStore>,
    queue: Rc<RefCell<Queue>>,
    batch_max: usize,
    observe_commit: CommitObserver,
) {
    loop {
        let taken: Vec<_> = {
            let mut queue = queue.borrow_mut();
            if queue.waiting.is_empty() {
                queue.writing = false;
                return;
            }
            let count = queue.waiting.len().min(batch_max);
            queue.waiting.drain(..count).collect()
        };
        let (batch, answers): (Vec<_>, Vec<_>) =
            taken.into_iter().map(|(order, event, answer)| ((order, event), answer)).unzip();
        let (count, began) = (batch.len(), Instant::now());
        let written = store.insert_orders(batch).await;
        observe_commit(count, began.elapsed());
        match written {
            // An asker that gave up needs no answer: the order stands and its key finds it.
            Ok(outcomes) => answers.into_iter().zip(outcomes).for_each(|(answer, outcome)| {
                let _ = answer.send(Ok(outcome));
            }),
            Err(error) => answers.into_iter().for_each(|answer| {
                let _ = answer.send(Err(error.clone().into()));
            }),
        }
        if count >= BUSY_FROM {
            tokio::time::sleep(BUSY_INTERVAL.saturating_sub(began.elapsed())).await;
        }
    }
}
