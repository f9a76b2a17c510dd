//! What can be read of the tree: states, counts, last failures.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use prometheus::Histogram;
use tokio::sync::watch;

use crate::actors::ask::AskError;
use crate::telemetry::metrics::handler_seconds;

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
    pub mailbox: MailboxCounts,
    pub failures: FailureCounts,
    pub children: Vec<ActorStatus>,
}

/// What goes through an actor's mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MailboxCounts {
    /// Waiting in the critical lane.
    pub critical: usize,
    /// Waiting in the standard lane.
    pub standard: usize,
    pub in_flight: usize,
    /// Messages answered.
    pub handled: u64,
}

impl MailboxCounts {
    /// Messages waiting in both lanes.
    pub fn depth(self) -> usize {
        self.critical + self.standard
    }
}

/// What went wrong with an actor since the process began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FailureCounts {
    pub panics: u64,
    /// Times that it blocked its thread.
    pub freezes: u64,
    /// Asks that were refused because a lane was full.
    pub asks_busy: u64,
    /// Asks whose deadline passed.
    pub asks_timeout: u64,
    /// Asks that the actor failed with in hand.
    pub asks_interrupted: u64,
    /// Asks of an actor that was stopping or had given up.
    pub asks_stopped: u64,
}

/// What brought an actor down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::actors) enum Failure {
    Panic,
    FailedStart,
    Freeze,
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
    panics: AtomicU64,
    freezes: AtomicU64,
    /// By the place in [`asks_place`].
    asks_failed: [AtomicU64; 4],
    handler_seconds: Histogram,
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
            panics: AtomicU64::new(0),
            freezes: AtomicU64::new(0),
            asks_failed: Default::default(),
            handler_seconds: handler_seconds(name),
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

    /// How long the actor takes for its messages.
    pub(in crate::actors) fn handler_seconds(&self) -> &Histogram {
        &self.handler_seconds
    }

    pub(in crate::actors) fn count_failed_ask(&self, error: AskError) {
        self.asks_failed[asks_place(error)].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn failures(&self) -> FailureCounts {
        let asks = |error| self.asks_failed[asks_place(error)].load(Ordering::Relaxed);
        FailureCounts {
            panics: self.panics.load(Ordering::Relaxed),
            freezes: self.freezes.load(Ordering::Relaxed),
            asks_busy: asks(AskError::Busy),
            asks_timeout: asks(AskError::Timeout),
            asks_interrupted: asks(AskError::Interrupted),
            asks_stopped: asks(AskError::Stopped),
        }
    }

    /// The one place where a failure of an actor is logged.
    pub(in crate::actors) fn record_failure(&self, failure: Failure, what: &str) {
        match failure {
            Failure::Panic => _ = self.panics.fetch_add(1, Ordering::Relaxed),
            Failure::Freeze => _ = self.freezes.fetch_add(1, Ordering::Relaxed),
            // It counts as a restart.
            Failure::FailedStart => {}
        }
        tracing::error!(actor = %self.name, "actor {} failed: {what}", self.name);
        *self.last_panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(what.to_owned());
        self.changed();
    }
}

fn asks_place(error: AskError) -> usize {
    match error {
        AskError::Busy => 0,
        AskError::Timeout => 1,
        AskError::Interrupted => 2,
        AskError::Stopped => 3,
    }
}
