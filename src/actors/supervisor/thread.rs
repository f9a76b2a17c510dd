//! One thread's time with a domain: which generation it is, whether it still counts, what it is busy with.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

pub(in crate::actors) struct ThreadLife {
    generation: u64,
    /// Blocked for too long: another thread has its actors, and whatever it still does goes nowhere.
    abandoned: AtomicBool,
    /// The last tick of the monitor that the thread answered.
    answered_tick: AtomicU64,
    /// One more than the index of the member being polled; 0 in between.
    polling: AtomicUsize,
}

impl ThreadLife {
    pub(super) fn new(generation: u64, tick: u64) -> Self {
        Self {
            generation,
            abandoned: AtomicBool::new(false),
            answered_tick: AtomicU64::new(tick),
            polling: AtomicUsize::new(0),
        }
    }

    pub(in crate::actors) fn generation(&self) -> u64 {
        self.generation
    }

    pub(in crate::actors) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Acquire)
    }

    pub(super) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Release);
    }

    /// Runs `work` on behalf of a member, who is to blame if it blocks the thread.
    pub(in crate::actors) fn busy_with<T>(&self, member: usize, work: impl FnOnce() -> T) -> T {
        self.polling.store(member + 1, Ordering::Relaxed);
        let done = work();
        self.polling.store(0, Ordering::Relaxed);
        done
    }

    pub(super) fn culprit(&self) -> Option<usize> {
        self.polling.load(Ordering::Relaxed).checked_sub(1)
    }

    pub(super) fn answer(&self, tick: u64) {
        self.answered_tick.store(tick, Ordering::Release);
    }

    pub(super) fn answered_tick(&self) -> u64 {
        self.answered_tick.load(Ordering::Acquire)
    }
}
