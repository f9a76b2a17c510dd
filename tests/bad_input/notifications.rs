//! Inboxes and marks that are refused.

use serde_json::{Value, json};

use crate::row::{Row, field_error, is_null, request_error, user_error};
use crate::world::World;

const MARK: &str = "mutation($ids: [ID!], $all: Boolean) { notificationsMarkRead(ids: $ids, all: $all) {
    updatedCount userErrors { code message field } } }";
const INBOX: &str = "query($first: Int, $after: Cursor, $unread: Boolean) { me {
    notifications(first: $first, after: $after, unreadOnly: $unread) { totalCount } } }";

#[actix_rt::test]
async fn inboxes_refuse_bad_input_and_the_marks_of_strangers() {
    let world = World::new().await;
    let (customer, stranger) = (Some(world.customer.token.as_str()), Some(world.stranger.token.as_str()));
    let missing = "ntf_00000000000000000000000001";
    let mine = "{ me { notifications(first: 1) { nodes { id } pageInfo { endCursor } } } }";
    let mine = world.app.query(customer, mine, json!({})).await["me"]["notifications"].take();
    let foreign = mine["nodes"][0]["id"].clone();
    assert!(foreign.is_string(), "{mine}");
    let mut rows = Vec::new();
    let mut mark = |name: &str, by: Option<&str>, variables: Value, expected| {
        rows.push(Row::post(&format!("notificationsMarkRead: {name}"), by, MARK, variables, expected));
    };
    mark("neither ids nor all", customer, json!({}), user_error("INVALID_INPUT", "ids"));
    mark("null ids", customer, json!({ "ids": null }), user_error("INVALID_INPUT", "ids"));
    mark("ids and all", customer, json!({ "ids": [missing], "all": true }), user_error("INVALID_INPUT", "ids"));
    mark("101 ids", customer, json!({ "ids": vec![missing; 101] }), user_error("INVALID_INPUT", "ids"));
    for (name, id) in [
        ("missing", json!(missing)),
        ("malformed", json!("ntf_x")),
        ("empty", json!("")),
        ("NUL", json!("\0")),
        ("of an order", json!(world.order)),
        ("foreign", foreign.clone()),
    ] {
        mark(&format!("{name} id"), stranger, json!({ "ids": [id] }), user_error("NOT_FOUND", "ids.0"));
    }
    let second = json!({ "ids": [foreign, missing] });
    mark("a missing id behind one's own", customer, second, user_error("NOT_FOUND", "ids.1"));
    mark("a null id", customer, json!({ "ids": [null] }), request_error("BAD_USER_INPUT"));
    mark("a text for all", customer, json!({ "all": "yes" }), request_error("BAD_USER_INPUT"));
    mark("anonymous", None, json!({ "all": true }), field_error("UNAUTHENTICATED", ""));

    let mut inbox = |name: &str, variables: Value, expected| {
        rows.push(Row::post(&format!("me.notifications: {name}"), customer, INBOX, variables, expected));
    };
    let bad = |field: &str| field_error("BAD_USER_INPUT", field);
    for first in [0, -1, 101, i32::MAX, i32::MIN] {
        inbox(&format!("first {first}"), json!({ "first": first }), bad("first"));
    }
    for after in ["", "x", "////", "\0", "bjo", "bjp4"] {
        inbox(&format!("after {after:?}"), json!({ "after": after }), bad("after"));
    }
    inbox("a cursor of users", json!({ "after": world.user_cursor }), bad("after"));
    inbox("a text for unreadOnly", json!({ "unread": "yes" }), request_error("BAD_USER_INPUT"));
    let node = "query($id: ID!) { node(id: $id) { id } }";
    for (name, by) in [("a stranger", stranger), ("anonymous", None)] {
        rows.push(Row::post(&format!("node: {name}"), by, node, json!({ "id": foreign }), is_null("node")));
    }
    rows.push(Row::post("node: malformed", customer, node, json!({ "id": "ntf_x" }), is_null("node")));
    world.judge(&rows).await;
}
