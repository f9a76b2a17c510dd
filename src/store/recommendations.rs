//! Port of the recommendations store: purchase history, counts of items and pairs, ratings, and who is to be told.
//!
//! Counts and history belong to a generation. A rebuild fills a new one from the orders while the live one serves; what is
//! applied meanwhile goes to both, and each counts an order once, so that nothing is lost and nothing counts twice.

use async_trait::async_trait;

use super::StoreError;
use super::consumption::{Consumed, Consumption};
use crate::domain::events::RecommendedItem;
use crate::domain::ids::{OrderId, ProductId, UserId};
use crate::domain::recommendations::{Evidence, HistoryChange, Limits, Purchase};
use crate::domain::time::Timestamp;

/// A user whose recommendations may have changed and were not looked at since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DueUser {
    pub user_id: UserId,
    /// Counts the user's changes: an announcement is about all of them or leaves the user due.
    pub changes: i64,
}

/// The best of a due user's recommendations now.
#[derive(Debug, Clone, PartialEq)]
pub struct Announcement {
    pub due: DueUser,
    /// Best first.
    pub items: Vec<RecommendedItem>,
    /// Of the items.
    pub scores: Vec<f64>,
}

/// A bought product in a user's export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportedPurchase {
    pub order_id: OrderId,
    pub product_id: ProductId,
    pub category: String,
    pub at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportedRating {
    pub product_id: ProductId,
    pub liked: bool,
    pub at: Timestamp,
}

/// What is kept about a user.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UserHistory {
    /// Newest order first.
    pub purchases: Vec<ExportedPurchase>,
    /// By product.
    pub ratings: Vec<ExportedRating>,
}

/// Names a generation that is being filled.
pub type Generation = i64;

/// What became of a step of a rebuild.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RebuildStep {
    Done,
    /// Another rebuild has begun since: this one has nothing left to fill.
    Superseded,
}

#[async_trait]
pub trait RecommendationStore: Send + Sync {
    /// Applies orders and deletions in this order (`domain::recommendations::settle`), marks whom they concern as due,
    /// and moves the offset, in one commit. A deleted user's orders go on counting for others; no history is kept.
    async fn apply(
        &self,
        changes: Vec<HistoryChange>,
        limits: Limits,
        consumption: Consumption,
    ) -> Result<Consumed<()>, StoreError>;

    /// Keeps what a user thinks of a product, the last word; the user is due.
    async fn rate(&self, user: UserId, product: ProductId, liked: bool, at: Timestamp) -> Result<(), StoreError>;

    /// What each user's recommendations are made from, in this order: of many at once for little more than of one.
    async fn evidence(&self, users: &[UserId], limits: Limits) -> Result<Vec<Evidence>, StoreError>;

    /// Up to `limit` users who are due, those who have waited longest first.
    async fn due_users(&self, limit: u32) -> Result<Vec<DueUser>, StoreError>;

    /// Saves an event for each user whose items or scores are not those that were last announced; none that has changed again
    /// meanwhile, who stays due.
    async fn announce(&self, announcements: Vec<Announcement>, at: Timestamp) -> Result<(), StoreError>;

    /// Of these users, those who bought something of the category.
    async fn buyers_of(&self, category: &str, users: &[UserId]) -> Result<Vec<UserId>, StoreError>;

    /// The categories that each user buys most, best first; users who bought nothing are left out.
    async fn favourite_categories(
        &self,
        users: &[UserId],
        limit: u32,
    ) -> Result<Vec<(UserId, Vec<String>)>, StoreError>;

    async fn history(&self, user: UserId) -> Result<UserHistory, StoreError>;

    /// Begins a new generation and gives up one that was begun before.
    async fn begin_rebuild(&self) -> Result<Generation, StoreError>;

    /// Counts confirmed orders into the generation, each once, however often it comes.
    async fn rebuild(
        &self,
        generation: Generation,
        purchases: Vec<Purchase>,
        limits: Limits,
    ) -> Result<RebuildStep, StoreError>;

    /// Makes the generation the live one.
    async fn finish_rebuild(&self, generation: Generation) -> Result<RebuildStep, StoreError>;

    /// Removes some of what no generation in use holds; false when nothing is left.
    async fn remove_abandoned(&self) -> Result<bool, StoreError>;
}
