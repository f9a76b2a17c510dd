//! Progress of consumer groups in a domain's own database: offsets that move by condition, and what is parked.

use futures_util::TryStreamExt;
use mongodb::Database;
use mongodb::bson::{Document, doc, serialize_to_document};
use serde::{Deserialize, Serialize};

use super::failure::{Failure, broken};
use super::migrations::{Change, collection};
use super::transaction::Tx;
use super::updates::Update;
use super::values;
use crate::domain::events::{StoredRecord, Topic};
use crate::domain::time::Timestamp;
use crate::store::consumption::{Consumption, OffsetMove, ParkedEvent, ParkedId, StoredOffset};

const CONSUMED: &str = "consumed";
const PARKED: &str = "parked";

/// Part of every domain's first migration.
pub(super) fn collections() -> [Change; 2] {
    [
        collection(CONSUMED, &[("_id", &["object"]), ("nextOffset", &["long"])]),
        collection(
            PARKED,
            &[
                ("_id", &["object"]),
                ("attempts", &["int", "long"]),
                ("nextAttemptAt", &["date"]),
                ("lastError", &["string"]),
                ("key", &["string"]),
                ("headers?", &["array"]),
                ("body", &["string"]),
            ],
        ),
    ]
}

#[derive(Serialize, Deserialize)]
struct Place {
    group: String,
    topic: String,
    partition: i32,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConsumedDocument {
    #[serde(rename = "_id")]
    place: Place,
    next_offset: i64,
}

#[derive(Serialize, Deserialize)]
struct ParkedPlace {
    group: String,
    topic: String,
    partition: i32,
    offset: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ParkedDocument {
    #[serde(rename = "_id")]
    place: ParkedPlace,
    attempts: u32,
    #[serde(with = "values::time")]
    next_attempt_at: Timestamp,
    last_error: String,
    key: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    headers: Vec<(String, String)>,
    body: String,
}

impl ParkedDocument {
    fn of(group: &str, parked: &ParkedEvent) -> Self {
        let record = &parked.record;
        Self {
            place: ParkedPlace {
                group: group.to_owned(),
                topic: record.topic.clone(),
                partition: record.partition,
                offset: record.offset,
            },
            attempts: parked.attempts,
            next_attempt_at: parked.next_attempt_at,
            last_error: parked.last_error.clone(),
            key: record.key.clone(),
            headers: record.headers.clone(),
            body: record.body.clone(),
        }
    }
}

impl From<ParkedDocument> for ParkedEvent {
    fn from(parked: ParkedDocument) -> Self {
        Self {
            record: StoredRecord {
                topic: parked.place.topic,
                partition: parked.place.partition,
                offset: parked.place.offset,
                key: parked.key,
                headers: parked.headers,
                body: parked.body,
            },
            attempts: parked.attempts,
            next_attempt_at: parked.next_attempt_at,
            last_error: parked.last_error,
        }
    }
}

/// Moves the offsets and the parked events, each in one command. False: an offset is elsewhere, or an event that was to
/// be settled is no longer parked; what was written until then is to be undone.
pub(super) async fn advance(tx: &mut Tx, consumption: &Consumption) -> Result<bool, Failure> {
    let group = &consumption.group;
    if !consumption.moves.is_empty() {
        let moves = consumption.moves.iter().map(|step| move_offset(group, step)).collect();
        let moved = tx.update(CONSUMED, moves).await?;
        if moved.matched != consumption.moves.len() as u64 || !moved.duplicates.is_empty() {
            return Ok(false);
        }
    }
    if !consumption.unpark.is_empty() {
        let ids: Vec<Document> = consumption.unpark.iter().map(|id| parked_id(group, id)).collect();
        let parked = tx.collection::<Document>(PARKED);
        let removed = parked.delete_many(doc! { "_id": { "$in": ids } }).session(tx.session()).await?;
        if removed.deleted_count != consumption.unpark.len() as u64 {
            return Ok(false);
        }
    }
    if !consumption.park.is_empty() {
        let mut updates = Vec::with_capacity(consumption.park.len());
        for event in &consumption.park {
            let document = serialize_to_document(&ParkedDocument::of(group, event))?;
            let id = document.get_document("_id").cloned().map_err(|_| broken("a parked event has no place"))?;
            updates.push(Update::one(doc! { "_id": id }, document).or_insert());
        }
        tx.update(PARKED, updates).await?;
    }
    Ok(true)
}

/// A place that was never consumed has the offset 0 and no document: inserting one fails when there is another.
fn move_offset(group: &str, step: &OffsetMove) -> Update {
    let place = doc! { "group": group, "topic": step.topic.name(), "partition": step.partition };
    let moved = Update::one(doc! { "_id": place, "nextOffset": step.from }, doc! { "$set": { "nextOffset": step.to } });
    if step.from == 0 { moved.or_insert() } else { moved }
}

fn parked_id(group: &str, (topic, partition, offset): &ParkedId) -> Document {
    doc! { "group": group, "topic": topic, "partition": *partition, "offset": *offset }
}

pub(super) async fn offsets(database: &Database, group: &str) -> Result<Vec<StoredOffset>, Failure> {
    let mut found =
        database.collection::<ConsumedDocument>(CONSUMED).find(of_group(group)).sort(doc! { "_id": 1 }).await?;
    let mut offsets = Vec::new();
    while let Some(ConsumedDocument { place, next_offset }) = found.try_next().await? {
        let topic = Topic::named(&place.topic).ok_or_else(|| broken(format!("unknown topic {}", place.topic)))?;
        offsets.push(StoredOffset { topic, partition: place.partition, next_offset });
    }
    Ok(offsets)
}

pub(super) async fn parked(database: &Database, group: &str) -> Result<Vec<ParkedEvent>, Failure> {
    let found = database.collection::<ParkedDocument>(PARKED).find(of_group(group)).sort(doc! { "_id": 1 }).await?;
    Ok(found.map_ok(ParkedEvent::from).try_collect().await?)
}

/// The range of the keys that begin with the group.
fn of_group(group: &str) -> Document {
    let after = format!("{group}\0");
    doc! { "_id": { "$gte": { "group": group }, "$lt": { "group": after } } }
}
