//! Signing keys and the server's secret, in the users database: of several first ones that are offered one stays.

use futures_util::TryStreamExt;
use mongodb::bson::{Binary, doc};
use serde::{Deserialize, Serialize};

use super::database::MongoDatabase;
use super::failure::{Failure, broken};
use super::migrations::{Change, collection};
use super::transaction::Tx;
use super::values::{self, bytes, date};
use crate::domain::signing_keys::KeyTerm;
use crate::domain::time::Timestamp;
use crate::store::users::{StoredSecret, StoredSigningKey};

const SIGNING_KEYS: &str = "signing_keys";
const SERVER_SECRETS: &str = "server_secrets";
/// The place of the shop's first key: of processes that each bring one, one has it.
const FIRST: i64 = 1;
/// The name of the one secret.
const SERVER: &str = "server";

pub(super) fn collections() -> [Change; 2] {
    [
        collection(
            SIGNING_KEYS,
            &[
                ("_id", &["long"]),
                ("kid", &["string"]),
                ("privateKey", &["binData"]),
                ("encrypted", &["bool"]),
                ("createdAt", &["date"]),
                ("signsFrom?", &["date"]),
                ("acceptedUntil?", &["date"]),
            ],
        ),
        collection(
            SERVER_SECRETS,
            &[("_id", &["string"]), ("secret", &["binData"]), ("encrypted", &["bool"]), ("createdAt", &["date"])],
        ),
    ]
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeyDocument {
    /// Rises from key to key.
    #[serde(rename = "_id")]
    place: i64,
    kid: String,
    private_key: Binary,
    encrypted: bool,
    #[serde(with = "values::time")]
    created_at: Timestamp,
    /// Missing: from the beginning.
    #[serde(with = "values::optional_time", default, skip_serializing_if = "Option::is_none")]
    signs_from: Option<Timestamp>,
    #[serde(with = "values::optional_time", default, skip_serializing_if = "Option::is_none")]
    accepted_until: Option<Timestamp>,
}

impl KeyDocument {
    fn new(place: i64, key: StoredSigningKey) -> Self {
        Self {
            place,
            kid: key.kid,
            private_key: bytes(key.private_key),
            encrypted: key.encrypted,
            created_at: key.created_at,
            signs_from: Some(key.term.signs_from),
            accepted_until: key.term.accepted_until,
        }
    }
}

impl From<KeyDocument> for StoredSigningKey {
    fn from(key: KeyDocument) -> Self {
        let signs_from = key.signs_from.unwrap_or(KeyTerm::ENDLESS.signs_from);
        Self {
            kid: key.kid,
            private_key: key.private_key.bytes,
            encrypted: key.encrypted,
            created_at: key.created_at,
            term: KeyTerm { signs_from, accepted_until: key.accepted_until },
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SecretDocument {
    #[serde(rename = "_id")]
    name: String,
    secret: Binary,
    encrypted: bool,
    #[serde(with = "values::time")]
    created_at: Timestamp,
}

pub(super) async fn signing_keys(database: &MongoDatabase) -> Result<Vec<StoredSigningKey>, Failure> {
    let found = database.collection::<KeyDocument>(SIGNING_KEYS).find(doc! {}).sort(doc! { "_id": -1 }).await?;
    Ok(found.map_ok(StoredSigningKey::from).try_collect().await?)
}

pub(super) async fn ensure_signing_key(
    database: &MongoDatabase,
    key: StoredSigningKey,
) -> Result<Vec<StoredSigningKey>, Failure> {
    let there = signing_keys(database).await?;
    if !there.is_empty() {
        // A rotation may have removed the one in the first place.
        return Ok(there);
    }
    let document = KeyDocument::new(FIRST, key);
    insert_first(database.collection(SIGNING_KEYS).insert_one(document).await)?;
    signing_keys(database).await
}

/// Two at once both write the key that was the newest, so that the later one sees what the earlier did.
pub(super) async fn rotate_signing_key(
    tx: &mut Tx,
    key: &StoredSigningKey,
    others_end: Timestamp,
) -> Result<Vec<StoredSigningKey>, Failure> {
    let keys = tx.collection::<KeyDocument>(SIGNING_KEYS);
    let found = keys.find(doc! {}).sort(doc! { "_id": -1 }).session(tx.session()).await?;
    let others = tx.collect(found).await?;
    let place = others.first().map_or(FIRST, |newest| newest.place + 1);
    let mut rotated = vec![key.clone()];
    for other in others {
        let (at, other) = (doc! { "_id": other.place }, StoredSigningKey::from(other));
        if other.term.is_over(key.created_at) {
            keys.delete_one(at).session(tx.session()).await?;
            continue;
        }
        let term = other.term.ending(others_end);
        let change = doc! { "$set": { "acceptedUntil": term.accepted_until.map(date) } };
        keys.update_one(at, change).session(tx.session()).await?;
        rotated.push(StoredSigningKey { term, ..other });
    }
    keys.insert_one(KeyDocument::new(place, key.clone())).session(tx.session()).await?;
    Ok(rotated)
}

pub(super) async fn server_secret(database: &MongoDatabase) -> Result<Option<StoredSecret>, Failure> {
    let found = database.collection::<SecretDocument>(SERVER_SECRETS).find_one(doc! { "_id": SERVER }).await?;
    Ok(found.map(|stored| StoredSecret {
        secret: stored.secret.bytes,
        encrypted: stored.encrypted,
        created_at: stored.created_at,
    }))
}

pub(super) async fn ensure_server_secret(
    database: &MongoDatabase,
    secret: StoredSecret,
) -> Result<StoredSecret, Failure> {
    let document = SecretDocument {
        name: SERVER.to_owned(),
        secret: bytes(secret.secret),
        encrypted: secret.encrypted,
        created_at: secret.created_at,
    };
    insert_first(database.collection(SERVER_SECRETS).insert_one(document).await)?;
    server_secret(database).await?.ok_or_else(|| broken("the server's secret was saved and is not there"))
}

pub(super) async fn seal(
    tx: &mut Tx,
    signing_keys: &[(String, Vec<u8>)],
    server_secret: &Option<Vec<u8>>,
) -> Result<bool, Failure> {
    let keys = tx.collection::<KeyDocument>(SIGNING_KEYS);
    let secrets = tx.collection::<SecretDocument>(SERVER_SECRETS);
    let kids: Vec<&str> = signing_keys.iter().map(|(kid, _)| kid.as_str()).collect();
    let plain = doc! { "kid": { "$in": kids }, "encrypted": false };
    let found = keys.count_documents(plain).session(tx.session()).await?;
    let plain_server = doc! { "_id": SERVER, "encrypted": false };
    let found_server = secrets.count_documents(plain_server.clone()).session(tx.session()).await?;
    if found != signing_keys.len() as u64 || (server_secret.is_some() && found_server == 0) {
        return Ok(false);
    }
    for (kid, sealed) in signing_keys {
        let change = doc! { "$set": { "privateKey": bytes(sealed.clone()), "encrypted": true } };
        keys.update_one(doc! { "kid": kid }, change).session(tx.session()).await?;
    }
    if let Some(sealed) = server_secret {
        let change = doc! { "$set": { "secret": bytes(sealed.clone()), "encrypted": true } };
        secrets.update_one(plain_server, change).session(tx.session()).await?;
    }
    Ok(true)
}

/// One that is there already stays.
fn insert_first<T>(inserted: mongodb::error::Result<T>) -> Result<(), Failure> {
    match inserted.map_err(Failure::from) {
        Err(failure) if failure.duplicate_index().is_none() => Err(failure),
        _ => Ok(()),
    }
}
