//! Records as the broker carries them, and how they are taken from a client that reads.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Header as NativeHeader, Headers, OwnedHeaders};
use rdkafka::types::RDKafkaErrorCode;

use super::super::envelope::{CONTENT_TYPE, ID, SOURCE, SPEC_VERSION, SUBJECT, TIME, TRACEPARENT, TYPE};
use super::super::{Header, LogError, Record};
use super::clients::away;
use super::topics::Names;

/// Header names that are not allocated for each record.
const KNOWN: [&str; 8] = [TYPE, ID, SOURCE, SPEC_VERSION, TIME, SUBJECT, CONTENT_TYPE, TRACEPARENT];

/// The record of a message. What is not UTF-8 is no event of the shop: its replacement characters make it a dead letter.
fn record(message: &BorrowedMessage<'_>, names: &Names) -> Option<Record> {
    let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
    Some(Record {
        topic: names.topic_named(message.topic())?,
        partition: message.partition(),
        offset: message.offset(),
        key: text(message.key()),
        headers: message.headers().map(read_headers).unwrap_or_default(),
        body: text(message.payload()),
    })
}

fn read_headers(headers: &impl Headers) -> Vec<Header> {
    let read = |NativeHeader { key, value }: NativeHeader<'_, &[u8]>| {
        let name = match KNOWN.into_iter().find(|known| *known == key) {
            Some(known) => Cow::Borrowed(known),
            None => Cow::Owned(key.to_owned()),
        };
        (name, Cow::Owned(String::from_utf8_lossy(value.unwrap_or_default()).into_owned()))
    };
    headers.iter().map(read).collect()
}

pub(super) fn write_headers(headers: &[Header]) -> OwnedHeaders {
    headers.iter().fold(OwnedHeaders::new_with_capacity(headers.len()), |written, (name, value)| {
        written.insert(NativeHeader { key: name, value: Some(value.as_bytes()) })
    })
}

/// Why a client that reads has stopped.
#[derive(Debug)]
pub(super) enum Interruption {
    /// The log does not hold the offset that it wanted next: retention was faster, or the log has lost its end.
    LostPlace,
    Failed(LogError),
}

/// Takes up to `max` records that have arrived, without waiting. What interrupted it comes along with the records that
/// came before.
pub(super) fn take<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    names: &Names,
    max: usize,
    go_on: impl Fn() -> bool,
) -> (Vec<Arc<Record>>, Option<Interruption>) {
    let mut records = Vec::new();
    while records.len() < max && go_on() {
        match client.poll(Duration::ZERO) {
            None => break,
            Some(Ok(message)) => records.extend(record(&message, names).map(Arc::new)),
            Some(Err(error)) => match interruption(&error) {
                None => tracing::debug!(%error, "reading goes on"),
                interruption => return (records, interruption),
            },
        }
    }
    (records, None)
}

/// What an error means for reading; `None`: librdkafka copes by itself.
fn interruption(error: &KafkaError) -> Option<Interruption> {
    use RDKafkaErrorCode::{
        AllBrokersDown, AutoOffsetReset, BrokerTransportFailure, OperationTimedOut, PollExceeded, Resolve,
    };
    let fatal = matches!(error, KafkaError::MessageConsumptionFatal(_));
    match error.rdkafka_error_code() {
        Some(AutoOffsetReset) => Some(Interruption::LostPlace),
        // Connections come back, and a group that was left for slowness is joined again.
        Some(AllBrokersDown | BrokerTransportFailure | OperationTimedOut | PollExceeded | Resolve) if !fatal => None,
        _ => Some(Interruption::Failed(away(error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_they_were_written_and_known_names_are_not_copied() {
        let headers: Vec<Header> =
            vec![(TYPE.into(), "souk.test.v1".into()), ("souk-round".into(), "2".into()), ("empty".into(), "".into())];
        let read = read_headers(write_headers(&headers).as_borrowed());
        assert_eq!(read, headers);
        assert!(matches!(&read[0].0, Cow::Borrowed(TYPE)));
    }

    #[test]
    fn a_lost_connection_is_no_interruption_and_a_lost_place_is() {
        let consumption = |code| interruption(&KafkaError::MessageConsumption(code));
        assert!(consumption(RDKafkaErrorCode::AllBrokersDown).is_none());
        assert!(matches!(consumption(RDKafkaErrorCode::AutoOffsetReset), Some(Interruption::LostPlace)));
        assert!(matches!(consumption(RDKafkaErrorCode::UnknownTopicOrPartition), Some(Interruption::Failed(_))));
        let fatal = interruption(&KafkaError::MessageConsumptionFatal(RDKafkaErrorCode::BrokerTransportFailure));
        assert!(matches!(fatal, Some(Interruption::Failed(_))));
    }
}
