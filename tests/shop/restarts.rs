//! What a stop and a start leave as they were.

use serde_json::json;

use crate::support::{PASSWORD, Socket, spawn_app, spawn_app_in};

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
