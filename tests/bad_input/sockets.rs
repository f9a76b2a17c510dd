//! Subscriptions with bad input.

use serde_json::{Value, json};

use crate::support::Socket;
use crate::world::{MISSING_ORDER, MISSING_PRODUCT, World};

/// What the row shows, whose token, the document, its variables, the code, a part of the message.
type SocketRow<'a> = (&'a str, Option<&'a str>, &'a str, Value, &'a str, &'a str);

const ONE: &str = "subscription($id: ID!, $after: Int) { orderUpdated(id: $id, after: $after) { cursor } }";
const ALL: &str = "subscription($after: Cursor) { orderUpdates(after: $after) { cursor } }";
const STOCK: &str = "subscription($ids: [ID!]!) { stockChanged(productIds: $ids) { id } }";

#[actix_rt::test]
async fn a_subscription_with_bad_input_says_so_once_and_is_over() {
    let world = World::new().await;
    let before = world.stored().await;
    let (anonymous, customer, stranger) =
        (None, Some(world.customer.token.as_str()), Some(world.stranger.token.as_str()));
    let order = world.order.as_str();
    let bad = "BAD_USER_INPUT";
    let invalid = "GRAPHQL_VALIDATION_FAILED";
    let many = vec![world.product.clone(); 101];
    let rows: Vec<SocketRow<'_>> = vec![
        ("negative after", customer, ONE, json!({ "id": order, "after": -1 }), bad, "after"),
        ("after past 2^31 - 1", customer, ONE, json!({ "id": order, "after": 2_147_483_648_u32 }), bad, ""),
        ("a text for after", customer, ONE, json!({ "id": order, "after": "1" }), bad, ""),
        ("missing order", customer, ONE, json!({ "id": MISSING_ORDER }), bad, "id"),
        ("foreign order", stranger, ONE, json!({ "id": order }), bad, "id"),
        ("malformed order", customer, ONE, json!({ "id": "ord" }), bad, "id"),
        ("no id", customer, ONE, json!({}), bad, ""),
        ("orderUpdated: anonymous", anonymous, ONE, json!({ "id": order }), "UNAUTHENTICATED", ""),
        ("orderUpdates: anonymous", anonymous, ALL, json!({}), "UNAUTHENTICATED", ""),
        ("broken cursor", customer, ALL, json!({ "after": "x" }), bad, "after"),
        ("empty cursor", customer, ALL, json!({ "after": "" }), bad, "after"),
        ("cursor of users", customer, ALL, json!({ "after": world.user_cursor }), bad, "after"),
        ("a position that is not sealed", customer, ALL, json!({ "after": "Yzpub3RoaW5n" }), bad, "after"),
        ("no products", anonymous, STOCK, json!({ "ids": [] }), bad, "productIds"),
        ("101 products", anonymous, STOCK, json!({ "ids": many }), bad, "productIds"),
        ("unknown products", anonymous, STOCK, json!({ "ids": [MISSING_PRODUCT, "x", ""] }), bad, "productIds"),
        ("null products", anonymous, STOCK, json!({ "ids": null }), bad, ""),
        ("a null product", anonymous, STOCK, json!({ "ids": [null] }), bad, ""),
        (
            "supervision: anonymous",
            anonymous,
            "subscription { supervisionChanged { name } }",
            json!({}),
            "UNAUTHENTICATED",
            "",
        ),
        ("supervision: customer", customer, "subscription { supervisionChanged { name } }", json!({}), "FORBIDDEN", ""),
        (
            "recommendationsUpdated: anonymous",
            anonymous,
            "subscription { recommendationsUpdated { score } }",
            json!({}),
            "UNAUTHENTICATED",
            "",
        ),
        ("unknown", customer, "subscription { newsflash }", json!({}), invalid, ""),
        ("syntax", customer, "subscription {", json!({}), "GRAPHQL_PARSE_FAILED", ""),
        (
            "two roots",
            customer,
            "subscription { orderUpdates { cursor } supervisionChanged { name } }",
            json!({}),
            invalid,
            "",
        ),
    ];
    println!("{} rows", rows.len());
    let mut failures = Vec::new();
    for (name, token, query, variables, code, field) in rows {
        let mut socket = Socket::connect(world.app.public, token).await;
        let id = socket.subscribe(query, variables).await;
        let message = socket.next_of(&id).await.unwrap();
        let error = &message["payload"][0];
        let path = if field.is_empty() { Value::Null } else { json!([field]) };
        let found = (&message["type"], &error["extensions"]["code"], &error["extensions"]["field"]);
        if found != (&json!("error"), &json!(code), &path) || !error["extensions"]["requestId"].is_string() {
            failures.push(format!("{name}: {message}, expected {code} {path}"));
        }
        // The socket goes on, and the id is free.
        let next = socket.subscribe("{ categories { name } }", json!({})).await;
        if socket.next_of(&next).await.unwrap()["type"] != "next" {
            failures.push(format!("{name}: the socket does not go on"));
        }
    }
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
    world.check_unchanged(&before).await;
}
