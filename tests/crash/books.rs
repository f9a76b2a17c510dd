//! The books, read from the files once everything is at rest and the process has stopped.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags, Row};
use souk::domain::ids::{OrderId, ProductId, UserId};
use souk::domain::inventory::{Decision, WantedLine};
use souk::domain::orders::{OrderLine, OrderStatus, TimelineEntry};

use crate::load::Book;
use crate::support::eventually;

pub fn open(dir: &Path, file: &str) -> Connection {
    let connection = Connection::open_with_flags(dir.join(file), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    connection.busy_timeout(Duration::from_secs(5)).unwrap();
    connection
}

pub fn rows<T>(connection: &Connection, sql: &str, read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>) -> Vec<T> {
    connection.prepare(sql).unwrap().query_map([], read).unwrap().map(Result::unwrap).collect()
}

pub fn number(connection: &Connection, sql: &str) -> i64 {
    connection.query_row(sql, [], |row| row.get(0)).unwrap_or_else(|error| panic!("{sql}: {error}"))
}

pub fn id_of<T>(row: &Row<'_>, column: usize, make: impl Fn([u8; 16]) -> T) -> rusqlite::Result<T> {
    row.get::<_, [u8; 16]>(column).map(make)
}

pub const DOMAINS: [&str; 6] =
    ["users.db", "products.db", "orders.db", "recommendations.db", "notifications.db", "operations.db"];
pub const CONSUMERS: [(&str, &str, &str); 4] = [
    ("products.db", "inventory", "order-events"),
    ("orders.db", "orders", "inventory-events"),
    ("recommendations.db", "recommendations", "order-events"),
    ("operations.db", "dead-letters", "dead-letter-queue"),
];

/// What is still on its way: `None` when everything has come to rest.
pub fn unrest(dir: &Path) -> Option<String> {
    for file in DOMAINS {
        let pending = number(&open(dir, file), "SELECT count(*) FROM pending_events");
        if pending > 0 {
            return Some(format!("{pending} pending events in {file}"));
        }
    }
    let unpublished = number(&open(dir, "orders.db"), "SELECT count(*) FROM unpublished");
    if unpublished > 0 {
        return Some(format!("{unpublished} unpublished events of orders"));
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

pub async fn at_rest(dir: &Path) {
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

pub struct StoredOrder {
    pub customer: String,
    pub key: String,
    pub status: OrderStatus,
    pub timeline: Vec<TimelineEntry>,
    pub lines: Vec<OrderLine>,
}

pub fn stored_orders(dir: &Path) -> BTreeMap<String, StoredOrder> {
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
pub fn logged(dir: &Path, topic: &str) -> (BTreeMap<String, String>, usize, Vec<(String, String)>) {
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
pub fn check_books(dir: &Path, opening: impl Fn(&ProductId) -> i64) -> String {
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
    let changes = number(&open(dir, "orders.db"), "SELECT count(*) FROM customer_changes");
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

pub fn check_answers(dir: &Path, book: &Book) {
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
