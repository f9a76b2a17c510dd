//! API keys, in the users file: `domain::api_keys` says who may have which.

use async_trait::async_trait;
use rusqlite::{Connection, Row};

use super::database::Write;
use super::failure::{Failure, broken};
use super::sessions;
use super::users::{SqliteUserStore, decode_role, present, save};
use crate::domain::api_keys::{ApiKey, ApiKeyScope, ApiKeyScopes, admit};
use crate::domain::events::{PendingEvent, event_type};
use crate::domain::ids::{ApiKeyId, UserId};
use crate::domain::time::Timestamp;
use crate::domain::users::{TokenHash, User};
use crate::store::StoreError;
use crate::store::api_keys::{ApiKeyState, ApiKeyStore, InsertApiKey, NewApiKey};

pub(super) const SCHEMA: &str = "
    CREATE TABLE api_keys (
        id BLOB PRIMARY KEY,
        user_id BLOB NOT NULL,
        token_hash BLOB NOT NULL,
        name TEXT NOT NULL,
        -- Their names, a space between two.
        scopes TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        last_used_at INTEGER,
        expires_at INTEGER,
        revoked_at INTEGER
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX api_keys_by_user ON api_keys (user_id);";

#[async_trait]
impl ApiKeyStore for SqliteUserStore {
    async fn insert_api_key(&self, new: NewApiKey) -> Result<InsertApiKey, StoreError> {
        self.database.write(move |write| insert(write, &new)).await
    }

    async fn api_keys(&self, user: UserId) -> Result<Vec<ApiKey>, StoreError> {
        self.database.read(move |connection| of_user(connection, user)).await
    }

    async fn revoke_api_key(
        &self,
        id: ApiKeyId,
        of: Option<UserId>,
        at: Timestamp,
    ) -> Result<Option<ApiKey>, StoreError> {
        self.database.write(move |write| revoke(write, id, of, at)).await
    }

    async fn api_key_states(&self, ids: &[ApiKeyId]) -> Result<Vec<(ApiKeyId, ApiKeyState)>, StoreError> {
        let ids = ids.to_vec();
        self.database
            .read(move |connection| {
                let found = |id| state(connection, id).map(|state| state.map(|state| (id, state)));
                ids.into_iter().filter_map(|id| found(id).transpose()).collect()
            })
            .await
    }

    async fn record_api_key_uses(&self, uses: &[(ApiKeyId, Timestamp)]) -> Result<(), StoreError> {
        let uses = uses.to_vec();
        self.database.write(move |write| record_uses(write.sql(), &uses)).await
    }
}

fn insert(write: &mut Write<'_>, new: &NewApiKey) -> Result<InsertApiKey, Failure> {
    let NewApiKey { key, token, session } = new;
    let connection = write.sql();
    let Some(before) = present(connection, key.user_id)? else { return Ok(InsertApiKey::SignedOut) };
    let session = sessions::state(connection, *session, key.created_at)?;
    if !session.is_some_and(|session| session.user_id == key.user_id && !session.ended) {
        return Ok(InsertApiKey::SignedOut);
    }
    let replaced = match admit(key, before.role, &of_user(connection, key.user_id)?) {
        Ok(replaced) => replaced,
        Err(refusal) => return Ok(InsertApiKey::Refused(refusal)),
    };
    for id in replaced {
        connection.prepare_cached("DELETE FROM api_keys WHERE id = ?1")?.execute([id.as_bytes()])?;
    }
    connection
        .prepare_cached(
            "INSERT INTO api_keys (id, user_id, token_hash, name, scopes, created_at, last_used_at, expires_at, revoked_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute((
            key.id.as_bytes(),
            key.user_id.as_bytes(),
            token.0,
            &key.name,
            encode_scopes(key.scopes),
            key.created_at.0,
            key.last_used_at.map(|at| at.0),
            key.expires_at.map(|at| at.0),
            key.revoked_at.map(|at| at.0),
        ))?;
    let mut user = before.clone();
    let event = user.api_key_event(key, event_type::USER_API_KEY_CREATED, key.created_at);
    save(write.sql(), &before, &user)?;
    write.emit(event)?;
    Ok(InsertApiKey::Inserted)
}

/// The columns that [`decode`] reads.
macro_rules! select {
    ($condition:literal) => {
        concat!(
            "SELECT id, user_id, name, scopes, created_at, last_used_at, expires_at, revoked_at FROM api_keys ",
            $condition
        )
    };
}

pub(super) fn of_user(connection: &Connection, user: UserId) -> Result<Vec<ApiKey>, Failure> {
    let mut statement = connection.prepare_cached(select!("WHERE user_id = ?1 ORDER BY id DESC"))?;
    let mut rows = statement.query([user.as_bytes()])?;
    let mut keys = Vec::new();
    while let Some(row) = rows.next()? {
        keys.push(decode(row)?);
    }
    Ok(keys)
}

fn by_id(connection: &Connection, id: ApiKeyId) -> Result<Option<ApiKey>, Failure> {
    let mut statement = connection.prepare_cached(select!("WHERE id = ?1"))?;
    let mut rows = statement.query([id.as_bytes()])?;
    rows.next()?.map(decode).transpose()
}

fn revoke(write: &mut Write<'_>, id: ApiKeyId, of: Option<UserId>, at: Timestamp) -> Result<Option<ApiKey>, Failure> {
    let found = by_id(write.sql(), id)?.filter(|key| of.is_none_or(|of| of == key.user_id));
    let Some(mut key) = found else { return Ok(None) };
    if key.revoked_at.is_some() {
        return Ok(Some(key));
    }
    let before = present(write.sql(), key.user_id)?.ok_or_else(|| broken("a key has no user"))?;
    let mut user = before.clone();
    let event = end(write.sql(), &mut user, &mut key, at)?;
    save(write.sql(), &before, &user)?;
    write.emit(event)?;
    Ok(Some(key))
}

fn end(connection: &Connection, user: &mut User, key: &mut ApiKey, at: Timestamp) -> Result<PendingEvent, Failure> {
    connection
        .prepare_cached("UPDATE api_keys SET revoked_at = ?2 WHERE id = ?1")?
        .execute((key.id.as_bytes(), at.0))?;
    key.revoked_at = Some(at);
    Ok(user.api_key_event(key, event_type::USER_API_KEY_REVOKED, at))
}

/// Ends every key of a user that serves; saving the user and what announces it is the caller's.
pub(super) fn revoke_all(
    connection: &Connection,
    user: &mut User,
    at: Timestamp,
) -> Result<Vec<PendingEvent>, Failure> {
    let living = of_user(connection, user.id)?.into_iter().filter(|key| key.is_alive(at));
    living.map(|mut key| end(connection, user, &mut key, at)).collect()
}

pub(super) fn remove_all(connection: &Connection, user: UserId) -> Result<(), Failure> {
    connection.prepare_cached("DELETE FROM api_keys WHERE user_id = ?1")?.execute([user.as_bytes()])?;
    Ok(())
}

fn state(connection: &Connection, id: ApiKeyId) -> Result<Option<ApiKeyState>, Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT u.id, u.role, k.scopes, k.token_hash, k.expires_at, k.revoked_at IS NOT NULL
         FROM api_keys k JOIN users u ON u.id = k.user_id WHERE k.id = ?1",
    )?;
    let mut rows = statement.query([id.as_bytes()])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let text = |column| row.get_ref(column)?.as_str().map_err(rusqlite::Error::from);
    Ok(Some(ApiKeyState {
        user_id: UserId::from_bytes(row.get(0)?),
        role: decode_role(text(1)?)?,
        scopes: decode_scopes(text(2)?)?,
        token: TokenHash(row.get(3)?),
        expires_at: row.get::<_, Option<i64>>(4)?.map(Timestamp),
        revoked: row.get(5)?,
    }))
}

fn record_uses(connection: &Connection, uses: &[(ApiKeyId, Timestamp)]) -> Result<(), Failure> {
    let mut statement = connection
        .prepare_cached("UPDATE api_keys SET last_used_at = MAX(COALESCE(last_used_at, ?2), ?2) WHERE id = ?1")?;
    for (id, at) in uses {
        statement.execute((id.as_bytes(), at.0))?;
    }
    Ok(())
}

fn encode_scopes(scopes: ApiKeyScopes) -> String {
    scopes.iter().map(ApiKeyScope::as_str).collect::<Vec<_>>().join(" ")
}

fn decode_scopes(names: &str) -> Result<ApiKeyScopes, Failure> {
    let named = |name| ApiKeyScope::named(name).ok_or_else(|| broken(format!("unknown scope {name}")));
    names.split_whitespace().map(named).collect()
}

fn decode(row: &Row<'_>) -> Result<ApiKey, Failure> {
    let time = |column| row.get::<_, Option<i64>>(column).map(|at| at.map(Timestamp));
    Ok(ApiKey {
        id: ApiKeyId::from_bytes(row.get(0)?),
        user_id: UserId::from_bytes(row.get(1)?),
        name: row.get(2)?,
        scopes: decode_scopes(row.get_ref(3)?.as_str().map_err(rusqlite::Error::from)?)?,
        created_at: Timestamp(row.get(4)?),
        last_used_at: time(5)?,
        expires_at: time(6)?,
        revoked_at: time(7)?,
    })
}
