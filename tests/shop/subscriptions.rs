//! Live updates that survive a reconnect: nothing is missed and nothing comes twice.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::support::{Account, Socket, TestApp, eventually, spawn_app};

/// One customer's orders placed one after the other until told to stop; their number.
async fn place_steadily(app: &TestApp, customer: &Account, product: &str, orders: usize) {
    for n in 0..orders {
        let placed = app.place(customer, &format!("steady-{n}"), &[(product, 1)], 0).await;
        assert!(placed["order"].is_object(), "{placed}");
    }
}

#[actix_rt::test]
async fn order_updates_resumed_by_cursor_over_200_disconnects_miss_and_repeat_nothing() {
    const ORDERS: usize = 400;
    let app = spawn_app().await;
    let staff = app.staff().await;
    let product = app.create_product(&staff, 100_000).await;
    let customer = app.sign_up().await;
    let query = "subscription($after: Cursor) { orderUpdates(after: $after) { cursor event { sequence status } order { id } } }";

    // The cursor from which everything is to be seen: that of an order before the load.
    let mut socket = Socket::connect(app.public, Some(&customer.token)).await;
    let updates = socket.subscribe(query, json!({})).await;
    // The stream is live once it answers the first change.
    let first = app.place(&customer, "opening", &[(&product, 1)], 10_000).await;
    let mut cursor = Value::Null;
    for _ in 0..2 {
        let update = socket.data_of(&updates).await;
        assert_eq!(update["orderUpdates"]["order"]["id"], first["order"]["id"]);
        cursor = update["orderUpdates"]["cursor"].clone();
    }
    drop(socket);

    let watch = async {
        let mut random = SmallRng::seed_from_u64(20);
        let mut seen: Vec<(String, i64)> = Vec::new();
        let mut disconnects = 0;
        while seen.len() < 2 * ORDERS {
            let mut socket = Socket::connect(app.public, Some(&customer.token)).await;
            let updates = socket.subscribe(query, json!({ "after": cursor })).await;
            let take = if disconnects < 200 { random.random_range(0..7) } else { usize::MAX };
            let mut taken = 0;
            while taken < take && seen.len() < 2 * ORDERS {
                let update = socket.data_of(&updates).await["orderUpdates"].take();
                let order = update["order"]["id"].as_str().unwrap().to_owned();
                seen.push((order, update["event"]["sequence"].as_i64().unwrap()));
                cursor = update["cursor"].clone();
                taken += 1;
            }
            disconnects += 1;
        }
        (seen, disconnects)
    };
    let ((seen, disconnects), ()) = tokio::join!(watch, place_steadily(&app, &customer, &product, ORDERS));
    assert!(disconnects >= 100, "the stream was cut {disconnects} times");
    let distinct: std::collections::HashSet<_> = seen.iter().collect();
    assert_eq!(distinct.len(), seen.len(), "no change came twice");
    let mut of_order = std::collections::HashMap::<&str, i64>::new();
    for (order, sequence) in &seen {
        let last = of_order.entry(order).or_default();
        assert_eq!(*sequence, *last + 1, "the changes of an order come in sequence");
        *last = *sequence;
    }
    assert!(of_order.values().all(|last| *last == 2));
}

#[actix_rt::test]
async fn order_updated_resumed_after_any_sequence_goes_on_with_the_next() {
    let app = spawn_app().await;
    let staff = app.staff().await;
    let product = app.create_product(&staff, 10).await;
    let customer = app.sign_up().await;
    let placed = app.place(&customer, "one", &[(&product, 1)], 10_000).await;
    let id = placed["order"]["id"].clone();
    let query = "subscription($id: ID!, $after: Int) { orderUpdated(id: $id, after: $after) { event { sequence } } }";
    let mut socket = Socket::connect(app.public, Some(&customer.token)).await;
    for after in [None, Some(0), Some(1), Some(2)] {
        let expected: &[i64] = match after {
            None | Some(1) => &[2],
            Some(0) => &[1, 2],
            Some(_) => &[],
        };
        let operation = socket.subscribe(query, json!({ "id": id, "after": after })).await;
        for sequence in expected {
            let update = socket.data_of(&operation).await;
            assert_eq!(update["orderUpdated"]["event"]["sequence"], *sequence, "after {after:?}");
        }
        socket.complete(&operation).await;
    }
    let beyond = socket.subscribe(query, json!({ "id": id, "after": 3 })).await;
    let refusal = socket.next_of(&beyond).await.unwrap().to_string();
    assert!(refusal.contains("BAD_USER_INPUT") && refusal.contains(r#""field":["after"]"#), "{refusal}");
    let last = socket.subscribe(query, json!({ "id": id, "after": 2 })).await;
    let ship = "mutation($id: ID!) { orderShip(id: $id) { userErrors { code } } }";
    app.query(Some(&staff.token), ship, json!({ "id": id })).await;
    assert_eq!(socket.data_of(&last).await["orderUpdated"]["event"]["sequence"], 3);
}

#[actix_rt::test]
async fn stock_is_pushed_to_whoever_watches_the_product() {
    let app = spawn_app().await;
    let staff = app.staff().await;
    let product = app.create_product(&staff, 10).await;
    let customer = app.sign_up().await;
    let mut socket = Socket::connect(app.public, None).await;
    let query = "subscription($ids: [ID!]!) { stockChanged(productIds: $ids) { id available } }";
    let stock = socket.subscribe(query, json!({ "ids": [product] })).await;
    // The subscription has no first message: orders go on until one is seen.
    let ordering = async {
        for n in 0.. {
            let placed = app.place(&customer, &format!("watched-{n}"), &[(&product, 1)], 10_000).await;
            if placed["order"]["status"] != "CONFIRMED" {
                break;
            }
        }
    };
    let watching = async {
        let mut last = 10;
        while last > 0 {
            let changed = socket.data_of(&stock).await["stockChanged"].take();
            assert_eq!(changed["id"], json!(product));
            let available = changed["available"].as_i64().unwrap();
            assert!(available < last, "stock only falls here: {last} then {available}");
            last = available;
        }
    };
    tokio::join!(ordering, watching);
}

#[actix_rt::test]
async fn a_revoked_session_closes_its_socket_with_4403() {
    let app = spawn_app().await;
    let customer = app.sign_up().await;
    let mut socket = Socket::connect(app.public, Some(&customer.token)).await;
    socket.subscribe("subscription { orderUpdates { cursor } }", json!({})).await;
    let sign_out = "mutation($token: String!) { signOut(refreshToken: $token) { signedOut } }";
    app.query(Some(&customer.token), sign_out, json!({ "token": customer.refresh_token })).await;
    assert_eq!(socket.close_code().await, Some(4403));
}

#[actix_rt::test]
async fn a_stop_closes_sockets_with_1001() {
    let app = spawn_app().await;
    let mut socket = Socket::connect(app.public, None).await;
    let stopping = tokio::task::spawn_blocking(move || app.stop());
    assert_eq!(socket.close_code().await, Some(1001));
    stopping.await.unwrap();
}

#[actix_rt::test]
async fn supervision_is_pushed_to_staff() {
    let app = crate::support::spawn_app_with(|config| config.faults.enabled = true).await;
    let staff = app.staff().await;
    let mut socket = Socket::connect(app.public, Some(&staff.token)).await;
    let query = "subscription { supervisionChanged { name children { name state restarts lastPanic } } }";
    let tree = socket.subscribe(query, json!({})).await;
    socket.data_of(&tree).await;
    let fault = format!("http://{}/faults/products/panic", app.admin);
    assert_eq!(app.http.post(fault).send().await.unwrap().status(), 202);
    loop {
        let status = socket.data_of(&tree).await["supervisionChanged"].take();
        let products =
            status["children"].as_array().unwrap().iter().find(|child| child["name"] == "products").unwrap().clone();
        if products["restarts"] == 1 && products["state"] == "RUNNING" {
            assert!(products["lastPanic"].as_str().unwrap().contains("injected fault"));
            break;
        }
    }
    eventually("the products actor answers again", async || {
        let answer = app.answer(None, "{ categories { name } }", json!({})).await;
        answer.get("errors").is_none().then_some(())
    })
    .await;
}
