//! Campaigns in the products database: `campaigns` by their ids, which are in the order of their launch, and
//! `campaign_schedules` with what was fired.

use std::collections::HashSet;

use async_trait::async_trait;
use futures_util::future::try_join;
use futures_util::{FutureExt, TryStreamExt};
use mongodb::bson::{Bson, doc};
use mongodb::options::ReturnDocument;
use serde::{Deserialize, Serialize};

use super::failure::{Failure, broken};
use super::migrations::{Change, collection, index, indexes, unique_index};
use super::products::MongoProductStore;
use super::transaction::Tx;
use super::values::{self, date};
use crate::domain::campaigns::{Audience, Campaign, Pitch, Step};
use crate::domain::events::PendingEvent;
use crate::domain::ids::{CampaignId, UserId};
use crate::domain::page::{Page, PageRequest};
use crate::domain::time::Timestamp;
use crate::store::campaigns::{AdvanceCampaign, CampaignStore, LaunchCampaign};
use crate::store::consumption::{Consumed, Consumption};
use crate::store::{StoreError, cursor};

const CAMPAIGNS: &str = "campaigns";
const SCHEDULES: &str = "campaign_schedules";
const BY_KEY: &str = "campaigns_by_key";

pub(super) fn collections() -> Vec<Change> {
    vec![
        collection(
            CAMPAIGNS,
            &[
                ("_id", &["string"]),
                ("key", &["string"]),
                ("subject", &["string"]),
                ("message", &["string"]),
                ("audience", &["string"]),
                ("category?", &["string"]),
                ("launchedAt", &["date"]),
                ("cursor?", &["string"]),
                ("chunks", &["long"]),
                ("audienceSize", &["long"]),
                ("finishedAt", &["date", "null"]),
            ],
        ),
        indexes(
            CAMPAIGNS,
            [unique_index(BY_KEY, doc! { "key": 1 }), index("campaigns_by_end", doc! { "finishedAt": 1, "_id": 1 })],
        ),
        collection(SCHEDULES, &[("_id", &["string"]), ("settledUntil", &["date"])]),
    ]
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CampaignDocument {
    #[serde(rename = "_id")]
    id: CampaignId,
    /// Why it was launched: the same reason launches one campaign.
    key: String,
    subject: String,
    message: String,
    audience: AudienceKind,
    /// Whose buyers are the audience.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    category: Option<String>,
    #[serde(with = "values::time")]
    launched_at: Timestamp,
    /// The last user that was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cursor: Option<UserId>,
    chunks: i64,
    audience_size: i64,
    /// Null until then, to be found by the index.
    #[serde(with = "values::optional_time")]
    finished_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum AudienceKind {
    Everybody,
    BuyersOf,
    Favourites,
}

/// The name of a schedule, and up to when its slots are done with.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ScheduleDocument {
    #[serde(rename = "_id")]
    name: String,
    #[serde(with = "values::time")]
    settled_until: Timestamp,
}

impl From<&Campaign> for CampaignDocument {
    fn from(campaign: &Campaign) -> Self {
        let Campaign { id, key, pitch, launched_at, cursor, chunks, audience_size, finished_at } = campaign.clone();
        let audience = match &pitch.audience {
            Audience::Everybody => AudienceKind::Everybody,
            Audience::BuyersOf(_) => AudienceKind::BuyersOf,
            Audience::Favourites => AudienceKind::Favourites,
        };
        let category = pitch.audience.category().map(str::to_owned);
        let Pitch { subject, message, .. } = pitch;
        Self { id, key, subject, message, audience, category, launched_at, cursor, chunks, audience_size, finished_at }
    }
}

impl TryFrom<CampaignDocument> for Campaign {
    type Error = Failure;

    fn try_from(document: CampaignDocument) -> Result<Self, Failure> {
        let CampaignDocument {
            id, key, subject, message, launched_at, cursor, chunks, audience_size, finished_at, ..
        } = document;
        let audience = match (document.audience, document.category) {
            (AudienceKind::Everybody, _) => Audience::Everybody,
            (AudienceKind::BuyersOf, Some(category)) => Audience::BuyersOf(category),
            (AudienceKind::BuyersOf, None) => return Err(broken("a campaign to buyers has no category")),
            (AudienceKind::Favourites, _) => Audience::Favourites,
        };
        let pitch = Pitch { subject, message, audience };
        Ok(Self { id, key, pitch, launched_at, cursor, chunks, audience_size, finished_at })
    }
}

#[async_trait]
impl CampaignStore for MongoProductStore {
    async fn launch_campaign(&self, campaign: Campaign, event: PendingEvent) -> Result<LaunchCampaign, StoreError> {
        self.database.transaction((campaign, event), |tx, (campaign, event)| launch(tx, campaign, event).boxed()).await
    }

    async fn launch_campaigns(
        &self,
        campaigns: Vec<(Campaign, PendingEvent)>,
        consumption: Consumption,
    ) -> Result<Consumed<()>, StoreError> {
        self.database.consume_with(consumption, campaigns, |tx, campaigns| launch_new(tx, campaigns).boxed()).await
    }

    async fn campaigns(&self, ids: &[CampaignId]) -> Result<Vec<Campaign>, StoreError> {
        let campaigns = self.database.collection::<CampaignDocument>(CAMPAIGNS);
        let ids: Vec<Bson> = ids.iter().map(|id| id.to_string().into()).collect();
        self.database
            .read(async move {
                let found: Vec<_> = campaigns.find(doc! { "_id": { "$in": ids } }).await?.try_collect().await?;
                found.into_iter().map(Campaign::try_from).collect()
            })
            .await
    }

    async fn list_campaigns(&self, page: &PageRequest) -> Result<Page<Campaign>, StoreError> {
        let campaigns = self.database.collection::<CampaignDocument>(CAMPAIGNS);
        let after: Option<CampaignId> = page.after.as_deref().map(cursor::decode).transpose()?;
        let listed = after.map(|id| doc! { "_id": { "$lt": id.to_string() } }).unwrap_or_default();
        let page = page.clone();
        self.database
            .read(async move {
                let found = campaigns.find(listed).sort(doc! { "_id": -1 });
                // One reply holds the page.
                let found = found.limit(i64::from(page.first) + 1).batch_size(page.first + 2);
                let found = async { found.await?.try_collect::<Vec<_>>().await };
                let (found, total) = try_join(found, campaigns.count_documents(doc! {}).into_future()).await?;
                let entry = |found: CampaignDocument| Ok((cursor::encode(&found.id), Campaign::try_from(found)?));
                let entries: Result<Vec<_>, Failure> = found.into_iter().map(entry).collect();
                Ok(cursor::page(entries?, &page, total as i64))
            })
            .await
    }

    async fn unfinished_campaign(&self) -> Result<Option<Campaign>, StoreError> {
        let campaigns = self.database.collection::<CampaignDocument>(CAMPAIGNS);
        let oldest = async move { Ok(campaigns.find_one(doc! { "finishedAt": null }).sort(doc! { "_id": 1 }).await?) };
        Ok(self.database.read(oldest).await?.map(Campaign::try_from).transpose()?)
    }

    async fn advance_campaign(&self, id: CampaignId, step: Step, at: Timestamp) -> Result<AdvanceCampaign, StoreError> {
        self.database.transaction((id, step, at), |tx, (id, step, at)| advance(tx, *id, step, *at).boxed()).await
    }

    async fn see_schedule(&self, name: &str, at: Timestamp) -> Result<Timestamp, StoreError> {
        let schedules = self.database.collection::<ScheduleDocument>(SCHEDULES);
        let name = name.to_owned();
        self.database
            .write(async move {
                let begins = doc! { "$setOnInsert": { "settledUntil": date(at) } };
                let seen = schedules.find_one_and_update(doc! { "_id": &name }, begins).upsert(true);
                let seen = seen.return_document(ReturnDocument::After).await?;
                seen.map(|seen| seen.settled_until).ok_or_else(|| broken("a schedule that was just seen is gone"))
            })
            .await
    }

    async fn fire_schedule(
        &self,
        name: &str,
        slot: Timestamp,
        campaign: Campaign,
        event: PendingEvent,
    ) -> Result<bool, StoreError> {
        let input = (name.to_owned(), slot, campaign, event);
        self.database
            .transaction(input, |tx, (name, slot, campaign, event)| fire(tx, name, *slot, campaign, event).boxed())
            .await
    }
}

async fn by_key(tx: &mut Tx, key: &str) -> Result<Option<Campaign>, Failure> {
    let campaigns = tx.collection::<CampaignDocument>(CAMPAIGNS);
    let found = campaigns.find_one(doc! { "key": key }).session(tx.session()).await?;
    found.map(Campaign::try_from).transpose()
}

async fn launch(tx: &mut Tx, campaign: &Campaign, event: &PendingEvent) -> Result<LaunchCampaign, Failure> {
    if let Some(existing) = by_key(tx, &campaign.key).await? {
        return Ok(LaunchCampaign::Existing(Box::new(existing)));
    }
    insert(tx, &[&(campaign.clone(), event.clone())]).await?;
    Ok(LaunchCampaign::Launched)
}

/// Those whose key was not used, each key once.
async fn launch_new(tx: &mut Tx, asked: &[(Campaign, PendingEvent)]) -> Result<(), Failure> {
    let keys: Vec<&str> = asked.iter().map(|(campaign, _)| campaign.key.as_str()).collect();
    let campaigns = tx.collection::<CampaignDocument>(CAMPAIGNS);
    let mut found = campaigns.find(doc! { "key": { "$in": keys } }).session(tx.session()).await?;
    let mut used = HashSet::new();
    while let Some(campaign) = found.next(tx.session()).await.transpose()? {
        used.insert(campaign.key);
    }
    let new: Vec<_> = asked.iter().filter(|(campaign, _)| used.insert(campaign.key.clone())).collect();
    insert(tx, &new).await
}

async fn insert(tx: &mut Tx, new: &[&(Campaign, PendingEvent)]) -> Result<(), Failure> {
    if new.is_empty() {
        return Ok(());
    }
    let campaigns = tx.collection::<CampaignDocument>(CAMPAIGNS);
    let documents = new.iter().map(|(campaign, _)| CampaignDocument::from(campaign));
    let inserted = campaigns.insert_many(documents).session(tx.session()).await;
    inserted.map_err(|error| Failure::from(error).or_conflict(BY_KEY))?;
    new.iter().for_each(|(_, event)| tx.emit(event.clone()));
    Ok(())
}

async fn advance(tx: &mut Tx, id: CampaignId, step: &Step, at: Timestamp) -> Result<AdvanceCampaign, Failure> {
    let campaigns = tx.collection::<CampaignDocument>(CAMPAIGNS);
    let stored = doc! { "_id": id.to_string() };
    let Some(found) = campaigns.find_one(stored.clone()).session(tx.session()).await? else {
        return Ok(AdvanceCampaign::Lost);
    };
    let mut campaign = Campaign::try_from(found)?;
    let Some(chunk) = campaign.advance(step.clone(), at) else { return Ok(AdvanceCampaign::Lost) };
    // Whoever else has moved it since the snapshot makes a conflict, after which its cursor is elsewhere.
    campaigns.replace_one(stored, CampaignDocument::from(&campaign)).session(tx.session()).await?;
    if let Some(chunk) = chunk {
        tx.emit(chunk);
    }
    Ok(AdvanceCampaign::Advanced(Box::new(campaign)))
}

/// Of two processes that fire a slot at once, the second runs into the first and then finds the slot settled.
async fn fire(
    tx: &mut Tx,
    name: &str,
    slot: Timestamp,
    campaign: &Campaign,
    event: &PendingEvent,
) -> Result<bool, Failure> {
    let schedules = tx.collection::<ScheduleDocument>(SCHEDULES);
    let unsettled = doc! { "_id": name, "settledUntil": { "$lt": date(slot) } };
    let settled = doc! { "$set": { "settledUntil": date(slot) } };
    let moved = schedules.update_one(unsettled, settled).session(tx.session()).await?;
    if moved.matched_count == 0 {
        return Ok(false);
    }
    Ok(launch(tx, campaign, event).await? == LaunchCampaign::Launched)
}
