//! Campaigns in the products file: `campaigns` by the order of their launch, `campaign_schedules` with what was fired.

use async_trait::async_trait;
use rusqlite::{Connection, Row};

use super::cursor;
use super::database::Write;
use super::failure::Failure;
use super::migrations::Migration;
use super::products::SqliteProductStore;
use crate::domain::campaigns::{Campaign, Step};
use crate::domain::events::PendingEvent;
use crate::domain::ids::{CampaignId, UserId};
use crate::domain::page::{Page, PageRequest};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::campaigns::{AdvanceCampaign, CampaignStore, LaunchCampaign};
use crate::store::consumption::{Consumed, Consumption};

pub(super) const MIGRATION: Migration = Migration {
    name: "campaigns",
    sql: &["
        CREATE TABLE campaigns (
            position INTEGER PRIMARY KEY,
            id BLOB NOT NULL UNIQUE,
            -- Why it was launched: the same reason launches one campaign.
            launch_key TEXT NOT NULL UNIQUE,
            -- JSON
            pitch TEXT NOT NULL,
            launched_at INTEGER NOT NULL,
            -- The last user that was looked at.
            user_id BLOB,
            chunks INTEGER NOT NULL,
            audience_size INTEGER NOT NULL,
            finished_at INTEGER
        ) STRICT;
        CREATE INDEX campaigns_unfinished ON campaigns (position) WHERE finished_at IS NULL;
        CREATE TABLE campaign_schedules (
            name TEXT PRIMARY KEY,
            -- Slots up to this time are done with.
            settled_until INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID;"],
};

/// The columns that [`decode`] reads.
macro_rules! columns {
    () => {
        "position, id, launch_key, pitch, launched_at, user_id, chunks, audience_size, finished_at"
    };
}

#[async_trait]
impl CampaignStore for SqliteProductStore {
    async fn launch_campaign(&self, campaign: Campaign, event: PendingEvent) -> Result<LaunchCampaign, StoreError> {
        self.database
            .write(move |write| {
                if let Some(existing) = by_key(write.sql(), &campaign.key)? {
                    return Ok(LaunchCampaign::Existing(Box::new(existing)));
                }
                insert(write, &campaign, event)?;
                Ok(LaunchCampaign::Launched)
            })
            .await
    }

    async fn launch_campaigns(
        &self,
        campaigns: Vec<(Campaign, PendingEvent)>,
        consumption: Consumption,
    ) -> Result<Consumed<()>, StoreError> {
        self.database
            .consume_with(consumption, move |write| {
                for (campaign, event) in campaigns {
                    if by_key(write.sql(), &campaign.key)?.is_none() {
                        insert(write, &campaign, event)?;
                    }
                }
                Ok(())
            })
            .await
    }

    async fn campaigns(&self, ids: &[CampaignId]) -> Result<Vec<Campaign>, StoreError> {
        let ids = ids.to_vec();
        self.database
            .read(move |connection| ids.iter().filter_map(|id| by_id(connection, *id).transpose()).collect())
            .await
    }

    async fn list_campaigns(&self, page: &PageRequest) -> Result<Page<Campaign>, StoreError> {
        let page = page.clone();
        self.database.read(move |connection| list(connection, &page)).await
    }

    async fn unfinished_campaign(&self) -> Result<Option<Campaign>, StoreError> {
        self.database
            .read(|connection| {
                let mut statement = connection.prepare_cached(concat!(
                    "SELECT ",
                    columns!(),
                    " FROM campaigns WHERE finished_at IS NULL ORDER BY position LIMIT 1"
                ))?;
                let mut rows = statement.query(())?;
                rows.next()?.map(|row| Ok(decode(row)?.1)).transpose()
            })
            .await
    }

    async fn advance_campaign(&self, id: CampaignId, step: Step, at: Timestamp) -> Result<AdvanceCampaign, StoreError> {
        self.database
            .write(move |write| {
                let Some(mut campaign) = by_id(write.sql(), id)? else { return Ok(AdvanceCampaign::Lost) };
                let Some(chunk) = campaign.advance(step, at) else { return Ok(AdvanceCampaign::Lost) };
                save_progress(write.sql(), &campaign)?;
                if let Some(chunk) = chunk {
                    write.emit(chunk)?;
                }
                Ok(AdvanceCampaign::Advanced(Box::new(campaign)))
            })
            .await
    }

    async fn see_schedule(&self, name: &str, at: Timestamp) -> Result<Timestamp, StoreError> {
        let name = name.to_owned();
        self.database
            .write(move |write| {
                write
                    .sql()
                    .prepare_cached(
                        "INSERT INTO campaign_schedules (name, settled_until) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
                    )?
                    .execute((&name, at.0))?;
                let mut query =
                    write.sql().prepare_cached("SELECT settled_until FROM campaign_schedules WHERE name = ?1")?;
                Ok(Timestamp(query.query_row([&name], |row| row.get(0))?))
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
        let name = name.to_owned();
        self.database
            .write(move |write| {
                let moved = write
                    .sql()
                    .prepare_cached(
                        "UPDATE campaign_schedules SET settled_until = ?2 WHERE name = ?1 AND settled_until < ?2",
                    )?
                    .execute((&name, slot.0))?;
                let fires = moved == 1 && by_key(write.sql(), &campaign.key)?.is_none();
                if fires {
                    insert(write, &campaign, event)?;
                }
                Ok(fires)
            })
            .await
    }
}

fn insert(write: &mut Write<'_>, campaign: &Campaign, event: PendingEvent) -> Result<(), Failure> {
    write
        .sql()
        .prepare_cached(
            "INSERT INTO campaigns (id, launch_key, pitch, launched_at, user_id, chunks, audience_size, finished_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute((
            campaign.id.as_bytes(),
            &campaign.key,
            serde_json::to_string(&campaign.pitch)?,
            campaign.launched_at.0,
            campaign.cursor.as_ref().map(UserId::as_bytes),
            campaign.chunks,
            campaign.audience_size,
            campaign.finished_at.map(|at| at.0),
        ))?;
    write.emit(event)
}

fn save_progress(connection: &Connection, campaign: &Campaign) -> Result<(), Failure> {
    connection
        .prepare_cached(
            "UPDATE campaigns SET user_id = ?2, chunks = ?3, audience_size = ?4, finished_at = ?5 WHERE id = ?1",
        )?
        .execute((
            campaign.id.as_bytes(),
            campaign.cursor.as_ref().map(UserId::as_bytes),
            campaign.chunks,
            campaign.audience_size,
            campaign.finished_at.map(|at| at.0),
        ))?;
    Ok(())
}

fn by_id(connection: &Connection, id: CampaignId) -> Result<Option<Campaign>, Failure> {
    let mut statement = connection.prepare_cached(concat!("SELECT ", columns!(), " FROM campaigns WHERE id = ?1"))?;
    let mut rows = statement.query([id.as_bytes()])?;
    rows.next()?.map(|row| Ok(decode(row)?.1)).transpose()
}

fn by_key(connection: &Connection, key: &str) -> Result<Option<Campaign>, Failure> {
    let mut statement =
        connection.prepare_cached(concat!("SELECT ", columns!(), " FROM campaigns WHERE launch_key = ?1"))?;
    let mut rows = statement.query([key])?;
    rows.next()?.map(|row| Ok(decode(row)?.1)).transpose()
}

fn list(connection: &Connection, page: &PageRequest) -> Result<Page<Campaign>, Failure> {
    let total = connection.prepare_cached("SELECT COUNT(*) FROM campaigns")?.query_row((), |row| row.get(0))?;
    let before = page.after.as_deref().map_or(Ok(i64::MAX), cursor::decode)?;
    let mut statement = connection.prepare_cached(concat!(
        "SELECT ",
        columns!(),
        " FROM campaigns WHERE position < ?1 ORDER BY position DESC LIMIT ?2"
    ))?;
    let mut rows = statement.query((before, i64::from(page.first) + 1))?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        let (position, campaign) = decode(row)?;
        entries.push((cursor::encode(&position), campaign));
    }
    Ok(cursor::page(entries, page, total))
}

fn decode(row: &Row<'_>) -> Result<(i64, Campaign), Failure> {
    let campaign = Campaign {
        id: CampaignId::from_bytes(row.get(1)?),
        key: row.get(2)?,
        pitch: serde_json::from_str(row.get_ref(3)?.as_str().map_err(rusqlite::Error::from)?)?,
        launched_at: Timestamp(row.get(4)?),
        cursor: row.get::<_, Option<[u8; 16]>>(5)?.map(UserId::from_bytes),
        chunks: row.get(6)?,
        audience_size: row.get(7)?,
        finished_at: row.get::<_, Option<i64>>(8)?.map(Timestamp),
    };
    Ok((row.get(0)?, campaign))
}
