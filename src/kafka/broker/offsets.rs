//! Questions about offsets: what partitions hold, and how far groups have come. All of them block.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use super::super::{Bounds, LogError, Progress, TopicPartition};
use super::BrokerSettings;
use super::clients::{ANSWER, Quiet, away, config, pause};
use super::consumer::Seat;
use super::topics::Names;

/// Between two attempts at a question that a partition's leader could not answer yet.
const AGAIN: Duration = Duration::from_millis(20);

/// What every client that reads is set to: offsets are the domain's business, and what is fetched ahead is bounded.
pub(super) fn set_reading(config: &mut ClientConfig) {
    config
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("allow.auto.create.topics", "false")
        .set("queued.min.messages", "5000")
        .set("queued.max.messages.kbytes", "16384")
        .set("fetch.queue.backoff.ms", "10");
}

pub(super) fn add(list: &mut TopicPartitionList, names: &Names, at: TopicPartition, offset: Offset) {
    list.add_partition_offset(names.topic(at.topic), at.partition, offset)
        .expect("every offset that is asked for has a raw form");
}

/// The partitions of a list.
pub(super) fn places(list: &TopicPartitionList, names: &Names) -> Vec<TopicPartition> {
    let place = |topic: &str, partition| Some(TopicPartition { topic: names.topic_named(topic)?, partition });
    list.elements().iter().filter_map(|element| place(element.topic(), element.partition())).collect()
}

/// The offset at one end of each partition, by one question to each server.
pub(super) fn at_end<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    names: &Names,
    places: &[TopicPartition],
    end: Offset,
) -> Result<HashMap<TopicPartition, i64>, LogError> {
    if places.is_empty() {
        return Ok(HashMap::new());
    }
    let found = patiently(client, || {
        let mut list = TopicPartitionList::with_capacity(places.len());
        for &at in places {
            add(&mut list, names, at, end);
        }
        let found = client.offsets_for_times(list, ANSWER)?;
        found.elements().iter().try_for_each(|element| element.error())?;
        Ok(found)
    })?;
    let mut offsets = HashMap::with_capacity(places.len());
    for element in found.elements() {
        let (Some(topic), Offset::Offset(offset)) = (names.topic_named(element.topic()), element.offset()) else {
            return Err(away(format!("no offset of {} {}", element.topic(), element.partition())));
        };
        offsets.insert(TopicPartition { topic, partition: element.partition() }, offset);
    }
    Ok(offsets)
}

/// Asks again while a partition has no leader that knows of its office: just made, or moving, or back after a restart, which
/// the client does not know of by itself.
fn patiently<C: ConsumerContext, T>(client: &BaseConsumer<C>, ask: impl Fn() -> KafkaResult<T>) -> Result<T, LogError> {
    let deadline = Instant::now() + ANSWER;
    loop {
        match ask() {
            Ok(answer) => return Ok(answer),
            Err(error) if is_passing(&error) && Instant::now() < deadline => {
                pause(AGAIN);
                // Else the next answer is the same. What it fails of, the next question fails of too.
                let _ = client.fetch_metadata(None, ANSWER);
            }
            Err(error) => return Err(away(error)),
        }
    }
}

fn is_passing(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{
        FencedLeaderEpoch, LeaderNotAvailable, NotLeaderForPartition, UnknownLeaderEpoch, UnknownTopicOrPartition,
    };
    matches!(
        error.rdkafka_error_code(),
        Some(
            FencedLeaderEpoch
                | LeaderNotAvailable
                | NotLeaderForPartition
                | UnknownLeaderEpoch
                | UnknownTopicOrPartition
        )
    )
}

pub(super) fn bounds<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    names: &Names,
    places: &[TopicPartition],
) -> Result<HashMap<TopicPartition, Bounds>, LogError> {
    // In this order a start is never past its end.
    let starts = at_end(client, names, places, Offset::Beginning)?;
    let ends = at_end(client, names, places, Offset::End)?;
    let both = starts.into_iter().filter_map(|(at, start)| Some((at, Bounds { start, end: *ends.get(&at)? })));
    Ok(both.collect())
}

/// How far the group of a reader has come. Asked through its client, or through one of its own when the reader is gone.
pub(super) fn progress(
    seat: &Seat,
    settings: &BrokerSettings,
    names: &Names,
) -> Result<(String, Vec<Progress>), LogError> {
    let partitions = i32::try_from(settings.partitions).unwrap_or(i32::MAX);
    let places: Vec<TopicPartition> = seat
        .topics
        .iter()
        .flat_map(|&topic| (0..partitions).map(move |partition| TopicPartition { topic, partition }))
        .collect();
    let progress = match seat.client() {
        Some(client) => {
            seat.write_copies(&client, CommitMode::Sync);
            read_progress(&*client, names, &places)?
        }
        None => {
            let mut config = config(settings);
            config.set("group.id", names.group(&seat.group));
            set_reading(&mut config);
            let client: BaseConsumer<Quiet> = config.create_with_context(Quiet).map_err(away)?;
            read_progress(&client, names, &places)?
        }
    };
    Ok((seat.group.clone(), progress))
}

fn read_progress<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    names: &Names,
    places: &[TopicPartition],
) -> Result<Vec<Progress>, LogError> {
    let mut list = TopicPartitionList::with_capacity(places.len());
    for &at in places {
        add(&mut list, names, at, Offset::Invalid);
    }
    let committed = client.committed_offsets(list, ANSWER).map_err(away)?;
    let bounds = bounds(client, names, places)?;
    let progress = places.iter().filter_map(|&partition| {
        let bounds = bounds.get(&partition)?;
        let copy = committed.find_partition(names.topic(partition.topic), partition.partition)?.offset();
        // Without a copy the group has still to read all of it.
        let committed = if let Offset::Offset(offset) = copy { offset } else { bounds.start };
        Some(Progress { partition, committed, end: bounds.end })
    });
    Ok(progress.collect())
}
