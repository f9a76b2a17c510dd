//! The task that follows the tail and wakes.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use souk::domain::events::Topic;
use souk::kafka::backoff::Backoff;
use souk::kafka::tail::{LiveSink, follow};
use souk::kafka::{EventLog, Record};
use tokio::sync::watch;

use crate::conformance::{event, within};
use crate::memory_log::{Handle, MemoryLog};

#[derive(Default)]
struct Sink {
    wakes: Mutex<Vec<String>>,
    count: watch::Sender<usize>,
}

impl Sink {
    fn note(&self, wake: String) {
        self.wakes.lock().unwrap().push(wake);
        self.count.send_modify(|count| *count += 1);
    }
}

impl LiveSink for Sink {
    fn wake(&self, record: &Record) {
        self.note(record.key.clone());
    }
    fn wake_all(&self) {
        self.note("all".to_owned());
    }
}

#[tokio::test(start_paused = true)]
async fn everyone_is_woken_at_the_beginning_and_then_by_record() {
    let (log, sink) = (Handle(MemoryLog::new(2)), Arc::new(Sink::default()));
    log.append(vec![event(Topic::OrderEvents, "before", 1)]).await.unwrap();
    let (stop, stopped) = watch::channel(false);
    let wait = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
    let following = tokio::spawn({
        let (log, sink): (Arc<dyn EventLog>, _) = (Arc::new(log.clone()), sink.clone());
        async move { follow(log, &[Topic::OrderEvents], sink, wait, stopped).await }
    });
    let mut count = sink.count.subscribe();
    within(count.wait_for(|count| *count == 1)).await.unwrap();
    log.append(vec![event(Topic::OrderEvents, "k", 1), event(Topic::UserEvents, "u", 1)]).await.unwrap();
    within(count.wait_for(|count| *count == 2)).await.unwrap();
    assert_eq!(*sink.wakes.lock().unwrap(), ["all", "k"]);
    stop.send(true).unwrap();
    following.await.unwrap();
}
