//! What lies on Kafka, read beside the shop.

use std::collections::HashMap;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Headers;
use rdkafka::{Message, Offset, TopicPartitionList};
use souk::config::Config;
use souk::domain::events::Topic;

const PATIENCE: Duration = Duration::from_secs(30);

/// An event as it lies there.
pub struct LogRecord {
    pub partition: i32,
    pub offset: i64,
    pub key: String,
    /// `ce_id`: the same when an event was published twice.
    pub id: String,
    /// `ce_type`.
    pub kind: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

fn consumer(config: &Config, group: &str) -> BaseConsumer {
    let mut settings = rdkafka::ClientConfig::new();
    settings
        .set("bootstrap.servers", config.events.brokers.join(","))
        .set("group.id", format!("{}{group}", config.events.prefix))
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "earliest");
    settings.create().unwrap()
}

fn partitions(config: &Config, topic: Topic, offset: Offset) -> TopicPartitionList {
    let topic = format!("{}{}", config.events.prefix, topic.name());
    let mut list = TopicPartitionList::new();
    for partition in 0..config.events.partitions {
        list.add_partition_offset(&topic, partition as i32, offset).unwrap();
    }
    list
}

/// Everything in a topic.
pub fn records(config: &Config, topic: Topic) -> Vec<LogRecord> {
    let consumer = consumer(config, "books");
    consumer.assign(&partitions(config, topic, Offset::Beginning)).unwrap();
    let mut records = Vec::new();
    let mut ended = 0;
    while ended < config.events.partitions {
        match consumer.poll(PATIENCE).expect("the log answers") {
            Err(rdkafka::error::KafkaError::PartitionEOF(_)) => ended += 1,
            Err(error) => panic!("{error}"),
            Ok(record) => {
                let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap().to_vec()).unwrap();
                let headers: Vec<(String, String)> = record
                    .headers()
                    .unwrap()
                    .iter()
                    .map(|header| (header.key.to_owned(), text(header.value)))
                    .collect();
                let header = |name: &str| headers.iter().find(|(known, _)| known == name).unwrap().1.clone();
                records.push(LogRecord {
                    partition: record.partition(),
                    offset: record.offset(),
                    key: text(record.key()),
                    id: header("ce_id"),
                    kind: header("ce_type"),
                    body: text(record.payload()),
                    headers,
                });
            }
        }
    }
    records
}

/// The offsets that a group has committed, by partition; those where it has not yet are missing.
pub fn committed(config: &Config, group: &str, topic: Topic) -> HashMap<i32, i64> {
    let asked = partitions(config, topic, Offset::Invalid);
    let found = consumer(config, group).committed_offsets(asked, PATIENCE).expect("the log answers");
    let offset = |offset: Offset| if let Offset::Offset(offset) = offset { Some(offset) } else { None };
    found.elements().iter().filter_map(|element| Some((element.partition(), offset(element.offset())?))).collect()
}
