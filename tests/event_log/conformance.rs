//! What every adapter of the `EventLog` port must do. A new adapter is one more module in `event_log_suite!`.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use souk::domain::events::{PendingEvent, Topic};
use souk::domain::time::Timestamp;
use souk::kafka::embedded::{EmbeddedLog, EmbeddedLogOptions};
use souk::kafka::{
    Delivery, EventLog, GroupConsumer, LogError, MAX_EVENT_BYTES, Record, Tail, Tailed, TopicPartition, envelope,
};

use crate::memory_log::{Handle, MemoryLog};

/// A log that can be closed and opened again on the same data.
pub trait Adapter {
    fn log(&self) -> Arc<dyn EventLog>;
}

struct Embedded {
    log: Arc<EmbeddedLog>,
    _folder: tempfile::TempDir,
}

impl Adapter for Embedded {
    fn log(&self) -> Arc<dyn EventLog> {
        self.log.clone()
    }
}

impl Adapter for Handle {
    fn log(&self) -> Arc<dyn EventLog> {
        Arc::new(self.clone())
    }
}

fn embedded() -> Embedded {
    let folder = tempfile::tempdir().unwrap();
    // The events of these cases are of 1970: retention would remove them.
    let options = EmbeddedLogOptions { partitions: 8, retention: None };
    let log = EmbeddedLog::open(folder.path(), &options).unwrap();
    Embedded { log: Arc::new(log), _folder: folder }
}

macro_rules! event_log_suite {
    ($($case:ident),+ $(,)?) => {
        mod embedded { $( #[tokio::test] async fn $case() { super::$case(super::embedded()).await } )+ }
        mod memory { $( #[tokio::test] async fn $case() { super::$case(super::Handle(super::MemoryLog::new(8))).await } )+ }
        mod kafka {
            $(
                #[tokio::test]
                #[ignore = "needs SOUK_TEST_KAFKA_BROKERS; scripts/test gives it"]
                async fn $case() { super::$case(crate::broker::Broker::open().await).await }
            )+
        }
    };
}

event_log_suite!(
    order_is_kept_for_each_key,
    a_key_stays_in_its_partition,
    two_groups_each_see_everything,
    uncommitted_records_come_again,
    a_lower_copy_does_not_undo_a_higher_one,
    an_oversize_event_is_refused_with_its_whole_batch,
    a_tail_sees_only_what_is_new,
    readers_are_woken,
    a_dropped_read_loses_nothing,
    headers_and_bodies_survive,
    a_newer_reader_of_the_group_takes_the_partitions,
    a_seek_goes_back_and_forth,
    bounds_tell_what_a_partition_holds,
    a_batch_is_no_larger_than_asked,
    concurrent_appends_are_all_there,
);

pub fn event(topic: Topic, key: &str, sequence: i64) -> PendingEvent {
    let body = serde_json::json!({ "n": sequence });
    PendingEvent::new(topic, "/souk/test", "souk.test.happened.v1", key.to_owned(), sequence, Timestamp(1_000), &body)
}

pub async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), work).await.expect("did not happen in time")
}

/// A reader that has sought every partition to the log's own copy of its offset.
pub async fn reader(log: &dyn EventLog, group: &str, topics: &[Topic]) -> Box<dyn GroupConsumer> {
    let mut reader = log.consumer(group, topics, Duration::ZERO).await.unwrap();
    let Delivery::Assigned(partitions) = within(reader.next(1)).await.unwrap() else { panic!("not assigned") };
    let progress = log.progress().await.unwrap();
    let known = progress.into_iter().find(|(name, _)| name == group).map(|(_, known)| known).unwrap_or_default();
    for at in partitions {
        let from = known.iter().find(|copy| copy.partition == at).map_or(0, |copy| copy.committed);
        reader.seek(at, from).await.unwrap();
    }
    reader
}

pub async fn read(reader: &mut dyn GroupConsumer, count: usize) -> Vec<Arc<Record>> {
    let mut records = Vec::new();
    while records.len() < count {
        match within(reader.next(100)).await.unwrap() {
            Delivery::Records(more) => records.extend(more),
            other => panic!("unexpected {other:?}"),
        }
    }
    records
}

pub fn id(record: &Record) -> &str {
    record.header(envelope::ID).unwrap()
}

async fn order_is_kept_for_each_key(adapter: impl Adapter) {
    let log = adapter.log();
    for round in 0..20 {
        let events = (0..10).map(|key| event(Topic::OrderEvents, &format!("ord_{key}"), round + 1)).collect();
        log.append(events).await.unwrap();
    }
    let records = read(&mut *reader(&*log, "g", &[Topic::OrderEvents]).await, 200).await;
    for key in 0..10 {
        let key = format!("ord_{key}");
        let seen: Vec<&str> = records.iter().filter(|record| record.key == key).map(|record| id(record)).collect();
        let expected: Vec<String> = (1..=20).map(|sequence| format!("{key}-{sequence}")).collect();
        assert_eq!(seen, expected);
    }
}

async fn a_key_stays_in_its_partition(adapter: impl Adapter) {
    let log = adapter.log();
    for sequence in 1..=5 {
        log.append((0..30).map(|key| event(Topic::OrderEvents, &format!("k{key}"), sequence)).collect()).await.unwrap();
    }
    let records = read(&mut *reader(&*log, "g", &[Topic::OrderEvents]).await, 150).await;
    let mut partitions = std::collections::HashMap::new();
    for record in &records {
        assert_eq!(*partitions.entry(record.key.clone()).or_insert(record.partition), record.partition);
    }
    let used: std::collections::HashSet<i32> = partitions.into_values().collect();
    assert!(used.len() > 4, "30 keys use only {} of 8 partitions", used.len());
}

async fn two_groups_each_see_everything(adapter: impl Adapter) {
    let log = adapter.log();
    log.append((1..=10).map(|n| event(Topic::OrderEvents, "k", n)).collect()).await.unwrap();
    log.append(vec![event(Topic::UserEvents, "u", 1)]).await.unwrap();
    for group in ["a", "b"] {
        let records = read(&mut *reader(&*log, group, &[Topic::OrderEvents]).await, 10).await;
        assert_eq!(records.len(), 10);
        assert!(records.iter().all(|record| record.topic == Topic::OrderEvents));
    }
}

async fn uncommitted_records_come_again(adapter: impl Adapter) {
    let log = adapter.log();
    log.append((1..=10).map(|n| event(Topic::OrderEvents, "k", n)).collect()).await.unwrap();
    let mut first = reader(&*log, "g", &[Topic::OrderEvents]).await;
    let records = read(&mut *first, 10).await;
    first.commit(records[3].place(), records[3].offset + 1);
    drop(first);
    let again = read(&mut *reader(&*log, "g", &[Topic::OrderEvents]).await, 6).await;
    assert_eq!(again.iter().map(|record| id(record)).collect::<Vec<_>>(), ["k-5", "k-6", "k-7", "k-8", "k-9", "k-10"]);
}

async fn a_lower_copy_does_not_undo_a_higher_one(adapter: impl Adapter) {
    let log = adapter.log();
    log.append((1..=10).map(|n| event(Topic::OrderEvents, "k", n)).collect()).await.unwrap();
    let mut reader = reader(&*log, "g", &[Topic::OrderEvents]).await;
    let at = read(&mut *reader, 10).await[0].place();
    reader.commit(at, 8);
    reader.commit(at, 3);
    let progress = log.progress().await.unwrap();
    let (_, known) = progress.iter().find(|(group, _)| group == "g").unwrap();
    let copy = known.iter().find(|copy| copy.partition == at).unwrap();
    assert_eq!((copy.committed, copy.end, copy.lag()), (8, 10, 2));
}

async fn an_oversize_event_is_refused_with_its_whole_batch(adapter: impl Adapter) {
    let log = adapter.log();
    let mut large = event(Topic::OrderEvents, "big", 7);
    large.body = "x".repeat(MAX_EVENT_BYTES + 1);
    let refused = log.append(vec![event(Topic::OrderEvents, "k", 1), large]).await;
    assert!(
        matches!(&refused, Err(LogError::TooLarge { aggregate, sequence: 7, .. }) if aggregate == "big"),
        "{refused:?}"
    );
    let mut fits = event(Topic::OrderEvents, "k", 2);
    fits.body = "x".repeat(MAX_EVENT_BYTES - 100);
    log.append(vec![fits]).await.unwrap();
    let records = read(&mut *reader(&*log, "g", &[Topic::OrderEvents]).await, 1).await;
    assert_eq!(id(&records[0]), "k-2");
}

async fn a_tail_sees_only_what_is_new(adapter: impl Adapter) {
    let log = adapter.log();
    log.append(vec![event(Topic::OrderEvents, "k", 1)]).await.unwrap();
    let mut tail = log.tail(&[Topic::OrderEvents]).await.unwrap();
    assert!(tail.next().now_or_never().is_none());
    log.append(vec![event(Topic::UserEvents, "u", 1), event(Topic::OrderEvents, "k", 2)]).await.unwrap();
    assert_eq!(tailed(&mut *tail).await, ["k-2"]);
    assert!(tail.next().now_or_never().is_none());
}

pub async fn tailed(tail: &mut dyn Tail) -> Vec<String> {
    match within(tail.next()).await.unwrap() {
        Tailed::Records(records) => records.iter().map(|record| id(record).to_owned()).collect(),
        Tailed::LostPlace => panic!("lost its place"),
    }
}

async fn readers_are_woken(adapter: impl Adapter) {
    let log = adapter.log();
    let mut reader = reader(&*log, "g", &[Topic::OrderEvents]).await;
    let mut tail = log.tail(&[Topic::OrderEvents]).await.unwrap();
    for n in 1..=50 {
        let appending = log.append(vec![event(Topic::OrderEvents, "k", n)]);
        let (read, tailed, appended) = tokio::join!(read(&mut *reader, 1), tailed(&mut *tail), appending);
        appended.unwrap();
        assert_eq!((id(&read[0]), tailed[0].as_str()), (format!("k-{n}").as_str(), format!("k-{n}").as_str()));
    }
}

async fn a_dropped_read_loses_nothing(adapter: impl Adapter) {
    let log = adapter.log();
    let mut reader = reader(&*log, "g", &[Topic::OrderEvents]).await;
    let mut seen = Vec::new();
    for n in 1..=50 {
        for _ in 0..3 {
            match reader.next(1).now_or_never() {
                Some(Ok(Delivery::Records(records))) => seen.extend(records),
                Some(other) => panic!("unexpected {other:?}"),
                None => {}
            }
        }
        log.append(vec![event(Topic::OrderEvents, "k", n)]).await.unwrap();
    }
    let missing = 50 - seen.len();
    seen.extend(read(&mut *reader, missing).await);
    let expected: Vec<String> = (1..=50).map(|n| format!("k-{n}")).collect();
    assert_eq!(seen.iter().map(|record| id(record)).collect::<Vec<_>>(), expected);
}

async fn headers_and_bodies_survive(adapter: impl Adapter) {
    let log = adapter.log();
    let mut sent = event(Topic::InventoryEvents, "ord_1", 2);
    sent.key = "another key".to_owned();
    sent.headers = vec![("traceparent".into(), "00-a-b-01".into()), ("näme".into(), "wért \"x\"".into())];
    let mut tail = log.tail(&[Topic::InventoryEvents]).await.unwrap();
    log.append(vec![sent.clone()]).await.unwrap();
    let (key, headers, body) = envelope::headers_of(sent);
    let Tailed::Records(live) = within(tail.next()).await.unwrap() else { panic!("lost its place") };
    // The group's reader comes late and finds it stored.
    let stored = read(&mut *reader(&*log, "g", &[Topic::InventoryEvents]).await, 1).await;
    for record in [&live[0], &stored[0]] {
        assert_eq!((&record.key, &record.headers, &record.body), (&key, &headers, &body));
        assert_eq!(record.header(envelope::SUBJECT), Some("ord_1"));
    }
}

async fn a_newer_reader_of_the_group_takes_the_partitions(adapter: impl Adapter) {
    let log = adapter.log();
    let mut first = reader(&*log, "g", &[Topic::OrderEvents]).await;
    let mut second = reader(&*log, "g", &[Topic::OrderEvents]).await;
    log.append(vec![event(Topic::OrderEvents, "k", 1)]).await.unwrap();
    assert!(matches!(within(first.next(1)).await.unwrap(), Delivery::Revoked(partitions) if partitions.len() == 8));
    assert_eq!(id(&read(&mut *second, 1).await[0]), "k-1");
    assert!(first.next(1).now_or_never().is_none());
}

async fn a_seek_goes_back_and_forth(adapter: impl Adapter) {
    let log = adapter.log();
    log.append((1..=10).map(|n| event(Topic::OrderEvents, "k", n)).collect()).await.unwrap();
    let mut reader = reader(&*log, "g", &[Topic::OrderEvents]).await;
    let at = read(&mut *reader, 10).await[0].place();
    reader.seek(at, 2).await.unwrap();
    assert_eq!(id(&read(&mut *reader, 8).await[0]), "k-3");
    reader.seek(at, 9).await.unwrap();
    assert_eq!(id(&read(&mut *reader, 1).await[0]), "k-10");
}

async fn bounds_tell_what_a_partition_holds(adapter: impl Adapter) {
    let log = adapter.log();
    log.append((1..=10).map(|n| event(Topic::OrderEvents, "k", n)).collect()).await.unwrap();
    let mut reader = reader(&*log, "g", &[Topic::OrderEvents]).await;
    let at = read(&mut *reader, 10).await[0].place();
    for partition in 0..8 {
        let bounds = reader.bounds(TopicPartition { partition, ..at }).await.unwrap();
        assert_eq!((bounds.start, bounds.end), (0, if partition == at.partition { 10 } else { 0 }));
    }
}

async fn a_batch_is_no_larger_than_asked(adapter: impl Adapter) {
    let log = adapter.log();
    log.append((0..100).map(|n| event(Topic::OrderEvents, &format!("k{n}"), 1)).collect()).await.unwrap();
    let mut reader = reader(&*log, "g", &[Topic::OrderEvents]).await;
    let mut total = 0;
    while total < 100 {
        let Delivery::Records(records) = within(reader.next(7)).await.unwrap() else { panic!("no records") };
        assert!((1..=7).contains(&records.len()));
        total += records.len();
    }
    assert_eq!(total, 100);
}

async fn concurrent_appends_are_all_there(adapter: impl Adapter) {
    let log = adapter.log();
    let appends = (0..200).map(|n| {
        let log = log.clone();
        async move {
            log.append(vec![
                event(Topic::OrderEvents, &format!("k{n}"), 1),
                event(Topic::OrderEvents, &format!("k{n}"), 2),
            ])
            .await
        }
    });
    for appended in futures_util::future::join_all(appends).await {
        appended.unwrap();
    }
    let records = read(&mut *reader(&*log, "g", &[Topic::OrderEvents]).await, 400).await;
    let mut last = std::collections::HashMap::new();
    for record in &records {
        let sequence = if id(record).ends_with("-1") { 1 } else { 2 };
        assert_eq!(last.insert(record.key.clone(), sequence).unwrap_or(0) + 1, sequence);
    }
    assert_eq!(last.len(), 200);
}
