//! The shop's topics on the broker: their names, and that they are there as they are configured.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::types::RDKafkaErrorCode;
use tokio::runtime::Handle;

use super::super::{LogError, MAX_DEAD_LETTER_BYTES, MAX_EVENT_BYTES};
use super::BrokerSettings;
use super::clients::{ANSWER, Quiet, away, blocking, config, pause};
use crate::domain::events::Topic;

/// What a record takes beside its key, headers and body.
const FRAMING_BYTES: usize = 64 * 1024;
/// How long new topics may take to get their leaders.
const LEADERS: Duration = Duration::from_secs(10);
/// Between two looks at what is being made.
const AGAIN: Duration = Duration::from_millis(20);

/// The names under which the broker knows topics and groups.
pub(super) struct Names {
    prefix: String,
    topics: [String; Topic::ALL.len()],
}

impl Names {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), topics: Topic::ALL.map(|topic| format!("{prefix}{topic}")) }
    }

    pub(super) fn topic(&self, topic: Topic) -> &str {
        &self.topics[topic as usize]
    }

    /// The topic that the broker knows under this name.
    pub(super) fn topic_named(&self, name: &str) -> Option<Topic> {
        Topic::ALL.into_iter().find(|&topic| self.topic(topic) == name)
    }

    pub(super) fn group(&self, group: &str) -> String {
        format!("{}{group}", self.prefix)
    }
}

/// The most bytes that a topic takes for one record.
pub(super) fn max_record_bytes(topic: Topic) -> usize {
    FRAMING_BYTES + if topic == Topic::DeadLetterQueue { MAX_DEAD_LETTER_BYTES } else { MAX_EVENT_BYTES }
}

/// Whether the topics are there.
pub(super) struct Topics {
    settings: Arc<BrokerSettings>,
    names: Arc<Names>,
    there: AtomicBool,
    /// One looks, the others wait for what it finds: the last failure, and when it was.
    looking: tokio::sync::Mutex<Option<(Instant, LogError)>>,
}

impl Topics {
    pub(super) fn new(settings: Arc<BrokerSettings>, names: Arc<Names>) -> Self {
        Self { settings, names, there: AtomicBool::new(false), looking: tokio::sync::Mutex::default() }
    }

    /// Makes what is missing and refuses what differs. Costs nothing once all is as it should be.
    pub(super) async fn ensure(&self) -> Result<(), LogError> {
        if self.there.load(Ordering::Acquire) {
            return Ok(());
        }
        let asked = Instant::now();
        let mut failed = self.looking.lock().await;
        if self.there.load(Ordering::Acquire) {
            return Ok(());
        }
        if let Some((at, error)) = &*failed
            && *at >= asked
        {
            return Err(error.clone());
        }
        let (settings, names, runtime) = (self.settings.clone(), self.names.clone(), Handle::current());
        match blocking(move || make(&settings, &names, &runtime)).await {
            Ok(()) => {
                self.there.store(true, Ordering::Release);
                Ok(())
            }
            Err(error) => {
                *failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    /// Something failed that a missing topic may be the cause of: the next user looks before it goes on.
    pub(super) fn look_again(&self) {
        self.there.store(false, Ordering::Release);
    }
}

fn make(settings: &BrokerSettings, names: &Names, runtime: &Handle) -> Result<(), LogError> {
    let admin: AdminClient<Quiet> = config(settings).create_with_context(Quiet).map_err(away)?;
    let deadline = Instant::now() + LEADERS;
    let mut asked_to_make = false;
    loop {
        let waiting = match look(&admin, settings, names)? {
            State::Ready => return Ok(()),
            State::Missing(topics) if !asked_to_make => {
                asked_to_make = true;
                create(&admin, settings, names, &topics, runtime)?;
                continue;
            }
            State::Missing(topics) => format!("{} topics are not there yet", topics.len()),
            State::Leaderless(topic) => format!("topic {} has partitions without a leader", names.topic(topic)),
        };
        if Instant::now() >= deadline {
            return Err(LogError::Unavailable(waiting));
        }
        pause(AGAIN);
    }
}

/// What [`look`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum State {
    Ready,
    Missing(Vec<Topic>),
    Leaderless(Topic),
}

/// Looks at the topics and makes none. Another number of partitions is an error.
pub async fn inspect(settings: BrokerSettings) -> Result<State, LogError> {
    blocking(move || {
        let admin: AdminClient<Quiet> = config(&settings).create_with_context(Quiet).map_err(away)?;
        look(&admin, &settings, &Names::new(&settings.prefix))
    })
    .await
}

fn look(admin: &AdminClient<Quiet>, settings: &BrokerSettings, names: &Names) -> Result<State, LogError> {
    // All topics, because asking for one by name lets some brokers make it.
    let metadata = admin.inner().fetch_metadata(None, ANSWER).map_err(away)?;
    let mut missing = Vec::new();
    let mut leaderless = None;
    for topic in Topic::ALL {
        let known = metadata.topics().iter().find(|known| known.name() == names.topic(topic));
        let partitions = known.map(|known| known.partitions()).unwrap_or_default();
        if partitions.is_empty() {
            missing.push(topic);
            continue;
        }
        let (existing, configured) = (u32::try_from(partitions.len()).unwrap_or(u32::MAX), settings.partitions);
        if existing != configured {
            return Err(LogError::PartitionCount {
                log: format!("the topic {}", names.topic(topic)),
                existing,
                configured,
            });
        }
        if partitions.iter().any(|partition| partition.leader() < 0) {
            leaderless = Some(topic);
        }
    }
    Ok(match leaderless {
        _ if !missing.is_empty() => State::Missing(missing),
        Some(topic) => State::Leaderless(topic),
        None => State::Ready,
    })
}

fn create(
    admin: &AdminClient<Quiet>,
    settings: &BrokerSettings,
    names: &Names,
    topics: &[Topic],
    runtime: &Handle,
) -> Result<(), LogError> {
    let retention = settings.retention.as_millis().to_string();
    let limits: Vec<String> = topics.iter().map(|&topic| max_record_bytes(topic).to_string()).collect();
    let partitions = i32::try_from(settings.partitions).unwrap_or(i32::MAX);
    let wanted: Vec<NewTopic<'_>> = std::iter::zip(topics, &limits)
        .map(|(&topic, limit)| {
            // As many replicas as the cluster gives a topic by default.
            NewTopic::new(names.topic(topic), partitions, TopicReplication::Fixed(-1))
                .set("cleanup.policy", "delete")
                .set("retention.ms", &retention)
                .set("max.message.bytes", limit)
        })
        .collect();
    let options = AdminOptions::new().operation_timeout(Some(ANSWER)).request_timeout(Some(ANSWER));
    let made = runtime.block_on(admin.create_topics(&wanted, &options)).map_err(away)?;
    for result in made {
        match result {
            Ok(name) => tracing::info!(topic = name, partitions, "topic made"),
            // Another process was faster.
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((name, code)) => return Err(LogError::Unavailable(format!("topic {name} cannot be made: {code}"))),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_prefix_and_lead_back() {
        let names = Names::new("shop1.");
        assert_eq!(names.topic(Topic::OrderEvents), "shop1.order-events");
        assert_eq!(names.group("inventory"), "shop1.inventory");
        for topic in Topic::ALL {
            assert_eq!(names.topic_named(names.topic(topic)), Some(topic));
        }
        assert_eq!(names.topic_named("order-events"), None);
        assert_eq!(Names::new("").topic_named("order-events"), Some(Topic::OrderEvents));
    }
}
