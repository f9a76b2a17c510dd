//! What a user's recommendations are made from, read from the live generation in one snapshot.

use rusqlite::{Connection, Params, Row};

use super::failure::Failure;
use crate::domain::ids::{ProductId, UserId};
use crate::domain::recommendations::{Bought, Evidence, ItemCounts, Limits, Neighbours, PairCounts, shortlist};
use crate::store::recommendations::Generation;

/// Purchases that are read of a user, newest first: what was bought before them may be recommended again.
const PURCHASES: u32 = 200;
/// Likes that are read, newest first; dislikes count all.
const RATINGS: usize = 1_000;
/// Categories of the user whose best sellers are candidates, and how many of each.
const CATEGORIES: usize = 3;
const OF_A_CATEGORY: u32 = 30;

pub(super) fn of(connection: &Connection, user: UserId, limits: &Limits) -> Result<Evidence, Failure> {
    let mut query = connection.prepare_cached("SELECT generation, orders, lines FROM generations WHERE live")?;
    let (generation, orders, lines) = query.query_row((), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let mut evidence = Evidence { orders, lines, bought: bought(connection, generation, user)?, ..Evidence::default() };
    read_ratings(connection, user, &mut evidence)?;
    for source in evidence.sources(limits) {
        let product_id = source.product_id;
        let Some((counts, trimmed)) = counts(connection, generation, product_id)? else { continue };
        let pairs = pairs(connection, generation, product_id)?;
        evidence.items.insert(product_id, counts);
        evidence.neighbours.insert(product_id, Neighbours { trimmed, pairs });
    }
    let mut candidates = shortlist(&evidence.neighbours, &evidence.items, limits.candidates);
    candidates.extend(evidence.liked.iter().take(limits.history_items));
    candidates.extend(evidence.bought.iter().map(|item| item.product_id).take(limits.bought_again));
    candidates.retain(|product| !evidence.disliked.contains(product));
    for product in candidates {
        if !evidence.items.contains_key(&product)
            && let Some((counts, _)) = counts(connection, generation, product)?
        {
            evidence.items.insert(product, counts);
        }
        evidence.candidates.push(product);
    }
    let favourites: Vec<String> =
        evidence.category_shares().into_iter().take(CATEGORIES).map(|(category, _)| category.to_owned()).collect();
    let best_of_category = "SELECT product_id, category, orders, before, after FROM items
         WHERE generation = ?1 AND category = ?2 ORDER BY orders DESC LIMIT ?3";
    for category in favourites {
        add_best_sellers(connection, best_of_category, (generation, category, OF_A_CATEGORY), &mut evidence)?;
    }
    let best = "SELECT product_id, category, orders, before, after FROM items
         WHERE generation = ?1 ORDER BY orders DESC LIMIT ?2";
    add_best_sellers(connection, best, (generation, limits.candidates / 2), &mut evidence)?;
    Ok(evidence)
}

fn bought(connection: &Connection, generation: Generation, user: UserId) -> Result<Vec<Bought>, Failure> {
    let mut query = connection.prepare_cached(
        "SELECT product_id, category, order_id FROM purchases WHERE generation = ?1 AND user_id = ?2
         ORDER BY order_id DESC, place LIMIT ?3",
    )?;
    let mut rows = query.query((generation, user.as_bytes(), PURCHASES))?;
    let mut bought = Vec::new();
    let (mut orders_ago, mut order) = (0, None::<[u8; 16]>);
    while let Some(row) = rows.next()? {
        let of = row.get(2)?;
        if order.replace(of).is_some_and(|last| last != of) {
            orders_ago += 1;
        }
        bought.push(Bought { product_id: ProductId::from_bytes(row.get(0)?), category: row.get(1)?, orders_ago });
    }
    Ok(bought)
}

fn read_ratings(connection: &Connection, user: UserId, evidence: &mut Evidence) -> Result<(), Failure> {
    let mut query = connection
        .prepare_cached("SELECT product_id, liked FROM ratings WHERE user_id = ?1 ORDER BY at DESC, product_id")?;
    let mut rows = query.query([user.as_bytes()])?;
    while let Some(row) = rows.next()? {
        let product = ProductId::from_bytes(row.get(0)?);
        if !row.get(1)? {
            evidence.disliked.insert(product);
        } else if evidence.liked.len() < RATINGS {
            evidence.liked.push(product);
        }
    }
    Ok(())
}

fn counts(
    connection: &Connection,
    generation: Generation,
    product: ProductId,
) -> Result<Option<(ItemCounts, bool)>, Failure> {
    let mut query = connection.prepare_cached(
        "SELECT product_id, category, orders, before, after, trimmed FROM items
         WHERE generation = ?1 AND product_id = ?2",
    )?;
    let mut rows = query.query((generation, product.as_bytes()))?;
    rows.next()?.map(|row| Ok((decode(row)?.1, row.get(5)?))).transpose()
}

fn pairs(
    connection: &Connection,
    generation: Generation,
    product: ProductId,
) -> Result<std::collections::HashMap<ProductId, PairCounts>, Failure> {
    let mut query = connection
        .prepare_cached("SELECT other_id, together, later FROM pairs WHERE generation = ?1 AND product_id = ?2")?;
    let pairs = query.query_map((generation, product.as_bytes()), |row| {
        Ok((ProductId::from_bytes(row.get(0)?), PairCounts { together: row.get(1)?, later: row.get(2)? }))
    })?;
    Ok(pairs.collect::<Result<_, _>>()?)
}

fn add_best_sellers(
    connection: &Connection,
    sql: &str,
    parameters: impl Params,
    evidence: &mut Evidence,
) -> Result<(), Failure> {
    let mut query = connection.prepare_cached(sql)?;
    let mut rows = query.query(parameters)?;
    while let Some(row) = rows.next()? {
        let (product, counts) = decode(row)?;
        evidence.items.entry(product).or_insert(counts);
        evidence.candidates.push(product);
    }
    Ok(())
}

/// The first five columns of an item.
fn decode(row: &Row<'_>) -> Result<(ProductId, ItemCounts), Failure> {
    let counts = ItemCounts { category: row.get(1)?, orders: row.get(2)?, before: row.get(3)?, after: row.get(4)? };
    Ok((ProductId::from_bytes(row.get(0)?), counts))
}
