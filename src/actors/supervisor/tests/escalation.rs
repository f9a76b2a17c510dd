//! Intensity windows and the way up to the root.

use futures_util::FutureExt;

use super::*;
use crate::actors::{Address, AskError};

async fn panic_and_come_back(address: &Address<Probe>) {
    let _ = address.ask(PanicNow, 20 * SECOND).await;
    address.ask(Count, 20 * SECOND).await.unwrap();
}

#[test]
fn ten_panics_in_a_minute_survive_and_the_eleventh_escalates() {
    in_virtual_time(async {
        let spec = probe("users");
        let (users, tree) = (spec.address(), tree_of(spec));
        for panics in 1..=10 {
            panic_and_come_back(&users).await;
            assert_eq!(status_of(&tree, "users").restarts, panics);
        }
        assert!(tree.escalated().now_or_never().is_none());
        let _ = users.ask(PanicNow, SECOND).await;
        let escalation = tree.escalated().await;
        assert_eq!(escalation.who, "users");
        assert!(escalation.why.starts_with("more than 10 failures of users within 60 s, the last: sync handler"));
        assert_eq!(status_of(&tree, "users").state, ActorState::Escalated);
        assert_eq!(status_of(&tree, "users").restarts, 10);
        assert_eq!(tree.status().state, ActorState::Escalated);
        assert_eq!(users.ask(Count, SECOND).await, Err(AskError::Stopped));
    });
}

#[test]
fn restarts_older_than_the_window_are_forgotten() {
    in_virtual_time(async {
        let spec = probe("users");
        let (users, tree) = (spec.address(), tree_of(spec));
        for _ in 0..40 {
            panic_and_come_back(&users).await;
            tokio::time::sleep(7 * SECOND).await;
        }
        assert_eq!(status_of(&tree, "users").restarts, 40);
        assert!(tree.escalated().now_or_never().is_none());
    });
}

#[test]
fn the_first_escalation_counts_and_is_told_to_everyone_who_waits() {
    in_virtual_time(async {
        let (users, orders) = (probe("users"), probe("orders"));
        let (first, second) = (users.address(), orders.address());
        let settings = SupervisionSettings { intensity: 0, ..plain_settings() };
        let tree = SupervisionTree::builder("shop")
            .settings(settings)
            .on_callers_runtime()
            .domain(users)
            .domain(orders)
            .start()
            .unwrap();
        let _ = first.ask(PanicNow, SECOND).await;
        let _ = second.ask(PanicNow, SECOND).await;
        eventually("both", || status_of(&tree, "orders").state == ActorState::Escalated).await;
        assert_eq!(tree.escalated().await.who, "users");
        assert_eq!(tree.escalated().await.who, "users");
    });
}

#[test]
fn parts_count_in_the_window_of_the_supervisor_they_belong_to() {
    in_virtual_time(async {
        let writer = probe("orders.writer");
        let writer_address = writer.address();
        let orders = probe("orders").part(writer);
        let (orders_address, tree) = (orders.address(), tree_of(orders));
        for _ in 0..5 {
            panic_and_come_back(&writer_address).await;
            panic_and_come_back(&orders_address).await;
        }
        let _ = writer_address.ask(PanicNow, SECOND).await;
        assert_eq!(tree.escalated().await.who, "orders");
        assert_eq!(status_of(&tree, "orders.writer").state, ActorState::Escalated);
    });
}

#[test]
fn a_supervisor_below_the_domain_that_gives_up_is_one_failure_of_its_parent() {
    in_virtual_time(async {
        let leaf = probe("orders.writer.disk");
        let leaf_address = leaf.address();
        let settings = SupervisionSettings { intensity: 1, ..plain_settings() };
        let orders = probe("orders").part(probe("orders.writer").part(leaf));
        let tree =
            SupervisionTree::builder("shop").settings(settings).on_callers_runtime().domain(orders).start().unwrap();
        panic_and_come_back(&leaf_address).await;
        assert_eq!(status_of(&tree, "orders.writer").restarts, 0);
        panic_and_come_back(&leaf_address).await;
        eventually("whole child rebuilt", || status_of(&tree, "orders.writer").restarts == 1).await;
        assert_eq!(status_of(&tree, "orders").restarts, 0);
        panic_and_come_back(&leaf_address).await;
        assert!(tree.escalated().now_or_never().is_none(), "the child's window starts empty again");
        let _ = leaf_address.ask(PanicNow, SECOND).await;
        assert_eq!(tree.escalated().await.who, "orders");
    });
}

#[test]
fn a_start_that_never_succeeds_escalates() {
    in_virtual_time(async {
        let script = std::sync::Arc::new(Script::default());
        script.failing_factory.store(u32::MAX, std::sync::atomic::Ordering::SeqCst);
        let tree = tree_of(scripted("users", &script));
        assert!(tree.escalated().await.why.ends_with("failed to start: the ports are away"));
        assert_eq!(status_of(&tree, "users").restarts, 10);
    });
}
