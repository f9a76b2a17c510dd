//! The users file: users by insertion position with the words they are found by, sessions with their refresh tokens,
//! and the signing keys.

use async_trait::async_trait;
use rusqlite::{Connection, Row};

use super::database::{Database, Write};
use super::failure::{Failure, broken};
use super::migrations::Migration;
use super::{accounts, api_keys, consumption, mail_requests, outbox, secrets, sessions, user_lists};
use crate::domain::events::event_type;
use crate::domain::ids::{MailRequestId, SessionId, UserId};
use crate::domain::mail_requests::{MailRequest, MailRequestKind};
use crate::domain::networks::NetworkDigest;
use crate::domain::page::{Page, PageRequest};
use crate::domain::search;
use crate::domain::text::Email;
use crate::domain::time::Timestamp;
use crate::domain::users::{PasswordHash, Preferences, PreferencesEdit, Role, Session, Subscription, TokenHash, User};
use crate::store::StoreError;
use crate::store::users::{
    Exchanged, InsertUser, NewMailRequest, NewPassword, NewSession, NewUser, SessionState, StoredSecret,
    StoredSigningKey, UserStore,
};

const MIGRATIONS: &[Migration] = &[
    Migration {
        name: "users",
        sql: &[
            outbox::SCHEMA,
            consumption::SCHEMA,
            "
            CREATE TABLE users (
                position INTEGER PRIMARY KEY,
                id BLOB NOT NULL UNIQUE,
                email TEXT NOT NULL,
                -- The address in the form under which it is unique.
                email_key TEXT NOT NULL UNIQUE,
                name TEXT NOT NULL,
                password_hash TEXT NOT NULL,
                role TEXT NOT NULL,
                email_verified INTEGER NOT NULL,
                order_updates INTEGER NOT NULL,
                promotions INTEGER NOT NULL,
                recommendations INTEGER NOT NULL,
                token_epoch INTEGER NOT NULL,
                created_at INTEGER NOT NULL,
                updated_at INTEGER NOT NULL,
                event_sequence INTEGER NOT NULL
            ) STRICT;
            CREATE TABLE user_words (
                word TEXT NOT NULL,
                position INTEGER NOT NULL,
                PRIMARY KEY (word, position)
            ) STRICT, WITHOUT ROWID;
            CREATE TABLE sessions (
                id BLOB PRIMARY KEY,
                user_id BLOB NOT NULL,
                user_agent TEXT,
                created_at INTEGER NOT NULL,
                last_used_at INTEGER NOT NULL,
                expires_at INTEGER NOT NULL,
                revoked_at INTEGER
            ) STRICT, WITHOUT ROWID;
            CREATE INDEX sessions_by_user ON sessions (user_id);
            CREATE INDEX sessions_by_expiry ON sessions (expires_at);
            CREATE TABLE refresh_tokens (
                hash BLOB PRIMARY KEY,
                session_id BLOB NOT NULL,
                exchanged_at INTEGER,
                successor BLOB
            ) STRICT, WITHOUT ROWID;
            CREATE INDEX refresh_tokens_by_session ON refresh_tokens (session_id);
            CREATE TABLE signing_keys (
                position INTEGER PRIMARY KEY,
                kid TEXT NOT NULL UNIQUE,
                private_key BLOB NOT NULL,
                encrypted INTEGER NOT NULL,
                created_at INTEGER NOT NULL
            ) STRICT;",
        ],
    },
    Migration { name: "mail requests", sql: &[mail_requests::SCHEMA] },
    // What is counted and listed: deleted accounts are not.
    Migration {
        name: "present users",
        sql: &["CREATE INDEX users_present ON users (position) WHERE erased_at IS NULL;"],
    },
    Migration { name: "terms of signing keys", sql: &[secrets::TERMS] },
    Migration { name: "API keys", sql: &[api_keys::SCHEMA] },
    sessions::NETWORKS,
    sessions::TOKENS_BY_AGE,
];

/// The columns that [`decode`] reads, of a user `u`.
macro_rules! columns {
    () => {
        "u.id, u.email, u.name, u.role, u.email_verified, u.order_updates, u.promotions, u.recommendations,
         u.token_epoch, u.created_at, u.updated_at, u.event_sequence, u.demo, u.erased_at"
    };
}
pub(super) use columns;
pub(super) const COLUMNS: usize = 14;
/// A user with the hash of the password behind.
macro_rules! credentials {
    ($condition:literal) => {
        concat!("SELECT ", columns!(), ", u.password_hash FROM users u WHERE ", $condition)
    };
}
/// Users in their SQLite file.
pub struct SqliteUserStore {
    pub(super) database: Database,
}

super::store_over_database!(SqliteUserStore, "users", MIGRATIONS);
super::outbox_over_database!(SqliteUserStore);

#[async_trait]
impl UserStore for SqliteUserStore {
    async fn insert_user(&self, user: NewUser) -> Result<InsertUser, StoreError> {
        self.database.write(move |write| insert(write, user)).await
    }

    async fn users(&self, ids: &[UserId]) -> Result<Vec<User>, StoreError> {
        let ids = ids.to_vec();
        self.database
            .read(move |connection| ids.iter().filter_map(|id| by_id(connection, *id).transpose()).collect())
            .await
    }

    async fn credentials(&self, email: &Email) -> Result<Option<(User, PasswordHash)>, StoreError> {
        let key = email.key();
        self.database
            .read(move |connection| {
                let mut statement = connection.prepare_cached(credentials!("u.email_key = ?1"))?;
                let mut rows = statement.query([key])?;
                rows.next()?.map(decode_credentials).transpose()
            })
            .await
    }

    async fn credentials_of(&self, id: UserId) -> Result<Option<(User, PasswordHash)>, StoreError> {
        self.database.read(move |connection| credentials_of(connection, id)).await
    }

    async fn list_users(&self, search: Option<&str>, page: &PageRequest) -> Result<Page<User>, StoreError> {
        let words = search.map(search::words).unwrap_or_default();
        let page = page.clone();
        self.database.read(move |connection| user_lists::list(connection, words, &page)).await
    }

    async fn count_shoppers(&self) -> Result<u64, StoreError> {
        self.database
            .read(|connection| {
                let count: i64 = connection
                    .prepare_cached("SELECT COUNT(*) FROM users WHERE role != ?1")?
                    .query_row([Role::Admin.as_str()], |row| row.get(0))?;
                Ok(count.unsigned_abs())
            })
            .await
    }

    async fn edit_preferences(
        &self,
        id: UserId,
        edit: PreferencesEdit,
        at: Timestamp,
    ) -> Result<Option<User>, StoreError> {
        self.change(id, at, move |user| user.edit_preferences(edit)).await
    }

    async fn rename(&self, id: UserId, name: String, at: Timestamp) -> Result<Option<User>, StoreError> {
        self.change(id, at, move |user| user.rename(&name)).await
    }

    async fn replace_password(&self, new: NewPassword) -> Result<Option<User>, StoreError> {
        self.database.write(move |write| accounts::replace_password(write, new)).await
    }

    async fn renew_password_hash(
        &self,
        id: UserId,
        present: &PasswordHash,
        renewed: PasswordHash,
    ) -> Result<bool, StoreError> {
        let present = present.clone();
        self.database.write(move |write| accounts::renew_password_hash(write.sql(), id, &present, &renewed)).await
    }

    async fn erase_user(&self, id: UserId, present: &PasswordHash, at: Timestamp) -> Result<bool, StoreError> {
        let present = present.clone();
        self.database.write(move |write| accounts::erase(write, id, &present, at)).await
    }

    async fn change_role(&self, id: UserId, role: Role, at: Timestamp) -> Result<Option<User>, StoreError> {
        self.database.write(move |write| accounts::change_role(write, id, role, at)).await
    }

    async fn insert_session(&self, session: NewSession, token_epoch: i64) -> Result<bool, StoreError> {
        self.database.write(move |write| sessions::insert_at(write.sql(), &session, token_epoch)).await
    }

    async fn signed_in_from(
        &self,
        email: &Email,
        network: NetworkDigest,
        since: Timestamp,
    ) -> Result<bool, StoreError> {
        let key = email.key();
        self.database.read(move |connection| sessions::began_in(connection, &key, network, since)).await
    }

    async fn sessions(&self, user: UserId) -> Result<Vec<Session>, StoreError> {
        self.database.read(move |connection| sessions::of_user(connection, user)).await
    }

    async fn exchange_refresh_token(
        &self,
        shown: TokenHash,
        successor: TokenHash,
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Result<Exchanged, StoreError> {
        self.database.write(move |write| sessions::exchange(write.sql(), shown, successor, now, expires_at)).await
    }

    async fn end_session(
        &self,
        user: UserId,
        token: TokenHash,
        at: Timestamp,
    ) -> Result<Option<SessionId>, StoreError> {
        self.database.write(move |write| sessions::end(write.sql(), user, token, at)).await
    }

    async fn end_all_sessions(&self, user: UserId, at: Timestamp) -> Result<(), StoreError> {
        self.database.write(move |write| sessions::end_all(write.sql(), user, at)).await
    }

    async fn session_state(&self, session: SessionId, now: Timestamp) -> Result<Option<SessionState>, StoreError> {
        self.database.read(move |connection| sessions::state(connection, session, now)).await
    }

    async fn session_states(
        &self,
        ids: &[SessionId],
        now: Timestamp,
    ) -> Result<Vec<(SessionId, SessionState)>, StoreError> {
        let ids = ids.to_vec();
        self.database
            .read(move |connection| {
                let found = |id| sessions::state(connection, id, now).map(|state| state.map(|state| (id, state)));
                ids.into_iter().filter_map(|id| found(id).transpose()).collect()
            })
            .await
    }

    async fn purge_sessions(&self, before: Timestamp) -> Result<u64, StoreError> {
        let mut purged = 0;
        loop {
            let some = self.database.write(move |write| sessions::purge(write.sql(), before)).await?;
            purged += some;
            if some < sessions::PURGED_AT_ONCE {
                return Ok(purged);
            }
        }
    }

    async fn signing_keys(&self) -> Result<Vec<StoredSigningKey>, StoreError> {
        self.database.read(secrets::signing_keys).await
    }

    async fn ensure_signing_key(&self, key: StoredSigningKey) -> Result<Vec<StoredSigningKey>, StoreError> {
        self.database.write(move |write| secrets::ensure_signing_key(write.sql(), &key)).await
    }

    async fn rotate_signing_key(
        &self,
        key: StoredSigningKey,
        others_end: Timestamp,
    ) -> Result<Vec<StoredSigningKey>, StoreError> {
        self.database.write(move |write| secrets::rotate_signing_key(write.sql(), &key, others_end)).await
    }

    async fn server_secret(&self) -> Result<Option<StoredSecret>, StoreError> {
        self.database.read(secrets::server_secret).await
    }

    async fn ensure_server_secret(&self, secret: StoredSecret) -> Result<StoredSecret, StoreError> {
        self.database.write(move |write| secrets::ensure_server_secret(write.sql(), &secret)).await
    }

    async fn seal_secrets(
        &self,
        signing_keys: Vec<(String, Vec<u8>)>,
        server_secret: Option<Vec<u8>>,
    ) -> Result<bool, StoreError> {
        let seal = move |write: &mut Write<'_>| secrets::seal(write.sql(), &signing_keys, server_secret.as_deref());
        self.database.write(seal).await
    }

    async fn mail_request(&self, id: MailRequestId) -> Result<Option<MailRequest>, StoreError> {
        self.database.read(move |connection| mail_requests::by_id(connection, id)).await
    }

    async fn mail_requests(&self, user: UserId) -> Result<Vec<MailRequest>, StoreError> {
        self.database.read(move |connection| mail_requests::of_user(connection, user)).await
    }

    async fn open_mail_request(
        &self,
        token: TokenHash,
        kind: MailRequestKind,
        now: Timestamp,
    ) -> Result<Option<MailRequest>, StoreError> {
        self.database.read(move |connection| mail_requests::open(connection, token, kind, now)).await
    }

    async fn request_password_reset(&self, email: &Email, request: NewMailRequest) -> Result<(), StoreError> {
        let key = email.key();
        self.database.write(move |write| accounts::request_password_reset(write, &key, request)).await
    }

    async fn request_verification(&self, user: UserId, request: NewMailRequest) -> Result<Option<User>, StoreError> {
        self.database.write(move |write| accounts::request_verification(write, user, request)).await
    }

    async fn verify_email(&self, token: TokenHash, at: Timestamp) -> Result<Option<User>, StoreError> {
        self.database.write(move |write| accounts::verify_email(write, token, at)).await
    }

    async fn purge_mail_requests(&self, before: Timestamp) -> Result<u64, StoreError> {
        self.database.write(move |write| mail_requests::purge(write.sql(), before)).await
    }

    async fn audience(
        &self,
        subscription: Subscription,
        after: Option<UserId>,
        limit: u32,
    ) -> Result<Vec<UserId>, StoreError> {
        self.database.read(move |connection| user_lists::audience(connection, subscription, after, limit)).await
    }
}

impl SqliteUserStore {
    /// Changes a user and announces it; `change` says whether there is anything to save.
    async fn change(
        &self,
        id: UserId,
        at: Timestamp,
        change: impl FnOnce(&mut User) -> bool + Send + 'static,
    ) -> Result<Option<User>, StoreError> {
        self.database
            .write(move |write| {
                let Some(before) = present(write.sql(), id)? else { return Ok(None) };
                let mut user = before.clone();
                if change(&mut user) {
                    user.updated_at = at;
                    let event = user.event(event_type::USER_UPDATED, at);
                    save(write.sql(), &before, &user)?;
                    write.emit(event)?;
                }
                Ok(Some(user))
            })
            .await
    }
}

fn insert(write: &mut Write<'_>, new: NewUser) -> Result<InsertUser, Failure> {
    let NewUser { user, password_hash, verification, event } = new;
    let connection = write.sql();
    let inserted = connection
        .prepare_cached(
            "INSERT INTO users (id, email, email_key, name, password_hash, role, email_verified, order_updates,
                                promotions, recommendations, token_epoch, created_at, updated_at, event_sequence, demo)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)
             ON CONFLICT (email_key) DO NOTHING",
        )?
        .execute((
            user.id.as_bytes(),
            user.email.as_str(),
            user.sign_in_key(),
            &user.name,
            &password_hash.0,
            user.role.as_str(),
            user.email_verified,
            user.preferences.order_updates,
            user.preferences.promotions,
            user.preferences.recommendations,
            user.token_epoch,
            user.created_at.0,
            user.updated_at.0,
            user.event_sequence,
            user.demo,
        ))?;
    if inserted == 0 {
        return Ok(InsertUser::EmailTaken);
    }
    insert_words(connection, &user, connection.last_insert_rowid())?;
    if let Some(request) = &verification {
        mail_requests::insert(connection, request)?;
    }
    write.emit(event)?;
    Ok(InsertUser::Inserted)
}

/// Saves what has changed of a user; a deleted account is found by no word.
pub(super) fn save(connection: &Connection, before: &User, user: &User) -> Result<(), Failure> {
    let position = connection
        .prepare_cached(
            "UPDATE users SET role = ?2, email_verified = ?3, order_updates = ?4, promotions = ?5,
                              recommendations = ?6, token_epoch = ?7, updated_at = ?8, event_sequence = ?9,
                              email = ?10, email_key = ?11, name = ?12, erased_at = ?13
             WHERE id = ?1 RETURNING position",
        )?
        .query_row(
            (
                user.id.as_bytes(),
                user.role.as_str(),
                user.email_verified,
                user.preferences.order_updates,
                user.preferences.promotions,
                user.preferences.recommendations,
                user.token_epoch,
                user.updated_at.0,
                user.event_sequence,
                user.email.as_str(),
                user.sign_in_key(),
                &user.name,
                user.erased_at.map(|at| at.0),
            ),
            |row| row.get(0),
        )?;
    if (&before.name, &before.email) != (&user.name, &user.email) {
        let mut statement = connection.prepare_cached("DELETE FROM user_words WHERE word = ?1 AND position = ?2")?;
        for word in words_of(before) {
            statement.execute((word, position))?;
        }
        if user.erased_at.is_none() {
            insert_words(connection, user, position)?;
        }
    }
    Ok(())
}

fn words_of(user: &User) -> Vec<String> {
    let mut words = search::words(&user.name);
    words.extend(search::words(user.email.as_str()));
    words
}

fn insert_words(connection: &Connection, user: &User, position: i64) -> Result<(), Failure> {
    let mut statement =
        connection.prepare_cached("INSERT OR IGNORE INTO user_words (word, position) VALUES (?1, ?2)")?;
    for word in words_of(user) {
        statement.execute((word, position))?;
    }
    Ok(())
}

pub(super) fn by_sign_in_key(connection: &Connection, key: &str) -> Result<Option<User>, Failure> {
    let mut statement =
        connection.prepare_cached(concat!("SELECT ", columns!(), " FROM users u WHERE u.email_key = ?1"))?;
    let mut rows = statement.query([key])?;
    rows.next()?.map(decode).transpose()
}

pub(super) fn credentials_of(connection: &Connection, id: UserId) -> Result<Option<(User, PasswordHash)>, Failure> {
    let mut statement = connection.prepare_cached(credentials!("u.id = ?1 AND u.erased_at IS NULL"))?;
    let mut rows = statement.query([id.as_bytes()])?;
    rows.next()?.map(decode_credentials).transpose()
}

fn decode_credentials(row: &Row<'_>) -> Result<(User, PasswordHash), Failure> {
    Ok((decode(row)?, PasswordHash(row.get(COLUMNS)?)))
}

/// As [`by_id`], without deleted accounts.
pub(super) fn present(connection: &Connection, id: UserId) -> Result<Option<User>, Failure> {
    Ok(by_id(connection, id)?.filter(|user| user.erased_at.is_none()))
}

pub(super) fn by_id(connection: &Connection, id: UserId) -> Result<Option<User>, Failure> {
    let mut statement = connection.prepare_cached(concat!("SELECT ", columns!(), " FROM users u WHERE u.id = ?1"))?;
    let mut rows = statement.query([id.as_bytes()])?;
    rows.next()?.map(decode).transpose()
}

pub(super) fn decode_role(name: &str) -> Result<Role, Failure> {
    Role::named(name).ok_or_else(|| broken(format!("unknown role {name}")))
}

pub(super) fn decode(row: &Row<'_>) -> Result<User, Failure> {
    let text = |column| row.get_ref(column)?.as_str().map_err(rusqlite::Error::from);
    Ok(User {
        id: UserId::from_bytes(row.get(0)?),
        email: Email::parse(text(1)?).map_err(|_| broken("a stored e-mail address is none"))?,
        name: row.get(2)?,
        role: decode_role(text(3)?)?,
        email_verified: row.get(4)?,
        preferences: Preferences { order_updates: row.get(5)?, promotions: row.get(6)?, recommendations: row.get(7)? },
        token_epoch: row.get(8)?,
        created_at: Timestamp(row.get(9)?),
        updated_at: Timestamp(row.get(10)?),
        event_sequence: row.get(11)?,
        demo: row.get(12)?,
        erased_at: row.get::<_, Option<i64>>(13)?.map(Timestamp),
    })
}
