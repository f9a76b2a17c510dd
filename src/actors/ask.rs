//! Placeholder of the supervisor's ask.
use std::marker::PhantomData;
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    #[error("busy")]
    Busy,
    #[error("interrupted")]
    Interrupted,
    #[error("timeout")]
    Timeout,
    #[error("stopped")]
    Stopped,
}

pub struct Address<A>(PhantomData<fn(A)>);
impl<A> Clone for Address<A> {
    fn clone(&self) -> Self {
        Self(PhantomData)
    }
}
impl<A: actix::Actor> Address<A> {
    pub async fn ask<M>(&self, _message: M, _deadline: Duration) -> Result<M::Result, AskError>
    where
        A: actix::Handler<M>,
        M: actix::Message + Send + 'static,
        M::Result: Send,
    {
        Err(AskError::Stopped)
    }
}
