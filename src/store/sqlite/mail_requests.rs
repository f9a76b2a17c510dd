//! Mail requests, in the users file: `domain::mail_requests` says which are open.

use rusqlite::{Connection, Row};

use super::failure::{Failure, broken};
use crate::domain::ids::{MailRequestId, UserId};
use crate::domain::mail_requests::{MailRequest, MailRequestKind};
use crate::domain::time::Timestamp;
use crate::domain::users::TokenHash;

/// The step of the users file that brings mail: requests, the secret that their tokens are derived from, and what of a
/// user decides whether they are written to. The demo's accounts are those under a domain that nobody can own.
pub(super) const SCHEMA: &str = "
    ALTER TABLE users ADD COLUMN demo INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE users ADD COLUMN erased_at INTEGER;
    UPDATE users SET demo = 1 WHERE email_key LIKE '%@demo.example';
    CREATE INDEX users_with_promotions ON users (id) WHERE promotions = 1 AND erased_at IS NULL;
    CREATE INDEX users_with_recommendations ON users (id) WHERE recommendations = 1 AND erased_at IS NULL;
    CREATE TABLE mail_requests (
        id BLOB PRIMARY KEY,
        user_id BLOB NOT NULL,
        kind TEXT NOT NULL,
        token_hash BLOB NOT NULL UNIQUE,
        created_at INTEGER NOT NULL,
        expires_at INTEGER NOT NULL,
        used_at INTEGER,
        replaced_at INTEGER
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX mail_requests_by_user ON mail_requests (user_id, kind);
    CREATE INDEX mail_requests_by_expiry ON mail_requests (expires_at);
    CREATE TABLE server_secrets (
        name TEXT PRIMARY KEY,
        secret BLOB NOT NULL,
        encrypted INTEGER NOT NULL,
        created_at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;";

/// Voids the open requests of a user and kind.
pub(super) fn replace_open(
    connection: &Connection,
    user: UserId,
    kind: MailRequestKind,
    at: Timestamp,
) -> Result<(), Failure> {
    connection
        .prepare_cached(
            "UPDATE mail_requests SET replaced_at = ?3
             WHERE user_id = ?1 AND kind = ?2 AND used_at IS NULL AND replaced_at IS NULL",
        )?
        .execute((user.as_bytes(), kind.as_str(), at.0))?;
    Ok(())
}

/// Saves a request; it takes the place of those of its user and kind.
pub(super) fn insert(connection: &Connection, request: &MailRequest) -> Result<(), Failure> {
    replace_open(connection, request.user_id, request.kind, request.created_at)?;
    connection
        .prepare_cached(
            "INSERT INTO mail_requests (id, user_id, kind, token_hash, created_at, expires_at, used_at, replaced_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute((
            request.id.as_bytes(),
            request.user_id.as_bytes(),
            request.kind.as_str(),
            request.token.0,
            request.created_at.0,
            request.expires_at.0,
            request.used_at.map(|at| at.0),
            request.replaced_at.map(|at| at.0),
        ))?;
    Ok(())
}

/// The columns that [`decode`] reads.
macro_rules! select {
    ($condition:literal) => {
        concat!(
            "SELECT id, user_id, kind, token_hash, created_at, expires_at, used_at, replaced_at FROM mail_requests ",
            $condition
        )
    };
}

pub(super) fn by_id(connection: &Connection, id: MailRequestId) -> Result<Option<MailRequest>, Failure> {
    let mut statement = connection.prepare_cached(select!("WHERE id = ?1"))?;
    let mut rows = statement.query([id.as_bytes()])?;
    rows.next()?.map(decode).transpose()
}

pub(super) fn of_user(connection: &Connection, user: UserId) -> Result<Vec<MailRequest>, Failure> {
    let mut statement = connection.prepare_cached(select!("WHERE user_id = ?1 ORDER BY id DESC"))?;
    let mut rows = statement.query([user.as_bytes()])?;
    let mut requests = Vec::new();
    while let Some(row) = rows.next()? {
        requests.push(decode(row)?);
    }
    Ok(requests)
}

pub(super) fn open(
    connection: &Connection,
    token: TokenHash,
    kind: MailRequestKind,
    now: Timestamp,
) -> Result<Option<MailRequest>, Failure> {
    let mut statement = connection.prepare_cached(select!("WHERE token_hash = ?1"))?;
    let mut rows = statement.query([token.0])?;
    let request = rows.next()?.map(decode).transpose()?;
    Ok(request.filter(|request| request.kind == kind && request.is_open(now)))
}

/// Uses up the open request of a token.
pub(super) fn take(
    connection: &Connection,
    token: TokenHash,
    kind: MailRequestKind,
    now: Timestamp,
) -> Result<Option<MailRequest>, Failure> {
    let Some(request) = open(connection, token, kind, now)? else { return Ok(None) };
    connection
        .prepare_cached("UPDATE mail_requests SET used_at = ?2 WHERE id = ?1")?
        .execute((request.id.as_bytes(), now.0))?;
    Ok(Some(request))
}

pub(super) fn remove(connection: &Connection, id: MailRequestId) -> Result<(), Failure> {
    connection.prepare_cached("DELETE FROM mail_requests WHERE id = ?1")?.execute([id.as_bytes()])?;
    Ok(())
}

pub(super) fn remove_all(connection: &Connection, user: UserId) -> Result<(), Failure> {
    connection.prepare_cached("DELETE FROM mail_requests WHERE user_id = ?1")?.execute([user.as_bytes()])?;
    Ok(())
}

pub(super) fn purge(connection: &Connection, before: Timestamp) -> Result<u64, Failure> {
    let purged = connection.prepare_cached("DELETE FROM mail_requests WHERE expires_at < ?1")?.execute([before.0])?;
    Ok(purged as u64)
}

fn decode(row: &Row<'_>) -> Result<MailRequest, Failure> {
    let kind = row.get_ref(2)?.as_str().map_err(rusqlite::Error::from)?;
    let time = |column| row.get::<_, Option<i64>>(column).map(|at| at.map(Timestamp));
    Ok(MailRequest {
        id: MailRequestId::from_bytes(row.get(0)?),
        user_id: UserId::from_bytes(row.get(1)?),
        kind: MailRequestKind::named(kind).ok_or_else(|| broken(format!("unknown mail request {kind}")))?,
        token: TokenHash(row.get(3)?),
        created_at: Timestamp(row.get(4)?),
        expires_at: Timestamp(row.get(5)?),
        used_at: time(6)?,
        replaced_at: time(7)?,
    })
}
