//! API keys, in the users database: `domain::api_keys` says who may have which. What makes or ends a key writes its user's
//! document with the event's number, so that two at once run into one another.

use std::collections::HashMap;

use async_trait::async_trait;
use futures_util::TryStreamExt;
use mongodb::bson::{Binary, Document, doc};
use serde::{Deserialize, Serialize};

use super::database::MongoDatabase;
use super::failure::{Failure, broken};
use super::migrations::{Change, collection, index, indexes};
use super::sessions;
use super::transaction::Tx;
use super::updates::Update;
use super::user_documents::USERS;
use super::users::{MongoUserStore, find, present, save};
use super::values::{self, date, hash, hash_of};
use crate::domain::api_keys::{ApiKey, ApiKeyScope, admit};
use crate::domain::events::{PendingEvent, event_type};
use crate::domain::ids::{ApiKeyId, UserId};
use crate::domain::time::Timestamp;
use crate::domain::users::{Role, TokenHash, User};
use crate::store::StoreError;
use crate::store::api_keys::{ApiKeyState, ApiKeyStore, InsertApiKey, NewApiKey};

const API_KEYS: &str = "api_keys";

pub(super) fn collections() -> Vec<Change> {
    vec![
        collection(
            API_KEYS,
            &[
                ("_id", &["string"]),
                ("userId", &["string"]),
                ("tokenHash", &["binData"]),
                ("name", &["string"]),
                ("scopes", &["array"]),
                ("createdAt", &["date"]),
                ("lastUsedAt?", &["date"]),
                ("expiresAt?", &["date"]),
                ("revokedAt?", &["date"]),
            ],
        ),
        indexes(API_KEYS, [index("api_keys_by_user", doc! { "userId": 1, "_id": -1 })]),
    ]
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeyDocument {
    #[serde(rename = "_id")]
    id: ApiKeyId,
    user_id: UserId,
    token_hash: Binary,
    name: String,
    scopes: Vec<ApiKeyScope>,
    #[serde(with = "values::time")]
    created_at: Timestamp,
    #[serde(with = "values::optional_time", default, skip_serializing_if = "Option::is_none")]
    last_used_at: Option<Timestamp>,
    #[serde(with = "values::optional_time", default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<Timestamp>,
    #[serde(with = "values::optional_time", default, skip_serializing_if = "Option::is_none")]
    revoked_at: Option<Timestamp>,
}

impl KeyDocument {
    fn new(key: &ApiKey, token: TokenHash) -> Self {
        Self {
            id: key.id,
            user_id: key.user_id,
            token_hash: hash(token),
            name: key.name.clone(),
            scopes: key.scopes.iter().collect(),
            created_at: key.created_at,
            last_used_at: key.last_used_at,
            expires_at: key.expires_at,
            revoked_at: key.revoked_at,
        }
    }
}

impl From<KeyDocument> for ApiKey {
    fn from(key: KeyDocument) -> Self {
        Self {
            id: key.id,
            user_id: key.user_id,
            name: key.name,
            scopes: key.scopes.into_iter().collect(),
            created_at: key.created_at,
            last_used_at: key.last_used_at,
            expires_at: key.expires_at,
            revoked_at: key.revoked_at,
        }
    }
}

#[async_trait]
impl ApiKeyStore for MongoUserStore {
    async fn insert_api_key(&self, new: NewApiKey) -> Result<InsertApiKey, StoreError> {
        self.database.transaction(new, |tx, new| Box::pin(insert(tx, new))).await
    }

    async fn api_keys(&self, user: UserId) -> Result<Vec<ApiKey>, StoreError> {
        let keys = self.database.collection::<KeyDocument>(API_KEYS);
        self.database
            .read(async move {
                let found = keys.find(doc! { "userId": user.to_string() }).sort(doc! { "_id": -1 }).await?;
                Ok(found.map_ok(ApiKey::from).try_collect().await?)
            })
            .await
    }

    async fn revoke_api_key(
        &self,
        id: ApiKeyId,
        of: Option<UserId>,
        at: Timestamp,
    ) -> Result<Option<ApiKey>, StoreError> {
        self.database.transaction((id, of, at), |tx, (id, of, at)| Box::pin(revoke(tx, *id, *of, *at))).await
    }

    async fn api_key_states(&self, ids: &[ApiKeyId]) -> Result<Vec<(ApiKeyId, ApiKeyState)>, StoreError> {
        let (database, ids) = (self.database.clone(), ids.to_vec());
        self.database.read(async move { states(&database, &ids).await }).await
    }

    async fn record_api_key_uses(&self, uses: &[(ApiKeyId, Timestamp)]) -> Result<(), StoreError> {
        let used = |(id, at): &(ApiKeyId, Timestamp)| {
            Update::one(doc! { "_id": id.to_string() }, doc! { "$max": { "lastUsedAt": date(*at) } })
        };
        self.database.update(API_KEYS, uses.iter().map(used).collect()).await.map(drop)
    }
}

async fn insert(tx: &mut Tx, new: &NewApiKey) -> Result<InsertApiKey, Failure> {
    let NewApiKey { key, token, session } = new;
    let Some(mut user) = find(tx, present(key.user_id)).await? else { return Ok(InsertApiKey::SignedOut) };
    if !sessions::is_alive(tx, *session, user.id, key.created_at).await? {
        return Ok(InsertApiKey::SignedOut);
    }
    let replaced = match admit(key, user.role, &of_user(tx, user.id).await?) {
        Ok(replaced) => replaced,
        Err(refusal) => return Ok(InsertApiKey::Refused(refusal)),
    };
    if !replaced.is_empty() {
        let replaced: Vec<String> = replaced.iter().map(ApiKeyId::to_string).collect();
        let keys = tx.collection::<Document>(API_KEYS);
        keys.delete_many(doc! { "_id": { "$in": replaced } }).session(tx.session()).await?;
    }
    tx.collection(API_KEYS).insert_one(KeyDocument::new(key, *token)).session(tx.session()).await?;
    let event = user.api_key_event(key, event_type::USER_API_KEY_CREATED, key.created_at);
    save(tx, &user).await?;
    tx.emit(event);
    Ok(InsertApiKey::Inserted)
}

async fn of_user(tx: &mut Tx, user: UserId) -> Result<Vec<ApiKey>, Failure> {
    let keys = tx.collection::<KeyDocument>(API_KEYS);
    let mut found = keys.find(doc! { "userId": user.to_string() }).session(tx.session()).await?;
    Ok(found.stream(tx.session()).map_ok(ApiKey::from).try_collect().await?)
}

async fn revoke(tx: &mut Tx, id: ApiKeyId, of: Option<UserId>, at: Timestamp) -> Result<Option<ApiKey>, Failure> {
    let keys = tx.collection::<KeyDocument>(API_KEYS);
    let found = keys.find_one(doc! { "_id": id.to_string() }).session(tx.session()).await?.map(ApiKey::from);
    let Some(mut key) = found.filter(|key| of.is_none_or(|of| of == key.user_id)) else { return Ok(None) };
    if key.revoked_at.is_some() {
        return Ok(Some(key));
    }
    let mut user = find(tx, present(key.user_id)).await?.ok_or_else(|| broken("a key has no user"))?;
    let event = end(tx, &mut user, &mut key, at).await?;
    save(tx, &user).await?;
    tx.emit(event);
    Ok(Some(key))
}

async fn end(tx: &mut Tx, user: &mut User, key: &mut ApiKey, at: Timestamp) -> Result<PendingEvent, Failure> {
    let keys = tx.collection::<Document>(API_KEYS);
    let revoked = doc! { "$set": { "revokedAt": date(at) } };
    keys.update_one(doc! { "_id": key.id.to_string() }, revoked).session(tx.session()).await?;
    key.revoked_at = Some(at);
    Ok(user.api_key_event(key, event_type::USER_API_KEY_REVOKED, at))
}

/// Ends every key of a user that serves; saving the user and what announces it is the caller's.
pub(super) async fn revoke_all(tx: &mut Tx, user: &mut User, at: Timestamp) -> Result<Vec<PendingEvent>, Failure> {
    let mut events = Vec::new();
    for mut key in of_user(tx, user.id).await? {
        if key.is_alive(at) {
            events.push(end(tx, user, &mut key, at).await?);
        }
    }
    Ok(events)
}

pub(super) async fn remove_all(tx: &mut Tx, user: UserId) -> Result<(), Failure> {
    let keys = tx.collection::<Document>(API_KEYS);
    keys.delete_many(doc! { "userId": user.to_string() }).session(tx.session()).await?;
    Ok(())
}

/// In the order of the ids, in one command.
async fn states(database: &MongoDatabase, ids: &[ApiKeyId]) -> Result<Vec<(ApiKeyId, ApiKeyState)>, Failure> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Found {
        #[serde(rename = "_id")]
        id: ApiKeyId,
        user_id: UserId,
        token_hash: Binary,
        scopes: Vec<ApiKeyScope>,
        #[serde(with = "values::optional_time", default)]
        expires_at: Option<Timestamp>,
        #[serde(with = "values::optional_time", default)]
        revoked_at: Option<Timestamp>,
        user: Vec<Owner>,
    }
    #[derive(Deserialize)]
    struct Owner {
        role: Role,
    }
    let wanted: Vec<String> = ids.iter().map(ApiKeyId::to_string).collect();
    let pipeline = [
        doc! { "$match": { "_id": { "$in": wanted } } },
        doc! { "$lookup": {
            "from": USERS,
            "localField": "userId",
            "foreignField": "_id",
            "pipeline": [{ "$project": { "role": 1 } }],
            "as": "user",
        } },
    ];
    let keys = database.collection::<Document>(API_KEYS);
    let mut found = keys.aggregate(pipeline).with_type::<Found>().await?;
    let mut states = HashMap::with_capacity(ids.len());
    while let Some(key) = found.try_next().await? {
        let Some(user) = key.user.first() else { continue };
        let state = ApiKeyState {
            user_id: key.user_id,
            role: user.role,
            scopes: key.scopes.into_iter().collect(),
            token: hash_of(&key.token_hash)?,
            expires_at: key.expires_at,
            revoked: key.revoked_at.is_some(),
        };
        states.insert(key.id, state);
    }
    Ok(ids.iter().filter_map(|id| states.get(id).map(|state| (*id, *state))).collect())
}
