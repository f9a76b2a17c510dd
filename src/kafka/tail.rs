//! Follows the log without a group and wakes whoever waits for a change.
//!
//! A wake only says that something may be new: subscriptions read the store.

use std::sync::Arc;

use tokio::sync::watch;

use super::backoff::Backoff;
use super::consumer::stopped;
use super::{EventLog, LogError, Record, Tailed};
use crate::domain::events::Topic;

/// What a tail wakes. Must answer at once.
pub trait LiveSink: Send + Sync {
    /// Something of this record's aggregate has changed.
    fn wake(&self, record: &Record);
    /// Records may have been missed: everyone has to look.
    fn wake_all(&self);
}

/// Follows `topics` until `stop` turns true. Wakes everyone whenever it begins (anew): what came before it is not seen.
pub async fn follow(
    log: Arc<dyn EventLog>,
    topics: &[Topic],
    sink: Arc<dyn LiveSink>,
    wait: Backoff,
    mut stop: watch::Receiver<bool>,
) {
    let mut failures = 0;
    while !*stop.borrow() {
        let error = tokio::select! {
            biased;
            () = stopped(&mut stop) => return,
            error = follow_until_failure(&*log, topics, &*sink, &mut failures) => error,
        };
        failures += 1;
        // Once an outage.
        if failures == 1 {
            tracing::warn!(error = %error, "live updates wait for the event log");
        }
        tokio::select! {
            biased;
            () = stopped(&mut stop) => return,
            () = tokio::time::sleep(wait.delay(failures)) => {}
        }
    }
}

async fn follow_until_failure(
    log: &dyn EventLog,
    topics: &[Topic],
    sink: &dyn LiveSink,
    failures: &mut u32,
) -> LogError {
    let mut tail = match log.tail(topics).await {
        Ok(tail) => tail,
        Err(error) => return error,
    };
    sink.wake_all();
    loop {
        match tail.next().await {
            Ok(Tailed::Records(records)) => {
                *failures = 0;
                records.iter().for_each(|record| sink.wake(record));
            }
            Ok(Tailed::LostPlace) => sink.wake_all(),
            Err(error) => return error,
        }
    }
}
