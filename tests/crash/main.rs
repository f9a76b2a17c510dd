//! kill -9 at random moments under load, over one data folder: what was answered stays, nothing happens twice, the books
//! balance. `SOUK_CRASH_KILLS` says how many kills (10), `SOUK_CRASH_SEED` repeats the choices of a run.

#![expect(clippy::unwrap_used, reason = "test code: a failure here fails the test")]

#[path = "../support/mod.rs"]
mod support;

mod books;
mod load;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rusqlite::{Connection, OpenFlags};
use souk::domain::ids::ProductId;
use souk::domain::inventory::Decision;
use souk::domain::orders::OrderStatus;
use tokio::sync::watch;

use books::*;
use load::*;

use support::process::{ShopProcess, run, souk};
use support::{PASSWORD, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_under_load_the_shop_keeps_what_it_answered_and_its_books_balance() {
    let kills = setting("SOUK_CRASH_KILLS", 10);
    let seed = setting("SOUK_CRASH_SEED", rand::random::<u32>().into());
    println!("SOUK_CRASH_KILLS={kills} SOUK_CRASH_SEED={seed}");
    let mut draw = StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("data");
    let started = Instant::now();

    let create = ["admin", "create", "--email", "boss@test.example", "--name", "Boss", "--password-stdin"];
    let (code, _, stderr) = run(&dir, &create, &[("SOUK__AUTH__BCRYPT_COST", "4")], PASSWORD);
    assert_eq!(code, 0, "{stderr}");
    let mut shop = start(&dir).await;
    let client = shop.client();
    let staff = client.sign_in("boss@test.example", PASSWORD).await;
    let (mut customers, mut products) = (Vec::new(), Vec::new());
    for _ in 0..CUSTOMERS {
        customers.push(client.sign_up().await);
    }
    for _ in 0..PRODUCTS {
        products.push(client.create_product(&staff, OPENING_STOCK).await);
    }

    let (address, whereabouts) = watch::channel(Some(shop.public));
    let (stop, stopping) = watch::channel(false);
    let load = Load {
        shop: whereabouts,
        stop: stopping,
        book: Arc::default(),
        http: reqwest::Client::builder().timeout(Duration::from_secs(15)).build().unwrap(),
        customers: Arc::new(customers),
        staff,
        products: Arc::new(products.clone()),
    };
    let mut workers = Vec::new();
    for worker in 0..2 * CUSTOMERS {
        let draw = StdRng::seed_from_u64(seed.wrapping_add(1000 + worker as u64));
        workers.push(tokio::spawn(load.clone().customer(worker % CUSTOMERS, draw)));
    }
    workers.push(tokio::spawn(load.clone().ship_and_deliver(StdRng::seed_from_u64(seed.wrapping_add(1)))));
    workers.push(tokio::spawn(load.clone().adjust(StdRng::seed_from_u64(seed.wrapping_add(2)))));

    let mut starts_killed = 0;
    for _ in 0..kills {
        let answered = load.book().placed.len();
        // Some kills hit a shop that has just answered something again, some one that works at full load.
        eventually("the shop answers", async || (load.book().placed.len() > answered).then_some(())).await;
        pass(Duration::from_millis(draw.random_range(0..1_200))).await;
        shop.kill();
        address.send_replace(None);
        if draw.random_bool(0.3) {
            // Killed again before it is ready.
            kill_while_starting(&dir, "false", Duration::from_millis(draw.random_range(0..250))).await;
            starts_killed += 1;
        }
        shop = start(&dir).await;
        address.send_replace(Some(shop.public));
        if let Some(ended) = workers.iter().position(tokio::task::JoinHandle::is_finished) {
            workers.swap_remove(ended).await.expect("no worker gives up");
        }
    }
    stop.send_replace(true);
    for worker in workers {
        worker.await.expect("no worker gives up");
    }
    let placed = load.book().placed.len();
    at_rest(&dir).await;
    let exit = tokio::task::spawn_blocking(move || shop.stop()).await.unwrap();
    assert_eq!(exit.status.code(), Some(0), "{}", exit.stderr);

    let opening: HashSet<ProductId> = products.iter().map(|id| id.parse().unwrap()).collect();
    let counts = check_books(&dir, |id| if opening.contains(id) { OPENING_STOCK } else { 0 });
    let book = load.book();
    check_answers(&dir, &book);
    println!(
        "{kills} kills and {starts_killed} during a start in {:.1} s: {placed} orders answered of {} sent, {} changes answered, \
         {} of {} adjustments, {} requests repeated; {counts}",
        started.elapsed().as_secs_f64(),
        book.sent.len(),
        book.reached.len(),
        book.adjusted.len(),
        book.adjusting.len(),
        book.repeated,
    );
    assert!(placed as u64 >= 5 * kills, "there was load: {placed} orders");
}

async fn start(dir: &Path) -> ShopProcess {
    start_with(dir, &[]).await
}

async fn start_with(dir: &Path, settings: &'static [(&'static str, &'static str)]) -> ShopProcess {
    let dir = dir.to_owned();
    tokio::task::spawn_blocking(move || ShopProcess::start(&dir, settings)).await.expect("the shop starts again")
}

/// Starts a shop and kills it after this time; false when it had ended by itself.
async fn kill_while_starting(dir: &Path, demo: &str, after: Duration) {
    let mut child = souk(dir)
        .args(["--listen", "127.0.0.1:0"])
        .env("SOUK__ADMIN__LISTEN", "127.0.0.1:0")
        .env("SOUK__DEMO", demo)
        .env("SOUK__AUTH__BCRYPT_COST", "4")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    pass(after).await;
    assert!(child.try_wait().unwrap().is_none(), "the shop ended by itself while it started");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_it_fills_the_demo_shop_it_fills_it_exactly_once() {
    let seed = setting("SOUK_CRASH_SEED", rand::random::<u32>().into());
    println!("SOUK_CRASH_SEED={seed}");
    let mut draw = StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir().unwrap();
    let (dir, whole) = (folder.path().join("data"), folder.path().join("whole"));
    let mut interrupted = 0;
    for _ in 0..6 {
        kill_while_starting(&dir, "true", Duration::from_millis(draw.random_range(30..700))).await;
        if marker(&dir).as_deref() == Some("filling") {
            interrupted += 1;
        }
    }
    const DEMO: &[(&str, &str)] = &[("SOUK__DEMO", "true")];
    for dir in [&dir, &whole] {
        let shop = start_with(dir, DEMO).await;
        at_rest(dir).await;
        let exit = tokio::task::spawn_blocking(move || shop.stop()).await.unwrap();
        assert_eq!(exit.status.code(), Some(0), "{}", exit.stderr);
    }
    println!("{interrupted} of 6 kills interrupted the fill");

    assert_eq!(marker(&dir).as_deref(), Some("filled"));
    let (users, products) = (open(&dir, "users.db"), open(&dir, "products.db"));
    assert_eq!(number(&products, "SELECT count(*) FROM products"), 200);
    assert_eq!(number(&users, "SELECT count(*) FROM users WHERE role = 'CUSTOMER'"), 50);
    assert_eq!(number(&users, "SELECT count(*) FROM users"), 52);
    let keys: BTreeSet<String> = stored_orders(&dir).into_values().map(|order| order.key).collect();
    assert_eq!(keys, (0..500).map(|number| format!("demo-{number}")).collect());
    let (created, _, _) = logged(&dir, "product-events");
    assert_eq!(created.len(), 200, "each product was announced once");
    let (signed_up, _, _) = logged(&dir, "user-events");
    assert_eq!(signed_up.len(), 52, "each account was announced once");
    // The opening stock is told by a shop that nobody interrupted: SKUs are the same in every demo shop.
    let opening = opening_stock(&whole);
    let skus: HashMap<ProductId, String> =
        rows(&products, "SELECT id, sku FROM products", |row| Ok((id_of(row, 0, ProductId::from_bytes)?, row.get(1)?)))
            .into_iter()
            .collect();
    println!("{}", check_books(&dir, |id| opening[&skus[id]]));
    let fates = |dir: &Path| -> BTreeMap<String, OrderStatus> {
        stored_orders(dir).into_values().map(|order| (order.key, order.status)).collect()
    };
    let (resumed, whole) = (fates(&dir), fates(&whole));
    let other: Vec<_> = resumed.iter().filter(|(key, status)| whole[*key] != **status).collect();
    assert!(other.is_empty(), "the interrupted shop differs: {other:?}");
}

fn marker(dir: &Path) -> Option<String> {
    let connection = Connection::open_with_flags(dir.join("operations.db"), OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
    connection.query_row("SELECT value FROM markers WHERE name = 'demo-fill'", [], |row| row.get(0)).ok()
}

/// By SKU: what was in stock before any order.
fn opening_stock(dir: &Path) -> HashMap<String, i64> {
    let products = open(dir, "products.db");
    let mut opening: HashMap<ProductId, (String, i64)> =
        rows(&products, "SELECT p.id, p.sku, s.available FROM products p JOIN stock s ON s.product_id = p.id", |row| {
            Ok((id_of(row, 0, ProductId::from_bytes)?, (row.get(1)?, row.get(2)?)))
        })
        .into_iter()
        .collect();
    for decision in rows(&products, "SELECT decision FROM decisions", |row| row.get::<_, String>(0)) {
        if let Decision::Reserved { lines } = serde_json::from_str(&decision).unwrap() {
            for line in lines {
                opening.get_mut(&line.product_id).unwrap().1 += i64::from(line.quantity);
            }
        }
    }
    opening.into_values().collect()
}
