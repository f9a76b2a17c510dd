//! Sessions and their refresh tokens, in the users file: `domain::users` judges, these functions do what it says.

use rusqlite::{Connection, OptionalExtension, Row};

use super::failure::{Failure, broken};
use super::migrations::Migration;
use super::users::{by_id, decode_role};
use crate::domain::ids::{SessionId, UserId};
use crate::domain::networks::NetworkDigest;
use crate::domain::time::Timestamp;
use crate::domain::users::{RefreshToken, RefreshVerdict, Session, TokenHash, judge_refresh, outlived_before};
use crate::store::users::{Exchanged, NewSession, SessionState};

/// Sessions that one job removes, between which the file's writer does other work. Each may have thousands of tokens.
pub(super) const PURGED_AT_ONCE: u64 = 100;

/// The tokens of a session that have outlived themselves are found without a look at the others.
pub(super) const TOKENS_BY_AGE: Migration = Migration {
    name: "refresh tokens by age",
    sql: &["DROP INDEX refresh_tokens_by_session;
            CREATE INDEX refresh_tokens_by_session ON refresh_tokens (session_id, exchanged_at);"],
};

/// Tokens that have outlived themselves and go with one exchange: more than an exchange adds.
const OUTLIVED_AT_ONCE: u64 = 50;

/// Sessions tell from where they began.
pub(super) const NETWORKS: Migration =
    Migration { name: "networks of sessions", sql: &["ALTER TABLE sessions ADD COLUMN network BLOB"] };

pub(super) fn insert(connection: &Connection, new: &NewSession) -> Result<(), Failure> {
    let session = &new.session;
    connection
        .prepare_cached(
            "INSERT INTO sessions (id, user_id, user_agent, created_at, last_used_at, expires_at, revoked_at, network)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute((
            session.id.as_bytes(),
            session.user_id.as_bytes(),
            &session.user_agent,
            session.created_at.0,
            session.last_used_at.0,
            session.expires_at.0,
            session.revoked_at.map(|at| at.0),
            session.network.map(|network| network.0),
        ))?;
    insert_token(connection, new.token, session.id)
}

/// Unless the user's token epoch is another one.
pub(super) fn insert_at(connection: &Connection, new: &NewSession, token_epoch: i64) -> Result<bool, Failure> {
    let user = by_id(connection, new.session.user_id)?;
    let holds = user.is_some_and(|user| user.token_epoch == token_epoch);
    if holds {
        insert(connection, new)?;
    }
    Ok(holds)
}

pub(super) fn of_user(connection: &Connection, user: UserId) -> Result<Vec<Session>, Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT user_id, user_agent, created_at, last_used_at, expires_at, revoked_at, network, id FROM sessions
         WHERE user_id = ?1 ORDER BY id DESC",
    )?;
    let mut rows = statement.query([user.as_bytes()])?;
    let mut sessions = Vec::new();
    while let Some(row) = rows.next()? {
        sessions.push(decode(row, SessionId::from_bytes(row.get(7)?))?);
    }
    Ok(sessions)
}

/// Whether a session of the user under this key began in the network at `since` or later.
pub(super) fn began_in(
    connection: &Connection,
    sign_in_key: &str,
    network: NetworkDigest,
    since: Timestamp,
) -> Result<bool, Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM sessions WHERE user_id = (SELECT id FROM users WHERE email_key = ?1)
                        AND network = ?2 AND created_at >= ?3)",
    )?;
    Ok(statement.query_row((sign_in_key, network.0, since.0), |row| row.get(0))?)
}

/// Removes all that is kept of a user's sessions.
pub(super) fn remove_all(connection: &Connection, user: UserId) -> Result<(), Failure> {
    connection
        .prepare_cached("DELETE FROM refresh_tokens WHERE session_id IN (SELECT id FROM sessions WHERE user_id = ?1)")?
        .execute([user.as_bytes()])?;
    connection.prepare_cached("DELETE FROM sessions WHERE user_id = ?1")?.execute([user.as_bytes()])?;
    Ok(())
}

fn insert_token(connection: &Connection, token: TokenHash, session: SessionId) -> Result<(), Failure> {
    connection
        .prepare_cached("INSERT INTO refresh_tokens (hash, session_id) VALUES (?1, ?2)")?
        .execute((token.0, session.as_bytes()))?;
    Ok(())
}

pub(super) fn exchange(
    connection: &Connection,
    shown: TokenHash,
    successor: TokenHash,
    now: Timestamp,
    expires_at: Timestamp,
) -> Result<Exchanged, Failure> {
    let Some(token) = token(connection, shown)? else { return Ok(Exchanged::Unknown) };
    let Some(mut session) = session(connection, token.session_id)? else { return Ok(Exchanged::Unknown) };
    let used = match token.successor {
        Some(hash) => self::token(connection, hash)?.is_some_and(|next| next.exchanged_at.is_some()),
        None => false,
    };
    match judge_refresh(&token, &session, used, now) {
        RefreshVerdict::Exchange => {
            connection
                .prepare_cached("UPDATE refresh_tokens SET exchanged_at = ?2, successor = ?3 WHERE hash = ?1")?
                .execute((shown.0, now.0, successor.0))?;
            insert_token(connection, successor, session.id)?;
            let outlived = outlived_before(now, expires_at);
            if session.created_at < outlived {
                connection
                    .prepare_cached(
                        "DELETE FROM refresh_tokens WHERE hash IN
                         (SELECT hash FROM refresh_tokens WHERE session_id = ?1 AND exchanged_at < ?2 LIMIT ?3)",
                    )?
                    .execute((session.id.as_bytes(), outlived.0, OUTLIVED_AT_ONCE))?;
            }
            connection
                .prepare_cached("UPDATE sessions SET last_used_at = ?2, expires_at = ?3 WHERE id = ?1")?
                .execute((session.id.as_bytes(), now.0, expires_at.0))?;
            session.last_used_at = now;
            session.expires_at = expires_at;
            let user = by_id(connection, session.user_id)?.ok_or_else(|| broken("a session has no user"))?;
            Ok(Exchanged::Done { session, user: Box::new(user) })
        }
        RefreshVerdict::Reuse => {
            connection
                .prepare_cached("UPDATE sessions SET revoked_at = ?2 WHERE id = ?1")?
                .execute((session.id.as_bytes(), now.0))?;
            Ok(Exchanged::Refused(RefreshVerdict::Reuse))
        }
        refused @ (RefreshVerdict::Race | RefreshVerdict::Dead) => Ok(Exchanged::Refused(refused)),
    }
}

pub(super) fn end(
    connection: &Connection,
    user: UserId,
    token: TokenHash,
    at: Timestamp,
) -> Result<Option<SessionId>, Failure> {
    let ended = connection
        .prepare_cached(
            "UPDATE sessions SET revoked_at = COALESCE(revoked_at, ?3)
             WHERE user_id = ?1 AND id = (SELECT session_id FROM refresh_tokens WHERE hash = ?2) RETURNING id",
        )?
        .query_row((user.as_bytes(), token.0, at.0), |row| row.get(0))
        .optional()?;
    Ok(ended.map(SessionId::from_bytes))
}

/// Ends every session of a user; the token epoch is the caller's.
pub(super) fn revoke_all(connection: &Connection, user: UserId, at: Timestamp) -> Result<(), Failure> {
    connection
        .prepare_cached("UPDATE sessions SET revoked_at = ?2 WHERE user_id = ?1 AND revoked_at IS NULL")?
        .execute((user.as_bytes(), at.0))?;
    Ok(())
}

pub(super) fn end_all(connection: &Connection, user: UserId, at: Timestamp) -> Result<(), Failure> {
    revoke_all(connection, user, at)?;
    connection
        .prepare_cached("UPDATE users SET token_epoch = token_epoch + 1 WHERE id = ?1")?
        .execute([user.as_bytes()])?;
    Ok(())
}

pub(super) fn state(
    connection: &Connection,
    session: SessionId,
    now: Timestamp,
) -> Result<Option<SessionState>, Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT u.id, u.role, u.token_epoch, s.revoked_at IS NOT NULL OR s.expires_at <= ?2
         FROM sessions s JOIN users u ON u.id = s.user_id WHERE s.id = ?1",
    )?;
    let mut rows = statement.query((session.as_bytes(), now.0))?;
    let Some(row) = rows.next()? else { return Ok(None) };
    Ok(Some(SessionState {
        user_id: UserId::from_bytes(row.get(0)?),
        role: decode_role(row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?)?,
        token_epoch: row.get(2)?,
        ended: row.get(3)?,
    }))
}

/// Removes some of the sessions that expired before `before`; fewer than [`PURGED_AT_ONCE`]: those were all.
pub(super) fn purge(connection: &Connection, before: Timestamp) -> Result<u64, Failure> {
    let expired = "(SELECT id FROM sessions WHERE expires_at < ?1 ORDER BY expires_at, id LIMIT ?2)";
    let some = (before.0, PURGED_AT_ONCE);
    connection.prepare_cached(&format!("DELETE FROM refresh_tokens WHERE session_id IN {expired}"))?.execute(some)?;
    let purged = connection.prepare_cached(&format!("DELETE FROM sessions WHERE id IN {expired}"))?.execute(some)?;
    Ok(purged as u64)
}

fn token(connection: &Connection, hash: TokenHash) -> Result<Option<RefreshToken>, Failure> {
    let mut statement =
        connection.prepare_cached("SELECT session_id, exchanged_at, successor FROM refresh_tokens WHERE hash = ?1")?;
    let mut rows = statement.query([hash.0])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    Ok(Some(RefreshToken {
        hash,
        session_id: SessionId::from_bytes(row.get(0)?),
        exchanged_at: row.get::<_, Option<i64>>(1)?.map(Timestamp),
        successor: row.get::<_, Option<[u8; 32]>>(2)?.map(TokenHash),
    }))
}

fn session(connection: &Connection, id: SessionId) -> Result<Option<Session>, Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT user_id, user_agent, created_at, last_used_at, expires_at, revoked_at, network FROM sessions
         WHERE id = ?1",
    )?;
    let mut rows = statement.query([id.as_bytes()])?;
    rows.next()?.map(|row| decode(row, id)).transpose()
}

fn decode(row: &Row<'_>, id: SessionId) -> Result<Session, Failure> {
    Ok(Session {
        id,
        user_id: UserId::from_bytes(row.get(0)?),
        user_agent: row.get(1)?,
        created_at: Timestamp(row.get(2)?),
        last_used_at: Timestamp(row.get(3)?),
        expires_at: Timestamp(row.get(4)?),
        revoked_at: row.get::<_, Option<i64>>(5)?.map(Timestamp),
        network: row.get::<_, Option<[u8; 16]>>(6)?.map(NetworkDigest),
    })
}
