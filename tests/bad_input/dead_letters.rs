//! Letters that cannot be sent back or given up.

use serde_json::{Value, json};

use crate::row::{Row, field_error, is_null, request_error, user_error};
use crate::world::World;

#[actix_rt::test]
async fn dead_letters_are_not_settled_by_bad_input() {
    let world = World::new().await;
    let (customer, staff) = (Some(world.customer.token.as_str()), Some(world.staff.token.as_str()));
    let mut rows = Vec::new();
    for name in ["deadLetterReplay", "deadLetterDiscard"] {
        let query = format!(
            "mutation($ids: [ID!]!) {{ {name}(ids: $ids) {{ deadLetters {{ id }} userErrors {{ code message field }} }} }}"
        );
        let mut row = |what: &str, by: Option<&str>, ids: Value, expected| {
            rows.push(Row::post(&format!("{name}: {what}"), by, &query, json!({ "ids": ids }), expected));
        };
        let missing = "dlt_aW52ZW50b3J5L29yZGVyLWV2ZW50cy8wLzAvMA";
        for (what, id) in [
            ("missing", missing),
            ("empty", ""),
            ("malformed", "dlt_?"),
            ("no text inside", "dlt__w"),
            ("the store's own", "inventory/order-events/0/0/0"),
            ("of an order", &world.order),
        ] {
            row(&format!("{what} id"), staff, json!([id]), user_error("NOT_FOUND", "ids.0"));
        }
        row("no ids", staff, json!([]), user_error("INVALID_INPUT", "ids"));
        row("101 ids", staff, json!(vec![missing; 101]), user_error("INVALID_INPUT", "ids"));
        row("a null id", staff, json!([null]), request_error("BAD_USER_INPUT"));
        row("null ids", staff, Value::Null, request_error("BAD_USER_INPUT"));
        row("anonymous", None, json!([missing]), field_error("UNAUTHENTICATED", ""));
        row("a customer", customer, json!([missing]), field_error("FORBIDDEN", ""));
    }
    let node = "query($id: ID!) { node(id: $id) { id } }";
    for (what, by) in [("staff", staff), ("customer", customer), ("anonymous", None)] {
        for id in ["dlt_aW52ZW50b3J5", "dlt_", "dlt_?"] {
            rows.push(Row::post(&format!("node {id}: {what}"), by, node, json!({ "id": id }), is_null("node")));
        }
    }
    world.judge(&rows).await;
}
