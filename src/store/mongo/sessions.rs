//! Sessions and their refresh tokens, in the users database: `domain::users` judges, these functions do what it says.

use std::collections::HashMap;

use futures_util::TryStreamExt;
use mongodb::bson::{Bson, Document, doc};
use serde::{Deserialize, Serialize};

use super::database::MongoDatabase;
use super::failure::{Failure, broken};
use super::migrations::{Change, collection, index, indexes};
use super::transaction::Tx;
use super::user_documents::USERS;
use super::users::find;
use super::values::{self, date, hash, hash_of};
use crate::domain::ids::{SessionId, UserId};
use crate::domain::networks::NetworkDigest;
use crate::domain::time::Timestamp;
use crate::domain::users::{RefreshToken, RefreshVerdict, Role, Session, TokenHash, judge_refresh, outlived_before};
use crate::store::users::{Exchanged, NewSession, SessionState};

const SESSIONS: &str = "sessions";
const REFRESH_TOKENS: &str = "refresh_tokens";
/// Sessions that one transaction removes. Each may have thousands of tokens.
pub(super) const PURGED_AT_ONCE: u64 = 100;

pub(super) fn collections() -> [Change; 4] {
    [
        collection(
            SESSIONS,
            &[
                ("_id", &["string"]),
                ("userId", &["string"]),
                ("userAgent?", &["string"]),
                ("network?", &["binData"]),
                ("createdAt", &["date"]),
                ("lastUsedAt", &["date"]),
                ("expiresAt", &["date"]),
                ("revokedAt?", &["date"]),
            ],
        ),
        indexes(
            SESSIONS,
            [
                index("sessions_by_user", doc! { "userId": 1, "_id": -1 }),
                index("sessions_by_expiry", doc! { "expiresAt": 1 }),
            ],
        ),
        collection(
            REFRESH_TOKENS,
            &[
                ("_id", &["binData"]),
                ("sessionId", &["string"]),
                ("exchangedAt?", &["date"]),
                ("successor?", &["binData"]),
            ],
        ),
        indexes(REFRESH_TOKENS, [index("refresh_tokens_by_session", doc! { "sessionId": 1 })]),
    ]
}

/// The tokens of a session that have outlived themselves are found without a look at the others.
pub(super) fn tokens_by_age() -> Vec<Change> {
    let by_age = index("refresh_tokens_by_age", doc! { "sessionId": 1, "exchangedAt": 1 });
    let dropped = Change::DropIndex { collection: REFRESH_TOKENS, name: "refresh_tokens_by_session" };
    vec![indexes(REFRESH_TOKENS, [by_age]), dropped]
}

/// Tokens that have outlived themselves and go with one exchange: more than an exchange adds.
const OUTLIVED_AT_ONCE: i64 = 50;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SessionDocument {
    #[serde(rename = "_id")]
    id: SessionId,
    user_id: UserId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user_agent: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    network: Option<mongodb::bson::Binary>,
    #[serde(with = "values::time")]
    created_at: Timestamp,
    #[serde(with = "values::time")]
    last_used_at: Timestamp,
    #[serde(with = "values::time")]
    expires_at: Timestamp,
    #[serde(with = "values::optional_time", default, skip_serializing_if = "Option::is_none")]
    revoked_at: Option<Timestamp>,
}

impl From<&Session> for SessionDocument {
    fn from(session: &Session) -> Self {
        Self {
            id: session.id,
            user_id: session.user_id,
            user_agent: session.user_agent.clone(),
            network: session.network.map(network_value),
            created_at: session.created_at,
            last_used_at: session.last_used_at,
            expires_at: session.expires_at,
            revoked_at: session.revoked_at,
        }
    }
}

impl From<SessionDocument> for Session {
    fn from(session: SessionDocument) -> Self {
        Self {
            id: session.id,
            user_id: session.user_id,
            user_agent: session.user_agent,
            network: session.network.and_then(|network| Some(NetworkDigest(network.bytes.try_into().ok()?))),
            created_at: session.created_at,
            last_used_at: session.last_used_at,
            expires_at: session.expires_at,
            revoked_at: session.revoked_at,
        }
    }
}

/// What names a token is its hash.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct TokenDocument {
    #[serde(rename = "_id")]
    hash: mongodb::bson::Binary,
    session_id: SessionId,
    #[serde(with = "values::optional_time", default, skip_serializing_if = "Option::is_none")]
    exchanged_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    successor: Option<mongodb::bson::Binary>,
}

impl TokenDocument {
    fn new(token: TokenHash, session_id: SessionId) -> Self {
        Self { hash: hash(token), session_id, exchanged_at: None, successor: None }
    }
}

impl TryFrom<TokenDocument> for RefreshToken {
    type Error = Failure;

    fn try_from(token: TokenDocument) -> Result<Self, Failure> {
        Ok(Self {
            hash: hash_of(&token.hash)?,
            session_id: token.session_id,
            exchanged_at: token.exchanged_at,
            successor: token.successor.as_ref().map(hash_of).transpose()?,
        })
    }
}

pub(super) async fn insert(tx: &mut Tx, new: &NewSession) -> Result<(), Failure> {
    let session = SessionDocument::from(&new.session);
    tx.collection(SESSIONS).insert_one(session).session(tx.session()).await?;
    insert_token(tx, new.token, new.session.id).await
}

async fn insert_token(tx: &mut Tx, token: TokenHash, session: SessionId) -> Result<(), Failure> {
    let token = TokenDocument::new(token, session);
    tx.collection(REFRESH_TOKENS).insert_one(token).session(tx.session()).await?;
    Ok(())
}

/// Unless the user's token epoch is another one. Counting the sign-in makes this transaction run into one that raises the
/// epoch: of two that only read and insert neither would see the other.
pub(super) async fn insert_at(tx: &mut Tx, new: &NewSession, token_epoch: i64) -> Result<bool, Failure> {
    let user = doc! { "_id": new.session.user_id.to_string(), "tokenEpoch": token_epoch };
    let users = tx.collection::<Document>(USERS);
    let counted = users.update_one(user, doc! { "$inc": { "signIns": 1_i64 } }).session(tx.session()).await?;
    let holds = counted.matched_count == 1;
    if holds {
        insert(tx, new).await?;
    }
    Ok(holds)
}

/// Whether this is a session of the user's that has not ended.
pub(super) async fn is_alive(tx: &mut Tx, id: SessionId, user: UserId, now: Timestamp) -> Result<bool, Failure> {
    let sessions = tx.collection::<SessionDocument>(SESSIONS);
    let of_user = doc! { "_id": id.to_string(), "userId": user.to_string() };
    let found = sessions.find_one(of_user).session(tx.session()).await?;
    Ok(found.is_some_and(|found| Session::from(found).is_alive(now)))
}

pub(super) async fn of_user(database: &MongoDatabase, user: UserId) -> Result<Vec<Session>, Failure> {
    let sessions = database.collection::<SessionDocument>(SESSIONS);
    let found = sessions.find(doc! { "userId": user.to_string() }).sort(doc! { "_id": -1 }).await?;
    Ok(found.map_ok(Session::from).try_collect().await?)
}

fn network_value(network: NetworkDigest) -> mongodb::bson::Binary {
    mongodb::bson::Binary { subtype: mongodb::bson::spec::BinarySubtype::Generic, bytes: network.0.to_vec() }
}

/// Whether a session of the user began in the network at `since` or later.
pub(super) async fn began_in(
    database: &MongoDatabase,
    user: UserId,
    network: NetworkDigest,
    since: Timestamp,
) -> Result<bool, Failure> {
    let session = doc! {
        "userId": user.to_string(), "network": network_value(network), "createdAt": { "$gte": date(since) },
    };
    Ok(database.collection::<SessionDocument>(SESSIONS).find_one(session).await?.is_some())
}

/// Removes all that is kept of a user's sessions.
pub(super) async fn remove_all(tx: &mut Tx, user: UserId) -> Result<(), Failure> {
    let ids = ids(tx, doc! { "userId": user.to_string() }, 0).await?;
    remove(tx, ids).await
}

/// The ids of the sessions that a filter matches, at most `limit` of them when it is not 0.
async fn ids(tx: &mut Tx, filter: Document, limit: i64) -> Result<Vec<String>, Failure> {
    #[derive(Deserialize)]
    struct Found {
        #[serde(rename = "_id")]
        id: String,
    }
    let sessions = tx.collection::<Found>(SESSIONS);
    let found = sessions.find(filter).projection(doc! { "_id": 1 }).limit(limit);
    let mut found = found.session(tx.session()).await?;
    let found: Vec<Found> = found.stream(tx.session()).try_collect().await?;
    Ok(found.into_iter().map(|found| found.id).collect())
}

async fn remove(tx: &mut Tx, ids: Vec<String>) -> Result<(), Failure> {
    let tokens = tx.collection::<Document>(REFRESH_TOKENS);
    tokens.delete_many(doc! { "sessionId": { "$in": &ids } }).session(tx.session()).await?;
    let sessions = tx.collection::<Document>(SESSIONS);
    sessions.delete_many(doc! { "_id": { "$in": ids } }).session(tx.session()).await?;
    Ok(())
}

pub(super) async fn exchange(
    tx: &mut Tx,
    shown: TokenHash,
    successor: TokenHash,
    now: Timestamp,
    expires_at: Timestamp,
) -> Result<Exchanged, Failure> {
    let Some(token) = token(tx, shown).await? else { return Ok(Exchanged::Unknown) };
    let session = doc! { "_id": token.session_id.to_string() };
    let sessions = tx.collection::<SessionDocument>(SESSIONS);
    let Some(found) = sessions.find_one(session.clone()).session(tx.session()).await? else {
        return Ok(Exchanged::Unknown);
    };
    let mut found = Session::from(found);
    let used = match token.successor {
        Some(hash) => self::token(tx, hash).await?.is_some_and(|next| next.exchanged_at.is_some()),
        None => false,
    };
    match judge_refresh(&token, &found, used, now) {
        RefreshVerdict::Exchange => {
            let tokens = tx.collection::<Document>(REFRESH_TOKENS);
            let exchanged = doc! { "$set": { "exchangedAt": date(now), "successor": hash(successor) } };
            tokens.update_one(doc! { "_id": hash(shown) }, exchanged).session(tx.session()).await?;
            insert_token(tx, successor, found.id).await?;
            let outlived = outlived_before(now, expires_at);
            if found.created_at < outlived {
                let outlived = doc! { "sessionId": found.id.to_string(), "exchangedAt": { "$lt": date(outlived) } };
                let only_id = doc! { "_id": 1 };
                let some = tokens.find(outlived).projection(only_id).limit(OUTLIVED_AT_ONCE).session(tx.session());
                let some = some.await?;
                let ids: Vec<Bson> =
                    tx.collect(some).await?.into_iter().filter_map(|mut token| token.remove("_id")).collect();
                if !ids.is_empty() {
                    tokens.delete_many(doc! { "_id": { "$in": ids } }).session(tx.session()).await?;
                }
            }
            let moved = doc! { "$set": { "lastUsedAt": date(now), "expiresAt": date(expires_at) } };
            sessions.update_one(session, moved).session(tx.session()).await?;
            found.last_used_at = now;
            found.expires_at = expires_at;
            let user = find(tx, doc! { "_id": found.user_id.to_string() }).await?;
            let user = user.ok_or_else(|| broken("a session has no user"))?;
            Ok(Exchanged::Done { session: found, user: Box::new(user) })
        }
        RefreshVerdict::Reuse => {
            let revoked = doc! { "$set": { "revokedAt": date(now) } };
            sessions.update_one(session, revoked).session(tx.session()).await?;
            Ok(Exchanged::Refused(RefreshVerdict::Reuse))
        }
        refused @ (RefreshVerdict::Race | RefreshVerdict::Dead) => Ok(Exchanged::Refused(refused)),
    }
}

async fn token(tx: &mut Tx, token: TokenHash) -> Result<Option<RefreshToken>, Failure> {
    let tokens = tx.collection::<TokenDocument>(REFRESH_TOKENS);
    tokens.find_one(doc! { "_id": hash(token) }).session(tx.session()).await?.map(RefreshToken::try_from).transpose()
}

/// A token never goes to another session, so that the two commands need no transaction.
pub(super) async fn end(
    database: &MongoDatabase,
    user: UserId,
    token: TokenHash,
    at: Timestamp,
) -> Result<Option<SessionId>, Failure> {
    let tokens = database.collection::<TokenDocument>(REFRESH_TOKENS);
    let Some(token) = tokens.find_one(doc! { "_id": hash(token) }).await? else { return Ok(None) };
    let session = doc! { "_id": token.session_id.to_string(), "userId": user.to_string() };
    let ended = vec![doc! { "$set": { "revokedAt": { "$ifNull": ["$revokedAt", date(at)] } } }];
    let ended = database.collection::<Document>(SESSIONS).update_one(session, ended).await?;
    Ok((ended.matched_count == 1).then_some(token.session_id))
}

/// Ends every session of a user; the token epoch is the caller's.
pub(super) async fn revoke_all(tx: &mut Tx, user: UserId, at: Timestamp) -> Result<(), Failure> {
    let alive = doc! { "userId": user.to_string(), "revokedAt": { "$exists": false } };
    let revoked = doc! { "$set": { "revokedAt": date(at) } };
    tx.collection::<Document>(SESSIONS).update_many(alive, revoked).session(tx.session()).await?;
    Ok(())
}

pub(super) async fn end_all(tx: &mut Tx, user: UserId, at: Timestamp) -> Result<(), Failure> {
    revoke_all(tx, user, at).await?;
    let users = tx.collection::<Document>(USERS);
    let raised = doc! { "$inc": { "tokenEpoch": 1_i64 } };
    users.update_one(doc! { "_id": user.to_string() }, raised).session(tx.session()).await?;
    Ok(())
}

/// In the order of the ids, in one command.
pub(super) async fn states(
    database: &MongoDatabase,
    ids: &[SessionId],
    now: Timestamp,
) -> Result<Vec<(SessionId, SessionState)>, Failure> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Found {
        #[serde(flatten)]
        session: SessionDocument,
        user: Vec<Owner>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Owner {
        role: Role,
        token_epoch: i64,
    }
    let wanted: Vec<String> = ids.iter().map(SessionId::to_string).collect();
    let pipeline = [
        doc! { "$match": { "_id": { "$in": wanted } } },
        doc! { "$lookup": {
            "from": USERS,
            "localField": "userId",
            "foreignField": "_id",
            "pipeline": [{ "$project": { "role": 1, "tokenEpoch": 1 } }],
            "as": "user",
        } },
    ];
    let sessions = database.collection::<Document>(SESSIONS);
    let mut found = sessions.aggregate(pipeline).with_type::<Found>().await?;
    let mut states = HashMap::with_capacity(ids.len());
    while let Some(Found { session, user }) = found.try_next().await? {
        let Some(user) = user.first() else { continue };
        let session = Session::from(session);
        let state = SessionState {
            user_id: session.user_id,
            role: user.role,
            token_epoch: user.token_epoch,
            ended: !session.is_alive(now),
        };
        states.insert(session.id, state);
    }
    Ok(ids.iter().filter_map(|id| states.get(id).map(|state| (*id, *state))).collect())
}

/// Removes some of the sessions that expired before `before`; fewer than [`PURGED_AT_ONCE`]: those were all.
pub(super) async fn purge(tx: &mut Tx, before: Timestamp) -> Result<u64, Failure> {
    let expired = doc! { "expiresAt": { "$lt": date(before) } };
    let ids = ids(tx, expired, PURGED_AT_ONCE.cast_signed()).await?;
    let purged = ids.len() as u64;
    if purged > 0 {
        remove(tx, ids).await?;
    }
    Ok(purged)
}
