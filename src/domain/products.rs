//! Products of the catalogue: what may be in them and how they change.

use serde::{Deserialize, Serialize};

use super::events::{PendingEvent, ProductChanged, Topic, event_type, source};
use super::ids::ProductId;
use super::inventory::{Stock, stock_changed_event};
use super::money::Money;
use super::search::SearchedFields;
use super::text::{InvalidText, MAX_NAME, MAX_TEXT, check_text};
use super::time::Timestamp;

/// The longest stock keeping unit.
pub const MAX_SKU: usize = 64;

/// A product as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Product {
    pub id: ProductId,
    pub sku: String,
    pub name: String,
    pub description: String,
    pub category: String,
    pub price: Money,
    /// Pieces that can be sold now: 0 to 2^31 - 1.
    pub available: i32,
    pub archived: bool,
    /// Counts edits of description, price and archiving from 1, never stock.
    pub version: i32,
    pub created_at: Timestamp,
    /// Of the last edit, not of stock.
    pub updated_at: Timestamp,
    /// Of the product's last event, edits and stock together.
    pub event_sequence: i64,
}

/// A field of a product that is refused, by its name in the API.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct InvalidField {
    pub field: &'static str,
    pub reason: String,
}

fn field(name: &'static str, checked: Result<(), InvalidText>) -> Result<(), InvalidField> {
    checked.map_err(|refusal| InvalidField { field: name, reason: refusal.to_string() })
}

/// What a product is created from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewProduct {
    pub sku: String,
    pub name: String,
    pub description: String,
    pub category: String,
    pub price: Money,
    pub available: i32,
}

impl NewProduct {
    /// Checks every field and makes the product of version 1 with its event.
    pub fn create(self, id: ProductId, at: Timestamp) -> Result<(Product, PendingEvent), InvalidField> {
        field("sku", check_text("sku", &self.sku, 1, MAX_SKU))?;
        check_description(Some(&self.name), Some(&self.description), Some(&self.category))?;
        check_price(self.price)?;
        if self.available < 0 {
            return Err(InvalidField { field: "available", reason: "stock cannot be negative".into() });
        }
        let product = Product {
            id,
            sku: self.sku,
            name: self.name,
            description: self.description,
            category: self.category,
            price: self.price,
            available: self.available,
            archived: false,
            version: 1,
            created_at: at,
            updated_at: at,
            event_sequence: 1,
        };
        let event = product.changed_event(event_type::PRODUCT_CREATED, product.price, at);
        Ok((product, event))
    }
}

fn check_description(
    name: Option<&str>,
    description: Option<&str>,
    category: Option<&str>,
) -> Result<(), InvalidField> {
    if let Some(name) = name {
        field("name", check_text("name", name, 1, MAX_NAME))?;
    }
    if let Some(description) = description {
        field("description", check_text("description", description, 0, MAX_TEXT))?;
    }
    if let Some(category) = category {
        field("category", check_text("category", category, 1, MAX_NAME))?;
    }
    Ok(())
}

fn check_price(price: Money) -> Result<(), InvalidField> {
    if price.minor_units < 0 {
        return Err(InvalidField { field: "price", reason: "a price cannot be negative".into() });
    }
    Ok(())
}

/// A change of what a product is, not of how many there are. `None` leaves a field as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProductEdit {
    pub name: Option<String>,
    pub description: Option<String>,
    pub category: Option<String>,
    pub price: Option<Money>,
    /// True takes the product out of sale for good.
    pub archive: bool,
}

impl ProductEdit {
    pub fn check(&self) -> Result<(), InvalidField> {
        check_description(self.name.as_deref(), self.description.as_deref(), self.category.as_deref())?;
        self.price.map_or(Ok(()), check_price)
    }
}

/// Stock would leave 0 to 2^31 - 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("stock would be {would_be}, allowed is 0 to 2147483647")]
pub struct StockOutOfRange {
    pub would_be: i64,
}

impl Product {
    /// The product after an edit that was checked, with its event. The caller has compared the version.
    pub fn edited(&self, edit: ProductEdit, at: Timestamp) -> (Self, PendingEvent) {
        let mut product = self.clone();
        let archives = edit.archive && !self.archived;
        product.name = edit.name.unwrap_or(product.name);
        product.description = edit.description.unwrap_or(product.description);
        product.category = edit.category.unwrap_or(product.category);
        product.price = edit.price.unwrap_or(product.price);
        product.archived |= edit.archive;
        product.version += 1;
        product.updated_at = at;
        product.event_sequence += 1;
        let event_type = if archives { event_type::PRODUCT_ARCHIVED } else { event_type::PRODUCT_UPDATED };
        let event = product.changed_event(event_type, self.price, at);
        (product, event)
    }

    /// The product with `delta` pieces more (or fewer), with its event. A delta of 0 changes and announces nothing.
    pub fn stock_adjusted(&self, delta: i32, at: Timestamp) -> Result<(Self, Option<PendingEvent>), StockOutOfRange> {
        let would_be = i64::from(self.available) + i64::from(delta);
        let available =
            i32::try_from(would_be).ok().filter(|pieces| *pieces >= 0).ok_or(StockOutOfRange { would_be })?;
        let mut product = self.clone();
        if delta == 0 {
            return Ok((product, None));
        }
        product.available = available;
        product.event_sequence += 1;
        let event = stock_changed_event(product.id, &product.stock(), self.available, at);
        Ok((product, Some(event)))
    }

    pub fn stock(&self) -> Stock {
        Stock { available: self.available, archived: self.archived, event_sequence: self.event_sequence }
    }

    pub fn searched_fields(&self) -> SearchedFields<'_> {
        SearchedFields { sku: &self.sku, name: &self.name, category: &self.category, description: &self.description }
    }

    fn changed_event(&self, event_type: &'static str, previous_price: Money, at: Timestamp) -> PendingEvent {
        let body = ProductChanged {
            product_id: self.id,
            sku: self.sku.clone(),
            name: self.name.clone(),
            category: self.category.clone(),
            price: self.price,
            previous_price,
            archived: self.archived,
            version: self.version,
        };
        let aggregate = self.id.to_string();
        PendingEvent::new(Topic::ProductEvents, source::PRODUCTS, event_type, aggregate, self.event_sequence, at, &body)
    }
}

/// Which products a list holds. Archived ones are in none.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub struct ProductFilter {
    /// Words of `domain::search`; a text without words filters nothing.
    pub search: Option<String>,
    /// Any of these; `None` is all.
    pub categories: Option<Vec<String>>,
    pub in_stock: Option<bool>,
    /// Inclusive, in minor units of the shop's currency.
    pub min_price: Option<i64>,
    pub max_price: Option<i64>,
}

/// The order of a list. Names compare by code point. Ties are decided by id: the newer first with `Newest`, else the
/// lower.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProductSort {
    /// By score of the search; without one the same as `Name`.
    Relevance,
    Newest,
    Name,
    PriceAscending,
    PriceDescending,
}

/// A category with how many products of it are on sale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Category {
    pub name: String,
    pub product_count: u32,
}
