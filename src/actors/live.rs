//! The live hub: wakes the subscriptions of this process when something they show has changed.
//!
//! The log's tail wakes by key; a subscription that was woken reads the store from the last thing it sent. A wake
//! carries no data, so any number of them before the next read are one, and a lost place in the log is mended by
//! waking everybody once.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::domain::ids::{OrderId, ProductId, UserId};

/// What a subscription shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LiveKey {
    Order(OrderId),
    /// Every order of this customer.
    Customer(UserId),
    Product(ProductId),
    /// What is recommended to this user.
    Recommendations(UserId),
    /// The notifications of this user.
    Inbox(UserId),
    DeadLetters,
}

type Watchers = HashMap<LiveKey, watch::Sender<u64>>;

/// Shared by the tail, which wakes, and the subscriptions, which watch.
#[derive(Clone, Default)]
pub struct LiveHub {
    watchers: Arc<Mutex<Watchers>>,
    /// Keys of kind `Customer` that somebody watches.
    customers: Arc<AtomicUsize>,
    waits_over: Arc<watch::Sender<bool>>,
}

impl LiveHub {
    fn lock(&self) -> MutexGuard<'_, Watchers> {
        // A panic while the map is held leaves it whole: entries are inserted and removed in one call each.
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches a key from now on: what is woken after this returns is seen.
    pub fn watch(&self, key: LiveKey) -> LiveWatch {
        let mut watchers = self.lock();
        let sender = watchers.entry(key).or_insert_with(|| {
            if matches!(key, LiveKey::Customer(_)) {
                self.customers.fetch_add(1, Ordering::AcqRel);
            }
            watch::channel(0).0
        });
        let receiver = sender.subscribe();
        drop(watchers);
        LiveWatch { hub: self.clone(), key, receiver }
    }

    /// Wakes all who watch this key.
    pub fn wake(&self, key: LiveKey) {
        if let Some(sender) = self.lock().get(&key) {
            sender.send_modify(|count| *count += 1);
        }
    }

    /// Wakes everybody once: the tail may have missed something.
    pub fn wake_all(&self) {
        for sender in self.lock().values() {
            sender.send_modify(|count| *count += 1);
        }
    }

    /// Whether anybody watches all orders of a customer.
    pub fn watches_customers(&self) -> bool {
        self.customers.load(Ordering::Acquire) > 0
    }

    /// The process is about to end: who waits for a change, to answer with it, is to answer without.
    pub fn end_waits(&self) {
        self.waits_over.send_replace(true);
    }

    /// Resolves once waits are to end.
    pub async fn waits_over(&self) {
        // The sender lives as long as this hub.
        let _ = self.waits_over.subscribe().wait_for(|over| *over).await;
    }

    /// Keys that somebody watches, for metrics and tests.
    pub fn watched_keys(&self) -> usize {
        self.lock().len()
    }
}

/// One subscription's interest in a key; forgotten when dropped.
pub struct LiveWatch {
    hub: LiveHub,
    key: LiveKey,
    receiver: watch::Receiver<u64>,
}

impl LiveWatch {
    /// Waits for a wake since the last call, or since the watch began.
    pub async fn changed(&mut self) {
        if self.receiver.changed().await.is_err() {
            // The sender lives in the hub as long as this watch is registered.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for LiveWatch {
    fn drop(&mut self) {
        let mut watchers = self.hub.lock();
        // This watch's own receiver is still alive here: one means nobody else.
        if watchers.get(&self.key).is_some_and(|sender| sender.receiver_count() <= 1) {
            watchers.remove(&self.key);
            if matches!(self.key, LiveKey::Customer(_)) {
                self.hub.customers.fetch_sub(1, Ordering::AcqRel);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::TypedId;
    use futures_util::FutureExt;
    use uuid::Uuid;

    fn key(n: u128) -> LiveKey {
        LiveKey::Order(OrderId::from_uuid(Uuid::from_u128(n)))
    }

    #[test]
    fn a_wake_reaches_who_watches_that_key_once() {
        let hub = LiveHub::default();
        let (mut one, mut other) = (hub.watch(key(1)), hub.watch(key(2)));
        hub.wake(key(1));
        hub.wake(key(1));
        assert!(one.changed().now_or_never().is_some());
        assert!(one.changed().now_or_never().is_none());
        assert!(other.changed().now_or_never().is_none());
        hub.wake_all();
        assert!(one.changed().now_or_never().is_some() && other.changed().now_or_never().is_some());
    }

    #[test]
    fn a_dropped_watch_leaves_nothing_behind() {
        let hub = LiveHub::default();
        let (first, second) = (hub.watch(key(1)), hub.watch(key(1)));
        drop(first);
        assert_eq!(hub.watched_keys(), 1);
        drop(second);
        assert_eq!(hub.watched_keys(), 0);
    }
}
