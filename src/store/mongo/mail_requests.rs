//! Mail requests, in the users database: `domain::mail_requests` says which are open.

use futures_util::TryStreamExt;
use mongodb::bson::{Binary, Document, doc};
use serde::{Deserialize, Serialize};

use super::database::MongoDatabase;
use super::failure::{Failure, broken};
use super::migrations::{Change, collection, index, indexes, unique_index};
use super::transaction::Tx;
use super::values::{self, date, hash, hash_of};
use crate::domain::ids::{MailRequestId, UserId};
use crate::domain::mail_requests::{MailRequest, MailRequestKind};
use crate::domain::time::Timestamp;
use crate::domain::users::TokenHash;

const MAIL_REQUESTS: &str = "mail_requests";

pub(super) fn collections() -> [Change; 2] {
    [
        collection(
            MAIL_REQUESTS,
            &[
                ("_id", &["string"]),
                ("userId", &["string"]),
                ("kind", &["string"]),
                ("tokenHash", &["binData"]),
                ("createdAt", &["date"]),
                ("expiresAt", &["date"]),
                ("usedAt?", &["date"]),
                ("replacedAt?", &["date"]),
            ],
        ),
        indexes(
            MAIL_REQUESTS,
            [
                unique_index("mail_requests_by_token", doc! { "tokenHash": 1 }),
                index("mail_requests_by_user", doc! { "userId": 1, "_id": -1 }),
                index("mail_requests_by_expiry", doc! { "expiresAt": 1 }),
            ],
        ),
    ]
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RequestDocument {
    #[serde(rename = "_id")]
    id: MailRequestId,
    user_id: UserId,
    kind: String,
    token_hash: Binary,
    #[serde(with = "values::time")]
    created_at: Timestamp,
    #[serde(with = "values::time")]
    expires_at: Timestamp,
    #[serde(with = "values::optional_time", default, skip_serializing_if = "Option::is_none")]
    used_at: Option<Timestamp>,
    #[serde(with = "values::optional_time", default, skip_serializing_if = "Option::is_none")]
    replaced_at: Option<Timestamp>,
}

impl From<&MailRequest> for RequestDocument {
    fn from(request: &MailRequest) -> Self {
        Self {
            id: request.id,
            user_id: request.user_id,
            kind: request.kind.as_str().to_owned(),
            token_hash: hash(request.token),
            created_at: request.created_at,
            expires_at: request.expires_at,
            used_at: request.used_at,
            replaced_at: request.replaced_at,
        }
    }
}

impl TryFrom<RequestDocument> for MailRequest {
    type Error = Failure;

    fn try_from(request: RequestDocument) -> Result<Self, Failure> {
        let kind = MailRequestKind::named(&request.kind);
        Ok(Self {
            id: request.id,
            user_id: request.user_id,
            kind: kind.ok_or_else(|| broken(format!("unknown mail request {}", request.kind)))?,
            token: hash_of(&request.token_hash)?,
            created_at: request.created_at,
            expires_at: request.expires_at,
            used_at: request.used_at,
            replaced_at: request.replaced_at,
        })
    }
}

/// Voids the open requests of a user and kind.
pub(super) async fn replace_open(
    tx: &mut Tx,
    user: UserId,
    kind: MailRequestKind,
    at: Timestamp,
) -> Result<(), Failure> {
    let open = doc! {
        "userId": user.to_string(),
        "kind": kind.as_str(),
        "usedAt": { "$exists": false },
        "replacedAt": { "$exists": false },
    };
    let replaced = doc! { "$set": { "replacedAt": date(at) } };
    tx.collection::<Document>(MAIL_REQUESTS).update_many(open, replaced).session(tx.session()).await?;
    Ok(())
}

/// Saves a request; it takes the place of those of its user and kind.
pub(super) async fn insert(tx: &mut Tx, request: &MailRequest) -> Result<(), Failure> {
    replace_open(tx, request.user_id, request.kind, request.created_at).await?;
    let document = RequestDocument::from(request);
    tx.collection(MAIL_REQUESTS).insert_one(document).session(tx.session()).await?;
    Ok(())
}

pub(super) async fn by_id(database: &MongoDatabase, id: MailRequestId) -> Result<Option<MailRequest>, Failure> {
    let requests = database.collection::<RequestDocument>(MAIL_REQUESTS);
    requests.find_one(doc! { "_id": id.to_string() }).await?.map(MailRequest::try_from).transpose()
}

pub(super) async fn of_user(database: &MongoDatabase, user: UserId) -> Result<Vec<MailRequest>, Failure> {
    let requests = database.collection::<RequestDocument>(MAIL_REQUESTS);
    let found = requests.find(doc! { "userId": user.to_string() }).sort(doc! { "_id": -1 }).await?;
    let documents: Vec<RequestDocument> = found.try_collect().await?;
    documents.into_iter().map(MailRequest::try_from).collect()
}

pub(super) async fn open(
    database: &MongoDatabase,
    token: TokenHash,
    kind: MailRequestKind,
    now: Timestamp,
) -> Result<Option<MailRequest>, Failure> {
    let requests = database.collection::<RequestDocument>(MAIL_REQUESTS);
    let found = requests.find_one(doc! { "tokenHash": hash(token) }).await?;
    open_of(found, kind, now)
}

fn open_of(
    found: Option<RequestDocument>,
    kind: MailRequestKind,
    now: Timestamp,
) -> Result<Option<MailRequest>, Failure> {
    let request = found.map(MailRequest::try_from).transpose()?;
    Ok(request.filter(|request| request.kind == kind && request.is_open(now)))
}

/// Uses up the open request of a token.
pub(super) async fn take(
    tx: &mut Tx,
    token: TokenHash,
    kind: MailRequestKind,
    now: Timestamp,
) -> Result<Option<MailRequest>, Failure> {
    let requests = tx.collection::<RequestDocument>(MAIL_REQUESTS);
    let found = requests.find_one(doc! { "tokenHash": hash(token) }).session(tx.session()).await?;
    let Some(request) = open_of(found, kind, now)? else { return Ok(None) };
    let used = doc! { "$set": { "usedAt": date(now) } };
    requests.update_one(doc! { "_id": request.id.to_string() }, used).session(tx.session()).await?;
    Ok(Some(request))
}

pub(super) async fn remove(tx: &mut Tx, id: MailRequestId) -> Result<(), Failure> {
    let requests = tx.collection::<Document>(MAIL_REQUESTS);
    requests.delete_one(doc! { "_id": id.to_string() }).session(tx.session()).await?;
    Ok(())
}

pub(super) async fn remove_all(tx: &mut Tx, user: UserId) -> Result<(), Failure> {
    let requests = tx.collection::<Document>(MAIL_REQUESTS);
    requests.delete_many(doc! { "userId": user.to_string() }).session(tx.session()).await?;
    Ok(())
}

pub(super) async fn purge(database: &MongoDatabase, before: Timestamp) -> Result<u64, Failure> {
    let requests = database.collection::<Document>(MAIL_REQUESTS);
    Ok(requests.delete_many(doc! { "expiresAt": { "$lt": date(before) } }).await?.deleted_count)
}
