//! Stock decisions in the products file: loads what `domain::inventory::decide` needs and writes what it returns, inside
//! the writer's transaction.

use rusqlite::Connection;

use super::database::Write;
use super::failure::Failure;
use crate::domain::ids::{OrderId, ProductId};
use crate::domain::inventory::{self, Decision, InventoryRequest, InventoryState, Stock};
use crate::domain::time::Timestamp;

pub(super) fn decide(write: &mut Write<'_>, requests: &[InventoryRequest], at: Timestamp) -> Result<(), Failure> {
    let state = load(write.sql(), requests)?;
    let changes = inventory::decide(state, requests, at);
    for (product, stock) in &changes.stock {
        save_stock(write.sql(), *product, stock)?;
    }
    {
        let mut statement = write.sql().prepare_cached(
            "INSERT INTO decisions (order_id, decision) VALUES (?1, ?2)
             ON CONFLICT DO UPDATE SET decision = excluded.decision",
        )?;
        for (order, decision) in &changes.decisions {
            statement.execute((order.as_bytes(), serde_json::to_string(decision)?))?;
        }
    }
    changes.events.into_iter().try_for_each(|event| write.emit(event))
}

fn load(connection: &Connection, requests: &[InventoryRequest]) -> Result<InventoryState, Failure> {
    let (mut products, orders) = inventory::touched(requests);
    let mut state = InventoryState::default();
    for order in orders {
        if let Some(decision) = decision(connection, order)? {
            // A cancellation gives these back.
            if let Decision::Reserved { lines } = &decision {
                products.extend(lines.iter().map(|line| line.product_id));
            }
            state.decisions.insert(order, decision);
        }
    }
    for product in products {
        if let Some(stock) = stock(connection, product)? {
            state.stock.insert(product, stock);
        }
    }
    Ok(state)
}

pub(super) fn decision(connection: &Connection, order: OrderId) -> Result<Option<Decision>, Failure> {
    let mut statement = connection.prepare_cached("SELECT decision FROM decisions WHERE order_id = ?1")?;
    let mut rows = statement.query([order.as_bytes()])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    Ok(Some(serde_json::from_str(row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?)?))
}

fn stock(connection: &Connection, product: ProductId) -> Result<Option<Stock>, Failure> {
    let mut statement =
        connection.prepare_cached("SELECT available, archived, event_sequence FROM stock WHERE product_id = ?1")?;
    let mut rows = statement.query([product.as_bytes()])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    Ok(Some(Stock { available: row.get(0)?, archived: row.get(1)?, event_sequence: row.get(2)? }))
}

pub(super) fn save_stock(connection: &Connection, product: ProductId, stock: &Stock) -> Result<(), Failure> {
    connection
        .prepare_cached("UPDATE stock SET available = ?2, archived = ?3, event_sequence = ?4 WHERE product_id = ?1")?
        .execute((product.as_bytes(), stock.available, stock.archived, stock.event_sequence))?;
    Ok(())
}
