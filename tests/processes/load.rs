//! Customers who order until they are told to stop, at whichever process answers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::support::Account;
use crate::support::client::place_variables;

/// How long anything may take: a server that was killed has to come back first.
pub const PATIENCE: Duration = Duration::from_secs(90);

const PLACE: &str = "mutation($input: OrderPlaceInput!) { orderPlace(input: $input) {
    order { id status } replayed userErrors { __typename message } } }";

/// What was answered: each key's order.
#[derive(Default)]
pub struct Answers {
    pub orders: BTreeMap<String, String>,
    /// Answers that were errors or did not come, all of them asked again.
    pub refused: u64,
    /// A key that was asked again and was there already.
    pub replayed: u64,
}

#[derive(Clone)]
pub struct Load {
    /// The gateways that are there.
    pub gateways: watch::Receiver<Vec<SocketAddr>>,
    pub stop: watch::Receiver<bool>,
    pub answers: Arc<Mutex<Answers>>,
    pub http: reqwest::Client,
    pub products: Arc<Vec<String>>,
}

impl Load {
    fn some_gateway(&self, draw: &mut StdRng) -> Option<SocketAddr> {
        let gateways = self.gateways.borrow();
        (!gateways.is_empty()).then(|| gateways[draw.random_range(0..gateways.len())])
    }

    async fn ask(&self, gateway: SocketAddr, token: &str, variables: &Value) -> Option<Value> {
        let request = self.http.post(format!("http://{gateway}/graphql")).bearer_auth(token);
        let body: Value =
            request.json(&json!({ "query": PLACE, "variables": variables })).send().await.ok()?.json().await.ok()?;
        let placed = &body["data"]["orderPlace"];
        placed["order"]["id"].is_string().then(|| placed.clone())
    }

    /// Places an order and asks again, perhaps elsewhere, until it is answered.
    pub async fn place(&self, account: &Account, key: &str, draw: &mut StdRng, wait_ms: i64) -> Value {
        let product = &self.products[draw.random_range(0..self.products.len())];
        let variables = place_variables(key, &[(product, draw.random_range(1..3))], wait_ms);
        let began = Instant::now();
        loop {
            if let Some(gateway) = self.some_gateway(draw)
                && let Some(placed) = self.ask(gateway, &account.token, &variables).await
            {
                let mut answers = self.answers.lock().unwrap();
                let id = placed["order"]["id"].as_str().unwrap().to_owned();
                answers.replayed += u64::from(placed["replayed"] == true);
                let known = answers.orders.insert(key.to_owned(), id.clone());
                assert!(known.is_none_or(|known| known == id), "one key, two orders");
                return placed;
            }
            self.answers.lock().unwrap().refused += 1;
            assert!(began.elapsed() < PATIENCE, "an order was refused for {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn customer(self, account: Account, number: u64) {
        let mut draw = StdRng::seed_from_u64(number);
        let mut count = 0;
        while !*self.stop.borrow() {
            self.place(&account, &format!("{number}-{count}"), &mut draw, 0).await;
            count += 1;
        }
    }
}
