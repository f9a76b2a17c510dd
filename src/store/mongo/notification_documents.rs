//! How notifications lie in their database: schema, documents, and the changes that are written with their events.

use std::collections::HashMap;

use mongodb::bson::{Document, doc, serialize_to_document};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::failure::{Failure, broken};
use super::migrations::{Change, Migration, collection, index, indexes, partial_index, unique_index};
use super::notification_content::ContentDocument;
use super::transaction::Tx;
use super::updates::Update;
use super::{consumption, outbox, values};
use crate::domain::ids::{CampaignId, NotificationId, TypedId, UserId};
use crate::domain::notifications::intake::KnownUser;
use crate::domain::notifications::{Notification, NotificationKind, NotificationPriority, NotificationStatus};
use crate::domain::time::Timestamp;
use crate::domain::users::Preferences;
use crate::store::notifications::Lease;

pub(super) const NOTIFICATIONS: &str = "notifications";
pub(super) const RECIPIENTS: &str = "recipients";
pub(super) const PACE: &str = "pace";

pub(super) const MIGRATIONS: &[Migration] = &[Migration { name: "notifications", changes }];

fn changes() -> Vec<Change> {
    let mut changes = Vec::from(outbox::collections());
    changes.extend(consumption::collections());
    changes.extend([
        collection(
            NOTIFICATIONS,
            &[
                ("_id", &["string"]),
                ("userId", &["string"]),
                ("number", &["long"]),
                ("cause", &["string"]),
                ("kind", &["string"]),
                ("lane", &["string"]),
                ("status", &["string"]),
                ("subject", &["string"]),
                ("body", &["string"]),
                ("content?", &["object"]),
                ("campaignId?", &["string"]),
                ("attempts", &["int", "long"]),
                ("failures", &["int", "long"]),
                ("firstAttemptAt?", &["date"]),
                ("round", &["int", "long"]),
                ("lastError?", &["string"]),
                ("read", &["bool"]),
                ("createdAt", &["date"]),
                ("sentAt?", &["date"]),
                ("eventSequence", &["long"]),
                ("dueAt", &["date"]),
                ("lease?", &["string"]),
            ],
        ),
        indexes(
            NOTIFICATIONS,
            [
                unique_index("notifications_by_cause", doc! { "cause": 1 }),
                unique_index("notifications_by_user", doc! { "userId": 1, "number": -1 }),
                index("notifications_read", doc! { "userId": 1, "read": 1, "number": -1 }),
                // The queue, however many were mailed before; how long it is can be counted from the index alone.
                partial_index(
                    "notifications_due",
                    doc! { "status": 1, "lane": 1, "dueAt": 1, "_id": 1 },
                    doc! { "status": NotificationStatus::Queued.as_str() },
                ),
                partial_index("notifications_leased", doc! { "dueAt": 1 }, doc! { "lease": { "$exists": true } }),
                partial_index(
                    "notifications_digests",
                    doc! { "userId": 1, "kind": 1, "number": -1 },
                    doc! { "kind": NotificationKind::Recommendation.as_str() },
                ),
                partial_index(
                    "notifications_sent",
                    doc! { "userId": 1, "lane": 1, "sentAt": 1 },
                    doc! { "lane": NotificationPriority::Standard.as_str(), "sentAt": { "$exists": true } },
                ),
                partial_index(
                    "notifications_by_campaign",
                    doc! { "campaignId": 1, "status": 1 },
                    doc! { "campaignId": { "$exists": true } },
                ),
            ],
        ),
        collection(
            RECIPIENTS,
            &[
                ("_id", &["string"]),
                ("told", &["long"]),
                ("preferences?", &["object"]),
                ("demo", &["bool"]),
                ("erased", &["bool"]),
            ],
        ),
        collection(PACE, &[("_id", &["string"]), ("paidUntilNs", &["long"]), ("claims", &["int", "long"])]),
    ]);
    changes
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NotificationDocument {
    #[serde(rename = "_id")]
    id: NotificationId,
    user_id: UserId,
    /// The user's first notification has 1: the order of the inbox, and the position of a stream.
    number: i64,
    /// The user and what caused it: unique, so the same cause tells a user once.
    cause: String,
    kind: String,
    lane: String,
    status: String,
    subject: String,
    body: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    content: Option<ContentDocument>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    campaign_id: Option<CampaignId>,
    attempts: u32,
    failures: u32,
    #[serde(with = "values::optional_time", default, skip_serializing_if = "Option::is_none")]
    first_attempt_at: Option<Timestamp>,
    round: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    read: bool,
    #[serde(with = "values::time")]
    created_at: Timestamp,
    #[serde(with = "values::optional_time", default, skip_serializing_if = "Option::is_none")]
    sent_at: Option<Timestamp>,
    event_sequence: i64,
    /// Of a queued one: when it may be claimed, which is when its next attempt is due or its lease ends.
    #[serde(with = "values::time")]
    due_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lease: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
}

/// A notification with what only its document knows of it.
pub(super) struct Stored {
    pub notification: Notification,
    pub number: i64,
    pub cause: String,
    /// When it may be claimed.
    pub due_at: Timestamp,
    /// Who holds it.
    pub lease: Option<Lease>,
}

/// What tells a user, and that once.
pub(super) fn cause(user: UserId, dedupe_key: &str) -> String {
    format!("{user} {dedupe_key}")
}

pub(super) fn lease_text(lease: Lease) -> String {
    lease.0.to_string()
}

/// Where a dead letter's record says that the notification lies: ids are made from the time, so it grows.
pub(super) fn position(id: NotificationId) -> i64 {
    (id.uuid().as_u128() >> 65) as i64
}

impl From<Stored> for NotificationDocument {
    fn from(stored: Stored) -> Self {
        let Stored { notification, number, cause, due_at, lease } = stored;
        Self {
            id: notification.id,
            user_id: notification.user_id,
            number,
            cause,
            kind: notification.kind.as_str().into(),
            lane: notification.priority().as_str().into(),
            status: notification.status.as_str().into(),
            subject: notification.subject,
            body: notification.body,
            content: notification.content.map(Into::into),
            campaign_id: notification.campaign_id,
            attempts: notification.attempts,
            failures: notification.failures,
            first_attempt_at: notification.first_attempt_at,
            round: notification.round,
            last_error: notification.last_error,
            read: notification.read,
            created_at: notification.created_at,
            sent_at: notification.sent_at,
            event_sequence: notification.event_sequence,
            due_at,
            lease: lease.map(lease_text),
            traceparent: notification.traceparent,
        }
    }
}

impl TryFrom<NotificationDocument> for Stored {
    type Error = Failure;

    fn try_from(document: NotificationDocument) -> Result<Self, Failure> {
        let kind = NotificationKind::ALL.into_iter().find(|kind| kind.as_str() == document.kind);
        let status = NotificationStatus::ALL.into_iter().find(|status| status.as_str() == document.status);
        let lease = document
            .lease
            .map(|lease| lease.parse::<Uuid>().map(Lease).map_err(|_| broken(format!("{} has no lease", document.id))));
        let notification = Notification {
            id: document.id,
            user_id: document.user_id,
            kind: kind.ok_or_else(|| broken(format!("unknown notification kind {}", document.kind)))?,
            status: status.ok_or_else(|| broken(format!("unknown notification status {}", document.status)))?,
            subject: document.subject,
            body: document.body,
            content: document.content.map(Into::into),
            campaign_id: document.campaign_id,
            attempts: document.attempts,
            failures: document.failures,
            first_attempt_at: document.first_attempt_at,
            round: document.round,
            last_error: document.last_error,
            read: document.read,
            created_at: document.created_at,
            sent_at: document.sent_at,
            event_sequence: document.event_sequence,
            traceparent: document.traceparent,
        };
        Ok(Self {
            notification,
            number: document.number,
            cause: document.cause,
            due_at: document.due_at,
            lease: lease.transpose()?,
        })
    }
}

/// The notifications that match, in no order.
pub(super) async fn find(tx: &mut Tx, filter: Document) -> Result<Vec<Stored>, Failure> {
    let notifications = tx.collection::<NotificationDocument>(NOTIFICATIONS);
    let found = notifications.find(filter).session(tx.session()).await?;
    tx.collect(found).await?.into_iter().map(Stored::try_from).collect()
}

/// Writes the whole of each, in one command. Nothing changes between the read and the write of one transaction.
pub(super) async fn save(tx: &mut Tx, changed: Vec<Stored>) -> Result<(), Failure> {
    if changed.is_empty() {
        return Ok(());
    }
    let mut updates = Vec::with_capacity(changed.len());
    for stored in changed {
        let id = stored.notification.id.to_string();
        updates.push(Update::one(doc! { "_id": id }, serialize_to_document(&NotificationDocument::from(stored))?));
    }
    tx.update(NOTIFICATIONS, updates).await?;
    Ok(())
}

/// What is known of somebody who is told things. Every transaction that tells a user something changes their document, so
/// two of them never run past one another.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RecipientDocument {
    #[serde(rename = "_id")]
    user_id: String,
    told: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    preferences: Option<PreferencesDocument>,
    demo: bool,
    erased: bool,
    #[serde(default)]
    as_of: i64,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PreferencesDocument {
    order_updates: bool,
    promotions: bool,
    recommendations: bool,
}

#[derive(Clone, Copy, Default)]
pub(super) struct Recipient {
    /// How many notifications the user has been given.
    pub told: i64,
    /// From the user's own events; `None` before the first of them came.
    pub known: Option<KnownUser>,
}

impl From<RecipientDocument> for Recipient {
    fn from(document: RecipientDocument) -> Self {
        let known = document.preferences.map(|preferences| KnownUser {
            preferences: Preferences {
                order_updates: preferences.order_updates,
                promotions: preferences.promotions,
                recommendations: preferences.recommendations,
            },
            demo: document.demo,
            erased: document.erased,
            as_of: document.as_of,
        });
        Self { told: document.told, known }
    }
}

impl RecipientDocument {
    fn of(user: UserId, recipient: &Recipient) -> Self {
        let preferences = recipient.known.map(|known| PreferencesDocument {
            order_updates: known.preferences.order_updates,
            promotions: known.preferences.promotions,
            recommendations: known.preferences.recommendations,
        });
        Self {
            user_id: user.to_string(),
            told: recipient.told,
            preferences,
            demo: recipient.known.is_some_and(|known| known.demo),
            erased: recipient.known.is_some_and(|known| known.erased),
            as_of: recipient.known.map_or(0, |known| known.as_of),
        }
    }
}

/// Of these users those who are known.
pub(super) async fn recipients(tx: &mut Tx, users: &[UserId]) -> Result<HashMap<UserId, Recipient>, Failure> {
    let texts: Vec<String> = users.iter().map(UserId::to_string).collect();
    let known = tx.collection::<RecipientDocument>(RECIPIENTS);
    let found = known.find(doc! { "_id": { "$in": texts } }).session(tx.session()).await?;
    let mut recipients = HashMap::new();
    for document in tx.collect(found).await? {
        let user = document.user_id.parse().map_err(|_| broken("a recipient is no user"))?;
        recipients.insert(user, document.into());
    }
    Ok(recipients)
}

pub(super) async fn save_recipients<'a>(
    tx: &mut Tx,
    changed: impl Iterator<Item = (UserId, &'a Recipient)>,
) -> Result<(), Failure> {
    let mut updates = Vec::new();
    for (user, recipient) in changed {
        let document = serialize_to_document(&RecipientDocument::of(user, recipient))?;
        updates.push(Update::one(doc! { "_id": user.to_string() }, document).or_insert());
    }
    if !updates.is_empty() {
        tx.update(RECIPIENTS, updates).await?;
    }
    Ok(())
}
