//! Signing keys and the server's secret, in the users file: of several that are offered the first one stays.

use rusqlite::Connection;

use super::failure::{Failure, broken};
use crate::domain::time::Timestamp;
use crate::store::users::{StoredSecret, StoredSigningKey};

/// The name of the one secret.
const SERVER: &str = "server";

pub(super) fn signing_keys(connection: &Connection) -> Result<Vec<StoredSigningKey>, Failure> {
    let mut statement = connection
        .prepare_cached("SELECT kid, private_key, encrypted, created_at FROM signing_keys ORDER BY position DESC")?;
    let mut rows = statement.query(())?;
    let mut keys = Vec::new();
    while let Some(row) = rows.next()? {
        keys.push(StoredSigningKey {
            kid: row.get(0)?,
            private_key: row.get(1)?,
            encrypted: row.get(2)?,
            created_at: Timestamp(row.get(3)?),
        });
    }
    Ok(keys)
}

pub(super) fn ensure_signing_key(
    connection: &Connection,
    key: &StoredSigningKey,
) -> Result<Vec<StoredSigningKey>, Failure> {
    connection
        .prepare_cached(
            "INSERT INTO signing_keys (kid, private_key, encrypted, created_at)
             SELECT ?1, ?2, ?3, ?4 WHERE NOT EXISTS (SELECT 1 FROM signing_keys)",
        )?
        .execute((&key.kid, &key.private_key, key.encrypted, key.created_at.0))?;
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
