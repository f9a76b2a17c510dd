//! Readers that are leaving their groups. That takes a round trip or more, so each does it on a thread of its own; those
//! who need it to be over wait here.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::clients::lock;

#[derive(Default)]
pub(super) struct Closing {
    /// By group: how many are leaving it.
    leaving: Mutex<BTreeMap<String, usize>>,
    left: Condvar,
}

impl Closing {
    /// Runs `leave` on its own thread.
    pub(super) fn start(self: &Arc<Self>, group: &str, leave: impl FnOnce() + Send + 'static) {
        *lock(&self.leaving).entry(group.to_owned()).or_default() += 1;
        let done = Done { closing: self.clone(), group: group.to_owned() };
        let started = std::thread::Builder::new().name("souk-kafka-leave".to_owned()).spawn(move || {
            let _done = done;
            leave();
        });
        if let Err(error) = started {
            // The client is dropped with the closure, which leaves the group as well.
            tracing::warn!(group, %error, "no thread to leave a consumer group on");
        }
    }

    /// Waits until nobody is leaving the group, or any group. Blocks, at most for `limit`.
    pub(super) fn wait(&self, group: Option<&str>, limit: Duration) {
        let leaving = lock(&self.leaving);
        let busy = |leaving: &mut BTreeMap<String, usize>| match group {
            Some(group) => leaving.contains_key(group),
            None => !leaving.is_empty(),
        };
        drop(self.left.wait_timeout_while(leaving, limit, busy).unwrap_or_else(PoisonError::into_inner));
    }
}

/// Counts down also when leaving panics or never begins.
struct Done {
    closing: Arc<Closing>,
    group: String,
}

impl Drop for Done {
    fn drop(&mut self) {
        let mut leaving = lock(&self.closing.leaving);
        if let Some(count) = leaving.get_mut(&self.group) {
            *count -= 1;
            if *count == 0 {
                leaving.remove(&self.group);
            }
        }
        self.closing.left.notify_all();
    }
}
