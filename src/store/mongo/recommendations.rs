//! The recommendations database: counts and history by generation ([`super::co_purchases`], [`super::generations`], read by
//! [`super::evidence`]), and by user what outlives a rebuild ([`super::readers`]).

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use futures_util::TryStreamExt;
use mongodb::bson::doc;
use serde::Deserialize;

use super::co_purchases::{ITEMS, PURCHASES, count, forgotten};
use super::database::MongoDatabase;
use super::failure::Failure;
use super::generations::{GENERATIONS, GenerationDocument, live_number};
use super::migrations::{Change, Migration, collection, index, indexes, partial_index};
use super::readers::{RATINGS, READERS};
use super::transaction::Tx;
use super::updates::Update;
use super::{consumption, evidence, generations, outbox, readers};
use crate::domain::ids::{ProductId, UserId};
use crate::domain::recommendations::{Evidence, HistoryChange, Limits, Purchase};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::consumption::{Consumed, Consumption};
use crate::store::recommendations::{Announcement, DueUser, Generation, RebuildStep, RecommendationStore, UserHistory};

const MIGRATIONS: &[Migration] = &[Migration { name: "recommendations", changes }];

fn changes() -> Vec<Change> {
    let mut changes = Vec::from(outbox::collections());
    changes.extend(consumption::collections());
    changes.extend([
        collection(
            GENERATIONS,
            &[("_id", &["long"]), ("state", &["string"]), ("orders", &["long"]), ("lines", &["long"])],
        ),
        collection(
            ITEMS,
            &[
                ("_id", &["object"]),
                ("category", &["string"]),
                ("orders", &["long"]),
                ("before", &["long"]),
                ("after", &["long"]),
                ("neighbours?", &["object"]),
                ("trimmed?", &["bool"]),
            ],
        ),
        indexes(
            ITEMS,
            [
                index("items_by_orders", doc! { "_id.generation": 1, "orders": -1, "_id": 1 }),
                index("items_by_category", doc! { "_id.generation": 1, "category": 1, "orders": -1, "_id": 1 }),
            ],
        ),
        collection(PURCHASES, &[("_id", &["object"]), ("state", &["string"]), ("bought?", &["object"])]),
        indexes(
            PURCHASES,
            [
                partial_index(
                    "purchases_by_user",
                    doc! { "bought.userId": 1, "_id.generation": 1, "_id.orderId": -1 },
                    doc! { "bought.userId": { "$exists": true } },
                ),
                index("purchases_by_generation", doc! { "_id.generation": 1 }),
            ],
        ),
        collection(RATINGS, &[("_id", &["object"]), ("liked", &["bool"]), ("at", &["date"])]),
        indexes(RATINGS, [index("ratings_by_user", doc! { "_id.userId": 1, "at": -1 })]),
        collection(
            READERS,
            &[
                ("_id", &["string"]),
                ("changes", &["long"]),
                ("sequence", &["long"]),
                ("dueSince?", &["date"]),
                ("announced?", &["object"]),
                ("deleted", &["bool"]),
            ],
        ),
        indexes(
            READERS,
            [partial_index("readers_due", doc! { "dueSince": 1, "_id": 1 }, doc! { "dueSince": { "$exists": true } })],
        ),
    ]);
    changes
}

/// Purchase history and counts in their MongoDB database.
pub struct MongoRecommendationStore {
    database: MongoDatabase,
}

super::store_over_database!(MongoRecommendationStore, Recommendations, MIGRATIONS);
super::outbox_over_database!(MongoRecommendationStore);

#[async_trait]
impl RecommendationStore for MongoRecommendationStore {
    async fn apply(
        &self,
        changes: Vec<HistoryChange>,
        limits: Limits,
        consumption: Consumption,
    ) -> Result<Consumed<()>, StoreError> {
        self.database
            .consume_with(consumption, (changes, limits), |tx, (changes, limits)| Box::pin(apply(tx, changes, limits)))
            .await
    }

    async fn rate(&self, user: UserId, product: ProductId, liked: bool, at: Timestamp) -> Result<(), StoreError> {
        self.database.transaction((), move |tx, ()| Box::pin(readers::rate(tx, user, product, liked, at))).await
    }

    async fn evidence(&self, users: &[UserId], limits: Limits) -> Result<Vec<Evidence>, StoreError> {
        self.database
            .transaction((users.to_vec(), limits), |tx, (users, limits)| Box::pin(evidence::of(tx, users, limits)))
            .await
    }

    async fn due_users(&self, limit: u32) -> Result<Vec<DueUser>, StoreError> {
        readers::due(&self.database, limit).await
    }

    async fn announce(&self, announcements: Vec<Announcement>, at: Timestamp) -> Result<(), StoreError> {
        self.database
            .transaction((announcements, at), |tx, (announcements, at)| {
                Box::pin(readers::announce(tx, announcements, *at))
            })
            .await
    }

    async fn buyers_of(&self, category: &str, users: &[UserId]) -> Result<Vec<UserId>, StoreError> {
        let bought = self.bought(users, Some(category)).await?;
        let buyers: HashSet<UserId> = bought.into_iter().map(|bought| bought.key.user_id).collect();
        Ok(users.iter().copied().filter(|user| buyers.contains(user)).collect())
    }

    async fn favourite_categories(
        &self,
        users: &[UserId],
        limit: u32,
    ) -> Result<Vec<(UserId, Vec<String>)>, StoreError> {
        let mut bought = self.bought(users, None).await?;
        bought.sort_unstable_by(|one, other| {
            other.count.cmp(&one.count).then_with(|| one.key.category.cmp(&other.key.category))
        });
        let mut favourites: HashMap<UserId, Vec<String>> = HashMap::new();
        for Bought { key, .. } in bought {
            let categories = favourites.entry(key.user_id).or_default();
            if categories.len() < limit as usize {
                categories.push(key.category);
            }
        }
        Ok(users.iter().filter_map(|user| favourites.remove_entry(user)).collect())
    }

    async fn history(&self, user: UserId) -> Result<UserHistory, StoreError> {
        self.database.transaction((), move |tx, ()| Box::pin(evidence::history(tx, user))).await
    }

    async fn begin_rebuild(&self) -> Result<Generation, StoreError> {
        self.database.transaction((), |tx, ()| Box::pin(generations::begin(tx))).await
    }

    async fn rebuild(
        &self,
        generation: Generation,
        purchases: Vec<Purchase>,
        limits: Limits,
    ) -> Result<RebuildStep, StoreError> {
        let changes: Vec<_> = purchases.into_iter().map(HistoryChange::Bought).collect();
        self.database
            .transaction((changes, limits), move |tx, (changes, limits)| {
                Box::pin(rebuild(tx, generation, changes, limits))
            })
            .await
    }

    async fn finish_rebuild(&self, generation: Generation) -> Result<RebuildStep, StoreError> {
        self.database.transaction((), move |tx, ()| Box::pin(generations::finish(tx, generation))).await
    }

    async fn remove_abandoned(&self) -> Result<bool, StoreError> {
        generations::remove_abandoned(&self.database).await
    }
}

/// How many products of a category a user has bought.
#[derive(Deserialize)]
struct Bought {
    #[serde(rename = "_id")]
    key: BoughtKey,
    count: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BoughtKey {
    user_id: UserId,
    category: String,
}

impl MongoRecommendationStore {
    /// What these users have bought of each category, or of one.
    async fn bought(&self, users: &[UserId], category: Option<&str>) -> Result<Vec<Bought>, StoreError> {
        let generations = self.database.collection::<GenerationDocument>(GENERATIONS);
        let purchases = self.database.collection::<Bought>(PURCHASES);
        let users: Vec<String> = users.iter().map(UserId::to_string).collect();
        let of_category = category.map_or(doc! {}, |category| doc! { "bought.lines.category": category });
        self.database
            .read(async move {
                let mut own = doc! { "bought.userId": { "$in": users } };
                own.insert("_id.generation", live_number(&generations).await?);
                own.extend(of_category.clone());
                let counted = purchases
                    .aggregate([
                        doc! { "$match": own },
                        doc! { "$unwind": "$bought.lines" },
                        doc! { "$match": of_category },
                        doc! { "$group": {
                            "_id": { "userId": "$bought.userId", "category": "$bought.lines.category" },
                            "count": { "$sum": 1_i64 },
                        } },
                    ])
                    .with_type::<Bought>()
                    .await?;
                Ok(counted.try_collect().await?)
            })
            .await
    }
}

async fn apply(tx: &mut Tx, changes: &[HistoryChange], limits: &Limits) -> Result<(), Failure> {
    let generations = generations::in_use(tx).await?;
    if tx.is_repeated() {
        generations::touch(tx, &generations).await?;
    }
    let mut deleted = readers::deleted(tx, changes.iter().map(HistoryChange::user_id)).await?;
    count(tx, &generations, changes, &mut deleted, limits).await?;
    let (mut buyers, mut erased) = (HashSet::new(), HashSet::new());
    for change in changes {
        match change {
            HistoryChange::UserDeleted(user) => erased.insert(*user),
            HistoryChange::Bought(_) | HistoryChange::Cancelled(_) => buyers.insert(change.user_id()),
        };
    }
    if !erased.is_empty() {
        let erased: Vec<UserId> = erased.into_iter().collect();
        let texts: Vec<String> = erased.iter().map(UserId::to_string).collect();
        generations::touch(tx, &generations).await?;
        tx.update(PURCHASES, vec![Update::all(doc! { "bought.userId": { "$in": texts } }, forgotten())]).await?;
        readers::erase(tx, &erased).await?;
    }
    readers::mark_due(tx, buyers.into_iter().filter(|user| !deleted.contains(user))).await
}

async fn rebuild(
    tx: &mut Tx,
    generation: Generation,
    changes: &[HistoryChange],
    limits: &Limits,
) -> Result<RebuildStep, Failure> {
    if !generations::is_filling(tx, generation).await? {
        return Ok(RebuildStep::Superseded);
    }
    if tx.is_repeated() {
        generations::touch(tx, &[generation]).await?;
    }
    let mut deleted = readers::deleted(tx, changes.iter().map(HistoryChange::user_id)).await?;
    count(tx, &[generation], changes, &mut deleted, limits).await?;
    Ok(RebuildStep::Done)
}
