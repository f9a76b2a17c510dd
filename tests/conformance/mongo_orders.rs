//! What only the orders, products and campaigns on MongoDB promise: several processes, readable documents, answers that are
//! lost, and what an order and a page cost.

use std::collections::BTreeMap;
use std::time::Duration;

use mongodb::bson::spec::ElementType;
use mongodb::bson::{Bson, Document, doc};
use souk::domain::events::PendingEvent;
use souk::domain::ids::{OrderId, ProductId, UserId};
use souk::domain::inventory::{Decision, InventoryRequest, WantedLine};
use souk::domain::orders::{Order, OrderFilter, OrderStatus, Verdict};
use souk::domain::page::PageRequest;
use souk::domain::products::{ProductFilter, ProductSort};
use souk::store::campaigns::CampaignStore;
use souk::store::consumption::{Consumed, Consumption};
use souk::store::mongo::MongoStores;
use souk::store::orders::{InsertOrder, OrderAdvance, OrderStore};
use souk::store::outbox::Outbox;
use souk::store::products::ProductStore;

use crate::harness::mongo::Databases;
use crate::harness::{END, at, id, named_product, numbered_order, order, product, soon, step};
use crate::wire::Wire;

const PATIENCE: Duration = Duration::from_secs(20);

async fn open(databases: &Databases) -> MongoStores {
    MongoStores::open(&databases.settings, PATIENCE).await.unwrap()
}

fn batch(customer: UserId, count: usize) -> Vec<(Order, PendingEvent)> {
    (0..count).map(|n| numbered_order(customer, &format!("k{n}"), id(), format!("N-{n}"), at(1))).collect()
}

fn placed(order_id: OrderId, product_id: ProductId) -> InventoryRequest {
    InventoryRequest::Placed { order_id, lines: vec![WantedLine { product_id, quantity: 1 }] }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs SOUK_TEST_MONGODB_URI; scripts/test gives it"]
async fn of_two_processes_that_place_one_key_at_once_one_inserts_it() {
    let databases = Databases::new();
    let (one, other) = (open(&databases).await, open(&databases).await);
    let customer = id();
    for n in 0..10 {
        let place = |stores: &MongoStores| {
            let (orders, placed) = (stores.orders.clone(), order(customer, &n.to_string()));
            tokio::spawn(async move { (placed.0.id, orders.insert_orders(vec![placed]).await.unwrap().remove(0)) })
        };
        let (first, second) = (place(&one), place(&other));
        let outcomes = [first.await.unwrap(), second.await.unwrap()];
        let inserted: Vec<OrderId> =
            outcomes.iter().filter(|(_, outcome)| *outcome == InsertOrder::Inserted).map(|(id, _)| *id).collect();
        let replayed: Vec<OrderId> = outcomes
            .iter()
            .filter_map(|(_, outcome)| if let InsertOrder::Replayed(order) = outcome { Some(order.id) } else { None })
            .collect();
        assert_eq!(inserted.len(), 1, "{outcomes:?}");
        assert_eq!(inserted, replayed);
    }
    assert_eq!(one.orders.pending(END, 99).await.unwrap(), other.orders.pending(END, 99).await.unwrap());
    assert_eq!(one.orders.pending(END, 99).await.unwrap().len(), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs SOUK_TEST_MONGODB_URI; scripts/test gives it"]
async fn two_processes_sell_one_product_and_never_too_much_of_it() {
    let databases = Databases::new();
    let processes = [open(&databases).await, open(&databases).await];
    let (hot, event) = product("HOT", 30);
    processes[0].products.insert_product(hot.clone(), event).await.unwrap();
    let orders: Vec<OrderId> = (0..40).map(|_| id()).collect();
    let deciding: Vec<_> = orders
        .chunks(2)
        .enumerate()
        .map(|(n, pair)| {
            let requests = pair.iter().map(|order| placed(*order, hot.id)).collect();
            let products = processes[n % 2].products.clone();
            tokio::spawn(
                async move { products.decide_inventory(requests, Consumption::default(), at(2)).await.unwrap() },
            )
        })
        .collect();
    for decided in deciding {
        assert_eq!(decided.await.unwrap(), Consumed::Done(()));
    }
    let decisions = processes[1].products.decisions(&orders).await.unwrap();
    let reserved = decisions.iter().filter(|(_, decision)| matches!(decision, Decision::Reserved { .. })).count();
    assert_eq!((decisions.len(), reserved), (40, 30));
    assert_eq!(processes[1].products.products(&[hot.id]).await.unwrap()[0].available, 0);
}

/// Decides a large batch at one process while another one decides about the same product without a pause: the few must not
/// undo the many until there are no more of them. How many there were.
async fn decided_beside_small_ones(
    processes: [&MongoStores; 2],
    hot: ProductId,
    large: Vec<InventoryRequest>,
) -> usize {
    const MOST_OF_THE_SMALL: usize = 300;
    let [one, other] = processes.map(|stores| stores.products.clone());
    let large = tokio::spawn(async move { one.decide_inventory(large, Consumption::default(), at(2)).await.unwrap() });
    let mut small = 0;
    while !large.is_finished() {
        other.decide_inventory(vec![placed(id(), hot)], Consumption::default(), at(2)).await.unwrap();
        small += 1;
        assert!(small <= MOST_OF_THE_SMALL, "the large batch waits for ever");
    }
    assert_eq!(large.await.unwrap(), Consumed::Done(()));
    small
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs SOUK_TEST_MONGODB_URI; scripts/test gives it"]
async fn a_large_batch_is_decided_while_another_process_decides_small_ones_without_a_pause() {
    let databases = Databases::new();
    let (one, other) = (open(&databases).await, open(&databases).await);
    let (hot, event) = product("HOT", 1_000_000);
    one.products.insert_product(hot.clone(), event).await.unwrap();
    let orders: Vec<OrderId> = (0..1_000).map(|_| id()).collect();
    let available = async || one.products.products(&[hot.id]).await.unwrap()[0].available;

    let large = orders.iter().map(|order| placed(*order, hot.id)).collect();
    let mut small = decided_beside_small_ones([&one, &other], hot.id, large).await;
    assert_eq!(available().await, 1_000_000 - (orders.len() + small) as i32);

    let large = orders.iter().map(|order| InventoryRequest::Cancelled { order_id: *order }).collect();
    small += decided_beside_small_ones([&one, &other], hot.id, large).await;
    assert_eq!(available().await, 1_000_000 - small as i32);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs SOUK_TEST_MONGODB_URI; scripts/test gives it"]
async fn orders_whose_answer_was_lost_are_told_as_they_are() {
    let databases = Databases::new();
    let wire = Wire::to(&databases).await;
    let stores = MongoStores::open(&wire.settings, PATIENCE).await.unwrap();
    let mut committed = stores.orders.committed();
    let customer = id();
    let (known, event) = order(customer, "known");
    stores.orders.insert_orders(vec![(known.clone(), event)]).await.unwrap();
    soon("the first commit", committed.recv()).await.unwrap();
    // The driver itself sends an insert a second time.
    wire.lose_inserts(2);
    let batch = vec![order(customer, "a"), order(customer, "known"), order(customer, "b")];
    let inserted = [batch[0].1.clone(), batch[2].1.clone()];
    let outcomes = stores.orders.insert_orders(batch).await.unwrap();
    assert_eq!(outcomes, [InsertOrder::Inserted, InsertOrder::Replayed(Box::new(known)), InsertOrder::Inserted]);
    assert_eq!(soon("the commit", committed.recv()).await.unwrap(), inserted);
    let page = stores.orders.list_orders(&OrderFilter::default(), &PageRequest::first(9)).await.unwrap();
    assert_eq!(page.total, 3);
}

#[tokio::test]
#[ignore = "needs SOUK_TEST_MONGODB_URI; scripts/test gives it"]
async fn an_order_can_be_read_by_a_person() {
    let databases = Databases::new();
    let stores = open(&databases).await;
    let (saved, event) = order(id(), "k");
    stores.orders.insert_orders(vec![(saved.clone(), event)]).await.unwrap();
    stores.orders.apply_verdicts(vec![(saved.id, Verdict::Reserved)], step("orders", 0, 1), at(2)).await.unwrap();
    let database = databases.client().await.database(&format!("{}orders", databases.settings.prefix));
    let stored = database.collection::<Document>("orders").find_one(doc! { "number": &saved.number }).await.unwrap();
    let stored = stored.unwrap();
    for (field, value) in [
        ("_id", saved.id.to_string()),
        ("customerId", saved.customer_id.to_string()),
        ("status", "CONFIRMED".into()),
        ("idempotencyKey", "k".into()),
    ] {
        assert_eq!(stored.get_str(field).unwrap(), value, "{field}");
    }
    let total = doc! { "minorUnits": 9_980_i64, "currency": "EUR" };
    assert_eq!(stored.get_document("total").unwrap(), &total);
    let line = stored.get_array("lines").unwrap()[0].as_document().unwrap();
    assert_eq!((line.get_str("sku").unwrap(), line.get_str("name").unwrap()), ("LMP-100", "Brass Lamp"));
    let statuses = |field: &str, key: &str| -> Vec<Bson> {
        let entries = stored.get_array(field).unwrap().iter();
        entries.map(|entry| entry.as_document().unwrap().get(key).unwrap().clone()).collect()
    };
    assert_eq!(statuses("timeline", "status"), [Bson::from("PENDING"), Bson::from("CONFIRMED")]);
    assert_eq!(statuses("pending", "sequence"), [], "a judged order's placement is published");
    let waiting = database.collection::<Document>("pending_events").find_one(doc! {}).await.unwrap().unwrap();
    assert_eq!(waiting.get_array("ids").unwrap(), &[format!("{}-2", saved.id).into()], "its verdict waits here");
    assert_eq!(stored.get("placedAt").unwrap().element_type(), ElementType::DateTime);
    // What is no order is refused by the server itself.
    assert!(database.collection("orders").insert_one(doc! { "_id": "ord_1", "number": 7 }).await.is_err());
}

#[tokio::test]
#[ignore = "needs SOUK_TEST_MONGODB_URI; scripts/test gives it"]
async fn a_hundred_orders_cost_a_few_commands_from_placement_to_confirmation() {
    let databases = Databases::new();
    let wire = Wire::to(&databases).await;
    let stores = MongoStores::open(&wire.settings, PATIENCE).await.unwrap();
    let (lamp, event) = product("LMP", 1_000);
    stores.products.insert_product(lamp.clone(), event).await.unwrap();
    let batch = batch(id(), 100);
    let ids: Vec<OrderId> = batch.iter().map(|(order, _)| order.id).collect();
    let inserting = async {
        stores.orders.insert_orders(batch).await.unwrap();
    };
    assert_eq!(wire.commands(inserting).await, ["insert"]);
    let deciding = async {
        let requests = ids.iter().map(|order| placed(*order, lamp.id)).collect();
        stores.products.decide_inventory(requests, step("inventory", 0, 100), at(2)).await.unwrap();
    };
    let decided = ["commitTransaction", "find", "find", "insert", "insert", "update", "update"];
    assert_eq!(wire.commands(deciding).await, decided);
    let judging = async {
        let verdicts = ids.iter().map(|order| (*order, Verdict::Reserved)).collect();
        stores.orders.apply_verdicts(verdicts, step("orders", 0, 100), at(3)).await.unwrap();
    };
    assert_eq!(wire.commands(judging).await, ["commitTransaction", "find", "insert", "update", "update"]);
    let clearing = async {
        let published = ids.iter().flat_map(|order| [(order.to_string(), 1), (order.to_string(), 2)]).collect();
        stores.orders.clear(published).await.unwrap();
    };
    assert_eq!(wire.commands(clearing).await, ["delete"]);
    assert_eq!(stores.orders.pending(END, 999).await.unwrap(), []);
    let orders = stores.orders.orders(&ids).await.unwrap();
    assert!(orders.len() == 100 && orders.iter().all(|order| order.status == OrderStatus::Confirmed));
}

#[tokio::test]
#[ignore = "needs SOUK_TEST_MONGODB_URI; scripts/test gives it"]
async fn a_page_costs_two_commands_at_most_whatever_its_size() {
    let databases = Databases::new();
    let wire = Wire::to(&databases).await;
    let stores = MongoStores::open(&wire.settings, PATIENCE).await.unwrap();
    let customer = id();
    stores.orders.insert_orders(batch(customer, 120)).await.unwrap();
    let lamps =
        (0..120).map(|n| named_product(&format!("L-{n}"), "Brass Lamp", "Lighting", &"light ".repeat(800), n, 1));
    stores.products.insert_products(lamps.collect()).await.unwrap();
    let own = OrderFilter { customer_id: Some(customer), ..OrderFilter::default() };
    let search = ProductFilter { search: Some("lam bra".into()), ..ProductFilter::default() };
    for size in [1, 100] {
        let page = PageRequest::first(size);
        for filter in [&own, &OrderFilter::default()] {
            let list = async {
                let listed = stores.orders.list_orders(filter, &page).await.unwrap();
                assert_eq!((listed.total, listed.entries.len()), (120, size as usize));
            };
            assert_eq!(wire.commands(list).await, ["aggregate", "find"], "{size} {filter:?}");
        }
        for (filter, cost) in [(&ProductFilter::default(), &["aggregate", "find"][..]), (&search, &["aggregate"])] {
            let list = async {
                let listed = stores.products.list_products(filter, ProductSort::Relevance, &page).await.unwrap();
                assert_eq!((listed.total, listed.entries.len()), (120, size as usize));
            };
            assert_eq!(wire.commands(list).await, cost, "{size} {filter:?}");
        }
        let campaigns = async {
            stores.products.list_campaigns(&page).await.unwrap();
        };
        assert_eq!(wire.commands(campaigns).await, ["aggregate", "find"]);
    }
    let categories = async {
        assert_eq!(stores.products.categories().await.unwrap().len(), 1);
    };
    assert_eq!(wire.commands(categories).await, ["aggregate"]);
}

/// How the server has found what the store asked for while `calls` ran: of each read its plan, and whether it sorted.
async fn plans(databases: &Databases, domain: &str, calls: impl Future<Output = ()>) -> Vec<(String, bool)> {
    let database = databases.client().await.database(&format!("{}{domain}", databases.settings.prefix));
    database.run_command(doc! { "profile": 2 }).await.unwrap();
    calls.await;
    database.run_command(doc! { "profile": 0 }).await.unwrap();
    let profile = database.collection::<Document>("system.profile");
    let mut reads = profile.find(doc! { "appName": "souk", "op": "query" }).await.unwrap();
    let mut plans = Vec::new();
    while reads.advance().await.unwrap() {
        let read = reads.deserialize_current().unwrap();
        plans.push((read.get_str("planSummary").unwrap().to_owned(), read.get_bool("hasSortStage").unwrap_or(false)));
    }
    drop(reads);
    profile.drop().await.unwrap();
    plans
}

#[tokio::test]
#[ignore = "needs SOUK_TEST_MONGODB_URI; scripts/test gives it"]
async fn what_is_asked_often_is_found_by_an_index_that_has_its_order() {
    let databases = Databases::new();
    let stores = open(&databases).await;
    let customer = id();
    stores.orders.insert_orders(batch(customer, 20)).await.unwrap();
    let lamps = (0..20).map(|n| named_product(&format!("L-{n}"), "Lamp", "Lighting", "", n, 1)).collect();
    stores.products.insert_products(lamps).await.unwrap();
    let page = PageRequest::first(5);

    let changed = async {
        let cursor = stores.orders.latest_change(customer).await.unwrap();
        stores.orders.changes_after(customer, &cursor, 5).await.unwrap().unwrap();
    };
    let by_change = ("IXSCAN { customerId: 1, stampMicros: 1, _id: 1 }".to_owned(), false);
    assert_eq!(plans(&databases, "orders", changed).await, [by_change.clone(), by_change.clone(), by_change]);
    let swept = async {
        assert_eq!(stores.orders.pending(END, 9).await.unwrap().len(), 9);
    };
    assert_eq!(plans(&databases, "orders", swept).await[0], ("IXSCAN { pending.at: 1 }".to_owned(), false));
    let all = OrderFilter::default();
    let placed = OrderFilter { statuses: Some(vec![OrderStatus::Pending]), ..all.clone() };
    for (filter, index) in [
        (OrderFilter { customer_id: Some(customer), ..all.clone() }, "{ customerId: 1, placedAt: 1, _id: 1 }"),
        (placed, "{ status: 1, placedAt: 1, _id: 1 }"),
        (all, "{ placedAt: 1, _id: 1 }"),
    ] {
        let list = async {
            stores.orders.list_orders(&filter, &page).await.unwrap();
        };
        assert_eq!(plans(&databases, "orders", list).await, [(format!("IXSCAN {index}"), false)]);
    }
    for (sort, index) in [
        (ProductSort::Newest, "{ createdAt: 1, _id: 1 }"),
        (ProductSort::Name, "{ name: 1, _id: 1 }"),
        (ProductSort::PriceAscending, "{ price.minorUnits: 1, _id: 1 }"),
        (ProductSort::PriceDescending, "{ price.minorUnits: -1, _id: 1 }"),
    ] {
        let list = async {
            stores.products.list_products(&ProductFilter::default(), sort, &page).await.unwrap();
        };
        assert_eq!(plans(&databases, "products", list).await, [(format!("IXSCAN {index}"), false)]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs SOUK_TEST_MONGODB_URI; scripts/test gives it"]
async fn a_stream_of_changes_misses_nothing_that_two_processes_write() {
    let databases = Databases::new();
    let processes = [open(&databases).await, open(&databases).await];
    let customer: UserId = id();
    let mut cursor = processes[0].orders.latest_change(customer).await.unwrap();
    let writers: Vec<_> = (0..2)
        .map(|writer: usize| {
            let orders = processes[writer].orders.clone();
            let others = processes[1 - writer].orders.clone();
            tokio::spawn(async move {
                for n in 0..20 {
                    let (id, key) = (id(), format!("{writer}-{n}"));
                    let new = numbered_order(customer, &key, id, key.clone(), at(1));
                    orders.insert_orders(vec![new]).await.unwrap();
                    let cancel = OrderAdvance { id, customer_id: None, to: OrderStatus::Cancelled, note: None };
                    others.advance_order(cancel, at(2)).await.unwrap();
                }
            })
        })
        .collect();
    let mut seen: BTreeMap<OrderId, Vec<i32>> = BTreeMap::new();
    loop {
        let written = writers.iter().all(|writer| writer.is_finished());
        let entries = processes[1].orders.changes_after(customer, &cursor, 5).await.unwrap().unwrap();
        match entries.last() {
            Some(last) => cursor = last.cursor.clone(),
            None if written => break,
            None => tokio::task::yield_now().await,
        }
        for entry in entries {
            seen.entry(entry.order.id).or_default().push(entry.sequence);
        }
    }
    assert_eq!(seen.len(), 40);
    assert!(seen.values().all(|sequences| *sequences == [1, 2]), "{seen:?}");
}
