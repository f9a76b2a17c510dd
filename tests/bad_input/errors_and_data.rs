//! What an error leaves of the data: the nearest nullable field is null, its neighbours stay.

use serde_json::{Value, json};

use crate::row::MEDIA_TYPES;
use crate::support::Client;
use crate::world::World;

async fn answer(client: &Client, token: Option<&str>, accept: &str, query: &str) -> Value {
    let mut request =
        client.http.post(client.url("/graphql")).header("accept", accept).json(&json!({ "query": query }));
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200, "{query}");
    response.json().await.unwrap()
}

#[actix_rt::test]
async fn an_error_leaves_the_data_beside_it() {
    let world = World::new().await;
    let before = world.stored().await;
    let customer = Some(world.customer.token.as_str());
    let user = &world.customer.id;
    let category = json!([{ "name": "Tests" }]);
    let stale = "stale: productUpdate(id: \"x\", input: { expectedVersion: 1 }) { userErrors { code } }";
    let cases = [
        // Nullable roots.
        (
            None,
            format!("{{ a: user(id: \"{user}\") {{ id }} ok: categories {{ name }} }}"),
            json!({ "a": null, "ok": category }),
            1,
        ),
        (
            None,
            format!("{{ order(id: \"{}\") {{ id }} ok: categories {{ name }} me {{ id }} }}", world.order),
            json!({ "order": null, "ok": category, "me": null }),
            1,
        ),
        (None, format!("{{ user(id: \"{user}\") {{ id }} }}"), json!({ "user": null }), 1),
        (
            None,
            format!("{{ a: user(id: \"{user}\") {{ id }} b: user(id: \"{user}\") {{ id }} }}"),
            json!({ "a": null, "b": null }),
            2,
        ),
        // Roots that are never null take everything with them.
        (customer, "{ ok: categories { name } users { totalCount } }".into(), json!(null), 1),
        (None, "{ ok: categories { name } products(first: 0) { totalCount } }".into(), json!(null), 1),
        (customer, format!("mutation {{ {stale} }}"), json!(null), 1),
        // Further in: up to the nearest field that may be null.
        (
            customer,
            "{ me { name orders(first: 0) { totalCount } } ok: categories { name } }".into(),
            json!({ "me": null, "ok": category }),
            1,
        ),
        (
            customer,
            "{ me { ...F } ok: categories { name } } fragment F on User { inner: orders(after: \"x\") { totalCount } }"
                .into(),
            json!({ "me": null, "ok": category }),
            1,
        ),
    ];
    for (token, query, data, errors) in cases {
        for accept in MEDIA_TYPES {
            let found = answer(&world.app, token, accept, &query).await;
            assert_eq!(found.get("data"), Some(&data), "{query}: {found}");
            assert_eq!(found["errors"].as_array().map(Vec::len), Some(errors), "{query}: {found}");
        }
    }
    world.check_unchanged(&before).await;
}

#[actix_rt::test]
async fn a_variable_that_does_not_fit_keeps_every_field_from_being_executed() {
    let world = World::new().await;
    let before = world.stored().await;
    let query = "mutation($id: ID!, $delta: Int!) {
        good: stockAdjust(productId: $id, delta: 1, reason: \"r\") { product { id } }
        bad: stockAdjust(productId: $id, delta: $delta, reason: \"r\") { product { id } } }";
    let variables = json!({ "id": world.product, "delta": 2_147_483_648_u32 });
    let found = world.app.answer(Some(&world.staff.token), query, variables).await;
    assert_eq!(found["errors"][0]["extensions"]["code"], "BAD_USER_INPUT", "{found}");
    assert!(found.get("data").is_none(), "{found}");
    world.check_unchanged(&before).await;
}
