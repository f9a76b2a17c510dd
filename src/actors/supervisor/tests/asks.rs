//! Lanes, limits, deadlines, and what the tree tells.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::future::{join_all, join3};

use super::*;
use crate::actors::{Address, AskError};

fn tight(standard: usize, critical: usize, burst: usize, in_flight: usize) -> MailboxLimits {
    MailboxLimits { standard, critical, burst, in_flight }
}

#[test]
fn a_full_lane_is_busy_and_the_other_lane_stays_open() {
    in_virtual_time(async {
        let spec = probe("users").mailbox(tight(2, 2, 4, 1));
        let (users, _tree) = (spec.address(), tree_of(spec));
        let asks = join_all((0..4).map(|_| users.ask(Count, SECOND)));
        let (answers, critical, _) = join3(asks, users.ask_critical(Count, SECOND), async {}).await;
        assert_eq!(answers.iter().filter(|answer| **answer == Err(AskError::Busy)).count(), 2);
        assert!(critical.is_ok());
    });
}

#[test]
fn critical_messages_go_before_standard_ones_with_a_standard_one_after_each_burst() {
    in_virtual_time(async {
        let journal = Journal::default();
        let spec = journaled("users", &journal).mailbox(tight(10, 10, 2, 1));
        let (users, _tree) = (spec.address(), tree_of(spec));
        let standard = join_all((0..2).map(|_| users.ask(Note("standard"), SECOND)));
        let critical = join_all((0..5).map(|_| users.ask_critical(Note("critical"), SECOND)));
        futures_util::future::join(standard, critical).await;
        let order: String =
            entries(&journal)[1..].iter().map(|entry| if entry.starts_with('c') { 'c' } else { 's' }).collect();
        assert_eq!(order, "ccsccsc");
    });
}

#[test]
fn an_ask_past_its_deadline_is_a_timeout_and_the_actor_lives_on() {
    in_virtual_time(async {
        let spec = probe("users");
        let (users, tree) = (spec.address(), tree_of(spec));
        assert_eq!(users.ask(Work(10 * SECOND), ms(20)).await, Err(AskError::Timeout));
        assert_eq!(users.ask(Count, SECOND).await, Ok(1));
        assert_eq!(status_of(&tree, "users").restarts, 0);
    });
}

#[test]
fn a_message_whose_asker_gave_up_before_its_start_is_not_started() {
    in_virtual_time(async {
        let spec = probe("users");
        let (users, _tree) = (spec.address(), tree_of(spec));
        let (alone, late, last) =
            join3(users.ask(WorkAlone(ms(500)), SECOND), users.ask(Count, ms(100)), users.ask(Count, SECOND)).await;
        assert_eq!((alone, late, last), (Ok(1), Err(AskError::Timeout), Ok(2)));
    });
}

#[test]
fn async_handlers_run_side_by_side_up_to_the_limit() {
    in_virtual_time(async {
        let spec = probe("users").mailbox(tight(100, 100, 4, 3));
        let (users, _tree) = (spec.address(), tree_of(spec));
        let begin = tokio::time::Instant::now();
        let answers = join_all((0..6).map(|_| users.ask(WorkDetached(ms(100)), SECOND))).await;
        assert!(answers.iter().all(Result::is_ok));
        assert_eq!(begin.elapsed().as_millis() / 10, 20, "six of 100 ms, three at a time");
    });
}

#[test]
fn an_asker_that_gave_up_keeps_its_place_in_flight_until_the_handler_is_done() {
    in_virtual_time(async {
        let spec = probe("users").mailbox(tight(100, 100, 4, 1));
        let (users, _tree) = (spec.address(), tree_of(spec));
        assert_eq!(users.ask(WorkDetached(ms(300)), ms(10)).await, Err(AskError::Timeout));
        assert_eq!(users.ask(Count, ms(100)).await, Err(AskError::Timeout));
        assert_eq!(users.ask(Count, ms(300)).await, Ok(2));
    });
}

#[test]
fn all_response_types_of_actix_reach_their_asker() {
    in_virtual_time(async {
        let spec = probe("users");
        let (users, _tree) = (spec.address(), tree_of(spec));
        assert_eq!(users.ask(Count, SECOND).await, Ok(1));
        assert_eq!(users.ask(Work(ms(1)), SECOND).await, Ok(2));
        assert_eq!(users.ask(WorkDetached(ms(1)), SECOND).await, Ok(3));
        assert_eq!(users.ask(WorkAlone(ms(1)), SECOND).await, Ok(4));
        assert_eq!(users.ask(Name, SECOND).await.as_deref(), Ok("users"));
    });
}

#[test]
fn a_long_queue_leaves_timers_their_turn() {
    in_virtual_time(async {
        let spec = probe("users");
        let (users, tree) = (spec.address(), tree_of(spec));
        users.ask(PanicInSpawnedFuture, SECOND).await.unwrap();
        let answers = join_all((0..1000).map(|_| users.ask(Count, SECOND))).await;
        assert!(answers.iter().all(Result::is_ok));
        assert_eq!(status_of(&tree, "users").restarts, 1);
    });
}

#[test]
fn an_address_reserved_before_its_spec_reaches_the_actor() {
    in_virtual_time(async {
        let address = Address::reserve("users");
        let _tree = tree_of(probe_at(address.clone(), &Arc::default(), &Journal::default()));
        assert_eq!(address.name(), "users");
        assert_eq!(address.ask(Count, SECOND).await, Ok(1));
    });
}

#[test]
fn the_status_shows_the_whole_tree_with_depths_and_counts() {
    in_virtual_time(async {
        let script = Arc::new(Script::default());
        script.failing_factory.store(3, Ordering::SeqCst);
        let orders = probe("orders").part(scripted("orders.writer", &script));
        let (address, writer) = (orders.address(), script);
        let tree = SupervisionTree::builder("shop-1")
            .on_callers_runtime()
            .settings(plain_settings())
            .domain(orders)
            .domain(probe("users"))
            .start()
            .unwrap();
        address.ask(Count, SECOND).await.unwrap();
        let status = tree.status();
        assert_eq!((status.name.as_str(), status.state), ("shop-1", ActorState::Running));
        let names: Vec<&str> = status.children.iter().map(|child| child.name.as_str()).collect();
        assert_eq!(names, ["orders", "users"]);
        assert_eq!((status.children[0].mailbox.handled, status.children[0].mailbox.depth()), (1, 0));
        assert_eq!(status.children[0].children[0].state, ActorState::Restarting);
        running(&tree, "orders.writer").await;
        assert_eq!((writer.built.load(Ordering::SeqCst), status_of(&tree, "orders.writer").restarts), (1, 3));
    });
}

#[test]
fn the_depth_counts_messages_that_wait_for_an_actor_that_is_down() {
    in_virtual_time(async {
        let script = Arc::new(Script::default());
        script.failing_factory.store(5, Ordering::SeqCst);
        let spec = scripted("users", &script);
        let (users, tree) = (spec.address(), tree_of(spec));
        let asks = actix_rt::spawn(async move { join_all((0..3).map(|_| users.ask(Count, 10 * SECOND))).await });
        eventually("three wait", || status_of(&tree, "users").mailbox.depth() == 3).await;
        assert!(asks.await.unwrap().iter().all(Result::is_ok));
        assert_eq!(status_of(&tree, "users").mailbox.depth(), 0);
    });
}

#[test]
fn changes_fire_on_a_panic_and_not_on_messages() {
    in_virtual_time(async {
        let spec = probe("users");
        let (users, tree) = (spec.address(), tree_of(spec));
        running(&tree, "users").await;
        let mut changes = tree.changes();
        changes.borrow_and_update();
        users.ask(Count, SECOND).await.unwrap();
        assert!(!changes.has_changed().unwrap());
        let _ = users.ask(PanicNow, SECOND).await;
        changes.changed().await.unwrap();
    });
}

#[test]
fn two_actors_of_one_name_are_refused() {
    in_virtual_time(async {
        let started = SupervisionTree::builder("shop")
            .on_callers_runtime()
            .domain(probe("users"))
            .domain(probe("orders").part(probe("users")))
            .start();
        assert!(matches!(started, Err(TreeError::DuplicateName(name)) if name == "users"));
    });
}
