//! A product as its one document, with the words that a search finds it by; decisions and adjustments.

use mongodb::bson::{Document, doc};
use serde::{Deserialize, Serialize};

use super::migrations::{
    Change, Migration, collection, index, indexes, partial_index, sparse_unique_index, unique_index,
};
use super::money::MoneyDocument;
use super::{campaigns, consumption, outbox, values};
use crate::domain::ids::ProductId;
use crate::domain::inventory::Stock;
use crate::domain::products::Product;
use crate::domain::search::indexed_words;
use crate::domain::time::Timestamp;

pub(super) const PRODUCTS: &str = "products";
pub(super) const DECISIONS: &str = "decisions";
pub(super) const ADJUSTMENTS: &str = "adjustments";

pub(super) const BY_SKU: &str = "products_by_sku";
pub(super) const BY_ADJUSTMENT_KEY: &str = "adjustments_by_key";

pub(super) const MIGRATIONS: &[Migration] = &[
    Migration { name: "products", changes: products },
    Migration { name: "campaigns", changes: campaigns::collections },
];

fn products() -> Vec<Change> {
    let on_sale = |name, keys| partial_index(name, keys, doc! { "archived": false });
    let mut changes = Vec::from(outbox::collections());
    changes.extend([
        collection(
            PRODUCTS,
            &[
                ("_id", &["string"]),
                ("sku", &["string"]),
                ("name", &["string"]),
                ("description", &["string"]),
                ("category", &["string"]),
                ("price", &["object"]),
                ("available", &["int"]),
                ("archived", &["bool"]),
                ("version", &["int"]),
                ("createdAt", &["date"]),
                ("updatedAt", &["date"]),
                ("eventSequence", &["long"]),
                ("words", &["array"]),
            ],
        ),
        indexes(
            PRODUCTS,
            [
                unique_index(BY_SKU, doc! { "sku": 1 }),
                // One for each order of a list: a page reads its own documents only.
                on_sale("products_by_name", doc! { "name": 1, "_id": 1 }),
                on_sale("products_by_price", doc! { "price.minorUnits": 1, "_id": 1 }),
                on_sale("products_by_price_down", doc! { "price.minorUnits": -1, "_id": 1 }),
                on_sale("products_by_time", doc! { "createdAt": 1, "_id": 1 }),
                on_sale("products_by_category", doc! { "category": 1, "name": 1, "_id": 1 }),
                on_sale("products_by_word", doc! { "words.word": 1 }),
            ],
        ),
        collection(
            DECISIONS,
            &[
                ("_id", &["string"]),
                ("decision", &["string"]),
                ("lines?", &["array"]),
                ("shortages?", &["array"]),
                ("unavailable?", &["array"]),
                ("decidedAt", &["date"]),
            ],
        ),
        collection(
            ADJUSTMENTS,
            &[
                ("productId", &["string"]),
                ("delta", &["int"]),
                ("reason", &["string"]),
                ("idempotencyKey?", &["string"]),
                ("adjustedAt", &["date"]),
            ],
        ),
        indexes(
            ADJUSTMENTS,
            [
                sparse_unique_index(BY_ADJUSTMENT_KEY, doc! { "idempotencyKey": 1 }),
                index("adjustments_by_product", doc! { "productId": 1, "adjustedAt": 1 }),
            ],
        ),
    ]);
    changes.extend(consumption::collections());
    changes
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ProductDocument {
    #[serde(rename = "_id")]
    id: ProductId,
    sku: String,
    name: String,
    description: String,
    category: String,
    price: MoneyDocument,
    available: i32,
    archived: bool,
    version: i32,
    #[serde(with = "values::time")]
    created_at: Timestamp,
    #[serde(with = "values::time")]
    updated_at: Timestamp,
    event_sequence: i64,
    /// Follows from the texts, so it is written and never read.
    #[serde(skip_deserializing)]
    words: Vec<IndexedWord>,
}

/// What a match of the word's beginning counts.
#[derive(Debug, Clone, Serialize)]
struct IndexedWord {
    word: String,
    score: i32,
}

impl From<&Product> for ProductDocument {
    fn from(product: &Product) -> Self {
        let words = indexed_words(&product.searched_fields()).into_iter();
        let words = words.map(|(word, score)| IndexedWord { word, score: score as i32 }).collect();
        let Product { id, sku, name, description, category, price, available, archived, version, .. } = product.clone();
        Self {
            id,
            sku,
            name,
            description,
            category,
            price: price.into(),
            available,
            archived,
            version,
            created_at: product.created_at,
            updated_at: product.updated_at,
            event_sequence: product.event_sequence,
            words,
        }
    }
}

impl From<ProductDocument> for Product {
    fn from(document: ProductDocument) -> Self {
        let ProductDocument { id, sku, name, description, category, available, archived, version, .. } = document;
        Self {
            id,
            sku,
            name,
            description,
            category,
            price: document.price.into(),
            available,
            archived,
            version,
            created_at: document.created_at,
            updated_at: document.updated_at,
            event_sequence: document.event_sequence,
        }
    }
}

/// What a product is read without.
pub(super) fn without_words() -> Document {
    doc! { "words": 0 }
}

/// The product if it was neither edited nor sold since it was read as this.
pub(super) fn unmoved(product: &Product) -> Document {
    doc! { "_id": product.id.to_string(), "eventSequence": product.event_sequence }
}

/// The part of a product that decisions are about.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StockDocument {
    #[serde(rename = "_id")]
    pub id: ProductId,
    available: i32,
    archived: bool,
    event_sequence: i64,
}

impl StockDocument {
    pub(super) fn fields() -> Document {
        doc! { "available": 1, "archived": 1, "eventSequence": 1 }
    }

    pub(super) fn stock(self) -> Stock {
        let Self { available, archived, event_sequence, .. } = self;
        Stock { available, archived, event_sequence }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AdjustmentDocument {
    pub product_id: ProductId,
    pub delta: i32,
    pub reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    #[serde(with = "values::time")]
    pub adjusted_at: Timestamp,
}
