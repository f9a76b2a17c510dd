//! Blocked threads. Real threads and real time, so freezes and heartbeats are short.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use futures_util::future::join;

use super::super::monitor::HeartbeatJudge;
use super::*;
use crate::actors::AskError;

fn quick() -> SupervisionSettings {
    SupervisionSettings { heartbeat: ms(40), ..plain_settings() }
}

/// Longer than any freeze is noticed in.
const FREEZE: Duration = Duration::from_millis(1500);

fn on_threads<F: Future>(test: F) -> F::Output {
    System::new().block_on(test)
}

fn threaded(spec: impl Into<SpecPlan>) -> SupervisionTree {
    SupervisionTree::builder("shop").settings(quick()).domain(spec).start().unwrap()
}

#[test]
fn a_frozen_actor_is_replaced_and_its_queue_answered() {
    on_threads(async {
        let spec = probe("users");
        let (users, tree) = (spec.address(), threaded(spec));
        users.ask(Count, SECOND).await.unwrap();
        let begin = Instant::now();
        tree.inject("users", Fault::Freeze(FREEZE)).unwrap();
        assert_eq!(users.ask(Count, 10 * SECOND).await, Ok(1));
        assert!(begin.elapsed() < FREEZE, "answered while the old thread sleeps");
        let status = status_of(&tree, "users");
        assert_eq!((status.restarts, status.state), (1, ActorState::Running));
        assert_eq!(status.last_panic.as_deref(), Some("frozen: users blocked its thread"));
    });
}

#[test]
fn askers_in_flight_on_a_frozen_thread_are_interrupted_at_once() {
    on_threads(async {
        let spec = probe("users");
        let (users, _tree) = (spec.address(), threaded(spec));
        let begin = Instant::now();
        let (beside, blocked) = join(users.ask(WorkDetached(10 * SECOND), 20 * SECOND), async {
            // Its answer says that the work before it has begun.
            users.ask(Count, SECOND).await.unwrap();
            users.ask(Block(FREEZE), 10 * SECOND).await
        })
        .await;
        assert_eq!((beside, blocked), (Err(AskError::Interrupted), Err(AskError::Interrupted)));
        assert!(begin.elapsed() < FREEZE);
    });
}

#[test]
fn an_abandoned_actor_that_wakes_is_harmless_and_its_thread_ends() {
    on_threads(async {
        let (script, journal) = (Arc::new(Script::default()), Journal::default());
        let spec = probe_at(crate::actors::Address::reserve("users"), &script, &journal);
        let (users, tree) = (spec.address(), threaded(spec));
        assert_eq!(users.ask(Block(ms(600)), 10 * SECOND).await, Err(AskError::Interrupted));
        assert_eq!(users.ask(Count, 10 * SECOND).await, Ok(1));
        assert_eq!(script.late.load(Ordering::SeqCst), 0);
        eventually("the old value is dropped", || script.dropped.load(Ordering::SeqCst) == 1).await;
        assert_eq!(script.late.load(Ordering::SeqCst), 1);
        assert_eq!(users.ask(Count, SECOND).await, Ok(2), "the new value did not notice");
        assert_eq!(entries(&journal), ["started users", "restarting users", "started users"]);
        let status = status_of(&tree, "users");
        assert_eq!((status.restarts, status.mailbox.handled), (1, 2), "the late reply counts for nothing");
    });
}

#[test]
fn the_fourth_thread_that_is_blocked_at_the_same_time_escalates() {
    on_threads(async {
        let spec = probe("users");
        let tree = threaded(spec);
        for freezes in 1..=3 {
            tree.inject("users", Fault::Freeze(20 * SECOND)).unwrap();
            eventually("replaced", || status_of(&tree, "users").restarts == freezes).await;
            running(&tree, "users").await;
        }
        assert_eq!(tree.status().state, ActorState::Running);
        tree.inject("users", Fault::Freeze(20 * SECOND)).unwrap();
        let escalation = tree.escalated().await;
        assert_eq!(escalation.who, "users");
        assert!(escalation.why.contains("3 threads given up before are still blocked"), "{}", escalation.why);
        let begin = Instant::now();
        assert!(tree.shutdown(10 * SECOND).await, "blocked threads are not waited for");
        assert!(begin.elapsed() < SECOND);
    });
}

#[test]
fn threads_that_woke_do_not_count_as_blocked() {
    on_threads(async {
        let script = Arc::new(Script::default());
        let tree = threaded(scripted("users", &script));
        running(&tree, "users").await;
        for freezes in 1..=4 {
            tree.inject("users", Fault::Freeze(ms(500))).unwrap();
            eventually("old thread gone", || script.dropped.load(Ordering::SeqCst) == freezes).await;
        }
        running(&tree, "users").await;
        assert_eq!(status_of(&tree, "users").restarts, 4);
        assert_eq!(tree.status().state, ActorState::Running);
    });
}

#[test]
fn the_parts_of_a_frozen_domain_move_along_and_other_domains_do_not_notice() {
    on_threads(async {
        let writer = probe("orders.writer");
        let writer_address = writer.address();
        let users = probe("users");
        let users_address = users.address();
        let tree = SupervisionTree::builder("shop")
            .settings(quick())
            .domain(probe("orders").part(writer))
            .domain(users)
            .start()
            .unwrap();
        users_address.ask(Count, SECOND).await.unwrap();
        tree.inject("orders", Fault::Freeze(FREEZE)).unwrap();
        eventually("moved", || status_of(&tree, "orders").restarts == 1).await;
        assert_eq!(writer_address.ask(Count, 10 * SECOND).await, Ok(1));
        assert_eq!(users_address.ask(Count, SECOND).await, Ok(2));
        assert_eq!(status_of(&tree, "orders.writer").restarts, 1);
        assert_eq!(status_of(&tree, "users").restarts, 0);
    });
}

#[test]
fn an_actor_frozen_during_its_start_is_replaced() {
    on_threads(async {
        let blocked = std::sync::atomic::AtomicBool::new(false);
        let spec = ActorSpec::new("users", move || {
            if !blocked.swap(true, Ordering::SeqCst) {
                block_this_thread(FREEZE);
            }
            Ok(Plain)
        });
        let tree = threaded(spec);
        running(&tree, "users").await;
        assert_eq!(status_of(&tree, "users").restarts, 1);
    });
}

struct Plain;
impl actix::Actor for Plain {
    type Context = actix::Context<Self>;
}
impl actix::Supervised for Plain {}

#[test]
fn a_late_monitor_judges_nobody_so_a_pause_of_the_process_is_no_freeze() {
    let start = Instant::now();
    let mut judge = HeartbeatJudge::new(&SupervisionSettings::default(), start);
    assert!(judge.on_time(start + ms(1000)));
    assert!(!judge.on_time(start + ms(61_000)), "a minute of SIGSTOP");
    assert!(judge.on_time(start + ms(62_000)));
    assert!(judge.on_time(start + ms(63_900)), "a little late is on time");
}

#[test]
fn a_thread_is_blocked_when_three_ticks_in_a_row_go_unanswered() {
    let judge = HeartbeatJudge::new(&SupervisionSettings::default(), Instant::now());
    assert!(!judge.is_blocked(7, 7));
    assert!(!judge.is_blocked(9, 7));
    assert!(judge.is_blocked(10, 7));
}
