//! Placing orders and moving them on.

use serde_json::{Value, json};

use crate::row::{Row, field_error, is_null, request_error, user_error};
use crate::support::client::ORDER_PLACE;
use crate::world::{MISSING_ORDER, MISSING_PRODUCT, World};

fn place(lines: Value) -> Value {
    json!({ "idempotencyKey": "new", "lines": lines, "waitMs": 0 })
}

fn line(id: &str, quantity: impl Into<Value>) -> Value {
    json!({ "productId": id, "quantity": quantity.into() })
}

fn step(name: &str, text: &str) -> String {
    format!(
        "mutation($id: ID!, $text: String) {{ {name}(id: $id, {text}: $text) {{ order {{ id }} userErrors {{ code message field }} }} }}"
    )
}

#[actix_rt::test]
async fn orders_are_not_placed_by_bad_input() {
    let world = World::new().await;
    let customer = Some(world.customer.token.as_str());
    let invalid = |field: &str| user_error("INVALID_INPUT", field);
    let good = || place(json!([line(&world.product, 1)]));
    let with = |field: &str, value: Value| {
        let mut input = good();
        input[field] = value;
        input
    };
    let bad = || request_error("BAD_USER_INPUT");
    let product = world.product.as_str();
    let rows = [
        ("no lines", place(json!([])), invalid("input.lines")),
        ("101 lines", place(vec![line(product, 1); 101].into()), invalid("input.lines")),
        ("quantity 0", place(json!([line(product, 0)])), invalid("input.lines.0.quantity")),
        ("quantity -1", place(json!([line(product, 1), line(product, -1)])), invalid("input.lines.1.quantity")),
        ("quantity 10,001", place(json!([line(product, 10_001)])), invalid("input.lines.0.quantity")),
        ("the least quantity", place(json!([line(product, i32::MIN)])), invalid("input.lines.0.quantity")),
        ("quantity past 2^31 - 1", place(json!([line(product, 2_147_483_648_u32)])), bad()),
        ("a fraction of a piece", place(json!([line(product, 0.5)])), bad()),
        ("a text for a quantity", place(json!([line(product, "1")])), bad()),
        ("no quantity", place(json!([{ "productId": product }])), bad()),
        ("a boolean for an id", place(json!([{ "productId": true, "quantity": 1 }])), bad()),
        ("a total that overflows", place(json!([line(&world.dear, 2)])), invalid("input.lines")),
        ("a sum that overflows", place(json!([line(&world.dear, 1), line(product, 1)])), invalid("input.lines")),
        (
            "a missing product",
            place(json!([line(product, 1), line(MISSING_PRODUCT, 1)])),
            user_error("NOT_FOUND", "input.lines.1.productId"),
        ),
        ("a malformed id", place(json!([line("prd_", 1)])), user_error("NOT_FOUND", "input.lines.0.productId")),
        (
            "an order for a product",
            place(json!([line(&world.order, 1)])),
            user_error("NOT_FOUND", "input.lines.0.productId"),
        ),
        (
            "an archived product",
            place(json!([line(&world.archived, 1)])),
            user_error("PRODUCT_UNAVAILABLE", "input.lines.0.productId"),
        ),
        ("an empty key", with("idempotencyKey", json!("")), invalid("input.idempotencyKey")),
        ("a blank key", with("idempotencyKey", json!("  ")), invalid("input.idempotencyKey")),
        ("a key of 256", with("idempotencyKey", json!("k".repeat(256))), invalid("input.idempotencyKey")),
        ("NUL in the key", with("idempotencyKey", json!("a\0")), invalid("input.idempotencyKey")),
        ("tab in the key", with("idempotencyKey", json!("a\tb")), invalid("input.idempotencyKey")),
        ("null key", with("idempotencyKey", Value::Null), bad()),
        ("waitMs -1", with("waitMs", json!(-1)), invalid("input.waitMs")),
        ("waitMs 30,001", with("waitMs", json!(30_001)), invalid("input.waitMs")),
        ("waitMs past 2^31 - 1", with("waitMs", json!(4_000_000_000_u32)), bad()),
        ("null lines", with("lines", Value::Null), bad()),
        ("a null line", with("lines", json!([null])), bad()),
        ("an unknown field", with("price", json!(1)), bad()),
    ];
    let mut rows: Vec<Row> = rows
        .into_iter()
        .map(|(name, input, expected)| {
            Row::post(&format!("orderPlace: {name}"), customer, ORDER_PLACE, json!({ "input": input }), expected)
        })
        .collect();
    let mut reused = place(json!([line(product, 2)]));
    reused["idempotencyKey"] = json!(world.order_key);
    let expected = user_error("IDEMPOTENCY_KEY_REUSED", "input.idempotencyKey");
    rows.push(Row::post("orderPlace: a used key", customer, ORDER_PLACE, json!({ "input": reused }), expected));
    let input = json!({ "input": good() });
    rows.push(Row::post("orderPlace: anonymous", None, ORDER_PLACE, input, field_error("UNAUTHENTICATED", "")));
    rows.push(Row::post("orderPlace: no input", customer, ORDER_PLACE, json!({}), bad()));
    world.judge(&rows).await;
}

#[actix_rt::test]
async fn orders_are_not_moved_by_bad_input() {
    let world = World::new().await;
    let (customer, stranger) = (Some(world.customer.token.as_str()), Some(world.stranger.token.as_str()));
    let staff = Some(world.staff.token.as_str());
    let mut rows = Vec::new();
    for (name, text, by) in
        [("orderCancel", "reason", customer), ("orderShip", "note", staff), ("orderDeliver", "note", staff)]
    {
        let query = step(name, text);
        for (what, id) in
            [("missing", MISSING_ORDER), ("malformed", "ord_"), ("empty", ""), ("of a product", &world.product)]
        {
            let expected = user_error("NOT_FOUND", "id");
            rows.push(Row::post(&format!("{name}: {what} id"), by, &query, json!({ "id": id }), expected));
        }
        for (what, note) in [("5,001 characters", "n".repeat(5_001)), ("NUL", "\0".into()), ("tab", "a\tb".into())] {
            let variables = json!({ "id": world.order, "text": note });
            rows.push(Row::post(&format!("{name}: {what}"), by, &query, variables, user_error("INVALID_INPUT", text)));
        }
        let variables = json!({ "id": world.order });
        rows.push(Row::post(
            &format!("{name}: anonymous"),
            None,
            &query,
            variables.clone(),
            field_error("UNAUTHENTICATED", ""),
        ));
        let expected = if name == "orderCancel" { user_error("NOT_FOUND", "id") } else { field_error("FORBIDDEN", "") };
        rows.push(Row::post(&format!("{name}: a stranger"), stranger, &query, variables, expected));
        rows.push(Row::post(
            &format!("{name}: null id"),
            by,
            &query,
            json!({ "id": null }),
            request_error("BAD_USER_INPUT"),
        ));
    }
    for (name, text, id, what) in [
        ("orderDeliver", "note", &world.order, "CONFIRMED"),
        ("orderShip", "note", &world.delivered, "DELIVERED"),
        ("orderDeliver", "note", &world.delivered, "DELIVERED"),
        ("orderCancel", "reason", &world.delivered, "DELIVERED"),
        ("orderCancel", "reason", &world.cancelled, "CANCELLED"),
        ("orderShip", "note", &world.cancelled, "CANCELLED"),
    ] {
        let expected = user_error("ILLEGAL_TRANSITION", "id");
        rows.push(Row::post(&format!("{name}: {what}"), staff, &step(name, text), json!({ "id": id }), expected));
    }
    for (name, id) in
        [("foreign", world.order.as_str()), ("missing", MISSING_ORDER), ("malformed", "\u{1}"), ("empty", "")]
    {
        for field in ["order", "node"] {
            let query = format!("query($id: ID!) {{ {field}(id: $id) {{ id }} }}");
            rows.push(Row::post(&format!("{field}: {name} id"), stranger, &query, json!({ "id": id }), is_null(field)));
        }
    }
    let query = "query($id: ID!) { node(id: $id) { id } }";
    for (name, id) in [("unknown type", "xyz_00000000000000000000000001"), ("foreign user", &world.customer.id)] {
        rows.push(Row::post(&format!("node: {name}"), stranger, query, json!({ "id": id }), is_null("node")));
    }
    rows.push(Row::post("node: anonymous", None, query, json!({ "id": world.order }), is_null("node")));
    let query = format!("{{ order(id: \"{}\") {{ id }} }}", world.order);
    rows.push(Row::post("order: anonymous", None, &query, json!({}), field_error("UNAUTHENTICATED", "")));
    world.judge(&rows).await;
}
