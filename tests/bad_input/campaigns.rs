//! Campaigns that cannot be launched.

use serde_json::{Value, json};

use crate::row::{Row, field_error, is_null, request_error, user_error};
use crate::world::World;

const LAUNCH: &str = "mutation($input: CampaignLaunchInput!) { campaignLaunch(input: $input) {
    campaign { id } userErrors { code message field } } }";

#[actix_rt::test]
async fn campaigns_are_not_launched_by_bad_input() {
    let world = World::new().await;
    let (customer, staff) = (Some(world.customer.token.as_str()), Some(world.staff.token.as_str()));
    let good = json!({ "idempotencyKey": "k", "subject": "Lamps", "message": "Half price." });
    let with = |field: &str, value: Value| {
        let mut input = good.clone();
        input[field] = value;
        input
    };
    let invalid = |field: &str| user_error("INVALID_INPUT", &format!("input.{field}"));
    let bad = || request_error("BAD_USER_INPUT");
    let mut rows: Vec<Row> = [
        ("an empty key", with("idempotencyKey", json!("")), invalid("idempotencyKey")),
        ("a key of 256", with("idempotencyKey", json!("k".repeat(256))), invalid("idempotencyKey")),
        ("NUL in the key", with("idempotencyKey", json!("\0")), invalid("idempotencyKey")),
        ("an empty subject", with("subject", json!("")), invalid("subject")),
        ("a blank subject", with("subject", json!("  ")), invalid("subject")),
        ("a subject of 201", with("subject", json!("s".repeat(201))), invalid("subject")),
        ("a header in the subject", with("subject", json!("a\r\nBcc: b@c.de")), invalid("subject")),
        ("an empty message", with("message", json!("")), invalid("message")),
        ("a message of 5,001", with("message", json!("m".repeat(5_001))), invalid("message")),
        ("a tab in the message", with("message", json!("a\tb")), invalid("message")),
        ("an empty category", with("category", json!("")), invalid("category")),
        ("a category of 101", with("category", json!("c".repeat(101))), invalid("category")),
        ("a null subject", with("subject", Value::Null), bad()),
        ("a number for the message", with("message", json!(1)), bad()),
        ("an unknown field", with("colour", json!("red")), bad()),
    ]
    .into_iter()
    .map(|(name, input, expected)| {
        Row::post(&format!("campaignLaunch: {name}"), staff, LAUNCH, json!({ "input": input }), expected)
    })
    .collect();
    for (name, by, code) in [("anonymous", None, "UNAUTHENTICATED"), ("customer", customer, "FORBIDDEN")] {
        let variables = json!({ "input": good });
        rows.push(Row::post(&format!("campaignLaunch: {name}"), by, LAUNCH, variables, field_error(code, "")));
    }
    let node = "query($id: ID!) { node(id: $id) { id } }";
    for id in ["cmp_00000000000000000000000001", "cmp_", "cmp_?"] {
        rows.push(Row::post(&format!("node: {id}"), staff, node, json!({ "id": id }), is_null("node")));
    }
    world.judge(&rows).await;
}
