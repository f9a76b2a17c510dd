//! Demo data, when several processes of a new shop start at once.

use serde_json::{Value, json};
use souk::app::DEMO_PASSWORD;

use super::fleet::Fleet;
use crate::support::Client;
use crate::support::process::ShopProcess;

const TOTALS: &str =
    "{ products(first: 1) { totalCount } users(first: 1) { totalCount } orders(first: 1) { totalCount } }";

fn new_shop() -> Fleet {
    let mut fleet = Fleet::new();
    fleet.set("SOUK__DEMO", "true");
    fleet
}

async fn totals(client: &Client) -> Value {
    let admin = client.sign_in("admin@demo.example", DEMO_PASSWORD).await;
    client.query(Some(&admin.token), TOTALS, json!({})).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs SOUK_TEST_MONGODB_URI, SOUK_TEST_KAFKA_BROKERS and SOUK_TEST_REDIS_URI; scripts/test gives them"]
async fn two_processes_that_start_at_once_fill_one_shop_as_one_does() {
    let alone = new_shop();
    let expected = totals(&alone.start("all").client()).await;
    assert!(expected["orders"]["totalCount"].as_i64().unwrap() > 0, "{expected}");
    let shared = new_shop();
    let processes: Vec<ShopProcess> = std::thread::scope(|scope| {
        let starting: Vec<_> = (0..2).map(|_| scope.spawn(|| shared.start("all"))).collect();
        starting.into_iter().map(|process| process.join().unwrap()).collect()
    });
    for process in &processes {
        assert_eq!(totals(&process.client()).await, expected);
    }
}
