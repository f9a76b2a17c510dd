//! Dead letters: kept by their group, replayed to the one group that failed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use souk::actors::operations::{Replay, replay};
use souk::domain::dead_letters::NotReplayable;
use souk::domain::events::{PendingEvent, Topic, source};
use souk::domain::page::{Page, PageRequest};
use souk::domain::time::Timestamp;
use souk::kafka::consumer::{ConsumerGroup, ConsumerSettings};
use souk::kafka::dead_letters::{DeadLetterKeeper, GROUP};
use souk::kafka::{EventLog, envelope};
use souk::store::StoreError;
use souk::store::consumption::{Consumed, Consumption, ConsumptionStore, ParkedEvent, StoredOffset};
use souk::store::operations::{DeadLetter, DeadLetterEntry, OperationsStore, SettleDeadLetter};
use tokio::sync::watch;

use crate::conformance::{event, within};
use crate::fakes::{Domain, Running, Verdict, settings};
use crate::memory_log::{Handle, MemoryLog};

/// The operations store, as far as these tests go.
#[derive(Default)]
struct Operations {
    progress: Option<Arc<Domain>>,
    letters: Mutex<BTreeMap<String, DeadLetter>>,
    pending: Mutex<Vec<PendingEvent>>,
    kept: watch::Sender<usize>,
}

#[async_trait]
impl OperationsStore for Operations {
    async fn add_dead_letters(
        &self,
        letters: Vec<DeadLetter>,
        step: Consumption,
        _: Timestamp,
    ) -> Result<Consumed<()>, StoreError> {
        let committed = self.progress.as_ref().unwrap().commit(step, &[]);
        if committed == Consumed::Done(()) {
            let mut kept = self.letters.lock().unwrap();
            for letter in letters {
                kept.entry(letter.id.clone()).or_insert(letter);
            }
            self.kept.send_replace(kept.len());
        }
        Ok(committed)
    }

    async fn dead_letters(&self, ids: &[String]) -> Result<Vec<DeadLetter>, StoreError> {
        let kept = self.letters.lock().unwrap();
        Ok(ids.iter().filter_map(|id| kept.get(id).cloned()).collect())
    }

    async fn list_dead_letters(
        &self,
        _: Option<&str>,
        _: bool,
        _: &PageRequest,
    ) -> Result<Page<DeadLetter>, StoreError> {
        Err(StoreError::Broken("not part of these tests".to_owned()))
    }

    async fn latest_dead_letter(&self) -> Result<String, StoreError> {
        Err(StoreError::Broken("not part of these tests".to_owned()))
    }

    async fn dead_letters_after(&self, _: &str, _: u32) -> Result<Vec<DeadLetterEntry>, StoreError> {
        Err(StoreError::Broken("not part of these tests".to_owned()))
    }

    async fn replay_dead_letter(
        &self,
        id: &str,
        event: PendingEvent,
        _: &str,
        at: Timestamp,
    ) -> Result<SettleDeadLetter, StoreError> {
        let mut kept = self.letters.lock().unwrap();
        let letter = kept.get_mut(id).unwrap();
        if letter.replayed_at.is_some() {
            return Ok(SettleDeadLetter::AlreadySettled(Box::new(letter.clone())));
        }
        letter.replayed_at = Some(at);
        self.pending.lock().unwrap().push(event);
        Ok(SettleDeadLetter::Settled(Box::new(letter.clone())))
    }

    async fn discard_dead_letter(&self, _: &str, _: &str, _: Timestamp) -> Result<SettleDeadLetter, StoreError> {
        Ok(SettleDeadLetter::NotFound)
    }
}

#[async_trait]
impl ConsumptionStore for Operations {
    async fn offsets(&self, group: &str) -> Result<Vec<StoredOffset>, StoreError> {
        self.progress.as_ref().unwrap().offsets(group).await
    }
    async fn parked(&self, group: &str) -> Result<Vec<ParkedEvent>, StoreError> {
        self.progress.as_ref().unwrap().parked(group).await
    }
    async fn consume(&self, consumption: Consumption) -> Result<Consumed<()>, StoreError> {
        self.progress.as_ref().unwrap().consume(consumption).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_letter_is_kept_replayed_to_its_group_only_and_comes_back_as_the_next_round() {
    let log = MemoryLog::new(1);
    let port = Handle(log.clone());
    let failing = Domain::new(|event, _| if event.record.key == "bad" { Verdict::Fails } else { Verdict::Fine });
    let other = Domain::new(|_, _| Verdict::Fine);
    let other_group = Arc::new(ConsumerGroup::new(
        "h",
        &[Topic::OrderEvents],
        Arc::new(port.clone()),
        other.clone(),
        other.clone(),
        settings(),
    ));
    let running = Running::start(&failing.group(&log, settings()));
    let other_running = Running::start(&other_group);
    let mut bad = event(Topic::OrderEvents, "bad", 1);
    bad.headers.push(("traceparent".to_owned(), "00-a-b-01".to_owned()));
    port.append(vec![event(Topic::OrderEvents, "good", 1), bad]).await.unwrap();
    failing.until(|tables| tables.letters.len() == 1).await;
    other.until(|tables| tables.effects.len() == 2).await;

    // The relay carries the letter to the operations store.
    let operations =
        Arc::new(Operations { progress: Some(Domain::new(|_, _| Verdict::Fine)), ..Operations::default() });
    let keeper = Arc::new(DeadLetterKeeper::new(operations.clone()));
    let keeper_settings = ConsumerSettings { ..settings() };
    let log_port: Arc<dyn EventLog> = Arc::new(port.clone());
    let keepers = ConsumerGroup::new(
        GROUP,
        &DeadLetterKeeper::TOPICS,
        log_port,
        operations.clone(),
        keeper,
        ConsumerSettings { source: source::OPERATIONS, ..keeper_settings },
    );
    let keeping = Running::start(&Arc::new(keepers));
    let letter_event = failing.tables().letters[0].clone();
    port.append(vec![letter_event]).await.unwrap();
    let mut kept = operations.kept.subscribe();
    within(kept.wait_for(|count| *count == 1)).await.unwrap();

    let id = "g/order-events/0/1/0";
    let Replay::Settled(SettleDeadLetter::Settled(letter)) =
        replay(&*operations, id, "ada", Timestamp(5)).await.unwrap()
    else {
        panic!("not replayed")
    };
    assert_eq!(letter.replayed_at, Some(Timestamp(5)));
    let again = replay(&*operations, id, "ada", Timestamp(6)).await.unwrap();
    assert!(matches!(again, Replay::Settled(SettleDeadLetter::AlreadySettled(_))));
    let carried = operations.pending.lock().unwrap().pop().unwrap();
    assert_eq!((carried.topic, carried.key.as_str()), (Topic::OrderEvents, "bad"));
    assert_eq!(carried.id(), "replay/g/order-events/0/1/0-1");
    assert!(carried.headers.contains(&("traceparent".to_owned(), "00-a-b-01".to_owned())));

    port.append(vec![carried, event(Topic::OrderEvents, "good", 2)]).await.unwrap();
    failing.until(|tables| tables.letters.len() == 2).await;
    other.until(|tables| tables.effects.len() == 3).await;
    assert_eq!(other.effects(), ["good-1", "bad-1", "good-2"], "the other group does not see it");
    let second: DeadLetter = serde_json::from_str(&failing.tables().letters[1].body).unwrap();
    assert_eq!((second.id.as_str(), second.round), ("g/order-events/0/1/1", 1));
    assert_eq!((second.record.topic.as_str(), second.record.partition, second.record.offset), ("order-events", 0, 1));
    let third = second.replay_event(Timestamp(7)).unwrap();
    assert_eq!(third.id(), "replay/g/order-events/0/1/1-1");
    let mut own: Vec<&str> = third.headers.iter().map(|(name, _)| name.as_str()).collect();
    own.retain(|name| name.starts_with("souk-"));
    own.sort_unstable();
    assert_eq!(own, ["souk-event", "souk-origin", "souk-replay-group", "souk-round"], "each once");
    for running in [running, other_running, keeping] {
        running.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_letter_of_what_was_no_event_is_not_replayable() {
    let (log, domain) = (MemoryLog::new(1), Domain::new(|_, _| Verdict::Fine));
    log.append_raw(Topic::OrderEvents, "k", Vec::new(), "?");
    let running = Running::start(&domain.group(&log, settings()));
    domain.until(|tables| tables.letters.len() == 1).await;
    running.stop().await;
    let letter: DeadLetter = serde_json::from_str(&domain.tables().letters[0].body).unwrap();
    let refused = letter.replay_event(Timestamp(1));
    assert_eq!(refused, Err(NotReplayable::MissingHeader(envelope::TYPE)));
}
