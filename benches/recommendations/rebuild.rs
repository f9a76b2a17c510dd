//! A rebuild from a million orders over 100,000 products: how long it takes, and how much memory.

use std::time::Instant;

use souk::app::{Rebuilt, rebuild};
use souk::domain::recommendations::Rules;
use souk::store::sqlite::SqliteRecommendationStore;

use crate::orders::GeneratedOrders;

/// `SOUK_BENCH_ORDERS` gives another number.
const ORDERS: u64 = 1_000_000;
pub const PRODUCTS: u64 = 100_000;

/// The most memory that this process has had, in MiB.
fn peak_mebibytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("the system tells");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("the system counts it");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number of KiB") / 1_024
}

pub fn measure(rules: &Rules) {
    let orders = std::env::var("SOUK_BENCH_ORDERS").ok().and_then(|number| number.parse().ok()).unwrap_or(ORDERS);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("recommendations.db");
    let store = SqliteRecommendationStore::open(&path).expect("the store opens").0;
    let generated = GeneratedOrders { orders, products: PRODUCTS };
    let before = peak_mebibytes();
    let began = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let rebuilt = runtime.block_on(rebuild(&generated, &store, rules.limits, &|_, _| {})).expect("it rebuilds");
    assert_eq!(rebuilt, Rebuilt::Done(orders));
    let took = began.elapsed();
    store.close();
    let file = std::fs::metadata(&path).expect("the file").len() / (1024 * 1024);
    println!("| a rebuild of {orders} orders over {PRODUCTS} products | figure |");
    println!("| --- | --- |");
    println!("| time | {:.0} s ({:.0} orders/s) |", took.as_secs_f64(), orders as f64 / took.as_secs_f64());
    println!("| memory, most of the process, before and after | {before} MiB, {} MiB |", peak_mebibytes());
    println!("| file | {file} MiB |");
}
