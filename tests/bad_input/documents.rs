//! Documents, operations and variables.

use reqwest::Method;
use serde_json::{Value, json};

use crate::row::{Expected, Row, refused, request_error};
use crate::world::World;

fn aliases(field: &str, count: usize) -> String {
    (0..count).map(|n| format!("a{n}: {field} ")).collect()
}

fn body(name: &str, body: Value, expected: Expected) -> Row {
    Row::raw(name, &[("content-type", "application/json")], body.to_string().as_bytes(), expected)
}

#[actix_rt::test]
async fn documents_that_make_no_sense_or_ask_too_much_are_refused() {
    let world = World::new().await;
    let staff = Some(world.staff.token.as_str());
    let (parse, invalid) = ("GRAPHQL_PARSE_FAILED", "GRAPHQL_VALIDATION_FAILED");
    let complex = "QUERY_TOO_COMPLEX";
    let deep =
        format!("{{ me {}{} }}", "{ orders { nodes { customer ".repeat(8), "{ id }".to_owned() + &"} } }".repeat(8));
    let brackets = "{ a ".repeat(5_000);
    let lists =
        format!("{{ products(where: {{ category: {}1{} }}) {{ totalCount }} }}", "[".repeat(3_000), "]".repeat(3_000));
    let sign_up =
        "signUp(input: { email: \"a@b.example\", name: \"A\", password: \"12345678\" }) { session { user { id } } }";
    let doubling: String =
        (0..40).map(|n| format!("fragment F{n} on Query {{ ...F{0} ...F{0} }} ", n + 1)).collect::<String>();
    let wide = aliases("products(first: 100) { nodes { id name price { amount } } }", 30);
    let copies = format!("{{ products(first: 100) {{ nodes {{ {} }} }} }}", aliases("description", 20));
    let notes = format!("{{ me {{ orders(first: 100) {{ nodes {{ timeline {{ {} }} }} }} }} }}", aliases("note", 5));
    let bodies = format!("{{ me {{ notifications(first: 100) {{ nodes {{ {} }} }} }} }}", aliases("body", 20));
    let mut rows = Vec::new();
    for (name, query, code) in [
        ("long texts again and again", copies, complex),
        ("notes again and again", notes, complex),
        ("bodies again and again", bodies, complex),
        ("empty", String::new(), parse),
        ("blank", "  \n".into(), parse),
        ("only a comment", "# nothing".into(), parse),
        ("unfinished", "{ me {".into(), parse),
        ("NUL", "{ me\0 { id } }".into(), parse),
        ("an unfinished string", "{ product(id: \"x) { id } }".into(), parse),
        ("no selection", "{ }".into(), parse),
        ("a schema", "type Query { a: Int }".into(), parse),
        ("unknown field", "{ secrets }".into(), invalid),
        ("unknown field of a type", "{ categories { secret } }".into(), invalid),
        ("no sub-selection", "{ categories }".into(), invalid),
        ("a sub-selection too many", "{ categories { name { x } } }".into(), invalid),
        ("unknown argument", "{ categories(all: true) { name } }".into(), invalid),
        ("unknown enum literal", "{ products(sort: CHEAP) { totalCount } }".into(), invalid),
        ("Int literal past 2^31 - 1", "{ products(first: 2147483648) { totalCount } }".into(), invalid),
        (
            "Int literal of a second mutation past 2^31 - 1",
            "mutation { preferencesUpdate(input: {}) { user { id } } stockAdjust(productId: \"x\", delta: 2147483648, \
             reason: \"r\") { product { id } } }"
                .into(),
            invalid,
        ),
        (
            "Long literal past 2^63 - 1",
            "{ products(where: { minPrice: { minorUnits: 9223372036854775808, currency: \"EUR\" } }) { totalCount } }"
                .into(),
            invalid,
        ),
        ("missing argument", "{ product { id } }".into(), invalid),
        ("null for what is not", "{ product(id: null) { id } }".into(), invalid),
        ("unknown fragment", "{ ...F }".into(), invalid),
        ("unknown type", "{ me { ... on Robot { id } } }".into(), invalid),
        ("a fragment in itself", "{ ...F } fragment F on Query { ...F }".into(), invalid),
        ("unknown directive", "{ categories @fast { name } }".into(), invalid),
        ("undefined variable", "{ product(id: $id) { id } }".into(), invalid),
        ("two operations of one name", "query A { me { id } } query A { me { id } }".into(), parse),
        ("8 levels of orders", deep, complex),
        ("5,000 open brackets", brackets, complex),
        ("3,000 nested lists", lists, complex),
        ("1,000 aliases", format!("{{ {} }}", aliases("categories { name }", 1_000)), complex),
        ("1,000 aliased sign-ups", format!("mutation {{ {} }}", aliases(sign_up, 1_000)), complex),
        ("30 aliased pages", format!("{{ {wide} }}"), complex),
        ("doubling fragments", format!("{{ ...F0 }} {doubling} fragment F40 on Query {{ me {{ id }} }}"), complex),
        ("60 directives", format!("{{ categories {} {{ name }} }}", "@include(if: true) ".repeat(60)), complex),
        ("100,000 words", format!("{{ {} }}", "a ".repeat(100_000)), complex),
        (
            "a subscription over POST",
            "subscription { stockChanged(productIds: [\"x\"]) { id } }".into(),
            "BAD_USER_INPUT",
        ),
    ] {
        rows.push(Row::post(&format!("document: {name}"), staff, &query, json!({}), request_error(code)));
    }
    let two = "query A { me { id } } query B { categories { name } }";
    let by_id = "query($id: ID!) { product(id: $id) { id } }";
    let bad = || request_error("BAD_USER_INPUT");
    rows.extend([
        body("operationName: unknown", json!({ "query": two, "operationName": "C" }), bad()),
        body("operationName: not given", json!({ "query": two }), bad()),
        body("operationName: empty", json!({ "query": two, "operationName": "" }), bad()),
        body("operationName: a number", json!({ "query": two, "operationName": 1 }), refused(400, "BAD_USER_INPUT")),
        body("variables: missing", json!({ "query": by_id }), bad()),
        body("variables: null", json!({ "query": by_id, "variables": { "id": null } }), bad()),
        body("variables: a list", json!({ "query": by_id, "variables": [1] }), refused(400, "BAD_USER_INPUT")),
        body("variables: a text", json!({ "query": by_id, "variables": "{}" }), refused(400, "BAD_USER_INPUT")),
        body("variables: an object for an id", json!({ "query": by_id, "variables": { "id": {} } }), bad()),
        body("variables: a list for an id", json!({ "query": by_id, "variables": { "id": ["x"] } }), bad()),
        body("variables: a fraction for an id", json!({ "query": by_id, "variables": { "id": 1.5 } }), bad()),
        body(
            "extensions: a list",
            json!({ "query": "{ me { id } }", "extensions": [] }),
            refused(400, "BAD_USER_INPUT"),
        ),
        body("query: missing", json!({ "variables": {} }), refused(400, "BAD_USER_INPUT")),
        body("query: null", json!({ "query": null }), refused(400, "BAD_USER_INPUT")),
        body("query: a number", json!({ "query": 1 }), refused(400, "BAD_USER_INPUT")),
    ]);
    let introspection = "{ __schema { queryType { name } } __type(name: \"Order\") { name fields { name } } nothing: __type(name: \"No\") { name } }";
    rows.push(Row::post(
        "introspection",
        None,
        introspection,
        json!({}),
        Expected::Value("/data/__schema/queryType/name".into(), json!("Query")),
    ));
    let get = Expected::Value("/data/me".into(), Value::Null);
    rows.push(Row::bare("a query by GET", Method::GET, "?query=%7Bme%7Bid%7D%7D", get));
    world.judge(&rows).await;
}

#[actix_rt::test]
async fn a_page_of_a_hundred_complete_orders_is_not_too_much() {
    let world = World::new().await;
    let money = "{ amount currency minorUnits }";
    let product = format!(
        "product {{ id sku name description category price {money} available archived version createdAt updatedAt }}"
    );
    let line = format!("{product} productId sku name category unitPrice {money} quantity total {money}");
    let customer = "customer { id email name role emailVerified createdAt
        preferences { orderUpdates promotions recommendations } }";
    let order = format!(
        "id number {customer} status lines {{ {line} }} total {money} timeline {{ sequence status at note }}
         availableTransitions version createdAt updatedAt"
    );
    let page = format!(
        "(first: 100) {{ edges {{ cursor node {{ {order} }} }} pageInfo {{ hasNextPage endCursor }} totalCount }}"
    );
    for query in [format!("{{ orders{page} }}"), format!("{{ me {{ orders{page} }} }}")] {
        let answer = world.app.answer(Some(&world.staff.token), &query, json!({})).await;
        assert_eq!(answer["errors"], json!(null), "{answer}");
    }
}
