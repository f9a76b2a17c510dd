//! What every resolver can reach: the shop (once a schema) and the viewer (once a request or socket).

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_graphql::Context;
use tokio::sync::watch;

use super::cursors::Cursors;
use super::rate_limits::RateLimits;
use super::request_ids::RequestIds;
use crate::actors::errors::DomainError;
use crate::actors::live::LiveHub;
use crate::actors::notifications::NotificationActor;
use crate::actors::operations::OperationsActor;
use crate::actors::orders::OrderActor;
use crate::actors::products::ProductActor;
use crate::actors::products::campaigns::CampaignActor;
use crate::actors::recommendations::RecommendationActor;
use crate::actors::users::UserActor;
use crate::actors::users::messages::SignInClient;
use crate::actors::users::tokens::AccessTokens;
use crate::actors::{Address, AskError};
use crate::domain::api_keys::ApiKeyScopes;
use crate::domain::ids::{SessionId, UserId};
use crate::domain::money::Currency;
use crate::domain::users::Role;

/// Schema data: the domains' actors and what live subscriptions wait on.
#[derive(Clone)]
pub struct Shop {
    pub users: Address<UserActor>,
    pub products: Address<ProductActor>,
    pub campaigns: Address<CampaignActor>,
    pub orders: Address<OrderActor>,
    pub recommendations: Address<RecommendationActor>,
    pub operations: Address<OperationsActor>,
    pub notifications: Address<NotificationActor>,
    pub live: LiveHub,
    pub tokens: AccessTokens,
    pub cursors: Cursors,
    pub currency: Currency,
    /// How long a resolver waits for an actor.
    pub ask_deadline: Duration,
    pub rate_limits: RateLimits,
    pub supervision: Arc<dyn SupervisionView>,
}

/// The supervision tree of this process, as far as the API shows it. `app` adapts the real one.
pub trait SupervisionView: Send + Sync {
    /// The tree now, from its root.
    fn status(&self) -> ActorStatusView;
    /// Changes its value whenever a state, a restart count or the shape of the tree does.
    fn changes(&self) -> watch::Receiver<u64>;
}

/// What an actor of the tree is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActorStateView {
    Running,
    Restarting,
    Stopped,
    Escalated,
}

/// One actor or supervisor of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActorStatusView {
    pub name: String,
    pub state: ActorStateView,
    pub restarts: u64,
    /// What and where.
    pub last_panic: Option<String>,
    pub mailbox_depth: usize,
    pub handled: u64,
    pub children: Vec<Self>,
}

/// The answer of an ask, with the failure to answer as one of the domain's errors.
pub fn answered<T>(reply: Result<Result<T, DomainError>, AskError>) -> Result<T, DomainError> {
    reply?
}

/// Who asks, verified once for each request or socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Viewer {
    Anonymous,
    SignedIn {
        user_id: UserId,
        role: Role,
        /// Absent for whom the token of a mail has shown to be the user.
        session_id: Option<SessionId>,
    },
    /// A machine that acts for a user, within the scopes of its API key.
    ByKey {
        user_id: UserId,
        role: Role,
        scopes: ApiKeyScopes,
    },
}

/// Request data: where the request came from and how it is called in logs and answers.
#[derive(Debug, Clone)]
pub struct RequestInfo {
    pub ids: RequestIds,
    /// The client's address; behind a trusted proxy the one that the proxy names.
    pub client_address: IpAddr,
    /// As the client named itself, cut at 200 characters.
    pub user_agent: Option<String>,
}

impl RequestInfo {
    /// For a session that this request begins.
    pub fn sign_in_client(&self) -> SignInClient {
        SignInClient { user_agent: self.user_agent.clone(), address: Some(self.client_address) }
    }
}

/// Request data of a subscription whose transport numbers its events, so that a client that comes back can say where it
/// was: what it said, and the numbers of what was sent since.
#[derive(Debug, Default)]
pub struct EventIds {
    last_seen: Option<String>,
    /// Of events that are on their way to the transport. One subscription has at most one there.
    on_their_way: Mutex<VecDeque<String>>,
}

impl EventIds {
    pub fn after(last_seen: Option<String>) -> Arc<Self> {
        Arc::new(Self { last_seen, on_their_way: Mutex::default() })
    }

    /// Of a request; over other transports there are none.
    pub fn of(ctx: &Context<'_>) -> Option<Arc<Self>> {
        ctx.data_opt::<Arc<Self>>().cloned()
    }

    /// What the client has seen last.
    pub fn last_seen(&self) -> Option<&str> {
        self.last_seen.as_deref()
    }

    /// Names the event that the subscription yields next.
    pub fn put(&self, id: String) {
        self.lock().push_back(id);
    }

    /// The id of the event that the subscription has just yielded, if it has one.
    pub fn take(&self) -> Option<String> {
        self.lock().pop_front()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<String>> {
        // Each change of the queue is one call: a panic leaves it whole.
        self.on_their_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Viewer {
    /// The viewer of a request; without one nobody is signed in.
    pub fn of(ctx: &Context<'_>) -> Self {
        ctx.data_opt::<Self>().copied().unwrap_or(Self::Anonymous)
    }

    pub fn user_id(self) -> Option<UserId> {
        match self {
            Self::Anonymous => None,
            Self::SignedIn { user_id, .. } | Self::ByKey { user_id, .. } => Some(user_id),
        }
    }

    pub fn session_id(self) -> Option<SessionId> {
        match self {
            Self::Anonymous | Self::ByKey { .. } => None,
            Self::SignedIn { session_id, .. } => session_id,
        }
    }

    pub fn role(self) -> Option<Role> {
        match self {
            Self::Anonymous => None,
            Self::SignedIn { role, .. } | Self::ByKey { role, .. } => Some(role),
        }
    }

    /// Staff and admins.
    pub fn is_staff(self) -> bool {
        self.role().is_some_and(Role::is_staff)
    }

    /// Whose objects alone the viewer may reach: their own, or with `None` everybody's.
    pub fn confined_to(self, own: UserId) -> Option<UserId> {
        if self.is_staff() { None } else { Some(own) }
    }
}
