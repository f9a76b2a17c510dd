//! The measurements, one after the other.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::http::graphql_request;
use crate::job::{Client, Job, Target, run};
use crate::orders::{Orders, SUSTAINED};
use crate::process::Process;
use crate::shop::{CUSTOMERS, Caller, furnish};
use crate::table::Table;
use crate::yardstick::Disk;
use crate::{bare, changes, mail, metrics, pairs, servers};

/// Which parts run; none named: all.
#[derive(Default)]
pub struct Only(Vec<String>);

impl Only {
    pub fn named(names: &[String]) -> Self {
        Self(names.to_vec())
    }

    /// Real servers are a table of their own.
    fn is_of_servers(&self) -> bool {
        self.0 == ["servers"]
    }

    /// Needs another binary.
    fn is_of_before(&self) -> bool {
        self.0 == ["before"]
    }

    fn wants(&self, name: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|known| known == name)
    }
}

pub fn all(only: &Only) {
    // On the disk, not in a tmpfs: durable writes are what is measured.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let folder = folder.path();
    let mut table = Table::default();
    let data_dir = folder.join("loaded");
    let mut sustained = 0.0;
    if only.is_of_before() {
        pairs::against_before(folder, &mut table);
        return table.print();
    }
    if only.is_of_servers() {
        servers::measure(folder, &mut table);
        return table.print();
    }
    {
        let shop = Process::shop(&data_dir, false);
        let (target, staff) = furnish(&shop, &data_dir, &Vec::new());
        let mut bench = Orders::new(shop, target, staff);
        if only.wants("orders") {
            sustained = bench.embedded_throughput(&mut table, &Disk::new(folder));
        }
        if only.wants("latency") {
            if sustained == 0.0 {
                sustained = bench.place("pre", 128, SUSTAINED).confirmed;
            }
            bench.latency(&mut table, sustained, 100.0);
        }
        bench.shop.stop();
    }
    if only.wants("reads") {
        reads(&data_dir, &mut table);
    }
    if only.wants("idle") {
        idle(folder, &data_dir, &mut table);
    }
    if only.wants("mail") {
        mail::measure(folder, &mut table);
    }
    if only.wants("metrics") {
        metrics::measure(folder, &mut table);
    }
    if only.wants("changes") {
        changes::measure(folder, &mut table);
    }
    table.print();
}

/// CPU time a request of the server, against a bare handler in the same process.
fn reads(data_dir: &Path, table: &mut Table) {
    const REQUESTS: usize = 20_000;
    const ROUNDS: usize = 3;
    let server = Process::with_bare_handler(data_dir);
    let bare_address = server.bare.unwrap();
    let mut caller = Caller::new(server.address);
    let page = "{ products(first: 20) { edges { node { id sku name price { minorUnits currency } available } } pageInfo { hasNextPage endCursor } } }";
    let found = caller.query(None, page, json!({}));
    let id = found["products"]["edges"][0]["node"]["id"].as_str().expect("a product");
    let product =
        "query($id: ID!) { product(id: $id) { id sku name description price { minorUnits currency } available } }";
    let graphql = |query: &str, variables: serde_json::Value| {
        let body = json!({ "query": query, "variables": variables }).to_string();
        String::from_utf8(graphql_request(None, &body)).unwrap()
    };
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: souk\r\naccept: application/json\r\n\r\n");
    let cases = [
        (bare_address, get("/small"), bare::SMALL),
        (server.address, graphql(product, json!({ "id": id })), bare::SMALL),
        (bare_address, get("/page"), bare::PAGE),
        (server.address, graphql(page, json!({})), bare::PAGE),
    ];
    let mut costs: Vec<Vec<f64>> = vec![Vec::new(); cases.len()];
    for round in 0..=ROUNDS {
        for (case, (address, request, expected_bytes)) in cases.iter().enumerate() {
            let requests = if round == 0 { REQUESTS / 10 } else { REQUESTS };
            let cpu = server.cpu();
            let done = run(&Job::Repeat { address: *address, request: request.clone(), clients: 16, requests });
            assert_eq!(done.failures, 0, "every answer is a good one");
            if round > 0 {
                costs[case].push((server.cpu() - cpu) / requests as f64 * 1e6);
            } else if done.answer_bytes.abs_diff(*expected_bytes) * 4 > *expected_bytes {
                eprintln!("  note: an answer has {} bytes, its bare one {expected_bytes}", done.answer_bytes);
            }
        }
    }
    let cost: Vec<f64> = costs
        .iter_mut()
        .map(|rounds| {
            rounds.sort_by(f64::total_cmp);
            rounds[ROUNDS / 2]
        })
        .collect();
    for (what, shop, bare) in [("product(id)", cost[1], cost[0]), ("page of 20 products", cost[3], cost[2])] {
        let figure = format!("{:.2} ({shop:.0} us / {bare:.0} us)", shop / bare);
        table.row(&format!("CPU a request, {what} / bare actix-web handler"), figure, "", None);
    }
    server.stop();
}

fn idle(folder: &Path, loaded: &Path, table: &mut Table) {
    const SOCKETS: usize = 2_000;
    let data_dir = folder.join("demo");
    let first = Process::shop(&data_dir, true);
    table.row(
        "first start, demo data made",
        format!("{:.2} s", first.started_in.as_secs_f64()),
        "< 5 s",
        Some(first.started_in.as_secs_f64() < 5.0),
    );
    first.stop();
    let cold = |data_dir: &Path, demo: bool| {
        let mut times: Vec<f64> = (0..5)
            .map(|_| {
                let shop = Process::shop(data_dir, demo);
                shop.started_in.as_secs_f64()
            })
            .collect();
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    };
    let demo = cold(&data_dir, true);
    table.row("exec to ready line, demo data", format!("{demo:.3} s"), "< 0.3 s", Some(demo < 0.3));
    let after_load = cold(loaded, false);
    table.row(
        "exec to ready line, after the loads above",
        format!("{after_load:.3} s"),
        "< 0.3 s",
        Some(after_load < 0.3),
    );

    let shop = Process::shop(&data_dir, true);
    std::thread::sleep(Duration::from_secs(3));
    let (cpu, began) = (shop.cpu(), Instant::now());
    std::thread::sleep(Duration::from_secs(20));
    let share = (shop.cpu() - cpu) / began.elapsed().as_secs_f64() * 100.0;
    table.row("idle CPU, of one core", format!("{share:.2} %"), "< 0.5 %", Some(share < 0.5));
    let memory = shop.memory() / 1_048_576.0;
    table.row("idle memory (RSS), demo data", format!("{memory:.1} MiB"), "< 60 MiB", Some(memory < 60.0));

    let mut caller = Caller::new(shop.address);
    let tokens = (0..CUSTOMERS.min(16))
        .map(|number| {
            let input = json!({ "email": format!("idle{number}@bench.example"), "name": "Idle", "password": "correct horse battery" });
            let made = caller.query(
                None,
                "mutation($input: SignUpInput!) { signUp(input: $input) { session { accessToken } userErrors { message } } }",
                json!({ "input": input }),
            );
            made["signUp"]["session"]["accessToken"].as_str().expect("a session").to_owned()
        })
        .collect();
    let before = shop.memory();
    let target = Target { address: shop.address, tokens, products: Vec::new() };
    let mut client = Client::start(&Job::Idle { target, sockets: SOCKETS });
    client.answer();
    std::thread::sleep(Duration::from_secs(1));
    let bytes = (shop.memory() - before) / SOCKETS as f64;
    table.row("an idle subscription, socket included", format!("{:.1} KiB", bytes / 1024.0), "", None);
    let (cpu, began) = (shop.cpu(), Instant::now());
    std::thread::sleep(Duration::from_secs(5));
    let share = (shop.cpu() - cpu) / began.elapsed().as_secs_f64() * 100.0;
    table.row("idle CPU with 2,000 subscriptions, of one core", format!("{share:.2} %"), "", None);
    drop(client);
    shop.stop();
}
