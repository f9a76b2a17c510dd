//! What a campaign asks of the other actors: who is to be reached, and with what.

use std::time::Duration;

use async_trait::async_trait;

use crate::actors::Address;
use crate::actors::errors::DomainError;
use crate::actors::products::ProductActor;
use crate::actors::products::messages::{GetFreshProducts, ListProducts};
use crate::actors::recommendations::RecommendationActor;
use crate::actors::recommendations::messages::{BuyersOf, FavouriteCategories};
use crate::actors::users::UserActor;
use crate::actors::users::messages::ListAudience;
use crate::domain::ids::{ProductId, UserId};
use crate::domain::page::PageRequest;
use crate::domain::products::{Product, ProductFilter, ProductSort};
use crate::domain::users::Subscription;

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

/// Asks the actors of this process.
pub struct NeighbourActors {
    pub users: Address<UserActor>,
    pub products: Address<ProductActor>,
    pub recommendations: Address<RecommendationActor>,
    pub ask_deadline: Duration,
}

#[async_trait]
impl Neighbours for NeighbourActors {
    async fn opted_in(&self, after: Option<UserId>, limit: u32) -> Result<Vec<UserId>, DomainError> {
        let message = ListAudience { subscription: Subscription::Promotions, after, limit };
        self.users.ask(message, self.ask_deadline).await?
    }

    async fn buyers_of(&self, category: &str, users: Vec<UserId>) -> Result<Vec<UserId>, DomainError> {
        let message = BuyersOf { category: category.to_owned(), users };
        self.recommendations.ask(message, self.ask_deadline).await?
    }

    async fn favourite_categories(
        &self,
        users: Vec<UserId>,
        limit: u32,
    ) -> Result<Vec<(UserId, Vec<String>)>, DomainError> {
        self.recommendations.ask(FavouriteCategories { users, limit }, self.ask_deadline).await?
    }

    async fn in_stock(&self, category: &str, limit: u32) -> Result<Vec<Product>, DomainError> {
        let filter = ProductFilter {
            categories: Some(vec![category.to_owned()]),
            in_stock: Some(true),
            ..ProductFilter::default()
        };
        let message = ListProducts { filter, sort: ProductSort::Newest, page: PageRequest::first(limit) };
        let page = self.products.ask(message, self.ask_deadline).await??;
        Ok(page.entries.into_iter().map(|(_, product)| product).collect())
    }

    async fn product(&self, id: ProductId) -> Result<Option<Product>, DomainError> {
        Ok(self.products.ask(GetFreshProducts { ids: vec![id] }, self.ask_deadline).await??.pop())
    }
}
