//! A shop to measure: staff, customers and products, made through the API, and the questions asked of it meanwhile.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::http::{Connection, graphql_request};
use crate::job::Target;
use crate::process::{Process, Settings, souk};

pub const CUSTOMERS: usize = 128;
const PRODUCTS: usize = 200;
const PASSWORD: &str = "correct horse battery";
const STAFF: &str = "staff@bench.example";

/// One caller outside the load.
pub struct Caller {
    runtime: tokio::runtime::Runtime,
    address: SocketAddr,
}

impl Caller {
    pub fn new(address: SocketAddr) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { runtime, address }
    }

    pub fn query(&mut self, token: Option<&str>, query: &str, variables: Value) -> Value {
        let request = graphql_request(token, &json!({ "query": query, "variables": variables }).to_string());
        // A connection of its own: between two questions the server closes one that has been idle for too long.
        let mut answer: Value = self.runtime.block_on(async {
            let mut connection = Connection::open(self.address).await;
            serde_json::from_str(connection.call(&request).await.1).unwrap()
        });
        assert!(answer.get("errors").is_none(), "{answer}");
        answer["data"].take()
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

/// The customers and products of a new shop, with the token of its staff.
pub fn furnish(shop: &Process, data_dir: &Path, settings: &Settings) -> (Target, String) {
    let mut create = souk(data_dir, settings);
    create.args(["admin", "create", "--email", STAFF, "--name", "Bench", "--password-stdin"]);
    let mut child = create.spawn().unwrap();
    writeln!(child.stdin.take().unwrap(), "{PASSWORD}").unwrap();
    assert!(child.wait().unwrap().success(), "an administrator is made");
    let mut caller = Caller::new(shop.address);
    let staff = staff_token(&mut caller);
    let products = (0..PRODUCTS)
        .map(|number| {
            let input = json!({
                "sku": format!("BENCH-{number}"), "name": format!("Measured Product {number}"), "category": "Bench",
                "description": "A product that is ordered so often that its stock must not end while it is measured.",
                "price": { "minorUnits": 1_250 + number, "currency": "EUR" }, "available": 100_000_000,
            });
            let made = caller.query(
                Some(&staff),
                "mutation($input: ProductCreateInput!) { productCreate(input: $input) { product { id } userErrors { message } } }",
                json!({ "input": input }),
            );
            text(&made["productCreate"]["product"]["id"])
        })
        .collect();
    let tokens = (0..CUSTOMERS)
        .map(|number| {
            let input = json!({ "email": format!("c{number}@bench.example"), "name": "Customer", "password": PASSWORD });
            let made = caller.query(
                None,
                "mutation($input: SignUpInput!) { signUp(input: $input) { session { accessToken } userErrors { message } } }",
                json!({ "input": input }),
            );
            text(&made["signUp"]["session"]["accessToken"])
        })
        .collect();
    (Target { address: shop.address, tokens, products }, staff)
}

pub fn staff_token(caller: &mut Caller) -> String {
    let input = json!({ "email": STAFF, "password": PASSWORD });
    let signed_in = caller.query(
        None,
        "mutation($input: SignInInput!) { signIn(input: $input) { session { accessToken } userErrors { message } } }",
        json!({ "input": input }),
    );
    text(&signed_in["signIn"]["session"]["accessToken"])
}

/// How many orders have this status.
pub fn count(caller: &mut Caller, staff: &str, status: &str) -> u64 {
    let query = "query($status: [OrderStatus!]) { orders(first: 1, where: { status: $status }) { totalCount } }";
    let answer = caller.query(Some(staff), query, json!({ "status": [status] }));
    answer["orders"]["totalCount"].as_u64().unwrap()
}

/// Waits until no order is PENDING.
pub fn settle(caller: &mut Caller, staff: &str) {
    let began = Instant::now();
    loop {
        let pending = count(caller, staff, "PENDING");
        if pending == 0 {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(300), "orders stay PENDING");
        // Counting many costs the shop a while, and they are not decided at once.
        std::thread::sleep(Duration::from_micros((pending * 50).clamp(20_000, 1_000_000)));
    }
}
