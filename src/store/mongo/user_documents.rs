//! A user as its one document, with the words that a search finds it by.

use mongodb::bson::doc;
use serde::{Deserialize, Serialize};

use super::failure::{Failure, broken};
use super::migrations::{Change, Migration, collection, index, indexes, partial_index, unique_index};
use super::{api_keys, consumption, mail_requests, outbox, secrets, sessions, values};
use crate::domain::ids::UserId;
use crate::domain::search;
use crate::domain::text::Email;
use crate::domain::time::Timestamp;
use crate::domain::users::{PasswordHash, Preferences, Role, User};

pub(super) const USERS: &str = "users";
/// Also of deleted accounts, which no address finds.
pub(super) const BY_SIGN_IN_KEY: &str = "users_by_sign_in_key";

pub(super) const MIGRATIONS: &[Migration] = &[
    Migration { name: "users", changes: first_version },
    Migration { name: "API keys", changes: api_keys::collections },
    Migration { name: "refresh tokens by age", changes: sessions::tokens_by_age },
];

fn first_version() -> Vec<Change> {
    let mut changes = Vec::from(outbox::collections());
    changes.extend(consumption::collections());
    changes.push(collection(
        USERS,
        &[
            ("_id", &["string"]),
            ("email", &["string"]),
            ("signInKey", &["string"]),
            ("name", &["string"]),
            ("passwordHash", &["string"]),
            ("role", &["string"]),
            ("emailVerified", &["bool"]),
            ("preferences", &["object"]),
            ("tokenEpoch", &["long"]),
            ("signIns", &["long"]),
            ("demo", &["bool"]),
            ("createdAt", &["date"]),
            ("updatedAt", &["date"]),
            ("eventSequence", &["long"]),
            ("present", &["bool"]),
            ("erasedAt?", &["date"]),
            ("words", &["array"]),
        ],
    ));
    let wanting =
        |name, preference: &str| partial_index(name, doc! { preference: 1, "_id": 1 }, doc! { preference: true });
    changes.push(indexes(
        USERS,
        [
            unique_index(BY_SIGN_IN_KEY, doc! { "signInKey": 1 }),
            index("users_by_word", doc! { "words": 1, "_id": -1 }),
            // What is counted and listed: deleted accounts are not.
            index("users_present", doc! { "present": 1, "_id": -1 }),
            wanting("users_with_promotions", "preferences.promotions"),
            wanting("users_with_recommendations", "preferences.recommendations"),
        ],
    ));
    changes.extend(sessions::collections());
    changes.extend(mail_requests::collections());
    changes.extend(secrets::collections());
    changes
}

/// A user as stored.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct UserDocument {
    #[serde(rename = "_id")]
    pub(super) id: UserId,
    email: String,
    /// The address in the form under which it is unique.
    sign_in_key: String,
    name: String,
    password_hash: String,
    role: Role,
    email_verified: bool,
    preferences: PreferencesDocument,
    token_epoch: i64,
    /// Counted in the transaction of each sign-in, which so runs into one that raises the epoch.
    sign_ins: i64,
    demo: bool,
    #[serde(with = "values::time")]
    created_at: Timestamp,
    #[serde(with = "values::time")]
    updated_at: Timestamp,
    event_sequence: i64,
    /// False of a deleted account.
    present: bool,
    #[serde(with = "values::optional_time", default, skip_serializing_if = "Option::is_none")]
    erased_at: Option<Timestamp>,
    /// Of name and address, in lower case; none of a deleted account.
    words: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PreferencesDocument {
    order_updates: bool,
    promotions: bool,
    recommendations: bool,
}

impl From<Preferences> for PreferencesDocument {
    fn from(Preferences { order_updates, promotions, recommendations }: Preferences) -> Self {
        Self { order_updates, promotions, recommendations }
    }
}

impl UserDocument {
    pub(super) fn new(user: &User, PasswordHash(password_hash): PasswordHash) -> Self {
        Self {
            id: user.id,
            email: user.email.as_str().to_owned(),
            sign_in_key: user.sign_in_key(),
            name: user.name.clone(),
            password_hash,
            role: user.role,
            email_verified: user.email_verified,
            preferences: user.preferences.into(),
            token_epoch: user.token_epoch,
            sign_ins: 0,
            demo: user.demo,
            created_at: user.created_at,
            updated_at: user.updated_at,
            event_sequence: user.event_sequence,
            present: user.erased_at.is_none(),
            erased_at: user.erased_at,
            words: words_of(user),
        }
    }

    pub(super) fn credentials(mut self) -> Result<(User, PasswordHash), Failure> {
        let hash = PasswordHash(std::mem::take(&mut self.password_hash));
        Ok((self.try_into()?, hash))
    }
}

impl TryFrom<UserDocument> for User {
    type Error = Failure;

    fn try_from(user: UserDocument) -> Result<Self, Failure> {
        let PreferencesDocument { order_updates, promotions, recommendations } = user.preferences;
        Ok(Self {
            id: user.id,
            email: Email::parse(&user.email).map_err(|_| broken("a stored e-mail address is none"))?,
            name: user.name,
            role: user.role,
            email_verified: user.email_verified,
            preferences: Preferences { order_updates, promotions, recommendations },
            token_epoch: user.token_epoch,
            demo: user.demo,
            created_at: user.created_at,
            updated_at: user.updated_at,
            event_sequence: user.event_sequence,
            erased_at: user.erased_at,
        })
    }
}

/// A deleted account is found by no word.
fn words_of(user: &User) -> Vec<String> {
    if user.erased_at.is_some() {
        return Vec::new();
    }
    let mut words = search::words(&user.name);
    words.extend(search::words(user.email.as_str()));
    words.sort_unstable();
    words.dedup();
    words
}
