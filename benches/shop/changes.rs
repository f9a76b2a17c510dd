//! From the confirmation of an order to recommendations without what was bought.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::process::Process;
use crate::shop::{Caller, furnish};
use crate::table::Table;

const PLACE: &str = "mutation($input: OrderPlaceInput!) { orderPlace(input: $input) { order { status } } }";
const LIST: &str = "{ me { recommendations(first: 20) { product { id } } } }";

pub fn measure(folder: &Path, table: &mut Table) {
    let data_dir = folder.join("changes");
    let shop = Process::shop(&data_dir, false);
    let (target, _) = furnish(&shop, &data_dir, &Vec::new());
    let mut caller = Caller::new(shop.address);
    let mut took: Vec<Duration> = target.tokens.iter().map(|token| change_of(&mut caller, token)).collect();
    took.sort_unstable();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    let what = "order CONFIRMED to its buyer's recommendations changed";
    table.row(&format!("{what}, p50"), format!("{:.0} ms", at(0.5)), "", None);
    table.row(&format!("{what}, p99"), format!("{:.0} ms", at(0.99)), "< 1000 ms", Some(at(0.99) < 1_000.0));
    shop.stop();
}

/// A customer buys the first of their recommendations, which then must be another one.
fn change_of(caller: &mut Caller, token: &str) -> Duration {
    let first = |caller: &mut Caller| {
        let list = caller.query(Some(token), LIST, json!({}));
        list["me"]["recommendations"][0]["product"]["id"].as_str().expect("something is recommended").to_owned()
    };
    let bought = first(caller);
    let input = json!({ "input": {
        "idempotencyKey": bought, "lines": [{ "productId": bought, "quantity": 1 }], "waitMs": 30_000 } });
    let placed = caller.query(Some(token), PLACE, input);
    let confirmed_at = Instant::now();
    assert_eq!(placed["orderPlace"]["order"]["status"], "CONFIRMED", "{placed}");
    while first(caller) == bought {
        assert!(confirmed_at.elapsed() < crate::DEADLINE, "the recommendations stay as they were");
        std::thread::sleep(Duration::from_millis(1));
    }
    confirmed_at.elapsed()
}
