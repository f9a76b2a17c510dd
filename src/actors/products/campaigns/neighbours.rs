//! What a campaign asks of the other actors: who is to be reached, and with what.

use async_trait::async_trait;

use crate::actors::errors::DomainError;
use crate::domain::ids::{ProductId, UserId};
use crate::domain::products::Product;

#[async_trait]
pub trait Neighbours: Send + Sync {
    /// Users with `promotions` on, by id, after one of them.
    async fn opted_in(&self, after: Option<UserId>, limit: u32) -> Result<Vec<UserId>, DomainError>;

    /// Of these, those who bought something of a category.
    async fn buyers_of(&self, category: &str, users: Vec<UserId>) -> Result<Vec<UserId>, DomainError>;

    /// The categories that each of these buys most, best first.
    async fn favourite_categories(
        &self,
        users: Vec<UserId>,
        limit: u32,
    ) -> Result<Vec<(UserId, Vec<String>)>, DomainError>;

    /// The newest products of a category that are in stock.
    async fn in_stock(&self, category: &str, limit: u32) -> Result<Vec<Product>, DomainError>;

    /// A product as it is now.
    async fn product(&self, id: ProductId) -> Result<Option<Product>, DomainError>;
}
