//! Signing keys and the server's secret, in the users file: of several first ones that are offered one stays.

use rusqlite::Connection;

use super::failure::{Failure, broken};
use crate::domain::signing_keys::KeyTerm;
use crate::domain::time::Timestamp;
use crate::store::users::{StoredSecret, StoredSigningKey};

/// The name of the one secret.
const SERVER: &str = "server";

/// A key from before there were terms signs from the beginning.
pub(super) const TERMS: &str = "
    ALTER TABLE signing_keys ADD COLUMN signs_from INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE signing_keys ADD COLUMN accepted_until INTEGER;";

pub(super) fn signing_keys(connection: &Connection) -> Result<Vec<StoredSigningKey>, Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT kid, private_key, encrypted, created_at, signs_from, accepted_until
         FROM signing_keys ORDER BY position DESC",
    )?;
    let mut rows = statement.query(())?;
    let mut keys = Vec::new();
    while let Some(row) = rows.next()? {
        keys.push(StoredSigningKey {
            kid: row.get(0)?,
            private_key: row.get(1)?,
            encrypted: row.get(2)?,
            created_at: Timestamp(row.get(3)?),
            term: KeyTerm {
                signs_from: Timestamp(row.get(4)?),
                accepted_until: row.get::<_, Option<i64>>(5)?.map(Timestamp),
            },
        });
    }
    Ok(keys)
}

/// Inserts a key, if the condition holds.
macro_rules! insert_key {
    ($condition:literal) => {
        concat!(
            "INSERT INTO signing_keys (kid, private_key, encrypted, created_at, signs_from, accepted_until)
             SELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE ",
            $condition
        )
    };
}

fn insert_key(connection: &Connection, sql: &str, key: &StoredSigningKey) -> Result<(), Failure> {
    let KeyTerm { signs_from, accepted_until } = key.term;
    connection.prepare_cached(sql)?.execute((
        &key.kid,
        &key.private_key,
        key.encrypted,
        key.created_at.0,
        signs_from.0,
        accepted_until.map(|end| end.0),
    ))?;
    Ok(())
}

pub(super) fn ensure_signing_key(
    connection: &Connection,
    key: &StoredSigningKey,
) -> Result<Vec<StoredSigningKey>, Failure> {
    insert_key(connection, insert_key!("NOT EXISTS (SELECT 1 FROM signing_keys)"), key)?;
    signing_keys(connection)
}

pub(super) fn rotate_signing_key(
    connection: &Connection,
    key: &StoredSigningKey,
    others_end: Timestamp,
) -> Result<Vec<StoredSigningKey>, Failure> {
    let mut end = connection.prepare_cached("UPDATE signing_keys SET accepted_until = ?2 WHERE kid = ?1")?;
    let mut remove = connection.prepare_cached("DELETE FROM signing_keys WHERE kid = ?1")?;
    for other in signing_keys(connection)? {
        if other.term.is_over(key.created_at) {
            remove.execute([&other.kid])?;
        } else {
            let ending = other.term.ending(others_end);
            end.execute((&other.kid, ending.accepted_until.map(|end| end.0)))?;
        }
    }
    insert_key(connection, insert_key!("TRUE"), key)?;
    signing_keys(connection)
}

pub(super) fn server_secret(connection: &Connection) -> Result<Option<StoredSecret>, Failure> {
    let mut statement =
        connection.prepare_cached("SELECT secret, encrypted, created_at FROM server_secrets WHERE name = ?1")?;
    let mut rows = statement.query([SERVER])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    Ok(Some(StoredSecret { secret: row.get(0)?, encrypted: row.get(1)?, created_at: Timestamp(row.get(2)?) }))
}

pub(super) fn ensure_server_secret(connection: &Connection, secret: &StoredSecret) -> Result<StoredSecret, Failure> {
    connection
        .prepare_cached(
            "INSERT INTO server_secrets (name, secret, encrypted, created_at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (name) DO NOTHING",
        )?
        .execute((SERVER, &secret.secret, secret.encrypted, secret.created_at.0))?;
    server_secret(connection)?.ok_or_else(|| broken("the server's secret was saved and is not there"))
}

pub(super) fn seal(
    connection: &Connection,
    keys: &[(String, Vec<u8>)],
    server_secret: Option<&[u8]>,
) -> Result<bool, Failure> {
    let is_plain = |key: &StoredSigningKey| keys.iter().any(|(kid, _)| *kid == key.kid) && !key.encrypted;
    let plain_keys = signing_keys(connection)?.iter().filter(|key| is_plain(key)).count();
    let is_server_plain = self::server_secret(connection)?.is_some_and(|stored| !stored.encrypted);
    if plain_keys != keys.len() || (server_secret.is_some() && !is_server_plain) {
        return Ok(false);
    }
    let mut seal_key =
        connection.prepare_cached("UPDATE signing_keys SET private_key = ?2, encrypted = 1 WHERE kid = ?1")?;
    for (kid, sealed) in keys {
        seal_key.execute((kid, sealed))?;
    }
    if let Some(sealed) = server_secret {
        connection
            .prepare_cached("UPDATE server_secrets SET secret = ?2, encrypted = 1 WHERE name = ?1")?
            .execute((SERVER, sealed))?;
    }
    Ok(true)
}
