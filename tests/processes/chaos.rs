//! Chaos: three processes under load while processes and servers are killed, stopped and brought back. At the end the books balance.
//!
//! `SOUK_CHAOS_EVENTS` says how many things happen (12), `SOUK_CHAOS_SEED` repeats the choices of a run. Servers are part of it
//! where `SOUK_SERVERS_DIR` names a set of `scripts/servers` that may be killed. The report is printed as Markdown.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use souk::domain::ids::OrderId;
use tokio::sync::watch;

use super::books;
use super::fleet::{Fleet, servers_script};
use super::load::{Answers, Load};
use crate::support::process::ShopProcess;
use crate::support::{Account, eventually};

const PROCESSES: usize = 3;
const CUSTOMERS: usize = 12;
const PRODUCTS: usize = 8;
const OPENING_STOCK: i32 = 1_000_000;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    KillProcess,
    StopProcessForFiveSeconds,
    ProcessLeaves,
    ProcessJoins,
    KillKafka,
    KillMongo,
    RedisAway,
}

impl Happening {
    const OF_PROCESSES: [Self; 4] =
        [Self::KillProcess, Self::StopProcessForFiveSeconds, Self::ProcessLeaves, Self::ProcessJoins];
    const OF_SERVERS: [Self; 3] = [Self::KillKafka, Self::KillMongo, Self::RedisAway];

    fn words(self) -> &'static str {
        match self {
            Self::KillProcess => "kill -9 of a process, a new one started",
            Self::StopProcessForFiveSeconds => "SIGSTOP of a process for 5 s",
            Self::ProcessLeaves => "SIGTERM of a process, a new one started",
            Self::ProcessJoins => "a process joins, and leaves later",
            Self::KillKafka => "kill -9 of Kafka, started again",
            Self::KillMongo => "kill -9 of MongoDB, started again",
            Self::RedisAway => "Redis away",
        }
    }
}

/// Every kind once, then by chance.
fn program(count: usize, with_servers: bool, draw: &mut StdRng) -> Vec<Happening> {
    let mut kinds = Happening::OF_PROCESSES.to_vec();
    if with_servers {
        kinds.extend(Happening::OF_SERVERS);
    }
    let mut program = kinds.clone();
    program.shuffle(draw);
    program.truncate(count);
    while program.len() < count {
        program.push(kinds[draw.random_range(0..kinds.len())]);
    }
    program
}

struct Scene {
    fleet: Fleet,
    processes: Vec<ShopProcess>,
    gateways: watch::Sender<Vec<std::net::SocketAddr>>,
    redis_away: Duration,
}

impl Scene {
    fn tell(&self) {
        self.gateways.send_replace(self.processes.iter().map(|process| process.public).collect());
    }

    fn replace(&mut self, which: usize, end: impl FnOnce(ShopProcess)) {
        let process = self.processes.swap_remove(which);
        self.tell();
        end(process);
        self.processes.push(self.fleet.start("all"));
        self.tell();
    }

    async fn make(&mut self, happening: Happening, draw: &mut StdRng) {
        let which = draw.random_range(0..self.processes.len());
        match happening {
            Happening::KillProcess => self.replace(which, ShopProcess::kill),
            Happening::ProcessLeaves => self.replace(which, |process| {
                let exit = process.stop();
                assert_eq!(exit.status.code(), Some(0), "{}", exit.stderr);
            }),
            Happening::ProcessJoins => {
                let joined = self.fleet.start("all");
                self.processes.push(joined);
                self.tell();
                tokio::time::sleep(Duration::from_secs(2)).await;
                let leaving = self.processes.swap_remove(draw.random_range(0..self.processes.len()));
                self.tell();
                assert_eq!(leaving.stop().status.code(), Some(0));
            }
            Happening::StopProcessForFiveSeconds => {
                self.processes[which].signal("STOP");
                tokio::time::sleep(Duration::from_secs(5)).await;
                self.processes[which].signal("CONT");
            }
            Happening::KillKafka => restart("kafka", Duration::ZERO).await,
            Happening::KillMongo => restart("mongo", Duration::ZERO).await,
            Happening::RedisAway => restart("redis", self.redis_away).await,
        }
    }
}

async fn restart(server: &'static str, away: Duration) {
    tokio::task::spawn_blocking(move || servers_script("kill", server)).await.unwrap();
    tokio::time::sleep(away).await;
    tokio::task::spawn_blocking(move || servers_script("up", server)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs SOUK_TEST_MONGODB_URI, SOUK_TEST_KAFKA_BROKERS and SOUK_TEST_REDIS_URI; scripts/test gives them"]
async fn whatever_happens_to_processes_and_servers_the_books_balance() {
    let count = setting("SOUK_CHAOS_EVENTS", 12) as usize;
    let seed = setting("SOUK_CHAOS_SEED", rand::random::<u32>().into());
    let with_servers = std::env::var("SOUK_SERVERS_DIR").is_ok();
    println!("SOUK_CHAOS_EVENTS={count} SOUK_CHAOS_SEED={seed} servers too: {with_servers}");
    let mut draw = StdRng::seed_from_u64(seed);
    let began = Instant::now();

    let fleet = Fleet::new();
    let processes: Vec<_> = (0..PROCESSES).map(|_| fleet.start("all")).collect();
    let gateway = processes[0].client();
    let staff = fleet.staff(&gateway).await;
    let mut products = Vec::new();
    for _ in 0..PRODUCTS {
        products.push(gateway.create_product(&staff, OPENING_STOCK.into()).await);
    }
    let mut customers: Vec<Account> = Vec::new();
    for _ in 0..=CUSTOMERS {
        customers.push(gateway.sign_up().await);
    }
    let prober = customers.pop().unwrap();

    let redis_away = Duration::from_secs(setting("SOUK_CHAOS_REDIS_SECONDS", 5));
    let mut scene = Scene { fleet, processes, gateways: watch::Sender::new(Vec::new()), redis_away };
    scene.tell();
    let (stop, stopping) = watch::channel(false);
    let load = Load {
        gateways: scene.gateways.subscribe(),
        stop: stopping,
        answers: Arc::default(),
        http: reqwest::Client::builder().timeout(Duration::from_secs(8)).build().unwrap(),
        products: Arc::new(products),
    };
    let customers: Vec<_> = customers.into_iter().zip(1u64..).collect();
    let workers: Vec<_> =
        customers.into_iter().map(|(account, number)| tokio::spawn(load.clone().customer(account, number))).collect();

    let mut recoveries: BTreeMap<Happening, Vec<Duration>> = BTreeMap::new();
    for (number, happening) in program(count, with_servers, &mut draw).into_iter().enumerate() {
        let answered = load.answers.lock().unwrap().orders.len();
        eventually("the load goes on", async || {
            (load.answers.lock().unwrap().orders.len() > answered + 20).then_some(())
        })
        .await;
        scene.make(happening, &mut draw).await;
        let happened = Instant::now();
        let mut attempt = 0;
        // A probe of every gateway that is there: the slowest counts.
        loop {
            let placed = load.place(&prober, &format!("probe {number} {attempt}"), &mut draw, 20_000).await;
            attempt += 1;
            if placed["order"]["status"] == "CONFIRMED" {
                break;
            }
            assert!(happened.elapsed() < super::load::PATIENCE, "orders are not confirmed after {happening:?}");
        }
        println!("{:>4} {} - recovered in {:?}", number + 1, happening.words(), happened.elapsed());
        recoveries.entry(happening).or_default().push(happened.elapsed());
    }
    stop.send_replace(true);
    for worker in workers {
        worker.await.unwrap();
    }
    let answers = std::mem::take(&mut *load.answers.lock().unwrap());
    let ids: Vec<_> = answers.orders.values().map(|id| id.parse::<OrderId>().unwrap()).collect();
    let totals = books::check(&scene.fleet.config, &answers.orders, &ids, OPENING_STOCK).await;
    report(seed, began.elapsed(), &answers, &totals, &recoveries);
    for process in scene.processes.drain(..) {
        let exit = process.stop();
        assert_eq!(exit.status.code(), Some(0), "{}", exit.stderr);
    }
}

fn report(
    seed: u64,
    took: Duration,
    answers: &Answers,
    totals: &books::Totals,
    recoveries: &BTreeMap<Happening, Vec<Duration>>,
) {
    println!("\n| what | count |\n| --- | --- |");
    println!("| seed | {seed} |\n| length of the run | {} s |", took.as_secs());
    println!("| orders accepted | {} |", totals.orders);
    println!("| of them CONFIRMED, REJECTED | {}, {} |", totals.confirmed, totals.rejected);
    println!("| answers that failed and were asked again | {} |", answers.refused);
    println!("| of these, orders that were there already | {} |", answers.replayed);
    println!("| records of `order-events` | {} |", totals.events);
    println!("| of them published twice, handled once | {} |", totals.duplicates);
    println!("\n| what happened | times | until an order was CONFIRMED again: median, longest |\n| --- | --- | --- |");
    for (happening, times) in recoveries {
        let mut times = times.clone();
        times.sort();
        let (median, longest) = (times[times.len() / 2], times[times.len() - 1]);
        println!(
            "| {} | {} | {:.1} s, {:.1} s |",
            happening.words(),
            times.len(),
            median.as_secs_f64(),
            longest.as_secs_f64()
        );
    }
}
