//! The OrderActor.

pub mod messages;
pub mod verdict;

use actix::{Actor, Context, Handler, Message};
use messages::*;

pub struct OrderActor;
impl Actor for OrderActor {
    type Context = Context<Self>;
}
impl Handler<PlaceOrder> for OrderActor {
    type Result = actix::ResponseFuture<<PlaceOrder as Message>::Result>;
    fn handle(&mut self, _: PlaceOrder, _: &mut Context<Self>) -> Self::Result {
        unreachable!()
    }
}
impl Handler<GetOrders> for OrderActor {
    type Result = actix::ResponseFuture<<GetOrders as Message>::Result>;
    fn handle(&mut self, _: GetOrders, _: &mut Context<Self>) -> Self::Result {
        unreachable!()
    }
}
impl Handler<ListOrders> for OrderActor {
    type Result = actix::ResponseFuture<<ListOrders as Message>::Result>;
    fn handle(&mut self, _: ListOrders, _: &mut Context<Self>) -> Self::Result {
        unreachable!()
    }
}
impl Handler<AdvanceOrder> for OrderActor {
    type Result = actix::ResponseFuture<<AdvanceOrder as Message>::Result>;
    fn handle(&mut self, _: AdvanceOrder, _: &mut Context<Self>) -> Self::Result {
        unreachable!()
    }
}
impl Handler<ApplyVerdicts> for OrderActor {
    type Result = actix::ResponseFuture<<ApplyVerdicts as Message>::Result>;
    fn handle(&mut self, _: ApplyVerdicts, _: &mut Context<Self>) -> Self::Result {
        unreachable!()
    }
}
impl Handler<LatestChange> for OrderActor {
    type Result = actix::ResponseFuture<<LatestChange as Message>::Result>;
    fn handle(&mut self, _: LatestChange, _: &mut Context<Self>) -> Self::Result {
        unreachable!()
    }
}
impl Handler<ChangesAfter> for OrderActor {
    type Result = actix::ResponseFuture<<ChangesAfter as Message>::Result>;
    fn handle(&mut self, _: ChangesAfter, _: &mut Context<Self>) -> Self::Result {
        unreachable!()
    }
}
