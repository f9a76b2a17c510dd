//! The operations database: dead letters, by the order in which they came, and markers.
//!
//! The places of letters come from one counter that the transaction raises, so transactions that keep letters come one
//! after the other and a place is never filled after a later one: the place is an exact cursor.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use futures_util::TryStreamExt;
use futures_util::future::BoxFuture;
use mongodb::bson::{Document, doc};
use mongodb::options::ReturnDocument;
use serde::{Deserialize, Serialize};

use super::database::MongoDatabase;
use super::failure::{Failure, broken};
use super::migrations::{Change, Migration, collection, index, indexes, partial_index, unique_index};
use super::transaction::Tx;
use super::values;
use super::{consumption, cursor, outbox};
use crate::domain::events::{PendingEvent, StoredRecord};
use crate::domain::page::{Page, PageRequest};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::consumption::{Consumed, Consumption};
use crate::store::operations::{DeadLetter, DeadLetterEntry, MarkerStore, OperationsStore, SettleDeadLetter};

const DEAD_LETTERS: &str = "dead_letters";
const COUNTERS: &str = "counters";
const MARKERS: &str = "markers";

const MIGRATIONS: &[Migration] = &[Migration { name: "dead letters and markers", changes: first_version }];

fn first_version() -> Vec<Change> {
    let mut changes = Vec::from(outbox::collections());
    changes.extend(consumption::collections());
    changes.push(collection(
        DEAD_LETTERS,
        &[
            ("_id", &["string"]),
            ("place", &["long"]),
            ("source", &["string"]),
            ("reason", &["string"]),
            ("attempts", &["int", "long"]),
            ("record", &["object"]),
            ("round", &["int", "long"]),
            ("failedAt", &["date"]),
            ("open", &["bool"]),
            ("replayedAt?", &["date"]),
            ("replayedBy?", &["string"]),
            ("discardedAt?", &["date"]),
            ("discardedBy?", &["string"]),
        ],
    ));
    changes.push(indexes(
        DEAD_LETTERS,
        [
            unique_index("dead_letters_by_place", doc! { "place": 1 }),
            index("dead_letters_by_source", doc! { "source": 1, "place": -1 }),
            partial_index("dead_letters_open", doc! { "open": 1, "place": -1 }, doc! { "open": true }),
        ],
    ));
    changes.push(collection(COUNTERS, &[("_id", &["string"]), ("value", &["long"])]));
    changes.push(collection(MARKERS, &[("_id", &["string"]), ("value", &["string"])]));
    changes
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LetterDocument {
    #[serde(rename = "_id")]
    id: String,
    /// Counts letters from 1.
    place: i64,
    source: String,
    reason: String,
    attempts: u32,
    record: StoredRecord,
    round: u32,
    #[serde(with = "values::time")]
    failed_at: Timestamp,
    /// Neither replayed nor discarded.
    open: bool,
    #[serde(with = "values::optional_time", default, skip_serializing_if = "Option::is_none")]
    replayed_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replayed_by: Option<String>,
    #[serde(with = "values::optional_time", default, skip_serializing_if = "Option::is_none")]
    discarded_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    discarded_by: Option<String>,
}

impl LetterDocument {
    fn new(letter: &DeadLetter, place: i64) -> Self {
        Self {
            id: letter.id.clone(),
            place,
            source: letter.source.clone(),
            reason: letter.reason.clone(),
            attempts: letter.attempts,
            record: letter.record.clone(),
            round: letter.round,
            failed_at: letter.failed_at,
            open: letter.replayed_at.is_none() && letter.discarded_at.is_none(),
            replayed_at: letter.replayed_at,
            replayed_by: letter.replayed_by.clone(),
            discarded_at: letter.discarded_at,
            discarded_by: letter.discarded_by.clone(),
        }
    }
}

impl From<LetterDocument> for DeadLetter {
    fn from(letter: LetterDocument) -> Self {
        Self {
            id: letter.id,
            source: letter.source,
            reason: letter.reason,
            attempts: letter.attempts,
            record: letter.record,
            round: letter.round,
            failed_at: letter.failed_at,
            replayed_at: letter.replayed_at,
            replayed_by: letter.replayed_by,
            discarded_at: letter.discarded_at,
            discarded_by: letter.discarded_by,
        }
    }
}

/// Dead letters in their MongoDB database.
pub struct MongoOperationsStore {
    database: MongoDatabase,
}

super::store_over_database!(MongoOperationsStore, Operations, MIGRATIONS);
super::outbox_over_database!(MongoOperationsStore);

#[async_trait]
impl OperationsStore for MongoOperationsStore {
    async fn add_dead_letters(
        &self,
        letters: Vec<DeadLetter>,
        consumption: Consumption,
        at: Timestamp,
    ) -> Result<Consumed<()>, StoreError> {
        self.database
            .consume_with(consumption, (letters, at), |tx, (letters, at)| Box::pin(add(tx, letters, *at)))
            .await
    }

    async fn dead_letters(&self, ids: &[String]) -> Result<Vec<DeadLetter>, StoreError> {
        let (letters, ids) = (self.database.collection::<LetterDocument>(DEAD_LETTERS), ids.to_vec());
        self.database
            .read(async move {
                let found: Vec<LetterDocument> =
                    letters.find(doc! { "_id": { "$in": &ids } }).await?.try_collect().await?;
                let mut found: HashMap<String, DeadLetter> =
                    found.into_iter().map(|letter| (letter.id.clone(), letter.into())).collect();
                Ok(ids.iter().filter_map(|id| found.remove(id)).collect())
            })
            .await
    }

    async fn list_dead_letters(
        &self,
        source: Option<&str>,
        open_only: bool,
        page: &PageRequest,
    ) -> Result<Page<DeadLetter>, StoreError> {
        let (database, source, page) = (self.database.clone(), source.map(str::to_owned), page.clone());
        self.database.read(async move { list(&database, source, open_only, &page).await }).await
    }

    async fn latest_dead_letter(&self) -> Result<String, StoreError> {
        let letters = self.database.collection::<LetterDocument>(DEAD_LETTERS);
        self.database
            .read(async move {
                let newest = letters.find_one(doc! {}).sort(doc! { "place": -1 }).await?;
                Ok(cursor::encode(&newest.map_or(0, |letter| letter.place)))
            })
            .await
    }

    async fn dead_letters_after(&self, cursor: &str, limit: u32) -> Result<Vec<DeadLetterEntry>, StoreError> {
        let after: i64 = cursor::decode(cursor)?;
        let letters = self.database.collection::<LetterDocument>(DEAD_LETTERS);
        self.database
            .read(async move {
                let later = letters.find(doc! { "place": { "$gt": after } }).sort(doc! { "place": 1 });
                let found = later.limit(i64::from(limit)).await?;
                let entry = |letter: LetterDocument| DeadLetterEntry {
                    cursor: cursor::encode(&letter.place),
                    letter: letter.into(),
                };
                Ok(found.map_ok(entry).try_collect().await?)
            })
            .await
    }

    async fn replay_dead_letter(
        &self,
        id: &str,
        event: PendingEvent,
        by: &str,
        at: Timestamp,
    ) -> Result<SettleDeadLetter, StoreError> {
        self.database
            .transaction((id.to_owned(), event, by.to_owned(), at), |tx, (id, event, by, at)| {
                let is_open = |letter: &DeadLetter| letter.replayed_at.is_none() && letter.discarded_at.is_none();
                settle(tx, id, is_open, |letter| {
                    (letter.replayed_at, letter.replayed_by) = (Some(*at), Some(by.clone()));
                    Some(event.clone())
                })
            })
            .await
    }

    async fn discard_dead_letter(&self, id: &str, by: &str, at: Timestamp) -> Result<SettleDeadLetter, StoreError> {
        self.database
            .transaction((id.to_owned(), by.to_owned(), at), |tx, (id, by, at)| {
                let is_open = |letter: &DeadLetter| letter.discarded_at.is_none();
                settle(tx, id, is_open, |letter| {
                    (letter.discarded_at, letter.discarded_by) = (Some(*at), Some(by.clone()));
                    None
                })
            })
            .await
    }
}

#[async_trait]
impl MarkerStore for MongoOperationsStore {
    async fn marker(&self, name: &str) -> Result<Option<String>, StoreError> {
        let (markers, name) = (self.database.collection::<Document>(MARKERS), name.to_owned());
        self.database
            .read(async move {
                let Some(marker) = markers.find_one(doc! { "_id": name }).await? else { return Ok(None) };
                let value = marker.get_str("value").map_err(|_| broken("a marker has no value"))?;
                Ok(Some(value.to_owned()))
            })
            .await
    }

    async fn set_marker(&self, name: &str, value: &str) -> Result<(), StoreError> {
        let markers = self.database.collection::<Document>(MARKERS);
        let (name, set) = (doc! { "_id": name }, doc! { "$set": { "value": value } });
        self.database.write(async move { Ok(markers.update_one(name, set).upsert(true).await?) }).await.map(drop)
    }
}

/// Keeps the letters that are not there yet, with the news of each.
async fn add(tx: &mut Tx, letters: &[DeadLetter], at: Timestamp) -> Result<(), Failure> {
    let mut known = known(tx, letters).await?;
    let new: Vec<&DeadLetter> = letters.iter().filter(|letter| known.insert(letter.id.clone())).collect();
    if new.is_empty() {
        return Ok(());
    }
    let count = new.len() as i64;
    let last = raise_counter(tx, count).await?;
    let documents: Vec<LetterDocument> =
        (last - count + 1..).zip(&new).map(|(place, letter)| LetterDocument::new(letter, place)).collect();
    tx.collection(DEAD_LETTERS).insert_many(documents).session(tx.session()).await?;
    for letter in new {
        tx.emit(letter.kept_event(at));
    }
    Ok(())
}

/// The ids of the letters that are there already.
async fn known(tx: &mut Tx, letters: &[DeadLetter]) -> Result<HashSet<String>, Failure> {
    #[derive(Deserialize)]
    struct Found {
        #[serde(rename = "_id")]
        id: String,
    }
    if letters.is_empty() {
        return Ok(HashSet::new());
    }
    let ids: Vec<&str> = letters.iter().map(|letter| letter.id.as_str()).collect();
    let letters = tx.collection::<Found>(DEAD_LETTERS);
    let found = letters.find(doc! { "_id": { "$in": ids } });
    let mut found = found.projection(doc! { "_id": 1 }).session(tx.session()).await?;
    Ok(found.stream(tx.session()).map_ok(|found| found.id).try_collect().await?)
}

async fn raise_counter(tx: &mut Tx, by: i64) -> Result<i64, Failure> {
    let counters = tx.collection::<Document>(COUNTERS);
    let raised = counters
        .find_one_and_update(doc! { "_id": DEAD_LETTERS }, doc! { "$inc": { "value": by } })
        .upsert(true)
        .return_document(ReturnDocument::After)
        .session(tx.session())
        .await?;
    let value = raised.and_then(|counter| counter.get_i64("value").ok());
    value.ok_or_else(|| broken("the counter of dead letters has no value"))
}

/// Settles a letter that is open to it: once, whoever asks.
fn settle<'a>(
    tx: &'a mut Tx,
    id: &'a str,
    is_open: impl Fn(&DeadLetter) -> bool + Send + 'a,
    settle: impl Fn(&mut DeadLetter) -> Option<PendingEvent> + Send + 'a,
) -> BoxFuture<'a, Result<SettleDeadLetter, Failure>> {
    Box::pin(async move {
        let letters = tx.collection::<LetterDocument>(DEAD_LETTERS);
        let this = doc! { "_id": id };
        let Some(document) = letters.find_one(this.clone()).session(tx.session()).await? else {
            return Ok(SettleDeadLetter::NotFound);
        };
        let place = document.place;
        let mut letter = DeadLetter::from(document);
        if !is_open(&letter) {
            return Ok(SettleDeadLetter::AlreadySettled(Box::new(letter)));
        }
        let event = settle(&mut letter);
        letters.replace_one(this, LetterDocument::new(&letter, place)).session(tx.session()).await?;
        if let Some(event) = event {
            tx.emit(event);
        }
        Ok(SettleDeadLetter::Settled(Box::new(letter)))
    })
}

async fn list(
    database: &MongoDatabase,
    source: Option<String>,
    open_only: bool,
    page: &PageRequest,
) -> Result<Page<DeadLetter>, Failure> {
    let after: Option<i64> = page.after.as_deref().map(cursor::decode).transpose()?;
    let mut filter = Document::new();
    if let Some(source) = source {
        filter.insert("source", source);
    }
    if open_only {
        filter.insert("open", true);
    }
    let letters = database.collection::<LetterDocument>(DEAD_LETTERS);
    let counted = letters.count_documents(filter.clone());
    if let Some(after) = after {
        filter.insert("place", doc! { "$lt": after });
    }
    let found = letters.find(filter).sort(doc! { "place": -1 }).limit(i64::from(page.first) + 1);
    let documents = async { found.await?.try_collect::<Vec<_>>().await };
    let (total, documents) = tokio::try_join!(counted.into_future(), documents)?;
    let entries = documents.into_iter().map(|letter| (cursor::encode(&letter.place), letter.into())).collect();
    Ok(cursor::page(entries, page, total.cast_signed()))
}
