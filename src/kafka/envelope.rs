//! CloudEvents 1.0 in the Kafka binding, binary mode: the attributes are headers, the body is the event's data.
//!
//! [`headers_of`] writes them when an event is appended; [`Envelope::of`] checks them when a record is read.

use std::borrow::Cow;

use serde::de::DeserializeOwned;

use super::{Header, Record};
use crate::domain::events::PendingEvent;
pub use crate::domain::events::header::{CONTENT_TYPE, ID, SOURCE, SPEC_VERSION, SUBJECT, TIME, TRACEPARENT, TYPE};
use crate::domain::time::Timestamp;

const SPEC_VERSION_1: &str = "1.0";
const JSON: &str = "application/json";

/// Why a record is no event that the shop understands. Another try would end the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("header {0} is missing")]
    MissingHeader(&'static str),
    #[error("header {header} has the value {value:?}, expected {expected}")]
    BadHeader { header: &'static str, value: String, expected: &'static str },
    #[error("body of {event_type}: {reason}")]
    BadBody { event_type: String, reason: String },
}

/// The attributes of a record, borrowed from its headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope<'a> {
    pub id: &'a str,
    pub event_type: &'a str,
    pub source: &'a str,
    /// The aggregate.
    pub subject: Option<&'a str>,
    pub traceparent: Option<&'a str>,
}

impl<'a> Envelope<'a> {
    /// The attributes, when the record has every one that the specification demands.
    pub fn of(record: &'a Record) -> Result<Self, DecodeError> {
        let required = |name| record.header(name).ok_or(DecodeError::MissingHeader(name));
        let version = required(SPEC_VERSION)?;
        if version != SPEC_VERSION_1 {
            return Err(bad_header(SPEC_VERSION, version, SPEC_VERSION_1));
        }
        if let Some(content) = record.header(CONTENT_TYPE)
            && content.split(';').next().map(str::trim) != Some(JSON)
        {
            return Err(bad_header(CONTENT_TYPE, content, JSON));
        }
        Ok(Self {
            id: required(ID)?,
            event_type: required(TYPE)?,
            source: required(SOURCE)?,
            subject: record.header(SUBJECT),
            traceparent: record.header(TRACEPARENT),
        })
    }

    /// When it happened. Read on demand: few handlers need it.
    pub fn time(record: &Record) -> Result<Timestamp, DecodeError> {
        let text = record.header(TIME).ok_or(DecodeError::MissingHeader(TIME))?;
        text.parse().map_err(|_| bad_header(TIME, text, "an RFC 3339 time"))
    }
}

fn bad_header(header: &'static str, value: &str, expected: &'static str) -> DecodeError {
    DecodeError::BadHeader { header, value: value.to_owned(), expected }
}

/// The body as the struct of `domain::events` that belongs to the event's type.
pub fn body<T: DeserializeOwned>(record: &Record) -> Result<T, DecodeError> {
    serde_json::from_str(&record.body).map_err(|error| DecodeError::BadBody {
        event_type: record.header(TYPE).unwrap_or_default().to_owned(),
        reason: without_values(&error),
    })
}

/// What serde says, without the values that it quotes: the text goes to logs.
fn without_values(error: &serde_json::Error) -> String {
    let text = error.to_string();
    if text.starts_with("missing field") || !error.is_data() {
        return text;
    }
    format!("unexpected value at line {} column {}", error.line(), error.column())
}

/// What the headers of an event are made of.
pub(super) struct Attributes {
    pub id: String,
    pub event_type: Cow<'static, str>,
    pub source: Cow<'static, str>,
    pub subject: String,
    pub at: Timestamp,
    pub extra: Vec<(String, String)>,
}

/// The headers in the order in which they are written.
pub(super) fn headers(attributes: Attributes) -> Vec<Header> {
    let mut headers: Vec<Header> = Vec::with_capacity(7 + attributes.extra.len());
    headers.push((Cow::Borrowed(TYPE), attributes.event_type));
    headers.push((Cow::Borrowed(ID), Cow::Owned(attributes.id)));
    headers.push((Cow::Borrowed(SOURCE), attributes.source));
    headers.push((Cow::Borrowed(SPEC_VERSION), Cow::Borrowed(SPEC_VERSION_1)));
    headers.push((Cow::Borrowed(TIME), Cow::Owned(attributes.at.to_string())));
    headers.push((Cow::Borrowed(SUBJECT), Cow::Owned(attributes.subject)));
    headers.push((Cow::Borrowed(CONTENT_TYPE), Cow::Borrowed(JSON)));
    headers.extend(attributes.extra.into_iter().map(|(name, value)| (Cow::Owned(name), Cow::Owned(value))));
    headers
}

/// Key, headers and body under which an event is appended.
pub fn headers_of(event: PendingEvent) -> (String, Vec<Header>, String) {
    let id = event.id();
    let headers = headers(Attributes {
        id,
        event_type: event.event_type,
        source: event.source,
        subject: event.aggregate,
        at: event.at,
        extra: event.headers,
    });
    (event.key, headers, event.body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::events::{Topic, event_type, source};

    fn record(change: impl FnOnce(&mut Vec<Header>)) -> Record {
        let mut event = PendingEvent::new(
            Topic::OrderEvents,
            source::ORDERS,
            event_type::ORDER_PLACED,
            "ord_1".into(),
            3,
            Timestamp(1_000),
            &serde_json::json!({"n": 1}),
        );
        event.headers.push((TRACEPARENT.into(), "00-ab-cd-01".into()));
        let (key, mut headers, body) = headers_of(event);
        change(&mut headers);
        Record { topic: Topic::OrderEvents, partition: 0, offset: 0, key, headers, body }
    }

    #[test]
    fn an_event_survives_the_envelope() {
        let record = record(|_| {});
        let envelope = Envelope::of(&record).unwrap();
        assert_eq!(envelope.id, "ord_1-3");
        assert_eq!(envelope.event_type, event_type::ORDER_PLACED);
        assert_eq!(envelope.source, source::ORDERS);
        assert_eq!(envelope.subject, Some("ord_1"));
        assert_eq!(envelope.traceparent, Some("00-ab-cd-01"));
        assert_eq!(Envelope::time(&record), Ok(Timestamp(1_000)));
        assert_eq!(record.header(CONTENT_TYPE), Some("application/json"));
        assert_eq!(body::<serde_json::Value>(&record).unwrap()["n"], 1);
    }

    #[test]
    fn a_body_error_names_no_value() {
        let record = record(|_| {});
        let error = body::<u64>(&record).unwrap_err().to_string();
        assert_eq!(error, "body of souk.order.placed.v1: unexpected value at line 1 column 0");
    }

    #[test]
    fn a_record_without_a_required_header_is_refused_by_name() {
        for name in [SPEC_VERSION, ID, TYPE, SOURCE] {
            let record = record(|headers| headers.retain(|(known, _)| known != name));
            assert_eq!(Envelope::of(&record), Err(DecodeError::MissingHeader(name)));
        }
    }

    #[test]
    fn another_version_or_content_is_refused() {
        let set = |name: &'static str, value: &'static str| {
            record(move |headers| {
                headers.iter_mut().filter(|(known, _)| known == name).for_each(|h| h.1 = value.into())
            })
        };
        assert!(matches!(Envelope::of(&set(SPEC_VERSION, "2.0")), Err(DecodeError::BadHeader { .. })));
        assert!(matches!(Envelope::of(&set(CONTENT_TYPE, "text/xml")), Err(DecodeError::BadHeader { .. })));
        assert!(Envelope::of(&set(CONTENT_TYPE, "application/json; charset=utf-8")).is_ok());
    }
}
