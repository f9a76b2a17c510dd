//! Inboxes: a page with its counts in two commands, what was read, and what a stream has still to send.
//!
//! A user's notifications are numbered in the order in which they were made, in the transaction that makes them. The number
//! is the cursor of a page and the position of a stream: it is exact, whatever the clocks of several processes say.

use futures_util::TryStreamExt;
use mongodb::bson::{Document, doc};
use serde::Deserialize;

use super::database::MongoDatabase;
use super::failure::Failure;
use super::notification_documents::{NOTIFICATIONS, NotificationDocument, Stored, find, save};
use super::transaction::Tx;
use crate::domain::events::event_type;
use crate::domain::ids::{CampaignId, NotificationId, UserId};
use crate::domain::notifications::{CampaignTally, Notification, NotificationStatus};
use crate::domain::page::PageRequest;
use crate::domain::time::Timestamp;
use crate::store::notifications::{InboxPage, MarkRead, Marked};
use crate::store::{StoreError, cursor};

pub(super) async fn by_ids(
    database: &MongoDatabase,
    ids: &[NotificationId],
    user: Option<UserId>,
) -> Result<Vec<Notification>, StoreError> {
    let ids: Vec<String> = ids.iter().map(NotificationId::to_string).collect();
    let mut filter = doc! { "_id": { "$in": ids } };
    if let Some(user) = user {
        filter.insert("userId", user.to_string());
    }
    let notifications = database.collection::<NotificationDocument>(NOTIFICATIONS);
    let found = database.read(async move { stored(notifications.find(filter).await?.try_collect().await?) }).await?;
    Ok(found.into_iter().map(|stored| stored.notification).collect())
}

pub(super) async fn page(
    database: &MongoDatabase,
    user: UserId,
    unread_only: bool,
    request: &PageRequest,
) -> Result<InboxPage, StoreError> {
    #[derive(Default, Deserialize)]
    struct Counts {
        total: i64,
        unread: i64,
    }
    let mut filter = doc! { "userId": user.to_string() };
    if unread_only {
        filter.insert("read", false);
    }
    if let Some(after) = &request.after {
        filter.insert("number", doc! { "$lt": cursor::decode::<i64>(after)? });
    }
    let notifications = database.collection::<NotificationDocument>(NOTIFICATIONS);
    let limit = i64::from(request.first) + 1;
    let count = [
        doc! { "$match": { "userId": user.to_string() } },
        doc! { "$group": {
            "_id": null,
            "total": { "$sum": 1_i64 },
            "unread": { "$sum": { "$cond": ["$read", 0_i64, 1_i64] } },
        } },
    ];
    let (listed, counts) = database
        .read(async move {
            let listed = notifications.find(filter).sort(doc! { "number": -1 }).limit(limit).await?;
            let listed = stored(listed.try_collect().await?)?;
            let mut counts = notifications.aggregate(count).with_type::<Counts>().await?;
            Ok((listed, counts.try_next().await?.unwrap_or_default()))
        })
        .await?;
    let entries = listed.into_iter().map(|stored| (cursor::encode(&stored.number), stored.notification)).collect();
    let total = if unread_only { counts.unread } else { counts.total };
    Ok(InboxPage { page: cursor::page(entries, request, total), unread: counts.unread.unsigned_abs() })
}

pub(super) async fn mark_read(tx: &mut Tx, user: UserId, which: &MarkRead, at: Timestamp) -> Result<Marked, Failure> {
    let mut unread = match which {
        MarkRead::These(ids) => {
            let texts: Vec<String> = ids.iter().map(NotificationId::to_string).collect();
            let own = find(tx, doc! { "_id": { "$in": texts }, "userId": user.to_string() }).await?;
            let is_own = |id: &NotificationId| own.iter().any(|stored| stored.notification.id == *id);
            if let Some(position) = ids.iter().position(|id| !is_own(id)) {
                return Ok(Marked::NotFound { position });
            }
            own
        }
        MarkRead::Unread(limit) => {
            let notifications = tx.collection::<NotificationDocument>(NOTIFICATIONS);
            let unread = doc! { "userId": user.to_string(), "read": false };
            let unread = notifications.find(unread).limit(i64::from(*limit));
            let unread = unread.session(tx.session()).await?;
            stored(tx.collect(unread).await?)?
        }
    };
    unread.retain(|stored| !stored.notification.read);
    for stored in &mut unread {
        stored.notification.read = true;
        tx.emit(stored.notification.event(event_type::NOTIFICATION_READ, at));
    }
    let marked = unread.len() as u64;
    save(tx, unread).await?;
    Ok(Marked::Done(marked))
}

pub(super) async fn latest(database: &MongoDatabase, user: UserId) -> Result<String, StoreError> {
    #[derive(Deserialize)]
    struct Latest {
        number: i64,
    }
    let notifications = database.collection::<Latest>(NOTIFICATIONS);
    let latest = async move {
        let latest = notifications.find_one(doc! { "userId": user.to_string() }).sort(doc! { "number": -1 });
        Ok(latest.projection(doc! { "_id": 0, "number": 1 }).await?)
    };
    let latest = database.read(latest).await?;
    Ok(cursor::encode(&latest.map_or(0, |latest| latest.number)))
}

pub(super) async fn after(
    database: &MongoDatabase,
    user: UserId,
    cursor: &str,
    limit: u32,
) -> Result<Vec<(String, Notification)>, StoreError> {
    let after: i64 = cursor::decode(cursor)?;
    let filter = doc! { "userId": user.to_string(), "number": { "$gt": after } };
    let received = oldest_first(database, filter, i64::from(limit)).await?;
    Ok(received.into_iter().map(|stored| (cursor::encode(&stored.number), stored.notification)).collect())
}

pub(super) async fn export(database: &MongoDatabase, user: UserId) -> Result<Vec<Notification>, StoreError> {
    let kept = oldest_first(database, doc! { "userId": user.to_string() }, 0).await?;
    Ok(kept.into_iter().map(|stored| stored.notification).collect())
}

/// No limit: 0.
async fn oldest_first(database: &MongoDatabase, filter: Document, limit: i64) -> Result<Vec<Stored>, StoreError> {
    let notifications = database.collection::<NotificationDocument>(NOTIFICATIONS);
    database
        .read(async move {
            let found = notifications.find(filter).sort(doc! { "number": 1 }).limit(limit).await?;
            stored(found.try_collect().await?)
        })
        .await
}

fn stored(documents: Vec<NotificationDocument>) -> Result<Vec<Stored>, Failure> {
    documents.into_iter().map(Stored::try_from).collect()
}

pub(super) async fn tallies(
    database: &MongoDatabase,
    ids: &[CampaignId],
) -> Result<Vec<(CampaignId, CampaignTally)>, StoreError> {
    #[derive(Deserialize)]
    struct Counted {
        #[serde(rename = "_id")]
        of: Of,
        count: i64,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Of {
        campaign_id: CampaignId,
        status: String,
    }
    let texts: Vec<String> = ids.iter().map(CampaignId::to_string).collect();
    let count = [
        doc! { "$match": { "campaignId": { "$in": texts } } },
        doc! { "$group": {
            "_id": { "campaignId": "$campaignId", "status": "$status" }, "count": { "$sum": 1_i64 },
        } },
    ];
    let notifications = database.collection::<Counted>(NOTIFICATIONS);
    let counted = async move { Ok(notifications.aggregate(count).with_type().await?.try_collect().await?) };
    let counted: Vec<Counted> = database.read(counted).await?;
    let mut tallies: Vec<_> = ids.iter().map(|id| (*id, CampaignTally::default())).collect();
    for Counted { of, count } in counted {
        let count = count.unsigned_abs();
        for (_, tally) in tallies.iter_mut().filter(|(id, _)| *id == of.campaign_id) {
            tally.total += count;
            match NotificationStatus::ALL.into_iter().find(|status| status.as_str() == of.status) {
                Some(NotificationStatus::Queued) => tally.queued += count,
                Some(NotificationStatus::Sent) => tally.sent += count,
                Some(NotificationStatus::Skipped) => tally.skipped += count,
                Some(NotificationStatus::Dead) => tally.dead += count,
                None => {}
            }
        }
    }
    Ok(tallies)
}
