//! SIGTERM in the middle of the work: nothing that was accepted fails, and the next start has nothing to do twice.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use serde_json::json;
use souk::config::Config;
use souk::domain::events::{Topic, event_type};
use souk::domain::ids::OrderId;
use souk::store::consumption::{ConsumptionStore, StoredOffset};

use super::books;
use super::fleet::Fleet;
use crate::support::client::{ORDER_PLACE, place_variables};
use crate::support::process::ShopProcess;
use crate::support::{Account, Client, Socket, eventually, kafka};

const OPENING_STOCK: i32 = 100_000;
const CUSTOMERS: usize = 8;

/// Orders one after the other until the process takes nothing new; the answered orders by key. `answers` counts for all.
async fn order_until_refused(
    client: &Client,
    customer: &Account,
    product: &str,
    wait_ms: i64,
    answers: &AtomicUsize,
) -> BTreeMap<String, String> {
    let mut answered = BTreeMap::new();
    loop {
        let key = format!("{} {}", customer.id, answered.len());
        let variables = place_variables(&key, &[(product, 1)], wait_ms);
        match client.try_query(Some(&customer.token), ORDER_PLACE, variables).await {
            Ok(answer) => match answer["data"]["orderPlace"]["order"]["id"].as_str() {
                Some(id) => {
                    answered.insert(key, id.to_owned());
                    answers.fetch_add(1, Ordering::Relaxed);
                }
                None => {
                    assert_eq!(answer["errors"][0]["extensions"]["code"], "UNAVAILABLE", "{answer}");
                    return answered;
                }
            },
            // The port is closed. An order that was stored all the same shows in the books: nobody asked for it.
            Err(error) => {
                assert!(error.is_request(), "an answer broke off: {error}");
                return answered;
            }
        }
    }
}

/// A group whose work can be counted: where it reads, and what it does not skip.
struct Group {
    name: &'static str,
    topic: Topic,
    wants: &'static [&'static str],
}

const GROUPS: [Group; 2] = [
    Group {
        name: "inventory",
        topic: Topic::OrderEvents,
        wants: &[event_type::ORDER_PLACED, event_type::ORDER_CANCELLED],
    },
    Group {
        name: "orders",
        topic: Topic::InventoryEvents,
        wants: &[event_type::INVENTORY_RESERVED, event_type::INVENTORY_REJECTED],
    },
];

/// Where each of the groups goes on, from the stores; the copies on Kafka must say the same.
async fn positions(config: &Config) -> [Vec<StoredOffset>; 2] {
    let stores = books::open(config).await;
    let positions = [
        ConsumptionStore::offsets(&*stores.products, GROUPS[0].name).await.unwrap(),
        ConsumptionStore::offsets(&*stores.orders, GROUPS[1].name).await.unwrap(),
    ];
    stores.close();
    for (group, stored) in GROUPS.iter().zip(&positions) {
        assert!(!stored.is_empty(), "{} has read nothing", group.name);
        let committed = kafka::committed(config, group.name, group.topic);
        for offset in stored {
            assert_eq!(committed.get(&offset.partition), Some(&offset.next_offset), "{} {offset:?}", group.name);
        }
    }
    positions
}

/// What a group has still to handle, from these positions on.
fn left_over(config: &Config, group: &Group, positions: &[StoredOffset]) -> usize {
    let from = |partition: i32| {
        let stored = positions.iter().find(|stored| stored.partition == partition);
        stored.map_or(0, |stored| stored.next_offset)
    };
    let is_left = |record: &kafka::LogRecord| {
        record.offset >= from(record.partition) && group.wants.contains(&record.kind.as_str())
    };
    kafka::records(config, group.topic).iter().filter(|record| is_left(record)).count()
}

/// How many events a group of this process has handled.
async fn handled(process: &ShopProcess, group: &str) -> usize {
    let answer = reqwest::get(format!("http://{}/metrics", process.admin)).await.unwrap();
    let metrics = answer.text().await.unwrap();
    let series = format!("souk_consumer_events_handled_total{{group=\"{group}\",");
    let counts = metrics.lines().filter(|line| line.starts_with(&series)).filter_map(|line| line.rsplit(' ').next());
    counts.map(|count| count.parse::<usize>().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs SOUK_TEST_MONGODB_URI, SOUK_TEST_KAFKA_BROKERS and SOUK_TEST_REDIS_URI; scripts/test gives them"]
async fn a_stop_under_load_fails_nothing_that_was_accepted_and_the_next_start_does_nothing_twice() {
    let fleet = Fleet::new();
    let process = fleet.start("all");
    let client = process.client();
    let (product, customers) = fleet.furnish(&client, OPENING_STOCK, CUSTOMERS).await;
    let mut sockets = Vec::new();
    for customer in &customers {
        let mut socket = Socket::connect(process.public, Some(&customer.token)).await;
        socket.subscribe("subscription { orderUpdates { order { id status } } }", json!({})).await;
        sockets.push(socket);
    }

    let answers = AtomicUsize::new(0);
    // Every other customer waits for the verdict, and is answered by a process that is about to end.
    let ordering = customers.iter().zip(0..).map(|(customer, number)| {
        order_until_refused(&client, customer, &product, if number % 2 == 0 { 0 } else { 10_000 }, &answers)
    });
    let stopping = async {
        eventually("the load is there", async || (answers.load(Ordering::Relaxed) > 100).then_some(())).await;
        process.signal("TERM");
    };
    let (answered, ()) = futures_util::join!(join_all(ordering), stopping);
    let mut answered: BTreeMap<_, _> = answered.into_iter().flatten().collect();
    for socket in &mut sockets {
        assert_eq!(socket.close_code().await, Some(1001));
    }
    let exit = process.wait(crate::support::DEADLINE);
    assert_eq!(exit.status.code(), Some(0), "{}", exit.stderr);
    assert!(!exit.stderr.contains("not everything was finished"), "{}", exit.stderr);

    let positions = positions(&fleet.config).await;
    let process = fleet.start("all");
    let client = process.client();
    let placed = client.place(&customers[0], "after", &[(&product, 1)], 30_000).await;
    assert_eq!(placed["order"]["status"], "CONFIRMED", "{placed}");
    answered.insert("after".to_owned(), placed["order"]["id"].as_str().unwrap().to_owned());
    let ids: Vec<_> = answered.values().map(|id| id.parse::<OrderId>().unwrap()).collect();
    let totals = books::check(&fleet.config, &answered, &ids, OPENING_STOCK).await;
    assert_eq!((totals.orders, totals.confirmed), (answered.len(), answered.len()));
    assert_eq!(totals.duplicates, 0, "what was published before the stop was published again");
    for (group, positions) in GROUPS.iter().zip(&positions) {
        let left = left_over(&fleet.config, group, positions);
        assert!(left > 0, "at least the order after the start");
        let handled = eventually("the group has handled what was left", async || {
            let handled = handled(&process, group.name).await;
            (handled >= left).then_some(handled)
        })
        .await;
        assert_eq!(handled, left, "{} handled something for the second time", group.name);
    }
    assert_eq!(process.stop().status.code(), Some(0));
}
