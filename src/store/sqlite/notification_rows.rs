//! How a notification lies in its file: schema, columns, and the changes that are written with their events.

use rusqlite::{Connection, Row};
use uuid::Uuid;

use super::database::Write;
use super::failure::{Failure, broken};
use super::migrations::Migration;
use super::{consumption, outbox};
use crate::domain::ids::{CampaignId, NotificationId, UserId};
use crate::domain::notifications::{Notification, NotificationKind, NotificationStatus};
use crate::domain::time::Timestamp;
use crate::store::notifications::Lease;

pub(super) const MIGRATIONS: &[Migration] = &[NOTIFICATIONS, TRACES, AS_OF];

const AS_OF: Migration = Migration {
    name: "since when a user is known",
    sql: &["ALTER TABLE known_users ADD COLUMN as_of INTEGER NOT NULL DEFAULT 0"],
};

const TRACES: Migration =
    Migration { name: "traces of notifications", sql: &["ALTER TABLE notifications ADD COLUMN traceparent TEXT"] };

const NOTIFICATIONS: Migration = Migration {
    name: "notifications",
    sql: &[
        outbox::SCHEMA,
        consumption::SCHEMA,
        "
        CREATE TABLE notifications (
            position INTEGER PRIMARY KEY,
            id BLOB NOT NULL UNIQUE,
            user_id BLOB NOT NULL,
            dedupe_key TEXT NOT NULL,
            campaign_id BLOB,
            -- The places in NotificationKind::ALL, NotificationPriority::ALL and NotificationStatus::ALL.
            kind INTEGER NOT NULL,
            priority INTEGER NOT NULL,
            status INTEGER NOT NULL,
            subject TEXT NOT NULL,
            body TEXT NOT NULL,
            -- JSON; NULL once the user is erased.
            content TEXT,
            attempts INTEGER NOT NULL,
            failures INTEGER NOT NULL,
            first_attempt_at INTEGER,
            round INTEGER NOT NULL,
            last_error TEXT,
            read INTEGER NOT NULL,
            created_at INTEGER NOT NULL,
            sent_at INTEGER,
            event_sequence INTEGER NOT NULL,
            -- Of a queued one: when it may be claimed, which is when its next attempt is due or its lease ends.
            due_at INTEGER NOT NULL,
            lease BLOB,
            UNIQUE (user_id, dedupe_key)
        ) STRICT;
        CREATE INDEX notifications_due ON notifications (priority, due_at) WHERE status = 0;
        CREATE INDEX notifications_leased ON notifications (due_at) WHERE lease IS NOT NULL;
        -- These end with the position: the newest are found from the end.
        CREATE INDEX notifications_by_user ON notifications (user_id);
        CREATE INDEX notifications_unread ON notifications (user_id) WHERE read = 0;
        CREATE INDEX notifications_digests ON notifications (user_id) WHERE kind = 3;
        CREATE INDEX notifications_sent ON notifications (user_id, sent_at) WHERE priority = 1 AND sent_at IS NOT NULL;
        CREATE INDEX notifications_by_campaign ON notifications (campaign_id, status) WHERE campaign_id IS NOT NULL;
        -- What the events of a user told of them. An erased one stays, without anything personal.
        CREATE TABLE known_users (
            user_id BLOB PRIMARY KEY,
            order_updates INTEGER NOT NULL,
            promotions INTEGER NOT NULL,
            recommendations INTEGER NOT NULL,
            demo INTEGER NOT NULL,
            erased INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID;
        -- The pace of standard mail, one row.
        CREATE TABLE pace (
            only INTEGER PRIMARY KEY CHECK (only = 1),
            paid_until_ns INTEGER NOT NULL
        ) STRICT;
        INSERT INTO pace VALUES (1, 0);",
    ],
};

/// The columns that [`decode`] reads.
macro_rules! columns {
    () => {
        "position, id, user_id, campaign_id, kind, status, subject, body, content, attempts, failures,
         first_attempt_at, round, last_error, read, created_at, sent_at, event_sequence, due_at,
         lease, traceparent"
    };
}
pub(super) use columns;

/// A notification with what only the file knows of it.
pub(super) struct Stored {
    pub position: i64,
    pub notification: Notification,
    /// When it may be claimed.
    pub due_at: Timestamp,
    /// Who holds it.
    pub lease: Option<Lease>,
}

/// Inserts a notification with its event. False: the user was told this already.
pub(super) fn insert(
    write: &mut Write<'_>,
    mut notification: Notification,
    dedupe_key: &str,
    at: Timestamp,
) -> Result<bool, Failure> {
    let event = notification.event(notification.status.event_type(), at);
    let inserted = write
        .sql()
        .prepare_cached(
            "INSERT INTO notifications (id, user_id, dedupe_key, campaign_id, kind, priority, status, subject, body,
                                        content, attempts, failures, round, last_error, read, created_at,
                                        event_sequence, due_at, traceparent)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, 0, 0, 0, ?11, FALSE, ?12, ?13, ?12, ?14)
             ON CONFLICT DO NOTHING",
        )?
        .execute((
            notification.id.as_bytes(),
            notification.user_id.as_bytes(),
            dedupe_key,
            notification.campaign_id.as_ref().map(CampaignId::as_bytes),
            notification.kind as i64,
            notification.priority() as i64,
            notification.status as i64,
            &notification.subject,
            &notification.body,
            content_json(&notification)?,
            &notification.last_error,
            at.0,
            notification.event_sequence,
            &notification.traceparent,
        ))?;
    if inserted == 1 {
        write.emit(event)?;
    }
    Ok(inserted == 1)
}

/// Writes what changes of a notification, and its event when the change is one.
pub(super) fn save(
    write: &mut Write<'_>,
    stored: &mut Stored,
    event_type: Option<&'static str>,
    at: Timestamp,
) -> Result<(), Failure> {
    let event = event_type.map(|event_type| stored.notification.event(event_type, at));
    let notification = &stored.notification;
    write
        .sql()
        .prepare_cached(
            "UPDATE notifications
             SET status = ?2, subject = ?3, body = ?4, content = ?5, attempts = ?6, failures = ?7,
                 first_attempt_at = ?8, round = ?9, last_error = ?10, read = ?11, sent_at = ?12, event_sequence = ?13,
                 due_at = ?14, lease = ?15
             WHERE position = ?1",
        )?
        .execute((
            stored.position,
            notification.status as i64,
            &notification.subject,
            &notification.body,
            content_json(notification)?,
            notification.attempts,
            notification.failures,
            notification.first_attempt_at.map(|at| at.0),
            notification.round,
            &notification.last_error,
            notification.read,
            notification.sent_at.map(|at| at.0),
            notification.event_sequence,
            stored.due_at.0,
            stored.lease.map(|lease| lease.0.into_bytes()),
        ))?;
    event.map_or(Ok(()), |event| write.emit(event))
}

fn content_json(notification: &Notification) -> Result<Option<String>, Failure> {
    Ok(notification.content.as_ref().map(serde_json::to_string).transpose()?)
}

pub(super) fn by_id(connection: &Connection, id: NotificationId) -> Result<Option<Stored>, Failure> {
    let sql = concat!("SELECT ", columns!(), " FROM notifications WHERE id = ?1");
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([id.as_bytes()])?;
    rows.next()?.map(decode).transpose()
}

pub(super) fn by_position(connection: &Connection, position: i64) -> Result<Option<Stored>, Failure> {
    let sql = concat!("SELECT ", columns!(), " FROM notifications WHERE position = ?1");
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([position])?;
    rows.next()?.map(decode).transpose()
}

pub(super) fn decode(row: &Row<'_>) -> Result<Stored, Failure> {
    let kind: usize = row.get(4)?;
    let status: usize = row.get(5)?;
    let content: Option<String> = row.get(8)?;
    let notification = Notification {
        id: NotificationId::from_bytes(row.get(1)?),
        user_id: UserId::from_bytes(row.get(2)?),
        campaign_id: row.get::<_, Option<[u8; 16]>>(3)?.map(CampaignId::from_bytes),
        kind: *NotificationKind::ALL.get(kind).ok_or_else(|| broken(format!("unknown notification kind {kind}")))?,
        status: *NotificationStatus::ALL
            .get(status)
            .ok_or_else(|| broken(format!("unknown notification status {status}")))?,
        subject: row.get(6)?,
        body: row.get(7)?,
        content: content.map(|json| serde_json::from_str(&json)).transpose()?,
        attempts: row.get(9)?,
        failures: row.get(10)?,
        first_attempt_at: row.get::<_, Option<i64>>(11)?.map(Timestamp),
        round: row.get(12)?,
        last_error: row.get(13)?,
        read: row.get(14)?,
        created_at: Timestamp(row.get(15)?),
        sent_at: row.get::<_, Option<i64>>(16)?.map(Timestamp),
        event_sequence: row.get(17)?,
        traceparent: row.get(20)?,
    };
    let lease = row.get::<_, Option<[u8; 16]>>(19)?.map(|bytes| Lease(Uuid::from_bytes(bytes)));
    Ok(Stored { position: row.get(0)?, notification, due_at: Timestamp(row.get(18)?), lease })
}
