//! A server that is away: what goes on without it, what is refused and how soon, and what is made up for when it is back.
//!
//! The servers are those of the set that `SOUK_SERVERS_DIR` names, and are killed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use souk::domain::ids::OrderId;
use souk::store::cache::redis::RedisCache;
use souk::store::cache::{Entry, SharedCache};
use tokio::sync::watch;

use super::books;
use super::fleet::{Fleet, servers_script};
use super::load::{Answers, Load};
use crate::support::client::{ORDER_PLACE, place_variables};
use crate::support::process::ShopProcess;
use crate::support::{Account, Client, eventually, eventually_within};

const OPENING_STOCK: i32 = 100_000;
const CUSTOMERS: usize = 4;

/// A server that was killed; it comes back at the latest when this is dropped.
struct Away(Option<&'static str>);

impl Away {
    fn kill(server: &'static str) -> Self {
        servers_script("kill", server);
        Self(Some(server))
    }

    fn back(mut self) {
        self.come_back();
    }

    fn come_back(&mut self) {
        if let Some(server) = self.0.take() {
            servers_script("up", server);
        }
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        self.come_back();
    }
}

struct Scene {
    fleet: Fleet,
    process: ShopProcess,
    client: Client,
    product: String,
    customers: Vec<Account>,
}

impl Scene {
    async fn new() -> Self {
        let fleet = Fleet::new();
        let process = fleet.start("all");
        let client = process.client();
        let (product, customers) = fleet.furnish(&client, OPENING_STOCK, CUSTOMERS).await;
        Self { fleet, process, client, product, customers }
    }

    /// What the process says of itself.
    async fn readiness(&self) -> (u16, Value) {
        let answer = self.client.http.get(format!("http://{}/health/ready", self.process.admin)).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    async fn becomes(&self, status: u16, word: &str) {
        eventually(&format!("readiness is {word}"), async || {
            let (found, report) = self.readiness().await;
            (found == status && report["status"] == word).then_some(())
        })
        .await;
    }

    /// The books balance and the process has stood all of it.
    async fn check(self, answered: &BTreeMap<String, String>) -> books::Totals {
        let ids: Vec<_> = answered.values().map(|id| id.parse::<OrderId>().unwrap()).collect();
        let totals = books::check(&self.fleet.config, answered, &ids, OPENING_STOCK).await;
        let exit = self.process.stop();
        assert_eq!(exit.status.code(), Some(0), "{}", exit.stderr);
        totals
    }
}

/// A customer who looks around and orders; the answered orders by key.
async fn look_and_order(client: &Client, customer: &Account, product: &str, rounds: usize) -> BTreeMap<String, String> {
    let reads = "query($id: ID!) { products(first: 5) { totalCount nodes { id available } } product(id: $id) { id }
        me { recommendations(first: 5) { product { id } } orders(first: 10) { totalCount nodes { id status } } } }";
    let mut answered = BTreeMap::new();
    for round in 0..rounds {
        let seen = client.query(Some(&customer.token), reads, json!({ "id": product })).await;
        assert_eq!(seen["product"]["id"], product);
        assert_eq!(seen["me"]["orders"]["totalCount"], round, "{seen}");
        let key = format!("{} {round}", customer.id);
        let placed = client.place(customer, &key, &[(product, 1)], 30_000).await;
        assert_eq!(placed["order"]["status"], "CONFIRMED", "{placed}");
        answered.insert(key, placed["order"]["id"].as_str().unwrap().to_owned());
    }
    answered
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs SOUK_TEST_REDIS_URI and a Redis that nobody else uses meanwhile; scripts/test gives them"]
async fn what_redis_had_received_while_it_stood_still_is_no_younger_for_it() {
    let uri = std::env::var("SOUK_TEST_REDIS_URI").unwrap();
    let prefix = format!("stalled{}:", std::process::id());
    let cache = RedisCache::open(&uri, &prefix).unwrap();
    let entry = |key: &str, ttl_ms| Entry {
        key: key.into(),
        version: 1,
        value: "1|1|value".into(),
        ttl: Duration::from_millis(ttl_ms),
    };
    cache.put(vec![entry("before", 20_000)]).await;
    assert!(cache.get(vec!["before".into()]).await[0].is_some());
    let patient = redis::AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(20)));
    let client = redis::Client::open(uri.as_str()).unwrap();
    let mut server = client.get_multiplexed_async_connection_with_config(&patient).await.unwrap();
    let () = redis::cmd("CLIENT").arg("PAUSE").arg(1_000).query_async(&mut server).await.unwrap();
    // Nobody hears that they arrived.
    cache.put(vec![entry("short", 400), entry("long", 20_000)]).await;
    // Answered once it goes on, right after what came before.
    let mut read = redis::cmd("MGET");
    for key in ["short", "long"] {
        read.arg(format!("{prefix}cache:{key}"));
    }
    let kept: (Option<String>, Option<String>) = read.query_async(&mut server).await.unwrap();
    assert_eq!(kept, (None, Some("1|1|value".into())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs SOUK_TEST_MONGODB_URI, SOUK_TEST_KAFKA_BROKERS, SOUK_TEST_REDIS_URI and SOUK_SERVERS_DIR; scripts/test gives them"]
async fn without_redis_for_a_whole_run_no_read_and_no_order_fails() {
    let redis = Away::kill("redis");
    let scene = Scene::new().await;
    scene.becomes(200, "degraded").await;
    let rounds = 15;
    let buying = scene.customers.iter().map(|customer| look_and_order(&scene.client, customer, &scene.product, rounds));
    let answered: BTreeMap<_, _> = join_all(buying).await.into_iter().flatten().collect();
    let (status, report) = scene.readiness().await;
    assert_eq!((status, &report["dependencies"]["cache"]["state"]), (200, &json!("down")), "{report}");
    redis.back();
    scene.becomes(200, "ready").await;
    let totals = scene.check(&answered).await;
    assert_eq!((totals.orders, totals.confirmed), (CUSTOMERS * rounds, CUSTOMERS * rounds));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs SOUK_TEST_MONGODB_URI, SOUK_TEST_KAFKA_BROKERS, SOUK_TEST_REDIS_URI and SOUK_SERVERS_DIR; scripts/test gives them"]
async fn without_mongodb_orders_are_refused_soon_and_those_that_were_accepted_finish_when_it_is_back() {
    let scene = Scene::new().await;
    let (stop, stopping) = watch::channel(false);
    let load = Load {
        gateways: watch::Sender::new(vec![scene.process.public]).subscribe(),
        stop: stopping,
        answers: Arc::<std::sync::Mutex<Answers>>::default(),
        http: reqwest::Client::builder().timeout(Duration::from_secs(12)).build().unwrap(),
        products: Arc::new(vec![scene.product.clone()]),
    };
    let customers: Vec<_> = scene.customers.iter().cloned().zip(0..).collect();
    let workers: Vec<_> =
        customers.into_iter().map(|(account, number)| tokio::spawn(load.clone().customer(account, number))).collect();
    let answered = || load.answers.lock().unwrap().orders.len();
    eventually("orders are accepted", async || (answered() > 20).then_some(())).await;

    let mongo = Away::kill("mongo");
    scene.becomes(503, "unavailable").await;
    let refusals = async {
        for number in 0..10 {
            let lines = [(scene.product.as_str(), 1)];
            let variables = place_variables(&format!("refused {number}"), &lines, 1_000);
            let refused = scene.client.answer(Some(&scene.customers[0].token), ORDER_PLACE, variables).await;
            assert_eq!(refused["errors"][0]["extensions"]["code"], "UNAVAILABLE", "{refused}");
        }
    };
    // Well below the 2 s that each would take to search for the server.
    tokio::time::timeout(Duration::from_secs(10), refusals).await.expect("ten refusals come soon");
    let (status, report) = scene.readiness().await;
    assert_eq!((status, &report["dependencies"]["store.orders"]["state"]), (503, &json!("down")), "{report}");

    mongo.back();
    scene.becomes(200, "ready").await;
    let before = answered();
    eventually("orders are accepted again", async || (answered() > before + 20).then_some(())).await;
    stop.send_replace(true);
    for worker in workers {
        worker.await.unwrap();
    }
    let answers = std::mem::take(&mut *load.answers.lock().unwrap());
    assert!(answers.refused > 0, "nobody noticed");
    let totals = scene.check(&answers.orders).await;
    assert_eq!(totals.confirmed, answers.orders.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs SOUK_TEST_MONGODB_URI, SOUK_TEST_KAFKA_BROKERS, SOUK_TEST_REDIS_URI and SOUK_SERVERS_DIR; scripts/test gives them"]
async fn without_kafka_orders_are_accepted_and_confirmed_when_it_is_back() {
    let scene = Scene::new().await;
    let customer = &scene.customers[0];
    let lines = [(scene.product.as_str(), 1)];
    let decided = scene.client.place(customer, "before", &lines, 30_000).await;
    assert_eq!(decided["order"]["status"], "CONFIRMED");

    let kafka = Away::kill("kafka");
    scene.becomes(200, "degraded").await;
    let mut answered = BTreeMap::new();
    for number in 0..20 {
        let key = format!("away {number}");
        let placed = scene.client.place(customer, &key, &lines, 0).await;
        assert_eq!((&placed["order"]["status"], &placed["userErrors"]), (&json!("PENDING"), &json!([])), "{placed}");
        answered.insert(key, placed["order"]["id"].as_str().unwrap().to_owned());
    }
    let (_, report) = scene.readiness().await;
    assert_eq!(report["dependencies"]["events"]["state"], "down", "{report}");
    for id in answered.values() {
        assert_eq!(scene.client.order(customer, id).await["status"], "PENDING", "nobody can have decided it");
    }

    kafka.back();
    for id in answered.values() {
        eventually_within(Duration::from_secs(60), "the order is CONFIRMED", async || {
            (scene.client.order(customer, id).await["status"] == "CONFIRMED").then_some(())
        })
        .await;
    }
    scene.becomes(200, "ready").await;
    answered.insert("before".to_owned(), decided["order"]["id"].as_str().unwrap().to_owned());
    let totals = scene.check(&answered).await;
    assert_eq!(totals.confirmed, answered.len());
}
