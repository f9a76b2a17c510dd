//! Pending events, over the store of the users.

use souk::domain::page::PageRequest;
use souk::domain::users::PreferencesEdit;
use souk::store::outbox::Backlog;
use souk::store::users::UserStore;

use crate::harness::{END, Under, at, event, soon, step, user};

type Users = Under<dyn UserStore>;

conformance!(users:
    what_is_committed_is_handed_over_in_commit_order,
    the_newest_receiver_gets_what_is_committed_and_an_earlier_one_ends,
    clear_forgets_exactly_what_it_names,
    pending_keeps_the_sequence_of_each_aggregate,
    pending_leaves_out_what_is_younger,
    what_is_pending_of_an_aggregate_is_all_of_it_and_of_no_other,
    of_events_of_one_commit_some_are_forgotten_and_the_others_wait,
    the_backlog_is_counted_with_its_oldest_event,
    an_event_keeps_its_key_and_headers,
    after_an_overflow_a_sweep_is_asked_for_and_nothing_is_lost,
);

async fn what_is_committed_is_handed_over_in_commit_order(users: Users) {
    let mut committed = users.outbox.committed();
    let mut expected = Vec::new();
    for n in 0..5 {
        let new = user(&format!("u{n}@example.com"), "User");
        expected.push(new.event.id());
        users.port.insert_user(new.clone()).await.unwrap();
        let edit = PreferencesEdit { promotions: Some(true), ..PreferencesEdit::default() };
        users.port.edit_preferences(new.user.id, edit, at(2)).await.unwrap();
        expected.push(format!("{}-2", new.user.id));
    }
    let mut handed = Vec::new();
    while handed.len() < expected.len() {
        let events = soon("a commit", committed.recv()).await.unwrap();
        handed.extend(events.iter().map(|event| event.id()));
    }
    assert_eq!(handed, expected);
}

async fn the_newest_receiver_gets_what_is_committed_and_an_earlier_one_ends(users: Users) {
    let mut first = users.outbox.committed();
    let mut second = users.outbox.committed();
    let new = user("ada@example.com", "Ada");
    users.port.insert_user(new.clone()).await.unwrap();
    assert_eq!(soon("a commit", second.recv()).await.unwrap(), [new.event]);
    assert_eq!(soon("the end", first.recv()).await, None);
}

async fn clear_forgets_exactly_what_it_names(users: Users) {
    let mut ids = Vec::new();
    for n in 0..4 {
        let new = user(&format!("u{n}@example.com"), "User");
        ids.push((new.event.aggregate.clone(), new.event.sequence));
        users.port.insert_user(new).await.unwrap();
    }
    let cleared = vec![ids[0].clone(), ids[2].clone(), ("unknown".into(), 1), (ids[1].0.clone(), 9)];
    users.outbox.clear(cleared).await.unwrap();
    let left: Vec<_> = users.pending().await.into_iter().map(|event| (event.aggregate, event.sequence)).collect();
    assert_eq!(left, [ids[1].clone(), ids[3].clone()]);
    users.outbox.clear(left).await.unwrap();
    assert_eq!(users.pending().await, []);
    assert_eq!(users.port.list_users(None, &PageRequest::first(9)).await.unwrap().total, 4);
}

async fn pending_keeps_the_sequence_of_each_aggregate(users: Users) {
    let mut consumption = step("g", 0, 1);
    consumption.dead_letters = [("a", 2), ("b", 1), ("a", 10), ("b", 2), ("a", 1)]
        .map(|(aggregate, sequence)| event(aggregate, sequence, at(1)))
        .into();
    users.progress.consume(consumption).await.unwrap();
    let pending = users.outbox.pending(END, 4).await.unwrap();
    assert_eq!(pending.len(), 4);
    for aggregate in ["a", "b"] {
        let sequences: Vec<i64> =
            pending.iter().filter(|event| event.aggregate == aggregate).map(|event| event.sequence).collect();
        assert_eq!(sequences, [1, 2, 10][..sequences.len()]);
    }
}

async fn pending_leaves_out_what_is_younger(users: Users) {
    let mut consumption = step("g", 0, 1);
    consumption.dead_letters = vec![event("a", 1, at(10)), event("b", 1, at(20))];
    users.progress.consume(consumption).await.unwrap();
    let pending = users.outbox.pending(at(20), 10).await.unwrap();
    assert_eq!(pending.iter().map(|event| event.id()).collect::<Vec<_>>(), ["a-1"]);
}

async fn what_is_pending_of_an_aggregate_is_all_of_it_and_of_no_other(users: Users) {
    for (offset, letters) in
        [vec![("a.b", 2), ("a.b-1", 1), ("axb", 1)], vec![("a.b", 1), ("b", 7)]].into_iter().enumerate()
    {
        let mut consumption = step("g", offset as i64, offset as i64 + 1);
        consumption.dead_letters = letters.into_iter().map(|(name, number)| event(name, number, at(1))).collect();
        users.progress.consume(consumption).await.unwrap();
    }
    let pending = users.outbox.pending_of(&["b".into(), "a.b".into(), "nobody".into()]).await.unwrap();
    let mut ids: Vec<String> = pending.iter().map(|event| event.id()).collect();
    // Only within an aggregate there is an order.
    ids.sort_by_key(|id| id.starts_with('b'));
    assert_eq!(ids, ["a.b-1", "a.b-2", "b-7"]);
    assert_eq!(users.outbox.pending_of(&[]).await.unwrap(), []);
}

async fn of_events_of_one_commit_some_are_forgotten_and_the_others_wait(users: Users) {
    let letters: Vec<_> = (1..=5).map(|number| event("a", number, at(number))).collect();
    let mut consumption = step("g", 0, 1);
    consumption.dead_letters = letters.clone();
    users.progress.consume(consumption).await.unwrap();
    let forget = async |numbers: &[i64]| {
        let published = numbers.iter().map(|number| ("a".to_owned(), *number)).collect();
        users.outbox.clear(published).await.unwrap();
    };
    forget(&[1, 4]).await;
    let left = [&letters[1], &letters[2], &letters[4]].map(Clone::clone);
    assert_eq!(users.pending().await, left);
    assert_eq!(users.outbox.backlog().await.unwrap(), Backlog { events: 3, oldest: Some(at(2)) });
    tokio::join!(forget(&[2]), forget(&[5]), forget(&[3]));
    assert_eq!(users.outbox.backlog().await.unwrap(), Backlog::default());
}

async fn the_backlog_is_counted_with_its_oldest_event(users: Users) {
    assert_eq!(users.outbox.backlog().await.unwrap(), Backlog::default());
    let mut consumption = step("g", 0, 1);
    consumption.dead_letters = vec![event("a", 1, at(20)), event("b", 1, at(10))];
    users.progress.consume(consumption).await.unwrap();
    assert_eq!(users.outbox.backlog().await.unwrap(), Backlog { events: 2, oldest: Some(at(10)) });
    users.outbox.clear(vec![("b".into(), 1)]).await.unwrap();
    assert_eq!(users.outbox.backlog().await.unwrap(), Backlog { events: 1, oldest: Some(at(20)) });
}

async fn an_event_keeps_its_key_and_headers(users: Users) {
    let mut letter = event("a", 1, at(10));
    letter.key = "another key".into();
    letter.headers = vec![("traceparent".into(), "00-é\"\\".into()), ("x".into(), String::new())];
    let mut consumption = step("g", 0, 1);
    consumption.dead_letters = vec![letter.clone()];
    users.progress.consume(consumption).await.unwrap();
    assert_eq!(users.pending().await, [letter]);
}

async fn after_an_overflow_a_sweep_is_asked_for_and_nothing_is_lost(users: Users) {
    let mut committed = users.outbox.committed();
    let mut sweep = users.outbox.foreign_writes();
    const COMMITS: i64 = 1_100;
    for offset in 0..COMMITS {
        let mut consumption = step("g", offset, offset + 1);
        consumption.dead_letters = vec![event("a", offset + 1, at(1))];
        users.progress.consume(consumption).await.unwrap();
    }
    let mut handed = Vec::new();
    while let Ok(events) = committed.try_recv() {
        handed.extend(events.into_iter().map(|event| event.sequence));
    }
    assert!((handed.len() as i64) < COMMITS, "the channel is bounded");
    assert_eq!(handed, (1..=handed.len() as i64).collect::<Vec<_>>(), "what came, came in order");
    soon("a sweep", sweep.changed()).await.unwrap();
    assert_eq!(users.pending().await.len() as i64, COMMITS);
}
