//! Generations of counts: the live one, the one that a rebuild fills, and those that only take room any more.

use futures_util::TryStreamExt;
use mongodb::Collection;
use mongodb::bson::{Document, doc};
use serde::{Deserialize, Serialize};

use super::co_purchases::{ITEMS, PURCHASES};
use super::database::MongoDatabase;
use super::failure::Failure;
use super::transaction::Tx;
use super::updates::Update;
use crate::store::StoreError;
use crate::store::recommendations::{Generation, RebuildStep};

pub(super) const GENERATIONS: &str = "generations";
/// Documents that one call of [`remove_abandoned`] removes of a collection at most.
const REMOVED_AT_ONCE: i64 = 5_000;
/// The generation of a database in which nothing was counted yet.
const FIRST: Generation = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum State {
    Live,
    Filling,
    Abandoned,
}

impl State {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "LIVE",
            Self::Filling => "FILLING",
            Self::Abandoned => "ABANDONED",
        }
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct GenerationDocument {
    #[serde(rename = "_id")]
    pub generation: Generation,
    pub state: State,
    /// Orders that count, and their lines.
    pub orders: i64,
    pub lines: i64,
}

impl GenerationDocument {
    fn new(generation: Generation, state: State) -> Self {
        Self { generation, state, orders: 0, lines: 0 }
    }
}

fn of_state(state: State) -> Document {
    doc! { "state": state.as_str() }
}

/// All generations, the oldest first; the first one is made when there is none.
async fn all(tx: &mut Tx) -> Result<Vec<GenerationDocument>, Failure> {
    let generations = tx.collection::<GenerationDocument>(GENERATIONS);
    let found = generations.find(doc! {}).sort(doc! { "_id": 1 }).session(tx.session()).await?;
    let mut found = tx.collect(found).await?;
    if found.is_empty() {
        let first = GenerationDocument::new(FIRST, State::Live);
        generations.insert_one(&first).session(tx.session()).await?;
        found.push(first);
    }
    Ok(found)
}

/// Those into which an order counts.
pub(super) async fn in_use(tx: &mut Tx) -> Result<Vec<Generation>, Failure> {
    let found = all(tx).await?.into_iter().filter(|found| found.state != State::Abandoned);
    Ok(found.map(|found| found.generation).collect())
}

/// The one that serves.
pub(super) async fn live(tx: &mut Tx) -> Result<GenerationDocument, Failure> {
    let live = tx.collection(GENERATIONS).find_one(of_state(State::Live)).session(tx.session()).await?;
    Ok(live.unwrap_or_else(|| GenerationDocument::new(FIRST, State::Live)))
}

/// The number of the one that serves, read by itself.
pub(super) async fn live_number(generations: &Collection<GenerationDocument>) -> Result<Generation, Failure> {
    Ok(generations.find_one(of_state(State::Live)).await?.map_or(FIRST, |live| live.generation))
}

pub(super) async fn is_filling(tx: &mut Tx, generation: Generation) -> Result<bool, Failure> {
    let filling = doc! { "_id": generation, "state": State::Filling.as_str() };
    let found = tx.collection::<GenerationDocument>(GENERATIONS).find_one(filling).session(tx.session()).await?;
    Ok(found.is_some())
}

/// Changes nothing that is read, so that of two transactions one has to wait for the other.
fn touched(filter: Document) -> Update {
    Update::all(filter, doc! { "$inc": { "touched": 1 } })
}

/// Lets whatever counts into these at this moment, a rebuild too, run again after this transaction.
pub(super) async fn touch(tx: &mut Tx, generations: &[Generation]) -> Result<(), Failure> {
    tx.update(GENERATIONS, vec![touched(doc! { "_id": { "$in": generations } })]).await?;
    Ok(())
}

pub(super) async fn begin(tx: &mut Tx) -> Result<Generation, Failure> {
    let newest = all(tx).await?.last().map_or(FIRST, |newest| newest.generation);
    let given_up = doc! { "$set": of_state(State::Abandoned) };
    // What is being counted at this moment runs into the change of the live one, and counts into both.
    let updates = vec![Update::all(of_state(State::Filling), given_up), touched(of_state(State::Live))];
    tx.update(GENERATIONS, updates).await?;
    let next = GenerationDocument::new(newest + 1, State::Filling);
    tx.collection(GENERATIONS).insert_one(next).session(tx.session()).await?;
    Ok(newest + 1)
}

pub(super) async fn finish(tx: &mut Tx, generation: Generation) -> Result<RebuildStep, Failure> {
    if !is_filling(tx, generation).await? {
        return Ok(RebuildStep::Superseded);
    }
    let swap = vec![
        Update::one(of_state(State::Live), doc! { "$set": of_state(State::Abandoned) }),
        Update::one(doc! { "_id": generation }, doc! { "$set": of_state(State::Live) }),
    ];
    tx.update(GENERATIONS, swap).await?;
    Ok(RebuildStep::Done)
}

/// Some of what the oldest abandoned generation holds; the generation itself when that was all.
pub(super) async fn remove_abandoned(database: &MongoDatabase) -> Result<bool, StoreError> {
    let generations = database.collection::<GenerationDocument>(GENERATIONS);
    let collections = [ITEMS, PURCHASES].map(|name| database.collection::<Document>(name));
    database
        .write(async move {
            let oldest = generations.find_one(of_state(State::Abandoned)).sort(doc! { "_id": 1 }).await?;
            let Some(GenerationDocument { generation, .. }) = oldest else { return Ok(false) };
            let mut removed = 0;
            for collection in collections {
                let some = collection
                    .find(doc! { "_id.generation": generation })
                    .projection(doc! { "_id": 1 })
                    .limit(REMOVED_AT_ONCE)
                    .await?;
                let ids: Vec<Document> = some.try_collect().await?;
                let ids: Vec<Document> = ids.iter().filter_map(|some| some.get_document("_id").ok().cloned()).collect();
                if !ids.is_empty() {
                    removed += collection.delete_many(doc! { "_id": { "$in": ids } }).await?.deleted_count;
                }
            }
            if removed == 0 {
                generations.delete_one(doc! { "_id": generation }).await?;
            }
            Ok(true)
        })
        .await
}
