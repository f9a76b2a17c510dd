//! What the products actor can be asked.

use std::sync::Arc;

use actix::Message;

use crate::actors::errors::DomainError;
use crate::domain::ids::ProductId;
use crate::domain::inventory::InventoryRequest;
use crate::domain::page::{Page, PageRequest};
use crate::domain::products::{Category, NewProduct, Product, ProductEdit, ProductFilter, ProductSort};
use crate::store::StoreError;
use crate::store::consumption::{Consumed, Consumption};
use crate::store::products::StockAdjustment;

/// Those that exist, archived ones included, in no order; copies at most 1 s old.
#[derive(Message)]
#[rtype(result = "Result<Vec<Product>, DomainError>")]
pub struct GetProducts {
    pub ids: Vec<ProductId>,
}

/// As [`GetProducts`], for a new order: names and prices at most 1 s old, whatever was in stock by then.
#[derive(Message)]
#[rtype(result = "Result<Vec<Arc<Product>>, DomainError>")]
pub struct GetOffers {
    pub ids: Vec<ProductId>,
}

/// As [`GetProducts`], read from the store: what a subscription shows must not be a copy from before its wake.
#[derive(Message)]
#[rtype(result = "Result<Vec<Product>, DomainError>")]
pub struct GetFreshProducts {
    pub ids: Vec<ProductId>,
}

/// Refusal: InvalidInput (`after`).
#[derive(Message)]
#[rtype(result = "Result<Page<Product>, DomainError>")]
pub struct ListProducts {
    pub filter: ProductFilter,
    pub sort: ProductSort,
    pub page: PageRequest,
}

/// By name.
#[derive(Message)]
#[rtype(result = "Result<Vec<Category>, DomainError>")]
pub struct ListCategories;

/// Refusals: InvalidInput (`sku`, `name`, `description`, `category`, `price`, `available`), SkuTaken.
#[derive(Message)]
#[rtype(result = "Result<Product, DomainError>")]
pub struct CreateProduct {
    pub product: NewProduct,
}

/// Edits or archives. Refusals: InvalidInput (`name`, ...), NotFound, VersionConflict.
#[derive(Message)]
#[rtype(result = "Result<Product, DomainError>")]
pub struct EditProduct {
    pub id: ProductId,
    pub expected_version: i32,
    pub edit: ProductEdit,
}

/// Refusals: InvalidInput (`delta`, `reason`, `idempotencyKey`), NotFound, IdempotencyKeyReused.
#[derive(Message)]
#[rtype(result = "Result<Product, DomainError>")]
pub struct AdjustStock {
    pub adjustment: StockAdjustment,
}

/// Decides about placed and cancelled orders, with the offset of the events that told of them.
#[derive(Message)]
#[rtype(result = "Result<Consumed<()>, StoreError>")]
pub struct DecideInventory {
    pub requests: Vec<InventoryRequest>,
    /// Every product that the orders name: its copies are dropped.
    pub touched: Vec<ProductId>,
    pub consumption: Consumption,
}
