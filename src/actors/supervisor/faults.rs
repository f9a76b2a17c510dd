//! Failures on demand, for tests and chaos runs.

use std::time::Duration;

use thiserror::Error;

/// A failure to inject. It goes ahead of queued messages and waits for an actor that is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    Panic,
    /// Blocks the actor's thread.
    Freeze(Duration),
    /// Stops the actor and fails its next three starts.
    FailStart,
}

/// Starts that one [`Fault::FailStart`] fails.
pub(super) const FAILED_STARTS: u32 = 3;

#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("no actor of the supervision tree is called `{0}`")]
pub struct UnknownActor(pub String);

/// Panics, or blocks the thread; runs in place of a message.
#[expect(clippy::disallowed_methods, reason = "blocking its thread is what the fault is for")]
pub(super) fn strike(fault: Fault) {
    match fault {
        Fault::Panic => panic!("injected fault: panic"),
        Fault::Freeze(how_long) => std::thread::sleep(how_long),
        Fault::FailStart => {}
    }
}
