//! Nested lists without a message for each entry: what one request asks of users and products goes out in batches.
//!
//! A loader lives for one request or socket operation and is made when a nested field first asks. It keeps nothing:
//! the actors have their own copies, and a subscription must not see old ones.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_graphql::dataloader::{DataLoader, Loader};
use async_graphql::{Context, Error};
use tracing::Instrument;

use super::context::{Shop, answered};
use super::errors::query_error;
use crate::actors::errors::DomainError;
use crate::actors::products::messages::GetProducts;
use crate::actors::users::messages::GetUsers;
use crate::domain::ids::{ProductId, UserId};
use crate::domain::products::Product;
use crate::domain::users::User;

/// How long a loader gathers keys. All entries of a list ask in the same turn of the event loop.
const GATHERING: Duration = Duration::from_micros(50);

/// Loads through the shop's actors.
pub struct ActorLoader(Shop);

impl Loader<UserId> for ActorLoader {
    type Value = User;
    type Error = Arc<DomainError>;

    async fn load(&self, keys: &[UserId]) -> Result<HashMap<UserId, User>, Self::Error> {
        let Self(shop) = self;
        let users = answered(shop.users.ask(GetUsers { ids: keys.to_vec() }, shop.ask_deadline).await)?;
        Ok(users.into_iter().map(|user| (user.id, user)).collect())
    }
}

impl Loader<ProductId> for ActorLoader {
    type Value = Product;
    type Error = Arc<DomainError>;

    async fn load(&self, keys: &[ProductId]) -> Result<HashMap<ProductId, Product>, Self::Error> {
        let Self(shop) = self;
        let products = answered(shop.products.ask(GetProducts { ids: keys.to_vec() }, shop.ask_deadline).await)?;
        Ok(products.into_iter().map(|product| (product.id, product)).collect())
    }
}

/// Request data: the loaders of one request.
#[derive(Default)]
pub struct Loaders(OnceLock<DataLoader<ActorLoader>>);

impl Loaders {
    fn of<'a>(ctx: &'a Context<'_>) -> Result<&'a DataLoader<ActorLoader>, Error> {
        let shop = ctx.data::<Shop>()?;
        Ok(ctx.data::<Self>()?.0.get_or_init(|| {
            // One message carries a list of ids; 1,000 of them are still one.
            let load = |load| tokio::spawn(Instrument::in_current_span(load));
            DataLoader::new(ActorLoader(shop.clone()), load).delay(GATHERING)
        }))
    }

    /// A user, or none.
    pub async fn user(ctx: &Context<'_>, id: UserId) -> Result<Option<User>, Error> {
        Self::of(ctx)?.load_one(id).await.map_err(|error| query_error(ctx, DomainError::clone(&error)))
    }

    /// A product, archived or not, or none.
    pub async fn product(ctx: &Context<'_>, id: ProductId) -> Result<Option<Product>, Error> {
        Self::of(ctx)?.load_one(id).await.map_err(|error| query_error(ctx, DomainError::clone(&error)))
    }
}
