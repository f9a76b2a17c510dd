//! Products in collection `products`, one readable document each with its stock; see `inventory` for the decisions,
//! `catalogue` for the lists and `campaigns` for what else lives in this database.

use std::collections::HashSet;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{FutureExt, TryStreamExt};
use mongodb::bson::{Bson, doc};
use tokio::sync::{Mutex, MutexGuard};

use super::failure::{Failure, broken};
use super::inventory;
use super::product_documents::{
    ADJUSTMENTS, AdjustmentDocument, BY_ADJUSTMENT_KEY, BY_SKU, DECISIONS, MIGRATIONS, PRODUCTS, ProductDocument,
    unmoved, without_words,
};
use super::transaction::Tx;
use crate::domain::events::PendingEvent;
use crate::domain::ids::{OrderId, ProductId};
use crate::domain::inventory::{Decision, InventoryRequest};
use crate::domain::page::{Page, PageRequest};
use crate::domain::products::{Category, Product, ProductEdit, ProductFilter, ProductSort};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::consumption::{Consumed, Consumption};
use crate::store::products::{AdjustStock, EditProduct, InsertProduct, ProductStore, StockAdjustment};

/// How long a change of stock lets those before it go first.
const LONGEST_TURN: Duration = Duration::from_secs(5);

/// Products and campaigns in their MongoDB database.
pub struct MongoProductStore {
    pub(super) database: super::database::MongoDatabase,
    /// Whose turn it is, within this process, to change products.
    turns: Mutex<()>,
}

super::store_over_database!(MongoProductStore, Products, MIGRATIONS, turns: Mutex::default());
super::outbox_over_database!(MongoProductStore);

#[async_trait]
impl ProductStore for MongoProductStore {
    async fn insert_product(&self, product: Product, event: PendingEvent) -> Result<InsertProduct, StoreError> {
        let inserted = self.database.transaction(vec![(product, event)], |tx, new| insert(tx, new).boxed()).await?;
        Ok(if inserted == 1 { InsertProduct::Inserted } else { InsertProduct::SkuTaken })
    }

    async fn insert_products(&self, products: Vec<(Product, PendingEvent)>) -> Result<(), StoreError> {
        self.database.transaction(products, |tx, new| insert(tx, new).boxed()).await.map(drop)
    }

    async fn products(&self, ids: &[ProductId]) -> Result<Vec<Product>, StoreError> {
        let products = self.database.collection::<ProductDocument>(PRODUCTS);
        let ids: Vec<Bson> = ids.iter().map(|id| id.to_string().into()).collect();
        self.database
            .read(async move {
                let found = products.find(doc! { "_id": { "$in": ids } }).projection(without_words()).await?;
                Ok(found.map_ok(Product::from).try_collect().await?)
            })
            .await
    }

    async fn list_products(
        &self,
        filter: &ProductFilter,
        sort: ProductSort,
        page: &PageRequest,
    ) -> Result<Page<Product>, StoreError> {
        self.list_catalogue(filter, sort, page).await
    }

    async fn categories(&self) -> Result<Vec<Category>, StoreError> {
        self.count_categories().await
    }

    async fn count_products(&self) -> Result<u64, StoreError> {
        let products = self.database.collection::<ProductDocument>(PRODUCTS);
        self.database.read(async move { Ok(products.count_documents(doc! {}).await?) }).await
    }

    async fn edit_product(
        &self,
        id: ProductId,
        expected_version: i32,
        edit: ProductEdit,
        at: Timestamp,
    ) -> Result<EditProduct, StoreError> {
        let _turn = self.turn().await;
        self.database
            .transaction((id, expected_version, edit, at), |tx, (id, expected, change, at)| {
                edit_if(tx, *id, *expected, change, *at).boxed()
            })
            .await
    }

    async fn adjust_stock(&self, adjustment: StockAdjustment, at: Timestamp) -> Result<AdjustStock, StoreError> {
        let _turn = self.turn().await;
        self.database.transaction((adjustment, at), |tx, (adjustment, at)| adjust(tx, adjustment, *at).boxed()).await
    }

    async fn decide_inventory(
        &self,
        requests: Vec<InventoryRequest>,
        consumption: Consumption,
        at: Timestamp,
    ) -> Result<Consumed<()>, StoreError> {
        let _turn = self.turn().await;
        self.database
            .transaction((requests, consumption, at), |tx, (requests, consumption, at)| {
                async move {
                    inventory::claim(tx, requests).await?;
                    if !tx.consume(consumption).await? {
                        tx.undo();
                        return Ok(Consumed::Lost);
                    }
                    inventory::decide(tx, requests, *at).await?;
                    Ok(Consumed::Done(()))
                }
                .boxed()
            })
            .await
    }

    async fn decisions(&self, orders: &[OrderId]) -> Result<Vec<(OrderId, Decision)>, StoreError> {
        let (decisions, orders) = (self.database.collection(DECISIONS), orders.to_vec());
        self.database.read(async move { inventory::decisions(&decisions, &orders).await }).await
    }
}

impl MongoProductStore {
    /// Transactions on one product undo one another, so those of this process take turns. That saves work and decides
    /// nothing: whoever has waited too long, or comes from another process, goes on all the same.
    async fn turn(&self) -> Option<MutexGuard<'_, ()>> {
        tokio::time::timeout(LONGEST_TURN, self.turns.lock()).await.ok()
    }
}

async fn by_id(tx: &mut Tx, id: ProductId) -> Result<Option<Product>, Failure> {
    let products = tx.collection::<ProductDocument>(PRODUCTS);
    let found =
        products.find_one(doc! { "_id": id.to_string() }).projection(without_words()).session(tx.session()).await?;
    Ok(found.map(Product::from))
}

/// Inserts those whose SKU is free; how many.
async fn insert(tx: &mut Tx, new: &[(Product, PendingEvent)]) -> Result<usize, Failure> {
    let products = tx.collection::<ProductDocument>(PRODUCTS);
    let skus: Vec<&str> = new.iter().map(|(product, _)| product.sku.as_str()).collect();
    let mut found =
        products.find(doc! { "sku": { "$in": skus } }).projection(without_words()).session(tx.session()).await?;
    let mut taken = HashSet::new();
    while let Some(product) = found.next(tx.session()).await.transpose()? {
        taken.insert(Product::from(product).sku);
    }
    let free: Vec<_> = new.iter().filter(|(product, _)| taken.insert(product.sku.clone())).collect();
    if !free.is_empty() {
        let documents = free.iter().map(|(product, _)| ProductDocument::from(product));
        let inserted = products.insert_many(documents).session(tx.session()).await;
        inserted.map_err(|error| Failure::from(error).or_conflict(BY_SKU))?;
        free.iter().for_each(|(_, event)| tx.emit(event.clone()));
    }
    Ok(free.len())
}

/// Replaces a product that has not moved since the transaction's snapshot: one that has makes a conflict.
async fn replace(tx: &mut Tx, before: &Product, after: &Product) -> Result<(), Failure> {
    let products = tx.collection::<ProductDocument>(PRODUCTS);
    let replaced = products.replace_one(unmoved(before), ProductDocument::from(after)).session(tx.session()).await?;
    if replaced.matched_count == 1 { Ok(()) } else { Err(broken("a product is not what its change was made from")) }
}

async fn edit_if(
    tx: &mut Tx,
    id: ProductId,
    expected_version: i32,
    change: &ProductEdit,
    at: Timestamp,
) -> Result<EditProduct, Failure> {
    let Some(product) = by_id(tx, id).await? else { return Ok(EditProduct::NotFound) };
    if product.version != expected_version {
        return Ok(EditProduct::VersionConflict(product));
    }
    let (edited, event) = product.edited(change.clone(), at);
    replace(tx, &product, &edited).await?;
    tx.emit(event);
    Ok(EditProduct::Edited(edited))
}

async fn adjust(tx: &mut Tx, adjustment: &StockAdjustment, at: Timestamp) -> Result<AdjustStock, Failure> {
    let product = by_id(tx, adjustment.product_id).await?;
    let adjustments = tx.collection::<AdjustmentDocument>(ADJUSTMENTS);
    let StockAdjustment { product_id, delta, reason, idempotency_key } = adjustment.clone();
    let new = AdjustmentDocument { product_id, delta, reason, idempotency_key, adjusted_at: at };
    if let Some(key) = &new.idempotency_key
        && let Some(known) = adjustments.find_one(doc! { "idempotencyKey": key }).session(tx.session()).await?
    {
        let same = AdjustmentDocument { adjusted_at: at, ..known } == new;
        return Ok(match product {
            Some(product) if same => AdjustStock::Replayed(product),
            _ => AdjustStock::KeyReused,
        });
    }
    let Some(product) = product else { return Ok(AdjustStock::NotFound) };
    let (adjusted, event) = match product.stock_adjusted(delta, at) {
        Ok(adjusted) => adjusted,
        Err(refused) => return Ok(AdjustStock::OutOfRange(refused)),
    };
    let inserted = adjustments.insert_one(new).session(tx.session()).await;
    inserted.map_err(|error| Failure::from(error).or_conflict(BY_ADJUSTMENT_KEY))?;
    if let Some(event) = event {
        replace(tx, &product, &adjusted).await?;
        tx.emit(event);
    }
    Ok(AdjustStock::Adjusted(adjusted))
}
