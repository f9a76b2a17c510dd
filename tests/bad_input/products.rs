//! The catalogue's upkeep.

use serde_json::{Value, json};

use crate::row::{Row, field_error, is_null, request_error, user_error};
use crate::world::{MISSING_PRODUCT, World};

const CREATE: &str = "mutation($input: ProductCreateInput!) { productCreate(input: $input) { product { id } userErrors { code message field } } }";
const UPDATE: &str = "mutation($id: ID!, $input: ProductUpdateInput!) { productUpdate(id: $id, input: $input) {
    product { id } userErrors { code message field } } }";
const ARCHIVE: &str = "mutation($id: ID!, $version: Int!) { productArchive(id: $id, expectedVersion: $version) {
    product { id } userErrors { code message field } } }";
const ADJUST: &str = "mutation($id: ID!, $delta: Int!, $reason: String!, $key: String) {
    stockAdjust(productId: $id, delta: $delta, reason: $reason, idempotencyKey: $key) {
        product { id } userErrors { code message field } } }";

fn new_product() -> Value {
    json!({ "sku": "NEW-1", "name": "New", "description": "d", "category": "c",
        "price": { "minorUnits": 1, "currency": "EUR" }, "available": 1 })
}

/// Texts that no field of a product takes, and one that is too long for it.
fn bad_texts(longest: usize, may_be_empty: bool) -> Vec<(&'static str, String)> {
    let mut texts = vec![
        ("too long", "é".repeat(longest + 1)),
        ("NUL", "a\0b".into()),
        ("tab", "a\tb".into()),
        ("newline", "a\nb".into()),
    ];
    if !may_be_empty {
        texts.extend([("empty", String::new()), ("blank", " ".into())]);
    }
    texts
}

#[actix_rt::test]
async fn products_are_not_made_or_changed_by_bad_input() {
    let world = World::new().await;
    let staff = Some(world.staff.token.as_str());
    let customer = Some(world.customer.token.as_str());
    let invalid = |field: &str| user_error("INVALID_INPUT", field);
    let mut rows = Vec::new();
    for (field, longest, may_be_empty) in
        [("sku", 64, false), ("name", 100, false), ("category", 100, false), ("description", 5_000, true)]
    {
        for (what, text) in bad_texts(longest, may_be_empty) {
            let mut input = new_product();
            input[field] = json!(text);
            let path = format!("input.{field}");
            let name = format!("productCreate: {field} {what}");
            rows.push(Row::post(&name, staff, CREATE, json!({ "input": input }), invalid(&path)));
            if field != "sku" {
                let input = json!({ "expectedVersion": 1, field: text });
                let variables = json!({ "id": world.product, "input": input });
                rows.push(Row::post(
                    &format!("productUpdate: {field} {what}"),
                    staff,
                    UPDATE,
                    variables,
                    invalid(&path),
                ));
            }
        }
    }
    let price = |minor: Value, currency: &str| json!({ "minorUnits": minor, "currency": currency });
    for (name, field, value, expected) in [
        ("negative price", "price", price(json!(-1), "EUR"), invalid("input.price")),
        ("another currency", "price", price(json!(1), "USD"), invalid("input.price.currency")),
        ("a currency in small letters", "price", price(json!(1), "eur"), invalid("input.price.currency")),
        ("empty currency", "price", price(json!(1), ""), invalid("input.price.currency")),
        (
            "price past 2^63 - 1",
            "price",
            price(json!(9_223_372_036_854_775_808_u64), "EUR"),
            request_error("BAD_USER_INPUT"),
        ),
        ("a fraction for a price", "price", price(json!(1.5), "EUR"), request_error("BAD_USER_INPUT")),
        ("a text for a price", "price", price(json!("1"), "EUR"), request_error("BAD_USER_INPUT")),
        ("a number for money", "price", json!(5), request_error("BAD_USER_INPUT")),
        (
            "a number for a currency",
            "price",
            json!({ "minorUnits": 1, "currency": 978 }),
            request_error("BAD_USER_INPUT"),
        ),
        ("negative stock", "available", json!(-1), invalid("input.available")),
        ("stock past 2^31 - 1", "available", json!(2_147_483_648_u32), request_error("BAD_USER_INPUT")),
        ("a fraction for stock", "available", json!(0.5), request_error("BAD_USER_INPUT")),
        ("null stock", "available", Value::Null, request_error("BAD_USER_INPUT")),
        ("a used SKU", "sku", json!(world.sku), user_error("DUPLICATE", "input.sku")),
        ("an unknown field", "colour", json!("red"), request_error("BAD_USER_INPUT")),
    ] {
        let mut input = new_product();
        input[field] = value;
        rows.push(Row::post(&format!("productCreate: {name}"), staff, CREATE, json!({ "input": input }), expected));
    }
    for (name, id, input, expected) in [
        (
            "stale version",
            world.product.as_str(),
            json!({ "expectedVersion": 0, "name": "X" }),
            user_error("CONFLICT", "input.expectedVersion"),
        ),
        (
            "version of the future",
            &world.product,
            json!({ "expectedVersion": 2, "name": "X" }),
            user_error("CONFLICT", "input.expectedVersion"),
        ),
        (
            "least version",
            &world.product,
            json!({ "expectedVersion": i32::MIN, "name": "X" }),
            user_error("CONFLICT", "input.expectedVersion"),
        ),
        (
            "version past 2^31 - 1",
            &world.product,
            json!({ "expectedVersion": 2_147_483_648_u32 }),
            request_error("BAD_USER_INPUT"),
        ),
        ("no version", &world.product, json!({ "name": "X" }), request_error("BAD_USER_INPUT")),
        (
            "negative price",
            &world.product,
            json!({ "expectedVersion": 1, "price": price(json!(-1), "EUR") }),
            invalid("input.price"),
        ),
        (
            "another currency",
            &world.product,
            json!({ "expectedVersion": 1, "price": price(json!(1), "USD") }),
            invalid("input.price.currency"),
        ),
        ("missing id", MISSING_PRODUCT, json!({ "expectedVersion": 1, "name": "X" }), user_error("NOT_FOUND", "id")),
        ("malformed id", "prd_", json!({ "expectedVersion": 1, "name": "X" }), user_error("NOT_FOUND", "id")),
        ("id of an order", &world.order, json!({ "expectedVersion": 1, "name": "X" }), user_error("NOT_FOUND", "id")),
        ("id with NUL", "prd_\0", json!({ "expectedVersion": 1, "name": "X" }), user_error("NOT_FOUND", "id")),
    ] {
        let variables = json!({ "id": id, "input": input });
        rows.push(Row::post(&format!("productUpdate: {name}"), staff, UPDATE, variables, expected));
    }
    for (name, id, version, expected) in [
        ("stale version", world.product.as_str(), json!(7), user_error("CONFLICT", "expectedVersion")),
        ("missing id", MISSING_PRODUCT, json!(1), user_error("NOT_FOUND", "id")),
        ("malformed id", "x", json!(1), user_error("NOT_FOUND", "id")),
        ("null version", &world.product, Value::Null, request_error("BAD_USER_INPUT")),
    ] {
        let variables = json!({ "id": id, "version": version });
        rows.push(Row::post(&format!("productArchive: {name}"), staff, ARCHIVE, variables, expected));
    }
    let adjust = |id: &str, delta: Value, reason: &str, key: Option<String>| json!({ "id": id, "delta": delta, "reason": reason, "key": key });
    for (name, variables, expected) in [
        ("below 0", adjust(&world.product, json!(-11), "r", None), invalid("delta")),
        ("far below 0", adjust(&world.product, json!(i32::MIN), "r", None), invalid("delta")),
        ("past 2^31 - 1", adjust(&world.full, json!(1), "r", None), invalid("delta")),
        ("far past 2^31 - 1", adjust(&world.full, json!(i32::MAX), "r", None), invalid("delta")),
        (
            "a delta past 2^31 - 1",
            adjust(&world.product, json!(2_147_483_648_u32), "r", None),
            request_error("BAD_USER_INPUT"),
        ),
        ("a fraction", adjust(&world.product, json!(1.5), "r", None), request_error("BAD_USER_INPUT")),
        ("empty reason", adjust(&world.product, json!(1), "", None), invalid("reason")),
        ("reason of 5,001", adjust(&world.product, json!(1), &"r".repeat(5_001), None), invalid("reason")),
        ("NUL in the reason", adjust(&world.product, json!(1), "\0", None), invalid("reason")),
        ("empty key", adjust(&world.product, json!(1), "r", Some(String::new())), invalid("idempotencyKey")),
        ("key of 256", adjust(&world.product, json!(1), "r", Some("k".repeat(256))), invalid("idempotencyKey")),
        ("tab in the key", adjust(&world.product, json!(1), "r", Some("a\tb".into())), invalid("idempotencyKey")),
        ("missing id", adjust(MISSING_PRODUCT, json!(1), "r", None), user_error("NOT_FOUND", "productId")),
        ("malformed id", adjust("product", json!(1), "r", None), user_error("NOT_FOUND", "productId")),
        ("id of a user", adjust(&world.customer.id, json!(1), "r", None), user_error("NOT_FOUND", "productId")),
    ] {
        rows.push(Row::post(&format!("stockAdjust: {name}"), staff, ADJUST, variables, expected));
    }
    for (name, query, variables) in [
        ("productCreate", CREATE, json!({ "input": new_product() })),
        ("productUpdate", UPDATE, json!({ "id": world.product, "input": { "expectedVersion": 1, "name": "X" } })),
        ("productArchive", ARCHIVE, json!({ "id": world.product, "version": 1 })),
        ("stockAdjust", ADJUST, adjust(&world.product, json!(1), "r", None)),
    ] {
        let denied = |who: &str| format!("{name}: {who}");
        rows.push(Row::post(&denied("anonymous"), None, query, variables.clone(), field_error("UNAUTHENTICATED", "")));
        rows.push(Row::post(&denied("customer"), customer, query, variables, field_error("FORBIDDEN", "")));
    }
    for (name, id) in
        [("missing", MISSING_PRODUCT), ("malformed", "prd_!"), ("empty", ""), ("of a user", &world.customer.id)]
    {
        let query = "query($id: ID!) { product(id: $id) { id } }";
        rows.push(Row::post(&format!("product: {name} id"), None, query, json!({ "id": id }), is_null("product")));
    }
    world.judge(&rows).await;
}
