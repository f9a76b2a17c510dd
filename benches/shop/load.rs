//! Closed loops: each client sends its next request when the last one is answered.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use tokio::task::LocalSet;

use crate::http::{Connection, graphql_request};
use crate::job::{Done, Target};

const ORDER_PLACE: &str = "mutation($input: OrderPlaceInput!) { orderPlace(input: $input) { order { id number status } userErrors { code message } } }";

/// Digits of an order's number in its idempotency key: the request is made once, the digits are written over.
const DIGITS: usize = 9;

/// One customer's order, to be sent again and again under new keys.
pub struct OrderRequest {
    bytes: Vec<u8>,
    key: usize,
    product: usize,
    products: Rc<Vec<String>>,
}

impl OrderRequest {
    pub fn new(token: &str, products: Rc<Vec<String>>, lines: usize, prefix: &str) -> Self {
        let blank = "0".repeat(DIGITS);
        let lines: Vec<_> = (0..lines)
            .map(|line| serde_json::json!({ "productId": products[(line + 1) % products.len()], "quantity": 1 }))
            .collect();
        let mut body = serde_json::json!({
            "query": ORDER_PLACE,
            "variables": { "input": { "idempotencyKey": format!("{prefix}-{blank}"), "waitMs": 0, "lines": lines } },
        });
        // The first line's product changes with each order.
        body["variables"]["input"]["lines"][0]["productId"] = products[0].clone().into();
        let bytes = graphql_request(Some(token), &body.to_string());
        let text = std::str::from_utf8(&bytes).unwrap();
        let key = text.find(&format!("{prefix}-{blank}")).unwrap() + prefix.len() + 1;
        let product = text.find(&products[0]).unwrap();
        Self { bytes, key, product, products }
    }

    pub fn numbered(&mut self, number: usize) -> &[u8] {
        let digits = format!("{number:0DIGITS$}");
        self.bytes[self.key..self.key + DIGITS].copy_from_slice(digits.as_bytes());
        let product = self.products[number * 7 % self.products.len()].as_bytes();
        self.bytes[self.product..self.product + product.len()].copy_from_slice(product);
        &self.bytes
    }
}

/// Whether an answer to `orderPlace` accepts the order.
pub fn is_accepted(status: u16, body: &str) -> bool {
    status == 200 && body.contains("\"userErrors\":[]") && body.contains("\"PENDING\"") && !body.contains("\"errors\"")
}

#[derive(Default)]
pub struct Failures {
    count: Cell<usize>,
    first: RefCell<Option<String>>,
}

impl Failures {
    pub fn note(&self, status: u16, body: &str) {
        self.count.set(self.count.get() + 1);
        self.first.borrow_mut().get_or_insert_with(|| format!("{status} {body}"));
    }

    pub fn done_in(&self, seconds: f64) -> Done {
        Done { seconds, failures: self.count.get(), failure: self.first.take(), ..Done::default() }
    }
}

pub async fn place(target: Target, clients: usize, orders: usize, lines: usize, prefix: &str) -> Done {
    let products = Rc::new(target.products);
    let next = Rc::new(Cell::new(0));
    let failures = Rc::new(Failures::default());
    let mut connections = Vec::new();
    for client in 0..clients {
        let token = &target.tokens[client % target.tokens.len()];
        let prefix = format!("{prefix}-{client}");
        let request = OrderRequest::new(token, Rc::clone(&products), lines, &prefix);
        connections.push((Connection::open(target.address).await, request));
    }
    let tasks = LocalSet::new();
    let began = Instant::now();
    for (mut connection, mut request) in connections {
        let (next, failures) = (Rc::clone(&next), Rc::clone(&failures));
        tasks.spawn_local(async move {
            loop {
                let number = next.get();
                if number >= orders {
                    return;
                }
                next.set(number + 1);
                let (status, body) = connection.call(request.numbered(number)).await;
                if !is_accepted(status, body) {
                    failures.note(status, body);
                }
            }
        });
    }
    tasks.await;
    failures.done_in(began.elapsed().as_secs_f64())
}

pub async fn repeat(address: SocketAddr, request: String, clients: usize, requests: usize) -> Done {
    let request = Rc::new(request.into_bytes());
    let next = Rc::new(Cell::new(0));
    let bytes = Rc::new(Cell::new(0));
    let failures = Rc::new(Failures::default());
    let tasks = LocalSet::new();
    let began = Instant::now();
    for _ in 0..clients {
        let (request, next) = (Rc::clone(&request), Rc::clone(&next));
        let (failures, bytes) = (Rc::clone(&failures), Rc::clone(&bytes));
        tasks.spawn_local(async move {
            let mut connection = Connection::open(address).await;
            while next.get() < requests {
                next.set(next.get() + 1);
                let (status, body) = connection.call(&request).await;
                bytes.set(body.len());
                if status != 200 || body.contains("\"errors\"") {
                    failures.note(status, body);
                }
            }
        });
    }
    tasks.await;
    Done { answer_bytes: bytes.get(), ..failures.done_in(began.elapsed().as_secs_f64()) }
}
