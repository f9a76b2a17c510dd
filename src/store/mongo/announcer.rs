//! Hands the events of each commit to the relay.

use std::sync::{Arc, Mutex};

use tokio::sync::{mpsc, watch};

use super::connections::lock;
use crate::domain::events::PendingEvent;

/// Commits that the relay may lie behind before it has to sweep.
const CAPACITY: usize = 256;

/// Where commits are announced; empty until a relay takes the other end.
///
/// When the relay falls behind and its channel is full, later events are held back too, so that none overtakes an
/// earlier one of its aggregate; once the channel is empty again a sweep is asked for, which finds them all.
pub(super) struct Announcer {
    relay: Mutex<Relay>,
    sweep: watch::Sender<u64>,
}

#[derive(Default)]
struct Relay {
    committed: Option<mpsc::Sender<Vec<PendingEvent>>>,
    behind: bool,
}

impl Announcer {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { relay: Mutex::default(), sweep: watch::Sender::new(0) })
    }

    pub(super) fn committed(&self) -> mpsc::Receiver<Vec<PendingEvent>> {
        let (sender, receiver) = mpsc::channel(CAPACITY);
        *lock(&self.relay) = Relay { committed: Some(sender), behind: false };
        receiver
    }

    pub(super) fn sweeps(&self) -> watch::Receiver<u64> {
        self.sweep.subscribe()
    }

    /// Right after their commit, on the adapters' thread.
    pub(super) fn announce(self: &Arc<Self>, events: Vec<PendingEvent>) {
        let mut relay = lock(&self.relay);
        if events.is_empty() || relay.behind {
            return;
        }
        let Some(committed) = relay.committed.clone() else { return };
        if matches!(committed.try_send(events), Err(mpsc::error::TrySendError::Full(_))) {
            relay.behind = true;
            tokio::spawn(Arc::clone(self).catch_up(committed));
        }
    }

    async fn catch_up(self: Arc<Self>, behind: mpsc::Sender<Vec<PendingEvent>>) {
        // All of its room is there when it is empty, or when nobody receives any more.
        let _ = behind.reserve_many(behind.max_capacity()).await;
        let mut relay = lock(&self.relay);
        if relay.committed.as_ref().is_some_and(|present| present.same_channel(&behind)) {
            relay.behind = false;
        }
        drop(relay);
        self.sweep.send_modify(|count| *count += 1);
    }
}
