//! Failures on demand.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::future::join;

use super::*;
use crate::actors::AskError;

#[test]
fn an_injected_panic_goes_ahead_of_queued_messages_and_hits_none_of_them() {
    in_virtual_time(async {
        let spec = probe("users");
        let (users, tree) = (spec.address(), tree_of(spec));
        users.ask(Count, SECOND).await.unwrap();
        let (answer, ()) = join(users.ask(Count, SECOND), async { tree.inject("users", Fault::Panic).unwrap() }).await;
        assert_eq!(answer, Ok(1), "answered by the fresh value");
        let status = status_of(&tree, "users");
        assert_eq!(status.restarts, 1);
        assert!(status.last_panic.unwrap().starts_with("injected fault: panic (src/actors/supervisor/faults.rs:"));
    });
}

#[test]
fn each_injection_is_exactly_one_fault_also_while_the_actor_is_down() {
    in_virtual_time(async {
        let script = Arc::new(Script::default());
        script.failing_factory.store(3, Ordering::SeqCst);
        let spec = scripted("users", &script);
        let (users, tree) = (spec.address(), tree_of(spec));
        eventually("down", || status_of(&tree, "users").restarts == 1).await;
        for _ in 0..3 {
            tree.inject("users", Fault::Panic).unwrap();
        }
        eventually("all struck", || status_of(&tree, "users").restarts == 6).await;
        tokio::time::sleep(10 * SECOND).await;
        let status = status_of(&tree, "users");
        assert_eq!((status.restarts, status.state), (6, ActorState::Running));
        assert_eq!(users.ask(Count, SECOND).await, Ok(1));
    });
}

#[test]
fn fail_start_stops_the_actor_and_fails_its_next_three_starts() {
    in_virtual_time(async {
        let spec = probe("users");
        let (users, tree) = (spec.address(), tree_of(spec));
        users.ask(Count, SECOND).await.unwrap();
        tree.inject("users", Fault::FailStart).unwrap();
        tokio::time::sleep(ms(60)).await;
        assert_eq!(status_of(&tree, "users").state, ActorState::Restarting);
        assert_eq!(users.ask(Count, SECOND).await, Ok(1));
        let status = status_of(&tree, "users");
        assert_eq!(status.restarts, 4, "three failed starts and the one that succeeded");
        assert_eq!(status.last_panic.as_deref(), Some("failed to start: injected fault"));
    });
}

#[test]
fn a_short_freeze_only_delays() {
    in_virtual_time(async {
        let spec = probe("users");
        let (users, tree) = (spec.address(), tree_of(spec));
        users.ask(Count, SECOND).await.unwrap();
        tree.inject("users", Fault::Freeze(ms(5))).unwrap();
        assert_eq!(users.ask(Count, SECOND).await, Ok(2));
        assert_eq!(status_of(&tree, "users").restarts, 0);
    });
}

#[test]
fn a_fault_for_nobody_is_an_error() {
    in_virtual_time(async {
        let tree = tree_of(probe("users"));
        assert_eq!(tree.inject("nobody", Fault::Panic), Err(UnknownActor("nobody".to_owned())));
        assert_eq!(tree.inject("shop", Fault::Panic), Err(UnknownActor("shop".to_owned())), "the root is no actor");
    });
}

#[test]
fn faults_wait_for_a_message_in_hand() {
    in_virtual_time(async {
        let spec = probe("users");
        let (users, tree) = (spec.address(), tree_of(spec));
        users.ask(Count, SECOND).await.unwrap();
        let (work, ()) = join(users.ask(WorkDetached(ms(50)), SECOND), async {
            tokio::time::sleep(ms(10)).await;
            tree.inject("users", Fault::Panic).unwrap();
        })
        .await;
        assert_eq!(work, Ok(2));
        assert_ne!(users.ask(Count, SECOND).await, Err(AskError::Interrupted));
    });
}
