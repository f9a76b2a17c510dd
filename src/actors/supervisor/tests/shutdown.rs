//! The way down.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::future::{join, join_all};

use super::*;
use crate::actors::AskError;

#[test]
fn asks_after_a_shutdown_are_refused() {
    in_virtual_time(async {
        let spec = probe("users");
        let (users, tree) = (spec.address(), tree_of(spec));
        assert!(tree.shutdown(SECOND).await);
        assert_eq!(users.ask(Count, SECOND).await, Err(AskError::Stopped));
        assert_eq!(status_of(&tree, "users").state, ActorState::Stopped);
        assert_eq!(tree.status().state, ActorState::Stopped);
    });
}

#[test]
fn a_shutdown_under_load_answers_what_was_accepted() {
    in_virtual_time(async {
        let limits = MailboxLimits { in_flight: 4, ..MailboxLimits::default() };
        let spec = probe("users").mailbox(limits);
        let (users, tree) = (spec.address(), tree_of(spec));
        let load = actix_rt::spawn({
            let users = users.clone();
            async move { join_all((0..100).map(|_| users.ask(Work(ms(10)), 10 * SECOND))).await }
        });
        eventually("load", || status_of(&tree, "users").mailbox.depth() > 50).await;
        let (drained, refused) = join(tree.shutdown(10 * SECOND), async {
            tokio::time::sleep(ms(20)).await;
            users.ask(Count, SECOND).await
        })
        .await;
        assert!(drained);
        assert_eq!(refused, Err(AskError::Stopped));
        assert!(load.await.unwrap().iter().all(Result::is_ok));
        assert_eq!(status_of(&tree, "users").mailbox.handled, 100);
    });
}

#[test]
fn actors_stop_in_the_reverse_of_their_start_order() {
    in_virtual_time(async {
        let journal = Journal::default();
        let orders = journaled("orders", &journal)
            .part(journaled("orders.writer", &journal))
            .follower(journaled("orders.relay", &journal));
        let tree = SupervisionTree::builder("shop")
            .on_callers_runtime()
            .domain(journaled("users", &journal))
            .domain(orders)
            .start()
            .unwrap();
        running(&tree, "orders.relay").await;
        assert!(tree.shutdown(SECOND).await);
        let entries = entries(&journal);
        let started: Vec<&str> = entries.iter().filter_map(|entry| entry.strip_prefix("started ")).collect();
        let stopped: Vec<&str> = entries.iter().filter_map(|entry| entry.strip_prefix("stopped ")).collect();
        assert_eq!(started, ["users", "orders.writer", "orders", "orders.relay"]);
        assert_eq!(stopped, ["orders.relay", "orders", "orders.writer", "users"]);
    });
}

#[test]
fn a_stuck_actor_fails_the_shutdown_at_its_deadline_and_is_cut_off() {
    in_virtual_time(async {
        let spec = probe("users");
        let (users, tree) = (spec.address(), tree_of(spec));
        let stuck = actix_rt::spawn(async move { users.ask(Work(1000 * SECOND), 2000 * SECOND).await });
        tokio::time::sleep(ms(1)).await;
        let begin = tokio::time::Instant::now();
        assert!(!tree.shutdown(5 * SECOND).await);
        assert_eq!(begin.elapsed().as_secs(), 5);
        assert_eq!(stuck.await.unwrap(), Err(AskError::Interrupted));
    });
}

#[test]
fn an_actor_that_is_down_comes_back_to_finish_its_queue() {
    in_virtual_time(async {
        let script = Arc::new(Script::default());
        script.failing_factory.store(5, Ordering::SeqCst);
        let spec = scripted("users", &script);
        let (users, tree) = (spec.address(), tree_of(spec));
        let (answer, drained) = join(users.ask(Count, 10 * SECOND), async {
            tokio::time::sleep(ms(1)).await;
            tree.shutdown(10 * SECOND).await
        })
        .await;
        assert_eq!((answer, drained), (Ok(1), true));
    });
}

#[test]
fn a_second_shutdown_finds_nothing_to_do() {
    in_virtual_time(async {
        let tree = tree_of(probe("users"));
        assert!(tree.shutdown(SECOND).await);
        assert!(tree.shutdown(SECOND).await);
    });
}

#[test]
fn a_shutdown_after_an_escalation_drains_the_rest() {
    in_virtual_time(async {
        let (users, orders) = (probe("users"), probe("orders"));
        let (broken, healthy) = (users.address(), orders.address());
        let settings = SupervisionSettings { intensity: 0, ..plain_settings() };
        let tree = SupervisionTree::builder("shop")
            .settings(settings)
            .on_callers_runtime()
            .domain(users)
            .domain(orders)
            .start()
            .unwrap();
        let _ = broken.ask(PanicNow, SECOND).await;
        tree.escalated().await;
        let (answer, drained) = join(healthy.ask(Work(ms(100)), SECOND), async {
            tokio::time::sleep(ms(1)).await;
            tree.shutdown(SECOND).await
        })
        .await;
        assert_eq!((answer, drained), (Ok(1), true));
        assert_eq!(status_of(&tree, "users").state, ActorState::Escalated);
    });
}

#[test]
fn dropping_the_tree_stops_its_actors() {
    in_virtual_time(async {
        let spec = probe("users");
        let (users, tree) = (spec.address(), tree_of(spec));
        users.ask(Count, SECOND).await.unwrap();
        drop(tree);
        assert_eq!(users.ask(Count, SECOND).await, Err(AskError::Stopped));
    });
}
