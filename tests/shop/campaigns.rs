//! Campaigns: launched once, written to whom they are for, counted.

use serde_json::{Value, json};

use crate::support::{Account, TestApp, eventually, spawn_app, spawn_app_with};

const CAMPAIGN: &str = "id subject category audienceSize queued sent skipped launchedAt";

async fn launch(app: &TestApp, staff: &Account, input: Value) -> Value {
    let query = format!(
        "mutation($input: CampaignLaunchInput!) {{ campaignLaunch(input: $input) {{ campaign {{ {CAMPAIGN} }} \
         userErrors {{ code field }} }} }}"
    );
    app.query(Some(&staff.token), &query, json!({ "input": input })).await["campaignLaunch"].take()
}

async fn campaigns(app: &TestApp, staff: &Account) -> Vec<Value> {
    let query = format!("{{ campaigns(first: 100) {{ totalCount nodes {{ {CAMPAIGN} }} }} }}");
    let data = app.query(Some(&staff.token), &query, json!({})).await;
    let nodes = data["campaigns"]["nodes"].as_array().unwrap().clone();
    assert_eq!(data["campaigns"]["totalCount"], nodes.len());
    nodes
}

async fn want_promotions(app: &TestApp, customer: &Account) {
    let query = "mutation { preferencesUpdate(input: { promotions: true }) { userErrors { code } } }";
    app.query(Some(&customer.token), query, json!({})).await;
}

/// The subjects of the promotions in a customer's inbox.
async fn promotions(app: &TestApp, customer: &Account) -> Vec<String> {
    let query = "{ me { notifications(first: 100) { nodes { kind subject } } } }";
    let data = app.query(Some(&customer.token), query, json!({})).await;
    let nodes = data["me"]["notifications"]["nodes"].as_array().unwrap().clone();
    let promotions = nodes.iter().filter(|node| node["kind"] == "PROMOTION");
    promotions.map(|node| node["subject"].as_str().unwrap().to_owned()).collect()
}

async fn until_sent(app: &TestApp, staff: &Account, id: &Value, count: i64) -> Value {
    eventually("the campaign is sent", async || {
        let query = format!("query($id: ID!) {{ node(id: $id) {{ ... on Campaign {{ {CAMPAIGN} }} }} }}");
        let found = app.query(Some(&staff.token), &query, json!({ "id": id })).await["node"].take();
        (found["audienceSize"] == count && found["sent"] == count).then_some(found)
    })
    .await
}

#[actix_rt::test]
async fn a_campaign_reaches_who_wants_promotions_and_a_key_launches_once() {
    let app = spawn_app().await;
    let staff = app.staff().await;
    let (ada, eve, quiet) = (app.sign_up().await, app.sign_up().await, app.sign_up().await);
    for customer in [&ada, &eve] {
        want_promotions(&app, customer).await;
    }
    let input = json!({ "idempotencyKey": "spring", "subject": "Lamps", "message": "Half price." });
    let launched = launch(&app, &staff, input.clone()).await;
    assert_eq!(launched["userErrors"], json!([]));
    let id = launched["campaign"]["id"].clone();
    let again = launch(&app, &staff, input.clone()).await;
    assert_eq!(again["campaign"]["id"], id);
    let mut other = input;
    other["message"] = json!("A quarter of the price.");
    let reused = launch(&app, &staff, other).await;
    let expected = json!([{ "code": "IDEMPOTENCY_KEY_REUSED", "field": ["input", "idempotencyKey"] }]);
    assert_eq!((&reused["campaign"], &reused["userErrors"]), (&Value::Null, &expected));

    let sent = until_sent(&app, &staff, &id, 2).await;
    assert_eq!((&sent["queued"], &sent["skipped"], &sent["category"]), (&json!(0), &json!(0), &Value::Null));
    for customer in [&ada, &eve] {
        assert_eq!(promotions(&app, customer).await, ["Lamps"]);
    }
    assert_eq!(promotions(&app, &quiet).await, Vec::<String>::new());
    assert_eq!(campaigns(&app, &staff).await.len(), 1);
    let node = "query($id: ID!) { node(id: $id) { id __typename } }";
    let by_id = async |who: &Account| app.query(Some(&who.token), node, json!({ "id": id })).await["node"].take();
    assert_eq!(by_id(&staff).await["__typename"], "Campaign");
    assert_eq!(by_id(&ada).await, Value::Null);
}

#[actix_rt::test]
async fn a_category_narrows_a_campaign_to_its_buyers() {
    let app = spawn_app_with(|config| {
        config.limits.enabled = false;
        config.notifications.standard_per_recipient_per_day = 10_000;
    })
    .await;
    let staff = app.staff().await;
    let (buyer, other) = (app.sign_up().await, app.sign_up().await);
    for customer in [&buyer, &other] {
        want_promotions(&app, customer).await;
    }
    let product = app.create_product(&staff, 10).await;
    let placed = app.place(&buyer, "k", &[(&product, 1)], 30_000).await;
    assert_eq!(placed["order"]["status"], "CONFIRMED");
    // The history follows the order by an event: a campaign is launched until it knows the buyer.
    let id = eventually("the buyer is known", async || {
        let key = crate::support::client::unique("campaign");
        let input = json!({ "idempotencyKey": key, "subject": key, "message": "More.", "category": "Tests" });
        let id = launch(&app, &staff, input).await["campaign"]["id"].clone();
        // Its audience is whole when every campaign is finished; then it has found the buyer, or another one is needed.
        eventually("the campaign is finished", async || {
            app.stores.campaigns.unfinished_campaign().await.unwrap().is_none().then_some(())
        })
        .await;
        let query = "query($id: ID!) { node(id: $id) { ... on Campaign { audienceSize } } }";
        let found = app.query(Some(&staff.token), query, json!({ "id": id })).await;
        (found["node"]["audienceSize"] == 1).then_some(id)
    })
    .await;
    let sent = until_sent(&app, &staff, &id, 1).await;
    assert_eq!(sent["category"], "Tests");
    assert_eq!(promotions(&app, &other).await, Vec::<String>::new());
}

#[actix_rt::test]
async fn a_price_cut_launches_a_campaign_where_the_shop_wants_that() {
    let app = spawn_app_with(|config| {
        config.limits.enabled = false;
        config.campaigns.price_cut_percent = 20;
        config.campaigns.back_in_stock = true;
    })
    .await;
    let staff = app.staff().await;
    let product = app.create_product(&staff, 0).await;
    let edit = "mutation($id: ID!, $price: Long!, $version: Int!) { productUpdate(id: $id, input: {
        price: { minorUnits: $price, currency: \"EUR\" }, expectedVersion: $version }) { userErrors { code } } }";
    for (price, version) in [(1_100, 1), (500, 2)] {
        let variables = json!({ "id": product, "price": price, "version": version });
        app.query(Some(&staff.token), edit, variables).await;
    }
    let adjust =
        "mutation($id: ID!) { stockAdjust(productId: $id, delta: 5, reason: \"delivery\") { userErrors { code } } }";
    app.query(Some(&staff.token), adjust, json!({ "id": product })).await;
    let found = eventually("both are launched", async || {
        let found = campaigns(&app, &staff).await;
        (found.len() >= 2).then_some(found)
    })
    .await;
    let mut subjects: Vec<_> = found.iter().map(|campaign| campaign["subject"].as_str().unwrap()).collect();
    subjects.sort_unstable();
    assert!(subjects[0].ends_with("costs less now") != subjects[1].ends_with("costs less now"), "{subjects:?}");
    assert!(subjects.iter().any(|subject| subject.ends_with("is back")), "{subjects:?}");
    assert!(found.iter().all(|campaign| campaign["category"] == "Tests"));
}
