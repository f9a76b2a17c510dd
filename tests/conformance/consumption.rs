//! Progress of consumer groups, over the store of the users.

use souk::domain::events::Topic;
use souk::store::consumption::{Causes, Consumed, Consumption, OffsetMove, ParkedEvent, StoredOffset};
use souk::store::users::UserStore;

use crate::harness::{TRACEPARENT, Under, at, event, record, step, traced_step};

type Users = Under<dyn UserStore>;

conformance!(users:
    offsets_move_only_from_where_they_are,
    of_simultaneous_moves_one_wins,
    groups_and_partitions_move_apart,
    a_lost_move_writes_nothing,
    parked_events_come_back_as_they_were,
    a_parked_event_is_settled_once,
    dead_letters_are_pending_with_the_move,
    what_is_emitted_follows_the_cause_of_its_aggregate,
);

fn parked(offset: i64, attempts: u32) -> ParkedEvent {
    ParkedEvent {
        record: record(0, offset),
        attempts,
        next_attempt_at: at(1_000 + offset),
        last_error: format!("error {attempts}"),
    }
}

async fn offsets_move_only_from_where_they_are(users: Users) {
    assert_eq!(users.offset("g").await, None);
    assert_eq!(users.progress.consume(step("g", 3, 4)).await.unwrap(), Consumed::Lost);
    assert_eq!(users.progress.consume(step("g", 0, 5)).await.unwrap(), Consumed::Done(()));
    for from in [0, 4, 6] {
        assert_eq!(users.progress.consume(step("g", from, 9)).await.unwrap(), Consumed::Lost, "{from}");
    }
    assert_eq!(users.offset("g").await, Some(5));
    assert_eq!(users.progress.consume(step("g", 5, 5)).await.unwrap(), Consumed::Done(()));
    // Back to the start, and on from there.
    assert_eq!(users.progress.consume(step("g", 5, 0)).await.unwrap(), Consumed::Done(()));
    assert_eq!(users.progress.consume(step("g", 0, 2)).await.unwrap(), Consumed::Done(()));
    assert_eq!(users.offset("g").await, Some(2));
}

async fn of_simultaneous_moves_one_wins(users: Users) {
    let calls = (1..=20).map(|to| {
        let progress = users.progress.clone();
        tokio::spawn(async move { progress.consume(step("g", 0, to)).await.unwrap() == Consumed::Done(()) })
    });
    let mut done = 0;
    for call in calls.collect::<Vec<_>>() {
        done += usize::from(call.await.unwrap());
    }
    assert_eq!(done, 1);
}

async fn groups_and_partitions_move_apart(users: Users) {
    let moved = |partition, to| OffsetMove { topic: Topic::InventoryEvents, partition, from: 0, to };
    let both = Consumption { group: "g".into(), moves: vec![moved(0, 3), moved(1, 4)], ..Consumption::default() };
    users.progress.consume(both).await.unwrap();
    users.progress.consume(step("h", 0, 7)).await.unwrap();
    let stored = |partition, next_offset| StoredOffset { topic: Topic::InventoryEvents, partition, next_offset };
    assert_eq!(users.progress.offsets("g").await.unwrap(), [stored(0, 3), stored(1, 4)]);
    assert_eq!(users.offset("h").await, Some(7));
    assert_eq!(users.progress.offsets("nobody").await.unwrap(), []);
}

async fn a_lost_move_writes_nothing(users: Users) {
    users.progress.consume(step("g", 0, 5)).await.unwrap();
    let lost = Consumption {
        group: "g".into(),
        moves: vec![
            OffsetMove { topic: Topic::OrderEvents, partition: 1, from: 0, to: 8 },
            OffsetMove { topic: Topic::OrderEvents, partition: 0, from: 4, to: 9 },
        ],
        park: vec![parked(4, 1)],
        unpark: Vec::new(),
        dead_letters: vec![event("letter", 1, at(1))],
        causes: Causes::default(),
    };
    assert_eq!(users.progress.consume(lost).await.unwrap(), Consumed::Lost);
    assert_eq!(users.offset("g").await, Some(5));
    assert_eq!(users.progress.parked("g").await.unwrap(), []);
    assert_eq!(users.pending().await, []);
}

async fn parked_events_come_back_as_they_were(users: Users) {
    let mut park = step("g", 0, 12);
    park.park = vec![parked(10, 1), parked(9, 1), parked(11, 0)];
    users.progress.consume(park).await.unwrap();
    assert_eq!(users.progress.parked("g").await.unwrap(), [parked(9, 1), parked(10, 1), parked(11, 0)]);
    assert_eq!(users.progress.parked("h").await.unwrap(), []);
    let again = Consumption { group: "g".into(), park: vec![parked(9, 2)], ..Consumption::default() };
    users.progress.consume(again).await.unwrap();
    assert_eq!(users.progress.parked("g").await.unwrap(), [parked(9, 2), parked(10, 1), parked(11, 0)]);
}

async fn a_parked_event_is_settled_once(users: Users) {
    let mut park = step("g", 0, 12);
    park.park = vec![parked(10, 1), parked(11, 1)];
    users.progress.consume(park).await.unwrap();
    let mut settle = Consumption {
        group: "g".into(),
        unpark: vec![("order-events".into(), 0, 10)],
        dead_letters: vec![event("letter", 1, at(1))],
        ..Consumption::default()
    };
    assert_eq!(users.progress.consume(settle.clone()).await.unwrap(), Consumed::Done(()));
    assert_eq!(users.progress.parked("g").await.unwrap(), [parked(11, 1)]);
    settle.unpark.insert(0, ("order-events".into(), 0, 11));
    settle.dead_letters = vec![event("letter", 2, at(1))];
    assert_eq!(users.progress.consume(settle).await.unwrap(), Consumed::Lost);
    assert_eq!(users.progress.parked("g").await.unwrap(), [parked(11, 1)]);
    assert_eq!(users.pending().await.len(), 1);
}

async fn what_is_emitted_follows_the_cause_of_its_aggregate(users: Users) {
    let mut consumption = traced_step("g", 0, 1, "traced");
    consumption.dead_letters = vec![event("traced", 1, at(1)), event("untraced", 1, at(1))];
    users.progress.consume(consumption).await.unwrap();
    let pending = users.pending().await;
    let of = |aggregate: &str| pending.iter().find(|event| event.aggregate == aggregate).unwrap().traceparent();
    assert_eq!((of("traced"), of("untraced")), (Some(TRACEPARENT), None));
}

async fn dead_letters_are_pending_with_the_move(users: Users) {
    let mut consumption = step("g", 0, 1);
    consumption.dead_letters = vec![event("letter", 1, at(1))];
    users.progress.consume(consumption).await.unwrap();
    assert_eq!(users.pending().await, [event("letter", 1, at(1))]);
    // A letter that cannot be saved keeps the offset where it is.
    let mut again = step("g", 1, 2);
    again.dead_letters = vec![event("letter", 1, at(1))];
    assert!(users.progress.consume(again).await.is_err());
    assert_eq!(users.offset("g").await, Some(1));
}
