//! Supervision: panics and freezes of actors are repaired, and what cannot be repaired is passed up.
//!
//! ```text
//! root (named after the process, intensity 0)
//! ├─ orders            a domain: a supervisor, with a thread (Arbiter) of its own
//! │    ├─ orders.writer  a part: started before the head, which relies on it
//! │    └─ orders         the head actor
//! └─ users             a domain of one actor
//! ```
//!
//! An [`ActorSpec`] at the top is a domain. It is a supervisor of its parts, its head actor and its followers, in this
//! start order; all of them count in its one intensity window. A part or follower that has parts itself is a supervisor
//! in turn, with its own window; one without is a plain actor, counted by the supervisor it belongs to. When a window
//! overflows the supervisor fails: its parent counts that as one restart of its child and rebuilds all of it; the root
//! counts none and escalates ([`SupervisionTree::escalated`]).
//!
//! What restarts when an actor fails, by the strategy of the supervisor it belongs to:
//! one for one: only it; one for all: every actor below the supervisor; rest for one: it and those started after it
//! (so the head after a part, but no part after the head). A failure counts once in the window however many it
//! restarts; `restarts` counts each actor's own rebuilt values, failed starts included.
//!
//! A `ResponseFuture` is no part of its actor: its panic interrupts its own asker and shows in `last_panic`, without a
//! restart, and it goes on when the actor restarts. Everything polled inside the context fails with the actor. A blocked
//! thread takes all of it along, with every actor of the domain.
//!
//! The flow: `runner` polls one actor inside `catch_unwind` and reports its end to its `domain`, which asks `node`
//! what to restart when (`budget`); `monitor` watches the threads from one of its own and has the domain move to a
//! new one when a thread is blocked. `tree` is what the rest of the program holds.

mod budget;
mod domain;
mod faults;
mod monitor;
mod node;
pub(super) mod panics;
mod runner;
mod settings;
mod spec;
pub(super) mod status;
pub(super) mod thread;
mod tree;

#[cfg(test)]
mod tests;

pub use faults::{Fault, UnknownActor};
pub use settings::SupervisionSettings;
pub use spec::{ActorSpec, MailboxLimits, RestartPolicy, SpecPlan, StartError, Strategy, SupervisedActor};
pub use status::{ActorState, ActorStatus, Escalation, FailureCounts, MailboxCounts};
pub use tree::{SupervisionTree, SupervisionTreeBuilder, TreeError};
