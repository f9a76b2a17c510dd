//! The behaviour of supervision, one sentence a test.
//!
//! All but the frozen threads run in virtual time, with every actor on the test's own runtime.

mod asks;
mod escalation;
mod faults;
mod freezes;
mod probe;
mod recovery;
mod shutdown;
mod strategies;

use std::future::Future;
use std::time::Duration;

use actix_rt::System;

use super::*;
use probe::*;

const SECOND: Duration = Duration::from_secs(1);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Runs a test on a paused clock that jumps to the next timer whenever nothing else is to do.
fn in_virtual_time<F: Future>(test: F) -> F::Output {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    System::with_tokio_rt(runtime).block_on(test)
}

fn plain_settings() -> SupervisionSettings {
    SupervisionSettings { backoff_jitter: 0.0, ..SupervisionSettings::default() }
}

fn tree_of(spec: impl Into<SpecPlan>) -> SupervisionTree {
    SupervisionTree::builder("shop").settings(plain_settings()).on_callers_runtime().domain(spec).start().unwrap()
}

/// Waits for a condition; the deadline is in the runtime's own time, virtual or real.
async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "never came: {what}");
        tokio::time::sleep(ms(1)).await;
    }
}

fn find(status: &ActorStatus, name: &str) -> Option<ActorStatus> {
    if status.name == name {
        return Some(status.clone());
    }
    status.children.iter().find_map(|child| find(child, name))
}

fn status_of(tree: &SupervisionTree, name: &str) -> ActorStatus {
    let status = tree.status();
    status.children.iter().find_map(|child| find(child, name)).unwrap()
}

async fn running(tree: &SupervisionTree, name: &str) {
    eventually("running", || status_of(tree, name).state == ActorState::Running).await;
}
