//! What can be read of the tree: states, counts, last failures.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::watch;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ActorState {
    Running,
    /// Down, with a restart to come.
    Restarting,
    Stopped,
    /// Failed for good; the process is about to end.
    Escalated,
}

/// One actor of the tree, or its root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActorStatus {
    pub name: String,
    pub state: ActorState,
    /// How often the actor was rebuilt after its first start, attempts that failed included.
    pub restarts: u64,
    /// What last brought the actor down and where: a panic's `message (file:line)`, a failed start, a freeze.
    pub last_panic: Option<String>,
    /// Messages waiting in both lanes.
    pub mailbox_depth: usize,
    /// Messages answered.
    pub handled: u64,
    pub children: Vec<ActorStatus>,
}

/// What reached the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Escalation {
    /// The domain that failed.
    pub who: String,
    pub why: String,
}

/// The part of an actor's status that outlives its values.
pub(in crate::actors) struct Vitals {
    name: String,
    state: AtomicU8,
    restarts: AtomicU64,
    last_panic: Mutex<Option<String>>,
    /// Set when the tree starts.
    changes: OnceLock<Arc<watch::Sender<u64>>>,
}

const STATES: [ActorState; 4] =
    [ActorState::Running, ActorState::Restarting, ActorState::Stopped, ActorState::Escalated];

impl Vitals {
    pub(in crate::actors) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            state: AtomicU8::new(ActorState::Restarting as u8),
            restarts: AtomicU64::new(0),
            last_panic: Mutex::new(None),
            changes: OnceLock::new(),
        }
    }

    pub(in crate::actors) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn report_changes_to(&self, changes: Arc<watch::Sender<u64>>) {
        let _ = self.changes.set(changes);
    }

    fn changed(&self) {
        if let Some(changes) = self.changes.get() {
            changes.send_modify(|count| *count += 1);
        }
    }

    pub(super) fn state(&self) -> ActorState {
        STATES[usize::from(self.state.load(Ordering::Acquire))]
    }

    pub(in crate::actors) fn set_state(&self, state: ActorState) {
        if self.state.swap(state as u8, Ordering::AcqRel) != state as u8 {
            self.changed();
        }
    }

    pub(super) fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Acquire)
    }

    pub(super) fn count_restart(&self) {
        self.restarts.fetch_add(1, Ordering::AcqRel);
        self.changed();
    }

    pub(super) fn last_panic(&self) -> Option<String> {
        self.last_panic.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The one place where a failure of an actor is logged.
    pub(in crate::actors) fn record_panic(&self, what: &str) {
        tracing::error!(actor = %self.name, "actor {} failed: {what}", self.name);
        *self.last_panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(what.to_owned());
        self.changed();
    }
}
