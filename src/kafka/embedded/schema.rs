//! The SQLite file: its tables, and every statement on them.
//!
//! A record's place is one integer, so that a partition is a range of the table's own key and an append needs no second
//! index: 8 bits of the topic's number, 11 bits of the partition, 44 bits of the offset.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, Statement, params};

use super::super::envelope::{self, Attributes};
use super::super::{LogError, Record, TopicPartition};
use crate::domain::events::{PendingEvent, Topic};
use crate::domain::time::Timestamp;

const PARTITION_BITS: u32 = 11;
const OFFSET_BITS: u32 = 44;
/// The most partitions that a place has bits for.
pub(super) const MAX_PARTITIONS: u32 = 1 << PARTITION_BITS;

pub(super) const SCHEMA_VERSION: u32 = 1;
const SCHEMA: &str = "
    -- One row. Fixed at creation: another count would move keys between partitions.
    CREATE TABLE log (partitions INTEGER NOT NULL) STRICT;
    CREATE TABLE topics (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
    CREATE TABLE records (
        -- topic id << 55 | partition << 44 | offset
        place INTEGER PRIMARY KEY,
        key TEXT NOT NULL,
        id TEXT NOT NULL,
        type TEXT NOT NULL,
        source TEXT NOT NULL,
        -- NULL when it is the key.
        subject TEXT,
        at INTEGER NOT NULL,
        -- JSON, beyond the CloudEvents attributes; NULL when there are none.
        headers TEXT,
        body TEXT NOT NULL
    ) STRICT;
    -- Copies of the offsets that the domains' databases hold, for lag and retention.
    CREATE TABLE group_offsets (
        name TEXT NOT NULL,
        topic INTEGER NOT NULL,
        partition INTEGER NOT NULL,
        next_offset INTEGER NOT NULL,
        PRIMARY KEY (name, topic, partition)
    ) STRICT, WITHOUT ROWID;";

pub(super) fn failure(error: rusqlite::Error) -> LogError {
    match error {
        rusqlite::Error::SqliteFailure(cause, _)
            if matches!(cause.code, rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) =>
        {
            LogError::Broken(error.to_string())
        }
        error => LogError::Unavailable(error.to_string()),
    }
}

/// The numbers under which the file knows the topics, by `Topic as usize`.
pub(super) type TopicIds = [i64; Topic::ALL.len()];

/// Where a record is, as the table's key.
pub(super) fn place(ids: &TopicIds, at: TopicPartition, offset: i64) -> i64 {
    (ids[at.topic as usize] << (PARTITION_BITS + OFFSET_BITS)) | (i64::from(at.partition) << OFFSET_BITS) | offset
}

fn offset_of(place: i64) -> i64 {
    place & ((1 << OFFSET_BITS) - 1)
}

/// Whether the file is whole, of this version, and has these partitions. Changes nothing.
pub(super) fn inspect(path: &Path, partitions: u32) -> Result<(), LogError> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(failure)?;
    let version: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failure)?;
    if version != SCHEMA_VERSION {
        return Err(LogError::Broken(format!("events.db has version {version}, expected {SCHEMA_VERSION}")));
    }
    let existing: u32 = connection.query_row("SELECT partitions FROM log", [], |row| row.get(0)).map_err(failure)?;
    if existing != partitions {
        return Err(LogError::PartitionCount {
            log: "each topic of the event log".to_owned(),
            existing,
            configured: partitions,
        });
    }
    let complaint: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(failure)?;
    if complaint == "ok" { Ok(()) } else { Err(LogError::Broken(complaint)) }
}

/// Opens the file for its one writer and makes what is missing; also the version that the file had.
pub(super) fn open_writer(path: &Path, partitions: u32) -> Result<(Connection, TopicIds, u32), LogError> {
    let connection = Connection::open(path).map_err(failure)?;
    let prepare = || -> rusqlite::Result<Result<(TopicIds, u32), LogError>> {
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 2000;
             PRAGMA journal_size_limit = 33554432; PRAGMA cache_size = -8000; PRAGMA temp_store = MEMORY;
             BEGIN IMMEDIATE;",
        )?;
        let version: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if version == 0 {
            connection.execute_batch(SCHEMA)?;
            connection.execute("INSERT INTO log VALUES (?1)", [partitions])?;
            connection.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        } else if version != SCHEMA_VERSION {
            return Ok(Err(LogError::Broken(format!("events.db has version {version}, expected {SCHEMA_VERSION}"))));
        }
        let existing: u32 = connection.query_row("SELECT partitions FROM log", [], |row| row.get(0))?;
        if existing != partitions {
            return Ok(Err(LogError::PartitionCount {
                log: "each topic of the event log".to_owned(),
                existing,
                configured: partitions,
            }));
        }
        let mut ids = [0; Topic::ALL.len()];
        for topic in Topic::ALL {
            connection.execute("INSERT INTO topics (name) VALUES (?1) ON CONFLICT DO NOTHING", [topic.name()])?;
            ids[topic as usize] =
                connection.query_row("SELECT id FROM topics WHERE name = ?1", [topic.name()], |row| row.get(0))?;
        }
        connection.execute_batch("COMMIT")?;
        Ok(Ok((ids, version)))
    };
    let (ids, version) = prepare().map_err(failure)??;
    Ok((connection, ids, version))
}

pub(super) fn open_reader(path: &Path) -> Result<Connection, LogError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failure)?;
    connection.busy_timeout(Duration::from_secs(5)).map_err(failure)?;
    Ok(connection)
}

pub(super) const INSERT: &str =
    "INSERT INTO records (place, key, id, type, source, subject, at, headers, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";

/// Writes the event at its place and makes the record that the readers of this process share.
pub(super) fn insert(
    statement: &mut Statement<'_>,
    ids: &TopicIds,
    at: TopicPartition,
    offset: i64,
    event: PendingEvent,
) -> rusqlite::Result<Record> {
    let id = event.id();
    let extra = if event.headers.is_empty() {
        None
    } else {
        let json = serde_json::to_string(&event.headers);
        Some(json.map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?)
    };
    statement.execute(params![
        place(ids, at, offset),
        event.key,
        id,
        event.event_type,
        event.source,
        (event.aggregate != event.key).then_some(&event.aggregate),
        event.at.0,
        extra,
        event.body,
    ])?;
    let attributes = Attributes {
        id,
        event_type: event.event_type,
        source: event.source,
        subject: event.aggregate,
        at: event.at,
        extra: event.headers,
    };
    Ok(Record {
        topic: at.topic,
        partition: at.partition,
        offset,
        key: event.key,
        headers: envelope::headers(attributes),
        body: event.body,
    })
}

/// Up to `limit` records of a partition from `from` on, up to, not including, `to`.
pub(super) fn read(
    connection: &Connection,
    ids: &TopicIds,
    at: TopicPartition,
    (from, to): (i64, i64),
    limit: usize,
) -> rusqlite::Result<Vec<Record>> {
    let mut statement = connection.prepare_cached(
        "SELECT place, key, id, type, source, subject, at, headers, body FROM records
         WHERE place >= ?1 AND place < ?2 ORDER BY place LIMIT ?3",
    )?;
    let mut rows = statement.query(params![place(ids, at, from), place(ids, at, to), limit as i64])?;
    let mut records = Vec::new();
    while let Some(row) = rows.next()? {
        records.push(decode(row, at)?);
    }
    Ok(records)
}

fn decode(row: &Row<'_>, at: TopicPartition) -> rusqlite::Result<Record> {
    let key: String = row.get(1)?;
    let extra: Option<String> = row.get(7)?;
    let extra = match extra {
        None => Vec::new(),
        Some(json) => serde_json::from_str(&json).map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(7, rusqlite::types::Type::Text, Box::new(error))
        })?,
    };
    let attributes = Attributes {
        id: row.get(2)?,
        event_type: row.get::<_, String>(3)?.into(),
        source: row.get::<_, String>(4)?.into(),
        subject: row.get::<_, Option<String>>(5)?.unwrap_or_else(|| key.clone()),
        at: Timestamp(row.get(6)?),
        extra,
    };
    Ok(Record {
        topic: at.topic,
        partition: at.partition,
        offset: offset_of(row.get(0)?),
        key,
        headers: envelope::headers(attributes),
        body: row.get(8)?,
    })
}

/// The offsets that a partition holds. Its newest record is never removed, so the end survives a reopening.
pub(super) fn bounds(connection: &Connection, ids: &TopicIds, at: TopicPartition) -> rusqlite::Result<(i64, i64)> {
    let edge = |order: &str| {
        connection
            .prepare_cached(&format!(
                "SELECT place FROM records WHERE place >= ?1 AND place < ?2 ORDER BY place {order} LIMIT 1"
            ))?
            .query_row([place(ids, at, 0), place(ids, at, 0) + (1 << OFFSET_BITS)], |row| row.get(0))
            .optional()
    };
    let (first, last) = (edge("ASC")?, edge("DESC")?);
    Ok((first.map_or(0, offset_of), last.map_or(0, |place| offset_of(place) + 1)))
}

/// Removes what is older than `before`, oldest first, up to, not including, the offset `to`; at most `limit` records.
/// Returns the new start and whether there may be more.
pub(super) fn remove_old(
    connection: &Connection,
    ids: &TopicIds,
    at: TopicPartition,
    (start, to): (i64, i64),
    before: Timestamp,
    limit: i64,
) -> rusqlite::Result<(i64, bool)> {
    let chunk_end = to.min(start + limit);
    let young: Option<i64> = connection
        .prepare_cached(
            "SELECT place FROM records WHERE place >= ?1 AND place < ?2 AND at >= ?3 ORDER BY place LIMIT 1",
        )?
        .query_row([place(ids, at, start), place(ids, at, chunk_end), before.0], |row| row.get(0))
        .optional()?;
    let new_start = young.map_or(chunk_end, offset_of);
    connection
        .prepare_cached("DELETE FROM records WHERE place >= ?1 AND place < ?2")?
        .execute([place(ids, at, start), place(ids, at, new_start)])?;
    Ok((new_start, young.is_none() && new_start < to))
}

/// A group's copied offset.
pub(super) struct Copied {
    pub group: String,
    pub at: TopicPartition,
    pub next_offset: i64,
}

pub(super) fn load_copies(connection: &Connection) -> rusqlite::Result<Vec<Copied>> {
    let mut statement = connection.prepare(
        "SELECT g.name, t.name, g.partition, g.next_offset FROM group_offsets g JOIN topics t ON t.id = g.topic",
    )?;
    let mut rows = statement.query([])?;
    let mut copies = Vec::new();
    while let Some(row) = rows.next()? {
        // A topic that this version does not know has no readers here.
        let Some(topic) = Topic::named(&row.get::<_, String>(1)?) else { continue };
        let at = TopicPartition { topic, partition: row.get(2)? };
        copies.push(Copied { group: row.get(0)?, at, next_offset: row.get(3)? });
    }
    Ok(copies)
}

/// Writes copies; a lower offset than the stored one changes nothing.
pub(super) fn save_copies(connection: &Connection, ids: &TopicIds, copies: &[Copied]) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO group_offsets (name, topic, partition, next_offset) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT DO UPDATE SET next_offset = max(next_offset, excluded.next_offset)",
    )?;
    for copy in copies {
        statement.execute(params![copy.group, ids[copy.at.topic as usize], copy.at.partition, copy.next_offset])?;
    }
    Ok(())
}
