//! Hands the events of each commit to the relay.

use std::sync::{Arc, Mutex};

use tokio::sync::{mpsc, watch};

use super::connections::lock;
use crate::domain::events::PendingEvent;

/// Commits that the relay may lie behind before it has to sweep: some ten seconds of a busy process, for as long an append may
/// wait for a log that is away.
const CAPACITY: usize = 1_024;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::events::{Topic, event_type, source};
    use crate::domain::time::Timestamp;

    fn event(sequence: i64) -> PendingEvent {
        let (topic, kind) = (Topic::UserEvents, event_type::USER_UPDATED);
        PendingEvent::new(topic, source::USERS, kind, "usr_1".into(), sequence, Timestamp(1), &"body")
    }

    #[tokio::test]
    async fn behind_a_full_channel_events_are_held_back_until_it_is_empty_and_a_sweep_is_due() {
        let announcer = Announcer::new();
        let (mut committed, mut sweeps) = (announcer.committed(), announcer.sweeps());
        for sequence in 0..CAPACITY as i64 + 1 {
            announcer.announce(vec![event(sequence)]);
        }
        assert_eq!(committed.recv().await.unwrap(), [event(0)]);
        // There is room, but what did not fit is not to be overtaken.
        announcer.announce(vec![event(1_000)]);
        assert_eq!(committed.len(), CAPACITY - 1);
        assert!(!sweeps.has_changed().unwrap());
        while !committed.is_empty() {
            committed.recv().await.unwrap();
        }
        sweeps.changed().await.unwrap();
        announcer.announce(vec![event(1_001)]);
        assert_eq!(committed.recv().await.unwrap(), [event(1_001)]);
    }

    #[tokio::test]
    async fn a_new_receiver_is_not_held_up_by_what_an_earlier_one_left() {
        let announcer = Announcer::new();
        let earlier = announcer.committed();
        for sequence in 0..CAPACITY as i64 + 1 {
            announcer.announce(vec![event(sequence)]);
        }
        let mut newer = announcer.committed();
        announcer.announce(vec![event(2_000)]);
        assert_eq!(newer.recv().await.unwrap(), [event(2_000)]);
        drop(earlier);
    }
}
