//! What the recommendations actor can be asked.

use actix::Message;

use crate::actors::errors::DomainError;
use crate::domain::ids::{ProductId, UserId};
use crate::domain::products::Product;
use crate::domain::recommendations::HistoryChange;
use crate::store::StoreError;
use crate::store::consumption::{Consumed, Consumption};

/// A product for a user, with why.
#[derive(Debug, Clone, PartialEq)]
pub struct Recommendation {
    /// On sale and in stock, by copies at most 1 s old.
    pub product: Product,
    /// About how likely it is wanted next: 0 to 1.
    pub score: f64,
    /// In words a shopper understands.
    pub reason: String,
    /// The products that the reason names.
    pub because_of: Vec<Product>,
}

/// The best for a user, best first. Fewer than asked for when there are not more.
#[derive(Message)]
#[rtype(result = "Result<Vec<Recommendation>, DomainError>")]
pub struct GetRecommendations {
    pub user_id: UserId,
    pub first: u32,
    /// Not from a copy: what a subscription shows must not be from before its wake.
    pub fresh: bool,
}

/// Keeps what a user thinks of a product: disliked ones are not recommended any more. Refusal: NotFound (`productId`).
#[derive(Message)]
#[rtype(result = "Result<(), DomainError>")]
pub struct Rate {
    pub user_id: UserId,
    pub product_id: ProductId,
    pub liked: bool,
}

/// Of these users, those who bought something of the category.
#[derive(Message)]
#[rtype(result = "Result<Vec<UserId>, DomainError>")]
pub struct BuyersOf {
    pub category: String,
    pub users: Vec<UserId>,
}

/// The categories each user buys most, best first; users who bought nothing are left out.
#[derive(Message)]
#[rtype(result = "Result<Vec<(UserId, Vec<String>)>, DomainError>")]
pub struct FavouriteCategories {
    pub users: Vec<UserId>,
    pub limit: u32,
}

/// What is kept about a user, for accountExport, as JSON.
#[derive(Message)]
#[rtype(result = "Result<serde_json::Value, DomainError>")]
pub struct ExportHistory {
    pub user_id: UserId,
}

/// Applies confirmed and cancelled orders and deleted users, with the offset of the events that told of them.
#[derive(Message)]
#[rtype(result = "Result<Consumed<()>, StoreError>")]
pub struct ApplyHistory {
    pub changes: Vec<HistoryChange>,
    pub consumption: Consumption,
}
