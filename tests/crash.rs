//! kill -9 at random moments under load, over one data folder: what was answered stays, nothing happens twice, the books
//! balance. `SOUK_CRASH_KILLS` says how many kills (10), `SOUK_CRASH_SEED` repeats the choices of a run.

#![expect(clippy::unwrap_used, reason = "test code: a failure here fails the test")]

mod support;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rusqlite::{Connection, OpenFlags, Row};
use serde_json::{Value, json};
use souk::domain::ids::{OrderId, ProductId, UserId};
use souk::domain::inventory::{Decision, WantedLine};
use souk::domain::orders::{OrderLine, OrderStatus, TimelineEntry};
use tokio::sync::watch;

use support::client::{Account, Client, ORDER_PLACE, place_variables, unique};
use support::process::{ShopProcess, run, souk};
use support::{PASSWORD, eventually};

const CUSTOMERS: usize = 6;
const PRODUCTS: usize = 8;
const OPENING_STOCK: i64 = 150;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// Lets this much time pass.
async fn pass(time: Duration) {
    drop(tokio::time::timeout(time, std::future::pending::<()>()).await);
}

// ---- What was sent and what was answered ----

#[derive(Default)]
struct Book {
    /// (customer, key) of every order that was sent.
    sent: HashSet<(String, String)>,
    /// The id under which each was answered.
    placed: HashMap<(String, String), String>,
    /// Orders in the order of their answers, for those who work on them.
    orders: Vec<(usize, String)>,
    /// Changes that were answered with the order in that status.
    reached: Vec<(String, OrderStatus)>,
    /// Adjustments that were sent, by key.
    adjusting: HashMap<String, (String, i64)>,
    adjusted: HashSet<String>,
    refused: HashSet<String>,
    /// Requests without an answer, which were repeated.
    repeated: usize,
}

/// Where the shop is now; `None` between a kill and the next start.
type Whereabouts = watch::Receiver<Option<SocketAddr>>;

#[derive(Clone)]
struct Load {
    shop: Whereabouts,
    stop: watch::Receiver<bool>,
    book: Arc<Mutex<Book>>,
    http: reqwest::Client,
    customers: Arc<Vec<Account>>,
    staff: Account,
    products: Arc<Vec<String>>,
}

impl Load {
    fn book(&self) -> std::sync::MutexGuard<'_, Book> {
        self.book.lock().unwrap()
    }

    fn goes_on(&self) -> bool {
        !*self.stop.borrow()
    }

    /// Repeats the request until it has an answer: the payload of its one mutation.
    async fn answered(&mut self, token: &str, query: &str, variables: &Value, payload: &str) -> Value {
        let began = Instant::now();
        loop {
            let now = *self.shop.borrow_and_update();
            let Some(address) = now else {
                self.shop.changed().await.expect("the shop comes back");
                continue;
            };
            let client = Client { http: self.http.clone(), address };
            if let Ok(answer) = client.try_query(Some(token), query, variables.clone()).await {
                let data = &answer["data"][payload];
                let later = data["userErrors"][0]["code"] == "BUSY";
                if answer.get("errors").is_none() && !later {
                    return data.clone();
                }
                let code = &answer["errors"][0]["extensions"]["code"];
                let retryable = later || code == "UNAVAILABLE" || code == "TIMEOUT";
                assert!(retryable, "an answer that no repetition mends: {answer} to {variables}");
            }
            assert!(began.elapsed() < Duration::from_secs(60), "no answer for a minute: {variables}");
            self.book().repeated += 1;
            drop(tokio::time::timeout(Duration::from_millis(20), self.shop.changed()).await);
        }
    }

    async fn customer(mut self, who: usize, mut draw: StdRng) {
        let account = self.customers[who].clone();
        while self.goes_on() {
            if draw.random_bool(0.2) {
                self.cancel_one(&account, who, &mut draw).await;
                continue;
            }
            let key = unique("order");
            let lines: Vec<(String, i64)> = (0..draw.random_range(1..=3))
                .map(|_| (self.products[draw.random_range(0..PRODUCTS)].clone(), draw.random_range(1..=2)))
                .collect();
            let wait = [0, 0, 20, 200][draw.random_range(0..4)];
            self.place(&account, who, &key, &lines, wait).await;
            if draw.random_bool(0.1) {
                self.place(&account, who, &key, &lines, 0).await;
            }
        }
    }

    async fn place(&mut self, account: &Account, who: usize, key: &str, lines: &[(String, i64)], wait: i64) {
        let sent = (account.id.clone(), key.to_owned());
        self.book().sent.insert(sent.clone());
        let lines: Vec<(&str, i64)> = lines.iter().map(|(id, quantity)| (id.as_str(), *quantity)).collect();
        let variables = place_variables(key, &lines, wait);
        let payload = self.answered(&account.token, ORDER_PLACE, &variables, "orderPlace").await;
        let id = payload["order"]["id"].as_str().unwrap_or_else(|| panic!("no order: {payload}")).to_owned();
        let mut book = self.book();
        match book.placed.insert(sent, id.clone()) {
            None => book.orders.push((who, id.clone())),
            Some(before) => {
                assert_eq!(before, id, "a repeated key is answered with its order");
                assert_eq!(payload["replayed"], true, "{payload}");
            }
        }
        let status = OrderStatus::named(payload["order"]["status"].as_str().unwrap()).unwrap();
        book.reached.push((id, status));
    }

    async fn cancel_one(&mut self, account: &Account, who: usize, draw: &mut StdRng) {
        let mine: Vec<String> = {
            let book = self.book();
            book.orders.iter().rev().filter(|(of, _)| *of == who).take(20).map(|(_, id)| id.clone()).collect()
        };
        if mine.is_empty() {
            tokio::task::yield_now().await;
            return;
        }
        let id = mine[draw.random_range(0..mine.len())].clone();
        self.advance(&account.token, "orderCancel", &id).await;
    }

    /// False: the order's status does not allow it (any more).
    async fn advance(&mut self, token: &str, mutation: &str, id: &str) -> bool {
        let query =
            format!("mutation($id: ID!) {{ {mutation}(id: $id) {{ order {{ status }} userErrors {{ code }} }} }}");
        let payload = self.answered(token, &query, &json!({ "id": id }), mutation).await;
        match payload["order"]["status"].as_str().and_then(OrderStatus::named) {
            Some(status) if payload["userErrors"].as_array().is_some_and(Vec::is_empty) => {
                self.book().reached.push((id.to_owned(), status));
                true
            }
            _ => {
                assert_eq!(payload["userErrors"][0]["code"], "ILLEGAL_TRANSITION", "{mutation} {id}: {payload}");
                false
            }
        }
    }

    async fn ship_and_deliver(mut self, mut draw: StdRng) {
        let token = self.staff.token.clone();
        while self.goes_on() {
            let order = {
                let book = self.book();
                let recent = book.orders.len().saturating_sub(60);
                let orders = &book.orders[recent..];
                (!orders.is_empty()).then(|| orders[draw.random_range(0..orders.len())].1.clone())
            };
            if let Some(id) = order
                && self.advance(&token, "orderShip", &id).await
                && draw.random_bool(0.7)
            {
                self.advance(&token, "orderDeliver", &id).await;
            }
            pass(Duration::from_millis(5)).await;
        }
    }

    async fn adjust(mut self, mut draw: StdRng) {
        let token = self.staff.token.clone();
        let query =
            "mutation($product: ID!, $delta: Int!, $key: String) { stockAdjust(productId: $product, delta: $delta,
            reason: \"counted\", idempotencyKey: $key) { product { id } userErrors { code } } }";
        while self.goes_on() {
            let (key, product) = (unique("adjust"), self.products[draw.random_range(0..PRODUCTS)].clone());
            let delta = draw.random_range(-20..=30);
            self.book().adjusting.insert(key.clone(), (product.clone(), delta));
            let variables = json!({ "product": product, "delta": delta, "key": key });
            let times = if draw.random_bool(0.1) { 2 } else { 1 };
            for _ in 0..times {
                let payload = self.answered(&token, query, &variables, "stockAdjust").await;
                match payload["userErrors"][0]["code"].as_str() {
                    None => assert!(self.book().adjusted.insert(key.clone()) || times == 2),
                    Some("INVALID_INPUT") => {
                        self.book().refused.insert(key.clone());
                        break;
                    }
                    Some(other) => panic!("an adjustment answered {other}: {payload}"),
                }
            }
            pass(Duration::from_millis(5)).await;
        }
    }
}

// ---- What is in the files ----

fn open(dir: &Path, file: &str) -> Connection {
    let connection = Connection::open_with_flags(dir.join(file), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    connection.busy_timeout(Duration::from_secs(5)).unwrap();
    connection
}

fn rows<T>(connection: &Connection, sql: &str, read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>) -> Vec<T> {
    connection.prepare(sql).unwrap().query_map([], read).unwrap().map(Result::unwrap).collect()
}

fn number(connection: &Connection, sql: &str) -> i64 {
    connection.query_row(sql, [], |row| row.get(0)).unwrap_or_else(|error| panic!("{sql}: {error}"))
}

fn id_of<T>(row: &Row<'_>, column: usize, make: impl Fn([u8; 16]) -> T) -> rusqlite::Result<T> {
    row.get::<_, [u8; 16]>(column).map(make)
}

const DOMAINS: [&str; 4] = ["users.db", "products.db", "orders.db", "operations.db"];
const CONSUMERS: [(&str, &str, &str); 3] = [
    ("products.db", "inventory", "order-events"),
    ("orders.db", "orders", "inventory-events"),
    ("operations.db", "dead-letters", "dead-letter-queue"),
];

/// What is still on its way: `None` when everything has come to rest.
fn unrest(dir: &Path) -> Option<String> {
    for file in DOMAINS {
        let pending = number(&open(dir, file), "SELECT count(*) FROM pending_events");
        if pending > 0 {
            return Some(format!("{pending} pending events in {file}"));
        }
    }
    for (file, group, topic) in CONSUMERS {
        let ends: Vec<(i64, i64)> = rows(
            &open(dir, "events.db"),
            &format!(
                "SELECT r.place >> 44 & 2047, max(r.place & ((1 << 44) - 1)) + 1 FROM records r
                 JOIN topics t ON t.id = r.place >> 55 WHERE t.name = '{topic}' GROUP BY 1"
            ),
            |row| Ok((row.get(0)?, row.get(1)?)),
        );
        let domain = open(dir, file);
        for (partition, end) in ends {
            let sql = format!(
                "SELECT coalesce(max(next_offset), 0) FROM consumed
                 WHERE consumer = '{group}' AND topic = '{topic}' AND partition = {partition}"
            );
            let next = number(&domain, &sql);
            if next != end {
                return Some(format!("group {group} is at {next} of {end} in {topic}/{partition}"));
            }
        }
        let parked = number(&domain, "SELECT count(*) FROM parked");
        if parked > 0 {
            return Some(format!("{parked} parked events in {file}"));
        }
    }
    let undecided = number(&open(dir, "orders.db"), "SELECT count(*) FROM orders WHERE status = 0");
    (undecided > 0).then(|| format!("{undecided} orders are PENDING"))
}

async fn at_rest(dir: &Path) {
    let last = RefCell::new((None, Instant::now()));
    eventually("everything comes to rest", async || {
        let now = unrest(dir);
        let mut last = last.borrow_mut();
        if last.0 != now {
            *last = (now.clone(), Instant::now());
        }
        assert!(now.is_none() || last.1.elapsed() < Duration::from_secs(20), "stuck: {now:?}");
        now.is_none().then_some(())
    })
    .await;
}

struct StoredOrder {
    customer: String,
    key: String,
    status: OrderStatus,
    timeline: Vec<TimelineEntry>,
    lines: Vec<OrderLine>,
}

fn stored_orders(dir: &Path) -> BTreeMap<String, StoredOrder> {
    rows(
        &open(dir, "orders.db"),
        "SELECT id, customer_id, idempotency_key, status, timeline, lines FROM orders",
        |row| {
            let order = StoredOrder {
                customer: id_of(row, 1, UserId::from_bytes)?.to_string(),
                key: row.get(2)?,
                status: OrderStatus::ALL[row.get::<_, usize>(3)?],
                timeline: serde_json::from_str(&row.get::<_, String>(4)?).unwrap(),
                lines: serde_json::from_str(&row.get::<_, String>(5)?).unwrap(),
            };
            Ok((id_of(row, 0, OrderId::from_bytes)?.to_string(), order))
        },
    )
    .into_iter()
    .collect()
}

/// The types under which each event id was appended, in log order, with how often.
fn logged(dir: &Path, topic: &str) -> (BTreeMap<String, String>, usize, Vec<(String, String)>) {
    let records: Vec<(String, String, String)> = rows(
        &open(dir, "events.db"),
        &format!(
            "SELECT r.key, r.id, r.type FROM records r JOIN topics t ON t.id = r.place >> 55
             WHERE t.name = '{topic}' ORDER BY r.place"
        ),
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    );
    let (mut types, mut first_seen) = (BTreeMap::<String, String>::new(), Vec::new());
    let count = records.len();
    for (key, id, kind) in records {
        match types.get(&id) {
            Some(before) => assert_eq!(*before, kind, "event {id} was published with two types"),
            None => {
                types.insert(id.clone(), kind);
                first_seen.push((key, id));
            }
        }
    }
    (types, count, first_seen)
}

/// Every invariant that needs no knowledge of what was sent; a line of counts.
fn check_books(dir: &Path, opening: impl Fn(&ProductId) -> i64) -> String {
    let orders = stored_orders(dir);
    for (id, order) in &orders {
        let statuses: Vec<_> = order.timeline.iter().map(|entry| entry.status).collect();
        assert_eq!(statuses.first(), Some(&OrderStatus::Pending), "{id}");
        assert_eq!(statuses.last(), Some(&order.status), "{id}");
        assert_ne!(order.status, OrderStatus::Pending, "{id} was never decided");
        for (place, entry) in order.timeline.iter().enumerate() {
            assert_eq!(entry.sequence, place as i32 + 1, "{id}: {:?}", order.timeline);
        }
        for step in statuses.windows(2) {
            assert!(step[0].successors().contains(&step[1]), "{id}: {statuses:?}");
        }
    }

    // Every change has its event and every event its change, in order.
    let (types, appended, first_seen) = logged(dir, "order-events");
    let expected: BTreeMap<String, String> = orders
        .iter()
        .flat_map(|(id, order)| {
            order
                .timeline
                .iter()
                .map(move |entry| (format!("{id}-{}", entry.sequence), entry.status.event_type().to_owned()))
        })
        .collect();
    assert_eq!(types, expected, "the log and the timelines tell the same");
    let mut last = HashMap::<String, i64>::new();
    for (key, id) in first_seen {
        let sequence: i64 = id.rsplit_once('-').unwrap().1.parse().unwrap();
        let before = last.insert(key, sequence).unwrap_or(0);
        assert_eq!(sequence, before + 1, "{id} came out of order");
    }
    let changes = number(&open(dir, "orders.db"), "SELECT count(*) FROM changes");
    assert_eq!(changes as usize, expected.len(), "one change number for each timeline entry");

    // One decision for each order; stock is what it says.
    let products = open(dir, "products.db");
    let decisions: BTreeMap<String, Decision> = rows(&products, "SELECT order_id, decision FROM decisions", |row| {
        let decision = serde_json::from_str(&row.get::<_, String>(1)?).unwrap();
        Ok((id_of(row, 0, OrderId::from_bytes)?.to_string(), decision))
    })
    .into_iter()
    .collect();
    assert_eq!(decisions.keys().collect::<Vec<_>>(), orders.keys().collect::<Vec<_>>(), "every order was decided");
    let (mut taken, mut reserved) = (HashMap::<ProductId, i64>::new(), 0);
    for (id, decision) in &decisions {
        let order = &orders[id];
        let holds = matches!(order.status, OrderStatus::Confirmed | OrderStatus::Shipped | OrderStatus::Delivered);
        assert_eq!(matches!(decision, Decision::Reserved { .. }), holds, "{id} is {:?}: {decision:?}", order.status);
        let Decision::Reserved { lines } = decision else { continue };
        reserved += 1;
        let of_decision: BTreeSet<_> = lines.iter().map(|line| (line.product_id, line.quantity)).collect();
        let of_order: BTreeSet<_> = order.lines.iter().map(|line| (line.product_id, line.quantity)).collect();
        assert_eq!(of_decision, of_order, "{id} reserves what it ordered");
        for WantedLine { product_id, quantity } in lines {
            *taken.entry(*product_id).or_default() += i64::from(*quantity);
        }
    }
    let (events, inventory_appended, _) = logged(dir, "inventory-events");
    for (id, decision) in &decisions {
        let kinds: Vec<_> = events
            .iter()
            .filter(|(event, _)| event.starts_with(&format!("{id}-")))
            .map(|(_, kind)| kind.as_str())
            .collect();
        let expected = match decision {
            Decision::Reserved { .. } => kinds == ["souk.inventory.reserved.v1"],
            Decision::Rejected { .. } => kinds == ["souk.inventory.rejected.v1"],
            Decision::Released => kinds.iter().all(|kind| !kind.contains("rejected")),
        };
        assert!(expected, "{id} is {decision:?}, its events are {kinds:?}");
    }
    let mut adjusted = HashMap::<ProductId, i64>::new();
    for (product, delta) in rows(&products, "SELECT product_id, delta FROM adjustments", |row| {
        Ok((id_of(row, 0, ProductId::from_bytes)?, row.get::<_, i64>(1)?))
    }) {
        *adjusted.entry(product).or_default() += delta;
    }
    let stock = rows(&products, "SELECT product_id, available FROM stock", |row| {
        Ok((id_of(row, 0, ProductId::from_bytes)?, row.get::<_, i64>(1)?))
    });
    for (product, available) in stock {
        let of = |counts: &HashMap<ProductId, i64>| counts.get(&product).copied().unwrap_or(0);
        assert_eq!(available, opening(&product) + of(&adjusted) - of(&taken), "stock of {product}");
    }
    let letters = number(&open(dir, "operations.db"), "SELECT count(*) FROM dead_letters");
    assert_eq!(letters, 0, "nothing became a dead letter");
    for file in DOMAINS.iter().chain(&["events.db"]) {
        let verdict: String = open(dir, file).query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(verdict, "ok", "{file}");
    }

    let mut by_status = BTreeMap::<&str, usize>::new();
    for order in orders.values() {
        *by_status.entry(order.status.as_str()).or_default() += 1;
    }
    format!(
        "{} orders {by_status:?}, {reserved} reserved, {appended} order events of {} ids ({} again), {inventory_appended} inventory events",
        orders.len(),
        types.len(),
        appended - types.len(),
    )
}

fn check_answers(dir: &Path, book: &Book) {
    let orders = stored_orders(dir);
    for (sent, id) in &book.placed {
        let order = orders.get(id).unwrap_or_else(|| panic!("{id} was answered and is not stored"));
        assert_eq!((&order.customer, &order.key), (&sent.0, &sent.1), "{id} is stored under its key");
    }
    let mut under_key = HashSet::new();
    for (id, order) in &orders {
        let key = (order.customer.clone(), order.key.clone());
        assert!(book.sent.contains(&key), "{id} was never sent: {key:?}");
        assert!(under_key.insert(key), "{id} was placed twice");
    }
    for (id, status) in &book.reached {
        let statuses: Vec<_> = orders[id].timeline.iter().map(|entry| entry.status).collect();
        assert!(statuses.contains(status), "{id} was answered {status:?} and went {statuses:?}");
    }
    let stored: Vec<(String, String, i64)> =
        rows(&open(dir, "products.db"), "SELECT idempotency_key, product_id, delta FROM adjustments", |row| {
            Ok((row.get(0)?, id_of(row, 1, ProductId::from_bytes)?.to_string(), row.get(2)?))
        });
    let mut applied = HashSet::new();
    for (key, product, delta) in stored {
        assert_eq!(book.adjusting.get(&key), Some(&(product, delta)), "adjustment {key}");
        assert!(!book.refused.contains(&key), "{key} was refused and is stored");
        assert!(applied.insert(key.clone()), "{key} was applied twice");
    }
    for key in &book.adjusted {
        assert!(applied.contains(key), "{key} was answered and is not stored");
    }
}

// ---- The tests ----

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
