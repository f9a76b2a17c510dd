//! Progress of consumer groups in a domain's own file: offsets that move by condition, and what is parked.

use rusqlite::Connection;

use super::database::Write;
use super::failure::{Failure, broken};
use crate::domain::events::Topic;
use crate::domain::time::Timestamp;
use crate::store::consumption::{Consumed, Consumption, OffsetMove, ParkedEvent, StoredOffset};

/// Part of every domain's first migration.
pub(super) const SCHEMA: &str = "
    CREATE TABLE consumed (
        consumer TEXT NOT NULL,
        topic TEXT NOT NULL,
        partition INTEGER NOT NULL,
        next_offset INTEGER NOT NULL,
        PRIMARY KEY (consumer, topic, partition)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE parked (
        consumer TEXT NOT NULL,
        topic TEXT NOT NULL,
        partition INTEGER NOT NULL,
        position INTEGER NOT NULL,
        attempts INTEGER NOT NULL,
        next_attempt_at INTEGER NOT NULL,
        last_error TEXT NOT NULL,
        -- JSON
        record TEXT NOT NULL,
        PRIMARY KEY (consumer, topic, partition, position)
    ) STRICT, WITHOUT ROWID;";

/// Runs `effect` and writes the progress with it; undoes both when another owner was faster.
pub(super) fn consume_with<T>(
    write: &mut Write<'_>,
    consumption: Consumption,
    effect: impl FnOnce(&mut Write<'_>) -> Result<T, Failure>,
) -> Result<Consumed<T>, Failure> {
    if !advance(write.sql(), &consumption)? {
        write.undo();
        return Ok(Consumed::Lost);
    }
    write.causes = consumption.causes;
    let done = effect(write)?;
    for letter in consumption.dead_letters {
        write.emit(letter)?;
    }
    Ok(Consumed::Done(done))
}

/// Moves the offsets and the parked events. False: an offset is elsewhere, or an event that was to be settled is no
/// longer parked; what was written until then is to be undone.
fn advance(connection: &Connection, consumption: &Consumption) -> Result<bool, Failure> {
    for step in &consumption.moves {
        if !move_offset(connection, &consumption.group, step)? {
            return Ok(false);
        }
    }
    for (topic, partition, offset) in &consumption.unpark {
        let removed = connection
            .prepare_cached(
                "DELETE FROM parked WHERE consumer = ?1 AND topic = ?2 AND partition = ?3 AND position = ?4",
            )?
            .execute((&consumption.group, topic, partition, offset))?;
        if removed == 0 {
            return Ok(false);
        }
    }
    for event in &consumption.park {
        connection
            .prepare_cached(
                "INSERT OR REPLACE INTO parked
                    (consumer, topic, partition, position, attempts, next_attempt_at, last_error, record)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?
            .execute((
                &consumption.group,
                &event.record.topic,
                event.record.partition,
                event.record.offset,
                event.attempts,
                event.next_attempt_at.0,
                &event.last_error,
                serde_json::to_string(&event.record)?,
            ))?;
    }
    Ok(true)
}

fn move_offset(connection: &Connection, group: &str, step: &OffsetMove) -> Result<bool, Failure> {
    let topic = step.topic.name();
    let moved = connection
        .prepare_cached(
            "UPDATE consumed SET next_offset = ?5
             WHERE consumer = ?1 AND topic = ?2 AND partition = ?3 AND next_offset = ?4",
        )?
        .execute((group, topic, step.partition, step.from, step.to))?;
    if moved == 1 {
        return Ok(true);
    }
    if step.from != 0 {
        return Ok(false);
    }
    let inserted = connection
        .prepare_cached(
            "INSERT INTO consumed (consumer, topic, partition, next_offset) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO NOTHING",
        )?
        .execute((group, topic, step.partition, step.to))?;
    Ok(inserted == 1)
}

pub(super) fn offsets(connection: &Connection, group: &str) -> Result<Vec<StoredOffset>, Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT topic, partition, next_offset FROM consumed WHERE consumer = ?1 ORDER BY topic, partition",
    )?;
    let mut rows = statement.query([group])?;
    let mut offsets = Vec::new();
    while let Some(row) = rows.next()? {
        let topic = row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?;
        let topic = Topic::named(topic).ok_or_else(|| broken(format!("unknown topic {topic}")))?;
        offsets.push(StoredOffset { topic, partition: row.get(1)?, next_offset: row.get(2)? });
    }
    Ok(offsets)
}

pub(super) fn parked(connection: &Connection, group: &str) -> Result<Vec<ParkedEvent>, Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT attempts, next_attempt_at, last_error, record FROM parked WHERE consumer = ?1
         ORDER BY topic, partition, position",
    )?;
    let mut rows = statement.query([group])?;
    let mut parked = Vec::new();
    while let Some(row) = rows.next()? {
        parked.push(ParkedEvent {
            attempts: row.get(0)?,
            next_attempt_at: Timestamp(row.get(1)?),
            last_error: row.get(2)?,
            record: serde_json::from_str(row.get_ref(3)?.as_str().map_err(rusqlite::Error::from)?)?,
        });
    }
    Ok(parked)
}
