//! Threads that step back: work that nobody waits for at this moment lets the work go first that somebody waits for.

/// How far a thread that steps back does so: on a machine whose cores are all taken it still has a third of the time of
/// one that does not, so that a sign-in is slow there and not without an answer.
const NICENESS: i32 = 5;

/// Lowers the calling thread's priority for good. On Linux priority is a thread's; where it cannot be lowered the work is
/// done all the same.
pub fn step_back() {
    let thread = rustix::thread::gettid();
    if let Err(error) = rustix::process::setpriority_process(Some(thread), NICENESS) {
        tracing::debug!(%error, "could not lower the priority of a thread");
    }
}
