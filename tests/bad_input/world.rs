//! The shop that the rows are sent to, and what is stored in it.

use std::collections::BTreeMap;

use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};
use souk::config::Domain;
use souk::domain::users::Role;

use crate::row::Row;
use crate::support::client::unique;
use crate::support::{Account, TestApp, eventually, servers, spawn_app};

pub const MISSING_ORDER: &str = "ord_00000000000000000000000001";
pub const MISSING_PRODUCT: &str = "prd_00000000000000000000000001";
pub const MISSING_USER: &str = "usr_00000000000000000000000001";

pub struct World {
    pub app: TestApp,
    pub customer: Account,
    pub stranger: Account,
    pub staff: Account,
    pub admin: Account,
    /// Ten pieces at 12.50, version 1.
    pub product: String,
    pub sku: String,
    /// Costs as much as can be said.
    pub dear: String,
    pub full: String,
    pub archived: String,
    /// The customer's, CONFIRMED.
    pub order: String,
    pub delivered: String,
    pub cancelled: String,
    pub order_key: String,
    pub user_cursor: String,
}

impl World {
    pub async fn new() -> Self {
        let app = spawn_app().await;
        let (staff, admin) = (app.staff().await, app.account(Role::Admin).await);
        let (customer, stranger) = (app.sign_up().await, app.sign_up().await);
        let sku = unique("SKU");
        let product = create(&app, &staff, &sku, 1250, 12).await;
        let dear = create(&app, &staff, &unique("SKU"), i64::MAX, 10).await;
        let full = create(&app, &staff, &unique("SKU"), 1, i64::from(i32::MAX)).await;
        let archived = create(&app, &staff, &unique("SKU"), 1, 5).await;
        let archive = "mutation($id: ID!) { productArchive(id: $id, expectedVersion: 1) { userErrors { code } } }";
        app.query(Some(&staff.token), archive, json!({ "id": archived })).await;
        let order_key = unique("key");
        let mut orders = Vec::new();
        for key in [order_key.as_str(), "delivered", "cancelled"] {
            let placed = app.place(&customer, key, &[(&product, 1)], 30_000).await;
            assert_eq!(placed["order"]["status"], "CONFIRMED", "{placed}");
            orders.push(placed["order"]["id"].as_str().unwrap().to_owned());
        }
        for (step, id) in [("orderShip", &orders[1]), ("orderDeliver", &orders[1]), ("orderCancel", &orders[2])] {
            let query = format!("mutation($id: ID!) {{ {step}(id: $id) {{ order {{ id }} }} }}");
            let moved = app.query(Some(&staff.token), &query, json!({ "id": id })).await;
            assert!(moved[step]["order"].is_object(), "{moved}");
        }
        eventually("the cancelled piece is back", async || (app.available(&product).await == 10).then_some(())).await;
        eventually("everybody is told", async || {
            let query = "{ users(first: 100) { nodes { notifications(first: 1) { totalCount } } } }";
            let told = app.query(Some(&admin.token), query, json!({})).await["users"]["nodes"].take();
            let counts =
                told.as_array().unwrap().iter().map(|user| user["notifications"]["totalCount"].as_i64().unwrap());
            // Four welcomes, of three orders what became of them, and a digest that was not asked for and is skipped.
            (counts.sum::<i64>() == 11).then_some(())
        })
        .await;
        let users = app.query(Some(&admin.token), "{ users(first: 1) { pageInfo { endCursor } } }", json!({})).await;
        let user_cursor = users["users"]["pageInfo"]["endCursor"].as_str().unwrap().to_owned();
        let [order, delivered, cancelled] = orders.try_into().unwrap();
        Self {
            app,
            customer,
            stranger,
            staff,
            admin,
            product,
            sku,
            dear,
            full,
            archived,
            order,
            delivered,
            cancelled,
            order_key,
            user_cursor,
        }
    }

    /// Sends every row; then nothing may be stored and nothing restarted.
    pub async fn judge(&self, rows: &[Row]) {
        let before = self.stored().await;
        let mut failures = Vec::new();
        for row in rows {
            failures.extend(row.judge(&self.app).await);
        }
        assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
        self.check_unchanged(&before).await;
    }

    pub async fn check_unchanged(&self, before: &(Value, BTreeMap<String, i64>)) {
        let after = self.stored().await;
        assert_eq!(before.0, after.0, "what staff see has changed");
        assert_eq!(before.1, after.1, "rows or documents were stored");
        self.check_no_restarts().await;
    }

    /// What staff see of users, products and orders, and the number of rows in every table or documents in every collection.
    pub async fn stored(&self) -> (Value, BTreeMap<String, i64>) {
        let query = "{ users(first: 100) { totalCount nodes { id email name role preferences {
                orderUpdates promotions recommendations } } }
            products(first: 100) { totalCount nodes { id sku name description category version available archived
                price { minorUnits } } }
            orders(first: 100) { totalCount nodes { id status version } } }";
        let seen = self.app.query(Some(&self.admin.token), query, json!({})).await;
        let counts =
            if servers::are_used() { documents_of_collections(&self.app).await } else { rows_of_tables(&self.app) };
        (seen, counts)
    }

    pub async fn check_no_restarts(&self) {
        let level = "name state restarts lastPanic";
        let query = format!(
            "{{ supervision {{ {level} children {{ {level} children {{ {level} children {{ {level} }} }} }} }} }}"
        );
        let tree = self.app.query(Some(&self.admin.token), &query, json!({})).await["supervision"].take();
        let mut nodes = vec![tree];
        let mut seen = 0;
        while let Some(node) = nodes.pop() {
            assert_eq!((&node["restarts"], &node["state"]), (&json!(0), &json!("RUNNING")), "{node}");
            nodes.extend(node["children"].as_array().cloned().unwrap_or_default());
            seen += 1;
        }
        assert!(seen >= 4, "the tree has its actors");
    }
}

async fn create(app: &TestApp, staff: &Account, sku: &str, price: i64, available: i64) -> String {
    let query = "mutation($input: ProductCreateInput!) { productCreate(input: $input) { product { id } userErrors { message } } }";
    let input = json!({ "sku": sku, "name": "Product", "category": "Tests", "available": available,
        "price": { "minorUnits": price, "currency": "EUR" } });
    let data = app.query(Some(&staff.token), query, json!({ "input": input })).await;
    data["productCreate"]["product"]["id"].as_str().unwrap_or_else(|| panic!("{data}")).to_owned()
}

/// Tables and collections that change by themselves: what is published leaves the outbox, consumers note how far they have
/// skipped, mail is sent at its pace, and readiness may write.
const PASSING: [&str; 5] = ["pending_events", "unpublished", "consumed", "pace", "health"];

/// Of every table but those.
fn rows_of_tables(app: &TestApp) -> BTreeMap<String, i64> {
    let mut counts = BTreeMap::new();
    for file in ["users.db", "products.db", "orders.db", "recommendations.db", "notifications.db", "operations.db"] {
        let connection = Connection::open_with_flags(app.config.data_dir.join(file), OpenFlags::SQLITE_OPEN_READ_ONLY);
        let connection = connection.unwrap();
        let mut names = connection.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'").unwrap();
        let names: Vec<String> = names.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        // Purchases are learned some time after they were made: only what a request stores by itself is counted.
        let is_by_request = |name: &String| file != "recommendations.db" || name == "ratings";
        let tables = names.into_iter().filter(|name| !PASSING.contains(&name.as_str()) && !name.starts_with("sqlite_"));
        for name in tables.filter(is_by_request) {
            let count = connection.query_row(&format!("SELECT count(*) FROM {name}"), [], |row| row.get(0)).unwrap();
            counts.insert(format!("{file} {name}"), count);
        }
    }
    counts
}

/// Of every collection but those.
async fn documents_of_collections(app: &TestApp) -> BTreeMap<String, i64> {
    let store = &app.config.store;
    let client = mongodb::Client::with_uri_str(store.uri.expose()).await.unwrap();
    let mut counts = BTreeMap::new();
    for domain in Domain::ALL {
        let database = client.database(&format!("{}{}", store.prefix, domain.name()));
        let names = database.list_collection_names().await.unwrap();
        let is_by_request = |name: &String| domain != Domain::Recommendations || name == "ratings";
        let names = names.into_iter().filter(|name| !PASSING.contains(&name.as_str()) && !name.starts_with("system."));
        for name in names.filter(is_by_request) {
            let collection = database.collection::<mongodb::bson::Document>(&name);
            let count = collection.count_documents(mongodb::bson::doc! {}).await.unwrap();
            counts.insert(format!("{} {name}", domain.name()), count.try_into().unwrap());
        }
    }
    counts
}
