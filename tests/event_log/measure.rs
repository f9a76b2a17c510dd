//! Measurements, run by hand:
//! `cargo test --release --test event_log measure -- --ignored --nocapture --test-threads 1`

use std::sync::Arc;
use std::time::{Duration, Instant};

use souk::domain::events::{PendingEvent, Topic};
use souk::kafka::embedded::{EmbeddedLog, EmbeddedLogOptions};
use souk::kafka::{Delivery, EventLog};

use crate::conformance::event;

/// A multiple of every batch size.
const RECORDS: usize = 60_000;

/// CPU time of the process so far, in microseconds.
fn cpu_us() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    ticks * 10_000
}

fn batch(round: usize, size: usize) -> Vec<PendingEvent> {
    let body = serde_json::json!({"order_id": "ord_01j9zzzzzzzzzzzzzzzzzzzzzz", "text": "x".repeat(500)});
    let body = body.to_string();
    let one = |n| PendingEvent { body: body.clone(), ..event(Topic::OrderEvents, &format!("ord_{round}_{n}"), 1) };
    (0..size).map(one).collect()
}

async fn measure(what: &str, readers: usize, from_file: bool, size: usize) {
    let folder = tempfile::tempdir().unwrap();
    let options = EmbeddedLogOptions { partitions: 8, retention: None };
    let log = Arc::new(EmbeddedLog::open(folder.path(), &options).unwrap());
    let read = |group: String| {
        let log = log.clone();
        async move {
            let mut reader = log.consumer(&group, &[Topic::OrderEvents], Duration::ZERO).await.unwrap();
            let mut seen = 0;
            while seen < RECORDS {
                match reader.next(500).await.unwrap() {
                    Delivery::Assigned(partitions) => {
                        for at in partitions {
                            reader.seek(at, 0).await.unwrap();
                        }
                    }
                    Delivery::Records(records) => seen += records.len(),
                    Delivery::Revoked(_) => panic!("revoked"),
                }
            }
        }
    };
    let batches: Vec<Vec<PendingEvent>> = (0..RECORDS / size).map(|round| batch(round, size)).collect();
    let mut tasks = tokio::task::JoinSet::new();
    if !from_file {
        (0..readers).for_each(|n| drop(tasks.spawn(read(format!("g{n}")))));
        tokio::task::yield_now().await;
    }
    let (start, cpu) = (Instant::now(), cpu_us());
    for batch in batches {
        log.append(batch).await.unwrap();
    }
    let (appended, appended_cpu) = (start.elapsed(), cpu_us() - cpu);
    let (start, cpu) = (Instant::now(), cpu_us());
    if from_file {
        (0..readers).for_each(|n| drop(tasks.spawn(read(format!("g{n}")))));
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let per = |micros: u64| micros as f64 / RECORDS as f64;
    println!(
        "{what}: append {:.2} us wall, {:.2} us cpu a record; then read {:.2} us wall, {:.2} us cpu a record",
        per(appended.as_micros() as u64),
        per(appended_cpu),
        per(start.elapsed().as_micros() as u64),
        per(cpu_us() - cpu),
    );
}

#[tokio::test]
#[ignore = "a measurement, run by hand"]
async fn measure_the_embedded_log() {
    measure("append alone, 300 a batch", 0, false, 300).await;
    measure("append alone, 20 a batch", 0, false, 20).await;
    measure("with two readers, 300 a batch", 2, false, 300).await;
    measure("one reader from the file, 300 a batch", 1, true, 300).await;
}
