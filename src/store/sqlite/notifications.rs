//! The notifications file: inboxes by the order in which notifications were made, and the queue of those that wait for
//! their mail ([`super::deliveries`]).

use async_trait::async_trait;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params_from_iter};

use super::database::{Database, Write};
use super::failure::Failure;
use super::notification_rows::{MIGRATIONS, Stored, by_id, by_position, columns, decode, insert, save};
use super::{cursor, deliveries};
use crate::domain::events::event_type;
use crate::domain::ids::{CampaignId, NotificationId, UserId};
use crate::domain::notifications::intake::{Admission, Intake, KnownUser, LastDigest, admit};
use crate::domain::notifications::{
    CampaignTally, NewNotification, Notification, NotificationKind, NotificationStatus,
};
use crate::domain::page::PageRequest;
use crate::domain::time::Timestamp;
use crate::domain::users::Preferences;
use crate::store::StoreError;
use crate::store::consumption::{Consumed, Consumption};
use crate::store::notifications::{
    Claim, ClaimWanted, InboxPage, Lease, MarkRead, Marked, NotificationStore, QueueDepths, SettleAttempt, Settled,
};

/// Notifications in their SQLite file.
pub struct SqliteNotificationStore {
    database: Database,
}

super::store_over_database!(SqliteNotificationStore, "notifications", MIGRATIONS);
super::outbox_over_database!(SqliteNotificationStore);

#[async_trait]
impl NotificationStore for SqliteNotificationStore {
    async fn take_in(
        &self,
        intake: Vec<Intake>,
        digest_every_days: u32,
        consumption: Consumption,
        at: Timestamp,
    ) -> Result<Consumed<()>, StoreError> {
        self.database
            .consume_with(consumption, move |write| {
                intake.into_iter().try_for_each(|intake| take_in(write, intake, digest_every_days, at))
            })
            .await
    }

    async fn insert_notifications(&self, batch: Vec<NewNotification>, at: Timestamp) -> Result<u64, StoreError> {
        self.database
            .write(move |write| {
                let mut inserted = 0;
                for new in batch {
                    let key = new.dedupe_key.clone();
                    inserted += u64::from(insert(write, new.admitted(None, at), &key, at)?);
                }
                Ok(inserted)
            })
            .await
    }

    async fn claim(&self, wanted: ClaimWanted) -> Result<Claim, StoreError> {
        self.database.write(move |write| deliveries::claim(write, &wanted)).await
    }

    async fn settle(&self, attempt: SettleAttempt) -> Result<Settled, StoreError> {
        self.database.write(move |write| deliveries::settle(write, attempt)).await
    }

    async fn release(&self, claimed: Vec<(NotificationId, Lease)>) -> Result<(), StoreError> {
        self.database.write(move |write| deliveries::release(write, &claimed)).await
    }

    async fn void_leases(&self, but: Vec<NotificationId>) -> Result<u64, StoreError> {
        self.database.write(move |write| deliveries::void_leases(write, &but)).await
    }

    async fn queue_depths(&self) -> Result<QueueDepths, StoreError> {
        self.database.read(deliveries::depths).await
    }

    async fn notifications(
        &self,
        ids: &[NotificationId],
        user: Option<UserId>,
    ) -> Result<Vec<Notification>, StoreError> {
        let ids = ids.to_vec();
        self.database
            .read(move |connection| {
                let found = ids.iter().filter_map(|id| by_id(connection, *id).transpose());
                let mut found = found.map(|stored| Ok(stored?.notification)).collect::<Result<Vec<_>, Failure>>()?;
                found.retain(|notification| user.is_none_or(|user| user == notification.user_id));
                Ok(found)
            })
            .await
    }

    async fn inbox(&self, user: UserId, unread_only: bool, page: &PageRequest) -> Result<InboxPage, StoreError> {
        let page = page.clone();
        self.database.read(move |connection| inbox(connection, user, unread_only, &page)).await
    }

    async fn mark_read(&self, user: UserId, which: MarkRead, at: Timestamp) -> Result<Marked, StoreError> {
        self.database
            .write(move |write| {
                let unread = match unread(write.sql(), user, &which)? {
                    Ok(unread) => unread,
                    Err(position) => return Ok(Marked::NotFound { position }),
                };
                for position in &unread {
                    let Some(mut stored) = by_position(write.sql(), *position)? else { continue };
                    stored.notification.read = true;
                    save(write, &mut stored, Some(event_type::NOTIFICATION_READ), at)?;
                }
                Ok(Marked::Done(unread.len() as u64))
            })
            .await
    }

    async fn latest_received(&self, user: UserId) -> Result<String, StoreError> {
        self.database
            .read(move |connection| {
                let mut last =
                    connection.prepare_cached("SELECT MAX(position) FROM notifications WHERE user_id = ?1")?;
                let last = last.query_row([user.as_bytes()], |row| row.get::<_, Option<i64>>(0))?;
                Ok(cursor::encode(&last.unwrap_or(0)))
            })
            .await
    }

    async fn received_after(
        &self,
        user: UserId,
        cursor: &str,
        limit: u32,
    ) -> Result<Vec<(String, Notification)>, StoreError> {
        let after: i64 = cursor::decode(cursor)?;
        self.database
            .read(move |connection| {
                let sql = concat!(
                    "SELECT ",
                    columns!(),
                    " FROM notifications WHERE user_id = ?1 AND position > ?2 ORDER BY position LIMIT ?3"
                );
                let mut statement = connection.prepare_cached(sql)?;
                let mut rows = statement.query((user.as_bytes(), after, limit))?;
                let mut received = Vec::new();
                while let Some(row) = rows.next()? {
                    let Stored { position, notification, .. } = decode(row)?;
                    received.push((cursor::encode(&position), notification));
                }
                Ok(received)
            })
            .await
    }

    async fn export_notifications(&self, user: UserId) -> Result<Vec<Notification>, StoreError> {
        self.database
            .read(move |connection| {
                Ok(of_user(connection, user)?.into_iter().map(|stored| stored.notification).collect())
            })
            .await
    }

    async fn campaign_tallies(&self, ids: &[CampaignId]) -> Result<Vec<(CampaignId, CampaignTally)>, StoreError> {
        let ids = ids.to_vec();
        self.database
            .read(move |connection| ids.into_iter().map(|id| Ok((id, campaign_tally(connection, id)?))).collect())
            .await
    }
}

fn take_in(write: &mut Write<'_>, intake: Intake, digest_every_days: u32, at: Timestamp) -> Result<(), Failure> {
    match intake {
        Intake::Tell(new) => {
            let known = known_user(write.sql(), new.user_id)?;
            let last_digest = match new.content.kind() {
                NotificationKind::Recommendation => last_digest(write.sql(), new.user_id)?,
                _ => None,
            };
            let skip = match admit(&new.content, known.as_ref(), last_digest, digest_every_days, at) {
                Admission::Queue => None,
                Admission::Skip(reason) => Some(reason),
                Admission::Drop => return Ok(()),
            };
            let key = new.dedupe_key.clone();
            insert(write, new.admitted(skip, at), &key, at)?;
            Ok(())
        }
        Intake::Remember { user_id, preferences, demo, as_of } => {
            remember(write, user_id, KnownUser { preferences, demo, erased: false, as_of })
        }
        Intake::Erase { user_id } => erase(write, user_id, at),
        Intake::Requeue { id, round } => {
            let Some(mut stored) = by_id(write.sql(), id)? else { return Ok(()) };
            if !stored.notification.requeue(round) {
                return Ok(());
            }
            stored.due_at = at;
            save(write, &mut stored, Some(event_type::NOTIFICATION_QUEUED), at)
        }
    }
}

fn known_user(connection: &Connection, user: UserId) -> Result<Option<KnownUser>, Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT order_updates, promotions, recommendations, demo, erased, as_of FROM known_users WHERE user_id = ?1",
    )?;
    let known = statement.query_row([user.as_bytes()], |row| {
        let preferences =
            Preferences { order_updates: row.get(0)?, promotions: row.get(1)?, recommendations: row.get(2)? };
        Ok(KnownUser { preferences, demo: row.get(3)?, erased: row.get(4)?, as_of: row.get(5)? })
    });
    Ok(known.optional()?)
}

fn remember(write: &Write<'_>, id: UserId, user: KnownUser) -> Result<(), Failure> {
    if !user.replaces(known_user(write.sql(), id)?.as_ref()) {
        return Ok(());
    }
    let KnownUser { preferences, demo, erased, as_of } = user;
    write
        .sql()
        .prepare_cached(
            "INSERT OR REPLACE INTO known_users
                (user_id, order_updates, promotions, recommendations, demo, erased, as_of)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute((
            id.as_bytes(),
            preferences.order_updates,
            preferences.promotions,
            preferences.recommendations,
            demo,
            erased,
            as_of,
        ))?;
    Ok(())
}

fn erase(write: &mut Write<'_>, user: UserId, at: Timestamp) -> Result<(), Failure> {
    let preferences = Preferences { order_updates: false, promotions: false, recommendations: false };
    remember(write, user, KnownUser { preferences, demo: false, erased: true, as_of: i64::MAX })?;
    for mut stored in of_user(write.sql(), user)? {
        let event = stored.notification.erase().then_some(event_type::NOTIFICATION_SKIPPED);
        stored.lease = None;
        save(write, &mut stored, event, at)?;
    }
    Ok(())
}

fn last_digest(connection: &Connection, user: UserId) -> Result<Option<LastDigest>, Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT created_at, status FROM notifications WHERE user_id = ?1 AND kind = 3 ORDER BY position DESC LIMIT 1",
    )?;
    let last = statement.query_row([user.as_bytes()], |row| {
        let skipped = row.get::<_, i64>(1)? == NotificationStatus::Skipped as i64;
        Ok(LastDigest { at: Timestamp(row.get(0)?), skipped })
    });
    Ok(last.optional()?)
}

fn of_user(connection: &Connection, user: UserId) -> Result<Vec<Stored>, Failure> {
    let sql = concat!("SELECT ", columns!(), " FROM notifications WHERE user_id = ?1 ORDER BY position");
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([user.as_bytes()])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(decode(row)?);
    }
    Ok(found)
}

/// The positions of those that are unread, or which of them is not this user's.
fn unread(connection: &Connection, user: UserId, which: &MarkRead) -> Result<Result<Vec<i64>, usize>, Failure> {
    let mut unread = Vec::new();
    match which {
        MarkRead::These(ids) => {
            for (place, id) in ids.iter().enumerate() {
                match by_id(connection, *id)? {
                    Some(stored) if stored.notification.user_id == user => {
                        if !stored.notification.read && !unread.contains(&stored.position) {
                            unread.push(stored.position);
                        }
                    }
                    _ => return Ok(Err(place)),
                }
            }
        }
        MarkRead::Unread(limit) => {
            let mut statement = connection
                .prepare_cached("SELECT position FROM notifications WHERE user_id = ?1 AND read = 0 LIMIT ?2")?;
            let mut rows = statement.query((user.as_bytes(), limit))?;
            while let Some(row) = rows.next()? {
                unread.push(row.get(0)?);
            }
        }
    }
    Ok(Ok(unread))
}

fn inbox(connection: &Connection, user: UserId, unread_only: bool, page: &PageRequest) -> Result<InboxPage, Failure> {
    let count = |sql: &str| -> Result<i64, Failure> {
        Ok(connection.prepare_cached(sql)?.query_row([user.as_bytes()], |row| row.get(0))?)
    };
    let unread = count("SELECT COUNT(*) FROM notifications WHERE user_id = ?1 AND read = 0")?;
    let total = if unread_only { unread } else { count("SELECT COUNT(*) FROM notifications WHERE user_id = ?1")? };
    let mut sql = concat!("SELECT ", columns!(), " FROM notifications WHERE user_id = ?").to_owned();
    let mut values = vec![Value::Blob(user.as_bytes().to_vec())];
    if unread_only {
        sql.push_str(" AND read = 0");
    }
    if let Some(after) = &page.after {
        sql.push_str(" AND position < ?");
        values.push(Value::Integer(cursor::decode(after)?));
    }
    sql.push_str(" ORDER BY position DESC LIMIT ?");
    values.push(Value::Integer(i64::from(page.first) + 1));
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(&values))?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        let Stored { position, notification, .. } = decode(row)?;
        entries.push((cursor::encode(&position), notification));
    }
    Ok(InboxPage { page: cursor::page(entries, page, total), unread: unread.unsigned_abs() })
}

fn campaign_tally(connection: &Connection, id: CampaignId) -> Result<CampaignTally, Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT status, COUNT(*) FROM notifications WHERE campaign_id = ?1 AND campaign_id IS NOT NULL GROUP BY status",
    )?;
    let mut rows = statement.query([id.as_bytes()])?;
    let mut tally = CampaignTally::default();
    while let Some(row) = rows.next()? {
        let (status, count) = (row.get::<_, usize>(0)?, row.get::<_, i64>(1)?.unsigned_abs());
        tally.total += count;
        match NotificationStatus::ALL.get(status) {
            Some(NotificationStatus::Queued) => tally.queued += count,
            Some(NotificationStatus::Sent) => tally.sent += count,
            Some(NotificationStatus::Skipped) => tally.skipped += count,
            Some(NotificationStatus::Dead) => tally.dead += count,
            None => {}
        }
    }
    Ok(tally)
}
