//! What every resolver can reach: the shop (once a schema) and the viewer (once a request or socket).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::actors::Address;
use crate::actors::live::LiveHub;
use crate::actors::orders::OrderActor;
use crate::actors::products::ProductActor;
use crate::actors::users::UserActor;
use crate::actors::users::tokens::AccessTokens;
use crate::domain::ids::{SessionId, UserId};
use crate::domain::money::Currency;
use crate::domain::users::Role;

/// Schema data: the domains' actors and what live subscriptions wait on.
#[derive(Clone)]
pub struct Shop {
    pub users: Address<UserActor>,
    pub products: Address<ProductActor>,
    pub orders: Address<OrderActor>,
    pub live: LiveHub,
    pub tokens: AccessTokens,
    pub currency: Currency,
    /// How long a resolver waits for an actor.
    pub ask_deadline: Duration,
}

/// Who asks, verified once for each request or socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Viewer {
    Anonymous,
    SignedIn { user_id: UserId, role: Role, session_id: SessionId },
}

/// Request data: where the request came from and how it is called in logs and answers.
#[derive(Debug, Clone)]
pub struct RequestInfo {
    /// In `extensions.requestId` of every error and in the header `x-request-id` of every answer.
    pub request_id: Arc<str>,
    /// The client's address; behind a trusted proxy the one that the proxy names.
    pub client_address: IpAddr,
    /// As the client named itself, cut at 200 characters.
    pub user_agent: Option<String>,
}
