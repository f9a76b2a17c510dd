//! The orders file: `orders` by insertion position, and `customer_changes`, one row for each timeline entry.
//!
//! A change's number comes from the one writer of the file, so it is the cursor of a customer's stream: entries are
//! numbered in the order in which they became visible. An order's first change also places it in its customer's list.

use async_trait::async_trait;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params_from_iter};

use super::database::{Database, Write};
use super::failure::{Failure, broken};
use super::migrations::Migration;
use super::{consumption, cursor, order_outbox, outbox};
use crate::domain::events::PendingEvent;
use crate::domain::ids::{OrderId, ProductId, UserId};
use crate::domain::inventory::Shortage;
use crate::domain::money::Money;
use crate::domain::orders::{InputDigest, Order, OrderFilter, OrderStatus, Verdict};
use crate::domain::page::{Page, PageRequest};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::consumption::{Consumed, Consumption};
use crate::store::orders::{
    AdvanceOrder, InsertOrder, Judged, OrderAdvance, OrderChangeEntry, OrderStore, PendingOrders,
};

const MIGRATIONS: &[Migration] = &[
    Migration {
        name: "orders",
        sql: &[
            outbox::SCHEMA,
            consumption::SCHEMA,
            "
        CREATE TABLE orders (
            position INTEGER PRIMARY KEY,
            id BLOB NOT NULL UNIQUE,
            number TEXT NOT NULL UNIQUE,
            customer_id BLOB NOT NULL,
            -- The place in OrderStatus::ALL.
            status INTEGER NOT NULL,
            total INTEGER NOT NULL,
            currency TEXT NOT NULL,
            created_at INTEGER NOT NULL,
            idempotency_key TEXT NOT NULL,
            input_digest BLOB NOT NULL,
            -- JSON
            lines TEXT NOT NULL,
            timeline TEXT NOT NULL,
            -- JSON: what was short and what is no longer sold; NULL unless REJECTED.
            refusal TEXT,
            UNIQUE (customer_id, idempotency_key)
        ) STRICT;
        -- Each of these ends with the position: the newest of a customer, a status or a time is found from its end.
        CREATE INDEX orders_by_customer ON orders (customer_id);
        CREATE INDEX orders_by_status ON orders (status);
        CREATE INDEX orders_by_time ON orders (created_at);
        CREATE TABLE changes (
            change INTEGER PRIMARY KEY,
            customer_id BLOB NOT NULL,
            position INTEGER NOT NULL,
            sequence INTEGER NOT NULL
        ) STRICT;
        CREATE INDEX changes_by_customer ON changes (customer_id);",
        ],
    },
    Migration {
        // What an order costs is above all the pages that its commit writes: each index by customer is one of its own.
        name: "changes by customer",
        sql: &[
            order_outbox::SCHEMA,
            "
        CREATE TABLE customer_changes (
            customer_id BLOB NOT NULL,
            change INTEGER NOT NULL,
            position INTEGER NOT NULL,
            sequence INTEGER NOT NULL,
            PRIMARY KEY (customer_id, change)
        ) STRICT, WITHOUT ROWID;
        INSERT INTO customer_changes (customer_id, change, position, sequence)
            SELECT customer_id, change, position, sequence FROM changes ORDER BY customer_id, change;
        -- One row.
        CREATE TABLE last_change (number INTEGER NOT NULL) STRICT;
        INSERT INTO last_change (number) SELECT COALESCE(MAX(change), 0) FROM changes;
        DROP TABLE changes;
        DROP INDEX orders_by_customer;",
        ],
    },
];

/// The columns that [`decode`] reads.
macro_rules! columns {
    () => {
        "o.position, o.id, o.number, o.customer_id, o.status, o.total, o.currency, o.created_at, o.idempotency_key,
         o.input_digest, o.lines, o.timeline, o.refusal"
    };
}

/// Orders in their SQLite file.
pub struct SqliteOrderStore {
    pub(super) database: Database,
}

super::store_over_database!(SqliteOrderStore, "orders", MIGRATIONS);

#[async_trait]
impl OrderStore for SqliteOrderStore {
    async fn insert_orders(&self, batch: Vec<(Order, PendingEvent)>) -> Result<Vec<InsertOrder>, StoreError> {
        self.database
            .write(move |write| batch.into_iter().map(|(order, event)| insert(write, &order, event)).collect())
            .await
    }

    async fn orders(&self, ids: &[OrderId]) -> Result<Vec<Order>, StoreError> {
        let ids = ids.to_vec();
        self.database
            .read(move |connection| {
                ids.iter().filter_map(|id| by_id(connection, *id).transpose().map(|found| Ok(found?.1))).collect()
            })
            .await
    }

    async fn order_by_key(&self, customer: UserId, idempotency_key: &str) -> Result<Option<Order>, StoreError> {
        let key = idempotency_key.to_owned();
        self.database.read(move |connection| by_key(connection, customer, &key)).await
    }

    async fn list_orders(&self, filter: &OrderFilter, page: &PageRequest) -> Result<Page<Order>, StoreError> {
        let (filter, page) = (filter.clone(), page.clone());
        self.database.read(move |connection| list(connection, &filter, &page)).await
    }

    async fn bought_orders(&self, after: Option<&str>, limit: u32) -> Result<Vec<(String, Order)>, StoreError> {
        let after = after.map(cursor::decode::<i64>).transpose()?.unwrap_or(0);
        self.database.read(move |connection| bought(connection, after, limit)).await
    }

    async fn advance_order(&self, advance: OrderAdvance, at: Timestamp) -> Result<AdvanceOrder, StoreError> {
        self.database
            .write(move |write| {
                let Some((position, mut order)) = by_id(write.sql(), advance.id)? else {
                    return Ok(AdvanceOrder::NotFound);
                };
                if advance.customer_id.is_some_and(|customer| customer != order.customer_id) {
                    return Ok(AdvanceOrder::NotFound);
                }
                match order.advance(advance.to, advance.note, at) {
                    Ok(event) => {
                        save_change(write, position, &order, event)?;
                        Ok(AdvanceOrder::Advanced(Box::new(order)))
                    }
                    Err(illegal) => Ok(AdvanceOrder::Illegal(illegal)),
                }
            })
            .await
    }

    async fn apply_verdicts(
        &self,
        verdicts: Vec<(OrderId, Verdict)>,
        consumption: Consumption,
        at: Timestamp,
    ) -> Result<Consumed<Vec<Judged>>, StoreError> {
        self.database
            .consume_with(consumption, move |write| {
                let mut judged = Vec::with_capacity(verdicts.len());
                for (id, verdict) in &verdicts {
                    let Some((position, mut order)) = by_id(write.sql(), *id)? else { continue };
                    if let Some(event) = order.apply_verdict(verdict, at) {
                        save_change(write, position, &order, event)?;
                        judged.push(Judged { placed_at: order.created_at, status: order.status });
                    }
                }
                Ok(judged)
            })
            .await
    }

    async fn pending_orders(&self) -> Result<PendingOrders, StoreError> {
        self.database
            .read(|connection| {
                let pending = OrderStatus::Pending as i64;
                let count: i64 = connection
                    .prepare_cached("SELECT COUNT(*) FROM orders WHERE status = ?1")?
                    .query_row([pending], |row| row.get(0))?;
                let oldest = connection
                    .prepare_cached("SELECT created_at FROM orders WHERE status = ?1 ORDER BY position LIMIT 1")?
                    .query_row([pending], |row| Ok(Timestamp(row.get(0)?)))
                    .optional()?;
                Ok(PendingOrders { count: count.unsigned_abs(), oldest })
            })
            .await
    }

    async fn latest_change(&self, _customer: UserId) -> Result<String, StoreError> {
        self.database.read(|connection| Ok(cursor::encode(&last_change(connection)?))).await
    }

    async fn changes_after(
        &self,
        customer: UserId,
        cursor: &str,
        limit: u32,
    ) -> Result<Option<Vec<OrderChangeEntry>>, StoreError> {
        let Ok(after) = cursor::decode::<i64>(cursor) else { return Ok(None) };
        self.database.read(move |connection| changes_after(connection, customer, after, limit)).await
    }
}

fn insert(write: &mut Write<'_>, order: &Order, event: PendingEvent) -> Result<InsertOrder, Failure> {
    let connection = write.sql();
    let inserted = connection
        .prepare_cached(
            "INSERT INTO orders (id, number, customer_id, status, total, currency, created_at, idempotency_key,
                                 input_digest, lines, timeline, refusal)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) ON CONFLICT DO NOTHING",
        )?
        .execute((
            order.id.as_bytes(),
            &order.number,
            order.customer_id.as_bytes(),
            status_number(order.status),
            order.total.minor_units,
            order.total.currency.as_str(),
            order.created_at.0,
            &order.idempotency_key,
            order.input_digest.0,
            serde_json::to_string(&order.lines)?,
            serde_json::to_string(&order.timeline)?,
            refusal_of(order)?,
        ))?;
    if inserted == 0 {
        return Ok(match by_key(connection, order.customer_id, &order.idempotency_key)? {
            Some(earlier) => InsertOrder::Replayed(Box::new(earlier)),
            None => InsertOrder::NumberTaken,
        });
    }
    record_change(write, connection.last_insert_rowid(), order, event)?;
    Ok(InsertOrder::Inserted)
}

/// Saves what a transition or a verdict changes of an order.
fn save_change(write: &mut Write<'_>, position: i64, order: &Order, event: PendingEvent) -> Result<(), Failure> {
    write
        .sql()
        .prepare_cached("UPDATE orders SET status = ?2, timeline = ?3, refusal = ?4 WHERE position = ?1")?
        .execute((
            position,
            status_number(order.status),
            serde_json::to_string(&order.timeline)?,
            refusal_of(order)?,
        ))?;
    record_change(write, position, order, event)
}

fn record_change(write: &mut Write<'_>, position: i64, order: &Order, event: PendingEvent) -> Result<(), Failure> {
    let connection = write.sql();
    let change: i64 = connection
        .prepare_cached("UPDATE last_change SET number = number + 1 RETURNING number")?
        .query_row((), |row| row.get(0))?;
    connection
        .prepare_cached(
            "INSERT INTO customer_changes (customer_id, change, position, sequence) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute((order.customer_id.as_bytes(), change, position, order.version()))?;
    order_outbox::announce(write, order, event)
}

pub(super) fn by_id(connection: &Connection, id: OrderId) -> Result<Option<(i64, Order)>, Failure> {
    let mut statement = connection.prepare_cached(concat!("SELECT ", columns!(), " FROM orders o WHERE o.id = ?1"))?;
    let mut rows = statement.query([id.as_bytes()])?;
    rows.next()?.map(decode).transpose()
}

fn by_key(connection: &Connection, customer: UserId, key: &str) -> Result<Option<Order>, Failure> {
    let mut statement = connection.prepare_cached(concat!(
        "SELECT ",
        columns!(),
        " FROM orders o WHERE o.customer_id = ?1 AND o.idempotency_key = ?2"
    ))?;
    let mut rows = statement.query((customer.as_bytes(), key))?;
    rows.next()?.map(|row| Ok(decode(row)?.1)).transpose()
}

fn list(connection: &Connection, filter: &OrderFilter, page: &PageRequest) -> Result<Page<Order>, Failure> {
    let Conditions { from, mut sql, mut values, sorted_by } = conditions(filter);
    let counted = format!("SELECT COUNT(*) FROM {from} WHERE {sql}");
    let total =
        connection.prepare_cached(&counted)?.query_row(params_from_iter(&values), |row| row.get::<_, i64>(0))?;
    if let Some(after) = &page.after {
        sql.push_str(" AND o.position < ?");
        values.push(Value::Integer(cursor::decode(after)?));
    }
    values.push(Value::Integer(i64::from(page.first) + 1));
    let columns = columns!();
    let listed = format!("SELECT {columns} FROM {from} WHERE {sql} ORDER BY {sorted_by} DESC LIMIT ?");
    let mut statement = connection.prepare_cached(&listed)?;
    let mut rows = statement.query(params_from_iter(&values))?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        let (position, order) = decode(row)?;
        entries.push((cursor::encode(&position), order));
    }
    Ok(cursor::page(entries, page, total))
}

fn bought(connection: &Connection, after: i64, limit: u32) -> Result<Vec<(String, Order)>, Failure> {
    let statuses = [OrderStatus::Confirmed, OrderStatus::Shipped, OrderStatus::Delivered].map(status_number);
    // The plus sign keeps the planner from the index by status, which is not in the order of the walk.
    let mut statement = connection.prepare_cached(concat!(
        "SELECT ",
        columns!(),
        " FROM orders o WHERE o.position > ?1 AND +o.status IN (?2, ?3, ?4) ORDER BY o.position LIMIT ?5"
    ))?;
    let mut rows = statement.query((after, statuses[0], statuses[1], statuses[2], limit))?;
    let mut orders = Vec::new();
    while let Some(row) = rows.next()? {
        let (position, order) = decode(row)?;
        orders.push((cursor::encode(&position), order));
    }
    Ok(orders)
}

/// A filter in SQL.
struct Conditions {
    from: &'static str,
    sql: String,
    values: Vec<Value>,
    /// Newest first is descending by this. Positions and first changes grow together.
    sorted_by: &'static str,
}

/// The filter in SQL. A plus sign keeps the planner from an index that a narrower one makes needless.
fn conditions(filter: &OrderFilter) -> Conditions {
    let mut sql = String::from("TRUE");
    let mut values = Vec::new();
    let (mut from, mut sorted_by) = ("orders o", "o.position");
    let narrow = filter.customer_id.is_some() || filter.number.is_some();
    let plus = if narrow { "+" } else { "" };
    if let Some(number) = &filter.number {
        sql.push_str(" AND o.number = ?");
        values.push(Value::Text(number.clone()));
    }
    if let Some(customer) = filter.customer_id {
        if filter.number.is_some() {
            sql.push_str(" AND o.customer_id = ?");
        } else {
            // CROSS JOIN keeps this order: the customer's changes lead to the orders.
            (from, sorted_by) = ("customer_changes c CROSS JOIN orders o ON o.position = c.position", "c.change");
            sql.push_str(" AND c.customer_id = ? AND c.sequence = 1");
        }
        values.push(Value::Blob(customer.as_bytes().to_vec()));
    }
    if let Some(statuses) = &filter.statuses {
        let mut numbers: Vec<i64> = statuses.iter().map(|status| status_number(*status)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let marks = vec!["?"; numbers.len()].join(", ");
        sql.push_str(&format!(" AND {plus}o.status IN ({marks})"));
        values.extend(numbers.into_iter().map(Value::Integer));
    }
    for (bound, compare) in [(filter.placed_after, ">"), (filter.placed_before, "<")] {
        if let Some(at) = bound {
            sql.push_str(&format!(" AND {plus}o.created_at {compare} ?"));
            values.push(Value::Integer(at.0));
        }
    }
    Conditions { from, sql, values, sorted_by }
}

fn last_change(connection: &Connection) -> Result<i64, Failure> {
    Ok(connection.prepare_cached("SELECT number FROM last_change")?.query_row((), |row| row.get(0))?)
}

fn changes_after(
    connection: &Connection,
    customer: UserId,
    after: i64,
    limit: u32,
) -> Result<Option<Vec<OrderChangeEntry>>, Failure> {
    let mut statement = connection.prepare_cached(concat!(
        "SELECT ",
        columns!(),
        ", c.change, c.sequence FROM customer_changes c CROSS JOIN orders o ON o.position = c.position
         WHERE c.customer_id = ?1 AND c.change > ?2 ORDER BY c.change LIMIT ?3"
    ))?;
    let mut rows = statement.query((customer.as_bytes(), after, limit))?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        let change: i64 = row.get(13)?;
        let (_, order) = decode(row)?;
        entries.push(OrderChangeEntry { cursor: cursor::encode(&change), sequence: row.get(14)?, order });
    }
    // A cursor past the last change was made by another store: this one counts without gaps and forgets nothing.
    if after < 0 || (entries.is_empty() && after > last_change(connection)?) {
        return Ok(None);
    }
    Ok(Some(entries))
}

fn status_number(status: OrderStatus) -> i64 {
    match status {
        OrderStatus::Pending => 0,
        OrderStatus::Confirmed => 1,
        OrderStatus::Rejected => 2,
        OrderStatus::Shipped => 3,
        OrderStatus::Delivered => 4,
        OrderStatus::Cancelled => 5,
    }
}

fn refusal_of(order: &Order) -> Result<Option<String>, Failure> {
    if order.shortages.is_empty() && order.unavailable.is_empty() {
        return Ok(None);
    }
    Ok(Some(serde_json::to_string(&(&order.shortages, &order.unavailable))?))
}

fn decode(row: &Row<'_>) -> Result<(i64, Order), Failure> {
    let text = |column| row.get_ref(column)?.as_str().map_err(rusqlite::Error::from);
    let status: usize = row.get(4)?;
    let status = *OrderStatus::ALL.get(status).ok_or_else(|| broken(format!("unknown order status {status}")))?;
    let currency = text(6)?.parse().map_err(|_| broken("an order has no currency"))?;
    let refusal: Option<String> = row.get(12)?;
    let (shortages, unavailable): (Vec<Shortage>, Vec<ProductId>) =
        refusal.map_or(Ok(Default::default()), |json| serde_json::from_str(&json))?;
    let order = Order {
        id: OrderId::from_bytes(row.get(1)?),
        number: row.get(2)?,
        customer_id: UserId::from_bytes(row.get(3)?),
        status,
        total: Money::new(row.get(5)?, currency),
        created_at: Timestamp(row.get(7)?),
        idempotency_key: row.get(8)?,
        input_digest: InputDigest(row.get(9)?),
        lines: serde_json::from_str(text(10)?)?,
        timeline: serde_json::from_str(text(11)?)?,
        shortages,
        unavailable,
    };
    Ok((row.get(0)?, order))
}
