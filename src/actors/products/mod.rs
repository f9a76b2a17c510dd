//! The ProductActor.

pub mod messages;

use actix::{Actor, Context, Handler, Message};
use messages::*;

pub struct ProductActor;
impl Actor for ProductActor {
    type Context = Context<Self>;
}
impl Handler<GetProducts> for ProductActor {
    type Result = actix::ResponseFuture<<GetProducts as Message>::Result>;
    fn handle(&mut self, _: GetProducts, _: &mut Context<Self>) -> Self::Result {
        unreachable!()
    }
}
impl Handler<ListProducts> for ProductActor {
    type Result = actix::ResponseFuture<<ListProducts as Message>::Result>;
    fn handle(&mut self, _: ListProducts, _: &mut Context<Self>) -> Self::Result {
        unreachable!()
    }
}
impl Handler<ListCategories> for ProductActor {
    type Result = actix::ResponseFuture<<ListCategories as Message>::Result>;
    fn handle(&mut self, _: ListCategories, _: &mut Context<Self>) -> Self::Result {
        unreachable!()
    }
}
impl Handler<CreateProduct> for ProductActor {
    type Result = actix::ResponseFuture<<CreateProduct as Message>::Result>;
    fn handle(&mut self, _: CreateProduct, _: &mut Context<Self>) -> Self::Result {
        unreachable!()
    }
}
impl Handler<EditProduct> for ProductActor {
    type Result = actix::ResponseFuture<<EditProduct as Message>::Result>;
    fn handle(&mut self, _: EditProduct, _: &mut Context<Self>) -> Self::Result {
        unreachable!()
    }
}
impl Handler<AdjustStock> for ProductActor {
    type Result = actix::ResponseFuture<<AdjustStock as Message>::Result>;
    fn handle(&mut self, _: AdjustStock, _: &mut Context<Self>) -> Self::Result {
        unreachable!()
    }
}
impl Handler<DecideInventory> for ProductActor {
    type Result = actix::ResponseFuture<<DecideInventory as Message>::Result>;
    fn handle(&mut self, _: DecideInventory, _: &mut Context<Self>) -> Self::Result {
        unreachable!()
    }
}
