//! Events: past-tense facts, saved together with the state that they describe and published afterwards.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::api_keys::ApiKeyScope;
use super::ids::{ApiKeyId, CampaignId, MailRequestId, NotificationId, OrderId, ProductId, UserId};
use super::inventory::Shortage;
use super::money::Money;
use super::orders::{OrderLine, OrderStatus};
use super::time::Timestamp;
use super::users::{Preferences, Role};

/// A stream of the event log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    UserEvents,
    ProductEvents,
    OrderEvents,
    InventoryEvents,
    PromotionalEvents,
    RecommendationEvents,
    NotificationEvents,
    DeadLetterQueue,
}

impl Topic {
    pub const ALL: [Self; 8] = [
        Self::UserEvents,
        Self::ProductEvents,
        Self::OrderEvents,
        Self::InventoryEvents,
        Self::PromotionalEvents,
        Self::RecommendationEvents,
        Self::NotificationEvents,
        Self::DeadLetterQueue,
    ];

    /// The name without the configured prefix.
    pub fn name(self) -> &'static str {
        match self {
            Self::UserEvents => "user-events",
            Self::ProductEvents => "product-events",
            Self::OrderEvents => "order-events",
            Self::InventoryEvents => "inventory-events",
            Self::PromotionalEvents => "promotional-events",
            Self::RecommendationEvents => "recommendation-events",
            Self::NotificationEvents => "notification-events",
            Self::DeadLetterQueue => "dead-letter-queue",
        }
    }

    /// The topic of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|topic| topic.name() == name)
    }
}

/// The partition of a key in a topic with so many. Stable for ever (FNV-1a): a key that moved would lose its order.
pub fn partition_of(key: &str, partitions: u32) -> u32 {
    let hash = key
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    (hash % u64::from(partitions)) as u32
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// `ce_type` of every event that the shop emits.
pub mod event_type {
    pub const ORDER_PLACED: &str = "souk.order.placed.v1";
    pub const ORDER_CONFIRMED: &str = "souk.order.confirmed.v1";
    pub const ORDER_REJECTED: &str = "souk.order.rejected.v1";
    pub const ORDER_CANCELLED: &str = "souk.order.cancelled.v1";
    pub const ORDER_SHIPPED: &str = "souk.order.shipped.v1";
    pub const ORDER_DELIVERED: &str = "souk.order.delivered.v1";
    pub const INVENTORY_RESERVED: &str = "souk.inventory.reserved.v1";
    pub const INVENTORY_REJECTED: &str = "souk.inventory.rejected.v1";
    pub const INVENTORY_RELEASED: &str = "souk.inventory.released.v1";
    pub const STOCK_CHANGED: &str = "souk.inventory.stock-changed.v1";
    pub const PRODUCT_CREATED: &str = "souk.product.created.v1";
    pub const PRODUCT_UPDATED: &str = "souk.product.updated.v1";
    pub const PRODUCT_ARCHIVED: &str = "souk.product.archived.v1";
    pub const USER_SIGNED_UP: &str = "souk.user.signed-up.v1";
    pub const USER_UPDATED: &str = "souk.user.updated.v1";
    pub const USER_VERIFIED: &str = "souk.user.verified.v1";
    /// Another verification mail is wanted.
    pub const USER_VERIFICATION_REQUESTED: &str = "souk.user.verification-requested.v1";
    pub const USER_PASSWORD_RESET_REQUESTED: &str = "souk.user.password-reset-requested.v1";
    /// By a reset too.
    pub const USER_PASSWORD_CHANGED: &str = "souk.user.password-changed.v1";
    pub const USER_API_KEY_CREATED: &str = "souk.user.api-key-created.v1";
    /// By its user, by staff, or by what ends all keys of a user.
    pub const USER_API_KEY_REVOKED: &str = "souk.user.api-key-revoked.v1";
    /// Whoever keeps something about the user erases it.
    pub const USER_DELETED: &str = "souk.user.deleted.v1";
    /// The campaign is stored; whoever runs campaigns goes on with it.
    pub const CAMPAIGN_LAUNCHED: &str = "souk.campaign.launched.v1";
    pub const CAMPAIGN_CHUNK: &str = "souk.campaign.chunk.v1";
    pub const RECOMMENDATION_CHANGED: &str = "souk.recommendation.changed.v1";
    pub const NOTIFICATION_QUEUED: &str = "souk.notification.queued.v1";
    pub const NOTIFICATION_SENT: &str = "souk.notification.sent.v1";
    pub const NOTIFICATION_SKIPPED: &str = "souk.notification.skipped.v1";
    pub const NOTIFICATION_DEAD: &str = "souk.notification.dead.v1";
    pub const NOTIFICATION_READ: &str = "souk.notification.read.v1";
    pub const DEAD_LETTER: &str = "souk.dead-letter.v1";
    /// The letter is in the operations store.
    pub const DEAD_LETTER_KEPT: &str = "souk.dead-letter.kept.v1";
}

/// `ce_source` of the domain that emits.
pub mod source {
    pub const USERS: &str = "/souk/users";
    pub const PRODUCTS: &str = "/souk/products";
    pub const ORDERS: &str = "/souk/orders";
    pub const RECOMMENDATIONS: &str = "/souk/recommendations";
    pub const NOTIFICATIONS: &str = "/souk/notifications";
    pub const OPERATIONS: &str = "/souk/operations";
}

/// Headers of the envelope: CloudEvents 1.0 in Kafka's binary mode.
pub mod header {
    pub const SPEC_VERSION: &str = "ce_specversion";
    pub const ID: &str = "ce_id";
    pub const TYPE: &str = "ce_type";
    pub const SOURCE: &str = "ce_source";
    pub const TIME: &str = "ce_time";
    pub const SUBJECT: &str = "ce_subject";
    pub const CONTENT_TYPE: &str = "content-type";
    pub const TRACEPARENT: &str = "traceparent";

    /// True of a header that is written anew whenever the event is appended.
    pub fn is_attribute(name: &str) -> bool {
        name.starts_with("ce_") || name == CONTENT_TYPE
    }
}

/// Header that addresses a replayed event to the one group that failed on it.
pub const HEADER_REPLAY_GROUP: &str = "souk-replay-group";
/// Header with the number of the replay: 0 the first time, then 1, 2, ...
pub const HEADER_ROUND: &str = "souk-round";
/// Header with the original place of a replayed event: `topic/partition/offset`.
pub const HEADER_ORIGIN: &str = "souk-origin";
/// Header with the `ce_id` that a replayed event had the first time: what it does is known by that.
pub const HEADER_EVENT: &str = "souk-event";

/// An event as it waits in its aggregate for publication.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingEvent {
    #[serde(with = "topic_name")]
    pub topic: Topic,
    /// The id of what changed, in text form: with `sequence` it makes the event's id.
    pub aggregate: String,
    /// Counts the aggregate's events from 1.
    pub sequence: i64,
    /// Events of one key stay in order; the aggregate's id unless a topic says otherwise.
    pub key: String,
    pub event_type: Cow<'static, str>,
    pub source: Cow<'static, str>,
    pub at: Timestamp,
    /// JSON.
    pub body: String,
    /// Further headers: `traceparent`, what a replay needs.
    pub headers: Vec<(String, String)>,
}

impl PendingEvent {
    /// An event whose key is its aggregate.
    pub fn new(
        topic: Topic,
        source: &'static str,
        event_type: &'static str,
        aggregate: String,
        sequence: i64,
        at: Timestamp,
        body: &impl Serialize,
    ) -> Self {
        Self {
            topic,
            key: aggregate.clone(),
            aggregate,
            sequence,
            event_type: Cow::Borrowed(event_type),
            source: Cow::Borrowed(source),
            at,
            body: serde_json::to_string(body)
                .expect("event bodies are plain data: nothing in them can fail to serialise"),
            headers: Vec::new(),
        }
    }

    /// `ce_id`: unique within the source.
    pub fn id(&self) -> String {
        format!("{}-{}", self.aggregate, self.sequence)
    }

    pub fn traceparent(&self) -> Option<&str> {
        self.headers.iter().find(|(name, _)| name == header::TRACEPARENT).map(|(_, value)| value.as_str())
    }

    /// Makes it follow from what `traceparent` names, unless it follows from something already.
    pub fn follow(&mut self, traceparent: &str) {
        if self.traceparent().is_none() {
            self.headers.push((header::TRACEPARENT.to_owned(), traceparent.to_owned()));
        }
    }
}

/// A record as the log carried it: enough to handle it again, or to show it as a dead letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredRecord {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub key: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

mod topic_name {
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(topic: &super::Topic, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(topic.name())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<super::Topic, D::Error> {
        let name = String::deserialize(deserializer)?;
        super::Topic::named(&name).ok_or_else(|| serde::de::Error::custom("unknown topic"))
    }
}

/// Body of every `souk.order.*` event: the order as it is after the change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderChanged {
    pub order_id: OrderId,
    pub number: String,
    pub customer_id: UserId,
    pub status: OrderStatus,
    /// Of the timeline entry that this event announces.
    pub sequence: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    pub lines: Vec<OrderLine>,
    pub total: Money,
    /// Only of REJECTED: why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shortages: Vec<Shortage>,
    /// Only of REJECTED: products that are no longer sold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unavailable: Vec<ProductId>,
}

/// Body of `souk.inventory.{reserved,rejected,released}.v1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InventoryDecided {
    pub order_id: OrderId,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shortages: Vec<Shortage>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unavailable: Vec<ProductId>,
}

/// Body of `souk.inventory.stock-changed.v1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockChanged {
    pub product_id: ProductId,
    pub available: i32,
    /// What was in stock before this change.
    pub previous: i32,
}

/// Body of `souk.product.{created,updated,archived}.v1`: the product as it is after the change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductChanged {
    pub product_id: ProductId,
    pub sku: String,
    pub name: String,
    pub category: String,
    pub price: Money,
    pub previous_price: Money,
    pub archived: bool,
    pub version: i32,
}

/// Body of `souk.user.*` events. Carries no address, name or token: who needs them asks the users domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserChanged {
    pub user_id: UserId,
    pub role: Role,
    pub preferences: Preferences,
    /// Filled by the demo: nobody is to be written to about it.
    #[serde(default)]
    pub demo: bool,
    /// What a mail about this event links to: of `signed-up` and `verification-requested` the verification, of
    /// `password-reset-requested` the reset. Its token is derived when the mail is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<MailRequestId>,
}

/// Body of `souk.user.api-key-{created,revoked}.v1`. The key is the user's id; nothing of the token is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKeyChanged {
    pub user_id: UserId,
    pub api_key_id: ApiKeyId,
    pub scopes: Vec<ApiKeyScope>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

/// Body of `souk.campaign.launched.v1`. The key is the campaign's id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CampaignLaunched {
    pub campaign_id: CampaignId,
}

/// Body of `souk.campaign.chunk.v1`: a campaign and some of its audience. The key is the campaign's id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CampaignChunk {
    pub campaign_id: CampaignId,
    /// Counts the campaign's chunks from 1.
    pub chunk: i64,
    pub subject: String,
    /// Plain text.
    pub message: String,
    pub recipients: Vec<CampaignRecipient>,
}

/// One of a campaign's audience.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CampaignRecipient {
    pub user_id: UserId,
    /// Products chosen for this user, by name; empty when everybody gets the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub products: Vec<String>,
}

/// Body of `souk.recommendation.changed.v1`: the best of a user's recommendations now. The key is the user's id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecommendationChanged {
    pub user_id: UserId,
    /// Best first.
    pub items: Vec<RecommendedItem>,
}

/// A recommendation as a mail names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecommendedItem {
    pub product_id: ProductId,
    pub name: String,
    pub reason: String,
}

/// Body of `souk.notification.*` events; carries no text of the notification. The key is the user's id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotificationChanged {
    pub notification_id: NotificationId,
    pub user_id: UserId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub campaign_id: Option<CampaignId>,
}
