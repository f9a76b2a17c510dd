//! Appending: one idempotent producer for the process. Appends that wait for one another travel together.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout_at};

use super::super::{LogError, envelope};
use super::BrokerSettings;
use super::clients::{ANSWER, away, blocking, config, lock, log_error, log_line};
use super::records::write_headers;
use super::topics::{Names, max_record_bytes};
use crate::domain::events::{PendingEvent, Topic, partition_of};

/// After this long the broker is away: whoever appends tries again later.
const DELIVERY: Duration = Duration::from_secs(5);
/// How long after that the producer may take to say so.
const GRACE: Duration = Duration::from_secs(2);
/// Between two looks whether a full queue has a place.
const FULL: Duration = Duration::from_millis(5);

type Client = ThreadedProducer<Deliveries>;

pub(super) struct Producer {
    config: ClientConfig,
    /// Another one after a fatal error.
    client: Mutex<Arc<Client>>,
}

impl Producer {
    pub(super) fn new(settings: &BrokerSettings) -> Result<Self, LogError> {
        let mut config = config(settings);
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("max.in.flight.requests.per.connection", "5")
            .set("message.timeout.ms", DELIVERY.as_millis().to_string())
            .set("message.max.bytes", max_record_bytes(Topic::DeadLetterQueue).to_string())
            // The relay brings its events in batches already; this joins those of several relays.
            .set("linger.ms", "1")
            .set("queue.buffering.max.kbytes", "262144");
        let client = Mutex::new(Arc::new(make(&config)?));
        Ok(Self { config, client })
    }

    /// Sends the events and waits until the broker has them durably.
    pub(super) async fn append(
        &self,
        events: Vec<PendingEvent>,
        names: &Names,
        partitions: u32,
    ) -> Result<(), LogError> {
        let client = lock(&self.client).clone();
        let appended = deliver(&client, events, names, partitions).await;
        // Whatever failed: one that has ended refuses what it is given, and brings no report.
        if appended.is_err() {
            self.replace_after_fatal(client);
        }
        appended
    }

    /// A producer whose sequence the broker does not follow any more sends nothing ever again.
    fn replace_after_fatal(&self, client: Arc<Client>) {
        let Some((code, reason)) = client.client().fatal_error() else { return };
        let mut current = lock(&self.client);
        if !Arc::ptr_eq(&current, &client) {
            return;
        }
        tracing::error!(error = %code, reason, "the producer has ended: going on with another one");
        match make(&self.config) {
            Ok(fresh) => *current = Arc::new(fresh),
            Err(error) => tracing::error!(%error, "no other producer can be made"),
        }
    }

    /// Whether the broker answers.
    pub(super) async fn check(&self) -> Result<(), LogError> {
        let client = lock(&self.client).clone();
        blocking(move || client.client().fetch_metadata(None, ANSWER).map(drop).map_err(away)).await
    }

    /// Waits for what was sent. Blocks.
    pub(super) fn flush(&self, limit: Duration) {
        let client = lock(&self.client).clone();
        if let Err(error) = client.flush(limit) {
            tracing::warn!(%error, "events were not acknowledged before the end; they are still in their stores");
        }
    }
}

fn make(config: &ClientConfig) -> Result<Client, LogError> {
    config.create_with_context(Deliveries).map_err(|error| LogError::Broken(error.to_string()))
}

async fn deliver(client: &Client, events: Vec<PendingEvent>, names: &Names, partitions: u32) -> Result<(), LogError> {
    let deadline = Instant::now() + DELIVERY + GRACE;
    let batch = Arc::new(Batch::of(events.len()));
    for event in events {
        send(client, event, names, partitions, &batch, deadline).await?;
    }
    if timeout_at(deadline, batch.done.notified()).await.is_err() {
        return Err(LogError::Unavailable("no answer in time".to_owned()));
    }
    let failure = lock(&batch.failure).take();
    failure.map_or(Ok(()), |error| Err(away(error)))
}

async fn send(
    client: &Client,
    event: PendingEvent,
    names: &Names,
    partitions: u32,
    batch: &Arc<Batch>,
    deadline: Instant,
) -> Result<(), LogError> {
    let topic = names.topic(event.topic);
    let (key, headers, body) = envelope::headers_of(event);
    let mut record = BaseRecord::with_opaque_to(topic, Arc::clone(batch))
        .partition(partition_of(&key, partitions) as i32)
        .key(&key)
        .payload(&body)
        .headers(write_headers(&headers));
    loop {
        match client.send(record) {
            Ok(()) => return Ok(()),
            // What is before it in the queue goes out, or gives up, in bounded time.
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), refused)) if Instant::now() < deadline => {
                record = refused;
                sleep(FULL).await;
            }
            Err((error, _)) => return Err(away(error)),
        }
    }
}

/// The events of one append that are under way.
struct Batch {
    left: AtomicUsize,
    failure: Mutex<Option<KafkaError>>,
    done: Notify,
}

impl Batch {
    fn of(events: usize) -> Self {
        Self { left: AtomicUsize::new(events), failure: Mutex::default(), done: Notify::new() }
    }
}

/// Hears what became of each event, on the producer's own thread.
struct Deliveries;

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Arc<Batch>;

    fn delivery(&self, result: &DeliveryResult<'_>, batch: Self::DeliveryOpaque) {
        if let Err((error, _)) = result {
            lock(&batch.failure).get_or_insert_with(|| error.clone());
        }
        if batch.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            batch.done.notify_one();
        }
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, subject: &str, line: &str) {
        log_line(level, subject, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        log_error(&error, reason);
    }
}
