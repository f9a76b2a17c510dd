//! The products file: `products` holds what changes seldom, `stock` what changes with every order, so that a decision
//! rewrites a few dense pages; `product_words` is the index of the search.

use async_trait::async_trait;
use rusqlite::{Connection, Row};

use super::database::{Database, Write};
use super::failure::{Failure, broken};
use super::migrations::Migration;
use super::{campaigns, catalogue, consumption, inventory, outbox};
use crate::domain::events::PendingEvent;
use crate::domain::ids::{OrderId, ProductId};
use crate::domain::inventory::{Decision, InventoryRequest};
use crate::domain::money::Money;
use crate::domain::page::{Page, PageRequest};
use crate::domain::products::{Category, Product, ProductEdit, ProductFilter, ProductSort};
use crate::domain::search::indexed_words;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::consumption::{Consumed, Consumption};
use crate::store::products::{AdjustStock, EditProduct, InsertProduct, ProductStore, StockAdjustment};

const MIGRATIONS: &[Migration] = &[PRODUCTS, campaigns::MIGRATION];

const PRODUCTS: Migration = Migration {
    name: "products",
    sql: &[
        outbox::SCHEMA,
        consumption::SCHEMA,
        "
        CREATE TABLE products (
            position INTEGER PRIMARY KEY,
            id BLOB NOT NULL UNIQUE,
            sku TEXT NOT NULL UNIQUE,
            name TEXT NOT NULL,
            category TEXT NOT NULL,
            price INTEGER NOT NULL,
            currency TEXT NOT NULL,
            archived INTEGER NOT NULL,
            version INTEGER NOT NULL,
            created_at INTEGER NOT NULL,
            updated_at INTEGER NOT NULL,
            description TEXT NOT NULL
        ) STRICT;
        -- One for each order of a list: a page reads its own rows only.
        CREATE INDEX products_by_name ON products (name, id) WHERE NOT archived;
        CREATE INDEX products_by_price ON products (price, id) WHERE NOT archived;
        CREATE INDEX products_by_time ON products (created_at, id) WHERE NOT archived;
        CREATE INDEX products_by_category ON products (category, name, id) WHERE NOT archived;
        CREATE TABLE stock (
            product_id BLOB PRIMARY KEY,
            available INTEGER NOT NULL CHECK (available >= 0),
            archived INTEGER NOT NULL,
            -- Of the product's last event, edits and stock together.
            event_sequence INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE product_words (
            word TEXT NOT NULL,
            product_id BLOB NOT NULL,
            -- What a match in the word's best field counts.
            score INTEGER NOT NULL,
            PRIMARY KEY (word, product_id)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE decisions (
            order_id BLOB PRIMARY KEY,
            -- JSON
            decision TEXT NOT NULL
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE adjustments (
            position INTEGER PRIMARY KEY,
            idempotency_key TEXT UNIQUE,
            product_id BLOB NOT NULL,
            delta INTEGER NOT NULL,
            reason TEXT NOT NULL,
            adjusted_at INTEGER NOT NULL
        ) STRICT;",
    ],
};

/// The columns that [`decode`] reads.
macro_rules! columns {
    () => {
        "p.id, p.sku, p.name, p.description, p.category, p.price, p.currency, p.archived, p.version, p.created_at,
         p.updated_at, s.available, s.event_sequence"
    };
}
pub(super) use columns;

/// Products in their SQLite file.
pub struct SqliteProductStore {
    pub(super) database: Database,
}

super::store_over_database!(SqliteProductStore, "products", MIGRATIONS);
super::outbox_over_database!(SqliteProductStore);

#[async_trait]
impl ProductStore for SqliteProductStore {
    async fn insert_product(&self, product: Product, event: PendingEvent) -> Result<InsertProduct, StoreError> {
        self.database.write(move |write| insert(write, &product, event)).await
    }

    async fn insert_products(&self, products: Vec<(Product, PendingEvent)>) -> Result<(), StoreError> {
        self.database
            .write(move |write| {
                for (product, event) in products {
                    insert(write, &product, event)?;
                }
                Ok(())
            })
            .await
    }

    async fn products(&self, ids: &[ProductId]) -> Result<Vec<Product>, StoreError> {
        let ids = ids.to_vec();
        self.database
            .read(move |connection| ids.iter().filter_map(|id| by_id(connection, *id).transpose()).collect())
            .await
    }

    async fn list_products(
        &self,
        filter: &ProductFilter,
        sort: ProductSort,
        page: &PageRequest,
    ) -> Result<Page<Product>, StoreError> {
        let (filter, page) = (filter.clone(), page.clone());
        self.database.read(move |connection| catalogue::list(connection, &filter, sort, &page)).await
    }

    async fn categories(&self) -> Result<Vec<Category>, StoreError> {
        self.database.read(catalogue::categories).await
    }

    async fn count_products(&self) -> Result<u64, StoreError> {
        self.database
            .read(|connection| {
                let count: i64 =
                    connection.prepare_cached("SELECT COUNT(*) FROM stock")?.query_row((), |row| row.get(0))?;
                Ok(count.unsigned_abs())
            })
            .await
    }

    async fn edit_product(
        &self,
        id: ProductId,
        expected_version: i32,
        edit: ProductEdit,
        at: Timestamp,
    ) -> Result<EditProduct, StoreError> {
        self.database
            .write(move |write| {
                let Some(product) = by_id(write.sql(), id)? else { return Ok(EditProduct::NotFound) };
                if product.version != expected_version {
                    return Ok(EditProduct::VersionConflict(product));
                }
                let (edited, event) = product.edited(edit, at);
                unindex(write.sql(), &product)?;
                update(write.sql(), &edited)?;
                index(write.sql(), &edited)?;
                write.emit(event)?;
                Ok(EditProduct::Edited(edited))
            })
            .await
    }

    async fn adjust_stock(&self, adjustment: StockAdjustment, at: Timestamp) -> Result<AdjustStock, StoreError> {
        self.database.write(move |write| adjust(write, &adjustment, at)).await
    }

    async fn decide_inventory(
        &self,
        requests: Vec<InventoryRequest>,
        consumption: Consumption,
        at: Timestamp,
    ) -> Result<Consumed<()>, StoreError> {
        self.database.consume_with(consumption, move |write| inventory::decide(write, &requests, at)).await
    }

    async fn decisions(&self, orders: &[OrderId]) -> Result<Vec<(OrderId, Decision)>, StoreError> {
        let orders = orders.to_vec();
        self.database
            .read(move |connection| {
                let found = |id: OrderId| Ok(inventory::decision(connection, id)?.map(|decision| (id, decision)));
                orders.into_iter().filter_map(|id| found(id).transpose()).collect()
            })
            .await
    }
}

fn insert(write: &mut Write<'_>, product: &Product, event: PendingEvent) -> Result<InsertProduct, Failure> {
    let inserted = write
        .sql()
        .prepare_cached(
            "INSERT INTO products (id, sku, name, category, price, currency, archived, version, created_at, updated_at,
                                   description)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) ON CONFLICT (sku) DO NOTHING",
        )?
        .execute((
            product.id.as_bytes(),
            &product.sku,
            &product.name,
            &product.category,
            product.price.minor_units,
            product.price.currency.as_str(),
            product.archived,
            product.version,
            product.created_at.0,
            product.updated_at.0,
            &product.description,
        ))?;
    if inserted == 0 {
        return Ok(InsertProduct::SkuTaken);
    }
    write
        .sql()
        .prepare_cached("INSERT INTO stock (product_id, available, archived, event_sequence) VALUES (?1, ?2, ?3, ?4)")?
        .execute((product.id.as_bytes(), product.available, product.archived, product.event_sequence))?;
    index(write.sql(), product)?;
    write.emit(event)?;
    Ok(InsertProduct::Inserted)
}

/// Saves what an edit changes.
fn update(connection: &Connection, product: &Product) -> Result<(), Failure> {
    connection
        .prepare_cached(
            "UPDATE products SET name = ?2, category = ?3, price = ?4, currency = ?5, archived = ?6, version = ?7,
                                 updated_at = ?8, description = ?9
             WHERE id = ?1",
        )?
        .execute((
            product.id.as_bytes(),
            &product.name,
            &product.category,
            product.price.minor_units,
            product.price.currency.as_str(),
            product.archived,
            product.version,
            product.updated_at.0,
            &product.description,
        ))?;
    inventory::save_stock(connection, product.id, &product.stock())
}

fn adjust(write: &mut Write<'_>, adjustment: &StockAdjustment, at: Timestamp) -> Result<AdjustStock, Failure> {
    let product = by_id(write.sql(), adjustment.product_id)?;
    if let Some(key) = &adjustment.idempotency_key
        && let Some(same) = known_adjustment(write.sql(), key, adjustment)?
    {
        return Ok(match product {
            Some(product) if same => AdjustStock::Replayed(product),
            _ => AdjustStock::KeyReused,
        });
    }
    let Some(product) = product else { return Ok(AdjustStock::NotFound) };
    let (adjusted, event) = match product.stock_adjusted(adjustment.delta, at) {
        Ok(adjusted) => adjusted,
        Err(refused) => return Ok(AdjustStock::OutOfRange(refused)),
    };
    write
        .sql()
        .prepare_cached(
            "INSERT INTO adjustments (idempotency_key, product_id, delta, reason, adjusted_at)
             VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute((
            &adjustment.idempotency_key,
            adjustment.product_id.as_bytes(),
            adjustment.delta,
            &adjustment.reason,
            at.0,
        ))?;
    inventory::save_stock(write.sql(), adjusted.id, &adjusted.stock())?;
    if let Some(event) = event {
        write.emit(event)?;
    }
    Ok(AdjustStock::Adjusted(adjusted))
}

/// Whether an adjustment under this key is the same one; `None` when there is none.
fn known_adjustment(connection: &Connection, key: &str, adjustment: &StockAdjustment) -> Result<Option<bool>, Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT product_id = ?2 AND delta = ?3 AND reason = ?4 FROM adjustments WHERE idempotency_key = ?1",
    )?;
    let mut rows = statement.query((key, adjustment.product_id.as_bytes(), adjustment.delta, &adjustment.reason))?;
    Ok(rows.next()?.map(|row| row.get(0)).transpose()?)
}

fn index(connection: &Connection, product: &Product) -> Result<(), Failure> {
    let mut statement =
        connection.prepare_cached("INSERT INTO product_words (word, product_id, score) VALUES (?1, ?2, ?3)")?;
    for (word, score) in indexed_words(&product.searched_fields()) {
        statement.execute((word, product.id.as_bytes(), score))?;
    }
    Ok(())
}

fn unindex(connection: &Connection, product: &Product) -> Result<(), Failure> {
    let mut statement = connection.prepare_cached("DELETE FROM product_words WHERE word = ?1 AND product_id = ?2")?;
    for (word, _) in indexed_words(&product.searched_fields()) {
        statement.execute((word, product.id.as_bytes()))?;
    }
    Ok(())
}

pub(super) fn by_id(connection: &Connection, id: ProductId) -> Result<Option<Product>, Failure> {
    let mut statement = connection.prepare_cached(concat!(
        "SELECT ",
        columns!(),
        " FROM products p JOIN stock s ON s.product_id = p.id WHERE p.id = ?1"
    ))?;
    let mut rows = statement.query([id.as_bytes()])?;
    rows.next()?.map(decode).transpose()
}

pub(super) fn decode(row: &Row<'_>) -> Result<Product, Failure> {
    let currency = row.get_ref(6)?.as_str().map_err(rusqlite::Error::from)?;
    let currency = currency.parse().map_err(|_| broken("a product has no currency"))?;
    Ok(Product {
        id: ProductId::from_bytes(row.get(0)?),
        sku: row.get(1)?,
        name: row.get(2)?,
        description: row.get(3)?,
        category: row.get(4)?,
        price: Money::new(row.get(5)?, currency),
        archived: row.get(7)?,
        version: row.get(8)?,
        created_at: Timestamp(row.get(9)?),
        updated_at: Timestamp(row.get(10)?),
        available: row.get(11)?,
        event_sequence: row.get(12)?,
    })
}
