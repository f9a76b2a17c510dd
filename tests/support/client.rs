//! A GraphQL client over HTTP, with the few operations that most tests need.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use super::PASSWORD;

static COUNTER: AtomicU64 = AtomicU64::new(1);

/// A text that no other call of this process has given.
pub fn unique(prefix: &str) -> String {
    format!("{prefix}-{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed))
}

pub fn fresh_email() -> String {
    format!("{}@test.example", unique("user"))
}

/// A signed-in user.
#[derive(Debug, Clone)]
pub struct Account {
    pub id: String,
    pub email: String,
    pub token: String,
    pub refresh_token: String,
}

#[derive(Clone)]
pub struct Client {
    pub http: reqwest::Client,
    pub address: SocketAddr,
}

impl Client {
    pub fn new(address: SocketAddr) -> Self {
        Self { http: reqwest::Client::new(), address }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The whole answer, whatever it says; `Err` when the server could not be reached or broke off.
    pub async fn try_query(&self, token: Option<&str>, query: &str, variables: Value) -> reqwest::Result<Value> {
        let mut request = self.http.post(self.url("/graphql")).json(&json!({ "query": query, "variables": variables }));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        request.send().await?.json().await
    }

    /// The whole answer, whatever it says.
    pub async fn answer(&self, token: Option<&str>, query: &str, variables: Value) -> Value {
        self.try_query(token, query, variables).await.expect("the server answers JSON")
    }

    /// The data of an answer without errors.
    pub async fn query(&self, token: Option<&str>, query: &str, variables: Value) -> Value {
        let mut answer = self.answer(token, query, variables).await;
        assert!(answer.get("errors").is_none(), "unexpected errors: {answer}");
        answer["data"].take()
    }

    pub async fn sign_up(&self) -> Account {
        let email = fresh_email();
        let data = self
            .query(
                None,
                "mutation($input: SignUpInput!) { signUp(input: $input) {
                    session { accessToken refreshToken user { id email } } userErrors { code message } } }",
                json!({ "input": { "email": email, "name": "Test Customer", "password": PASSWORD } }),
            )
            .await;
        account(&data["signUp"])
    }

    pub async fn sign_in(&self, email: &str, password: &str) -> Account {
        let data = self
            .query(
                None,
                "mutation($input: SignInInput!) { signIn(input: $input) {
                    session { accessToken refreshToken user { id email } } userErrors { code message } } }",
                json!({ "input": { "email": email, "password": password } }),
            )
            .await;
        account(&data["signIn"])
    }

    /// A product with this many pieces; its id.
    pub async fn create_product(&self, staff: &Account, available: i64) -> String {
        let input = json!({
            "sku": unique("SKU"), "name": unique("Product"), "description": "Made by a test.", "category": "Tests",
            "price": { "minorUnits": 1250, "currency": "EUR" }, "available": available,
        });
        let data = self
            .query(
                Some(&staff.token),
                "mutation($input: ProductCreateInput!) { productCreate(input: $input) {
                    product { id } userErrors { code message field } } }",
                json!({ "input": input }),
            )
            .await;
        let id = data["productCreate"]["product"]["id"].as_str();
        id.unwrap_or_else(|| panic!("no product was made: {data}")).to_owned()
    }

    /// The payload of `orderPlace`; `lines` are product ids with quantities.
    pub async fn place(&self, account: &Account, key: &str, lines: &[(&str, i64)], wait_ms: i64) -> Value {
        let data = self.query(Some(&account.token), ORDER_PLACE, place_variables(key, lines, wait_ms)).await;
        data["orderPlace"].clone()
    }

    /// An order as its customer or staff sees it; `null` when it is not theirs.
    pub async fn order(&self, account: &Account, id: &str) -> Value {
        let data = self
            .query(
                Some(&account.token),
                "query($id: ID!) { order(id: $id) { id number status version total { minorUnits }
                    lines { productId quantity } timeline { sequence status at note } availableTransitions } }",
                json!({ "id": id }),
            )
            .await;
        data["order"].clone()
    }

    /// What is in stock of a product.
    pub async fn available(&self, id: &str) -> i64 {
        let data = self.query(None, "query($id: ID!) { product(id: $id) { available } }", json!({ "id": id })).await;
        data["product"]["available"].as_i64().unwrap_or_else(|| panic!("no product {id}"))
    }
}

/// The mutation behind [`Client::place`].
pub const ORDER_PLACE: &str = "mutation($input: OrderPlaceInput!) { orderPlace(input: $input) {
    order { id number status version timeline { sequence status } } replayed
    userErrors { __typename code message field
        ... on InsufficientStockError { productId requested available }
        ... on RetryLaterError { retryAfterMs } } } }";

pub fn place_variables(key: &str, lines: &[(&str, i64)], wait_ms: i64) -> Value {
    let lines: Vec<_> = lines.iter().map(|(id, quantity)| json!({ "productId": id, "quantity": quantity })).collect();
    json!({ "input": { "idempotencyKey": key, "lines": lines, "waitMs": wait_ms } })
}

fn account(payload: &Value) -> Account {
    let session = &payload["session"];
    let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("no session: {payload}")).to_owned();
    Account {
        id: text(&session["user"]["id"]),
        email: text(&session["user"]["email"]),
        token: text(&session["accessToken"]),
        refresh_token: text(&session["refreshToken"]),
    }
}
