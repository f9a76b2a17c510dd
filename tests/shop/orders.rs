//! Placing, watching and moving orders.

use serde_json::json;

use crate::support::client::{ORDER_PLACE, place_variables, unique};
use crate::support::{Socket, eventually, spawn_app};

#[actix_rt::test]
async fn an_order_is_seen_pending_and_then_confirmed_over_a_subscription() {
    let app = spawn_app().await;
    let staff = app.staff().await;
    let product = app.create_product(&staff, 5).await;
    let customer = app.sign_up().await;

    let placed = app.place(&customer, "first", &[(&product, 2)], 0).await;
    assert_eq!(placed["order"]["status"], "PENDING", "{placed}");
    assert_eq!((&placed["replayed"], &placed["userErrors"]), (&json!(false), &json!([])));

    let mut socket = Socket::connect(app.public, Some(&customer.token)).await;
    let query = "subscription($id: ID!) { orderUpdated(id: $id, after: 0) { cursor event { sequence status }
        order { status } } }";
    let updates = socket.subscribe(query, json!({ "id": placed["order"]["id"] })).await;
    let first = socket.data_of(&updates).await;
    let second = socket.data_of(&updates).await;
    assert_eq!(first["orderUpdated"]["event"], json!({ "sequence": 1, "status": "PENDING" }));
    assert_eq!(second["orderUpdated"]["event"], json!({ "sequence": 2, "status": "CONFIRMED" }));
    assert_eq!(second["orderUpdated"]["order"]["status"], "CONFIRMED");
    assert_eq!(app.available(&product).await, 3);
}

#[actix_rt::test]
async fn a_wait_answers_the_verdict_and_a_shortage_names_its_numbers() {
    let app = spawn_app().await;
    let staff = app.staff().await;
    let (scarce, plenty) = (app.create_product(&staff, 1).await, app.create_product(&staff, 100).await);
    let customer = app.sign_up().await;

    let short = app.place(&customer, "short", &[(&scarce, 2), (&plenty, 1), (&scarce, 3)], 10_000).await;
    assert_eq!(short["order"]["status"], "REJECTED", "{short}");
    let errors = short["userErrors"].as_array().unwrap();
    assert_eq!(errors.len(), 1, "{short}");
    assert_eq!(errors[0]["__typename"], "InsufficientStockError");
    assert_eq!(errors[0]["code"], "INSUFFICIENT_STOCK");
    assert_eq!((&errors[0]["productId"], &errors[0]["requested"]), (&json!(scarce), &json!(5)));
    assert_eq!(errors[0]["available"], 1);
    assert_eq!(app.available(&plenty).await, 100, "all lines or none");

    let fine = app.place(&customer, "fine", &[(&plenty, 1)], 10_000).await;
    assert_eq!(fine["order"]["status"], "CONFIRMED", "{fine}");

    let repeated = app.place(&customer, "short", &[(&plenty, 1), (&scarce, 5)], 0).await;
    assert_eq!((&repeated["replayed"], &repeated["order"]["id"]), (&json!(true), &short["order"]["id"]));
    let repeated_error = &repeated["userErrors"][0];
    for field in ["code", "productId", "requested", "available"] {
        assert_eq!(repeated_error[field], errors[0][field], "a replay repeats the stored shortage: {field}");
    }
    // The path is that of the request in hand: here the product stands on the second line.
    assert_eq!(repeated_error["field"], json!(["input", "lines", "1", "quantity"]));
}

#[actix_rt::test]
async fn a_key_places_one_order_whoever_asks_how_often() {
    let app = spawn_app().await;
    let staff = app.staff().await;
    let product = app.create_product(&staff, 100).await;
    let (customer, other) = (app.sign_up().await, app.sign_up().await);

    let lines = [(product.as_str(), 1)];
    let attempts = (0..20).map(|_| app.place(&customer, "same", &lines, 0));
    let answers = futures_util::future::join_all(attempts).await;
    let firsts = answers.iter().filter(|answer| answer["replayed"] == false).count();
    assert_eq!(firsts, 1, "exactly one of simultaneous requests is the first");
    assert!(answers.iter().all(|answer| answer["order"]["id"] == answers[0]["order"]["id"]));

    let reused = app.place(&customer, "same", &[(&product, 2)], 0).await;
    assert_eq!(reused["userErrors"][0]["code"], "IDEMPOTENCY_KEY_REUSED", "{reused}");
    assert!(reused["order"].is_null());
    let of_another = app.place(&other, "same", &[(&product, 2)], 10_000).await;
    assert_eq!((&of_another["replayed"], &of_another["order"]["status"]), (&json!(false), &json!("CONFIRMED")));
    eventually("both orders are decided", async || (app.available(&product).await == 97).then_some(())).await;
}

#[actix_rt::test]
async fn an_existing_order_wins_over_every_product_error() {
    let app = spawn_app().await;
    let staff = app.staff().await;
    let product = app.create_product(&staff, 10).await;
    let customer = app.sign_up().await;
    let first = app.place(&customer, "kept", &[(&product, 1)], 10_000).await;
    let archive = "mutation($id: ID!) { productArchive(id: $id, expectedVersion: 1) { product { archived }
        userErrors { code } } }";
    let archived = app.query(Some(&staff.token), archive, json!({ "id": product })).await;
    assert_eq!(archived["productArchive"]["product"]["archived"], true, "{archived}");

    let again = app.place(&customer, "kept", &[(&product, 1)], 0).await;
    assert_eq!((&again["replayed"], &again["order"]["id"]), (&json!(true), &first["order"]["id"]));
    let fresh = app.place(&customer, "too late", &[(&product, 1)], 0).await;
    assert_eq!(fresh["userErrors"][0]["code"], "PRODUCT_UNAVAILABLE", "{fresh}");
    assert!(fresh["order"].is_null());
}

#[actix_rt::test]
async fn a_foreign_order_is_answered_exactly_as_a_missing_one() {
    let app = spawn_app().await;
    let staff = app.staff().await;
    let product = app.create_product(&staff, 10).await;
    let (owner, stranger) = (app.sign_up().await, app.sign_up().await);
    let order = app.place(&owner, "mine", &[(&product, 1)], 10_000).await;
    let foreign = order["order"]["id"].as_str().unwrap().to_owned();
    let missing = "ord_00000000000000000000000001";
    let malformed = "no id at all";

    assert!(app.order(&owner, &foreign).await.is_object());
    assert!(app.order(&staff, &foreign).await.is_object());
    let cancel = "mutation($id: ID!) { orderCancel(id: $id) { order { id } userErrors { code message field } } }";
    let node = "query($id: ID!) { node(id: $id) { id } }";
    let watch = "subscription($id: ID!) { orderUpdated(id: $id) { event { sequence } } }";
    for document in [cancel, node, "query($id: ID!) { order(id: $id) { id } }"] {
        let of_foreign = app.answer(Some(&stranger.token), document, json!({ "id": foreign })).await;
        for id in [missing, malformed] {
            let of_other = app.answer(Some(&stranger.token), document, json!({ "id": id })).await;
            assert_eq!(of_foreign, of_other, "{document} {id}");
        }
    }
    let cancelled = app.query(Some(&stranger.token), cancel, json!({ "id": foreign })).await;
    assert_eq!(cancelled["orderCancel"]["userErrors"][0]["code"], "NOT_FOUND");

    let mut socket = Socket::connect(app.public, Some(&stranger.token)).await;
    let mut refusals = Vec::new();
    for id in [foreign.as_str(), missing, malformed] {
        let operation = socket.subscribe(watch, json!({ "id": id })).await;
        let mut refusal = socket.next_of(&operation).await.unwrap();
        refusal.as_object_mut().unwrap().remove("id");
        for error in refusal["payload"].as_array_mut().unwrap() {
            let extensions = error["extensions"].as_object_mut().unwrap();
            for name in ["requestId", "traceId"] {
                assert!(extensions.remove(name).is_some(), "{name}");
            }
        }
        refusals.push(refusal);
    }
    assert_eq!(refusals[0], refusals[1]);
    assert_eq!(refusals[0], refusals[2]);
}

#[actix_rt::test]
async fn a_quantity_is_limited_on_each_line_and_lines_of_one_product_may_come_to_more() {
    let app = spawn_app().await;
    let staff = app.staff().await;
    let product = app.create_product(&staff, 15_000).await;
    let customer = app.sign_up().await;

    let too_many = app.place(&customer, "line", &[(&product, 10_001)], 0).await;
    assert_eq!(too_many["userErrors"][0]["code"], "INVALID_INPUT", "{too_many}");
    let short = app.place(&customer, "sum", &[(&product, 10_000), (&product, 10_000)], 10_000).await;
    assert_eq!(short["userErrors"][0]["requested"], 20_000, "{short}");
    let enough = app.place(&customer, "fits", &[(&product, 10_000), (&product, 5_000)], 10_000).await;
    assert_eq!(enough["order"]["status"], "CONFIRMED", "{enough}");
}

#[actix_rt::test]
async fn a_cancelled_order_gives_its_pieces_back_once() {
    let app = spawn_app().await;
    let staff = app.staff().await;
    let product = app.create_product(&staff, 5).await;
    let customer = app.sign_up().await;
    let placed = app.place(&customer, "take", &[(&product, 4)], 10_000).await;
    assert_eq!(app.available(&product).await, 1);

    let cancel = "mutation($id: ID!) { orderCancel(id: $id, reason: \"changed my mind\") {
        order { status timeline { status note } availableTransitions } userErrors { code } } }";
    let id = json!({ "id": placed["order"]["id"] });
    let cancelled = app.query(Some(&customer.token), cancel, id.clone()).await;
    assert_eq!(cancelled["orderCancel"]["order"]["status"], "CANCELLED", "{cancelled}");
    assert_eq!(cancelled["orderCancel"]["order"]["timeline"][2]["note"], "changed my mind");
    let twice = app.query(Some(&customer.token), cancel, id).await;
    assert_eq!(twice["orderCancel"]["userErrors"][0]["code"], "ILLEGAL_TRANSITION");
    eventually("the stock is back", async || (app.available(&product).await == 5).then_some(())).await;
}

#[actix_rt::test]
async fn staff_ship_and_deliver_in_this_order_only() {
    let app = spawn_app().await;
    let staff = app.staff().await;
    let product = app.create_product(&staff, 5).await;
    let customer = app.sign_up().await;
    let placed = app.place(&customer, "go", &[(&product, 1)], 10_000).await;
    let id = json!({ "id": placed["order"]["id"] });
    let step = |name: &str| {
        format!("mutation($id: ID!) {{ {name}(id: $id, note: \"n\") {{ order {{ status }} userErrors {{ code }} }} }}")
    };

    let refused = app.answer(Some(&customer.token), &step("orderShip"), id.clone()).await;
    assert_eq!(refused["errors"][0]["extensions"]["code"], "FORBIDDEN", "{refused}");
    let early = app.query(Some(&staff.token), &step("orderDeliver"), id.clone()).await;
    assert_eq!(early["orderDeliver"]["userErrors"][0]["code"], "ILLEGAL_TRANSITION");
    let shipped = app.query(Some(&staff.token), &step("orderShip"), id.clone()).await;
    assert_eq!(shipped["orderShip"]["order"]["status"], "SHIPPED", "{shipped}");
    let delivered = app.query(Some(&staff.token), &step("orderDeliver"), id.clone()).await;
    assert_eq!(delivered["orderDeliver"]["order"]["status"], "DELIVERED");
    let cancel = "mutation($id: ID!) { orderCancel(id: $id) { order { id } userErrors { code } } }";
    let late = app.query(Some(&customer.token), cancel, id).await;
    assert_eq!(late["orderCancel"]["userErrors"][0]["code"], "ILLEGAL_TRANSITION");
}

#[actix_rt::test]
async fn the_price_of_an_order_is_the_one_at_which_it_was_placed() {
    let app = spawn_app().await;
    let staff = app.staff().await;
    let product = app.create_product(&staff, 100).await;
    let customer = app.sign_up().await;
    let before = app.place(&customer, &unique("k"), &[(&product, 1)], 10_000).await;
    let update = "mutation($id: ID!) { productUpdate(id: $id, input: { expectedVersion: 1,
        price: { minorUnits: 9900, currency: \"EUR\" } }) { product { version } userErrors { code } } }";
    app.query(Some(&staff.token), update, json!({ "id": product })).await;
    let variables = place_variables(&unique("k"), &[(&product, 2)], 10_000);
    let after = app.query(Some(&customer.token), ORDER_PLACE, variables).await;
    let total = async |id: &serde_json::Value| {
        app.order(&customer, id.as_str().unwrap()).await["total"]["minorUnits"].as_i64().unwrap()
    };
    assert_eq!(total(&before["order"]["id"]).await, 1250);
    assert_eq!(total(&after["orderPlace"]["order"]["id"]).await, 19_800);
}
