//! The measurements, one after the other.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::http::graphql_request;
use crate::job::{Client, Job, Target, run};
use crate::process::Process;
use crate::shop::{CUSTOMERS, Caller, count, furnish, settle};
use crate::table::Table;
use crate::{bare, mail, yardstick};

const LINES: usize = 1;
const BURST: usize = 10_000;
const SUSTAINED: usize = 30_000;
const ONE_CLIENT: usize = 2_000;

/// Which parts run; none named: all.
#[derive(Default)]
pub struct Only(Vec<String>);

impl Only {
    pub fn named(names: &[String]) -> Self {
        Self(names.to_vec())
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
    {
        let shop = Process::shop(&data_dir, false);
        let (target, staff) = furnish(&shop, &data_dir);
        let mut bench = Orders { shop, target, caller: None, staff, folder };
        if only.wants("orders") {
            sustained = bench.throughput(&mut table);
        }
        if only.wants("latency") {
            if sustained == 0.0 {
                sustained = bench.sustained("pre", SUSTAINED).0;
            }
            bench.latency(&mut table, sustained);
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
    table.print();
}

struct Orders<'a> {
    shop: Process,
    target: Target,
    caller: Option<Caller>,
    staff: String,
    folder: &'a Path,
}

impl Orders<'_> {
    fn caller(&mut self) -> &mut Caller {
        let address = self.shop.address;
        self.caller.get_or_insert_with(|| Caller::new(address))
    }

    /// Orders a second until the last was accepted and until the last was CONFIRMED; server's CPU seconds an order.
    fn place(&mut self, prefix: &str, clients: usize, orders: usize) -> (f64, f64, f64) {
        let staff = self.staff.clone();
        let before = count(self.caller(), &staff, "CONFIRMED");
        let (cpu, began) = (self.shop.cpu(), Instant::now());
        let target = self.target.clone();
        let done = run(&Job::Place { target, clients, orders, lines: LINES, prefix: prefix.to_owned() });
        let ended = Instant::now();
        settle(self.caller(), &staff);
        // The client's own start is not the shop's time; it is what lies before its first request.
        let confirmed_in = began.elapsed().as_secs_f64() - (ended.duration_since(began).as_secs_f64() - done.seconds);
        let cpu = (self.shop.cpu() - cpu) / orders as f64;
        let confirmed = count(self.caller(), &staff, "CONFIRMED") - before;
        assert_eq!(confirmed as usize + done.failures, orders, "every accepted order is CONFIRMED in the end");
        assert_eq!(done.failures, 0, "no order is refused");
        eprintln!(
            "  {prefix}: accepted in {:.2} s, confirmed in {confirmed_in:.2} s, server {:.0} us CPU an order, client {:.0}",
            done.seconds,
            cpu * 1e6,
            done.cpu / orders as f64 * 1e6
        );
        (orders as f64 / done.seconds, orders as f64 / confirmed_in, cpu)
    }

    fn sustained(&mut self, prefix: &str, orders: usize) -> (f64, f64) {
        let (_, confirmed, cpu) = self.place(prefix, 128, orders);
        (confirmed, cpu)
    }

    fn throughput(&mut self, table: &mut Table) -> f64 {
        let folder = self.folder;
        self.place("warm", 128, 2_000);
        // The yardstick is taken before and after each load: the machine's speed changes with its neighbours.
        let mut last = yardstick::one_thread(folder);
        let first = last;
        let against = |last: &mut f64| {
            let now = yardstick::one_thread(folder);
            let mean = (*last + now) / 2.0;
            *last = now;
            mean
        };
        let many = yardstick::many_threads(folder);
        table.row("durable inserts, 128 threads / 1 thread", format!("{:.2} ({many:.0}/s)", many / last), "", None);
        let (accepted, confirmed, _) = self.place("one", 1, ONE_CLIENT);
        let one = against(&mut last);
        table.row("orderPlace, 1 client, accepted / 1 thread", ratio(accepted, one), "", None);
        table.row("orderPlace, 1 client, CONFIRMED / 1 thread", ratio(confirmed, one), "", None);
        let mut bursts: Vec<(f64, f64)> = Vec::new();
        for round in 0..3 {
            let accepted = self.place(&format!("burst{round}"), 128, BURST).0;
            bursts.push((accepted, against(&mut last)));
        }
        let (accepted, one) = median(&mut bursts);
        table.row(
            "orderPlace, 128 clients, burst / 1 thread",
            ratio(accepted, one),
            ">= 2",
            Some(accepted >= 2.0 * one),
        );
        table.row("orderPlace, 128 clients, burst / 128 threads", ratio(accepted, many), "", None);
        let mut runs: Vec<(f64, f64)> = Vec::new();
        let mut cpus = 0.0;
        for round in 0..3 {
            let (confirmed, cpu) = self.sustained(&format!("sust{round}"), SUSTAINED);
            cpus += cpu / 3.0;
            runs.push((confirmed, against(&mut last)));
        }
        let (confirmed, one) = median(&mut runs);
        table.row(
            "orderPlace, 128 clients, sustained / 1 thread",
            ratio(confirmed, one),
            ">= 1",
            Some(confirmed >= one),
        );
        table.row("orderPlace, 128 clients, sustained / 128 threads", ratio(confirmed, many), "", None);
        table.row(
            "CPU of the server an order, to CONFIRMED",
            format!("{:.0} us", cpus * 1e6),
            "<= 300 us",
            Some(cpus <= 300e-6),
        );
        let first = (first + last) / 2.0;
        table.row("(the yardstick: durable inserts, 1 thread)", format!("{first:.0}/s"), "", None);
        confirmed
    }

    fn latency(&mut self, table: &mut Table, sustained: f64) {
        let staff = self.staff.clone();
        settle(self.caller(), &staff);
        let per_second = 0.7 * sustained;
        let cpu = self.shop.cpu();
        let target = self.target.clone();
        let job = Job::Follow { target, followers: 16, per_second, seconds: 15.0, lines: LINES, prefix: "rate".into() };
        let done = run(&job);
        let placed = per_second * 15.0;
        eprintln!(
            "  {:.0} orders/s wanted, {:.0} placed; server {:.0} us CPU an order",
            per_second,
            placed / done.seconds,
            (self.shop.cpu() - cpu) / placed * 1e6
        );
        assert_eq!(done.failures, 0, "no order is refused or lost");
        let at = |part: f64| done.latencies_ms[((done.latencies_ms.len() - 1) as f64 * part) as usize];
        let what = "orderPlace to CONFIRMED on the subscription at 70 % load";
        table.row(&format!("{what}, p50"), format!("{:.1} ms", at(0.5)), "", None);
        table.row(&format!("{what}, p99"), format!("{:.1} ms", at(0.99)), "< 100 ms", Some(at(0.99) < 100.0));
        settle(self.caller(), &staff);
    }
}

fn ratio(figure: f64, yardstick: f64) -> String {
    format!("{:.2} ({figure:.0}/s)", figure / yardstick)
}

/// The run whose ratio is in the middle.
fn median(runs: &mut [(f64, f64)]) -> (f64, f64) {
    runs.sort_by(|one, other| (one.0 / one.1).total_cmp(&(other.0 / other.1)));
    runs[runs.len() / 2]
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
