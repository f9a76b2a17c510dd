//! What a stop and a start leave as they were.

use std::collections::HashSet;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::future::join_all;
use serde_json::{Value, json};
use souk::app::{App, AppError, DEMO_PASSWORD, Ended};
use souk::config::{Config, EventsKind, SecretUri, StoreKind};
use souk::store::operations::MarkerStore;
use souk::store::sqlite::SqliteOperationsStore;

use crate::support::client::Client;
use crate::support::{PASSWORD, Socket, eventually, servers, spawn_app, spawn_app_in, spawn_app_with};

#[actix_rt::test]
async fn orders_accounts_sessions_and_tokens_survive_a_restart() {
    let app = spawn_app().await;
    let staff = app.staff().await;
    let product = app.create_product(&staff, 5).await;
    let customer = app.sign_up().await;
    let placed = app.place(&customer, "kept", &[(&product, 2)], 0).await;
    let id = placed["order"]["id"].as_str().unwrap().to_owned();
    let dir = tokio::task::spawn_blocking(move || app.stop()).await.unwrap();

    let app = spawn_app_in(dir, |config| config.limits.enabled = false).await;
    let mut socket = Socket::connect(app.public, Some(&customer.token)).await;
    let query = "subscription($id: ID!) { orderUpdated(id: $id, after: 1) { event { status } } }";
    let updates = socket.subscribe(query, json!({ "id": id })).await;
    assert_eq!(socket.data_of(&updates).await["orderUpdated"]["event"]["status"], "CONFIRMED");
    assert_eq!(app.available(&product).await, 3);
    let again = app.place(&customer, "kept", &[(&product, 2)], 0).await;
    assert_eq!((&again["replayed"], again["order"]["id"].as_str()), (&json!(true), Some(id.as_str())));
    let refreshed = app
        .query(
            None,
            "mutation($token: String!) { tokenRefresh(refreshToken: $token) { session { user { email } } } }",
            json!({ "token": customer.refresh_token }),
        )
        .await;
    assert_eq!(refreshed["tokenRefresh"]["session"]["user"]["email"], json!(customer.email));
    app.sign_in(&customer.email, PASSWORD).await;
}

#[actix_rt::test]
async fn cursors_serve_after_a_restart_and_say_nothing_of_the_shop() {
    let app = spawn_app().await;
    let staff = app.staff().await;
    let product = app.create_product(&staff, 100).await;
    let customer = app.sign_up().await;
    for key in ["one", "two", "three"] {
        app.place(&customer, key, &[(&product, 1)], 30_000).await;
    }
    let page = "query($after: Cursor) { me { orders(first: 1, after: $after) { edges { cursor node { id } } } } }";
    let first = app.query(Some(&customer.token), page, json!({})).await["me"]["orders"]["edges"][0].clone();
    let stream =
        "subscription($after: Cursor) { orderUpdates(after: $after) { cursor order { id } event { sequence } } }";
    let mut socket = Socket::connect(app.public, Some(&customer.token)).await;
    let updates = socket.subscribe(stream, json!({})).await;
    // The stream begins beside the first of these, and may see of it only the verdict, or nothing.
    let mut change = Value::Null;
    for number in 0.. {
        app.place(&customer, &format!("streamed {number}"), &[(&product, 1)], 30_000).await;
        let seen = tokio::time::timeout(Duration::from_secs(1), socket.data_of(&updates)).await;
        change = seen.map(|mut seen| seen["orderUpdates"].take()).unwrap_or_default();
        if change["event"]["sequence"] == 1 {
            break;
        }
        assert!(number < 20, "the stream begins");
    }
    for cursor in [&first["cursor"], &change["cursor"]] {
        let bytes = URL_SAFE_NO_PAD.decode(cursor.as_str().unwrap()).unwrap();
        // Behind the version the position is sealed: no process without the shop's secret can make one.
        assert!(bytes[0] == 1 && bytes.len() > 60, "{cursor}");
    }
    let dir = tokio::task::spawn_blocking(move || app.stop()).await.unwrap();

    let app = spawn_app_in(dir, |config| config.limits.enabled = false).await;
    let next = app.query(Some(&customer.token), page, json!({ "after": first["cursor"] })).await;
    let next = &next["me"]["orders"]["edges"][0]["node"]["id"];
    assert!(next.is_string() && *next != first["node"]["id"]);
    let mut socket = Socket::connect(app.public, Some(&customer.token)).await;
    let updates = socket.subscribe(stream, json!({ "after": change["cursor"] })).await;
    let resumed = socket.data_of(&updates).await["orderUpdates"].clone();
    assert_eq!((&resumed["order"]["id"], &resumed["event"]["sequence"]), (&change["order"]["id"], &json!(2)));
    // A position that was not sealed opens nothing.
    let position = URL_SAFE_NO_PAD.encode("1");
    for bare in [URL_SAFE_NO_PAD.encode(format!("o:{position}")), position] {
        let refused = app.answer(Some(&customer.token), page, json!({ "after": bare })).await;
        assert_eq!(refused["errors"][0]["extensions"]["code"], "BAD_USER_INPUT", "{refused}");
    }
}

#[actix_rt::test]
async fn a_panic_of_the_order_writer_costs_no_placement_its_answer() {
    let app = spawn_app_with(|config| {
        config.limits.enabled = false;
        config.faults.enabled = true;
    })
    .await;
    let staff = app.staff().await;
    let product = app.create_product(&staff, 10_000).await;
    let customer = app.sign_up().await;
    let lines = [(product.as_str(), 1)];
    let keys: Vec<String> = (0..120).map(|n| format!("order-{n}")).collect();
    let placements = join_all(keys.iter().map(|key| app.place(&customer, key, &lines, 0)));
    let panics = async {
        for _ in 0..3 {
            let url = format!("http://{}/faults/orders.writer/panic", app.admin);
            assert!(app.http.post(url).send().await.unwrap().status().is_success());
        }
    };
    let (placed, ()) = futures_util::join!(placements, panics);
    let ids: HashSet<_> = placed.iter().map(|placed| placed["order"]["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), keys.len());
    assert!(placed.iter().all(|placed| placed["replayed"] == json!(false)), "each is its own order: {placed:?}");
}

#[actix_rt::test]
async fn a_stop_during_the_demo_fill_ends_the_start_and_a_shop_in_use_never_gets_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let config = |demo| Config { demo, ..Config::for_testing(dir.path()) };
    let marker = async || {
        let (operations, _) = SqliteOperationsStore::open_in(dir.path()).unwrap();
        operations.marker("demo-fill").await.unwrap()
    };
    let filling = eventually("the fill begins", async || (marker().await? == "filling").then_some(()));
    let stopped = App::start_unless(config(true), filling).await;
    assert!(matches!(stopped.err(), Some(AppError::Stopped)));
    assert_eq!(marker().await.as_deref(), Some("filling"));

    for demo in [false, true] {
        let app = App::start(config(demo)).await.unwrap();
        assert!(!app.has_demo_data());
        assert!(matches!(app.run_until(std::future::ready(())).await, Ended::Stopped));
        assert_eq!(marker().await.as_deref(), Some("abandoned"));
    }
}

/// An address that nobody listens at.
fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[actix_rt::test]
async fn an_order_that_waits_for_its_verdict_is_answered_before_the_process_ends() {
    let app = spawn_app_with(|config| {
        config.limits.enabled = false;
        config.events.kind = EventsKind::Kafka;
        config.events.brokers = vec![nobody().to_string()];
        config.shutdown_timeout_ms = 6_000;
    })
    .await;
    let staff = app.staff().await;
    let product = app.create_product(&staff, 5).await;
    let customer = app.sign_up().await;
    let client = Client::new(app.public);
    let lines = [(product.as_str(), 1)];
    let stopping = async {
        let count = "query { me { orders { totalCount } } }";
        let me =
            async || app.query(Some(&customer.token), count, json!({})).await["me"]["orders"]["totalCount"].clone();
        eventually("the order is stored", async || (me().await == json!(1)).then_some(())).await;
        tokio::task::spawn_blocking(move || app.stop()).await.unwrap()
    };
    let (placed, _) = futures_util::join!(client.place(&customer, "waits", &lines, 30_000), stopping);
    assert_eq!(placed["order"]["status"], "PENDING", "{placed}");
}

#[actix_rt::test]
async fn a_start_whose_supervision_gives_up_ends_and_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config { demo: true, ..Config::for_testing(dir.path()) };
    (config.admin.listen, config.faults.enabled, config.supervision.intensity) = (nobody(), true, 0);
    let panics = {
        let url = format!("http://{}/faults/orders.writer/panic", config.admin.listen);
        async move {
            eventually("the fault is taken", async || {
                let answer = reqwest::Client::new().post(&url).send().await.ok()?;
                (answer.status().as_u16() == 202).then_some(())
            })
            .await;
        }
    };
    let (started, ()) = futures_util::join!(App::start(config), panics);
    let Some(AppError::Escalated { who, .. }) = started.err() else { panic!("it started, or failed otherwise") };
    assert_eq!(who, "orders");
}

#[actix_rt::test]
async fn supervision_that_gives_up_during_a_stop_is_what_the_process_ended_by() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config { demo: true, ..Config::for_testing(dir.path()) };
    (config.faults.enabled, config.supervision.intensity) = (true, 0);
    (config.events.kind, config.events.brokers) = (EventsKind::Kafka, vec![nobody().to_string()]);
    let app = App::start(config).await.unwrap();
    let (client, admin) = (Client::new(app.public_address().unwrap()), app.admin_address());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let customer = client.sign_in("customer@demo.example", DEMO_PASSWORD).await;
    let products = client.query(None, "{ products(first: 1) { edges { node { id } } } }", json!({})).await;
    let product = products["products"]["edges"][0]["node"]["id"].as_str().unwrap().to_owned();
    let count = "query { me { orders { totalCount } } }";
    let placed =
        async || client.query(Some(&customer.token), count, json!({})).await["me"]["orders"]["totalCount"].clone();
    let before = placed().await;
    let giving_up = async {
        // A request that is waited for holds the stop up.
        eventually("the order is stored", async || (placed().await != before).then_some(())).await;
        drop(stop);
        eventually("the shop drains", async || {
            let ready: Value = reqwest::get(format!("http://{admin}/health/ready")).await.ok()?.json().await.ok()?;
            (ready["status"] == "draining").then_some(())
        })
        .await;
        let panic = format!("http://{admin}/faults/orders.writer/panic");
        assert_eq!(reqwest::Client::new().post(panic).send().await.unwrap().status().as_u16(), 202);
    };
    let lines = [(product.as_str(), 1)];
    let placing = client.place(&customer, "waits", &lines, 30_000);
    let (ended, placed, ()) = futures_util::join!(app.run_until(async { drop(stopped.await) }), placing, giving_up);
    assert!(matches!(&ended, Ended::Escalated { who, .. } if who == "orders"), "{ended:?}");
    assert_eq!(placed["order"]["status"], "PENDING", "what was accepted is answered all the same");
}

#[actix_rt::test]
async fn another_currency_than_that_of_the_prices_is_refused() {
    let app = spawn_app().await;
    let staff = app.staff().await;
    app.create_product(&staff, 1).await;
    let dir = tokio::task::spawn_blocking(move || app.stop()).await.unwrap();
    let mut config = Config::for_testing(dir.path());
    servers::use_for(&mut config, dir.path());
    config.shop.currency = "USD".into();
    let Some(refused) = App::start(config.clone()).await.err() else { panic!("it started") };
    assert!(refused.is_usage());
    assert_eq!(refused.to_string(), "the shop's prices are in EUR, but shop.currency is USD: set it back");
    servers::remove(&config);
}

#[actix_rt::test]
async fn while_a_store_is_waited_for_at_the_start_the_process_is_live_and_not_ready() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::for_testing(dir.path());
    config.admin.listen = nobody();
    config.store.kind = StoreKind::Mongodb;
    config.store.uri = SecretUri::new(format!("mongodb://{}/?replicaSet=rs0", nobody()));
    let admin = config.admin.listen;
    let seen = async {
        let get = async |path: &str| reqwest::get(format!("http://{admin}{path}")).await.ok();
        eventually("it is live", async || get("/health/live").await?.status().is_success().then_some(())).await;
        let ready = get("/health/ready").await.unwrap();
        assert_eq!(ready.status().as_u16(), 503);
        let ready: Value = ready.json().await.unwrap();
        assert_eq!(ready["status"], "starting");
        let orders = json!({ "state": "unknown", "latencyMs": 0, "required": true });
        assert_eq!(
            (&ready["dependencies"]["store.orders"], ready["dependencies"].as_object().unwrap().len()),
            (&orders, 8)
        );
        assert!(get("/metrics").await.unwrap().status().is_success());
    };
    assert!(matches!(App::start_unless(config, seen).await.err(), Some(AppError::Stopped)));
}
