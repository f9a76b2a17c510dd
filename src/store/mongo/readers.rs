//! Who is to be told that their recommendations may have changed, what was last announced to them, and what they think of
//! products. This outlives a rebuild.

use std::collections::{HashMap, HashSet};

use futures_util::TryStreamExt;
use mongodb::bson::{DateTime, Document, doc, serialize_to_bson};
use serde::{Deserialize, Serialize};

use super::database::MongoDatabase;
use super::failure::Failure;
use super::notification_content::RecommendedDocument;
use super::transaction::Tx;
use super::updates::Update;
use super::values::{self, date};
use crate::domain::ids::{ProductId, UserId};
use crate::domain::recommendations::changed_event;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::recommendations::{Announcement, DueUser};

pub(super) const READERS: &str = "readers";
pub(super) const RATINGS: &str = "ratings";

#[derive(Deserialize)]
struct ReaderDocument {
    #[serde(rename = "_id")]
    user_id: UserId,
    changes: i64,
    /// Of the user's events.
    sequence: i64,
    announced: Option<Announced>,
}

/// What was last announced.
#[derive(PartialEq, Serialize, Deserialize)]
struct Announced {
    items: Vec<RecommendedDocument>,
    scores: Vec<f64>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RatingKey {
    pub user_id: UserId,
    pub product_id: ProductId,
}

#[derive(Serialize, Deserialize)]
pub(super) struct RatingDocument {
    #[serde(rename = "_id")]
    pub key: RatingKey,
    pub liked: bool,
    #[serde(with = "values::time")]
    pub at: Timestamp,
}

/// Of these users, those who were deleted.
pub(super) async fn deleted(tx: &mut Tx, users: impl Iterator<Item = UserId>) -> Result<HashSet<UserId>, Failure> {
    #[derive(Deserialize)]
    struct Deleted {
        #[serde(rename = "_id")]
        user_id: UserId,
    }
    let users: HashSet<UserId> = users.collect();
    if users.is_empty() {
        return Ok(HashSet::new());
    }
    let users: Vec<String> = users.iter().map(UserId::to_string).collect();
    let readers = tx.collection::<Deleted>(READERS);
    let deleted = readers.find(doc! { "_id": { "$in": users }, "deleted": true }).projection(doc! { "_id": 1 });
    let deleted = deleted.session(tx.session()).await?;
    Ok(tx.collect(deleted).await?.into_iter().map(|deleted| deleted.user_id).collect())
}

/// Who is due already stays so since then.
pub(super) async fn mark_due(tx: &mut Tx, users: impl Iterator<Item = UserId>) -> Result<(), Failure> {
    let now = DateTime::now();
    let mark = |user: UserId| {
        let due = doc! {
            "$inc": { "changes": 1_i64 },
            "$min": { "dueSince": now },
            "$setOnInsert": { "sequence": 0_i64, "deleted": false },
        };
        Update::one(doc! { "_id": user.to_string() }, due).or_insert()
    };
    let updates: Vec<Update> = users.map(mark).collect();
    if !updates.is_empty() {
        tx.update(READERS, updates).await?;
    }
    Ok(())
}

/// Forgets ratings and announcements for good: what comes later of these users is not kept either.
pub(super) async fn erase(tx: &mut Tx, users: &[UserId]) -> Result<(), Failure> {
    let erase = |user: &UserId| {
        let deleted = doc! {
            "$inc": { "changes": 1_i64 },
            "$unset": { "dueSince": "", "announced": "" },
            "$set": { "deleted": true },
            "$setOnInsert": { "sequence": 0_i64 },
        };
        Update::one(doc! { "_id": user.to_string() }, deleted).or_insert()
    };
    tx.update(READERS, users.iter().map(erase).collect()).await?;
    let texts: Vec<String> = users.iter().map(UserId::to_string).collect();
    let ratings = tx.collection::<Document>(RATINGS);
    ratings.delete_many(doc! { "_id.userId": { "$in": texts } }).session(tx.session()).await?;
    Ok(())
}

pub(super) async fn rate(
    tx: &mut Tx,
    user: UserId,
    product: ProductId,
    liked: bool,
    at: Timestamp,
) -> Result<(), Failure> {
    if !deleted(tx, std::iter::once(user)).await?.is_empty() {
        return Ok(());
    }
    let key = doc! { "userId": user.to_string(), "productId": product.to_string() };
    let rating = doc! { "$set": { "liked": liked, "at": date(at) } };
    tx.update(RATINGS, vec![Update::one(doc! { "_id": key }, rating).or_insert()]).await?;
    mark_due(tx, std::iter::once(user)).await
}

pub(super) async fn due(database: &MongoDatabase, limit: u32) -> Result<Vec<DueUser>, StoreError> {
    #[derive(Deserialize)]
    struct Due {
        #[serde(rename = "_id")]
        user_id: UserId,
        changes: i64,
    }
    let readers = database.collection::<Due>(READERS);
    let due = async move {
        let due = readers.find(doc! { "dueSince": { "$exists": true } }).projection(doc! { "changes": 1 });
        Ok(due.sort(doc! { "dueSince": 1, "_id": 1 }).limit(i64::from(limit)).await?.try_collect().await?)
    };
    let due: Vec<Due> = database.read(due).await?;
    Ok(due.into_iter().map(|due| DueUser { user_id: due.user_id, changes: due.changes }).collect())
}

pub(super) async fn announce(tx: &mut Tx, announcements: &[Announcement], at: Timestamp) -> Result<(), Failure> {
    let users: Vec<String> = announcements.iter().map(|one| one.due.user_id.to_string()).collect();
    let known = tx.collection::<ReaderDocument>(READERS);
    let due = doc! { "_id": { "$in": users }, "dueSince": { "$exists": true } };
    let due = known.find(due).session(tx.session()).await?;
    let mut readers: HashMap<UserId, ReaderDocument> =
        tx.collect(due).await?.into_iter().map(|reader| (reader.user_id, reader)).collect();
    let mut updates = Vec::new();
    for announcement in announcements {
        let user = announcement.due.user_id;
        let Some(reader) = readers.remove(&user) else { continue };
        if reader.changes != announcement.due.changes {
            continue;
        }
        let items = announcement.items.iter().cloned().map(Into::into).collect();
        let now = Announced { items, scores: announcement.scores.clone() };
        let is_news = match &reader.announced {
            Some(announced) => *announced != now,
            None => !now.items.is_empty(),
        };
        let mut change = doc! { "$unset": { "dueSince": "" } };
        if is_news {
            let sequence = reader.sequence + 1;
            change.insert("$set", doc! { "sequence": sequence, "announced": serialize_to_bson(&now)? });
            tx.emit(changed_event(user, sequence, announcement.items.clone(), at));
        }
        updates.push(Update::one(doc! { "_id": user.to_string() }, change));
    }
    if !updates.is_empty() {
        tx.update(READERS, updates).await?;
    }
    Ok(())
}
