//! The orders store.

use std::collections::{HashMap, HashSet};

use souk::domain::events::{OrderChanged, PendingEvent, event_type};
use souk::domain::ids::{OrderId, UserId};
use souk::domain::inventory::Shortage;
use souk::domain::orders::{IllegalTransition, Order, OrderFilter, OrderStatus, Verdict};
use souk::domain::page::PageRequest;
use souk::store::StoreError;
use souk::store::consumption::{Consumed, Consumption};
use souk::store::orders::{AdvanceOrder, InsertOrder, Judged, OrderAdvance, OrderStore, PendingOrders};
use souk::store::outbox::Backlog;

use crate::harness::{
    END, TRACEPARENT, Under, at, event, id, numbered_order, order, order_at, soon, step, traced_step,
};

type Orders = Under<dyn OrderStore>;

conformance!(orders:
    a_saved_order_is_found_as_it_was,
    unknown_orders_are_absent,
    an_order_is_saved_with_its_event,
    events_wait_in_sequence_and_say_what_they_said,
    no_limit_parts_an_event_of_an_order_from_the_one_before_it,
    a_known_key_is_answered_with_its_order,
    a_key_repeated_in_one_batch_is_a_replay,
    one_key_may_serve_two_customers,
    of_simultaneous_orders_with_one_key_one_is_inserted,
    a_taken_number_or_id_is_told_and_its_neighbours_are_saved,
    an_order_advances_by_the_table,
    of_simultaneous_cancellations_one_wins,
    a_foreign_order_is_answered_as_missing,
    verdicts_confirm_and_reject,
    the_event_of_a_verdict_follows_the_verdict,
    a_verdict_for_what_is_not_pending_changes_nothing,
    verdicts_and_offset_are_written_together_or_not_at_all,
    orders_that_wait_for_a_verdict_are_counted_with_the_oldest,
    lists_are_newest_first_and_stable_while_orders_come,
    every_filter_narrows_the_list,
    a_broken_cursor_is_refused,
    a_walk_over_what_was_bought_meets_each_order_once,
    changes_miss_and_repeat_nothing,
    changes_under_concurrent_writes_are_complete,
    a_foreign_change_cursor_is_told,
);

async fn insert(orders: &Orders, order: (Order, PendingEvent)) -> OrderId {
    let id = order.0.id;
    assert_eq!(orders.port.insert_orders(vec![order]).await.unwrap(), [InsertOrder::Inserted]);
    id
}

async fn get(orders: &Orders, id: OrderId) -> Order {
    orders.port.orders(&[id]).await.unwrap().pop().unwrap()
}

fn to(id: OrderId, to: OrderStatus) -> OrderAdvance {
    OrderAdvance { id, customer_id: None, to, note: None }
}

async fn confirm(orders: &Orders, ids: &[OrderId]) {
    let verdicts = ids.iter().map(|id| (*id, Verdict::Reserved)).collect();
    let done = orders.port.apply_verdicts(verdicts, Consumption::default(), at(2)).await.unwrap();
    assert!(matches!(done, Consumed::Done(judged) if judged.len() == ids.len()));
}

async fn a_saved_order_is_found_as_it_was(orders: Orders) {
    let (saved, event) = order(id(), "k");
    insert(&orders, (saved.clone(), event)).await;
    assert_eq!(get(&orders, saved.id).await, saved);
    assert_eq!(orders.port.order_by_key(saved.customer_id, "k").await.unwrap(), Some(saved));
}

async fn unknown_orders_are_absent(orders: Orders) {
    assert_eq!(orders.port.orders(&[id(), id()]).await.unwrap(), []);
    assert_eq!(orders.port.order_by_key(id(), "k").await.unwrap(), None);
    let advanced = orders.port.advance_order(to(id(), OrderStatus::Cancelled), at(2)).await.unwrap();
    assert_eq!(advanced, AdvanceOrder::NotFound);
    assert_eq!(orders.port.insert_orders(Vec::new()).await.unwrap(), []);
}

async fn an_order_is_saved_with_its_event(orders: Orders) {
    let (saved, event) = order(id(), "k");
    insert(&orders, (saved, event.clone())).await;
    assert_eq!(orders.pending().await, std::slice::from_ref(&event));
    // An event that cannot be saved takes its order with it.
    let (lost, mut broken) = order(id(), "k");
    broken.aggregate = event.aggregate;
    assert!(orders.port.insert_orders(vec![(lost.clone(), broken)]).await.is_err());
    assert_eq!(orders.port.orders(&[lost.id]).await.unwrap(), []);
    assert_eq!(orders.port.list_orders(&OrderFilter::default(), &PageRequest::first(9)).await.unwrap().total, 1);
}

async fn events_wait_in_sequence_and_say_what_they_said(orders: Orders) {
    let mut committed = orders.outbox.committed();
    let (first, event) = order(id(), "k");
    insert(&orders, (first.clone(), event)).await;
    let (second, mut event) = order(id(), "k");
    event.headers = vec![("traceparent".into(), "00-ab-cd-01".into())];
    insert(&orders, (second.clone(), event.clone())).await;
    assert_eq!(orders.pending().await.last(), Some(&event));
    publish(&orders, &[first.id, second.id]).await;
    let shortage = Shortage { product_id: second.lines[0].product_id, requested: 2, available: 1 };
    let rejected = Verdict::Rejected { shortages: vec![shortage], unavailable: Vec::new() };
    let verdicts = vec![(first.id, Verdict::Reserved), (second.id, rejected)];
    orders.port.apply_verdicts(verdicts, Consumption::default(), at(2)).await.unwrap();
    let cancel = OrderAdvance { note: Some("too late".into()), ..to(first.id, OrderStatus::Cancelled) };
    orders.port.advance_order(cancel, at(3)).await.unwrap();
    let mut letters = step("g", 0, 1);
    letters.dead_letters = vec![event_of_nobody()];
    orders.progress.consume(letters).await.unwrap();
    let mut emitted = Vec::new();
    while emitted.len() < 6 {
        emitted.extend(soon("a commit", committed.recv()).await.unwrap());
    }
    let in_sequence = |mut events: Vec<PendingEvent>| {
        events.sort_by_key(|event| (event.aggregate.clone(), event.sequence));
        events
    };
    let mut emitted = in_sequence(emitted);
    emitted.retain(|event| event.aggregate == "letter" || event.sequence > 1);
    assert_eq!(in_sequence(orders.pending().await), emitted);
    assert_eq!(orders.outbox.pending_of(&["letter".into()]).await.unwrap(), [event_of_nobody()]);
    let of_second = orders.outbox.pending_of(&[second.id.to_string(), id::<OrderId>().to_string()]).await.unwrap();
    assert_eq!(of_second.iter().map(PendingEvent::id).collect::<Vec<_>>(), [format!("{}-2", second.id)]);
    let of_first: Vec<i64> =
        orders.pending().await.iter().filter(|e| e.aggregate == first.id.to_string()).map(|e| e.sequence).collect();
    assert_eq!(of_first, [2, 3]);
    assert_eq!(orders.outbox.pending(at(2), 9).await.unwrap(), [event_of_nobody()], "what is younger waits");
    let ids = emitted.iter().map(|event| (event.aggregate.clone(), event.sequence));
    let kept = (second.id.to_string(), 2);
    orders.outbox.clear(ids.filter(|id| *id != kept).collect()).await.unwrap();
    let left: Vec<_> = orders.pending().await.into_iter().map(|event| (event.aggregate, event.sequence)).collect();
    assert_eq!(left, [kept]);
}

async fn no_limit_parts_an_event_of_an_order_from_the_one_before_it(orders: Orders) {
    let batch: Vec<_> = (0..4).map(|n| order(id(), &n.to_string())).collect();
    let ids: Vec<OrderId> = batch.iter().map(|(order, _)| order.id).collect();
    orders.port.insert_orders(batch).await.unwrap();
    publish(&orders, &ids).await;
    // Of the last one nothing but its verdict waits.
    confirm(&orders, &ids).await;
    for id in &ids[..3] {
        orders.port.advance_order(to(*id, OrderStatus::Shipped), at(3)).await.unwrap();
    }
    for limit in 1..9 {
        let mut last: HashMap<String, i64> = HashMap::new();
        let found = orders.outbox.pending(END, limit).await.unwrap();
        assert_eq!(found.len(), usize::min(limit as usize, 7), "limit {limit}");
        for event in found {
            let before = last.insert(event.aggregate, event.sequence).unwrap_or(1);
            assert_eq!(event.sequence, before + 1, "limit {limit}");
        }
    }
    let published = |sequence| ids[..3].iter().map(move |id| (id.to_string(), sequence));
    orders.outbox.clear(published(2).chain(published(3)).collect()).await.unwrap();
    let left: Vec<_> = orders.pending().await.into_iter().map(|event| (event.aggregate, event.sequence)).collect();
    assert_eq!(left, [(ids[3].to_string(), 2)]);
}

/// The placements of these orders are in the log: who judges an order has read its placement there.
async fn publish(orders: &Orders, placed: &[OrderId]) {
    orders.outbox.clear(placed.iter().map(|id| (id.to_string(), 1)).collect()).await.unwrap();
}

/// A dead letter, which is no order's.
fn event_of_nobody() -> PendingEvent {
    event("letter", 1, at(1))
}

async fn a_known_key_is_answered_with_its_order(orders: Orders) {
    let customer = id();
    let (first, event) = order(customer, "k");
    insert(&orders, (first.clone(), event)).await;
    let outcome = orders.port.insert_orders(vec![order(customer, "k"), order(customer, "other")]).await.unwrap();
    assert_eq!(outcome, [InsertOrder::Replayed(Box::new(first)), InsertOrder::Inserted]);
    assert_eq!(orders.pending().await.len(), 2);
}

async fn a_key_repeated_in_one_batch_is_a_replay(orders: Orders) {
    let customer = id();
    let batch = vec![order(customer, "k"), order(customer, "k"), order(customer, "k")];
    let first = batch[0].0.clone();
    let outcome = orders.port.insert_orders(batch).await.unwrap();
    let replayed = InsertOrder::Replayed(Box::new(first));
    assert_eq!(outcome, [InsertOrder::Inserted, replayed.clone(), replayed]);
    assert_eq!(orders.pending().await.len(), 1);
}

async fn one_key_may_serve_two_customers(orders: Orders) {
    let outcome = orders.port.insert_orders(vec![order(id(), "k"), order(id(), "k")]).await.unwrap();
    assert_eq!(outcome, [InsertOrder::Inserted, InsertOrder::Inserted]);
}

async fn of_simultaneous_orders_with_one_key_one_is_inserted(orders: Orders) {
    let customer: UserId = id();
    let calls = (0..20).map(|_| {
        let port = orders.port.clone();
        tokio::spawn(async move { port.insert_orders(vec![order(customer, "k")]).await.unwrap().remove(0) })
    });
    let (mut inserted, mut replayed) = (0, HashSet::new());
    for call in calls.collect::<Vec<_>>() {
        match call.await.unwrap() {
            InsertOrder::Inserted => inserted += 1,
            InsertOrder::Replayed(order) => drop(replayed.insert(order.id)),
            InsertOrder::NumberTaken => panic!("every order has a number of its own"),
        }
    }
    assert_eq!((inserted, replayed.len()), (1, 1));
    assert_eq!(orders.pending().await.len(), 1);
}

async fn a_taken_number_or_id_is_told_and_its_neighbours_are_saved(orders: Orders) {
    let known = id();
    insert(&orders, numbered_order(id(), "a", known, "N-1".into(), at(1))).await;
    let batch = vec![
        order(id(), "b"),
        numbered_order(id(), "c", id(), "N-1".into(), at(1)),
        order(id(), "d"),
        numbered_order(id(), "e", known, "N-2".into(), at(1)),
        order(id(), "f"),
    ];
    let ids: Vec<OrderId> = batch.iter().map(|(order, _)| order.id).collect();
    let outcome = orders.port.insert_orders(batch).await.unwrap();
    assert_eq!(
        outcome,
        [
            InsertOrder::Inserted,
            InsertOrder::NumberTaken,
            InsertOrder::Inserted,
            InsertOrder::NumberTaken,
            InsertOrder::Inserted
        ]
    );
    assert_eq!(orders.port.orders(&[ids[0], ids[1], ids[2], ids[4]]).await.unwrap().len(), 3);
    assert_eq!(get(&orders, known).await.number, "N-1");
}

async fn an_order_advances_by_the_table(orders: Orders) {
    let id = insert(&orders, order(id(), "k")).await;
    publish(&orders, &[id]).await;
    confirm(&orders, &[id]).await;
    let shipping = OrderAdvance { note: Some("parcel 7".into()), ..to(id, OrderStatus::Shipped) };
    let AdvanceOrder::Advanced(shipped) = orders.port.advance_order(shipping, at(3)).await.unwrap() else {
        panic!("a confirmed order can be shipped")
    };
    assert_eq!(get(&orders, id).await, *shipped);
    let entries: Vec<_> = shipped.timeline.iter().map(|entry| (entry.sequence, entry.status, entry.at)).collect();
    assert_eq!(
        entries,
        [(1, OrderStatus::Pending, at(1)), (2, OrderStatus::Confirmed, at(2)), (3, OrderStatus::Shipped, at(3))]
    );
    assert_eq!(shipped.timeline[2].note.as_deref(), Some("parcel 7"));
    let illegal = orders.port.advance_order(to(id, OrderStatus::Cancelled), at(4)).await.unwrap();
    let refused = IllegalTransition { from: OrderStatus::Shipped, to: OrderStatus::Cancelled };
    assert_eq!(illegal, AdvanceOrder::Illegal(refused));
    let types: Vec<_> = orders.pending().await.into_iter().map(|event| event.event_type).collect();
    assert_eq!(types, [event_type::ORDER_CONFIRMED, event_type::ORDER_SHIPPED]);
}

async fn of_simultaneous_cancellations_one_wins(orders: Orders) {
    let id = insert(&orders, order(id(), "k")).await;
    let calls = (0..10).map(|_| {
        let port = orders.port.clone();
        tokio::spawn(async move { port.advance_order(to(id, OrderStatus::Cancelled), at(2)).await.unwrap() })
    });
    let mut advanced = 0;
    for call in calls.collect::<Vec<_>>() {
        advanced += usize::from(matches!(call.await.unwrap(), AdvanceOrder::Advanced(_)));
    }
    assert_eq!(advanced, 1);
    assert_eq!(orders.pending().await.len(), 2);
}

async fn a_foreign_order_is_answered_as_missing(orders: Orders) {
    let order_id = insert(&orders, order(id(), "k")).await;
    let foreign = OrderAdvance { customer_id: Some(id()), ..to(order_id, OrderStatus::Cancelled) };
    assert_eq!(orders.port.advance_order(foreign, at(2)).await.unwrap(), AdvanceOrder::NotFound);
    assert_eq!(get(&orders, order_id).await.status, OrderStatus::Pending);
}

async fn verdicts_confirm_and_reject(orders: Orders) {
    let one = insert(&orders, order(id(), "a")).await;
    let two = insert(&orders, order(id(), "b")).await;
    let shortage = Shortage { product_id: id(), requested: 3, available: 1 };
    let unavailable = id();
    let rejected = Verdict::Rejected { shortages: vec![shortage], unavailable: vec![unavailable] };
    let verdicts = vec![(one, Verdict::Reserved), (two, rejected), (id(), Verdict::Reserved)];
    orders.port.apply_verdicts(verdicts, step("orders", 0, 3), at(2)).await.unwrap();
    assert_eq!(get(&orders, one).await.status, OrderStatus::Confirmed);
    let refused = get(&orders, two).await;
    assert_eq!(refused.status, OrderStatus::Rejected);
    assert_eq!((refused.shortages, refused.unavailable), (vec![shortage], vec![unavailable]));
    let last = orders.pending().await.pop().unwrap();
    let body: OrderChanged = serde_json::from_str(&last.body).unwrap();
    assert_eq!((body.order_id, body.sequence, body.shortages), (two, 2, vec![shortage]));
    assert_eq!(orders.offset("orders").await, Some(3));
}

async fn the_event_of_a_verdict_follows_the_verdict(orders: Orders) {
    let (one, two) = (insert(&orders, order(id(), "a")).await, insert(&orders, order(id(), "b")).await);
    let verdicts = vec![(one, Verdict::Reserved), (two, Verdict::Reserved)];
    orders.port.apply_verdicts(verdicts, traced_step("orders", 0, 2, &one.to_string()), at(2)).await.unwrap();
    let pending = orders.pending().await;
    let confirmed = |id: OrderId| {
        pending.iter().find(|event| event.aggregate == id.to_string() && event.sequence == 2).unwrap().traceparent()
    };
    assert_eq!((confirmed(one), confirmed(two)), (Some(TRACEPARENT), None));
}

async fn a_verdict_for_what_is_not_pending_changes_nothing(orders: Orders) {
    let id = insert(&orders, order(id(), "k")).await;
    orders.port.advance_order(to(id, OrderStatus::Cancelled), at(2)).await.unwrap();
    let before = get(&orders, id).await;
    let done = orders.port.apply_verdicts(vec![(id, Verdict::Reserved)], step("orders", 0, 1), at(3)).await.unwrap();
    assert_eq!(done, Consumed::Done(Vec::new()));
    assert_eq!(get(&orders, id).await, before);
    assert_eq!(orders.pending().await.len(), 2);
    assert_eq!(orders.offset("orders").await, Some(1));
}

async fn verdicts_and_offset_are_written_together_or_not_at_all(orders: Orders) {
    let id = insert(&orders, order(id(), "k")).await;
    orders.progress.consume(step("orders", 0, 5)).await.unwrap();
    let verdicts = vec![(id, Verdict::Reserved)];
    let lost = orders.port.apply_verdicts(verdicts.clone(), step("orders", 4, 6), at(2)).await.unwrap();
    assert_eq!(lost, Consumed::Lost);
    assert_eq!(get(&orders, id).await.status, OrderStatus::Pending);
    assert_eq!((orders.pending().await.len(), orders.offset("orders").await), (1, Some(5)));
    publish(&orders, &[id]).await;
    let done = orders.port.apply_verdicts(verdicts, step("orders", 5, 6), at(2)).await.unwrap();
    let placed_at = get(&orders, id).await.created_at;
    assert_eq!(done, Consumed::Done(vec![Judged { placed_at, status: OrderStatus::Confirmed }]));
    assert_eq!(get(&orders, id).await.status, OrderStatus::Confirmed);
    assert_eq!((orders.pending().await.len(), orders.offset("orders").await), (1, Some(6)));
}

async fn orders_that_wait_for_a_verdict_are_counted_with_the_oldest(orders: Orders) {
    assert_eq!(orders.port.pending_orders().await.unwrap(), PendingOrders::default());
    let mut ids = Vec::new();
    for key in ["a", "b", "c"] {
        ids.push(insert(&orders, order(id(), key)).await);
    }
    let oldest = get(&orders, ids[0]).await.created_at;
    let all = PendingOrders { count: 3, oldest: Some(oldest) };
    assert_eq!(orders.port.pending_orders().await.unwrap(), all);
    let backlog = orders.outbox.backlog().await.unwrap();
    assert_eq!(backlog, Backlog { events: 3, oldest: Some(oldest) });
    publish(&orders, &ids).await;
    confirm(&orders, &ids).await;
    assert_eq!(orders.port.pending_orders().await.unwrap(), PendingOrders::default());
    assert_eq!(orders.outbox.backlog().await.unwrap().events, 3);
    let published = orders.pending().await.into_iter().map(|event| (event.aggregate, event.sequence)).collect();
    orders.outbox.clear(published).await.unwrap();
    assert_eq!(orders.outbox.backlog().await.unwrap(), Backlog::default());
}

async fn lists_are_newest_first_and_stable_while_orders_come(orders: Orders) {
    let customer: UserId = id();
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(insert(&orders, order(customer, &n.to_string())).await);
        insert(&orders, order(id(), "another")).await;
    }
    let filter = OrderFilter { customer_id: Some(customer), ..OrderFilter::default() };
    let mut request = PageRequest::first(2);
    let mut listed = Vec::new();
    for n in 5..8 {
        let page = orders.port.list_orders(&filter, &request).await.unwrap();
        assert_eq!((page.total, page.has_next, page.has_previous), (n, n < 7, n > 5));
        listed.extend(page.entries.iter().map(|(_, order)| order.id));
        request.after = page.entries.last().map(|(cursor, _)| cursor.clone());
        insert(&orders, order(customer, &n.to_string())).await;
    }
    ids.reverse();
    assert_eq!(listed, ids);
}

async fn every_filter_narrows_the_list(orders: Orders) {
    let customer: UserId = id();
    let mut ids = Vec::new();
    for n in 0..4 {
        ids.push(insert(&orders, order_at(customer, &n.to_string(), at(100 + n))).await);
    }
    ids.push(insert(&orders, order_at(id(), "x", at(200))).await);
    confirm(&orders, &ids[1..3]).await;
    let number = get(&orders, ids[3]).await.number;
    let all = OrderFilter::default();
    let confirmed = Some(vec![OrderStatus::Confirmed]);
    let both = Some(vec![OrderStatus::Confirmed, OrderStatus::Pending, OrderStatus::Pending]);
    let cases: Vec<(OrderFilter, Vec<usize>)> = vec![
        (all.clone(), vec![4, 3, 2, 1, 0]),
        (OrderFilter { statuses: confirmed.clone(), ..all.clone() }, vec![2, 1]),
        (OrderFilter { statuses: both.clone(), ..all.clone() }, vec![4, 3, 2, 1, 0]),
        (OrderFilter { statuses: Some(vec![]), ..all.clone() }, vec![]),
        (OrderFilter { customer_id: Some(customer), ..all.clone() }, vec![3, 2, 1, 0]),
        (OrderFilter { customer_id: Some(customer), statuses: confirmed, ..all.clone() }, vec![2, 1]),
        (OrderFilter { number: Some(number.clone()), ..all.clone() }, vec![3]),
        (OrderFilter { number: Some(number), customer_id: Some(id()), ..all.clone() }, vec![]),
        (OrderFilter { placed_after: Some(at(101)), ..all.clone() }, vec![4, 3, 2]),
        (OrderFilter { placed_before: Some(at(101)), ..all.clone() }, vec![0]),
        (
            OrderFilter { placed_after: Some(at(100)), placed_before: Some(at(103)), statuses: both, ..all.clone() },
            vec![2, 1],
        ),
    ];
    for (filter, expected) in cases {
        let page = orders.port.list_orders(&filter, &PageRequest::first(10)).await.unwrap();
        let listed: Vec<OrderId> = page.entries.iter().map(|(_, order)| order.id).collect();
        let expected: Vec<OrderId> = expected.into_iter().map(|n| ids[n]).collect();
        assert_eq!(listed, expected, "{filter:?}");
        assert_eq!(page.total, expected.len() as u64, "{filter:?}");
    }
}

async fn a_broken_cursor_is_refused(orders: Orders) {
    let request = PageRequest { first: 2, after: Some("no cursor".into()) };
    let listed = orders.port.list_orders(&OrderFilter::default(), &request).await;
    assert!(matches!(listed, Err(StoreError::InvalidCursor)));
}

async fn changes_miss_and_repeat_nothing(orders: Orders) {
    let customer: UserId = id();
    let start = orders.port.latest_change(customer).await.unwrap();
    let one = insert(&orders, order(customer, "a")).await;
    let two = insert(&orders, order(customer, "b")).await;
    insert(&orders, order(id(), "another")).await;
    confirm(&orders, &[two, one]).await;
    let mut cursor = start;
    let mut seen = Vec::new();
    loop {
        let entries = orders.port.changes_after(customer, &cursor, 3).await.unwrap().unwrap();
        let Some(last) = entries.last() else { break };
        cursor = last.cursor.clone();
        seen.extend(entries.iter().map(|entry| (entry.order.id, entry.sequence)));
    }
    assert_eq!(seen, [(one, 1), (two, 1), (two, 2), (one, 2)]);
    assert_eq!(orders.port.latest_change(customer).await.unwrap(), cursor);
    orders.port.advance_order(to(one, OrderStatus::Shipped), at(3)).await.unwrap();
    let entries = orders.port.changes_after(customer, &cursor, 3).await.unwrap().unwrap();
    assert_eq!(entries.iter().map(|entry| (entry.order.id, entry.sequence)).collect::<Vec<_>>(), [(one, 3)]);
    assert_eq!(entries[0].order.status, OrderStatus::Shipped);
}

async fn changes_under_concurrent_writes_are_complete(orders: Orders) {
    let customer: UserId = id();
    let mut cursor = orders.port.latest_change(customer).await.unwrap();
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let port = orders.port.clone();
            tokio::spawn(async move {
                for n in 0..25 {
                    let (id, number) = (id(), format!("N-{writer}-{n}"));
                    let placed = numbered_order(customer, &number, id, number.clone(), at(1));
                    assert_eq!(port.insert_orders(vec![placed]).await.unwrap(), [InsertOrder::Inserted]);
                    let advanced = port.advance_order(to(id, OrderStatus::Cancelled), at(2)).await.unwrap();
                    assert!(matches!(advanced, AdvanceOrder::Advanced(_)), "{advanced:?}");
                }
            })
        })
        .collect();
    let mut seen = Vec::new();
    loop {
        let written = writers.iter().all(|writer| writer.is_finished());
        let entries = orders.port.changes_after(customer, &cursor, 7).await.unwrap().unwrap();
        match entries.last() {
            Some(last) => cursor = last.cursor.clone(),
            None if written => break,
            None => tokio::task::yield_now().await,
        }
        seen.extend(entries.into_iter().map(|entry| (entry.order.id, entry.sequence)));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(seen.len(), 200);
    assert_eq!(seen.iter().collect::<HashSet<_>>().len(), 200);
    for id in seen.iter().map(|(id, _)| *id).collect::<HashSet<_>>() {
        let sequences: Vec<i32> = seen.iter().filter(|(other, _)| *other == id).map(|(_, n)| *n).collect();
        assert_eq!(sequences, [1, 2]);
    }
}

async fn a_foreign_change_cursor_is_told(orders: Orders) {
    let customer: UserId = id();
    let other = crate::harness::sqlite::orders();
    for n in 0..3 {
        insert(&other, order(customer, &n.to_string())).await;
    }
    let ahead = other.port.latest_change(customer).await.unwrap();
    assert_eq!(orders.port.changes_after(customer, &ahead, 10).await.unwrap(), None);
    assert_eq!(orders.port.changes_after(customer, "no cursor", 10).await.unwrap(), None);
}

async fn a_walk_over_what_was_bought_meets_each_order_once(orders: Orders) {
    let mut ids = Vec::new();
    for number in 0..7 {
        ids.push(insert(&orders, order(id(), &format!("k{number}"))).await);
    }
    // The third stays PENDING, the fourth is cancelled, the last two are on their way and there.
    confirm(&orders, &[ids[0], ids[1], ids[3], ids[4], ids[5], ids[6]]).await;
    orders.port.advance_order(to(ids[3], OrderStatus::Cancelled), at(3)).await.unwrap();
    for shipped in [ids[5], ids[6]] {
        orders.port.advance_order(to(shipped, OrderStatus::Shipped), at(3)).await.unwrap();
    }
    orders.port.advance_order(to(ids[6], OrderStatus::Delivered), at(4)).await.unwrap();
    let mut met = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = orders.port.bought_orders(after.as_deref(), 2).await.unwrap();
        assert!(page.len() <= 2);
        let Some((cursor, _)) = page.last() else { break };
        after = Some(cursor.clone());
        met.extend(page.into_iter().map(|(_, order)| order.id));
        // What changes behind the walk does not come again.
        orders.port.advance_order(to(met[0], OrderStatus::Shipped), at(5)).await.unwrap();
    }
    assert_eq!(met, [ids[0], ids[1], ids[4], ids[5], ids[6]]);
    let broken = orders.port.bought_orders(Some("?"), 2).await;
    assert!(matches!(broken, Err(StoreError::InvalidCursor)), "{broken:?}");
}
