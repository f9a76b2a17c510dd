//! A domain: its actors, their supervisors, and the thread they run on.
//!
//! Decisions are taken here, under one lock, by whichever thread brings the failure: the domain's own for a panic, the
//! monitor's for a freeze.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use actix_rt::Arbiter;
use tokio::sync::watch;
use tokio::time::Instant;

use super::node::{Decision, Supervisors};
use super::runner::{Member, Start};
use super::settings::SupervisionSettings;
use super::spec::RestartPolicy;
use super::status::{ActorState, Escalation, Failure};
use super::thread::ThreadLife;

/// Where the actors of a tree run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placement {
    /// An arbiter a domain, watched for freezes.
    OwnThreads,
    /// Everything on the runtime that starts the tree, whose clock a test may pause; freezes are not noticed.
    CallersRuntime,
}

/// What all domains report to.
pub(super) struct Root {
    pub(super) settings: SupervisionSettings,
    pub(super) escalation: watch::Sender<Option<Escalation>>,
    pub(super) changes: Arc<watch::Sender<u64>>,
    /// The monitor's ticks; every domain's thread answers each.
    pub(super) ticks: watch::Sender<u64>,
}

impl Root {
    /// The first escalation is the one that counts.
    fn escalate(&self, who: &str, why: &str) {
        self.escalation.send_if_modified(|escalation| {
            let first = escalation.is_none();
            if first {
                tracing::error!(actor = %who, "supervision gave up on {who}: {why}");
                *escalation = Some(Escalation { who: who.to_owned(), why: why.to_owned() });
            }
            first
        });
        self.changes.send_modify(|count| *count += 1);
    }
}

pub(super) struct Domain {
    name: String,
    /// In start order; a member's index is its place here.
    members: Vec<Arc<dyn Member>>,
    /// Index of the actor that the domain is named after.
    head: usize,
    supervisors: Mutex<Supervisors>,
    thread: Mutex<DomainThread>,
    placement: Placement,
    root: Arc<Root>,
}

struct DomainThread {
    life: Arc<ThreadLife>,
    arbiter: Option<Arbiter>,
    /// Alive as long as the thread's event loop.
    alive: Weak<()>,
    /// Threads given up; those whose event loop has ended since no longer count.
    abandoned: Vec<Weak<()>>,
    /// No thread is started any more.
    closed: bool,
}

/// What becomes of a member that failed.
pub(super) enum Verdict {
    RestartAt(Instant),
    Ended,
}

impl Domain {
    pub(super) fn new(
        name: &str,
        members: Vec<Arc<dyn Member>>,
        supervisors: Supervisors,
        placement: Placement,
        root: Arc<Root>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            head: members.iter().position(|member| member.vitals().name() == name).unwrap_or_default(),
            members,
            supervisors: Mutex::new(supervisors),
            thread: Mutex::new(DomainThread {
                life: Arc::new(ThreadLife::new(0, 0)),
                arbiter: None,
                alive: Weak::new(),
                abandoned: Vec::new(),
                closed: false,
            }),
            placement,
            root,
        }
    }

    fn lock_thread(&self) -> MutexGuard<'_, DomainThread> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn start(self: &Arc<Self>) -> std::io::Result<()> {
        self.start_on_new_thread(&mut self.lock_thread(), Start::First)
    }

    fn start_on_new_thread(self: &Arc<Self>, thread: &mut DomainThread, start: Start) -> std::io::Result<()> {
        let arbiter = match self.placement {
            Placement::OwnThreads => Some(Arbiter::try_new()?),
            Placement::CallersRuntime => None,
        };
        let generation = thread.life.generation() + 1;
        let life = Arc::new(ThreadLife::new(generation, *self.root.ticks.borrow()));
        let alive = Arc::new(());
        for member in &self.members {
            member.hand_over(generation);
        }
        thread.life = Arc::clone(&life);
        thread.alive = Arc::downgrade(&alive);

        let (domain, ticks) = (Arc::clone(self), self.root.ticks.subscribe());
        let begin = move || domain.begin(&life, start, ticks, alive);
        match &arbiter {
            Some(arbiter) => {
                arbiter.spawn_fn(begin);
            }
            None => begin(),
        }
        thread.arbiter = arbiter;
        Ok(())
    }

    /// Runs on the domain's thread.
    fn begin(self: &Arc<Self>, life: &Arc<ThreadLife>, start: Start, ticks: watch::Receiver<u64>, alive: Arc<()>) {
        if self.placement == Placement::OwnThreads {
            actix_rt::spawn(answer_ticks(Arc::clone(life), ticks, alive));
        }
        for (index, member) in self.members.iter().enumerate() {
            if !member.has_ended() {
                actix_rt::spawn(Arc::clone(member).run(index, Arc::clone(self), Arc::clone(life), start));
            }
        }
    }

    pub(super) fn member_failed(&self, index: usize, cause: &str) -> Verdict {
        match self.decide(index, cause) {
            Decision::Restart { members, delay } => {
                let at = Instant::now() + delay;
                for other in members.into_iter().filter(|other| *other != index) {
                    self.members[other].order_restart(at);
                }
                Verdict::RestartAt(at)
            }
            Decision::Escalate { why } => {
                self.escalate(&why);
                Verdict::Ended
            }
        }
    }

    fn decide(&self, index: usize, cause: &str) -> Decision {
        let mut supervisors = self.supervisors.lock().unwrap_or_else(PoisonError::into_inner);
        supervisors.failed(index, cause, Instant::now(), rand::random())
    }

    fn escalate(&self, why: &str) {
        for member in &self.members {
            member.end(ActorState::Escalated);
        }
        self.root.escalate(&self.name, why);
    }

    /// The last tick that the domain's thread answered; `None` when there is no thread to watch.
    pub(super) fn answered_tick(&self) -> Option<u64> {
        let thread = self.lock_thread();
        thread.arbiter.as_ref().map(|_| thread.life.answered_tick())
    }

    /// Gives up the blocked thread and goes on with a new one: same queues, new values. What was in flight is
    /// interrupted now, not when the thread comes back.
    pub(super) fn leave_blocked_thread(self: &Arc<Self>) {
        let mut thread = self.lock_thread();
        if thread.closed {
            return;
        }
        thread.life.abandon();
        let culprit = thread.life.culprit().unwrap_or(self.head);
        if let Some(arbiter) = thread.arbiter.take() {
            // Comes into effect if the thread ever wakes: its event loop ends, and its tasks with it.
            arbiter.stop();
        }
        let blocked = thread.alive.clone();
        thread.abandoned.push(blocked);
        thread.abandoned.retain(|alive| alive.strong_count() > 0);

        let settings = &self.root.settings;
        let member = &self.members[culprit];
        let cause = format!("frozen: {} blocked its thread", member.vitals().name());
        member.vitals().record_failure(Failure::Freeze, &cause);
        if thread.abandoned.len() > settings.blocked_threads {
            thread.closed = true;
            let why = format!("{cause}, and {} threads given up before are still blocked", settings.blocked_threads);
            return self.escalate(&why);
        }
        if member.policy() == RestartPolicy::Temporary {
            member.end(ActorState::Stopped);
        }
        let at = match self.decide(culprit, &cause) {
            Decision::Restart { delay, .. } => Instant::now() + delay,
            Decision::Escalate { why } => {
                thread.closed = true;
                return self.escalate(&why);
            }
        };
        for member in self.members.iter().filter(|member| !member.has_ended()) {
            if member.policy() == RestartPolicy::Temporary {
                member.end(ActorState::Stopped);
            } else {
                member.vitals().set_state(ActorState::Restarting);
            }
        }
        if let Err(error) = self.start_on_new_thread(&mut thread, Start::RestartAt(at)) {
            thread.closed = true;
            self.escalate(&format!("{cause}, and no new thread could be started: {error}"));
        }
    }

    /// Finishes what was accepted and stops, last started first.
    pub(super) async fn drain(&self) {
        for member in self.members.iter().rev() {
            member.drain().await;
        }
    }

    /// Ends what is left, without waiting.
    pub(super) fn close(&self) {
        for member in self.members.iter().rev() {
            member.end(ActorState::Stopped);
        }
        let mut thread = self.lock_thread();
        thread.closed = true;
        if let Some(arbiter) = thread.arbiter.take() {
            arbiter.stop();
        }
    }
}

async fn answer_ticks(life: Arc<ThreadLife>, mut ticks: watch::Receiver<u64>, alive: Arc<()>) {
    while ticks.changed().await.is_ok() {
        life.answer(*ticks.borrow_and_update());
    }
    drop(alive);
}
