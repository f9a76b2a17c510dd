//! The corpus of hostile requests: each is refused by its limit, costs little, and leaves the shop as it was.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::hostile::{Corpus, Hostile};
use crate::support::process::ShopProcess;
use crate::support::{Client, spawn_app};

async fn send(client: &Client, body: &str) -> (u16, Value) {
    let request = client.http.post(client.url("/graphql")).header("content-type", "application/json");
    let response = request.header("accept", "application/graphql-response+json").body(body.to_owned()).send().await;
    let response = response.unwrap();
    let status = response.status().as_u16();
    (status, response.json().await.unwrap())
}

/// What is wrong with the answer to a hostile request.
fn problem(hostile: &Hostile, status: u16, answer: &Value) -> Option<String> {
    let error = &answer["errors"][0];
    let (code, message) = (&error["extensions"]["code"], error["message"].as_str().unwrap_or(""));
    let errors = answer["errors"].as_array().map_or(0, Vec::len);
    let is_refused = status == 400 && code == hostile.code && message.contains(hostile.says);
    let is_short = errors <= 21 && answer.get("data").is_none();
    (!is_refused || !is_short).then(|| {
        let text: String = answer.to_string().chars().take(200).collect();
        format!("{}: {status} {errors} errors, expected {} {:?}: {text}", hostile.name, hostile.code, hostile.says)
    })
}

#[actix_rt::test]
async fn every_hostile_request_is_refused_by_the_limit_made_for_it_while_others_are_served() {
    let app = spawn_app().await;
    let corpus = Corpus::new().0;
    println!("{} hostile requests", corpus.len());
    assert!(corpus.len() >= 200);
    let mut failures = Vec::new();
    for (place, hostile) in corpus.iter().enumerate() {
        let (status, answer) = send(&app, &hostile.body).await;
        failures.extend(problem(hostile, status, &answer));
        if place % 10 == 0 {
            let served = app.query(None, "{ categories { name } }", json!({})).await;
            assert_eq!(served, json!({ "categories": [] }));
        }
    }
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
}

/// The memory of a process in KiB.
fn resident_kib(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_requests_leave_no_memory_behind() {
    /// What allocators keep and caches fill after the first round.
    const GROWTH_KIB: u64 = 32 * 1_024;
    let dir = tempfile::tempdir().unwrap();
    let shop = ShopProcess::start(&dir.path().join("data"), &[]);
    let client = shop.client();
    let corpus = Corpus::new().0;
    let mut sizes = Vec::new();
    for _ in 0..3 {
        for hostile in &corpus {
            send(&client, &hostile.body).await;
        }
        sizes.push(resident_kib(shop.id()));
    }
    println!("resident after each round: {sizes:?} KiB");
    assert!(sizes[2] <= sizes[0] + GROWTH_KIB, "{sizes:?}");
}

/// The CPU time that all threads of a process have had.
fn cpu_time(process: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let of_thread = |path: std::path::PathBuf| {
        let text = fs::read_to_string(path.join("schedstat")).unwrap_or_default();
        text.split(' ').next().and_then(|nanoseconds| nanoseconds.parse().ok()).unwrap_or(0)
    };
    Duration::from_nanos(threads.map(|thread| of_thread(thread.unwrap().path())).sum())
}

/// The CPU time of one request, as the quickest of some rounds has it.
async fn cost(shop: &ShopProcess, client: &Client, body: &str) -> Duration {
    const ROUNDS: usize = 5;
    const REQUESTS: u32 = 10;
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        let before = cpu_time(shop.id());
        for _ in 0..REQUESTS {
            send(client, body).await;
        }
        best = best.min((cpu_time(shop.id()) - before) / REQUESTS);
    }
    best
}

/// The harmless request that is compared with: as many bytes, in a variable.
fn harmless(bytes: usize) -> String {
    let empty = json!({ "query": "{__typename}", "variables": { "pad": "" } }).to_string();
    empty.replace("\"\"", &format!("\"{}\"", "x".repeat(bytes.saturating_sub(empty.len()))))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures CPU time: `scripts/bench hostile` runs it on an optimised shop"]
async fn a_hostile_request_costs_at_most_five_times_a_harmless_one_of_as_many_bytes() {
    const LIMIT: f64 = 5.0;
    let dir = tempfile::tempdir().unwrap();
    let shop = ShopProcess::start(&dir.path().join("data"), &[]);
    let client = shop.client();
    let mut ratios = Vec::new();
    for hostile in Corpus::new().0 {
        let harmless = harmless(hostile.body.len());
        // Side by side, so that both meet the machine in the same state.
        let (yardstick, hostiles) = (cost(&shop, &client, &harmless).await, cost(&shop, &client, &hostile.body).await);
        ratios.push((hostiles.as_secs_f64() / yardstick.as_secs_f64(), hostile.name, hostile.body.len()));
    }
    ratios.sort_by(|one, other| other.0.total_cmp(&one.0));
    for (ratio, name, bytes) in ratios.iter().take(15) {
        println!("{ratio:6.2}  {bytes:7} bytes  {name}");
    }
    println!("{} hostile requests, median {:.2}, worst {:.2}", ratios.len(), ratios[ratios.len() / 2].0, ratios[0].0);
    assert!(ratios[0].0 <= LIMIT);
}
