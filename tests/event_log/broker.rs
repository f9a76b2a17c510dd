//! What only a real broker can show: two processes' readers in one group, a restart, topics that differ, CloudEvents as
//! other clients see them. Each test has topics of its own prefix and removes them.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Headers;
use rdkafka::{Message, Offset, TopicPartitionList};
use souk::domain::events::{PendingEvent, Topic};
use souk::kafka::broker::{BrokerLog, BrokerSettings, Security};
use souk::kafka::{EventLog, LogError, Tailed, envelope};

use crate::conformance::{Adapter, event, id, read, reader, within};
use crate::fakes::{Domain, Running, Verdict, settings};

const PARTITIONS: u32 = 8;

/// A log of this test alone, on the server that is given.
pub struct Broker {
    log: Arc<BrokerLog>,
    settings: BrokerSettings,
}

impl Adapter for Broker {
    fn log(&self) -> Arc<dyn EventLog> {
        self.log.clone()
    }
}

impl Broker {
    pub async fn open() -> Self {
        let given = std::env::var("SOUK_TEST_KAFKA_BROKERS").expect("SOUK_TEST_KAFKA_BROKERS names no Kafka");
        let settings = settings_of(given.split(',').map(str::to_owned).collect());
        Self { log: Arc::new(BrokerLog::open(settings.clone()).await.unwrap()), settings }
    }

    /// Another process's view of the same topics.
    async fn beside(&self) -> Arc<BrokerLog> {
        Arc::new(BrokerLog::open(self.settings.clone()).await.unwrap())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let (log, settings) = (self.log.clone(), self.settings.clone());
        // A test runs on one thread, which must not wait for the broker inside its runtime.
        let removed = std::thread::spawn(move || {
            log.close();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(remove_topics(&settings));
        });
        removed.join().unwrap();
    }
}

fn settings_of(brokers: Vec<String>) -> BrokerSettings {
    BrokerSettings {
        brokers,
        prefix: format!("test-{}.", uuid::Uuid::now_v7().simple()),
        partitions: PARTITIONS,
        retention: Duration::from_secs(24 * 3_600),
        session_timeout: Duration::from_secs(6),
        security: Security::default(),
    }
}

fn client_config(settings: &BrokerSettings) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", settings.brokers.join(","));
    config
}

fn admin(settings: &BrokerSettings) -> AdminClient<DefaultClientContext> {
    client_config(settings).create().unwrap()
}

async fn remove_topics(settings: &BrokerSettings) {
    let names: Vec<String> = Topic::ALL.map(|topic| format!("{}{topic}", settings.prefix)).into();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    admin(settings).delete_topics(&names, &AdminOptions::new()).await.unwrap();
}

fn order(key: &str, sequence: i64) -> PendingEvent {
    event(Topic::OrderEvents, key, sequence)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs SOUK_TEST_KAFKA_BROKERS; scripts/test gives it"]
async fn readers_of_two_processes_share_the_partitions_and_do_every_event_once() {
    let broker = Broker::open().await;
    let (here, there) = (broker.log(), broker.beside().await);
    let domain = Domain::new(|_, _| Verdict::Fine);
    let groups = [here.clone(), there.clone()].map(|log| domain.group_on(log, settings()));
    let append = |sequence: i64| {
        let log = here.clone();
        async move { log.append((0..40).map(|key| order(&format!("k{key}"), sequence)).collect()).await.unwrap() }
    };
    let first = Running::start(&groups[0]);
    append(1).await;
    within(domain.until(|tables| tables.effects.len() == 40)).await;

    // A second one joins while there is work, and gets its part.
    let second = Running::start(&groups[1]);
    let mut sequence = 1;
    let shared = async {
        while second.stats.handled.total() == 0 {
            sequence += 1;
            append(sequence).await;
            domain.until(|tables| tables.effects.len() >= 40 * sequence as usize).await;
        }
    };
    within(shared).await;

    // The first one leaves, and the second has everything.
    first.stop().await;
    append(sequence + 1).await;
    let all = 40 * (sequence + 1) as usize;
    within(domain.until(|tables| tables.effects.len() >= all)).await;
    second.stop().await;
    assert_eq!(domain.effects().len(), all);
    for key in 0..40 {
        let key = format!("k{key}");
        let expected: Vec<String> = (1..=sequence + 1).map(|sequence| format!("{key}-{sequence}")).collect();
        assert_eq!(domain.effects_of(&key), expected);
    }
    there.close();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs SOUK_TEST_KAFKA_BROKERS; scripts/test gives it"]
async fn a_group_that_has_stopped_has_its_offsets_in_the_log_and_reads_on() {
    let broker = Broker::open().await;
    let (log, domain) = (broker.log(), Domain::new(|_, _| Verdict::Fine));
    log.append((1..=10).map(|n| order("k", n)).collect()).await.unwrap();
    let group = domain.group_on(log.clone(), settings());
    let running = Running::start(&group);
    within(domain.until(|tables| tables.effects.len() == 10)).await;
    running.stop().await;
    // What another client sees, whether or not the group has a reader.
    let stopped = async {
        loop {
            let progress = log.progress().await.unwrap();
            let (_, partitions) = progress.iter().find(|(group, _)| group == "g").unwrap();
            let (committed, lag) = partitions.iter().fold((0, 0), |(c, l), p| (c + p.committed, l + p.lag()));
            if (committed, lag) == (10, 0) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    within(stopped).await;
    let running = Running::start(&group);
    log.append(vec![order("k", 11)]).await.unwrap();
    within(domain.until(|tables| tables.effects.len() == 11)).await;
    running.stop().await;
    assert_eq!(domain.effects().len(), 11);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs SOUK_TEST_KAFKA_BROKERS; scripts/test gives it"]
async fn another_number_of_partitions_is_refused() {
    let broker = Broker::open().await;
    let settings = BrokerSettings { partitions: PARTITIONS + 1, ..broker.settings.clone() };
    let refused = BrokerLog::open(settings).await.err();
    assert!(
        matches!(refused, Some(LogError::PartitionCount { existing: PARTITIONS, configured, .. }) if configured == PARTITIONS + 1),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs SOUK_TEST_KAFKA_BROKERS; scripts/test gives it"]
async fn other_clients_see_cloud_events() {
    let broker = Broker::open().await;
    let mut sent = order("ord_1", 3);
    sent.headers.push((envelope::TRACEPARENT.into(), "00-a-b-01".into()));
    broker.log().append(vec![sent]).await.unwrap();
    let settings = broker.settings.clone();
    let seen = tokio::task::spawn_blocking(move || {
        let mut config = client_config(&settings);
        let reader: BaseConsumer = config.set("group.id", format!("{}other", settings.prefix)).create().unwrap();
        let topic = format!("{}order-events", settings.prefix);
        let mut list = TopicPartitionList::new();
        for partition in 0..PARTITIONS as i32 {
            list.add_partition_offset(&topic, partition, Offset::Beginning).unwrap();
        }
        reader.assign(&list).unwrap();
        let message = reader.poll(Duration::from_secs(20)).expect("nothing came").unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let headers: Vec<(String, String)> = message
            .headers()
            .unwrap()
            .iter()
            .map(|header| (header.key.to_owned(), text(header.value.unwrap())))
            .collect();
        (text(message.key().unwrap()), headers, text(message.payload().unwrap()))
    });
    let (key, headers, body) = seen.await.unwrap();
    let expected = [
        ("ce_type", "souk.test.happened.v1"),
        ("ce_id", "ord_1-3"),
        ("ce_source", "/souk/test"),
        ("ce_specversion", "1.0"),
        ("ce_time", "1970-01-01T00:00:01.000Z"),
        ("ce_subject", "ord_1"),
        ("content-type", "application/json"),
        ("traceparent", "00-a-b-01"),
    ];
    assert_eq!(headers, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert_eq!((key.as_str(), body.as_str()), ("ord_1", r#"{"n":3}"#));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs SOUK_TEST_KAFKA_BROKERS; scripts/test gives it"]
async fn a_reader_whose_next_record_is_gone_asks_where_to_go_on_and_a_tail_says_that_it_lost_its_place() {
    let broker = Broker::open().await;
    let log = broker.log();
    log.append((1..=10).map(|n| order("k", n)).collect()).await.unwrap();
    let mut group = reader(&*log, "g", &[Topic::OrderEvents]).await;
    let at = read(&mut *group, 10).await[0].place();
    let mut tail = log.tail(&[Topic::OrderEvents]).await.unwrap();

    // Retention at its harshest: the topic is made anew, and shorter.
    remove_topics(&broker.settings).await;
    let admin = admin(&broker.settings);
    let topic = format!("{}order-events", broker.settings.prefix);
    let again = async {
        let wanted = [NewTopic::new(&topic, PARTITIONS as i32, TopicReplication::Fixed(1))];
        while admin.create_topics(&wanted, &AdminOptions::new()).await.unwrap()[0].is_err() {}
    };
    within(again).await;
    let appended = async { while log.append(vec![order("k", 11)]).await.is_err() {} };
    within(appended).await;
    let told = async {
        loop {
            match tail.next().await {
                Ok(Tailed::LostPlace) | Err(_) => return,
                Ok(Tailed::Records(_)) => {}
            }
        }
    };
    within(told).await;
    let interrupted = async {
        loop {
            match group.next(100).await {
                Err(LogError::Unavailable(_)) => return,
                Err(error) => panic!("unexpected {error}"),
                Ok(_) => {}
            }
        }
    };
    within(interrupted).await;
    drop(group);
    // The broker is past the topic's removal only now: what it took before may have gone with the old one, or be there twice.
    log.append(vec![order("k", 11)]).await.unwrap();
    let mut group = reader(&*log, "other", &[Topic::OrderEvents]).await;
    let bounds = group.bounds(at).await.unwrap();
    assert!(bounds.start == 0 && (1..10).contains(&bounds.end), "{bounds:?}");
    assert_eq!(id(&read(&mut *group, 1).await[0]), "k-11");
}

/// Servers of this test alone, so that nobody else's are stopped.
struct Servers {
    state: tempfile::TempDir,
}

impl Servers {
    fn run(&self, verb: &str) -> String {
        let output = Command::new("scripts/servers")
            .args([verb, "kafka"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env("SOUK_SERVERS_DIR", self.state.path())
            .env_remove("SOUK_TEST_KAFKA_BROKERS")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.run("down");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "starts a Kafka of its own with scripts/servers; scripts/test runs it"]
async fn a_broker_that_is_killed_and_comes_back_has_kept_everything_and_is_read_on() {
    let servers = Servers { state: tempfile::tempdir().unwrap() };
    let up = servers.run("up");
    let address = up.trim().rsplit_once('=').unwrap().1.to_owned();
    let log = Arc::new(BrokerLog::open(settings_of(vec![address])).await.unwrap());
    let domain = Domain::new(|_, _| Verdict::Fine);
    let running = Running::start(&domain.group_on(log.clone(), settings()));
    // A server that has just been made may still look for its leaders.
    let tail = async {
        loop {
            match log.tail(&[Topic::OrderEvents]).await {
                Ok(tail) => return tail,
                Err(LogError::Unavailable(_)) => {}
                Err(error) => panic!("unexpected {error}"),
            }
        }
    };
    let mut tail = within(tail).await;
    log.append((1..=20).map(|n| order("k", n)).collect()).await.unwrap();
    within(domain.until(|tables| tables.effects.len() == 20)).await;

    servers.run("kill");
    let began = std::time::Instant::now();
    let refused = log.append(vec![order("k", 21)]).await;
    assert!(matches!(refused, Err(LogError::Unavailable(_))), "{refused:?}");
    assert!(log.check().await.is_err());
    assert!(began.elapsed() < Duration::from_secs(15), "refused only after {:?}", began.elapsed());

    servers.run("up");
    let appended = async { while log.append(vec![order("k", 22)]).await.is_err() {} };
    within(appended).await;
    within(domain.until(|tables| tables.effects.iter().any(|(_, id)| id == "k-22"))).await;
    let effects = domain.effects();
    let before: Vec<String> = (1..=20).map(|n| format!("k-{n}")).collect();
    assert_eq!(effects[..20], before[..]);
    let told = async {
        loop {
            match tail.next().await.unwrap() {
                Tailed::Records(records) if records.iter().any(|record| id(record) == "k-22") => return,
                _ => {}
            }
        }
    };
    within(told).await;
    running.stop().await;
    tokio::task::spawn_blocking(move || log.close()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_away_stops_no_start_and_is_refused_quickly() {
    // A port that nobody listens on: bound, and given back.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let began = std::time::Instant::now();
    let log = BrokerLog::open(settings_of(vec![free.to_string()])).await.unwrap();
    let all = [Topic::OrderEvents];
    let (appended, reader, tail) =
        tokio::join!(log.append(vec![order("k", 1)]), log.consumer("g", &all, Duration::ZERO), log.tail(&all));
    assert!(matches!(appended, Err(LogError::Unavailable(_))));
    assert!(matches!(reader.err(), Some(LogError::Unavailable(_))));
    assert!(matches!(tail.err(), Some(LogError::Unavailable(_))));
    assert!(log.check().await.is_err());
    assert!(began.elapsed() < Duration::from_secs(15), "took {:?}", began.elapsed());
}
