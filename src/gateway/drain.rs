//! How the public listener ends: refuse what is new, finish what was accepted, close the sockets.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Notify, watch};

/// Shared by the listener, its requests and its sockets.
#[derive(Debug)]
pub struct Drain {
    draining: watch::Sender<bool>,
    /// Requests that are being answered, and open sockets.
    active: AtomicUsize,
    idle: Notify,
}

/// One request or socket, until it is dropped.
#[derive(Debug)]
pub struct Active(Arc<Drain>);

impl Drain {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { draining: watch::Sender::new(false), active: AtomicUsize::new(0), idle: Notify::new() })
    }

    /// Counts a request or socket. `None`: nothing new is taken any more.
    pub fn enter(self: &Arc<Self>) -> Option<Active> {
        self.active.fetch_add(1, Ordering::SeqCst);
        let active = Active(Arc::clone(self));
        // Counted first: whoever saw no draining here is seen by `idle`.
        (!self.is_draining()).then_some(active)
    }

    pub fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    pub fn begin(&self) {
        self.draining.send_replace(true);
    }

    /// Sees the moment at which draining begins.
    pub fn watch(&self) -> watch::Receiver<bool> {
        self.draining.subscribe()
    }

    /// Once draining has begun: waits until nothing is active.
    pub async fn idle(&self) {
        loop {
            let idle = self.idle.notified();
            tokio::pin!(idle);
            idle.as_mut().enable();
            if self.active.load(Ordering::SeqCst) == 0 {
                return;
            }
            idle.await;
        }
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        if self.0.active.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}
