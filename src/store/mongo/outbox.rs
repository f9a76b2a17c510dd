//! Pending events in a domain's own database, saved in the transaction of the state that they describe.

use futures_util::TryStreamExt;
use mongodb::bson::{Bson, DateTime, Document, doc};
use mongodb::{ClientSession, Collection, Database};
use serde::{Deserialize, Serialize};

use super::failure::{Failure, broken};
use super::migrations::{Change, collection};
use super::values::{self, date};
use crate::domain::events::{PendingEvent, Topic};
use crate::domain::time::Timestamp;
use crate::store::outbox::{Backlog, PendingEventId};

const PENDING_EVENTS: &str = "pending_events";

/// Part of the first migration of every domain whose events wait here. The key is the order of publication. A sweep goes
/// through all of it by that key, without an index on the age: events live here for a fraction of a second, so a sweep
/// finds it nearly empty, and after an outage nearly all of it is wanted.
pub(super) fn collections() -> Change {
    let fields: &[(&str, &[&str])] = &[
        ("_id", &["object"]),
        ("at", &["date"]),
        ("topic", &["string"]),
        ("key", &["string"]),
        ("type", &["string"]),
        ("source", &["string"]),
        ("headers?", &["array"]),
        ("body", &["string"]),
    ];
    collection(PENDING_EVENTS, fields)
}

/// An event as it waits. Public to the stores that keep pending events in a document of their own.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct PendingDocument {
    #[serde(rename = "_id")]
    id: EventId,
    #[serde(with = "values::time")]
    at: Timestamp,
    topic: String,
    key: String,
    #[serde(rename = "type")]
    event_type: String,
    source: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    headers: Vec<(String, String)>,
    /// JSON.
    body: String,
}

/// Compared field by field: the order of the fields is the order of publication.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct EventId {
    aggregate: String,
    sequence: i64,
}

impl From<&PendingEvent> for PendingDocument {
    fn from(event: &PendingEvent) -> Self {
        Self {
            id: EventId { aggregate: event.aggregate.clone(), sequence: event.sequence },
            at: event.at,
            topic: event.topic.name().to_owned(),
            key: event.key.clone(),
            event_type: event.event_type.clone().into_owned(),
            source: event.source.clone().into_owned(),
            headers: event.headers.clone(),
            body: event.body.clone(),
        }
    }
}

impl TryFrom<PendingDocument> for PendingEvent {
    type Error = Failure;

    fn try_from(document: PendingDocument) -> Result<Self, Failure> {
        let topic = Topic::named(&document.topic);
        Ok(Self {
            topic: topic.ok_or_else(|| broken(format!("unknown topic {}", document.topic)))?,
            aggregate: document.id.aggregate,
            sequence: document.id.sequence,
            key: document.key,
            event_type: document.event_type.into(),
            source: document.source.into(),
            at: document.at,
            body: document.body,
            headers: document.headers,
        })
    }
}

pub(super) async fn insert(
    database: &Database,
    session: &mut ClientSession,
    events: &[PendingEvent],
) -> Result<(), Failure> {
    let documents = events.iter().map(PendingDocument::from);
    database.collection::<PendingDocument>(PENDING_EVENTS).insert_many(documents).session(session).await?;
    Ok(())
}

/// Up to `limit` events older than `before`, each aggregate's in sequence.
pub(super) async fn select(database: &Database, before: Timestamp, limit: u32) -> Result<Vec<PendingEvent>, Failure> {
    let pending = database.collection::<PendingDocument>(PENDING_EVENTS);
    let mut found =
        pending.find(doc! { "at": { "$lt": date(before) } }).sort(doc! { "_id": 1 }).limit(i64::from(limit)).await?;
    let mut events = Vec::new();
    while let Some(document) = found.try_next().await? {
        events.push(document.try_into()?);
    }
    Ok(events)
}

pub(super) async fn backlog(database: &Database) -> Result<Backlog, Failure> {
    count(&database.collection(PENDING_EVENTS), doc! {}, Bson::Int64(1), "$at".into()).await
}

/// The sum of an expression over the documents that match, and the least of another, which is a time.
pub(super) async fn count(
    collection: &Collection<Document>,
    matched: Document,
    each: Bson,
    time: Bson,
) -> Result<Backlog, Failure> {
    #[derive(Deserialize)]
    struct Counted {
        count: i64,
        oldest: Option<DateTime>,
    }
    let count = [
        doc! { "$match": matched },
        doc! { "$group": { "_id": null, "count": { "$sum": each }, "oldest": { "$min": time } } },
    ];
    // Nothing is no group.
    let counted: Option<Counted> = collection.aggregate(count).with_type().await?.try_next().await?;
    Ok(counted.map_or_else(Backlog::default, |counted| Backlog {
        events: counted.count.unsigned_abs(),
        oldest: counted.oldest.map(|at| Timestamp(at.timestamp_millis())),
    }))
}

/// All of them in one command.
pub(super) async fn delete(database: &Database, published: Vec<PendingEventId>) -> Result<(), Failure> {
    if published.is_empty() {
        return Ok(());
    }
    let ids: Vec<Bson> = published
        .into_iter()
        .map(|(aggregate, sequence)| doc! { "aggregate": aggregate, "sequence": sequence }.into())
        .collect();
    database.collection::<PendingDocument>(PENDING_EVENTS).delete_many(doc! { "_id": { "$in": ids } }).await?;
    Ok(())
}
