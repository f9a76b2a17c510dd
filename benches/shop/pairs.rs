//! Two shops that are asked the same in turn: what a request costs one of them against the other.

use std::path::Path;

use serde_json::{Value, json};

use crate::http::graphql_request;
use crate::job::{Job, run};
use crate::process::{Process, Settings};
use crate::shop::furnish;
use crate::table::Table;

/// Names the binary that this one is compared with.
pub const BEFORE: &str = "SOUK_BENCH_BEFORE";
pub const PAGE: &str =
    "{ products(first: 20) { edges { node { id sku name price { minorUnits currency } available } } } }";
const PRODUCT: &str =
    "query($id: ID!) { product(id: $id) { id sku name description price { minorUnits currency } available } }";
const ME: &str = "{ me { id name email orders(first: 5) { totalCount } } }";

/// A ratio, and the least of each side in microseconds.
pub struct Pair {
    pub ratio: f64,
    pub least: [f64; 2],
}

pub fn graphql(token: Option<&str>, query: &str, variables: Value) -> String {
    let body = json!({ "query": query, "variables": variables }).to_string();
    String::from_utf8(graphql_request(token, &body)).unwrap()
}

/// The CPU time of a request of the first shop over that of the second: the middle of some rounds.
pub fn measure(shops: &[Process; 2], requests: &[String; 2]) -> Pair {
    const REQUESTS: usize = 10_000;
    const ROUNDS: usize = 11;
    let (mut ratios, mut least) = (Vec::new(), [f64::MAX; 2]);
    for round in 0..=ROUNDS {
        let mut costs = [0.0; 2];
        // Which is first changes, so that neither always follows the other.
        for side in [round % 2, (round + 1) % 2] {
            let (shop, cpu) = (&shops[side], shops[side].cpu());
            let request = requests[side].clone();
            let done = run(&Job::Repeat { address: shop.address, request, clients: 16, requests: REQUESTS });
            assert_eq!(done.failures, 0, "every answer is a good one");
            costs[side] = (shop.cpu() - cpu) / REQUESTS as f64 * 1e6;
        }
        // The first one fills caches.
        if round > 0 {
            ratios.push(costs[0] / costs[1]);
            least = [least[0].min(costs[0]), least[1].min(costs[1])];
        }
    }
    ratios.sort_by(f64::total_cmp);
    Pair { ratio: ratios[ROUNDS / 2], least }
}

/// This binary against the one that [`BEFORE`] names.
pub fn against_before(folder: &Path, table: &mut Table) {
    let before = std::env::var(BEFORE).unwrap_or_else(|_| panic!("{BEFORE} names the binary to compare with"));
    let mut targets = Vec::new();
    let shops = [("now", None), ("before", Some(before.as_str()))].map(|(name, binary)| {
        let data_dir = folder.join(name);
        let shop = Process::shop_of(binary, &data_dir);
        targets.push(furnish(&shop, &data_dir, &Settings::new()).0);
        shop
    });
    let of_each = |query: &str, signed_in: bool| -> [String; 2] {
        [0, 1].map(|side| {
            let target = &targets[side];
            let variables = if query == PRODUCT { json!({ "id": target.products[0] }) } else { json!({}) };
            graphql(signed_in.then_some(target.tokens[0].as_str()), query, variables)
        })
    };
    for (what, query, signed_in) in [("product(id)", PRODUCT, false), ("page of 20", PAGE, false), ("me", ME, true)] {
        table.compare(&format!("CPU a request, {what}: now / before"), measure(&shops, &of_each(query, signed_in)));
    }
    shops.into_iter().for_each(Process::stop);
}
