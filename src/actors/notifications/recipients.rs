//! Whom a mail goes to: asked of the users actor at the moment of sending, so that no address and no token is kept here.

use std::time::Duration;

use async_trait::async_trait;

use crate::actors::ask::Address;
use crate::actors::errors::DomainError;
use crate::actors::users::UserActor;
use crate::actors::users::messages::{GetRecipient, LinkWanted, Recipient};
use crate::domain::ids::UserId;

/// What the workers need of the users domain.
#[async_trait]
pub trait Recipients: Send + Sync {
    /// `None`: no such user, or an erased one.
    async fn recipient(&self, user: UserId, link: Option<LinkWanted>) -> Result<Option<Recipient>, DomainError>;
}

/// The users actor.
pub struct UserRecipients {
    pub users: Address<UserActor>,
    pub deadline: Duration,
}

#[async_trait]
impl Recipients for UserRecipients {
    async fn recipient(&self, user_id: UserId, link: Option<LinkWanted>) -> Result<Option<Recipient>, DomainError> {
        // Ahead of the sign-ins: only as many ask at a time as there are workers.
        self.users.ask_critical(GetRecipient { user_id, link }, self.deadline).await?
    }
}
