//! Panics and failed starts of one actor.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::future::{join, join3};

use super::*;
use crate::actors::AskError;

#[test]
fn panics_unwind_in_this_build() {
    const { assert!(cfg!(panic = "unwind"), "supervision needs panic = \"unwind\" in every profile") };
}

#[test]
fn a_panic_in_a_sync_handler_interrupts_its_asker_and_the_actor_comes_back_fresh() {
    in_virtual_time(async {
        let spec = probe("users");
        let (users, tree) = (spec.address(), tree_of(spec));
        assert_eq!(users.ask(Count, SECOND).await, Ok(1));
        assert_eq!(users.ask(PanicNow, SECOND).await, Err(AskError::Interrupted));
        assert_eq!(users.ask(Count, SECOND).await, Ok(1));
        assert_eq!(status_of(&tree, "users").restarts, 1);
    });
}

#[test]
fn a_panic_in_an_async_handler_interrupts_all_that_was_in_flight_inside_the_actor() {
    in_virtual_time(async {
        let spec = probe("users");
        let (users, _tree) = (spec.address(), tree_of(spec));
        let (broken, neighbour) = join(users.ask(PanicInActorFuture, SECOND), users.ask(Work(ms(500)), SECOND)).await;
        assert_eq!((broken, neighbour), (Err(AskError::Interrupted), Err(AskError::Interrupted)));
        assert_eq!(users.ask(Count, SECOND).await, Ok(1));
    });
}

#[test]
fn an_atomic_response_is_finished_before_a_timer_can_panic() {
    in_virtual_time(async {
        let spec = probe("users");
        let (users, tree) = (spec.address(), tree_of(spec));
        users.ask(PanicInTimer, SECOND).await.unwrap();
        assert_eq!(users.ask(WorkAlone(ms(50)), SECOND).await, Ok(1));
        assert_eq!(users.ask(Count, SECOND).await, Ok(1));
        assert_eq!(status_of(&tree, "users").restarts, 1);
    });
}

#[test]
fn a_panic_in_a_timer_restarts_the_actor() {
    in_virtual_time(async {
        let spec = probe("users");
        let (users, tree) = (spec.address(), tree_of(spec));
        users.ask(PanicInTimer, SECOND).await.unwrap();
        eventually("restart", || status_of(&tree, "users").restarts == 1).await;
        assert_eq!(users.ask(Count, SECOND).await, Ok(1));
    });
}

#[test]
fn a_panic_in_a_spawned_future_restarts_the_actor() {
    in_virtual_time(async {
        let spec = probe("users");
        let (users, tree) = (spec.address(), tree_of(spec));
        users.ask(PanicInSpawnedFuture, SECOND).await.unwrap();
        eventually("restart", || status_of(&tree, "users").restarts == 1).await;
        assert_eq!(users.ask(Count, SECOND).await, Ok(1));
    });
}

#[test]
fn a_panic_in_started_counts_as_a_restart_and_the_actor_comes_back() {
    in_virtual_time(async {
        let script = Arc::new(Script::default());
        script.panicking_started.store(1, Ordering::SeqCst);
        let spec = scripted("users", &script);
        let (users, tree) = (spec.address(), tree_of(spec));
        assert_eq!(users.ask(Count, SECOND).await, Ok(1));
        assert_eq!(status_of(&tree, "users").restarts, 1);
    });
}

#[test]
fn a_panic_in_restarting_counts_as_a_restart_and_the_actor_comes_back() {
    in_virtual_time(async {
        let script = Arc::new(Script::default());
        script.panicking_restarting.store(1, Ordering::SeqCst);
        let spec = scripted("users", &script);
        let (users, tree) = (spec.address(), tree_of(spec));
        let _ = users.ask(PanicNow, SECOND).await;
        assert_eq!(users.ask(Count, SECOND).await, Ok(1));
        assert_eq!(status_of(&tree, "users").restarts, 2);
        assert!(status_of(&tree, "users").last_panic.unwrap().starts_with("no restart today ("));
    });
}

#[test]
fn a_panic_in_the_factory_counts_as_a_restart_and_the_actor_comes_back() {
    in_virtual_time(async {
        let script = Arc::new(Script::default());
        script.panicking_factory.store(2, Ordering::SeqCst);
        let spec = scripted("users", &script);
        let (users, tree) = (spec.address(), tree_of(spec));
        assert_eq!(users.ask(Count, SECOND).await, Ok(1));
        assert_eq!(status_of(&tree, "users").restarts, 2);
    });
}

#[test]
fn a_child_that_fails_to_start_backs_off_and_then_comes() {
    in_virtual_time(async {
        let script = Arc::new(Script::default());
        script.failing_factory.store(4, Ordering::SeqCst);
        let spec = scripted("users", &script);
        let begin = tokio::time::Instant::now();
        let (users, tree) = (spec.address(), tree_of(spec));
        assert_eq!(users.ask(Count, SECOND).await, Ok(1));
        assert_eq!(begin.elapsed().as_millis() / 10, 35, "0 + 50 + 100 + 200 ms");
        let status = status_of(&tree, "users");
        assert_eq!(status.restarts, 4);
        assert_eq!(status.last_panic.as_deref(), Some("failed to start: the ports are away"));
    });
}

#[test]
fn messages_queued_behind_a_panic_are_answered_after_the_restart_by_fresh_state() {
    in_virtual_time(async {
        let spec = probe("users");
        let (users, _tree) = (spec.address(), tree_of(spec));
        let (broken, first, second) =
            join3(users.ask(PanicNow, SECOND), users.ask(Count, SECOND), users.ask(Count, SECOND)).await;
        assert_eq!((broken, first, second), (Err(AskError::Interrupted), Ok(1), Ok(2)));
    });
}

#[test]
fn a_panic_in_a_detached_future_interrupts_its_asker_only() {
    in_virtual_time(async {
        let spec = probe("users");
        let (users, tree) = (spec.address(), tree_of(spec));
        assert_eq!(users.ask(Count, SECOND).await, Ok(1));
        assert_eq!(users.ask(PanicInDetachedFuture, SECOND).await, Err(AskError::Interrupted));
        assert_eq!(users.ask(Count, SECOND).await, Ok(2));
        let status = status_of(&tree, "users");
        assert_eq!((status.restarts, status.state), (0, ActorState::Running));
        assert!(status.last_panic.unwrap().starts_with("detached future is broken ("));
    });
}

#[test]
fn a_detached_future_outlives_a_restart_of_its_actor_and_answers() {
    in_virtual_time(async {
        let spec = probe("users");
        let (users, _tree) = (spec.address(), tree_of(spec));
        let (answer, _) = join(users.ask(WorkDetached(ms(100)), SECOND), users.ask(PanicNow, SECOND)).await;
        assert_eq!(answer, Ok(1));
    });
}

#[test]
fn last_panic_says_what_and_where() {
    in_virtual_time(async {
        let spec = probe("users");
        let (users, tree) = (spec.address(), tree_of(spec));
        let _ = users.ask(PanicNow, SECOND).await;
        let said = status_of(&tree, "users").last_panic.unwrap();
        assert!(said.starts_with("sync handler is broken (src/actors/supervisor/tests/probe.rs:"), "{said}");
    });
}

#[test]
fn an_actor_is_back_within_a_second_of_a_single_panic() {
    in_virtual_time(async {
        let spec = probe("users");
        let (users, tree) = (spec.address(), tree_of(spec));
        let _ = users.ask(PanicNow, SECOND).await;
        running(&tree, "users").await;
        assert_eq!(users.ask(Count, ms(5)).await, Ok(1));
    });
}

#[test]
fn restarts_of_a_struggling_actor_come_later_and_later_and_soon_again_after_a_quiet_minute() {
    in_virtual_time(async {
        let spec = probe("users");
        let (users, _tree) = (spec.address(), tree_of(spec));
        let mut pauses = Vec::new();
        for quiet in [0, 0, 0, 0, 61] {
            tokio::time::sleep(Duration::from_secs(quiet)).await;
            let _ = users.ask(PanicNow, 10 * SECOND).await;
            let begin = tokio::time::Instant::now();
            users.ask(Count, 10 * SECOND).await.unwrap();
            pauses.push(begin.elapsed().as_millis() / 10 * 10);
        }
        assert_eq!(pauses, [0, 50, 100, 200, 0]);
    });
}

#[test]
fn every_field_and_future_of_a_failed_value_is_dropped_without_its_stopped_hook() {
    in_virtual_time(async {
        let (script, journal) = (Arc::new(Script::default()), Journal::default());
        let spec = probe_at(crate::actors::Address::reserve("users"), &script, &journal);
        let (users, _tree) = (spec.address(), tree_of(spec));
        let _ = users.ask(PanicNow, SECOND).await;
        users.ask(Count, SECOND).await.unwrap();
        assert_eq!((script.built.load(Ordering::SeqCst), script.dropped.load(Ordering::SeqCst)), (2, 1));
        assert_eq!(entries(&journal), ["started users", "restarting users", "started users"]);
    });
}

#[test]
fn a_transient_actor_is_restarted_after_a_panic_but_not_when_it_stops_itself() {
    in_virtual_time(async {
        let spec = probe("users").policy(RestartPolicy::Transient);
        let (users, tree) = (spec.address(), tree_of(spec));
        let _ = users.ask(PanicNow, SECOND).await;
        assert_eq!(users.ask(Count, SECOND).await, Ok(1));
        users.ask(StopYourself, SECOND).await.unwrap();
        eventually("stopped", || status_of(&tree, "users").state == ActorState::Stopped).await;
        assert_eq!(users.ask(Count, SECOND).await, Err(AskError::Stopped));
    });
}

#[test]
fn a_temporary_actor_is_not_restarted_after_a_panic_and_its_queue_is_refused() {
    in_virtual_time(async {
        let spec = probe("users").policy(RestartPolicy::Temporary);
        let (users, tree) = (spec.address(), tree_of(spec));
        let (broken, queued) = join(users.ask(PanicNow, SECOND), users.ask(Count, SECOND)).await;
        assert_eq!((broken, queued), (Err(AskError::Interrupted), Err(AskError::Stopped)));
        let status = status_of(&tree, "users");
        assert_eq!((status.state, status.restarts), (ActorState::Stopped, 0));
    });
}

#[test]
fn a_permanent_actor_that_stops_itself_is_restarted() {
    in_virtual_time(async {
        let spec = probe("users");
        let (users, tree) = (spec.address(), tree_of(spec));
        users.ask(Count, SECOND).await.unwrap();
        users.ask(StopYourself, SECOND).await.unwrap();
        assert_eq!(users.ask(Count, SECOND).await, Ok(1));
        assert_eq!(status_of(&tree, "users").restarts, 1);
    });
}
