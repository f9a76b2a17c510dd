//! What is particular to the embedded log: its file, its memory, retention.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use souk::domain::events::Topic;
use souk::domain::time::Timestamp;
use souk::kafka::embedded::{EmbeddedLog, EmbeddedLogOptions};
use souk::kafka::{Delivery, EventLog, GroupConsumer, LogError, Record, Tailed, TopicPartition};

use crate::conformance::{event, within};

fn open(folder: &Path) -> EmbeddedLog {
    EmbeddedLog::open(folder, &EmbeddedLogOptions { partitions: 4, retention: None }).unwrap()
}

async fn start(log: &EmbeddedLog, group: &str, from: impl Fn(TopicPartition) -> i64) -> Box<dyn GroupConsumer> {
    let mut reader = log.consumer(group, &[Topic::OrderEvents], Duration::ZERO).await.unwrap();
    let Delivery::Assigned(partitions) = within(reader.next(1)).await.unwrap() else { panic!("not assigned") };
    for at in partitions {
        reader.seek(at, from(at)).await.unwrap();
    }
    reader
}

async fn read(reader: &mut dyn GroupConsumer, count: usize) -> Vec<Arc<Record>> {
    let mut records = Vec::new();
    while records.len() < count {
        let Delivery::Records(more) = within(reader.next(1_000)).await.unwrap() else { panic!("no records") };
        records.extend(more);
    }
    records
}

#[tokio::test]
async fn reopening_keeps_records_offsets_and_copies() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    log.append((1..=5).map(|n| event(Topic::OrderEvents, "k", n)).collect()).await.unwrap();
    let mut reader = start(&log, "g", |_| 0).await;
    let at = read(&mut *reader, 5).await[0].place();
    reader.commit(at, 3);
    drop((reader, log));

    let log = open(folder.path());
    log.append(vec![event(Topic::OrderEvents, "k", 6)]).await.unwrap();
    let progress = log.progress().await.unwrap();
    let copy = progress[0].1.iter().find(|copy| copy.partition == at).unwrap();
    assert_eq!((progress[0].0.as_str(), copy.committed, copy.end), ("g", 3, 6));
    let records = read(&mut *start(&log, "g", |_| 0).await, 6).await;
    assert_eq!(records.iter().map(|record| record.offset).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn another_number_of_partitions_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let refused = EmbeddedLog::open(folder.path(), &EmbeddedLogOptions { partitions: 8, retention: None });
    let Err(error) = refused else { panic!("was opened") };
    assert!(matches!(error, LogError::PartitionCount { existing: 4, configured: 8, .. }));
    assert_eq!(
        error.to_string(),
        "each topic of the event log has 4 partitions, but events.partitions is 8: both have to be the same"
    );
}

#[tokio::test]
async fn retention_keeps_what_a_group_has_to_read() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    // All at the time 1,000.
    log.append((1..=5_000).map(|n| event(Topic::OrderEvents, "k", n)).collect()).await.unwrap();
    let mut ahead = start(&log, "ahead", |_| 0).await;
    let mut behind = start(&log, "behind", |_| 0).await;
    let at = read(&mut *ahead, 5_000).await[0].place();
    ahead.commit(at, 5_000);
    assert_eq!(log.retain(Timestamp(2_000)).await.unwrap(), 0);
    behind.commit(at, 4_500);
    assert_eq!(log.retain(Timestamp(1_000)).await.unwrap(), 0, "not old enough");
    assert_eq!(log.retain(Timestamp(2_000)).await.unwrap(), 4_500);
    assert_eq!(behind.bounds(at).await.unwrap().start, 4_500);
    behind.commit(at, 5_000);
    drop((ahead, behind));
    assert_eq!(log.retain(Timestamp(2_000)).await.unwrap(), 499, "the newest record stays");
    drop(log);

    let log = open(folder.path());
    log.append(vec![event(Topic::OrderEvents, "k", 5_001)]).await.unwrap();
    let records = read(&mut *start(&log, "ahead", |_| 4_999).await, 2).await;
    assert_eq!(records.iter().map(|record| record.offset).collect::<Vec<_>>(), [4_999, 5_000]);
}

#[tokio::test]
async fn a_reader_far_behind_catches_up_from_the_file_while_records_come() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let mut reader = start(&log, "g", |_| 0).await;
    let mut large = event(Topic::OrderEvents, "k", 1);
    large.body = format!("\"{}\"", "x".repeat(100_000));
    // 20 MB: more than the memory keeps for a slow reader.
    for _ in 0..20 {
        let batch = (0..10).map(|n| souk::domain::events::PendingEvent { key: format!("k{n}"), ..large.clone() });
        log.append(batch.collect()).await.unwrap();
    }
    let mut next = std::collections::HashMap::new();
    let mut rounds = 0;
    while next.values().sum::<i64>() < 300 {
        if rounds < 10 {
            log.append((0..10).map(|n| event(Topic::OrderEvents, &format!("k{n}"), 2)).collect()).await.unwrap();
        }
        rounds += 1;
        let Delivery::Records(records) = within(reader.next(20)).await.unwrap() else { panic!("no records") };
        for record in &records {
            let expected = next.entry(record.partition).or_insert(0);
            assert_eq!(record.offset, *expected);
            *expected += 1;
        }
    }
}

#[tokio::test]
async fn a_tail_that_fell_behind_is_told_once_and_goes_on_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let mut tail = log.tail(&[Topic::OrderEvents]).await.unwrap();
    let mut large = event(Topic::OrderEvents, "k", 1);
    large.body = "x".repeat(1_000_000);
    for _ in 0..5 {
        log.append(vec![large.clone()]).await.unwrap();
    }
    assert!(matches!(within(tail.next()).await.unwrap(), Tailed::LostPlace));
    log.append(vec![event(Topic::OrderEvents, "k", 9)]).await.unwrap();
    assert_eq!(crate::conformance::tailed(&mut *tail).await, ["k-9"]);
}

#[tokio::test]
async fn readers_learn_that_the_log_was_closed() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let mut reader = start(&log, "g", |_| 0).await;
    let closing = async { drop(log) };
    let (read, ()) = tokio::join!(within(reader.next(1)), closing);
    assert!(matches!(read, Err(LogError::Unavailable(_))));
}
