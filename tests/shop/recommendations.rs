//! Recommendations as a shopper sees them.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Account, Socket, TestApp, eventually, spawn_app, spawn_app_with};

const RECOMMENDED: &str = "query($id: ID!, $first: Int) { user(id: $id) {
    recommendations(first: $first) { product { id } score reason becauseOf { id name } } } }";

async fn recommended(app: &TestApp, account: &Account) -> Vec<Value> {
    let data = app.query(Some(&account.token), RECOMMENDED, json!({ "id": account.id, "first": 20 })).await;
    data["user"]["recommendations"].as_array().unwrap().clone()
}

fn products(recommended: &[Value]) -> Vec<&str> {
    recommended.iter().map(|one| one["product"]["id"].as_str().unwrap()).collect()
}

/// Waits until the list of products is one that is looked for.
async fn until(app: &TestApp, account: &Account, what: &str, check: impl Fn(&[&str]) -> bool) -> Vec<Value> {
    eventually(what, || async {
        let list = recommended(app, account).await;
        check(&products(&list)).then_some(list)
    })
    .await
}

async fn buy(app: &TestApp, account: &Account, key: &str, products: &[&str]) -> Value {
    let lines: Vec<(&str, i64)> = products.iter().map(|id| (*id, 1)).collect();
    let placed = app.place(account, key, &lines, 10_000).await;
    assert_eq!(placed["order"]["status"], "CONFIRMED", "{placed}");
    placed["order"].clone()
}

async fn rate(app: &TestApp, account: &Account, product: &str, liked: bool) -> Value {
    let query = "mutation($product: ID!, $liked: Boolean!) { recommendationRate(productId: $product, liked: $liked) {
        recommendations { product { id } } userErrors { code field } } }";
    let data = app.query(Some(&account.token), query, json!({ "product": product, "liked": liked })).await;
    data["recommendationRate"].clone()
}

#[actix_rt::test]
async fn what_two_customers_bought_together_is_recommended_to_a_third_with_its_reason() {
    let app = spawn_app().await;
    let staff = app.staff().await;
    let (lamp, bulb, desk) = (
        app.create_product(&staff, 100).await,
        app.create_product(&staff, 100).await,
        app.create_product(&staff, 100).await,
    );
    for key in ["one", "two"] {
        buy(&app, &app.sign_up().await, key, &[&lamp, &bulb]).await;
    }
    for key in ["three", "four", "five"] {
        buy(&app, &app.sign_up().await, key, &[&desk]).await;
    }
    let third = app.sign_up().await;
    // Nothing is known of them yet: what is popular.
    eventually("what is popular", || async {
        let list = recommended(&app, &third).await;
        let best = list.first()?;
        (best["product"]["id"] == desk && best["reason"] == "Popular with other customers").then_some(())
    })
    .await;

    let order = buy(&app, &third, "lamp", &[&lamp]).await;
    let list = until(&app, &third, "the bulb for the lamp", |list| list.first() == Some(&bulb.as_str())).await;
    assert_eq!(products(&list), [bulb.as_str(), desk.as_str()], "what was just bought is not recommended");
    assert_eq!(list[0]["becauseOf"][0]["id"], lamp.as_str());
    let reason = format!("Often bought together with {}", list[0]["becauseOf"][0]["name"].as_str().unwrap());
    assert_eq!(list[0]["reason"], reason.as_str());
    assert!(list[0]["score"].as_f64().unwrap() > list[1]["score"].as_f64().unwrap());

    // A cancelled order was never bought.
    let cancel = "mutation($id: ID!) { orderCancel(id: $id) { order { status } } }";
    app.query(Some(&third.token), cancel, json!({ "id": order["id"] })).await;
    until(&app, &third, "the lamp again", |list| list.contains(&lamp.as_str())).await;
}

#[actix_rt::test]
async fn what_is_sold_out_archived_or_disliked_is_not_recommended() {
    let app = spawn_app().await;
    let staff = app.staff().await;
    let (scarce, old, ugly, fine) = (
        app.create_product(&staff, 1).await,
        app.create_product(&staff, 100).await,
        app.create_product(&staff, 100).await,
        app.create_product(&staff, 100).await,
    );
    let reader = app.sign_up().await;
    until(&app, &reader, "all of the shop", |list| list.len() == 4).await;
    buy(&app, &app.sign_up().await, "last piece", &[&scarce]).await;
    let archive = "mutation($id: ID!) { productArchive(id: $id, expectedVersion: 1) { product { id } } }";
    app.query(Some(&staff.token), archive, json!({ "id": old })).await;
    until(&app, &reader, "what can be bought", |list| {
        list.len() == 2 && list.contains(&ugly.as_str()) && list.contains(&fine.as_str())
    })
    .await;
    let rated = rate(&app, &reader, &ugly, false).await;
    assert_eq!(products(rated["recommendations"].as_array().unwrap()), [fine.as_str()]);
    assert_eq!(products(&recommended(&app, &reader).await), [fine.as_str()]);
    let rated = rate(&app, &reader, &ugly, true).await;
    assert_eq!(rated["recommendations"].as_array().unwrap().len(), 2, "the last word counts");
    let unknown = rate(&app, &reader, "prd_00000000000000000000000009", true).await;
    assert_eq!(unknown["userErrors"], json!([{ "code": "NOT_FOUND", "field": ["productId"] }]));
}

#[actix_rt::test]
async fn what_is_used_up_may_be_bought_again() {
    let app = spawn_app_with(|config| {
        config.limits.enabled = false;
        config.recommendations.consumable_categories = vec!["Tests".into()];
    })
    .await;
    let product = app.create_product(&app.staff().await, 100).await;
    let customer = app.sign_up().await;
    buy(&app, &customer, "first", &[&product]).await;
    let list = eventually("the reason to buy it again", || async {
        let list = recommended(&app, &customer).await;
        (list.first()?["reason"] == "You have bought it before").then_some(list)
    })
    .await;
    assert_eq!(products(&list), [product.as_str()]);
}

#[actix_rt::test]
async fn recommendations_are_their_owners_and_staffs_and_nobody_has_none() {
    let app = spawn_app().await;
    let staff = app.staff().await;
    app.create_product(&staff, 5).await;
    let [owner, stranger] = [app.sign_up().await, app.sign_up().await];
    let ask = async |token| app.answer(token, RECOMMENDED, json!({ "id": owner.id })).await;
    assert_eq!(ask(Some(&staff.token)).await["data"]["user"]["recommendations"].as_array().unwrap().len(), 1);
    assert_eq!(ask(Some(&stranger.token)).await["data"]["user"], Value::Null);
    assert_eq!(ask(None).await["errors"][0]["extensions"]["code"], "UNAUTHENTICATED");
    let nobody = app.query(None, "{ me { recommendations { score } } }", json!({})).await;
    assert_eq!(nobody["me"], Value::Null);
}

#[actix_rt::test]
async fn an_order_and_a_rating_are_seen_live() {
    let app = spawn_app().await;
    let staff = app.staff().await;
    let (one, other, third) = (
        app.create_product(&staff, 100).await,
        app.create_product(&staff, 100).await,
        app.create_product(&staff, 100).await,
    );
    let customer = app.sign_up().await;
    let mut socket = Socket::connect(app.public, Some(&customer.token)).await;
    let query = "subscription { recommendationsUpdated { product { id } reason becauseOf { id } } }";
    let updates = socket.subscribe(query, json!({})).await;
    // Nobody tells when the stream is live: ratings go back and forth until it answers.
    let mut liked = false;
    while tokio::time::timeout(Duration::from_millis(300), socket.data_of(&updates)).await.is_err() {
        liked = !liked;
        rate(&app, &customer, &third, liked).await;
    }
    rate(&app, &customer, &third, false).await;
    buy(&app, &customer, "live", &[&one]).await;
    until_live(&mut socket, &updates, &[&other]).await;
    rate(&app, &customer, &other, false).await;
    until_live(&mut socket, &updates, &[]).await;
}

#[actix_rt::test]
async fn every_order_changes_its_buyers_recommendations() {
    let app = spawn_app().await;
    let staff = app.staff().await;
    let mut stocked = Vec::new();
    for _ in 0..5 {
        stocked.push(app.create_product(&staff, 100).await);
    }
    let customer = app.sign_up().await;
    until(&app, &customer, "all of the shop", |list| list.len() == stocked.len()).await;
    for product in &stocked {
        buy(&app, &customer, product, &[product]).await;
        until(&app, &customer, "others than what was bought", |list| !list.contains(&product.as_str())).await;
    }
}

/// Waits for the update with this list; those of earlier changes may come before it.
async fn until_live(socket: &mut Socket, updates: &str, expected: &[&str]) {
    loop {
        let update = socket.data_of(updates).await;
        if products(update["recommendationsUpdated"].as_array().unwrap()) == expected {
            return;
        }
    }
}
