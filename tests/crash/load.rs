//! The load: customers, staff and what they were answered.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use souk::domain::orders::OrderStatus;
use tokio::sync::watch;

use crate::support::client::{Account, Client, ORDER_PLACE, place_variables, unique};

pub const CUSTOMERS: usize = 6;
pub const PRODUCTS: usize = 8;
pub const OPENING_STOCK: i64 = 150;

pub fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// Lets this much time pass.
pub async fn pass(time: Duration) {
    drop(tokio::time::timeout(time, std::future::pending::<()>()).await);
}

// ---- What was sent and what was answered ----

#[derive(Default)]
pub struct Book {
    /// (customer, key) of every order that was sent.
    pub sent: HashSet<(String, String)>,
    /// The id under which each was answered.
    pub placed: HashMap<(String, String), String>,
    /// Orders in the order of their answers, for those who work on them.
    pub orders: Vec<(usize, String)>,
    /// Changes that were answered with the order in that status.
    pub reached: Vec<(String, OrderStatus)>,
    /// Adjustments that were sent, by key.
    pub adjusting: HashMap<String, (String, i64)>,
    pub adjusted: HashSet<String>,
    pub refused: HashSet<String>,
    /// Requests without an answer, which were repeated.
    pub repeated: usize,
}

/// Where the shop is now; `None` between a kill and the next start.
pub type Whereabouts = watch::Receiver<Option<SocketAddr>>;

#[derive(Clone)]
pub struct Load {
    pub shop: Whereabouts,
    pub stop: watch::Receiver<bool>,
    pub book: Arc<Mutex<Book>>,
    pub http: reqwest::Client,
    pub customers: Arc<Vec<Account>>,
    pub staff: Account,
    pub products: Arc<Vec<String>>,
}

impl Load {
    pub fn book(&self) -> std::sync::MutexGuard<'_, Book> {
        self.book.lock().unwrap()
    }

    pub fn goes_on(&self) -> bool {
        !*self.stop.borrow()
    }

    /// Repeats the request until it has an answer: the payload of its one mutation.
    pub async fn answered(&mut self, token: &str, query: &str, variables: &Value, payload: &str) -> Value {
        let began = Instant::now();
        loop {
            let now = *self.shop.borrow_and_update();
            let Some(address) = now else {
                self.shop.changed().await.expect("the shop comes back");
                continue;
            };
            let client = Client { http: self.http.clone(), address };
            if let Ok(answer) = client.try_query(Some(token), query, variables.clone()).await {
                let data = &answer["data"][payload];
                let later = data["userErrors"][0]["code"] == "BUSY";
                if answer.get("errors").is_none() && !later {
                    return data.clone();
                }
                let code = &answer["errors"][0]["extensions"]["code"];
                let retryable = later || code == "UNAVAILABLE" || code == "TIMEOUT";
                assert!(retryable, "an answer that no repetition mends: {answer} to {variables}");
            }
            assert!(began.elapsed() < Duration::from_secs(60), "no answer for a minute: {variables}");
            self.book().repeated += 1;
            drop(tokio::time::timeout(Duration::from_millis(20), self.shop.changed()).await);
        }
    }

    pub async fn customer(mut self, who: usize, mut draw: StdRng) {
        let account = self.customers[who].clone();
        while self.goes_on() {
            if draw.random_bool(0.2) {
                self.cancel_one(&account, who, &mut draw).await;
                continue;
            }
            let key = unique("order");
            let lines: Vec<(String, i64)> = (0..draw.random_range(1..=3))
                .map(|_| (self.products[draw.random_range(0..PRODUCTS)].clone(), draw.random_range(1..=2)))
                .collect();
            let wait = [0, 0, 20, 200][draw.random_range(0..4)];
            self.place(&account, who, &key, &lines, wait).await;
            if draw.random_bool(0.1) {
                self.place(&account, who, &key, &lines, 0).await;
            }
        }
    }

    pub async fn place(&mut self, account: &Account, who: usize, key: &str, lines: &[(String, i64)], wait: i64) {
        let sent = (account.id.clone(), key.to_owned());
        self.book().sent.insert(sent.clone());
        let lines: Vec<(&str, i64)> = lines.iter().map(|(id, quantity)| (id.as_str(), *quantity)).collect();
        let variables = place_variables(key, &lines, wait);
        let payload = self.answered(&account.token, ORDER_PLACE, &variables, "orderPlace").await;
        let id = payload["order"]["id"].as_str().unwrap_or_else(|| panic!("no order: {payload}")).to_owned();
        let mut book = self.book();
        match book.placed.insert(sent, id.clone()) {
            None => book.orders.push((who, id.clone())),
            Some(before) => {
                assert_eq!(before, id, "a repeated key is answered with its order");
                assert_eq!(payload["replayed"], true, "{payload}");
            }
        }
        let status = OrderStatus::named(payload["order"]["status"].as_str().unwrap()).unwrap();
        book.reached.push((id, status));
    }

    pub async fn cancel_one(&mut self, account: &Account, who: usize, draw: &mut StdRng) {
        let mine: Vec<String> = {
            let book = self.book();
            book.orders.iter().rev().filter(|(of, _)| *of == who).take(20).map(|(_, id)| id.clone()).collect()
        };
        if mine.is_empty() {
            tokio::task::yield_now().await;
            return;
        }
        let id = mine[draw.random_range(0..mine.len())].clone();
        self.advance(&account.token, "orderCancel", &id).await;
    }

    /// False: the order's status does not allow it (any more).
    pub async fn advance(&mut self, token: &str, mutation: &str, id: &str) -> bool {
        let query =
            format!("mutation($id: ID!) {{ {mutation}(id: $id) {{ order {{ status }} userErrors {{ code }} }} }}");
        let payload = self.answered(token, &query, &json!({ "id": id }), mutation).await;
        match payload["order"]["status"].as_str().and_then(OrderStatus::named) {
            Some(status) if payload["userErrors"].as_array().is_some_and(Vec::is_empty) => {
                self.book().reached.push((id.to_owned(), status));
                true
            }
            _ => {
                assert_eq!(payload["userErrors"][0]["code"], "ILLEGAL_TRANSITION", "{mutation} {id}: {payload}");
                false
            }
        }
    }

    pub async fn ship_and_deliver(mut self, mut draw: StdRng) {
        let token = self.staff.token.clone();
        while self.goes_on() {
            let order = {
                let book = self.book();
                let recent = book.orders.len().saturating_sub(60);
                let orders = &book.orders[recent..];
                (!orders.is_empty()).then(|| orders[draw.random_range(0..orders.len())].1.clone())
            };
            if let Some(id) = order
                && self.advance(&token, "orderShip", &id).await
                && draw.random_bool(0.7)
            {
                self.advance(&token, "orderDeliver", &id).await;
            }
            pass(Duration::from_millis(5)).await;
        }
    }

    pub async fn adjust(mut self, mut draw: StdRng) {
        let token = self.staff.token.clone();
        let query =
            "mutation($product: ID!, $delta: Int!, $key: String) { stockAdjust(productId: $product, delta: $delta,
            reason: \"counted\", idempotencyKey: $key) { product { id } userErrors { code } } }";
        while self.goes_on() {
            let (key, product) = (unique("adjust"), self.products[draw.random_range(0..PRODUCTS)].clone());
            let delta = draw.random_range(-20..=30);
            self.book().adjusting.insert(key.clone(), (product.clone(), delta));
            let variables = json!({ "product": product, "delta": delta, "key": key });
            let times = if draw.random_bool(0.1) { 2 } else { 1 };
            for _ in 0..times {
                let payload = self.answered(&token, query, &variables, "stockAdjust").await;
                match payload["userErrors"][0]["code"].as_str() {
                    None => assert!(self.book().adjusted.insert(key.clone()) || times == 2),
                    Some("INVALID_INPUT") => {
                        self.book().refused.insert(key.clone());
                        break;
                    }
                    Some(other) => panic!("an adjustment answered {other}: {payload}"),
                }
            }
            pass(Duration::from_millis(5)).await;
        }
    }
}

// ---- What is in the files ----
