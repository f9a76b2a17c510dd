//! The catalogue: editing, listing, searching.

use serde_json::{Value, json};

use crate::support::client::unique;
use crate::support::{Account, TestApp, spawn_app};

async fn create(
    app: &TestApp,
    staff: &Account,
    name: &str,
    category: &str,
    minor_units: i64,
    available: i64,
) -> String {
    let create =
        "mutation($input: ProductCreateInput!) { productCreate(input: $input) { product { id } userErrors { code } } }";
    let input = json!({ "sku": unique("SKU"), "name": name, "description": "A thing.", "category": category,
        "price": { "minorUnits": minor_units, "currency": "EUR" }, "available": available });
    let data = app.query(Some(&staff.token), create, json!({ "input": input })).await;
    data["productCreate"]["product"]["id"].as_str().unwrap().to_owned()
}

fn names(connection: &Value) -> Vec<&str> {
    connection["nodes"].as_array().unwrap().iter().map(|node| node["name"].as_str().unwrap()).collect()
}

const LIST: &str = "query($first: Int, $after: Cursor, $where: ProductWhere, $sort: ProductSort) {
    products(first: $first, after: $after, where: $where, sort: $sort) {
        nodes { id name price { minorUnits amount currency } } totalCount
        pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }";

#[actix_rt::test]
async fn the_catalogue_is_filtered_sorted_and_searched() {
    let app = spawn_app().await;
    let staff = app.staff().await;
    create(&app, &staff, "Brass Lamp", "Lighting", 5_000, 3).await;
    create(&app, &staff, "Paper Lampshade", "Lighting", 900, 0).await;
    create(&app, &staff, "Walnut Desk", "Furniture", 30_000, 1).await;
    let list = async |variables: Value| app.query(None, LIST, variables).await["products"].take();

    assert_eq!(names(&list(json!({ "sort": "PRICE_ASC" })).await), ["Paper Lampshade", "Brass Lamp", "Walnut Desk"]);
    assert_eq!(names(&list(json!({ "sort": "PRICE_DESC" })).await), ["Walnut Desk", "Brass Lamp", "Paper Lampshade"]);
    assert_eq!(names(&list(json!({ "sort": "NAME" })).await), ["Brass Lamp", "Paper Lampshade", "Walnut Desk"]);
    assert_eq!(names(&list(json!({ "sort": "NEWEST" })).await), ["Walnut Desk", "Paper Lampshade", "Brass Lamp"]);
    let found = list(json!({ "where": { "search": "lamp" }, "sort": "RELEVANCE" })).await;
    assert_eq!(names(&found), ["Brass Lamp", "Paper Lampshade"], "a whole word before a beginning");
    assert_eq!(found["totalCount"], 2);
    assert_eq!(names(&list(json!({ "where": { "inStock": true, "category": ["Lighting"] } })).await), ["Brass Lamp"]);
    let bounds = json!({ "where": { "minPrice": { "minorUnits": 900, "currency": "EUR" },
        "maxPrice": { "minorUnits": 5_000, "currency": "EUR" } }, "sort": "NAME" });
    let within = list(bounds).await;
    assert_eq!(names(&within), ["Brass Lamp", "Paper Lampshade"], "bounds are inclusive");
    assert_eq!(within["nodes"][0]["price"], json!({ "minorUnits": 5_000, "amount": "50.00", "currency": "EUR" }));
    for (filter, field) in [
        (json!({ "search": "x".repeat(201) }), "search"),
        (json!({ "category": ["x".repeat(101)] }), "category"),
        (json!({ "category": vec!["x"; 101] }), "category"),
    ] {
        let refused = app.answer(None, LIST, json!({ "where": filter })).await;
        let extensions = &refused["errors"][0]["extensions"];
        assert_eq!((&extensions["code"], &extensions["field"]), (&json!("BAD_USER_INPUT"), &json!(["where", field])));
    }
    let categories = app.query(None, "{ categories { name productCount } }", json!({})).await;
    let expected = json!([{ "name": "Furniture", "productCount": 1 }, { "name": "Lighting", "productCount": 2 }]);
    assert_eq!(categories["categories"], expected);
}

#[actix_rt::test]
async fn pages_stay_in_place_while_products_are_added() {
    let app = spawn_app().await;
    let staff = app.staff().await;
    for n in 0..7 {
        create(&app, &staff, &format!("Thing {n}"), "Things", 100, 1).await;
    }
    let mut after = Value::Null;
    let mut seen = Vec::new();
    loop {
        let variables = json!({ "first": 3, "after": after, "sort": "NAME" });
        let page = app.query(None, LIST, variables).await["products"].take();
        seen.extend(names(&page).into_iter().map(str::to_owned));
        assert_eq!(page["pageInfo"]["hasPreviousPage"], json!(!after.is_null()));
        if page["pageInfo"]["hasNextPage"] == false {
            break;
        }
        after = page["pageInfo"]["endCursor"].clone();
        // Before the page: it must move nothing that comes after.
        create(&app, &staff, &unique("A new thing"), "Things", 100, 1).await;
    }
    let old: Vec<_> = seen.iter().filter(|name| name.starts_with("Thing")).collect();
    assert_eq!(old.len(), 7);
    assert_eq!(seen.len(), 7, "nothing is repeated or slips in: {seen:?}");
}

#[actix_rt::test]
async fn edits_are_guarded_by_their_version_and_stock_does_not_count() {
    let app = spawn_app().await;
    let staff = app.staff().await;
    let id = create(&app, &staff, "Lamp", "Lighting", 100, 5).await;
    let adjust =
        "mutation($id: ID!, $delta: Int!, $key: String) { stockAdjust(productId: $id, delta: $delta, reason: \"count\",
        idempotencyKey: $key) { product { available version } userErrors { code field } } }";
    let adjusted = app.query(Some(&staff.token), adjust, json!({ "id": id, "delta": 3, "key": "k1" })).await;
    assert_eq!(adjusted["stockAdjust"]["product"], json!({ "available": 8, "version": 1 }));
    let replayed = app.query(Some(&staff.token), adjust, json!({ "id": id, "delta": 3, "key": "k1" })).await;
    assert_eq!(replayed["stockAdjust"]["product"]["available"], 8, "the same key adjusts once");
    let reused = app.query(Some(&staff.token), adjust, json!({ "id": id, "delta": 4, "key": "k1" })).await;
    assert_eq!(reused["stockAdjust"]["userErrors"][0]["code"], "IDEMPOTENCY_KEY_REUSED");
    let below = app.query(Some(&staff.token), adjust, json!({ "id": id, "delta": -9 })).await;
    assert_eq!(below["stockAdjust"]["userErrors"][0]["code"], "INVALID_INPUT");

    let update = "mutation($id: ID!, $name: String, $version: Int!) { productUpdate(id: $id, input: { name: $name,
        expectedVersion: $version }) { product { name version } userErrors { code } } }";
    let edited = app.query(Some(&staff.token), update, json!({ "id": id, "name": "Tall Lamp", "version": 1 })).await;
    assert_eq!(edited["productUpdate"]["product"], json!({ "name": "Tall Lamp", "version": 2 }), "{edited}");
    let stale = app.query(Some(&staff.token), update, json!({ "id": id, "name": "Short Lamp", "version": 1 })).await;
    assert_eq!(stale["productUpdate"]["userErrors"][0]["code"], "CONFLICT", "{stale}");
    let read = app.query(None, "query($id: ID!) { product(id: $id) { name } }", json!({ "id": id })).await;
    assert_eq!(read["product"]["name"], "Tall Lamp", "an edit is seen at once by who made it");
}

#[actix_rt::test]
async fn a_list_of_orders_reads_its_products_and_customers_in_batches() {
    let app = spawn_app().await;
    let staff = app.staff().await;
    let product = create(&app, &staff, "Lamp", "Lighting", 100, 50).await;
    let customer = app.sign_up().await;
    for n in 0..5 {
        app.place(&customer, &format!("list-{n}"), &[(&product, 1)], 10_000).await;
    }
    let list =
        "{ orders(first: 3) { totalCount edges { cursor node { number customer { name } lines { product { name } } } }
        pageInfo { hasNextPage } } }";
    let orders = app.query(Some(&staff.token), list, json!({})).await["orders"].take();
    assert_eq!((&orders["totalCount"], &orders["pageInfo"]["hasNextPage"]), (&json!(5), &json!(true)));
    for edge in orders["edges"].as_array().unwrap() {
        assert_eq!(edge["node"]["customer"]["name"], "Test Customer");
        assert_eq!(edge["node"]["lines"][0]["product"]["name"], "Lamp");
    }
    let own = "{ me { orders(first: 10) { totalCount nodes { status } } } }";
    let mine = app.query(Some(&customer.token), own, json!({})).await;
    assert_eq!(mine["me"]["orders"]["totalCount"], 5);
}
