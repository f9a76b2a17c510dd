//! How an actor of the tree is declared.

use std::sync::Arc;

use actix::{Actor, Context, Supervised};
use thiserror::Error;

use super::super::ask::Address;
use super::super::mailbox::LaneLimits;
use super::runner::{Member, SupervisedMember};

/// What the tree can supervise: every actix actor with the standard context and an `impl actix::Supervised`.
///
/// Each start builds a new value with the spec's factory in a new context, so no field and no future of a failed value
/// survives. On a restart `Supervised::restarting` is called on the new value, then `Actor::started` as ever.
pub trait SupervisedActor: Actor<Context = Context<Self>> + Supervised {}

impl<A: Actor<Context = Context<A>> + Supervised> SupervisedActor for A {}

/// Why a factory could not build its actor. The start is tried again with backoff.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct StartError(pub String);

impl StartError {
    pub fn new(why: impl std::fmt::Display) -> Self {
        Self(why.to_string())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RestartPolicy {
    /// Restarted however it ended.
    #[default]
    Permanent,
    /// Restarted when it failed, not when it stopped itself.
    Transient,
    /// Never restarted, also not with its siblings.
    Temporary,
}

/// What a supervisor restarts when one of its own fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strategy {
    #[default]
    OneForOne,
    OneForAll,
    /// The failed one and those started after it.
    RestForOne,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MailboxLimits {
    pub standard: usize,
    pub critical: usize,
    /// Critical messages in a row while a standard one waits.
    pub burst: usize,
    /// Messages the actor has taken and not yet answered.
    pub in_flight: usize,
}

impl Default for MailboxLimits {
    fn default() -> Self {
        Self { standard: 4096, critical: 4096, burst: 8, in_flight: 256 }
    }
}

impl MailboxLimits {
    pub(in crate::actors) fn lanes(self) -> LaneLimits {
        LaneLimits { critical: self.critical, standard: self.standard, burst: self.burst }
    }
}

pub(super) type Factory<A> = Arc<dyn Fn() -> Result<A, StartError> + Send + Sync>;

/// An actor, how to build it, and the actors that belong to it.
pub struct ActorSpec<A: SupervisedActor> {
    address: Address<A>,
    factory: Factory<A>,
    policy: RestartPolicy,
    strategy: Strategy,
    parts: Vec<SpecPlan>,
    followers: Vec<SpecPlan>,
}

impl<A: SupervisedActor> ActorSpec<A> {
    /// The factory runs on the actor's thread at every start; what it panics with or returns is a failed start.
    pub fn new(name: &str, factory: impl Fn() -> Result<A, StartError> + Send + Sync + 'static) -> Self {
        Self::at(Address::reserve(name), factory)
    }

    /// As `new`, for an address that was given out before ([`Address::reserve`]). One spec an address.
    pub fn at(address: Address<A>, factory: impl Fn() -> Result<A, StartError> + Send + Sync + 'static) -> Self {
        Self {
            address,
            factory: Arc::new(factory),
            policy: RestartPolicy::default(),
            strategy: Strategy::default(),
            parts: Vec::new(),
            followers: Vec::new(),
        }
    }

    /// Where the actor is asked, valid before it has started.
    pub fn address(&self) -> Address<A> {
        self.address.clone()
    }

    #[must_use]
    pub fn policy(mut self, policy: RestartPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// What restarts when this actor or one that belongs to it fails. Without parts and followers it has no meaning.
    #[must_use]
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.strategy = strategy;
        self
    }

    #[must_use]
    pub fn mailbox(self, limits: MailboxLimits) -> Self {
        self.address.inbox.set_limits(limits);
        self
    }

    /// An actor that this one relies on: started before it, drained and stopped after it.
    #[must_use]
    pub fn part(mut self, spec: impl Into<SpecPlan>) -> Self {
        self.parts.push(spec.into());
        self
    }

    /// An actor that relies on this one: started after it, drained and stopped before it.
    #[must_use]
    pub fn follower(mut self, spec: impl Into<SpecPlan>) -> Self {
        self.followers.push(spec.into());
        self
    }
}

/// A spec without its actor's type.
pub struct SpecPlan {
    pub(super) member: Arc<dyn Member>,
    pub(super) strategy: Strategy,
    pub(super) parts: Vec<SpecPlan>,
    pub(super) followers: Vec<SpecPlan>,
}

impl<A: SupervisedActor> From<ActorSpec<A>> for SpecPlan {
    fn from(spec: ActorSpec<A>) -> Self {
        let member = SupervisedMember { inbox: spec.address.inbox, factory: spec.factory, policy: spec.policy };
        Self { member: Arc::new(member), strategy: spec.strategy, parts: spec.parts, followers: spec.followers }
    }
}
