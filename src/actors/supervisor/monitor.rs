//! Notices blocked threads, from a thread of its own that no actor can block.
//!
//! Each tick is published to all domains, whose threads answer it. Time is counted in the monitor's own ticks, and a
//! tick that comes late is none: when the whole process was paused (SIGSTOP, a suspended machine), monitor and domains
//! stood still together and nobody is frozen.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix_rt::System;

use super::domain::{Domain, Root};
use super::settings::SupervisionSettings;

/// Tells real ticks from late ones, and blocked threads from slow ones.
pub(super) struct HeartbeatJudge {
    heartbeat: Duration,
    missed_heartbeats: u64,
    last_wake: Instant,
}

impl HeartbeatJudge {
    pub(super) fn new(settings: &SupervisionSettings, now: Instant) -> Self {
        Self { heartbeat: settings.heartbeat, missed_heartbeats: settings.missed_heartbeats, last_wake: now }
    }

    /// Whether the monitor, woken now, may judge and tick on.
    pub(super) fn on_time(&mut self, now: Instant) -> bool {
        let slept = now.duration_since(self.last_wake);
        self.last_wake = now;
        slept < self.heartbeat * 2
    }

    pub(super) fn is_blocked(&self, tick: u64, answered: u64) -> bool {
        tick.saturating_sub(answered) > self.missed_heartbeats
    }
}

pub(super) struct Monitor {
    stop: Arc<(Mutex<bool>, Condvar)>,
}

impl Monitor {
    pub(super) fn start(root: Arc<Root>, domains: Vec<Arc<Domain>>, system: System) -> std::io::Result<Self> {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let stopped = Arc::clone(&stop);
        std::thread::Builder::new().name("supervision".to_owned()).spawn(move || {
            // New arbiters are started from this thread.
            System::set_current(system);
            watch_over(&root, &domains, &stopped);
        })?;
        Ok(Self { stop })
    }

    pub(super) fn stop(&self) {
        let (stopped, changed) = &*self.stop;
        *stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        changed.notify_all();
    }
}

fn watch_over(root: &Root, domains: &[Arc<Domain>], (stopped, changed): &(Mutex<bool>, Condvar)) {
    let mut judge = HeartbeatJudge::new(&root.settings, Instant::now());
    let mut stopped = stopped.lock().unwrap_or_else(PoisonError::into_inner);
    while !*stopped {
        (stopped, _) = changed.wait_timeout(stopped, root.settings.heartbeat).unwrap_or_else(PoisonError::into_inner);
        if *stopped || !judge.on_time(Instant::now()) {
            continue;
        }
        let tick = *root.ticks.borrow();
        for domain in domains {
            if domain.answered_tick().is_some_and(|answered| judge.is_blocked(tick, answered)) {
                domain.leave_blocked_thread();
            }
        }
        root.ticks.send_modify(|tick| *tick += 1);
    }
}
