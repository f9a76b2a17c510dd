//! Recommendations and what is thought of them.

use serde_json::json;

use crate::row::{Row, field_error, request_error, user_error};
use crate::world::{MISSING_PRODUCT, World};

const RATE: &str = "mutation($id: ID!, $liked: Boolean!) { recommendationRate(productId: $id, liked: $liked) {
    recommendations { score } userErrors { code message field } } }";
const LIST: &str = "query($first: Int) { me { recommendations(first: $first) { score } } }";

#[actix_rt::test]
async fn nothing_is_rated_and_no_list_is_given_for_bad_input() {
    let world = World::new().await;
    let customer = Some(world.customer.token.as_str());
    let not_found = || user_error("NOT_FOUND", "productId");
    let mut rows = Vec::new();
    for (name, id) in [
        ("missing", MISSING_PRODUCT),
        ("empty", ""),
        ("malformed", "prd"),
        ("of another type", world.order.as_str()),
        ("NUL", "\0"),
    ] {
        let variables = json!({ "id": id, "liked": true });
        rows.push(Row::post(&format!("recommendationRate: {name} product"), customer, RATE, variables, not_found()));
    }
    for (name, liked) in [("no", json!(null)), ("a text for", json!("yes")), ("a number for", json!(1))] {
        let variables = json!({ "id": world.product, "liked": liked });
        let expected = request_error("BAD_USER_INPUT");
        rows.push(Row::post(&format!("recommendationRate: {name} liked"), customer, RATE, variables, expected));
    }
    let variables = json!({ "id": world.product, "liked": true });
    let anonymous = field_error("UNAUTHENTICATED", "");
    rows.push(Row::post("recommendationRate: anonymous", None, RATE, variables, anonymous));
    for first in [0, -1, 101] {
        let expected = field_error("BAD_USER_INPUT", "first");
        rows.push(Row::post(&format!("recommendations: {first}"), customer, LIST, json!({ "first": first }), expected));
    }
    world.judge(&rows).await;
}
