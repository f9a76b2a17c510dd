//! The relay, in virtual time over a log in memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use souk::domain::events::{PendingEvent, Topic};
use souk::kafka::envelope;
use souk::kafka::precedence::Precedence;
use souk::kafka::relay::{Relay, RelaySettings};
use souk::store::outbox::Outbox;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::conformance;
use crate::fakes::{FakeOutbox, virtual_clock};
use crate::memory_log::{Handle, MemoryLog};

fn event(aggregate: &str, sequence: i64) -> PendingEvent {
    PendingEvent { at: virtual_clock(), ..conformance::event(Topic::OrderEvents, aggregate, sequence) }
}

struct Stage {
    log: Arc<MemoryLog>,
    outbox: Arc<FakeOutbox>,
    relay: Arc<Relay>,
}

impl Stage {
    fn new(capacity: usize) -> Self {
        Self::with(capacity, Duration::ZERO)
    }

    /// On a store that other processes write to as well.
    fn beside_others(capacity: usize) -> Self {
        Self::with(capacity, Duration::from_secs(1))
    }

    fn with(capacity: usize, left_age: Duration) -> Self {
        Self::of(capacity, RelaySettings { left_age, ..RelaySettings::default() })
    }

    fn of(capacity: usize, settings: RelaySettings) -> Self {
        let (log, outbox) = (MemoryLog::new(2), FakeOutbox::new(capacity));
        let settings = RelaySettings { clock: virtual_clock, max_batch: 7, ..settings };
        let relay = Relay::new(outbox.clone(), Arc::new(Handle(log.clone())), settings);
        Self { log, outbox, relay: Arc::new(relay) }
    }

    fn start(&self) -> (watch::Sender<bool>, tokio::task::JoinHandle<()>) {
        let (stop, stopped) = watch::channel(false);
        let relay = self.relay.clone();
        (stop, tokio::spawn(async move { relay.run(stopped).await }))
    }

    async fn drained(&self) {
        assert!(self.relay.drain(Instant::now() + Duration::from_secs(600)).await, "not drained in time");
        assert_eq!(self.outbox.pending_count(), 0);
    }

    /// Lets virtual time go on until it is so.
    async fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(600);
        while !is_so() {
            assert!(Instant::now() < deadline, "never: {what}");
            tokio::time::advance(Duration::from_millis(10)).await;
        }
    }

    fn published(&self) -> Vec<String> {
        let records = self.log.records(Topic::OrderEvents);
        records.iter().map(|record| record.header(envelope::ID).unwrap().to_owned()).collect()
    }

    /// The published sequences of each aggregate, and that each came after the one before it.
    fn sequences(&self, context: &str) -> HashMap<String, Vec<i64>> {
        let mut sequences: HashMap<String, Vec<i64>> = HashMap::new();
        for record in self.log.records(Topic::OrderEvents) {
            let (_, sequence) = record.header(envelope::ID).unwrap().rsplit_once('-').unwrap();
            let sequence: i64 = sequence.parse().unwrap();
            let seen = sequences.entry(record.key.clone()).or_default();
            let highest = seen.iter().max().copied().unwrap_or(0);
            assert!(sequence <= highest + 1, "{context}: {} published {sequence} after {seen:?}", record.key);
            seen.push(sequence);
        }
        sequences
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_committed_is_published_once_and_cleared() {
    let stage = Stage::new(100);
    let (stop, task) = stage.start();
    for n in 1..=20 {
        stage.outbox.commit(vec![event("a", n), event("b", n)]);
        tokio::task::yield_now().await;
    }
    stage.drained().await;
    let sequences = stage.sequences("");
    assert_eq!(sequences["a"], (1..=20).collect::<Vec<_>>());
    assert_eq!(sequences["b"], (1..=20).collect::<Vec<_>>());
    assert_eq!(stage.outbox.cleared.lock().unwrap().len(), 40);
    assert_eq!(stage.relay.in_flight(), 0);
    stop.send(true).unwrap();
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_start_publishes_what_was_left_pending() {
    let stage = Stage::new(100);
    stage.outbox.commit_silently((1..=30).map(|n| event("a", n)).collect());
    let (_stop, _task) = stage.start();
    stage.drained().await;
    assert_eq!(stage.sequences("")["a"], (1..=30).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_crash_between_append_and_clear_publishes_again() {
    let stage = Stage::new(100);
    stage.outbox.clear_fails.store(true, Ordering::SeqCst);
    stage.outbox.commit(vec![event("a", 1), event("a", 2)]);
    let (_stop, task) = stage.start();
    while stage.published().len() < 2 {
        tokio::task::yield_now().await;
    }
    task.abort();
    let _ = task.await;
    assert_eq!(stage.outbox.pending_count(), 2);
    stage.outbox.clear_fails.store(false, Ordering::SeqCst);
    let (_stop, _task) = stage.start();
    stage.drained().await;
    let published = stage.published();
    assert_eq!(published[published.len() - 2..], ["a-1", "a-2"]);
}

#[tokio::test(start_paused = true)]
async fn a_failed_clear_is_repeated_without_publishing_again() {
    let stage = Stage::new(100);
    let (_stop, _task) = stage.start();
    stage.drained().await;
    stage.outbox.clear_fails.store(true, Ordering::SeqCst);
    stage.outbox.commit(vec![event("a", 1), event("a", 2)]);
    while stage.relay.stats().failures.load(Ordering::Relaxed) < 3 {
        tokio::time::advance(Duration::from_millis(100)).await;
    }
    stage.outbox.clear_fails.store(false, Ordering::SeqCst);
    stage.drained().await;
    assert_eq!(stage.published(), ["a-1", "a-2"]);
}

#[tokio::test(start_paused = true)]
async fn a_first_event_is_cleared_with_the_second_or_when_it_has_waited_for_one() {
    let (soon, late) = (Duration::from_secs(1), Duration::from_secs(7));
    let settings = RelaySettings { clear_after: soon / 2, clear_first_after: late, ..RelaySettings::default() };
    let stage = Stage::of(100, settings);
    let (_stop, _task) = stage.start();
    stage.drained().await;
    let cleared = |n: i64, aggregate: &str| stage.outbox.cleared.lock().unwrap().contains(&(aggregate.into(), n));
    // The sweeps of a start clear what is out.
    let started = Instant::now();
    stage.until("the start is over", || started.elapsed() > RelaySettings::default().sweep_every * 3).await;
    let began = Instant::now();
    stage.outbox.commit(vec![event("a", 1), event("b", 1)]);
    stage.until("time to clear others", || began.elapsed() > soon).await;
    assert_eq!((stage.published().len(), stage.outbox.pending_count()), (2, 2));
    stage.outbox.commit(vec![event("a", 2)]);
    stage.until("both of a are cleared", || cleared(1, "a") && cleared(2, "a")).await;
    assert!(!cleared(1, "b"));
    stage.until("the one of b is cleared", || cleared(1, "b")).await;
    assert!(began.elapsed() >= late, "{:?}", began.elapsed());
    assert_eq!(stage.published().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_first_event_that_waits_to_be_cleared_is_not_published_again_and_a_drain_clears_it() {
    // Longer than a sweep waits: it finds what was not cleared.
    let settings = RelaySettings { clear_first_after: Duration::from_secs(60), ..RelaySettings::default() };
    let stage = Stage::of(100, settings);
    let (_stop, _task) = stage.start();
    stage.drained().await;
    stage.outbox.commit(vec![event("a", 1)]);
    let sweeps = stage.relay.stats().sweeps.load(Ordering::Relaxed);
    while stage.relay.stats().sweeps.load(Ordering::Relaxed) < sweeps + 8 {
        tokio::time::advance(Duration::from_millis(500)).await;
    }
    assert_eq!((stage.published(), stage.outbox.pending_count()), (vec!["a-1".into()], 0));
    stage.outbox.commit(vec![event("b", 1)]);
    stage.drained().await;
    assert_eq!(stage.published().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_relay_publishes_after_what_goes_before_it() {
    let precedence: Arc<Precedence> = Arc::default();
    let stage = Stage::of(100, RelaySettings { precedence: Some(Arc::clone(&precedence)), ..RelaySettings::default() });
    let (_stop, _task) = stage.start();
    stage.drained().await;
    precedence.note_verdict(Duration::from_secs(1));
    precedence.note_commit(1_000);
    let began = Instant::now();
    stage.outbox.commit(vec![event("a", 1)]);
    stage.until("it is published", || stage.published() == ["a-1"]).await;
    assert!(began.elapsed() >= Duration::from_millis(100), "as long as a rush waits for its next commit");
}

#[tokio::test(start_paused = true)]
async fn a_relay_with_a_pace_publishes_the_first_at_once_and_gathers_the_next() {
    let pace = Duration::from_millis(500);
    let stage = Stage::of(100, RelaySettings { pace, ..RelaySettings::default() });
    let (stop, task) = stage.start();
    stage.drained().await;
    let began = Instant::now();
    stage.outbox.commit(vec![event("a", 1)]);
    stage.until("the first is published", || stage.published() == ["a-1"]).await;
    assert!(began.elapsed() < pace / 2);
    for n in 2..=4 {
        stage.outbox.commit(vec![event("a", n)]);
        let next = Instant::now() + pace / 10;
        stage.until("a tenth has passed", || Instant::now() >= next).await;
        assert_eq!(stage.published(), ["a-1"]);
    }
    stage.until("the others are published", || stage.published().len() == 4).await;
    assert!(began.elapsed() >= pace && began.elapsed() < 2 * pace);
    assert_eq!(stage.published(), ["a-1", "a-2", "a-3", "a-4"]);
    // Who is to stop waits for no pace.
    stage.outbox.commit(vec![event("a", 5)]);
    let stopping = Instant::now();
    stop.send(true).unwrap();
    task.await.unwrap();
    assert!(stopping.elapsed() < pace / 2);
    assert_eq!(stage.published().len(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_gives_way_clears_what_is_due_and_takes_in_more_than_the_channel_holds() {
    let (late, step) = (Duration::from_secs(2), Duration::from_millis(50));
    let precedence: Arc<Precedence> = Arc::default();
    let settings = RelaySettings {
        clear_first_after: late,
        precedence: Some(Arc::clone(&precedence)),
        ..RelaySettings::default()
    };
    let stage = Stage::of(4, settings);
    let (_stop, _task) = stage.start();
    stage.drained().await;
    stage.outbox.commit(vec![event("a", 1)]);
    stage.until("the first is published", || stage.published() == ["a-1"]).await;
    let began = Instant::now();
    // In a rush, which may last 4 s.
    let is_cleared = || stage.outbox.cleared.lock().unwrap().contains(&("a".into(), 1));
    let (mut commits, mut cleared_after) = (0, None);
    while began.elapsed() < late + late / 2 {
        precedence.note_verdict(Duration::from_secs(1));
        precedence.note_commit(1_000);
        commits += 1;
        stage.outbox.commit(vec![event("b", commits)]);
        let next = Instant::now() + step;
        stage.until("a step has passed", || Instant::now() >= next).await;
        if is_cleared() {
            cleared_after.get_or_insert(began.elapsed());
        }
    }
    assert_eq!(stage.published(), ["a-1"], "the rush has gone before");
    let cleared_after = cleared_after.expect("what was out is cleared meanwhile");
    assert!(cleared_after >= late && cleared_after < late + 10 * step, "{cleared_after:?}");
    let swept = stage.relay.stats().swept.load(Ordering::Relaxed);
    stage.until("all is published", || stage.published().len() as i64 == 1 + commits).await;
    assert_eq!(stage.sequences("")["b"], (1..=commits).collect::<Vec<_>>());
    assert_eq!(stage.relay.stats().swept.load(Ordering::Relaxed), swept, "nothing was left to a sweep");
}

#[tokio::test(start_paused = true)]
async fn a_log_that_is_down_holds_everything_up_in_order() {
    let stage = Stage::new(4);
    stage.log.down.store(true, Ordering::SeqCst);
    let (_stop, _task) = stage.start();
    for n in 1..=50 {
        stage.outbox.commit(vec![event("a", n), event("b", n)]);
        tokio::time::advance(Duration::from_millis(50)).await;
    }
    assert!(!stage.relay.drain(Instant::now() + Duration::from_secs(5)).await);
    assert!(stage.published().is_empty());
    stage.log.down.store(false, Ordering::SeqCst);
    stage.drained().await;
    for aggregate in ["a", "b"] {
        assert_eq!(stage.sequences("")[aggregate], (1..=50).collect::<Vec<_>>());
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_that_another_process_wrote_goes_before_those_that_follow_it() {
    let stage = Stage::new(100);
    let (_stop, _task) = stage.start();
    stage.drained().await;
    stage.outbox.commit_silently(vec![event("a", 1)]);
    stage.outbox.commit(vec![event("a", 2), event("b", 1)]);
    stage.drained().await;
    assert_eq!(stage.sequences("")["a"], [1, 2]);

    stage.outbox.commit_silently(vec![event("c", 1)]);
    stage.outbox.foreign.send_modify(|count| *count += 1);
    while stage.outbox.pending_count() > 0 {
        tokio::task::yield_now().await;
    }
    assert!(stage.published().contains(&"c-1".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn what_another_process_has_in_hand_is_left_to_it() {
    let stage = Stage::beside_others(100);
    stage.outbox.commit_silently(vec![event("others", 1)]);
    let (_stop, _task) = stage.start();
    let drained = async || assert!(stage.relay.drain(Instant::now() + Duration::from_millis(300)).await);
    drained().await;
    assert!(stage.published().is_empty());
    // A gap in one aggregate concerns no other one.
    stage.outbox.commit_silently(vec![event("a", 1)]);
    stage.outbox.commit(vec![event("a", 2)]);
    drained().await;
    assert_eq!(stage.published(), ["a-1", "a-2"]);
    // The other process was killed.
    let since = Instant::now();
    while stage.outbox.pending_count() > 0 {
        tokio::time::advance(Duration::from_millis(500)).await;
        assert!(since.elapsed() < Duration::from_secs(25));
    }
    assert_eq!(stage.published(), ["a-1", "a-2", "others-1"]);
}

#[tokio::test(start_paused = true)]
async fn after_an_outage_each_process_publishes_its_own_once() {
    let stage = Stage::beside_others(4);
    let (_stop, _task) = stage.start();
    assert!(stage.relay.drain(Instant::now() + Duration::from_secs(1)).await);
    stage.log.down.store(true, Ordering::SeqCst);
    for n in 1..=300 {
        stage.outbox.commit(vec![event("a", n)]);
        stage.outbox.commit_silently(vec![event("others", n)]);
        tokio::time::advance(Duration::from_millis(50)).await;
    }
    stage.log.down.store(false, Ordering::SeqCst);
    while stage.published().len() < 300 {
        tokio::time::advance(Duration::from_millis(50)).await;
    }
    tokio::time::advance(Duration::from_secs(5)).await;
    assert_eq!(stage.published(), (1..=300).map(|n| format!("a-{n}")).collect::<Vec<_>>());
    // The others do not come back.
    while stage.outbox.pending_count() > 0 {
        tokio::time::advance(Duration::from_millis(500)).await;
    }
    assert_eq!(stage.sequences("")["others"], (1..=300).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn what_another_process_published_during_an_outage_is_not_published_again() {
    let stage = Stage::beside_others(100);
    let (_stop, _task) = stage.start();
    assert!(stage.relay.drain(Instant::now() + Duration::from_secs(1)).await);
    stage.log.down.store(true, Ordering::SeqCst);
    for n in 1..=4 {
        stage.outbox.commit(vec![event("a", n)]);
        stage.outbox.commit(vec![event("b", n)]);
    }
    while stage.relay.stats().failures.load(Ordering::Relaxed) == 0 {
        tokio::time::advance(Duration::from_millis(50)).await;
    }
    // To the other one the log was there before.
    stage.outbox.clear(vec![("a".into(), 1), ("a".into(), 2), ("b".into(), 1)]).await.unwrap();
    stage.log.down.store(false, Ordering::SeqCst);
    stage.drained().await;
    let mut published = stage.published();
    published.sort_unstable();
    assert_eq!(published, ["a-3", "a-4", "b-2", "b-3", "b-4"]);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_announced_is_found_when_it_is_old() {
    let stage = Stage::new(100);
    let (_stop, _task) = stage.start();
    stage.drained().await;
    stage.outbox.commit_silently(vec![event("a", 1)]);
    let since = Instant::now();
    while stage.outbox.pending_count() > 0 {
        tokio::time::advance(Duration::from_millis(500)).await;
        assert!(since.elapsed() < Duration::from_secs(25));
    }
    assert_eq!(stage.published(), ["a-1"]);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_announced_is_found_though_commits_come_all_the_time() {
    let stage = Stage::of(100, RelaySettings { pace: Duration::from_millis(20), ..RelaySettings::default() });
    let (_stop, _task) = stage.start();
    stage.drained().await;
    stage.outbox.commit_silently(vec![event("left", 1)]);
    let since = Instant::now();
    for n in 1.. {
        stage.outbox.commit(vec![event("busy", n)]);
        tokio::time::advance(Duration::from_millis(5)).await;
        if stage.published().contains(&"left-1".to_owned()) {
            break;
        }
        assert!(since.elapsed() < Duration::from_secs(25), "it is never found");
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_that_the_log_refuses_holds_nothing_up() {
    let stage = Stage::new(100);
    let (_stop, _task) = stage.start();
    let mut large = event("a", 2);
    large.body = "x".repeat(souk::kafka::MAX_EVENT_BYTES + 1);
    stage.outbox.commit(vec![event("a", 1), large, event("a", 3)]);
    assert!(stage.relay.drain(Instant::now() + Duration::from_secs(600)).await);
    assert_eq!(stage.published(), ["a-1", "a-3"]);
    assert_eq!(stage.outbox.pending_count(), 1, "it stays in the store");
    assert_eq!(stage.relay.stats().refused.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_the_log_refuses_lets_none_overtake_another_while_the_log_is_down() {
    for stage in [Stage::new(100), Stage::beside_others(100)] {
        let (_stop, _task) = stage.start();
        assert!(stage.relay.drain(Instant::now() + Duration::from_secs(1)).await);
        stage.log.down.store(true, Ordering::SeqCst);
        let mut large = event("a", 2);
        large.body = "x".repeat(souk::kafka::MAX_EVENT_BYTES + 1);
        stage.outbox.commit(vec![event("a", 1), large, event("a", 3)]);
        while stage.relay.stats().failures.load(Ordering::Relaxed) == 0 {
            tokio::time::advance(Duration::from_millis(50)).await;
        }
        stage.log.down.store(false, Ordering::SeqCst);
        assert!(stage.relay.drain(Instant::now() + Duration::from_secs(600)).await);
        assert_eq!(stage.published(), ["a-1", "a-3"]);
        stage.outbox.commit(vec![event("a", 4)]);
        assert!(stage.relay.drain(Instant::now() + Duration::from_secs(600)).await);
        assert_eq!(stage.published(), ["a-1", "a-3", "a-4"]);
    }
}

#[tokio::test(start_paused = true)]
async fn stopping_publishes_what_is_queued() {
    let stage = Stage::new(100);
    let (stop, task) = stage.start();
    stage.drained().await;
    stage.outbox.commit((1..=20).map(|n| event("a", n)).collect());
    stop.send(true).unwrap();
    task.await.unwrap();
    assert_eq!(stage.published().len(), 20);
    assert_eq!(stage.outbox.pending_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_hangs_on_a_blocked_thread_does_not_hold_up_the_next() {
    let stage = Stage::new(100);
    let (_stop, stopped) = watch::channel(false);
    let mut hanging = Box::pin(stage.relay.run(stopped));
    // It waits for commits; from here on nobody polls it.
    assert!(tokio::time::timeout(Duration::from_millis(1), &mut hanging).await.is_err());
    let (_stop, _task) = stage.start();
    tokio::task::yield_now().await;
    stage.outbox.commit(vec![event("a", 1)]);
    stage.drained().await;
    assert_eq!(stage.sequences("")["a"], [1]);
    drop(hanging);
}

/// Random commits, lost announcements, failures of log and store, unknown outcomes, crashes: everything is published,
/// nothing of an aggregate before what precedes it.
#[tokio::test(start_paused = true)]
async fn the_order_of_an_aggregate_survives_anything() {
    for seed in 0..200 {
        let mut random = StdRng::seed_from_u64(seed);
        let precedence: Arc<Precedence> = Arc::default();
        // Every other relay gives way to rushes, and takes few commits at once.
        let gives_way = RelaySettings {
            max_commits: 2,
            clear_first_after: Duration::from_secs(7),
            precedence: Some(Arc::clone(&precedence)),
            ..RelaySettings::default()
        };
        let stage = if seed % 2 == 0 { Stage::new(3) } else { Stage::of(3, gives_way) };
        let mut last: HashMap<String, i64> = HashMap::new();
        for _ in 0..6 {
            let (_stop, stopped) = watch::channel(false);
            let mut run = Box::pin(stage.relay.run(stopped));
            for _ in 0..random.random_range(0..60) {
                let aggregate = format!("a{}", random.random_range(0..5));
                match random.random_range(0..12) {
                    0..=5 => {
                        let sequence = last.entry(aggregate.clone()).or_default();
                        *sequence += 1;
                        let event = event(&aggregate, *sequence);
                        if random.random_bool(0.8) {
                            stage.outbox.commit(vec![event]);
                        } else {
                            stage.outbox.commit_silently(vec![event]);
                        }
                    }
                    6 => stage.log.down.store(random.random_bool(0.5), Ordering::SeqCst),
                    7 => stage.log.unknown_outcomes.store(1, Ordering::SeqCst),
                    8 => stage.outbox.clear_fails.store(random.random_bool(0.5), Ordering::SeqCst),
                    9 => stage.outbox.foreign.send_modify(|count| *count += 1),
                    10 => tokio::time::advance(Duration::from_millis(random.random_range(0..12_000))).await,
                    _ => {
                        precedence.note_verdict(Duration::from_secs(1));
                        precedence.note_commit(1_000);
                    }
                }
                let _ = futures_util::poll!(&mut run);
                tokio::task::yield_now().await;
            }
        }
        stage.log.down.store(false, Ordering::SeqCst);
        stage.log.unknown_outcomes.store(0, Ordering::SeqCst);
        stage.outbox.clear_fails.store(false, Ordering::SeqCst);
        let (_stop, task) = stage.start();
        stage.drained().await;
        task.abort();
        let _ = task.await;
        let sequences = stage.sequences(&format!("seed {seed}"));
        for (aggregate, last) in last {
            let mut seen = sequences[&aggregate].clone();
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen, (1..=last).collect::<Vec<_>>(), "seed {seed}, {aggregate}");
        }
    }
}
