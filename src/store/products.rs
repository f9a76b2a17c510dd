//! Port of the products store: the catalogue, stock, and the decisions about orders.

use async_trait::async_trait;

use super::StoreError;
use super::consumption::{Consumed, Consumption};
use crate::domain::events::PendingEvent;
use crate::domain::ids::{OrderId, ProductId};
use crate::domain::inventory::{Decision, InventoryRequest};
use crate::domain::page::{Page, PageRequest};
use crate::domain::products::{Category, Product, ProductEdit, ProductFilter, ProductSort, StockOutOfRange};
use crate::domain::time::Timestamp;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InsertProduct {
    Inserted,
    /// Another product has this SKU, archived ones included.
    SkuTaken,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EditProduct {
    Edited(Product),
    NotFound,
    /// The product has another version than the caller expected.
    VersionConflict(Product),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdjustStock {
    Adjusted(Product),
    /// The same key with the same input: the product as it is now, nothing changed again.
    Replayed(Product),
    NotFound,
    OutOfRange(StockOutOfRange),
    /// The key belongs to another adjustment.
    KeyReused,
}

/// A change of stock by hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StockAdjustment {
    pub product_id: ProductId,
    pub delta: i32,
    pub reason: String,
    /// Makes a repeated request one adjustment. Unique in the shop.
    pub idempotency_key: Option<String>,
}

#[async_trait]
pub trait ProductStore: Send + Sync {
    async fn insert_product(&self, product: Product, event: PendingEvent) -> Result<InsertProduct, StoreError>;

    /// Saves many new products in one commit, for the demo; one whose SKU is taken is passed over.
    async fn insert_products(&self, products: Vec<(Product, PendingEvent)>) -> Result<(), StoreError>;

    /// Those that exist, archived ones included, in no order.
    async fn products(&self, ids: &[ProductId]) -> Result<Vec<Product>, StoreError>;

    async fn list_products(
        &self,
        filter: &ProductFilter,
        sort: ProductSort,
        page: &PageRequest,
    ) -> Result<Page<Product>, StoreError>;

    /// By name, archived products not counted.
    async fn categories(&self) -> Result<Vec<Category>, StoreError>;

    /// Products in the store, archived ones too.
    async fn count_products(&self) -> Result<u64, StoreError>;

    /// Applies a checked edit if the product has the expected version.
    async fn edit_product(
        &self,
        id: ProductId,
        expected_version: i32,
        edit: ProductEdit,
        at: Timestamp,
    ) -> Result<EditProduct, StoreError>;

    async fn adjust_stock(&self, adjustment: StockAdjustment, at: Timestamp) -> Result<AdjustStock, StoreError>;

    /// Decides a batch (`domain::inventory::decide`) and commits stock, decisions, events and offset together.
    async fn decide_inventory(
        &self,
        requests: Vec<InventoryRequest>,
        consumption: Consumption,
        at: Timestamp,
    ) -> Result<Consumed<()>, StoreError>;

    /// The decisions about these orders, for checks.
    async fn decisions(&self, orders: &[OrderId]) -> Result<Vec<(OrderId, Decision)>, StoreError>;
}
