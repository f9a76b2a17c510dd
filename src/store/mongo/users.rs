//! The users database.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use futures_util::TryStreamExt;
use mongodb::Collection;
use mongodb::bson::{Bson, Document, doc};
use serde::Deserialize;

use super::batches::Batches;
use super::database::MongoDatabase;
use super::failure::Failure;
use super::transaction::Tx;
use super::user_documents::{BY_SIGN_IN_KEY, MIGRATIONS, USERS, UserDocument};
use super::{accounts, cursor, mail_requests, secrets, sessions};
use crate::domain::events::event_type;
use crate::domain::ids::{MailRequestId, SessionId, UserId};
use crate::domain::mail_requests::{MailRequest, MailRequestKind};
use crate::domain::networks::NetworkDigest;
use crate::domain::page::{Page, PageRequest};
use crate::domain::search;
use crate::domain::text::Email;
use crate::domain::time::Timestamp;
use crate::domain::users::{PasswordHash, PreferencesEdit, Role, Session, Subscription, TokenHash, User};
use crate::store::StoreError;
use crate::store::users::{
    Exchanged, InsertUser, MAX_SEARCH_WORDS, NewMailRequest, NewPassword, NewSession, NewUser, SessionState,
    StoredSecret, StoredSigningKey, UserStore,
};

/// Users in their MongoDB database.
pub struct MongoUserStore {
    pub(super) database: MongoDatabase,
    /// Reads by id that come at the same time.
    lookups: Batches<Vec<UserId>, Vec<User>>,
}

super::store_over_database!(MongoUserStore, Users, MIGRATIONS, lookups: Batches::default());
super::outbox_over_database!(MongoUserStore);

#[async_trait]
impl UserStore for MongoUserStore {
    async fn insert_user(&self, user: NewUser) -> Result<InsertUser, StoreError> {
        self.database.transaction(user, |tx, user| Box::pin(insert(tx, user))).await
    }

    async fn users(&self, ids: &[UserId]) -> Result<Vec<User>, StoreError> {
        let find = |calls: Vec<Vec<UserId>>| {
            let users = self.users();
            self.database.read(async move {
                let mut found: HashMap<UserId, User> = HashMap::new();
                let wanted: HashSet<String> = calls.iter().flatten().map(UserId::to_string).collect();
                let wanted: Vec<String> = wanted.into_iter().collect();
                let mut documents = users.find(doc! { "_id": { "$in": wanted } }).await?;
                while let Some(document) = documents.try_next().await? {
                    found.insert(document.id, document.try_into()?);
                }
                let of = |ids: &Vec<UserId>| ids.iter().filter_map(|id| found.get(id).cloned()).collect();
                Ok(calls.iter().map(of).collect())
            })
        };
        self.lookups.call(ids.to_vec(), find).await
    }

    async fn credentials(&self, email: &Email) -> Result<Option<(User, PasswordHash)>, StoreError> {
        let (users, key) = (self.users(), email.key());
        self.database
            .read(async move {
                users.find_one(doc! { "signInKey": key }).await?.map(UserDocument::credentials).transpose()
            })
            .await
    }

    async fn credentials_of(&self, id: UserId) -> Result<Option<(User, PasswordHash)>, StoreError> {
        let users = self.users();
        self.database
            .read(async move { users.find_one(present(id)).await?.map(UserDocument::credentials).transpose() })
            .await
    }

    async fn list_users(&self, search: Option<&str>, page: &PageRequest) -> Result<Page<User>, StoreError> {
        let words = search.map(search::words).unwrap_or_default();
        let (users, page) = (self.users(), page.clone());
        self.database.read(async move { list(&users, words, &page).await }).await
    }

    async fn count_shoppers(&self) -> Result<u64, StoreError> {
        let users = self.users();
        let admin = Role::Admin.as_str();
        self.database.read(async move { Ok(users.count_documents(doc! { "role": { "$ne": admin } }).await?) }).await
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
        self.database.transaction(new, |tx, new| Box::pin(accounts::replace_password(tx, new))).await
    }

    async fn renew_password_hash(
        &self,
        id: UserId,
        present: &PasswordHash,
        renewed: PasswordHash,
    ) -> Result<bool, StoreError> {
        let (users, of) = (self.users(), doc! { "_id": id.to_string(), "passwordHash": &present.0 });
        let change = doc! { "$set": { "passwordHash": renewed.0 } };
        self.database.write(async move { Ok(users.update_one(of, change).await?.matched_count == 1) }).await
    }

    async fn erase_user(&self, id: UserId, present: &PasswordHash, at: Timestamp) -> Result<bool, StoreError> {
        let input = (id, present.clone(), at);
        self.database.transaction(input, |tx, (id, present, at)| Box::pin(accounts::erase(tx, *id, present, *at))).await
    }

    async fn change_role(&self, id: UserId, role: Role, at: Timestamp) -> Result<Option<User>, StoreError> {
        self.database
            .transaction((id, role, at), |tx, (id, role, at)| Box::pin(accounts::change_role(tx, *id, *role, *at)))
            .await
    }

    async fn insert_session(&self, session: NewSession, token_epoch: i64) -> Result<bool, StoreError> {
        self.database
            .transaction((session, token_epoch), |tx, (session, epoch)| {
                Box::pin(sessions::insert_at(tx, session, *epoch))
            })
            .await
    }

    async fn signed_in_from(
        &self,
        email: &Email,
        network: NetworkDigest,
        since: Timestamp,
    ) -> Result<bool, StoreError> {
        let Some((user, _)) = self.credentials(email).await? else { return Ok(false) };
        let database = self.database.clone();
        self.database.read(async move { sessions::began_in(&database, user.id, network, since).await }).await
    }

    async fn sessions(&self, user: UserId) -> Result<Vec<Session>, StoreError> {
        let database = self.database.clone();
        self.database.read(async move { sessions::of_user(&database, user).await }).await
    }

    async fn exchange_refresh_token(
        &self,
        shown: TokenHash,
        successor: TokenHash,
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Result<Exchanged, StoreError> {
        let input = (shown, successor, now, expires_at);
        self.database
            .transaction(input, |tx, (shown, successor, now, expires_at)| {
                Box::pin(sessions::exchange(tx, *shown, *successor, *now, *expires_at))
            })
            .await
    }

    async fn end_session(
        &self,
        user: UserId,
        token: TokenHash,
        at: Timestamp,
    ) -> Result<Option<SessionId>, StoreError> {
        let database = self.database.clone();
        self.database.write(async move { sessions::end(&database, user, token, at).await }).await
    }

    async fn end_all_sessions(&self, user: UserId, at: Timestamp) -> Result<(), StoreError> {
        self.database.transaction((user, at), |tx, (user, at)| Box::pin(sessions::end_all(tx, *user, *at))).await
    }

    async fn session_state(&self, session: SessionId, now: Timestamp) -> Result<Option<SessionState>, StoreError> {
        Ok(self.session_states(&[session], now).await?.pop().map(|(_, state)| state))
    }

    async fn session_states(
        &self,
        ids: &[SessionId],
        now: Timestamp,
    ) -> Result<Vec<(SessionId, SessionState)>, StoreError> {
        let (database, ids) = (self.database.clone(), ids.to_vec());
        self.database.read(async move { sessions::states(&database, &ids, now).await }).await
    }

    async fn purge_sessions(&self, before: Timestamp) -> Result<u64, StoreError> {
        let mut purged = 0;
        loop {
            let some = self.database.transaction(before, |tx, before| Box::pin(sessions::purge(tx, *before))).await?;
            purged += some;
            if some < sessions::PURGED_AT_ONCE {
                return Ok(purged);
            }
        }
    }

    async fn signing_keys(&self) -> Result<Vec<StoredSigningKey>, StoreError> {
        let database = self.database.clone();
        self.database.read(async move { secrets::signing_keys(&database).await }).await
    }

    async fn ensure_signing_key(&self, key: StoredSigningKey) -> Result<Vec<StoredSigningKey>, StoreError> {
        let database = self.database.clone();
        self.database.write(async move { secrets::ensure_signing_key(&database, key).await }).await
    }

    async fn rotate_signing_key(
        &self,
        key: StoredSigningKey,
        others_end: Timestamp,
    ) -> Result<Vec<StoredSigningKey>, StoreError> {
        self.database
            .transaction((key, others_end), |tx, (key, end)| Box::pin(secrets::rotate_signing_key(tx, key, *end)))
            .await
    }

    async fn server_secret(&self) -> Result<Option<StoredSecret>, StoreError> {
        let database = self.database.clone();
        self.database.read(async move { secrets::server_secret(&database).await }).await
    }

    async fn ensure_server_secret(&self, secret: StoredSecret) -> Result<StoredSecret, StoreError> {
        let database = self.database.clone();
        self.database.write(async move { secrets::ensure_server_secret(&database, secret).await }).await
    }

    async fn seal_secrets(
        &self,
        signing_keys: Vec<(String, Vec<u8>)>,
        server_secret: Option<Vec<u8>>,
    ) -> Result<bool, StoreError> {
        let sealed = (signing_keys, server_secret);
        self.database.transaction(sealed, |tx, (keys, server)| Box::pin(secrets::seal(tx, keys, server))).await
    }

    async fn mail_request(&self, id: MailRequestId) -> Result<Option<MailRequest>, StoreError> {
        let database = self.database.clone();
        self.database.read(async move { mail_requests::by_id(&database, id).await }).await
    }

    async fn mail_requests(&self, user: UserId) -> Result<Vec<MailRequest>, StoreError> {
        let database = self.database.clone();
        self.database.read(async move { mail_requests::of_user(&database, user).await }).await
    }

    async fn open_mail_request(
        &self,
        token: TokenHash,
        kind: MailRequestKind,
        now: Timestamp,
    ) -> Result<Option<MailRequest>, StoreError> {
        let database = self.database.clone();
        self.database.read(async move { mail_requests::open(&database, token, kind, now).await }).await
    }

    async fn request_password_reset(&self, email: &Email, request: NewMailRequest) -> Result<(), StoreError> {
        self.database
            .transaction((email.key(), request), |tx, (key, request)| {
                Box::pin(accounts::request_password_reset(tx, key, *request))
            })
            .await
    }

    async fn request_verification(&self, user: UserId, request: NewMailRequest) -> Result<Option<User>, StoreError> {
        self.database
            .transaction((user, request), |tx, (user, request)| {
                Box::pin(accounts::request_verification(tx, *user, *request))
            })
            .await
    }

    async fn verify_email(&self, token: TokenHash, at: Timestamp) -> Result<Option<User>, StoreError> {
        self.database
            .transaction((token, at), |tx, (token, at)| Box::pin(accounts::verify_email(tx, *token, *at)))
            .await
    }

    async fn purge_mail_requests(&self, before: Timestamp) -> Result<u64, StoreError> {
        let database = self.database.clone();
        self.database.write(async move { mail_requests::purge(&database, before).await }).await
    }

    async fn audience(
        &self,
        subscription: Subscription,
        after: Option<UserId>,
        limit: u32,
    ) -> Result<Vec<UserId>, StoreError> {
        let users = self.database.collection::<Document>(USERS);
        self.database.read(async move { audience(&users, subscription, after, limit).await }).await
    }
}

impl MongoUserStore {
    fn users(&self) -> Collection<UserDocument> {
        self.database.collection(USERS)
    }

    /// Changes a user and announces it; `change` says whether there is anything to save.
    async fn change(
        &self,
        id: UserId,
        at: Timestamp,
        change: impl Fn(&mut User) -> bool + Send + Sync + 'static,
    ) -> Result<Option<User>, StoreError> {
        self.database
            .transaction((id, at, change), |tx, (id, at, change)| {
                Box::pin(async move {
                    let Some(mut user) = find(tx, present(*id)).await? else { return Ok(None) };
                    if change(&mut user) {
                        user.updated_at = *at;
                        let event = user.event(event_type::USER_UPDATED, *at);
                        save(tx, &user).await?;
                        tx.emit(event);
                    }
                    Ok(Some(user))
                })
            })
            .await
    }
}

async fn insert(tx: &mut Tx, new: &NewUser) -> Result<InsertUser, Failure> {
    let document = UserDocument::new(&new.user, new.password_hash.clone());
    let inserted = tx.collection(USERS).insert_one(document).session(tx.session()).await;
    if let Err(failure) = inserted.map_err(Failure::from) {
        if failure.duplicate_index() != Some(BY_SIGN_IN_KEY) {
            return Err(failure);
        }
        tx.undo();
        return Ok(InsertUser::EmailTaken);
    }
    if let Some(request) = &new.verification {
        mail_requests::insert(tx, request).await?;
    }
    tx.emit(new.event.clone());
    Ok(InsertUser::Inserted)
}

/// Saves what may have changed of a user.
pub(super) async fn save(tx: &mut Tx, user: &User) -> Result<(), Failure> {
    let mut fields = mongodb::bson::serialize_to_document(&UserDocument::new(user, PasswordHash(String::new())))?;
    for kept in ["_id", "passwordHash", "signIns", "createdAt", "demo"] {
        fields.remove(kept);
    }
    let users = tx.collection::<Document>(USERS);
    users.update_one(doc! { "_id": user.id.to_string() }, doc! { "$set": fields }).session(tx.session()).await?;
    Ok(())
}

pub(super) async fn save_password(tx: &mut Tx, user: UserId, hash: &PasswordHash) -> Result<(), Failure> {
    let users = tx.collection::<Document>(USERS);
    let change = doc! { "$set": { "passwordHash": &hash.0 } };
    users.update_one(doc! { "_id": user.to_string() }, change).session(tx.session()).await?;
    Ok(())
}

/// The filter for a user who is no deleted account.
pub(super) fn present(id: UserId) -> Document {
    doc! { "_id": id.to_string(), "present": true }
}

/// The filter for the user of an address.
pub(super) fn signing_in_as(key: &str) -> Document {
    doc! { "signInKey": key }
}

pub(super) async fn find(tx: &mut Tx, filter: Document) -> Result<Option<User>, Failure> {
    let users = tx.collection::<UserDocument>(USERS);
    users.find_one(filter).session(tx.session()).await?.map(User::try_from).transpose()
}

/// As [`find`], with the hash of the password.
pub(super) async fn find_credentials(tx: &mut Tx, filter: Document) -> Result<Option<(User, PasswordHash)>, Failure> {
    let users = tx.collection::<UserDocument>(USERS);
    users.find_one(filter).session(tx.session()).await?.map(UserDocument::credentials).transpose()
}

async fn list(
    users: &Collection<UserDocument>,
    mut words: Vec<String>,
    page: &PageRequest,
) -> Result<Page<User>, Failure> {
    words.sort_unstable();
    words.dedup();
    let after: Option<UserId> = page.after.as_deref().map(cursor::decode).transpose()?;
    if words.len() > MAX_SEARCH_WORDS {
        return Ok(cursor::page(Vec::new(), page, 0));
    }
    let mut filter = doc! { "present": true };
    if !words.is_empty() {
        // Words hold nothing that means anything to a regular expression.
        let beginnings: Vec<Bson> =
            words.iter().map(|word| doc! { "words": { "$regex": format!("^{word}") } }.into()).collect();
        filter.insert("$and", beginnings);
    }
    let counted = users.count_documents(filter.clone());
    if let Some(after) = after {
        filter.insert("_id", doc! { "$lt": after.to_string() });
    }
    let found = users.find(filter).sort(doc! { "_id": -1 }).limit(i64::from(page.first) + 1);
    let documents = async { found.await?.try_collect::<Vec<_>>().await };
    let (total, documents) = tokio::try_join!(counted.into_future(), documents)?;
    let entries: Result<_, Failure> =
        documents.into_iter().map(|document| Ok((cursor::encode(&document.id), document.try_into()?))).collect();
    Ok(cursor::page(entries?, page, total.cast_signed()))
}

async fn audience(
    users: &Collection<Document>,
    subscription: Subscription,
    after: Option<UserId>,
    limit: u32,
) -> Result<Vec<UserId>, Failure> {
    #[derive(Deserialize)]
    struct Found {
        #[serde(rename = "_id")]
        id: UserId,
    }
    let preference = match subscription {
        Subscription::OrderUpdates => "preferences.orderUpdates",
        Subscription::Promotions => "preferences.promotions",
        Subscription::Recommendations => "preferences.recommendations",
    };
    let after = after.map(|id| id.to_string()).unwrap_or_default();
    // A deleted account wants nothing.
    let filter = doc! { preference: true, "_id": { "$gt": after } };
    let wanting = users.clone_with_type::<Found>();
    let found = wanting.find(filter).projection(doc! { "_id": 1 }).sort(doc! { "_id": 1 }).limit(i64::from(limit));
    Ok(found.await?.map_ok(|found| found.id).try_collect().await?)
}
