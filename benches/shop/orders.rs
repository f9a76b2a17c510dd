//! Orders placed in a shop of whatever stores, against what its yardstick does with single rows.

use std::time::Instant;

use crate::job::{Job, Target, run};
use crate::process::Process;
use crate::shop::{Caller, count, settle};
use crate::table::Table;
use crate::yardstick::{Disk, Yardstick};

pub const LINES: usize = 1;
pub const BURST: usize = 10_000;
pub const SUSTAINED: usize = 30_000;
const ONE_CLIENT: usize = 2_000;

pub struct Orders {
    pub shop: Process,
    pub target: Target,
    caller: Option<Caller>,
    pub staff: String,
}

/// What a load came to: orders a second until the last was accepted, and until the last had its verdict.
pub struct Placed {
    pub accepted: f64,
    pub confirmed: f64,
    /// Of the server, seconds an order.
    pub cpu: f64,
}

impl Orders {
    pub fn new(shop: Process, target: Target, staff: String) -> Self {
        Self { shop, target, caller: None, staff }
    }

    pub fn caller(&mut self) -> &mut Caller {
        let address = self.shop.address;
        self.caller.get_or_insert_with(|| Caller::new(address))
    }

    pub fn count(&mut self, status: &str) -> u64 {
        let staff = self.staff.clone();
        count(self.caller(), &staff, status)
    }

    /// Waits until no order is PENDING.
    pub fn settle(&mut self) {
        let staff = self.staff.clone();
        settle(self.caller(), &staff);
    }

    /// Every order is CONFIRMED in the end.
    pub fn place(&mut self, prefix: &str, clients: usize, orders: usize) -> Placed {
        let before = self.count("CONFIRMED");
        let placed = self.place_of(self.target.products.clone(), prefix, clients, orders);
        let confirmed = self.count("CONFIRMED") - before;
        assert_eq!(confirmed as usize, orders, "every accepted order is CONFIRMED in the end");
        placed
    }

    /// Of these products. Every order has its verdict in the end.
    pub fn place_of(&mut self, products: Vec<String>, prefix: &str, clients: usize, orders: usize) -> Placed {
        let (cpu, began) = (self.shop.cpu(), Instant::now());
        let target = Target { products, ..self.target.clone() };
        let done = run(&Job::Place { target, clients, orders, lines: LINES, prefix: prefix.to_owned() });
        let ended = Instant::now();
        eprintln!(
            "  {prefix}: accepted in {:.2} s, client {:.0} us CPU an order",
            done.seconds,
            done.cpu / orders as f64 * 1e6
        );
        self.settle();
        // The client's own start is not the shop's time; it is what lies before its first request.
        let confirmed_in = began.elapsed().as_secs_f64() - (ended.duration_since(began).as_secs_f64() - done.seconds);
        let cpu = (self.shop.cpu() - cpu) / orders as f64;
        assert_eq!(done.failures, 0, "no order is refused");
        eprintln!("  {prefix}: confirmed in {confirmed_in:.2} s, server {:.0} us CPU an order", cpu * 1e6);
        Placed { accepted: orders as f64 / done.seconds, confirmed: orders as f64 / confirmed_in, cpu }
    }

    pub fn embedded_throughput(&mut self, table: &mut Table, disk: &Disk) -> f64 {
        self.place("warm", 128, 2_000);
        let mut against = Against::new(disk, "1 thread");
        let many = disk.many_threads();
        table.row("durable inserts, 128 threads / 1 thread", ratio(many, against.last), "", None);
        let placed = self.place("one", 1, ONE_CLIENT);
        let one = against.now();
        table.row("orderPlace, 1 client, accepted / 1 thread", ratio(placed.accepted, one), "", None);
        table.row("orderPlace, 1 client, CONFIRMED / 1 thread", ratio(placed.confirmed, one), "", None);
        let accepted = self.burst(table, &mut against, || ());
        table.row("orderPlace, 128 clients, burst / 128 threads", ratio(accepted, many), "", None);
        let (confirmed, cpu) = self.sustained(table, &mut against);
        table.row("orderPlace, 128 clients, sustained / 128 threads", ratio(confirmed, many), "", None);
        let figure = format!("{:.0} us", cpu * 1e6);
        table.row("CPU of the server an order, to CONFIRMED", figure, "<= 300 us", Some(cpu <= 300e-6));
        against.row(table, "(the yardstick: durable inserts, 1 thread)");
        confirmed
    }

    /// Three times 10,000 orders, until the last was accepted. Between them `rest` waits for what follows from them.
    pub fn burst(&mut self, table: &mut Table, against: &mut Against, rest: impl Fn()) -> f64 {
        let mut bursts = Vec::new();
        for round in 0..3 {
            let accepted = self.place(&format!("burst{round}"), 128, BURST).accepted;
            rest();
            bursts.push((accepted, against.now()));
        }
        let (accepted, one) = median(&mut bursts);
        let what = format!("orderPlace, 128 clients, burst / {}", against.what);
        table.row(&what, ratio(accepted, one), ">= 2", Some(accepted >= 2.0 * one));
        accepted
    }

    /// Three times 30,000 orders, until the last was CONFIRMED; with the CPU of an order.
    pub fn sustained(&mut self, table: &mut Table, against: &mut Against) -> (f64, f64) {
        let mut runs = Vec::new();
        let mut cpu = 0.0;
        for round in 0..3 {
            let placed = self.place(&format!("sust{round}"), 128, SUSTAINED);
            cpu += placed.cpu / 3.0;
            runs.push((placed.confirmed, against.now()));
        }
        let (confirmed, one) = median(&mut runs);
        let what = format!("orderPlace, 128 clients, sustained / {}", against.what);
        table.row(&what, ratio(confirmed, one), ">= 1", Some(confirmed >= one));
        (confirmed, cpu)
    }

    /// At 70 % of the sustained rate, until the subscription says CONFIRMED.
    pub fn latency(&mut self, table: &mut Table, sustained: f64, wanted_ms: f64) {
        let latencies_ms = self.latencies_at(0.7 * sustained);
        let what = "orderPlace to CONFIRMED on the subscription at 70 % load";
        table.row(&format!("{what}, p50"), format!("{:.1} ms", part(&latencies_ms, 0.5)), "", None);
        let p99 = part(&latencies_ms, 0.99);
        let wanted = format!("< {wanted_ms:.0} ms");
        table.row(&format!("{what}, p99"), format!("{p99:.1} ms"), &wanted, Some(p99 < wanted_ms));
    }

    /// At a rate that leaves the machine room.
    pub fn latency_at(&mut self, table: &mut Table, per_second: f64) {
        let latencies_ms = self.latencies_at(per_second);
        let (p50, p99) = (part(&latencies_ms, 0.5), part(&latencies_ms, 0.99));
        let what = format!("the same at {per_second:.0} orders/s, p50, p99");
        table.row(&what, format!("{p50:.1} ms, {p99:.1} ms"), "", None);
    }

    /// Sorted, in milliseconds, of those whose customers follow their orders.
    fn latencies_at(&mut self, per_second: f64) -> Vec<f64> {
        const SECONDS: f64 = 15.0;
        self.settle();
        let (cpu, target) = (self.shop.cpu(), self.target.clone());
        let prefix = format!("rate{per_second:.0}");
        let done = run(&Job::Follow { target, followers: 16, per_second, seconds: SECONDS, lines: LINES, prefix });
        let placed = per_second * SECONDS;
        eprintln!(
            "  {per_second:.0} orders/s wanted, {:.0} placed; server {:.0} us CPU an order",
            placed / done.seconds,
            (self.shop.cpu() - cpu) / placed * 1e6
        );
        assert_eq!(done.failures, 0, "no order is refused or lost");
        self.settle();
        done.latencies_ms
    }
}

fn part(sorted: &[f64], part: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * part) as usize]
}

/// A yardstick that is taken before and after each load: the machine's speed changes with its neighbours.
pub struct Against<'a> {
    yardstick: &'a dyn Yardstick,
    what: &'static str,
    first: f64,
    pub last: f64,
}

impl<'a> Against<'a> {
    pub fn new(yardstick: &'a dyn Yardstick, what: &'static str) -> Self {
        let first = yardstick.per_second();
        Self { yardstick, what, first, last: first }
    }

    /// The mean of before and after what was just measured.
    pub fn now(&mut self) -> f64 {
        let now = self.yardstick.per_second();
        let mean = (self.last + now) / 2.0;
        self.last = now;
        mean
    }

    pub fn row(&self, table: &mut Table, what: &str) {
        table.row(what, format!("{:.0}/s", (self.first + self.last) / 2.0), "", None);
    }
}

pub fn ratio(figure: f64, yardstick: f64) -> String {
    format!("{:.2} ({figure:.0}/s)", figure / yardstick)
}

/// The run whose ratio is in the middle.
fn median(runs: &mut [(f64, f64)]) -> (f64, f64) {
    runs.sort_by(|one, other| (one.0 / one.1).total_cmp(&(other.0 / other.1)));
    runs[runs.len() / 2]
}
