//! The order flow on MongoDB, Kafka and Redis, against single `insertOne`s of the raw driver on the same server.
//!
//! The servers are those that `scripts/servers` tells of; `scripts/bench servers` starts them. Databases and topics have names of
//! their own; the databases are dropped at the end.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mongodb::bson::{Document, doc};
use mongodb::options::{ClientOptions, WriteConcern};
use mongodb::{Client, Collection};
use serde_json::json;
use tokio::runtime::Runtime;

use crate::metrics::{free_address, scrape};
use crate::orders::{Against, BURST, Orders, SUSTAINED, ratio};
use crate::process::{Paused, Process, Settings};
use crate::shop::furnish;
use crate::table::Table;
use crate::yardstick::Yardstick;

const CLIENTS: usize = 128;
/// Rates at which latency is measured as well, in orders a second.
const RATES: [f64; 2] = [100.0, 300.0];
const HOT_PIECES: u64 = 10_000;
const HOT_BUYERS: usize = 50_000;

fn address(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: scripts/bench servers sets it"))
}

pub fn measure(folder: &Path, table: &mut Table) {
    let name = format!("bench{}", std::process::id());
    let uri = address("SOUK_TEST_MONGODB_URI");
    let admin = free_address();
    let settings: Settings = vec![
        ("SOUK__STORE__KIND", "mongodb".into()),
        ("SOUK__STORE__URI", uri.clone()),
        ("SOUK__STORE__PREFIX", format!("{name}_")),
        ("SOUK__EVENTS__KIND", "kafka".into()),
        ("SOUK__EVENTS__BROKERS", address("SOUK_TEST_KAFKA_BROKERS")),
        ("SOUK__EVENTS__PREFIX", format!("{name}-")),
        ("SOUK__ADMIN__LISTEN", admin.to_string()),
        ("SOUK__CACHE__KIND", "redis".into()),
        ("SOUK__CACHE__URI", address("SOUK_TEST_REDIS_URI")),
    ];
    let data_dir = folder.join("servers");
    let shop = Process::shop_with(&data_dir, &settings);
    let server = MongoServer::connect(&uri, &name, shop.id());
    let (target, staff) = furnish(&shop, &data_dir, &settings);
    let mut bench = Orders::new(shop, target, staff);
    // Until the broker's virtual machine has compiled what it does all the time.
    bench.place("warm", CLIENTS, BURST);
    catch_up(admin);

    let mut against = Against::new(&server, "insertOne");
    bench.burst(table, &mut against, || catch_up(admin));
    let (commands, orders) = (server.commands(), 3 * SUSTAINED as u64);
    let own = server.inserted();
    let (sustained, cpu) = bench.sustained(table, &mut against);
    let inserted = server.inserted() - own;
    let an_order = |commands: u64| (commands - inserted) as f64 / orders as f64;
    let confirmed = an_order(server.commands() - commands);
    table.row("MongoDB commands an order, to CONFIRMED", format!("{confirmed:.3}"), "<= 0.3", Some(confirmed <= 0.3));
    catch_up(admin);
    let all = an_order(server.commands() - commands);
    let what = "MongoDB commands an order, with all that follows and the mails meanwhile";
    table.row(what, format!("{all:.3}"), "", None);
    table.row("CPU of the shop an order, to CONFIRMED", format!("{:.0} us", cpu * 1e6), "", None);
    bench.latency(table, sustained, 150.0);
    for per_second in RATES {
        catch_up(admin);
        bench.latency_at(table, per_second);
    }
    catch_up(admin);
    hot_product(&mut bench, table);
    against.row(table, "(the yardstick: insertOne, w: majority, 128 at a time)");
    bench.shop.stop();
    server.drop_databases(&name);
}

/// Waits until every consumer group has read to the end: what follows from a load is not part of the next one. But for what
/// mails tell when they are sent: an order's mail is sent when it can be.
fn catch_up(admin: SocketAddr) {
    const DEADLINE: Duration = Duration::from_secs(300);
    const PAUSE: Duration = Duration::from_millis(200);
    // A scrape that the log did not answer in time shows what was known before.
    const IN_A_ROW: u32 = 5;
    let (began, mut good) = (Instant::now(), 0);
    loop {
        let metrics = scrape(admin);
        let lags = metrics.lines().filter(|line| line.starts_with("souk_consumer_lag_events{"));
        let lags = lags.filter(|line| !line.contains("notification-events"));
        let lag: f64 = lags.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum();
        good = if metrics.contains("souk_consumer_lag_events{") && lag == 0.0 { good + 1 } else { 0 };
        if good == IN_A_ROW {
            eprintln!("  consumers have caught up after {:.2} s", began.elapsed().as_secs_f64());
            return;
        }
        assert!(began.elapsed() < DEADLINE, "consumers lag behind: {lag} events");
        std::thread::sleep(PAUSE);
    }
}

/// One product that everybody wants, against as many orders of two hundred products.
fn hot_product(bench: &mut Orders, table: &mut Table) {
    let staff = bench.staff.clone();
    let input = json!({
        "sku": "BENCH-HOT", "name": "The Product That Everybody Wants", "category": "Bench", "description": "",
        "price": { "minorUnits": 1_000, "currency": "EUR" }, "available": HOT_PIECES,
    });
    let create = "mutation($input: ProductCreateInput!) { productCreate(input: $input) { product { id } userErrors { message } } }";
    let made = bench.caller().query(Some(&staff), create, json!({ "input": input }));
    let hot = made["productCreate"]["product"]["id"].as_str().expect("the product is made").to_owned();
    let spread = bench.place("spread", CLIENTS, HOT_BUYERS).confirmed;
    let (confirmed, rejected) = (bench.count("CONFIRMED"), bench.count("REJECTED"));
    let verdicts = bench.place_of(vec![hot.clone()], "hot", CLIENTS, HOT_BUYERS).confirmed;
    let (confirmed, rejected) = (bench.count("CONFIRMED") - confirmed, bench.count("REJECTED") - rejected);
    let left = bench.caller().query(None, "query($id: ID!) { product(id: $id) { available } }", json!({ "id": hot }));
    let left = left["product"]["available"].as_u64();
    let exact = (confirmed, rejected, left) == (HOT_PIECES, HOT_BUYERS as u64 - HOT_PIECES, Some(0));
    let figure = format!("{confirmed} CONFIRMED, {rejected} REJECTED, {} left", left.unwrap_or(u64::MAX));
    table.row("10,000 pieces of one product, 50,000 buyers", figure, "exact", Some(exact));
    let what = "verdicts a second, one product / two hundred";
    table.row(what, ratio(verdicts, spread), ">= 0.8", Some(verdicts >= 0.8 * spread));
}

/// The server seen without the shop.
struct MongoServer {
    runtime: Runtime,
    client: Client,
    rows: Collection<Document>,
    inserted: AtomicU64,
    /// The process that has the server too.
    shop: u32,
}

impl MongoServer {
    fn connect(uri: &str, name: &str, shop: u32) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let client = runtime.block_on(async {
            let mut options = ClientOptions::parse(uri).await.unwrap();
            options.write_concern = Some(WriteConcern::majority());
            options.max_pool_size = Some(CLIENTS as u32);
            Client::with_options(options).unwrap()
        });
        let rows = client.database(&format!("{name}_yardstick")).collection("orders");
        Self { runtime, client, rows, inserted: AtomicU64::new(0), shop }
    }

    /// All commands that the server has answered, but for those that drivers send by themselves.
    fn commands(&self) -> u64 {
        const OF_DRIVERS: [&str; 6] = ["hello", "isMaster", "ping", "endSessions", "serverStatus", "buildInfo"];
        let admin = self.client.database("admin");
        let status = self.runtime.block_on(async { admin.run_command(doc! { "serverStatus": 1 }).await }).unwrap();
        let commands = status.get_document("metrics").unwrap().get_document("commands").unwrap();
        let counted = commands.iter().filter(|(name, _)| !OF_DRIVERS.contains(&name.as_str()));
        counted.filter_map(|(_, figures)| figures.as_document()?.get_i64("total").ok()).map(i64::unsigned_abs).sum()
    }

    fn inserted(&self) -> u64 {
        self.inserted.load(Ordering::Relaxed)
    }

    fn drop_databases(&self, name: &str) {
        self.runtime.block_on(async {
            for database in self.client.list_database_names().await.unwrap() {
                if database.starts_with(&format!("{name}_")) {
                    self.client.database(&database).drop().await.unwrap();
                }
            }
        });
    }
}

impl Yardstick for MongoServer {
    fn per_second(&self) -> f64 {
        const TIME: Duration = Duration::from_secs(3);
        // About what an order's own document has.
        let row = |number: u64| {
            doc! {
                "number": format!("bench-{number}"), "customerId": "usr_0123456789abcdef0123456789", "status": "PENDING",
                "total": { "minorUnits": 1_250_i64, "currency": "EUR" },
                "lines": [{
                    "productId": "prd_0123456789abcdef0123456789", "sku": "BENCH-1", "name": "Measured Product 1",
                    "unitPrice": { "minorUnits": 1_250_i64, "currency": "EUR" }, "quantity": 1,
                }],
                "timeline": [{ "sequence": 1, "status": "PENDING", "at": mongodb::bson::DateTime::now() }],
            }
        };
        // Mails and what else follows from a load go on for long after it.
        let _shop = Paused::process(self.shop);
        let done = Arc::new(AtomicU64::new(0));
        let began = Instant::now();
        self.runtime.block_on(async {
            let clients = (0..CLIENTS).map(|_| {
                let (rows, done) = (self.rows.clone(), Arc::clone(&done));
                tokio::spawn(async move {
                    while began.elapsed() < TIME {
                        rows.insert_one(row(done.fetch_add(1, Ordering::Relaxed))).await.unwrap();
                    }
                })
            });
            for client in clients.collect::<Vec<_>>() {
                client.await.unwrap();
            }
        });
        let done = done.load(Ordering::Relaxed);
        self.inserted.fetch_add(done, Ordering::Relaxed);
        done as f64 / began.elapsed().as_secs_f64()
    }
}
