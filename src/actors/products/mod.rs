//! The products actor: the catalogue, its copies, and stock's decisions.
//!
//! Reads go through copies that are at most 1 s old and are dropped on each change that this process makes; decisions
//! about stock are taken in the store's transaction and never from a copy.

pub mod campaigns;
pub mod copies;
pub mod messages;

use std::future::Future;
use std::sync::Arc;

use actix::{Actor, Context, Handler, ResponseFuture, Supervised};
use uuid::Uuid;

use self::copies::ProductCopies;
use self::messages::{
    AdjustStock, CreateProduct, DecideInventory, EditProduct, GetFreshProducts, GetOffers, GetProducts, ListCategories,
    ListProducts,
};
use crate::actors::clock::now;
use crate::actors::errors::{DomainError, path};
use crate::domain::ids::{ProductId, TypedId};
use crate::domain::page::Page;
use crate::domain::products::{Category, Product};
use crate::domain::text::{MAX_KEY, MAX_TEXT, check_text};
use crate::store::StoreError;
use crate::store::cache::products::CatalogueReads;
use crate::store::consumption::Consumed;
use crate::store::products::{AdjustStock as Adjusted, EditProduct as Edited, InsertProduct, ProductStore};

pub struct ProductActor {
    reads: CatalogueReads,
    copies: Arc<ProductCopies>,
}

impl ProductActor {
    pub fn new(reads: CatalogueReads) -> Self {
        let copies = Arc::new(ProductCopies::new(reads.clone()));
        Self { reads, copies }
    }

    fn beside<T, E, F>(
        &self,
        work: impl FnOnce(Arc<dyn ProductStore>, Arc<ProductCopies>) -> F,
    ) -> ResponseFuture<Result<T, E>>
    where
        F: Future<Output = Result<T, E>> + 'static,
    {
        Box::pin(work(Arc::clone(&self.reads.store), Arc::clone(&self.copies)))
    }
}

impl Actor for ProductActor {
    type Context = Context<Self>;
}

impl Supervised for ProductActor {}

impl Handler<GetProducts> for ProductActor {
    type Result = ResponseFuture<Result<Vec<Product>, DomainError>>;

    fn handle(&mut self, GetProducts { ids }: GetProducts, _: &mut Context<Self>) -> Self::Result {
        self.beside(|_, copies| async move { Ok(copies.products(&ids).await?) })
    }
}

impl Handler<GetOffers> for ProductActor {
    type Result = ResponseFuture<Result<Vec<Arc<Product>>, DomainError>>;

    fn handle(&mut self, GetOffers { ids }: GetOffers, _: &mut Context<Self>) -> Self::Result {
        self.beside(|_, copies| async move { Ok(copies.offers(&ids).await?) })
    }
}

impl Handler<GetFreshProducts> for ProductActor {
    type Result = ResponseFuture<Result<Vec<Product>, DomainError>>;

    fn handle(&mut self, GetFreshProducts { ids }: GetFreshProducts, _: &mut Context<Self>) -> Self::Result {
        self.beside(|store, _| async move { Ok(store.products(&ids).await?) })
    }
}

impl Handler<ListProducts> for ProductActor {
    type Result = ResponseFuture<Result<Page<Product>, DomainError>>;

    fn handle(&mut self, list: ListProducts, _: &mut Context<Self>) -> Self::Result {
        self.beside(|_, copies| async move { Ok(copies.page(list).await?) })
    }
}

impl Handler<ListCategories> for ProductActor {
    type Result = ResponseFuture<Result<Vec<Category>, DomainError>>;

    fn handle(&mut self, _: ListCategories, _: &mut Context<Self>) -> Self::Result {
        self.beside(|_, copies| async move { Ok(copies.categories().await?) })
    }
}

impl Handler<CreateProduct> for ProductActor {
    type Result = ResponseFuture<Result<Product, DomainError>>;

    fn handle(&mut self, CreateProduct { product }: CreateProduct, _: &mut Context<Self>) -> Self::Result {
        self.beside(|store, copies| async move {
            let (product, event) = product.create(ProductId::from_uuid(Uuid::now_v7()), now())?;
            match store.insert_product(product.clone(), event).await? {
                InsertProduct::Inserted => {
                    copies.changed(&product).await;
                    Ok(product)
                }
                InsertProduct::SkuTaken => Err(DomainError::SkuTaken),
            }
        })
    }
}

fn not_found(field: &str) -> DomainError {
    DomainError::NotFound { what: "the product", field: path(field) }
}

impl Handler<EditProduct> for ProductActor {
    type Result = ResponseFuture<Result<Product, DomainError>>;

    fn handle(&mut self, message: EditProduct, _: &mut Context<Self>) -> Self::Result {
        self.beside(|store, copies| async move {
            let EditProduct { id, expected_version, edit } = message;
            edit.check()?;
            match store.edit_product(id, expected_version, edit, now()).await? {
                Edited::Edited(product) => {
                    copies.changed(&product).await;
                    Ok(product)
                }
                Edited::NotFound => Err(not_found("id")),
                Edited::VersionConflict(product) => Err(DomainError::VersionConflict { current: product.version }),
            }
        })
    }
}

impl Handler<AdjustStock> for ProductActor {
    type Result = ResponseFuture<Result<Product, DomainError>>;

    fn handle(&mut self, AdjustStock { adjustment }: AdjustStock, _: &mut Context<Self>) -> Self::Result {
        self.beside(|store, copies| async move {
            check_text("reason", &adjustment.reason, 1, MAX_TEXT)
                .map_err(|reason| DomainError::invalid("reason", reason))?;
            if let Some(key) = &adjustment.idempotency_key {
                check_text("idempotencyKey", key, 1, MAX_KEY)
                    .map_err(|reason| DomainError::invalid("idempotencyKey", reason))?;
            }
            match store.adjust_stock(adjustment, now()).await? {
                Adjusted::Adjusted(product) => {
                    copies.changed(&product).await;
                    Ok(product)
                }
                Adjusted::Replayed(product) => Ok(product),
                Adjusted::NotFound => Err(not_found("productId")),
                Adjusted::OutOfRange(range) => Err(range.into()),
                Adjusted::KeyReused => Err(DomainError::IdempotencyKeyReused),
            }
        })
    }
}

impl Handler<DecideInventory> for ProductActor {
    type Result = ResponseFuture<Result<Consumed<()>, StoreError>>;

    fn handle(&mut self, message: DecideInventory, _: &mut Context<Self>) -> Self::Result {
        self.beside(|store, copies| async move {
            let decided = store.decide_inventory(message.requests, message.consumption, now()).await;
            copies.stock_moved(&message.touched).await;
            decided
        })
    }
}
