//! Pending events in a domain's own file, saved in the transaction of the state that they describe.

use rusqlite::{Connection, Row};

use super::failure::{Failure, broken};
use crate::domain::events::{PendingEvent, Topic};
use crate::domain::time::Timestamp;
use crate::store::outbox::{Backlog, PendingEventId};

/// Part of every domain's first migration. The primary key is the order of publication. A sweep looks at every row for
/// its age, without an index on it: rows live for a fraction of a second, so the table is nearly empty whenever it is
/// swept, while an index would cost every commit. Only after an outage is it long, and then nearly all rows are wanted.
pub(super) const SCHEMA: &str = "
    CREATE TABLE pending_events (
        aggregate TEXT NOT NULL,
        sequence INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        topic TEXT NOT NULL,
        -- NULL when it is the aggregate.
        key TEXT,
        event_type TEXT NOT NULL,
        source TEXT NOT NULL,
        -- JSON; NULL when there are none.
        headers TEXT,
        body TEXT NOT NULL,
        PRIMARY KEY (aggregate, sequence)
    ) STRICT, WITHOUT ROWID;";

pub(super) fn insert(connection: &Connection, event: &PendingEvent) -> Result<(), Failure> {
    let key = (event.key != event.aggregate).then_some(&event.key);
    let headers = if event.headers.is_empty() { None } else { Some(serde_json::to_string(&event.headers)?) };
    connection
        .prepare_cached(
            "INSERT INTO pending_events (aggregate, sequence, created_at, topic, key, event_type, source, headers, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute((
            &event.aggregate,
            event.sequence,
            event.at.0,
            event.topic.name(),
            key,
            &event.event_type,
            &event.source,
            headers,
            &event.body,
        ))?;
    Ok(())
}

/// Up to `limit` events older than `before`, each aggregate's in sequence.
pub(super) fn select(connection: &Connection, before: Timestamp, limit: u32) -> Result<Vec<PendingEvent>, Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT aggregate, sequence, created_at, topic, key, event_type, source, headers, body FROM pending_events
         WHERE created_at < ?1 ORDER BY aggregate, sequence LIMIT ?2",
    )?;
    let mut rows = statement.query((before.0, limit))?;
    let mut events = Vec::new();
    while let Some(row) = rows.next()? {
        events.push(decode(row)?);
    }
    Ok(events)
}

/// All events of these aggregates, each in sequence.
pub(super) fn select_of(connection: &Connection, aggregates: &[String]) -> Result<Vec<PendingEvent>, Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT aggregate, sequence, created_at, topic, key, event_type, source, headers, body FROM pending_events
         WHERE aggregate = ?1 ORDER BY sequence",
    )?;
    let mut events = Vec::new();
    for aggregate in aggregates {
        let mut rows = statement.query((aggregate,))?;
        while let Some(row) = rows.next()? {
            events.push(decode(row)?);
        }
    }
    Ok(events)
}

pub(super) fn backlog(connection: &Connection) -> Result<Backlog, Failure> {
    count(connection, "SELECT COUNT(*), MIN(created_at) FROM pending_events")
}

/// What a statement counts, and the oldest time of it.
pub(super) fn count(connection: &Connection, sql: &str) -> Result<Backlog, Failure> {
    Ok(connection.prepare_cached(sql)?.query_row((), |row| {
        let (events, oldest): (i64, Option<i64>) = (row.get(0)?, row.get(1)?);
        Ok(Backlog { events: events.unsigned_abs(), oldest: oldest.map(Timestamp) })
    })?)
}

pub(super) fn delete(connection: &Connection, published: &[PendingEventId]) -> Result<(), Failure> {
    let mut statement =
        connection.prepare_cached("DELETE FROM pending_events WHERE aggregate = ?1 AND sequence = ?2")?;
    for (aggregate, sequence) in published {
        statement.execute((aggregate, sequence))?;
    }
    Ok(())
}

fn decode(row: &Row<'_>) -> Result<PendingEvent, Failure> {
    let aggregate: String = row.get(0)?;
    let topic = row.get_ref(3)?.as_str().map_err(rusqlite::Error::from)?;
    let topic = Topic::named(topic).ok_or_else(|| broken(format!("unknown topic {topic}")))?;
    let headers: Option<String> = row.get(7)?;
    Ok(PendingEvent {
        topic,
        sequence: row.get(1)?,
        at: Timestamp(row.get(2)?),
        key: row.get::<_, Option<String>>(4)?.unwrap_or_else(|| aggregate.clone()),
        aggregate,
        event_type: row.get::<_, String>(5)?.into(),
        source: row.get::<_, String>(6)?.into(),
        headers: headers.map_or(Ok(Vec::new()), |json| serde_json::from_str(&json))?,
        body: row.get(8)?,
    })
}
