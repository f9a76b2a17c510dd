//! The tree as the program holds it: build, read, inject, wait for the worst, shut down.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix_rt::System;
use prometheus::Histogram;
use thiserror::Error;
use tokio::sync::watch;

use super::domain::{Domain, Placement, Root};
use super::faults::{Fault, UnknownActor};
use super::monitor::Monitor;
use super::node::Supervisors;
use super::panics;
use super::runner::Member;
use super::settings::SupervisionSettings;
use super::spec::SpecPlan;
use super::status::{ActorState, ActorStatus, Escalation, FailureCounts, MailboxCounts};

/// Why a tree could not start.
#[derive(Debug, Error)]
pub enum TreeError {
    #[error("two actors are called `{0}`")]
    DuplicateName(String),
    #[error("the supervision tree starts its threads inside an actix system, and there is none")]
    NoSystem,
    #[error("could not start a thread of the supervision tree")]
    Thread(#[from] std::io::Error),
}

pub struct SupervisionTreeBuilder {
    name: String,
    settings: SupervisionSettings,
    placement: Placement,
    domains: Vec<SpecPlan>,
}

impl SupervisionTreeBuilder {
    #[must_use]
    pub fn settings(mut self, settings: SupervisionSettings) -> Self {
        self.settings = settings;
        self
    }

    /// For tests: runs all actors as local tasks of the runtime that calls `start`, whose clock may be paused. Without
    /// threads of their own, freezes are not noticed.
    #[must_use]
    pub fn on_callers_runtime(mut self) -> Self {
        self.placement = Placement::CallersRuntime;
        self
    }

    /// Adds a top-level actor with all that belongs to it. Domains start in this order and stop in the reverse one.
    #[must_use]
    pub fn domain(mut self, spec: impl Into<SpecPlan>) -> Self {
        self.domains.push(spec.into());
        self
    }

    /// Starts the domains; an actor that cannot start does not fail this, it is tried again.
    pub fn start(self) -> Result<SupervisionTree, TreeError> {
        panics::install_hook();
        let root = Arc::new(Root {
            settings: self.settings,
            escalation: watch::Sender::new(None),
            changes: Arc::new(watch::Sender::new(0)),
            ticks: watch::Sender::new(0),
        });
        let mut tree = SupervisionTree {
            name: self.name,
            root,
            domains: Vec::new(),
            shapes: Vec::new(),
            by_name: HashMap::new(),
            monitor: None,
            stopped: AtomicBool::new(false),
        };
        for plan in self.domains {
            tree.add_domain(plan, self.placement)?;
        }
        if self.placement == Placement::OwnThreads {
            let system = System::try_current().ok_or(TreeError::NoSystem)?;
            tree.monitor = Some(Monitor::start(Arc::clone(&tree.root), tree.domains.clone(), system)?);
        }
        for domain in &tree.domains {
            domain.start()?;
        }
        Ok(tree)
    }
}

/// A running tree. Dropping it stops the actors without draining.
pub struct SupervisionTree {
    name: String,
    root: Arc<Root>,
    /// In start order.
    domains: Vec<Arc<Domain>>,
    shapes: Vec<Shape>,
    by_name: HashMap<String, Arc<dyn Member>>,
    monitor: Option<Monitor>,
    stopped: AtomicBool,
}

/// An actor and those that belong to it, as they are shown.
struct Shape {
    member: Arc<dyn Member>,
    children: Vec<Shape>,
}

impl SupervisionTree {
    /// `name` is the root's: that of the process.
    pub fn builder(name: &str) -> SupervisionTreeBuilder {
        SupervisionTreeBuilder {
            name: name.to_owned(),
            settings: SupervisionSettings::default(),
            placement: Placement::OwnThreads,
            domains: Vec::new(),
        }
    }

    fn add_domain(&mut self, plan: SpecPlan, placement: Placement) -> Result<(), TreeError> {
        let name = plan.member.vitals().name().to_owned();
        let mut supervisors = Supervisors::new(self.root.settings.clone());
        let mut members = Vec::new();
        let node = supervisors.add_node(&name, plan.strategy, None);
        let shape = enlist(plan, node, &mut supervisors, &mut members);
        for member in &members {
            let vitals = member.vitals();
            vitals.report_changes_to(Arc::clone(&self.root.changes));
            if self.by_name.insert(vitals.name().to_owned(), Arc::clone(member)).is_some() {
                return Err(TreeError::DuplicateName(vitals.name().to_owned()));
            }
        }
        self.shapes.push(shape);
        self.domains.push(Arc::new(Domain::new(&name, members, supervisors, placement, Arc::clone(&self.root))));
        Ok(())
    }

    /// The whole tree, root first.
    pub fn status(&self) -> ActorStatus {
        let state = if self.root.escalation.borrow().is_some() {
            ActorState::Escalated
        } else if self.stopped.load(Ordering::Acquire) {
            ActorState::Stopped
        } else {
            ActorState::Running
        };
        ActorStatus {
            name: self.name.clone(),
            state,
            restarts: 0,
            last_panic: None,
            mailbox: MailboxCounts::default(),
            failures: FailureCounts::default(),
            children: self.shapes.iter().map(Shape::status).collect(),
        }
    }

    /// How long each actor takes for its messages.
    pub fn handler_seconds(&self) -> impl Iterator<Item = Histogram> {
        self.by_name.values().map(|member| member.vitals().handler_seconds().clone())
    }

    /// Counts on at each change of a state, restart or panic, not at each message.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.root.changes.subscribe()
    }

    /// Queues one fault, also for an actor that is down.
    pub fn inject(&self, actor: &str, fault: Fault) -> Result<(), UnknownActor> {
        let member = self.by_name.get(actor).ok_or_else(|| UnknownActor(actor.to_owned()))?;
        member.inject(fault);
        Ok(())
    }

    /// Waits for a failure to reach the root, and tells the first one that did.
    pub async fn escalated(&self) -> Escalation {
        let mut escalation = self.root.escalation.subscribe();
        loop {
            if let Some(escalation) = &*escalation.borrow_and_update() {
                return escalation.clone();
            }
            if escalation.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Stops the actors in the reverse of their start order: each refuses new asks, finishes what is queued and in
    /// flight, then stops. True if all did in time; what is left at the deadline is cut off.
    pub async fn shutdown(&self, deadline: Duration) -> bool {
        let drained = tokio::time::timeout(deadline, async {
            for domain in self.domains.iter().rev() {
                domain.drain().await;
            }
        });
        let drained = drained.await.is_ok();
        self.close();
        drained
    }

    fn close(&self) {
        if let Some(monitor) = &self.monitor {
            monitor.stop();
        }
        for domain in self.domains.iter().rev() {
            domain.close();
        }
        if !self.stopped.swap(true, Ordering::AcqRel) {
            self.root.changes.send_modify(|count| *count += 1);
        }
    }
}

impl Drop for SupervisionTree {
    fn drop(&mut self) {
        self.close();
    }
}

/// Adds a supervisor's members in start order: parts, head, followers.
fn enlist(plan: SpecPlan, node: usize, supervisors: &mut Supervisors, members: &mut Vec<Arc<dyn Member>>) -> Shape {
    let mut children = Vec::new();
    for part in plan.parts {
        children.push(enlist_child(part, node, supervisors, members));
    }
    supervisors.add_member(node);
    members.push(Arc::clone(&plan.member));
    for follower in plan.followers {
        children.push(enlist_child(follower, node, supervisors, members));
    }
    Shape { member: plan.member, children }
}

fn enlist_child(
    plan: SpecPlan,
    parent: usize,
    supervisors: &mut Supervisors,
    members: &mut Vec<Arc<dyn Member>>,
) -> Shape {
    let is_plain_actor = plan.parts.is_empty() && plan.followers.is_empty();
    let node = if is_plain_actor {
        parent
    } else {
        supervisors.add_node(plan.member.vitals().name(), plan.strategy, Some(parent))
    };
    enlist(plan, node, supervisors, members)
}

impl Shape {
    fn status(&self) -> ActorStatus {
        let vitals = self.member.vitals();
        ActorStatus {
            name: vitals.name().to_owned(),
            state: vitals.state(),
            restarts: vitals.restarts(),
            last_panic: vitals.last_panic(),
            mailbox: self.member.mailbox(),
            failures: vitals.failures(),
            children: self.children.iter().map(Shape::status).collect(),
        }
    }
}
