//! Processes that have a part of the roles each, and what a gateway sees of the work of others.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use souk::domain::ids::OrderId;

use super::books;
use super::fleet::Fleet;
use crate::support::{Account, Client, Socket, eventually};

const UPDATES: &str = "subscription { orderUpdates { order { id status } event { status } } }";

async fn place_one(gateway: &Client, customer: &Account, product: &str, key: &str) -> Value {
    gateway.place(customer, key, &[(product, 1)], 20_000).await["order"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs SOUK_TEST_MONGODB_URI, SOUK_TEST_KAFKA_BROKERS and SOUK_TEST_REDIS_URI; scripts/test gives them"]
async fn roles_may_be_spread_over_processes_and_a_live_update_reaches_a_subscriber_on_any_gateway() {
    let fleet = Fleet::new();
    let one = fleet.start("gateway");
    let other = fleet.start("gateway,campaigns");
    let worker = fleet.start("inventory,orders");
    let rest = fleet.start("recommendations,notifications");
    let (here, there) = (one.client(), other.client());
    let staff = fleet.staff(&here).await;
    let product = here.create_product(&staff, 100).await;
    let customer = there.sign_up().await;

    let mut socket = Socket::connect(other.public, Some(&customer.token)).await;
    let updates = socket.subscribe(UPDATES, json!({})).await;
    let order = place_one(&here, &customer, &product, "k").await;
    assert_eq!(order["status"], "CONFIRMED");
    let mut seen = BTreeSet::new();
    while seen.len() < 2 {
        let update = socket.data_of(&updates).await;
        assert_eq!(update["orderUpdates"]["order"]["id"], order["id"]);
        seen.insert(update["orderUpdates"]["event"]["status"].as_str().unwrap().to_owned());
    }
    assert_eq!(seen, BTreeSet::from(["PENDING".to_owned(), "CONFIRMED".to_owned()]));
    // The key is the shop's, not a process's.
    let again = there.place(&customer, "k", &[(&product, 1)], 20_000).await;
    assert_eq!((&again["replayed"], &again["order"]["id"]), (&json!(true), &order["id"]));

    let inbox = "{ me { notifications(first: 20) { nodes { kind } } } }";
    eventually("the welcome and the confirmation are in the inbox", async || {
        let data = here.query(Some(&customer.token), inbox, json!({})).await;
        (data["me"]["notifications"]["nodes"].as_array()?.len() >= 2).then_some(())
    })
    .await;
    for process in [one, other, worker, rest] {
        let exit = process.stop();
        assert_eq!(exit.status.code(), Some(0), "{}", exit.stderr);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs SOUK_TEST_MONGODB_URI, SOUK_TEST_KAFKA_BROKERS and SOUK_TEST_REDIS_URI; scripts/test gives them"]
async fn stock_is_not_oversold_by_buyers_at_two_processes() {
    let fleet = Fleet::new();
    let processes = [fleet.start("all"), fleet.start("all")];
    let clients: Vec<Client> = processes.iter().map(|process| process.client()).collect();
    let staff = fleet.staff(&clients[0]).await;
    let product = clients[0].create_product(&staff, 10).await;
    let mut buyers = Vec::new();
    for _ in 0..40 {
        buyers.push(clients[0].sign_up().await);
    }
    let calls = buyers.iter().enumerate().map(|(number, buyer)| {
        let (client, product) = (&clients[number % 2], &product);
        async move { place_one(client, buyer, product, "k").await["status"].as_str().unwrap().to_owned() }
    });
    let statuses = futures_util::future::join_all(calls).await;
    let count = |status: &str| statuses.iter().filter(|known| *known == status).count();
    assert_eq!((count("CONFIRMED"), count("REJECTED")), (10, 30), "{statuses:?}");
    eventually("both processes show that nothing is left", async || {
        let left = [clients[0].available(&product).await, clients[1].available(&product).await];
        (left == [0, 0]).then_some(())
    })
    .await;
    drop(processes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs SOUK_TEST_MONGODB_URI, SOUK_TEST_KAFKA_BROKERS and SOUK_TEST_REDIS_URI; scripts/test gives them"]
async fn a_killed_process_leaves_its_partitions_to_the_others_within_seconds() {
    let fleet = Fleet::new();
    let doomed = fleet.start("all");
    let left = fleet.start("all");
    let client = left.client();
    let staff = fleet.staff(&client).await;
    let product = client.create_product(&staff, 1_000).await;
    let customer = client.sign_up().await;
    let mut ids = BTreeMap::new();
    for number in 0..10 {
        let key = format!("before {number}");
        ids.insert(key.clone(), place_one(&client, &customer, &product, &key).await);
    }
    doomed.kill();
    for number in 0..20 {
        let key = format!("after {number}");
        let order = place_one(&client, &customer, &product, &key).await;
        assert_eq!(order["status"], "CONFIRMED");
        ids.insert(key, order);
    }
    let answered: BTreeMap<_, _> =
        ids.into_iter().map(|(key, order)| (key, order["id"].as_str().unwrap().to_owned())).collect();
    let orders: Vec<_> = answered.values().map(|id| id.parse::<OrderId>().unwrap()).collect();
    let totals = books::check(&fleet.config, &answered, &orders, 1_000).await;
    assert_eq!((totals.orders, totals.confirmed), (30, 30));
    assert_eq!(left.stop().status.code(), Some(0));
}
