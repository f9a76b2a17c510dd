//! What a stop and a start leave as they were.

use std::collections::HashSet;

use futures_util::future::join_all;
use serde_json::json;

use crate::support::{PASSWORD, Socket, spawn_app, spawn_app_in, spawn_app_with};

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
