//! Pending events in a domain's own database, saved in the transaction of the state that they describe.
//!
//! The events of a transaction wait in one document, or in a few where they are many or long: a batch of decisions costs
//! one insert and one removal instead of two of each for every order.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Mutex;

use futures_util::TryStreamExt;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::raw::CString;
use mongodb::bson::{Bson, DateTime, Document, Regex, doc};
use mongodb::{ClientSession, Collection, Database};
use serde::{Deserialize, Serialize};

use super::connections::lock;
use super::failure::{Failure, broken};
use super::migrations::{Change, collection, indexes, unique_index};
use super::updates::{self, Update};
use super::values::{self, date};
use crate::domain::events::{PendingEvent, Topic};
use crate::domain::time::Timestamp;
use crate::store::outbox::{Backlog, PendingEventId};

const PENDING_EVENTS: &str = "pending_events";

/// What a document holds at most; a body that is longer by itself has a document of its own. MongoDB takes 16 MB.
const MAX_EVENTS: usize = 1_000;
const MAX_BODY_BYTES: usize = 4_000_000;

/// Part of the first migration of every domain whose events wait here. No index on the age: events live here for a
/// fraction of a second, so a sweep finds it nearly empty, and after an outage nearly all of it is wanted.
pub(super) fn collections() -> [Change; 2] {
    let fields: &[(&str, &[&str])] =
        &[("_id", &["objectId"]), ("at", &["date"]), ("ids", &["array"]), ("events", &["array"])];
    [
        collection(PENDING_EVENTS, fields),
        indexes(PENDING_EVENTS, [unique_index("pending_events_by_id", doc! { "ids": 1 })]),
    ]
}

/// Events as they wait, all of one transaction.
#[derive(Debug, Serialize, Deserialize)]
struct PendingDocument {
    #[serde(rename = "_id")]
    id: ObjectId,
    /// Of the oldest.
    #[serde(with = "values::time")]
    at: Timestamp,
    /// Each event's, in their order: what a document is found by when they are published.
    ids: Vec<String>,
    events: Vec<EventDocument>,
}

#[derive(Debug, Serialize, Deserialize)]
struct EventDocument {
    aggregate: String,
    sequence: i64,
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

fn id_of(aggregate: &str, sequence: i64) -> String {
    format!("{aggregate}-{sequence}")
}

impl PendingDocument {
    fn of(events: &[PendingEvent]) -> Option<Self> {
        let at = events.iter().map(|event| event.at).min()?;
        let ids = events.iter().map(|event| id_of(&event.aggregate, event.sequence)).collect();
        Some(Self { id: ObjectId::new(), at, ids, events: events.iter().map(EventDocument::from).collect() })
    }

    /// All events in as few documents as they fit into.
    fn all(mut events: &[PendingEvent]) -> Vec<Self> {
        let mut documents = Vec::new();
        while !events.is_empty() {
            let mut bytes = 0;
            let fits = events.iter().take(MAX_EVENTS).take_while(|event| {
                bytes += event.body.len();
                bytes <= MAX_BODY_BYTES
            });
            let (document, rest) = events.split_at(fits.count().max(1));
            documents.extend(Self::of(document));
            events = rest;
        }
        documents
    }
}

impl From<&PendingEvent> for EventDocument {
    fn from(event: &PendingEvent) -> Self {
        Self {
            aggregate: event.aggregate.clone(),
            sequence: event.sequence,
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

impl TryFrom<EventDocument> for PendingEvent {
    type Error = Failure;

    fn try_from(document: EventDocument) -> Result<Self, Failure> {
        let topic = Topic::named(&document.topic);
        Ok(Self {
            topic: topic.ok_or_else(|| broken(format!("unknown topic {}", document.topic)))?,
            aggregate: document.aggregate,
            sequence: document.sequence,
            key: document.key,
            event_type: document.event_type.into(),
            source: document.source.into(),
            at: document.at,
            body: document.body,
            headers: document.headers,
        })
    }
}

/// Returns the documents, for [`OwnDocuments::note`] once they are committed.
pub(super) async fn insert(
    database: &Database,
    session: &mut ClientSession,
    events: &[PendingEvent],
) -> Result<Vec<Waiting>, Failure> {
    let documents = PendingDocument::all(events);
    database.collection::<PendingDocument>(PENDING_EVENTS).insert_many(&documents).session(session).await?;
    Ok(documents.into_iter().map(|document| Waiting { id: document.id, ids: document.ids }).collect())
}

/// What this process has committed and not removed itself, by the ids of the events: such a document is removed without being
/// looked for.
///
/// Two generations, of which the older goes when the newer is full: what another process has removed meanwhile stays in here.
#[derive(Debug, Default)]
pub(super) struct OwnDocuments {
    recent: HashMap<String, (ObjectId, usize)>,
    older: HashMap<String, (ObjectId, usize)>,
}

/// The most events of a generation.
const MAX_OWN: usize = 32 * 1024;

impl OwnDocuments {
    pub(super) fn note(&mut self, documents: Vec<Waiting>) {
        for Waiting { id, ids } in documents {
            let events = ids.len();
            if self.recent.len() + events > MAX_OWN {
                self.older = std::mem::take(&mut self.recent);
            }
            self.recent.extend(ids.into_iter().map(|event| (event, (id, events))));
        }
    }

    /// Takes from `published` the events of every document that has no others, and returns these documents.
    fn take_whole(&mut self, published: &mut BTreeMap<String, PendingEventId>) -> Vec<ObjectId> {
        let mut found: HashMap<ObjectId, (usize, Vec<String>)> = HashMap::new();
        for event in published.keys() {
            if let Some((document, events)) = self.recent.remove(event).or_else(|| self.older.remove(event)) {
                found.entry(document).or_insert_with(|| (events, Vec::new())).1.push(event.clone());
            }
        }
        found.retain(|_, (events, ids)| *events == ids.len());
        for id in found.values().flat_map(|(_, ids)| ids) {
            published.remove(id);
        }
        found.into_keys().collect()
    }
}

/// Up to `limit` events older than `before`, each aggregate's in sequence.
pub(super) async fn select(database: &Database, before: Timestamp, limit: u32) -> Result<Vec<PendingEvent>, Failure> {
    if limit == 0 {
        return Ok(Vec::new());
    }
    let old = doc! { "$match": { "at": { "$lt": date(before) } } };
    let oldest_of_each = [
        old.clone(),
        doc! { "$unwind": "$events" },
        doc! { "$replaceRoot": { "newRoot": "$events" } },
        old,
        doc! { "$sort": { "aggregate": 1, "sequence": 1 } },
        doc! { "$limit": i64::from(limit) },
    ];
    let pending = database.collection::<Document>(PENDING_EVENTS);
    let mut found = pending.aggregate(oldest_of_each).with_type::<EventDocument>().await?;
    let mut events = Vec::new();
    while let Some(document) = found.try_next().await? {
        events.push(document.try_into()?);
    }
    Ok(events)
}

/// All events of these aggregates, each in sequence.
pub(super) async fn select_of(database: &Database, aggregates: Vec<String>) -> Result<Vec<PendingEvent>, Failure> {
    if aggregates.is_empty() {
        return Ok(Vec::new());
    }
    // Beginnings of ids, which the index finds.
    let beginning = |aggregate: &String| {
        let pattern = format!(r"^\Q{}\E-", aggregate.replace(r"\E", ""));
        let pattern = CString::try_from(pattern).map_err(|_| broken(format!("{aggregate:?} is no aggregate")))?;
        Ok(Regex { pattern, options: mongodb::bson::cstr!("").into() }.into())
    };
    let beginnings: Vec<Bson> = aggregates.iter().map(beginning).collect::<Result<_, Failure>>()?;
    let of_any = doc! { "ids": { "$in": beginnings } };
    let mut found = database.collection::<PendingDocument>(PENDING_EVENTS).find(of_any).await?;
    let meant: HashSet<String> = aggregates.into_iter().collect();
    let mut events: Vec<PendingEvent> = Vec::new();
    while let Some(document) = found.try_next().await? {
        for event in document.events {
            if meant.contains(&event.aggregate) {
                events.push(event.try_into()?);
            }
        }
    }
    events.sort_unstable_by(|one, other| (&one.aggregate, one.sequence).cmp(&(&other.aggregate, other.sequence)));
    Ok(events)
}

pub(super) async fn backlog(database: &Database) -> Result<Backlog, Failure> {
    let each = doc! { "$toLong": { "$size": "$ids" } };
    count(&database.collection(PENDING_EVENTS), doc! {}, each.into(), "$at".into()).await
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

/// Events of one transaction, as far as their removal needs to know them.
#[derive(Debug, Deserialize)]
pub(super) struct Waiting {
    #[serde(rename = "_id")]
    id: ObjectId,
    ids: Vec<String>,
}

/// Forgets these: whole documents in one command, and of the others, if there are any, what is meant of them. Returns those
/// that were not there.
pub(super) async fn delete(
    database: &Database,
    own: &Mutex<OwnDocuments>,
    published: Vec<PendingEventId>,
) -> Result<Vec<PendingEventId>, Failure> {
    let mut published: BTreeMap<String, PendingEventId> =
        published.into_iter().map(|id| (id_of(&id.0, id.1), id)).collect();
    let own = lock(own).take_whole(&mut published);
    if !own.is_empty() {
        remove(database, own).await?;
    }
    let mut missing: BTreeSet<String> = published.keys().cloned().collect();
    while !published.is_empty() {
        let any = doc! { "ids": { "$in": published.keys().collect::<Vec<_>>() } };
        let found = database.collection::<Waiting>(PENDING_EVENTS).find(any).projection(doc! { "ids": 1 }).await?;
        let found: Vec<Waiting> = found.try_collect().await?;
        for id in found.iter().flat_map(|waiting| &waiting.ids) {
            missing.remove(id);
        }
        let (whole, partly): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|waiting| waiting.ids.iter().all(|id| published.contains_key(id)));
        if !whole.is_empty() {
            remove(database, whole.into_iter().map(|waiting| waiting.id).collect()).await?;
        }
        let forgotten: Vec<Update> = partly.into_iter().map(|waiting| waiting.without(&published)).collect();
        let expected = forgotten.len() as u64;
        if expected == 0 || updates::update(database, None, PENDING_EVENTS, forgotten, false).await?.matched == expected
        {
            break;
        }
        // Another process has forgotten some of the same document meanwhile.
    }
    Ok(published.into_iter().filter(|(id, _)| missing.contains(id)).map(|(_, id)| id).collect())
}

async fn remove(database: &Database, documents: Vec<ObjectId>) -> Result<(), Failure> {
    database.collection::<Document>(PENDING_EVENTS).delete_many(doc! { "_id": { "$in": documents } }).await?;
    Ok(())
}

impl Waiting {
    /// Changes the document as it was found only, so that it is never left behind with nothing in it.
    fn without(self, published: &BTreeMap<String, PendingEventId>) -> Update {
        let left: Vec<&String> = self.ids.iter().filter(|id| !published.contains_key(*id)).collect();
        let left = doc! { "$literal": left };
        let id = doc! { "$concat": ["$$this.aggregate", "-", { "$toString": "$$this.sequence" }] };
        let events = doc! { "$filter": { "input": "$events", "cond": { "$in": [id, left.clone()] } } };
        let change =
            [doc! { "$set": { "ids": left, "events": events } }, doc! { "$set": { "at": { "$min": "$events.at" } } }];
        Update::one(doc! { "_id": self.id, "ids": self.ids }, change.map(Bson::from).to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(sequences: impl IntoIterator<Item = i64>) -> BTreeMap<String, PendingEventId> {
        sequences.into_iter().map(|sequence| (id_of("ord_1", sequence), ("ord_1".to_owned(), sequence))).collect()
    }

    #[test]
    fn an_own_document_is_taken_when_all_of_its_events_are_published() {
        let (first, second) = (ObjectId::new(), ObjectId::new());
        let ids = |sequences: std::ops::Range<i64>| sequences.map(|sequence| id_of("ord_1", sequence)).collect();
        let mut own = OwnDocuments::default();
        own.note(vec![Waiting { id: first, ids: ids(1..3) }, Waiting { id: second, ids: ids(3..6) }]);
        let mut events = published([1, 2, 3, 9]);
        assert_eq!(own.take_whole(&mut events), [first]);
        assert_eq!(events, published([3, 9]), "a part of a document, and another process's event, are looked for");
        let mut rest = published([4, 5]);
        assert_eq!(
            own.take_whole(&mut rest),
            [],
            "of a document that was looked for once the rest is looked for as well"
        );
        assert_eq!(rest, published([4, 5]));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut own = OwnDocuments::default();
        for _ in 0..4 * MAX_OWN / MAX_EVENTS {
            let ids = (0..MAX_EVENTS).map(|_| ObjectId::new().to_hex()).collect();
            own.note(vec![Waiting { id: ObjectId::new(), ids }]);
        }
        assert!(own.recent.len() <= MAX_OWN && own.older.len() <= MAX_OWN && !own.older.is_empty());
    }
}
