//! Consumer groups, in virtual time over a log in memory.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use souk::domain::events::{PendingEvent, Topic};
use souk::kafka::consumer::ConsumerSettings;
use souk::kafka::{EventLog, TopicPartition};
use souk::store::operations::DeadLetter;

use crate::conformance::event;
use crate::fakes::{Domain, HEAVY, Next, Running, Verdict, settings};
use crate::memory_log::{Handle, MemoryLog};

async fn append(log: &Arc<MemoryLog>, events: impl IntoIterator<Item = PendingEvent>) {
    Handle(log.clone()).append(events.into_iter().collect()).await.unwrap();
}

fn order(key: &str, sequence: i64) -> PendingEvent {
    event(Topic::OrderEvents, key, sequence)
}

fn ids(key: &str, sequences: impl IntoIterator<Item = i64>) -> Vec<String> {
    sequences.into_iter().map(|sequence| format!("{key}-{sequence}")).collect()
}

fn letters(domain: &Domain) -> Vec<DeadLetter> {
    domain.tables().letters.iter().map(|event| serde_json::from_str(&event.body).unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn every_event_has_its_effect_once_in_the_order_of_its_key() {
    let (log, domain) = (MemoryLog::new(4), Domain::new(|_, _| Verdict::Fine));
    let running = Running::start(&domain.group(&log, settings()));
    for sequence in 1..=10 {
        append(&log, (0..20).map(|key| order(&format!("k{key}"), sequence))).await;
    }
    domain.until(|tables| tables.effects.len() == 200).await;
    for key in 0..20 {
        let key = format!("k{key}");
        assert_eq!(domain.effects_of(&key), ids(&key, 1..=10));
    }
    assert!(domain.tables().commits < 200, "no batches were made");
    let stats = running.stats.clone();
    running.stop().await;
    assert_eq!(stats.handled.total(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_failing_event_parks_only_its_key_and_the_key_comes_in_order() {
    let fails_twice = |event: &souk::kafka::consumer::ConsumedEvent, tries| {
        if event.id() == "bad-2" && tries <= 2 { Verdict::Fails } else { Verdict::Fine }
    };
    let (log, domain) = (MemoryLog::new(1), Domain::new(fails_twice));
    let running = Running::start(&domain.group(&log, settings()));
    append(&log, [order("bad", 1), order("bad", 2), order("good", 1), order("bad", 3), order("good", 2)]).await;
    domain.until(|tables| tables.effects.len() == 3).await;
    assert_eq!(domain.effects(), ["bad-1", "good-1", "good-2"]);
    assert_eq!(domain.tables().parked.len(), 2);
    append(&log, [order("bad", 4), order("good", 3)]).await;
    domain.until(|tables| tables.effects.len() == 7).await;
    assert_eq!(domain.effects_of("bad"), ids("bad", 1..=4));
    assert_eq!(domain.effects_of("good"), ids("good", 1..=3));
    assert!(domain.tables().parked.is_empty());
    assert!(letters(&domain).is_empty());
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn attempts_back_off_and_end_in_a_dead_letter_that_has_everything() {
    let fails = |event: &souk::kafka::consumer::ConsumedEvent, _| {
        if event.id() == "bad-1" { Verdict::Fails } else { Verdict::Fine }
    };
    let (log, domain) = (MemoryLog::new(1), Domain::new(fails));
    let running = Running::start(&domain.group(&log, settings()));
    let mut bad = order("bad", 1);
    bad.headers.push(("traceparent".to_owned(), "00-a-b-01".to_owned()));
    append(&log, [order("other", 1), bad, order("bad", 2)]).await;
    domain.until(|tables| !tables.letters.is_empty()).await;
    domain.until(|tables| tables.effects.len() == 2).await;
    assert_eq!(domain.effects(), ["other-1", "bad-2"], "the key moves again");

    let attempts: Vec<i64> =
        domain.tables().attempts.iter().filter(|(id, _)| id == "bad-1").map(|(_, at)| at.0).collect();
    assert_eq!(attempts.len(), 5);
    for (number, pause) in attempts.windows(2).map(|pair| pair[1] - pair[0]).enumerate() {
        let step = 1_000 << number;
        assert!((step / 2..=step + 10).contains(&pause), "pause {number} was {pause} ms");
    }
    let letter = letters(&domain).pop().unwrap();
    assert_eq!(letter.id, "g/order-events/0/1/0");
    assert_eq!((letter.source.as_str(), letter.attempts, letter.round), ("g", 5, 0));
    assert_eq!(letter.reason, "it fails");
    assert_eq!((letter.record.topic.as_str(), letter.record.partition, letter.record.offset), ("order-events", 0, 1));
    assert_eq!((letter.record.key.as_str(), letter.record.body.as_str()), ("bad", r#"{"n":1}"#));
    assert!(letter.record.headers.contains(&("traceparent".to_owned(), "00-a-b-01".to_owned())));
    let event = domain.tables().letters[0].clone();
    assert_eq!((event.topic, event.id().as_str()), (Topic::DeadLetterQueue, "g/order-events/0/1/0-1"));
    assert_eq!(event.source, "/souk/test");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn parked_events_survive_a_restart() {
    let fails = |event: &souk::kafka::consumer::ConsumedEvent, tries| {
        if event.id() == "bad-1" && tries <= 3 { Verdict::Fails } else { Verdict::Fine }
    };
    let (log, domain) = (MemoryLog::new(1), Domain::new(fails));
    let group = domain.group(&log, settings());
    append(&log, [order("bad", 1), order("bad", 2)]).await;
    for attempts in 1..=3 {
        let running = Running::start(&group);
        domain.until(|tables| tables.parked.values().any(|event| event.attempts == attempts)).await;
        running.kill().await;
    }
    let running = Running::start(&group);
    domain.until(|tables| tables.effects.len() == 2).await;
    assert_eq!(domain.effects(), ["bad-1", "bad-2"]);
    assert_eq!(domain.tables().attempts.iter().filter(|(id, _)| id == "bad-1").count(), 4);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_decoded_is_a_dead_letter_at_once() {
    let script = |event: &souk::kafka::consumer::ConsumedEvent, _| {
        if event.id() == "body-1" { Verdict::Undecodable } else { Verdict::Fine }
    };
    let (log, domain) = (MemoryLog::new(1), Domain::new(script));
    log.append_raw(Topic::OrderEvents, "k", vec![("ce_type".into(), "x".into())], "not an event");
    append(&log, [order("body", 1), order("k", 1), order("body", 2)]).await;
    let running = Running::start(&domain.group(&log, settings()));
    domain.until(|tables| tables.effects.len() == 2 && tables.letters.len() == 2).await;
    assert_eq!(domain.effects(), ["k-1", "body-2"]);
    let letters = letters(&domain);
    assert!(letters.iter().all(|letter| letter.attempts == 1));
    assert_eq!(letters[0].reason, "header ce_specversion is missing");
    assert_eq!(letters[0].record.body, "not an event");
    assert!(domain.tables().parked.is_empty());
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_replay_that_was_published_twice_and_fails_again_is_one_letter() {
    let undecodable = |event: &souk::kafka::consumer::ConsumedEvent, _| {
        if event.record.key == "k" { Verdict::Undecodable } else { Verdict::Fine }
    };
    let (log, domain) = (MemoryLog::new(1), Domain::new(undecodable));
    append(&log, [order("k", 1)]).await;
    let running = Running::start(&domain.group(&log, settings()));
    domain.until(|tables| tables.letters.len() == 1).await;
    let replay = letters(&domain)[0].replay_event(souk::domain::time::Timestamp(9)).unwrap();
    append(&log, [replay.clone(), replay, order("other", 1)]).await;
    domain.until(|tables| tables.effects.len() == 1).await;
    let rounds: Vec<u32> = letters(&domain).iter().map(|letter| letter.round).collect();
    assert_eq!(rounds, [0, 1]);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_was_put_back_holds_up_no_parked_event() {
    let (log, domain) = (
        MemoryLog::new(1),
        Domain::new(|event, tries| match (event.id(), tries) {
            ("k-1", 1) => Verdict::Fails,
            _ => Verdict::Fine,
        }),
    );
    append(&log, [order("k", 1), order("k", 2)]).await;
    let running = Running::start(&domain.group(&log, settings()));
    domain.until(|tables| tables.parked.len() == 2).await;
    running.stop().await;
    for parked in domain.tables().parked.values_mut() {
        parked.next_attempt_at = parked.next_attempt_at.plus_millis(365 * 24 * 60 * 60 * 1000);
    }
    let running = Running::start(&domain.group(&log, settings()));
    domain.until(|tables| tables.effects.len() == 2).await;
    assert_eq!(domain.effects(), ids("k", 1..=2));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_or_a_busy_actor_parks_nothing() {
    let (log, domain) = (MemoryLog::new(1), Domain::new(|_, _| Verdict::Fine));
    *domain.next.lock().unwrap() = [vec![Next::Busy; 20], vec![Next::Unavailable; 20]].concat();
    append(&log, (1..=5).map(|n| order("k", n))).await;
    let running = Running::start(&domain.group(&log, settings()));
    domain.until(|tables| tables.effects.len() == 5).await;
    assert_eq!(domain.effects(), ids("k", 1..=5));
    assert!(domain.tables().parked.is_empty());
    assert_eq!(running.stats.failed_attempts.total(), 0);
    assert_eq!(running.stats.waits.load(Ordering::Relaxed), 40);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_takes_too_long_is_done_in_parts() {
    let (log, domain) = (MemoryLog::new(1), Domain::new(|_, _| Verdict::Fine));
    // Twice the whole and twice its first half.
    *domain.next.lock().unwrap() = vec![Next::TimedOut; 4];
    append(&log, (1..=8).map(|n| order("k", n))).await;
    let running = Running::start(&domain.group(&log, settings()));
    domain.until(|tables| tables.effects.len() == 8).await;
    assert_eq!(domain.effects(), ids("k", 1..=8));
    assert!(domain.tables().parked.is_empty());
    assert_eq!(running.stats.failed_attempts.total(), 0);
    let stats = Arc::clone(&running.stats);
    running.stop().await;
    // Two quarters, and the other half.
    assert_eq!(stats.batches.load(Ordering::Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn events_of_many_effects_come_in_smaller_batches() {
    for (max_batch, batches) in [(8, 3), (3, 7)] {
        let (log, domain) = (MemoryLog::new(1), Domain::new(|_, _| Verdict::Fine));
        let of_type =
            |n| PendingEvent { event_type: if n <= 4 { HEAVY.into() } else { "light".into() }, ..order("k", n) };
        append(&log, (1..=8).map(of_type)).await;
        let running = Running::start(&domain.group(&log, ConsumerSettings { max_batch, ..settings() }));
        domain.until(|tables| tables.effects.len() == 8).await;
        assert_eq!(domain.effects(), ids("k", 1..=8));
        let stats = Arc::clone(&running.stats);
        running.stop().await;
        assert_eq!(stats.batches.load(Ordering::Relaxed), batches, "of at most {max_batch}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_event_that_takes_too_long_waits() {
    let (log, domain) = (MemoryLog::new(1), Domain::new(|_, _| Verdict::Fine));
    *domain.next.lock().unwrap() = vec![Next::TimedOut; 20];
    append(&log, [order("k", 1)]).await;
    let running = Running::start(&domain.group(&log, settings()));
    domain.until(|tables| tables.effects.len() == 1).await;
    assert_eq!(running.stats.waits.load(Ordering::Relaxed), 20);
    assert_eq!(running.stats.failed_attempts.total(), 0);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_waiting_group_stops_when_told() {
    let (log, domain) = (MemoryLog::new(1), Domain::new(|_, _| Verdict::Fine));
    *domain.next.lock().unwrap() = vec![Next::Unavailable; 1_000_000];
    append(&log, [order("k", 1)]).await;
    let running = Running::start(&domain.group(&log, settings()));
    while running.stats.waits.load(Ordering::Relaxed) < 3 {
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    running.stop().await;
    assert!(domain.effects().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_doubles_nothing() {
    for next in [Next::InterruptedBefore, Next::InterruptedAfter, Next::UnavailableAfter] {
        let (log, domain) = (MemoryLog::new(1), Domain::new(|_, _| Verdict::Fine));
        *domain.next.lock().unwrap() = vec![next.clone()];
        append(&log, (1..=5).map(|n| order("k", n))).await;
        let running = Running::start(&domain.group(&log, settings()));
        domain.until(|tables| tables.effects.len() >= 5).await;
        append(&log, [order("k", 6)]).await;
        domain.until(|tables| tables.effects.len() >= 6).await;
        assert_eq!(domain.effects(), ids("k", 1..=6), "{next:?}");
        let lost = running.stats.lost.load(Ordering::Relaxed);
        assert_eq!(lost, u64::from(next != Next::InterruptedBefore), "{next:?}");
        running.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_offset_is_read_anew() {
    let (log, domain) = (MemoryLog::new(1), Domain::new(|_, _| Verdict::Fine));
    let running = Running::start(&domain.group(&log, settings()));
    append(&log, [order("k", 1)]).await;
    domain.until(|tables| tables.effects.len() == 1).await;
    // Another owner has done the next two.
    domain.tables().offsets.insert((Topic::OrderEvents, 0), 3);
    append(&log, (2..=5).map(|n| order("k", n))).await;
    domain.until(|tables| tables.effects.len() == 3).await;
    assert_eq!(domain.effects(), ["k-1", "k-4", "k-5"]);
    assert_eq!(running.stats.lost.load(Ordering::Relaxed), 1);
    assert_eq!(running.stats.failed_attempts.total(), 0);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_one_event_that_ends_its_actor_is_found_and_the_others_go_on() {
    let script = |event: &souk::kafka::consumer::ConsumedEvent, _| {
        if event.id() == "k77-1" { Verdict::Panics } else { Verdict::Fine }
    };
    let (log, domain) = (MemoryLog::new(2), Domain::new(script));
    append(&log, (0..200).map(|n| order(&format!("k{n}"), 1))).await;
    append(&log, [order("k77", 2)]).await;
    let running = Running::start(&domain.group(&log, settings()));
    domain.until(|tables| tables.effects.len() == 199).await;
    assert_eq!(domain.tables().parked.len(), 2, "the event, and the next of its key behind it");
    let panics = running.stats.interrupted.load(Ordering::Relaxed);
    assert!(panics <= 4, "{panics} restarts to find it");
    domain.until(|tables| tables.effects.len() == 200).await;
    assert_eq!(domain.effects_of("k77"), ["k77-2"]);
    let letter = letters(&domain).pop().unwrap();
    assert_eq!((letter.attempts, letter.record.key.as_str(), letter.reason.as_str()), (5, "k77", "panicked"));
    assert!(running.stats.interrupted.load(Ordering::Relaxed) <= 8);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn events_of_no_concern_move_the_offset_without_waking_the_domain() {
    let (log, domain) = (MemoryLog::new(1), Domain::new(|_, _| Verdict::Fine));
    let running = Running::start(&domain.group(&log, settings()));
    let ignored = |n| PendingEvent { event_type: "souk.test.ignored.v1".into(), ..order("k", n) };
    append(&log, (1..=50).map(ignored)).await;
    domain.until(|tables| tables.offsets.get(&(Topic::OrderEvents, 0)) == Some(&50)).await;
    assert_eq!(domain.tables().commits, 1);
    append(&log, [ignored(51), order("k", 52), ignored(53)]).await;
    domain.until(|tables| tables.effects.len() == 1).await;
    assert_eq!(domain.tables().offsets[&(Topic::OrderEvents, 0)], 53);
    append(&log, [ignored(54)]).await;
    tokio::time::advance(Duration::from_millis(1)).await;
    tokio::task::yield_now().await;
    running.stop().await;
    assert_eq!(domain.tables().offsets[&(Topic::OrderEvents, 0)], 54);
}

#[tokio::test(start_paused = true)]
async fn an_offset_outside_the_log_goes_on_at_its_start() {
    let at = TopicPartition { topic: Topic::OrderEvents, partition: 0 };
    // Past the end: the log is another one.
    let (log, domain) = (MemoryLog::new(1), Domain::new(|_, _| Verdict::Fine));
    domain.tables().offsets.insert((at.topic, at.partition), 1_000);
    append(&log, (1..=3).map(|n| order("k", n))).await;
    let running = Running::start(&domain.group(&log, settings()));
    domain.until(|tables| tables.effects.len() == 3).await;
    assert_eq!(domain.tables().offsets[&(at.topic, at.partition)], 3);
    running.stop().await;

    // Before the start: retention was faster.
    let (log, domain) = (MemoryLog::new(1), Domain::new(|_, _| Verdict::Fine));
    domain.tables().offsets.insert((at.topic, at.partition), 1);
    append(&log, (1..=5).map(|n| order("k", n))).await;
    log.cut(at, 3);
    let running = Running::start(&domain.group(&log, settings()));
    domain.until(|tables| tables.effects.len() == 2).await;
    assert_eq!(domain.effects(), ["k-4", "k-5"]);
    assert_eq!(running.stats.missed.load(Ordering::Relaxed), 2);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_copy_follows_the_stored_offset() {
    let (log, domain) = (MemoryLog::new(1), Domain::new(|_, _| Verdict::Fine));
    append(&log, (1..=5).map(|n| order("k", n))).await;
    let running = Running::start(&domain.group(&log, settings()));
    domain.until(|tables| tables.effects.len() == 5).await;
    running.stop().await;
    let progress = Handle(log).progress().await.unwrap();
    assert_eq!((progress[0].1[0].committed, progress[0].1[0].lag()), (5, 0));
}

#[tokio::test(start_paused = true)]
async fn two_readers_of_a_group_do_every_event_once() {
    let (log, domain) = (MemoryLog::new(2), Domain::new(|_, _| Verdict::Fine));
    let group = domain.group(&log, settings());
    let first = Running::start(&group);
    append(&log, (1..=5).map(|n| order("k", n))).await;
    domain.until(|tables| tables.effects.len() == 5).await;
    let second = Running::start(&group);
    for n in 6..=50 {
        append(&log, [order("k", n)]).await;
        tokio::task::yield_now().await;
    }
    domain.until(|tables| tables.effects.len() >= 50).await;
    assert_eq!(domain.effects(), ids("k", 1..=50));
    first.stop().await;
    second.stop().await;
}

/// Drops the run loop at random awaits, over and over, with failures of every kind, and checks that every event has its
/// effect exactly once, in the order of its key, or is a dead letter.
#[tokio::test(start_paused = true)]
async fn dropping_the_loop_anywhere_loses_and_doubles_nothing() {
    for seed in 0..200 {
        let mut random = StdRng::seed_from_u64(seed);
        let chaos = std::sync::Mutex::new(StdRng::seed_from_u64(seed + 1_000_000));
        let script = move |event: &souk::kafka::consumer::ConsumedEvent, _| {
            let mut chaos = chaos.lock().unwrap();
            match chaos.random_range(0..100) {
                0..=4 => Verdict::Fails,
                5 => Verdict::Panics,
                _ if event.id() == "k3-4" => Verdict::Undecodable,
                _ if event.id() == "k5-2" => Verdict::Fails,
                _ => Verdict::Fine,
            }
        };
        let (log, domain) = (MemoryLog::new(3), Domain::new(script));
        let group = domain.group(&log, settings());
        let mut sent = 0;
        let done = |domain: &Domain| {
            let tables = domain.tables();
            tables.effects.len() + tables.letters.len() >= 100 && tables.parked.is_empty()
        };
        while sent < 10 || !done(&domain) {
            if sent < 10 {
                sent += 1;
                append(&log, (0..10).map(|key| order(&format!("k{key}"), sent))).await;
            }
            if random.random_bool(0.3) {
                let all = [Next::Busy, Next::Unavailable, Next::InterruptedBefore, Next::InterruptedAfter];
                let next = all[random.random_range(0..all.len())].clone();
                domain.next.lock().unwrap().push(next);
            }
            let (_stop, stopped) = tokio::sync::watch::channel(false);
            let mut run = Box::pin(group.run(stopped));
            for _ in 0..random.random_range(0..40) {
                let _ = futures_util::poll!(&mut run);
                tokio::task::yield_now().await;
                if random.random_bool(0.2) {
                    tokio::time::advance(Duration::from_millis(random.random_range(0..20_000))).await;
                }
            }
        }
        check(&domain, seed);
    }
}

fn check(domain: &Domain, seed: u64) {
    let mut seen: HashMap<String, Vec<i64>> = HashMap::new();
    for (key, id) in &domain.tables().effects {
        let (_, sequence) = id.rsplit_once('-').unwrap();
        seen.entry(key.clone()).or_default().push(sequence.parse().unwrap());
    }
    for sequences in seen.values() {
        assert!(sequences.is_sorted(), "seed {seed}: out of order: {sequences:?}");
    }
    let mut all: Vec<String> = domain.effects();
    all.extend(letters(domain).iter().map(|letter| {
        let header = letter.record.headers.iter().find(|(name, _)| name == "ce_id");
        header.unwrap().1.clone()
    }));
    let distinct: BTreeSet<&String> = all.iter().collect();
    let doubled: Vec<_> = distinct.iter().filter(|id| all.iter().filter(|other| other == *id).count() > 1).collect();
    assert!(doubled.is_empty(), "seed {seed}: {doubled:?} twice; effects {:?}", domain.effects());
    assert_eq!((all.len(), distinct.len()), (100, 100), "seed {seed}");
}
