//! What a store gives without a shop: durable inserts of one order-sized row, a commit each. SQLite on the same disk, or
//! the raw driver of MongoDB on the same server.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rusqlite::{Connection, params};

/// Rows a second.
pub trait Yardstick {
    fn per_second(&self) -> f64;
}

fn open(file: &Path) -> Connection {
    let connection = Connection::open(file).unwrap();
    connection.busy_timeout(Duration::from_secs(30)).unwrap();
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
    connection.pragma_update(None, "synchronous", "FULL").unwrap();
    connection
        .execute_batch("CREATE TABLE IF NOT EXISTS orders (position INTEGER PRIMARY KEY, id BLOB, body TEXT) STRICT")
        .unwrap();
    connection
}

fn insert(connection: &Connection, number: u64) {
    // About what an order's own row takes.
    const BODY: &str = concat!(
        r#"{"number":"261123-AAAA-BBBB","status":"PENDING","total":{"minorUnits":1250,"currency":"EUR"},"key":"k-0-000000001","#,
        r#""lines":[{"product_id":"prd_0123456789abcdef0123456789","sku":"BENCH-1","name":"Measured Product 1","category":"Bench","#,
        r#""unit_price":{"minorUnits":1250,"currency":"EUR"},"quantity":1}],"timeline":[{"sequence":1,"status":"PENDING","at":1795000000000}]}"#
    );
    let mut statement = connection.prepare_cached("INSERT INTO orders (id, body) VALUES (?1, ?2)").unwrap();
    statement.execute(params![u128::from(number).to_be_bytes(), BODY]).unwrap();
}

/// Rows a second, from so many threads, for so long. Each thread has a connection of its own, or all share one.
fn measure(folder: &Path, threads: usize, shared: bool, time: Duration) -> f64 {
    let file = folder.join("yardstick.db");
    for suffix in ["", "-wal", "-shm"] {
        drop(std::fs::remove_file(folder.join(format!("yardstick.db{suffix}"))));
    }
    let one = Mutex::new(open(&file));
    let (done, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let own = (!shared).then(|| open(&file));
                while !stop.load(Ordering::Relaxed) {
                    let number = done.fetch_add(1, Ordering::Relaxed);
                    match &own {
                        Some(own) => insert(own, number),
                        None => insert(&one.lock().unwrap(), number),
                    }
                }
            });
        }
        std::thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
    });
    done.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64()
}

/// SQLite in this folder.
pub struct Disk(PathBuf);

impl Disk {
    pub fn new(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    /// The faster of one connection a thread and one for all.
    pub fn many_threads(&self) -> f64 {
        let apart = measure(&self.0, 128, false, Duration::from_secs(2));
        apart.max(measure(&self.0, 128, true, Duration::from_secs(2)))
    }
}

/// From one thread.
impl Yardstick for Disk {
    fn per_second(&self) -> f64 {
        measure(&self.0, 1, false, Duration::from_secs(2))
    }
}
