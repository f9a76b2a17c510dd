//! Counts orders into a generation of the recommendations file, each once; an item that has gathered too many neighbours
//! forgets the weakest.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension};

use super::failure::Failure;
use super::recommendations::is_deleted;
use crate::domain::ids::{OrderId, ProductId, UserId};
use crate::domain::recommendations::{Limits, OrderState, PairTally, Purchase, Tallies, settle};
use crate::store::recommendations::Generation;

/// Applies confirmed and cancelled (true) orders, in this order.
pub(super) fn count(
    connection: &Connection,
    generation: Generation,
    orders: &[(&Purchase, bool)],
    limits: &Limits,
) -> Result<(), Failure> {
    let mut tallies = Tallies::default();
    let mut deleted: HashMap<UserId, bool> = HashMap::new();
    for (purchase, cancelled) in orders {
        let known = state(connection, generation, purchase.order_id)?;
        let Some((state, times)) = settle(known, *cancelled) else { continue };
        save_state(connection, generation, purchase.order_id, state)?;
        if times == 0 {
            continue;
        }
        tallies.add(purchase, times, limits);
        let deleted = match deleted.get(&purchase.user_id) {
            Some(known) => *known,
            None => *deleted.entry(purchase.user_id).or_insert(is_deleted(connection, purchase.user_id)?),
        };
        if times < 0 {
            forget(connection, generation, purchase)?;
        } else if !deleted {
            remember(connection, generation, purchase)?;
        }
    }
    save(connection, generation, &tallies, limits)
}

fn state(connection: &Connection, generation: Generation, order: OrderId) -> Result<Option<OrderState>, Failure> {
    let mut query =
        connection.prepare_cached("SELECT counted FROM counted_orders WHERE generation = ?1 AND order_id = ?2")?;
    let counted: Option<bool> = query.query_row((generation, order.as_bytes()), |row| row.get(0)).optional()?;
    Ok(counted.map(|counted| if counted { OrderState::Counted } else { OrderState::Withdrawn }))
}

fn save_state(
    connection: &Connection,
    generation: Generation,
    order: OrderId,
    state: OrderState,
) -> Result<(), Failure> {
    connection
        .prepare_cached(
            "INSERT INTO counted_orders (generation, order_id, counted) VALUES (?1, ?2, ?3)
             ON CONFLICT DO UPDATE SET counted = excluded.counted",
        )?
        .execute((generation, order.as_bytes(), state == OrderState::Counted))?;
    Ok(())
}

fn remember(connection: &Connection, generation: Generation, purchase: &Purchase) -> Result<(), Failure> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO purchases (generation, user_id, order_id, place, product_id, category, at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    for (place, line) in purchase.lines.iter().enumerate() {
        insert.execute((
            generation,
            purchase.user_id.as_bytes(),
            purchase.order_id.as_bytes(),
            place,
            line.product_id.as_bytes(),
            &line.category,
            purchase.at.0,
        ))?;
    }
    Ok(())
}

fn forget(connection: &Connection, generation: Generation, purchase: &Purchase) -> Result<(), Failure> {
    connection
        .prepare_cached("DELETE FROM purchases WHERE generation = ?1 AND user_id = ?2 AND order_id = ?3")?
        .execute((generation, purchase.user_id.as_bytes(), purchase.order_id.as_bytes()))?;
    Ok(())
}

fn save(connection: &Connection, generation: Generation, tallies: &Tallies, limits: &Limits) -> Result<(), Failure> {
    if tallies.is_empty() {
        return Ok(());
    }
    connection
        .prepare_cached("UPDATE generations SET orders = orders + ?2, lines = lines + ?3 WHERE generation = ?1")?
        .execute((generation, tallies.orders, tallies.lines))?;
    // Neighbours that an item has won, or lost.
    let mut grown: HashMap<ProductId, i64> = HashMap::new();
    for ((item, other), pair) in &tallies.pairs {
        let change = save_pair(connection, generation, *item, *other, *pair)?;
        if change != 0 {
            *grown.entry(*item).or_default() += change;
        }
    }
    let mut upsert = connection.prepare_cached(
        "INSERT INTO items (generation, product_id, category, orders, before, after, neighbours, trimmed)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0)
         ON CONFLICT DO UPDATE SET category = iif(excluded.category = '', category, excluded.category),
             orders = orders + excluded.orders, before = before + excluded.before, after = after + excluded.after,
             neighbours = neighbours + excluded.neighbours
         RETURNING orders, neighbours",
    )?;
    for (product, item) in &tallies.items {
        let grown = grown.get(product).copied().unwrap_or_default();
        let row = (generation, product.as_bytes(), &item.category, item.orders, item.before, item.after, grown);
        let (orders, neighbours): (i64, i64) = upsert.query_row(row, |row| Ok((row.get(0)?, row.get(1)?)))?;
        if neighbours >= 2 * limits.neighbours_per_item as i64 {
            trim(connection, generation, *product, limits.neighbours_per_item)?;
        } else if orders <= 0 && neighbours <= 0 {
            connection
                .prepare_cached("DELETE FROM items WHERE generation = ?1 AND product_id = ?2")?
                .execute((generation, product.as_bytes()))?;
        }
    }
    Ok(())
}

/// 1: the pair is new; -1: it is gone.
fn save_pair(
    connection: &Connection,
    generation: Generation,
    item: ProductId,
    other: ProductId,
    pair: PairTally,
) -> Result<i64, Failure> {
    if pair == PairTally::default() {
        return Ok(0);
    }
    let key = (generation, item.as_bytes(), other.as_bytes());
    if pair.together > 0 {
        // What nothing is left of is not stored: a pair that holds just what was added is new.
        let together: i64 = connection
            .prepare_cached(
                "INSERT INTO pairs (generation, product_id, other_id, together, later) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT DO UPDATE SET together = together + excluded.together, later = later + excluded.later
                 RETURNING together",
            )?
            .query_row((key.0, key.1, key.2, pair.together, pair.later), |row| row.get(0))?;
        return Ok(i64::from(together == pair.together));
    }
    let left: Option<i64> = connection
        .prepare_cached(
            "UPDATE pairs SET together = together + ?4, later = later + ?5
             WHERE generation = ?1 AND product_id = ?2 AND other_id = ?3 RETURNING together",
        )?
        .query_row((key.0, key.1, key.2, pair.together, pair.later), |row| row.get(0))
        .optional()?;
    match left {
        Some(1..) => Ok(0),
        Some(_) => {
            connection
                .prepare_cached("DELETE FROM pairs WHERE generation = ?1 AND product_id = ?2 AND other_id = ?3")?
                .execute(key)?;
            Ok(-1)
        }
        // What is taken back was forgotten before.
        None => Ok(0),
    }
}

/// Keeps the strongest neighbours of an item. That it happens at twice as many gives a new one time to become strong;
/// among equals the younger products stay.
fn trim(connection: &Connection, generation: Generation, item: ProductId, keep: usize) -> Result<(), Failure> {
    connection
        .prepare_cached(
            "DELETE FROM pairs WHERE generation = ?1 AND product_id = ?2 AND other_id IN (
                 SELECT other_id FROM pairs WHERE generation = ?1 AND product_id = ?2
                 ORDER BY together DESC, other_id DESC LIMIT -1 OFFSET ?3)",
        )?
        .execute((generation, item.as_bytes(), keep))?;
    connection
        .prepare_cached("UPDATE items SET neighbours = ?3, trimmed = 1 WHERE generation = ?1 AND product_id = ?2")?
        .execute((generation, item.as_bytes(), keep))?;
    Ok(())
}
