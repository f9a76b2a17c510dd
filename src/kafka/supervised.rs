//! An actor whose whole work is one future: how consumers, relay and tail live in the supervision tree.
//!
//! The future holds nothing that is not in a store or in the log, so a panic costs only the attempt in hand: the
//! supervisor builds the actor anew and it starts from what is stored.

use std::sync::Arc;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Supervised, WrapFuture};
use futures_util::future::LocalBoxFuture;

/// Makes the future of one life of the actor; it stays on the thread of its domain.
pub type Work = Arc<dyn Fn() -> LocalBoxFuture<'static, ()> + Send + Sync>;

/// Runs its work once started; when the work ends by itself the actor stops.
pub struct LoopActor {
    work: Work,
}

impl LoopActor {
    pub fn new(work: Work) -> Self {
        Self { work }
    }
}

impl Actor for LoopActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.spawn((self.work)().into_actor(self).map(|(), _, ctx| ctx.stop()));
    }
}

impl Supervised for LoopActor {}
