//! No password, token or address of a user is seen where the shop tells about itself.
//!
//! Texts that are nowhere else ([`markers`]) are led through what users and staff do ([`walk`]), also where it fails. Then they are
//! searched for in the log at its debug level, metrics, traces, errors of answers, headers of answers, reasons and headers of
//! dead letters, what panics said, the event log, the files of the embedded shop (addresses belong there, secrets do not), and
//! all that goes to and from Redis. Not searched: mails, MongoDB, and what owners and staff are answered. Each place has a
//! control: a text that must be in it.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use souk::config::Config;
use souk::domain::events::{PendingEvent, Topic};
use souk::kafka::EventLog;
use souk::kafka::broker::{BrokerLog, BrokerSettings, Security};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::scene::{emit, nonsense};
use crate::support::{eventually, kafka, servers};
use crate::traces::{Spans, collector};

mod bad_input;
mod markers;
mod walk;

use markers::Markers;
use walk::Walk;

/// Where the shop tells about itself, and what it has told there.
struct Place {
    name: &'static str,
    text: String,
    /// Is in the text, or nothing was looked at.
    control: String,
}

fn place(name: &'static str, control: impl Into<String>, text: impl Into<String>) -> Place {
    Place { name, text: text.into(), control: control.into() }
}

fn search(markers: &Markers, places: &[Place]) -> Vec<String> {
    let mut hits = Vec::new();
    for Place { name, text, control } in places {
        assert!(text.contains(control), "{name} is not what it should be: no {control} in {} bytes", text.len());
        hits.extend(markers.hits(text).into_iter().map(|hit| format!("{name}: {hit}")));
    }
    hits
}

#[test]
fn what_is_planted_in_a_place_is_found_there_and_an_empty_place_is_noticed() {
    let mut markers = Markers::default();
    markers.add_secret("a password", "Canary-1");
    let log = place("log", "ready", r#"{"message":"souk is ready"}{"message":"signed in","password":"Canary-1"}"#);
    let hits = search(&markers, &[log]);
    assert!(hits.len() == 1 && hits[0].starts_with("log: a password, as it is"), "{hits:?}");
    let clean = place("metrics", "souk_up", "souk_up 1");
    assert_eq!(search(&markers, &[clean]), Vec::<String>::new());
    let empty = std::panic::catch_unwind(move || search(&markers, &[place("traces", "request", "")]));
    assert!(empty.is_err());
}

/// What a walk left behind, wherever its shop ran.
async fn places_of(walk: &mut Walk, spans: &Spans) -> Vec<Place> {
    let (letters, panics) = (walk.dead_letters().await, walk.panics().await);
    let metrics = walk.metrics().await;
    let traced = eventually("the last mutation is traced", async || {
        let text = format!("{:?}", spans.lock().unwrap());
        text.contains("mutation accountDelete").then_some(text)
    })
    .await;
    vec![
        place("errors of answers", "INVALID_CREDENTIALS", walk.errors()),
        place("headers of answers", "x-request-id", walk.headers()),
        place("dead letters", "the server answered 550", letters),
        place("panics", "injected fault", panics),
        place("metrics", "souk_", metrics),
        place("traces", "consume", traced),
        place("what commands print", "created usr_", walk.printed()),
    ]
}

#[actix_rt::test]
async fn no_secret_and_no_address_is_seen_where_an_embedded_shop_tells_about_itself() {
    let spans = Spans::default();
    let endpoint = collector(&spans);
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut walk = Walk::begin(&data, &endpoint, &[]).await;
    let event = nonsense(walk.body_of_nonsense());
    let planted = event.key.clone();
    emit(&data, event).await;
    walk.go().await;
    let mut places = places_of(&mut walk, &spans).await;
    let (log, markers) = walk.stop();
    places.push(place("log", "\"level\":\"DEBUG\"", log));
    places.push(place("event log", "souk.user.signed-up.v1", embedded_events(&data, &planted)));
    let mut hits = search(&markers, &places);
    for file in std::fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
        let text = String::from_utf8_lossy(&std::fs::read(&file).unwrap()).into_owned();
        hits.extend(markers.secret_hits(&text).into_iter().map(|hit| format!("{}: {hit}", file.display())));
    }
    assert_eq!(hits, Vec::<String>::new(), "of {} markers", markers.len());
}

/// Every record of the embedded log, but for the body of the one that was planted, by its key.
fn embedded_events(data: &Path, planted: &str) -> String {
    let log = Connection::open_with_flags(data.join("events.db"), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let mut records =
        log.prepare("SELECT key, type, coalesce(subject, ''), coalesce(headers, ''), body FROM records").unwrap();
    let mut rows = records.query([]).unwrap();
    let mut text = String::new();
    while let Some(row) = rows.next().unwrap() {
        let columns: [String; 5] = std::array::from_fn(|column| row.get(column).unwrap());
        text += &without_planted_body(columns, planted);
    }
    text
}

/// A dead letter holds its event's body, as it came.
fn without_planted_body([key, kind, subject, headers, body]: [String; 5], planted: &str) -> String {
    let is_planted = key == planted || body.contains(planted);
    let body = if is_planted { "" } else { &body };
    format!("{key} {kind} {subject} {headers} {body}\n")
}

#[actix_rt::test]
#[ignore = "needs SOUK_TEST_MONGODB_URI, SOUK_TEST_KAFKA_BROKERS and SOUK_TEST_REDIS_URI; scripts/test gives them"]
async fn no_secret_and_no_address_is_seen_where_a_shop_on_real_servers_tells_about_itself() {
    let spans = Spans::default();
    let endpoint = collector(&spans);
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut config = Config::for_testing(dir.path());
    servers::put_on(&mut config, dir.path());
    let settings = servers::settings_of(&config);
    let settings: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let heard = hear_redis(config.cache.uri.expose()).await;
    let mut walk = Walk::begin(&data, &endpoint, &settings).await;
    let event = nonsense(walk.body_of_nonsense());
    let planted = event.key.clone();
    append(&config, event).await;
    walk.go().await;
    let mut places = places_of(&mut walk, &spans).await;
    let product = walk.product.clone();
    let (log, markers) = walk.stop();
    places.push(place("log", "\"level\":\"DEBUG\"", log));
    let mut events = String::new();
    for record in Topic::ALL.into_iter().flat_map(|topic| kafka::records(&config, topic)) {
        let columns = [record.key, record.kind, String::new(), format!("{:?}", record.headers), record.body];
        events += &without_planted_body(columns, &planted);
    }
    places.push(place("Kafka", "souk.user.signed-up.v1", events));
    places.push(place("Redis", product, heard.lock().unwrap().clone()));
    assert_eq!(search(&markers, &places), Vec::<String>::new(), "of {} markers", markers.len());
    servers::remove_names(&config);
}

async fn append(config: &Config, event: PendingEvent) {
    let settings = BrokerSettings {
        brokers: config.events.brokers.clone(),
        prefix: config.events.prefix.clone(),
        partitions: config.events.partitions,
        retention: Duration::from_secs(3_600),
        session_timeout: Duration::from_secs(6),
        security: Security::default(),
    };
    let log = BrokerLog::open(settings).await.unwrap();
    log.append(vec![event]).await.unwrap();
    log.close();
}

/// Every command that Redis gets from now on, keys and values included: entries live for less than a second.
async fn hear_redis(uri: &str) -> Arc<Mutex<String>> {
    let address = uri.strip_prefix("redis://").unwrap().split('/').next().unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"MONITOR\r\n").await.unwrap();
    let mut lines = BufReader::new(stream).lines();
    assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("+OK"));
    let heard = Arc::new(Mutex::new(String::new()));
    let keeps = Arc::clone(&heard);
    actix_rt::spawn(async move {
        while let Ok(Some(line)) = lines.next_line().await {
            *keeps.lock().unwrap() += &(line + "\n");
        }
    });
    heard
}
