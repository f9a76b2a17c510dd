//! The UserActor.

pub mod messages;
pub mod tokens;

use actix::{Actor, Context, Handler, Message};
use messages::*;

pub struct UserActor;
impl Actor for UserActor {
    type Context = Context<Self>;
}
impl Handler<SignUp> for UserActor {
    type Result = actix::ResponseFuture<<SignUp as Message>::Result>;
    fn handle(&mut self, _: SignUp, _: &mut Context<Self>) -> Self::Result {
        unreachable!()
    }
}
impl Handler<SignIn> for UserActor {
    type Result = actix::ResponseFuture<<SignIn as Message>::Result>;
    fn handle(&mut self, _: SignIn, _: &mut Context<Self>) -> Self::Result {
        unreachable!()
    }
}
impl Handler<RefreshTokens> for UserActor {
    type Result = actix::ResponseFuture<<RefreshTokens as Message>::Result>;
    fn handle(&mut self, _: RefreshTokens, _: &mut Context<Self>) -> Self::Result {
        unreachable!()
    }
}
impl Handler<SignOut> for UserActor {
    type Result = actix::ResponseFuture<<SignOut as Message>::Result>;
    fn handle(&mut self, _: SignOut, _: &mut Context<Self>) -> Self::Result {
        unreachable!()
    }
}
impl Handler<CheckSession> for UserActor {
    type Result = actix::ResponseFuture<<CheckSession as Message>::Result>;
    fn handle(&mut self, _: CheckSession, _: &mut Context<Self>) -> Self::Result {
        unreachable!()
    }
}
impl Handler<GetUsers> for UserActor {
    type Result = actix::ResponseFuture<<GetUsers as Message>::Result>;
    fn handle(&mut self, _: GetUsers, _: &mut Context<Self>) -> Self::Result {
        unreachable!()
    }
}
impl Handler<ListUsers> for UserActor {
    type Result = actix::ResponseFuture<<ListUsers as Message>::Result>;
    fn handle(&mut self, _: ListUsers, _: &mut Context<Self>) -> Self::Result {
        unreachable!()
    }
}
impl Handler<EditPreferences> for UserActor {
    type Result = actix::ResponseFuture<<EditPreferences as Message>::Result>;
    fn handle(&mut self, _: EditPreferences, _: &mut Context<Self>) -> Self::Result {
        unreachable!()
    }
}
impl Handler<ChangeRole> for UserActor {
    type Result = actix::ResponseFuture<<ChangeRole as Message>::Result>;
    fn handle(&mut self, _: ChangeRole, _: &mut Context<Self>) -> Self::Result {
        unreachable!()
    }
}
impl Handler<CreateAccount> for UserActor {
    type Result = actix::ResponseFuture<<CreateAccount as Message>::Result>;
    fn handle(&mut self, _: CreateAccount, _: &mut Context<Self>) -> Self::Result {
        unreachable!()
    }
}
