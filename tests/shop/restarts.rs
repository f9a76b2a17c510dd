//! What a stop and a start leave as they were.

use std::collections::HashSet;

use futures_util::future::join_all;
use serde_json::json;
use souk::app::{App, AppError, Ended};
use souk::config::Config;
use souk::store::operations::MarkerStore;
use souk::store::sqlite::SqliteOperationsStore;

use crate::support::{PASSWORD, Socket, eventually, spawn_app, spawn_app_in, spawn_app_with};

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

#[actix_rt::test]
async fn another_currency_than_that_of_the_prices_is_refused() {
    let app = spawn_app().await;
    let staff = app.staff().await;
    app.create_product(&staff, 1).await;
    let dir = tokio::task::spawn_blocking(move || app.stop()).await.unwrap();
    let mut config = Config::for_testing(dir.path());
    config.shop.currency = "USD".into();
    let Some(refused) = App::start(config).await.err() else { panic!("it started") };
    assert!(refused.is_usage());
    assert_eq!(refused.to_string(), "the shop's prices are in EUR, but shop.currency is USD: set it back");
}
