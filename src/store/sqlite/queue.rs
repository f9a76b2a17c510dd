//! A bounded queue from async callers to the threads that own the connections.
//!
//! Callers wait for room without blocking a runtime thread; the connection threads block until there is work.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Semaphore;

/// The queue takes nothing more.
#[derive(Debug)]
pub(super) struct Closed;

/// What a connection thread got.
pub(super) enum Popped<T> {
    Item(T),
    /// Nothing came until the deadline.
    Idle,
    /// Closed, and everything that was accepted has been handed out.
    Closed,
}

pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    ready: Condvar,
    /// One permit for each free place.
    room: Semaphore,
}

struct State<T> {
    items: VecDeque<T>,
    /// Threads that wait for work: nobody is woken (a system call) when there is none.
    waiting: usize,
    closed: bool,
}

impl<T> Queue<T> {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            state: Mutex::new(State { items: VecDeque::new(), waiting: 0, closed: false }),
            ready: Condvar::new(),
            room: Semaphore::new(capacity),
        }
    }

    /// Waits for room and hands the item over.
    pub(super) async fn push(&self, item: T) -> Result<(), Closed> {
        self.room.acquire().await.map_err(|_| Closed)?.forget();
        let wake = {
            let mut state = self.lock();
            if state.closed {
                return Err(Closed);
            }
            state.items.push_back(item);
            state.waiting > 0
        };
        if wake {
            self.ready.notify_one();
        }
        Ok(())
    }

    /// Blocks until there is an item, the deadline passes, or the queue is closed and empty.
    pub(super) fn pop(&self, deadline: Option<Instant>) -> Popped<T> {
        let mut state = self.lock();
        loop {
            if let Some(item) = state.items.pop_front() {
                drop(state);
                self.room.add_permits(1);
                return Popped::Item(item);
            }
            if state.closed {
                return Popped::Closed;
            }
            let rest = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if rest.is_some_and(|rest| rest.is_zero()) {
                return Popped::Idle;
            }
            state.waiting += 1;
            state = match rest {
                Some(rest) => self.ready.wait_timeout(state, rest).unwrap_or_else(PoisonError::into_inner).0,
                None => self.ready.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
            state.waiting -= 1;
        }
    }

    /// Moves up to `limit` items that are there now to `batch`.
    pub(super) fn drain(&self, batch: &mut Vec<T>, limit: usize) {
        let taken = {
            let mut state = self.lock();
            let taken = state.items.len().min(limit);
            batch.extend(state.items.drain(..taken));
            taken
        };
        self.room.add_permits(taken);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().items.len()
    }

    /// Refuses further items; those that were accepted are still handed out.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.room.close();
        self.ready.notify_all();
    }

    /// Nothing panics while the lock is held, so a poisoned state is a sound one.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
