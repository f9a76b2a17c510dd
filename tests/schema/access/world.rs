//! A shop in which everything that a row may lead to exists, of everybody who asks and of a stranger.

use serde_json::{Value, json};
use souk::domain::events::{PendingEvent, Topic, event_type, source};
use souk::domain::time::Timestamp;
use souk::domain::users::Role;
use souk::store::consumption::Consumption;

use super::rows::{About, Row};
use crate::support::client::unique;
use crate::support::{Account, PASSWORD, TestApp, eventually, spawn_app};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    Anonymous,
    /// A customer who owns nothing that is asked for.
    Other,
    Owner,
    Staff,
    Admin,
}

/// Whose object the root field's id names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// There is no id.
    Any,
    Own,
    Foreign,
    Missing,
}

impl Caller {
    pub const ALL: [Self; 5] = [Self::Anonymous, Self::Other, Self::Owner, Self::Staff, Self::Admin];

    pub fn is_staff(self) -> bool {
        matches!(self, Self::Staff | Self::Admin)
    }

    /// What this caller can ask about.
    pub fn targets(self, about: About) -> &'static [Target] {
        match about {
            About::Nothing => &[Target::Any],
            About::Shared => &[Target::Foreign, Target::Missing],
            About::Owned if matches!(self, Self::Anonymous | Self::Other) => &[Target::Foreign, Target::Missing],
            About::Owned => &[Target::Own, Target::Foreign, Target::Missing],
        }
    }
}

/// A user with an order, and what follows from it.
pub struct Person {
    pub account: Account,
    pub order: String,
    pub notification: String,
    pub api_key: String,
}

pub struct World {
    pub app: TestApp,
    other: Account,
    owner: Person,
    staff: Person,
    admin: Person,
    stranger: Person,
    pub product: String,
    pub campaign: String,
    pub dead_letter: String,
}

impl World {
    pub async fn new() -> Self {
        let app = spawn_app().await;
        let admin = app.account(Role::Admin).await;
        let [owner, stranger] = [app.sign_up().await, app.sign_up().await];
        let staff = app.staff().await;
        let product = app.create_product(&admin, 1_000).await;
        // Each buys something else, so that each is recommended what the others bought.
        let (owner, staff) = (person(&app, &admin, owner).await, person(&app, &admin, staff).await);
        let (stranger, own) = (person(&app, &admin, stranger).await, admin.clone());
        let admin = person(&app, &own, own.clone()).await;
        for person in [&owner, &staff, &admin] {
            let query = "{ me { recommendations(first: 1) { score } } }";
            eventually("something is recommended", async || {
                let data = app.query(Some(&person.account.token), query, json!({})).await;
                data["me"]["recommendations"][0].is_object().then_some(())
            })
            .await;
        }
        let launch =
            "mutation { campaignLaunch(input: { idempotencyKey: \"first\", subject: \"News\", message: \"New.\" }) {
            campaign { id } } }";
        let launched = app.query(Some(&staff.account.token), launch, json!({})).await;
        let campaign = launched["campaignLaunch"]["campaign"]["id"].as_str().unwrap().to_owned();
        let dead_letter = make_dead_letter(&app, &staff.account, "order-1").await;
        let other = app.sign_up().await;
        make_api_key(&app, &other).await;
        Self { app, other, owner, staff, admin, stranger, product, campaign, dead_letter }
    }

    pub fn account(&self, caller: Caller) -> Option<&Account> {
        match caller {
            Caller::Anonymous => None,
            Caller::Other => Some(&self.other),
            _ => Some(&self.person(caller).account),
        }
    }

    /// Whose account an anonymous caller tries to get into is the owner's.
    pub fn email(&self, caller: Caller) -> &str {
        &self.account(caller).unwrap_or(&self.owner.account).email
    }

    /// The caller's session. Mutations have one of their own, because some end sessions.
    pub async fn session(&self, caller: Caller, row: &Row) -> Option<Account> {
        let account = self.account(caller)?;
        match row.operation {
            "mutation" => Some(self.app.sign_in(&account.email, PASSWORD).await),
            _ => Some(account.clone()),
        }
    }

    fn person(&self, caller: Caller) -> &Person {
        match caller {
            Caller::Staff => &self.staff,
            Caller::Admin => &self.admin,
            Caller::Owner => &self.owner,
            Caller::Anonymous | Caller::Other => unreachable!("owns nothing"),
        }
    }

    /// The id of an object of a type.
    pub fn id(&self, type_name: &str, caller: Caller, target: Target) -> String {
        let owner = match target {
            Target::Own => self.person(caller),
            _ => &self.stranger,
        };
        let (id, missing) = match type_name {
            "User" => (&owner.account.id, "usr_00000000000000000000000001"),
            "Order" | "OrderUpdate" => (&owner.order, "ord_00000000000000000000000001"),
            "ApiKey" => (&owner.api_key, "key_00000000000000000000000001"),
            "Notification" => (&owner.notification, "ntf_00000000000000000000000001"),
            "Product" => (&self.product, "prd_00000000000000000000000001"),
            "Campaign" => (&self.campaign, "cmp_00000000000000000000000001"),
            "DeadLetter" => (&self.dead_letter, "dlt_aW52ZW50b3J5L29yZGVyLWV2ZW50cy8wLzk5OTk5OS8w"),
            unknown => panic!("no object of type {unknown}"),
        };
        if target == Target::Missing { missing.into() } else { id.clone() }
    }

    /// What nobody but the stranger and staff may change.
    pub async fn strangers_things(&self) -> Value {
        let query = "query($user: ID!, $product: ID!) {
            user(id: $user) { email name role preferences { orderUpdates promotions recommendations }
                orders { totalCount nodes { status version } } notifications { totalCount unreadCount } }
            product(id: $product) { name description price { minorUnits } archived version }
            campaigns { totalCount } deadLetters { totalCount nodes { replayedAt discardedAt } } }";
        let variables = json!({ "user": self.stranger.account.id, "product": self.product });
        self.app.query(Some(&self.admin.account.token), query, variables).await
    }
}

/// Buys a product of their own, and waits until they were told.
async fn person(app: &TestApp, staff: &Account, account: Account) -> Person {
    let product = app.create_product(staff, 1_000).await;
    let placed = app.place(&account, &unique("key"), &[(&product, 1)], 30_000).await;
    assert_eq!(placed["order"]["status"], "CONFIRMED", "{placed}");
    let query = "{ me { notifications { nodes { id kind } } } }";
    let notification = eventually("the order's notification", async || {
        let data = app.query(Some(&account.token), query, json!({})).await;
        let nodes = data["me"]["notifications"]["nodes"].as_array()?.clone();
        let told = nodes.into_iter().find(|node| node["kind"] == "ORDER_UPDATE")?;
        told["id"].as_str().map(str::to_owned)
    })
    .await;
    let api_key = make_api_key(app, &account).await;
    Person { account, order: placed["order"]["id"].as_str().unwrap().into(), notification, api_key }
}

async fn make_api_key(app: &TestApp, account: &Account) -> String {
    let create = "mutation { apiKeyCreate(input: { name: \"Key\", scopes: [ORDERS_READ] }) { apiKey { id } } }";
    let created = app.query(Some(&account.token), create, json!({})).await;
    created["apiKeyCreate"]["apiKey"]["id"].as_str().unwrap().to_owned()
}

/// Emits an event that no group can read; the id of the letter that becomes of it.
pub async fn make_dead_letter(app: &TestApp, staff: &Account, key: &str) -> String {
    let (topic, kind) = (Topic::OrderEvents, event_type::ORDER_PLACED);
    let body = json!({ "nonsense": key });
    let event = PendingEvent::new(topic, source::ORDERS, kind, key.to_owned(), 1, Timestamp(1), &body);
    let emitted = Consumption { group: "nobody".into(), dead_letters: vec![event], ..Consumption::default() };
    app.stores.order_consumption.consume(emitted).await.unwrap();
    eventually("the letter is kept", async || {
        let query = "{ deadLetters(source: \"inventory\") { nodes { id key } } }";
        let data = app.query(Some(&staff.token), query, json!({})).await;
        let nodes = data["deadLetters"]["nodes"].as_array()?.clone();
        nodes.iter().find(|node| node["key"] == key)?["id"].as_str().map(str::to_owned)
    })
    .await
}
