//! The operations file: dead letters, by the order in which they came.

use async_trait::async_trait;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params_from_iter};

use super::database::{Database, Write};
use super::failure::Failure;
use super::migrations::Migration;
use super::{consumption, cursor, outbox};
use crate::domain::events::PendingEvent;
use crate::domain::page::{Page, PageRequest};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::consumption::{Consumed, Consumption};
use crate::store::operations::{DeadLetter, DeadLetterEntry, MarkerStore, OperationsStore, SettleDeadLetter};

const MIGRATIONS: &[Migration] = &[DEAD_LETTERS, MARKERS, REPLAYED_BY];

const REPLAYED_BY: Migration =
    Migration { name: "who replayed a dead letter", sql: &["ALTER TABLE dead_letters ADD COLUMN replayed_by TEXT;"] };

const MARKERS: Migration = Migration {
    name: "markers",
    sql: &["CREATE TABLE markers (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;"],
};

const DEAD_LETTERS: Migration = Migration {
    name: "dead letters",
    sql: &[
        outbox::SCHEMA,
        consumption::SCHEMA,
        "
        CREATE TABLE dead_letters (
            position INTEGER PRIMARY KEY,
            id TEXT NOT NULL UNIQUE,
            source TEXT NOT NULL,
            -- JSON: the letter as it came.
            letter TEXT NOT NULL,
            replayed_at INTEGER,
            discarded_at INTEGER,
            discarded_by TEXT
        ) STRICT;
        CREATE INDEX dead_letters_by_source ON dead_letters (source);
        CREATE INDEX dead_letters_open ON dead_letters (source)
            WHERE replayed_at IS NULL AND discarded_at IS NULL;",
    ],
};

/// The columns that [`decode`] reads.
macro_rules! columns {
    () => {
        "position, letter, replayed_at, discarded_at, replayed_by, discarded_by"
    };
}

/// Dead letters in their SQLite file.
pub struct SqliteOperationsStore {
    database: Database,
}

super::store_over_database!(SqliteOperationsStore, "operations", MIGRATIONS);
super::outbox_over_database!(SqliteOperationsStore);

#[async_trait]
impl OperationsStore for SqliteOperationsStore {
    async fn add_dead_letters(
        &self,
        letters: Vec<DeadLetter>,
        consumption: Consumption,
        at: Timestamp,
    ) -> Result<Consumed<()>, StoreError> {
        self.database
            .consume_with(consumption, move |write| {
                for letter in &letters {
                    if insert(write.sql(), letter)? {
                        write.emit(letter.kept_event(at))?;
                    }
                }
                Ok(())
            })
            .await
    }

    async fn dead_letters(&self, ids: &[String]) -> Result<Vec<DeadLetter>, StoreError> {
        let ids = ids.to_vec();
        self.database
            .read(move |connection| ids.iter().filter_map(|id| by_id(connection, id).transpose()).collect())
            .await
    }

    async fn list_dead_letters(
        &self,
        source: Option<&str>,
        open_only: bool,
        page: &PageRequest,
    ) -> Result<Page<DeadLetter>, StoreError> {
        let (source, page) = (source.map(str::to_owned), page.clone());
        self.database.read(move |connection| list(connection, source, open_only, &page)).await
    }

    async fn latest_dead_letter(&self) -> Result<String, StoreError> {
        self.database
            .read(|connection| {
                let mut query = connection.prepare_cached("SELECT COALESCE(MAX(position), 0) FROM dead_letters")?;
                Ok(cursor::encode(&query.query_row((), |row| row.get::<_, i64>(0))?))
            })
            .await
    }

    async fn dead_letters_after(&self, cursor: &str, limit: u32) -> Result<Vec<DeadLetterEntry>, StoreError> {
        let cursor = cursor.to_owned();
        self.database
            .read(move |connection| {
                let mut statement = connection.prepare_cached(concat!(
                    "SELECT ",
                    columns!(),
                    " FROM dead_letters WHERE position > ?1 ORDER BY position LIMIT ?2"
                ))?;
                let mut rows = statement.query((cursor::decode::<i64>(&cursor)?, limit))?;
                let mut entries = Vec::new();
                while let Some(row) = rows.next()? {
                    let (position, letter) = decode(row)?;
                    entries.push(DeadLetterEntry { cursor: cursor::encode(&position), letter });
                }
                Ok(entries)
            })
            .await
    }

    async fn replay_dead_letter(
        &self,
        id: &str,
        event: PendingEvent,
        by: &str,
        at: Timestamp,
    ) -> Result<SettleDeadLetter, StoreError> {
        let by = by.to_owned();
        let is_open = |letter: &DeadLetter| letter.replayed_at.is_none() && letter.discarded_at.is_none();
        self.settle(id, is_open, move |write, letter| {
            write
                .sql()
                .prepare_cached("UPDATE dead_letters SET replayed_at = ?2, replayed_by = ?3 WHERE id = ?1")?
                .execute((&letter.id, at.0, &by))?;
            (letter.replayed_at, letter.replayed_by) = (Some(at), Some(by));
            write.emit(event)
        })
        .await
    }

    async fn discard_dead_letter(&self, id: &str, by: &str, at: Timestamp) -> Result<SettleDeadLetter, StoreError> {
        let by = by.to_owned();
        self.settle(
            id,
            |letter| letter.discarded_at.is_none(),
            move |write, letter| {
                write
                    .sql()
                    .prepare_cached("UPDATE dead_letters SET discarded_at = ?2, discarded_by = ?3 WHERE id = ?1")?
                    .execute((&letter.id, at.0, &by))?;
                (letter.discarded_at, letter.discarded_by) = (Some(at), Some(by));
                Ok(())
            },
        )
        .await
    }
}

#[async_trait]
impl MarkerStore for SqliteOperationsStore {
    async fn marker(&self, name: &str) -> Result<Option<String>, StoreError> {
        let name = name.to_owned();
        self.database
            .read(move |connection| {
                let mut query = connection.prepare_cached("SELECT value FROM markers WHERE name = ?1")?;
                Ok(query.query_row([&name], |row| row.get(0)).optional()?)
            })
            .await
    }

    async fn set_marker(&self, name: &str, value: &str) -> Result<(), StoreError> {
        let (name, value) = (name.to_owned(), value.to_owned());
        self.database
            .write(move |write| {
                write
                    .sql()
                    .prepare_cached(
                        "INSERT INTO markers VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                    )?
                    .execute((&name, &value))?;
                Ok(())
            })
            .await
    }
}

impl SqliteOperationsStore {
    /// Settles a letter that is open to it: once, whoever asks.
    async fn settle(
        &self,
        id: &str,
        is_open: impl FnOnce(&DeadLetter) -> bool + Send + 'static,
        settle: impl FnOnce(&mut Write<'_>, &mut DeadLetter) -> Result<(), Failure> + Send + 'static,
    ) -> Result<SettleDeadLetter, StoreError> {
        let id = id.to_owned();
        self.database
            .write(move |write| {
                let Some(mut letter) = by_id(write.sql(), &id)? else { return Ok(SettleDeadLetter::NotFound) };
                if !is_open(&letter) {
                    return Ok(SettleDeadLetter::AlreadySettled(Box::new(letter)));
                }
                settle(write, &mut letter)?;
                Ok(SettleDeadLetter::Settled(Box::new(letter)))
            })
            .await
    }
}

/// False: it is there already.
fn insert(connection: &Connection, letter: &DeadLetter) -> Result<bool, Failure> {
    let inserted = connection
        .prepare_cached("INSERT INTO dead_letters (id, source, letter) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING")?
        .execute((&letter.id, &letter.source, serde_json::to_string(letter)?))?;
    Ok(inserted == 1)
}

fn by_id(connection: &Connection, id: &str) -> Result<Option<DeadLetter>, Failure> {
    let mut statement =
        connection.prepare_cached(concat!("SELECT ", columns!(), " FROM dead_letters WHERE id = ?1"))?;
    let mut rows = statement.query([id])?;
    rows.next()?.map(|row| Ok(decode(row)?.1)).transpose()
}

fn list(
    connection: &Connection,
    source: Option<String>,
    open_only: bool,
    page: &PageRequest,
) -> Result<Page<DeadLetter>, Failure> {
    let mut conditions = String::from("TRUE");
    let mut values = Vec::new();
    if let Some(source) = source {
        conditions.push_str(" AND source = ?");
        values.push(Value::Text(source));
    }
    if open_only {
        conditions.push_str(" AND replayed_at IS NULL AND discarded_at IS NULL");
    }
    let counted = format!("SELECT COUNT(*) FROM dead_letters WHERE {conditions}");
    let total =
        connection.prepare_cached(&counted)?.query_row(params_from_iter(&values), |row| row.get::<_, i64>(0))?;
    if let Some(after) = &page.after {
        conditions.push_str(" AND position < ?");
        values.push(Value::Integer(cursor::decode(after)?));
    }
    values.push(Value::Integer(i64::from(page.first) + 1));
    let mut statement = connection.prepare_cached(&format!(
        concat!("SELECT ", columns!(), " FROM dead_letters WHERE {} ORDER BY position DESC LIMIT ?"),
        conditions
    ))?;
    let mut rows = statement.query(params_from_iter(&values))?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        let (position, letter) = decode(row)?;
        entries.push((cursor::encode(&position), letter));
    }
    Ok(cursor::page(entries, page, total))
}

fn decode(row: &Row<'_>) -> Result<(i64, DeadLetter), Failure> {
    let mut letter: DeadLetter = serde_json::from_str(row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?)?;
    letter.replayed_at = row.get::<_, Option<i64>>(2)?.map(Timestamp);
    letter.discarded_at = row.get::<_, Option<i64>>(3)?.map(Timestamp);
    letter.replayed_by = row.get(4)?;
    letter.discarded_by = row.get(5)?;
    Ok((row.get(0)?, letter))
}
