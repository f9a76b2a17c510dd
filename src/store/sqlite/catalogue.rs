//! Lists of the products file. Without search words SQL sorts and pages by an index; with them the word index finds the
//! candidates, `domain::search` ranks them, and the page is cut here.

use std::cmp::Ordering;
use std::collections::HashMap;

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::cursor;
use super::failure::Failure;
use super::products::{by_id, columns, decode};
use super::user_lists::past_prefix;
use crate::domain::ids::ProductId;
use crate::domain::page::{Page, PageRequest};
use crate::domain::products::{Category, Product, ProductFilter, ProductSort};
use crate::domain::search;
use crate::store::product_position::Position;

pub(super) fn list(
    connection: &Connection,
    filter: &ProductFilter,
    sort: ProductSort,
    request: &PageRequest,
) -> Result<Page<Product>, Failure> {
    let words = filter.search.as_deref().map(search::words).unwrap_or_default();
    match sort {
        _ if !words.is_empty() => search_list(connection, words, filter, sort, request),
        ProductSort::Relevance => plain_list(connection, filter, ProductSort::Name, request),
        _ => plain_list(connection, filter, sort, request),
    }
}

fn plain_list(
    connection: &Connection,
    filter: &ProductFilter,
    sort: ProductSort,
    request: &PageRequest,
) -> Result<Page<Product>, Failure> {
    let (mut conditions, mut values) = conditions(filter);
    let from = if filter.in_stock.is_some() { "products p JOIN stock s ON s.product_id = p.id" } else { "products p" };
    let total = connection
        .prepare_cached(&format!("SELECT COUNT(*) FROM {from} WHERE {conditions}"))?
        .query_row(params_from_iter(&values), |row| row.get::<_, i64>(0))?;
    let (key, key_after, key_order, id_after, id_order) = match sort {
        ProductSort::Newest => ("created_at", "<", "DESC", "<", "DESC"),
        ProductSort::Name | ProductSort::Relevance => ("name", ">", "ASC", ">", "ASC"),
        ProductSort::PriceAscending => ("price", ">", "ASC", ">", "ASC"),
        ProductSort::PriceDescending => ("price", "<", "DESC", ">", "ASC"),
    };
    if let Some(position) = Position::requested(request, sort)? {
        let (value, id) = match position {
            Position::Relevance(_, name, id) | Position::Name(name, id) => (Value::Text(name), id),
            Position::Newest(number, id)
            | Position::PriceAscending(number, id)
            | Position::PriceDescending(number, id) => (Value::Integer(number), id),
        };
        // The first comparison is what an index is entered by.
        conditions.push_str(&format!(" AND p.{key} {key_after}= ? AND (p.{key} {key_after} ? OR p.id {id_after} ?)"));
        values.extend([value.clone(), value, Value::Blob(id.as_bytes().to_vec())]);
    }
    values.push(Value::Integer(i64::from(request.first) + 1));
    let columns = columns!();
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {columns} FROM products p JOIN stock s ON s.product_id = p.id WHERE {conditions}
         ORDER BY p.{key} {key_order}, p.id {id_order} LIMIT ?"
    ))?;
    let mut rows = statement.query(params_from_iter(&values))?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        let product = decode(row)?;
        let position = match sort {
            ProductSort::Newest => Position::Newest(product.created_at.0, product.id),
            ProductSort::Name | ProductSort::Relevance => Position::Name(product.name.clone(), product.id),
            ProductSort::PriceAscending => Position::PriceAscending(product.price.minor_units, product.id),
            ProductSort::PriceDescending => Position::PriceDescending(product.price.minor_units, product.id),
        };
        entries.push((cursor::encode(&position), product));
    }
    Ok(cursor::page(entries, request, total))
}

fn search_list(
    connection: &Connection,
    words: Vec<String>,
    filter: &ProductFilter,
    sort: ProductSort,
    request: &PageRequest,
) -> Result<Page<Product>, Failure> {
    let after = Position::requested(request, sort)?;
    let mut found = Vec::new();
    for (id, score) in candidates(connection, &words)? {
        if let Some(position) = matching_position(connection, id, score, filter, sort)? {
            found.push((position, id));
        }
    }
    let total = found.len() as i64;
    if let Some(after) = after {
        found.retain(|(position, _)| position.compare(&after) == Ordering::Greater);
    }
    found.sort_unstable_by(|(one, _), (other, _)| one.compare(other));
    found.truncate(request.first as usize + 1);
    let mut entries = Vec::with_capacity(found.len());
    for (position, id) in found {
        if let Some(product) = by_id(connection, id)? {
            entries.push((cursor::encode(&position), product));
        }
    }
    Ok(cursor::page(entries, request, total))
}

/// Every product that all words match, with its score.
fn candidates(connection: &Connection, words: &[String]) -> Result<Vec<(ProductId, u32)>, Failure> {
    let mut statement = connection
        .prepare_cached("SELECT product_id, word, score FROM product_words WHERE word >= ?1 AND word < ?2")?;
    // Of each product, the words that matched: all that its score depends on.
    let mut matched: HashMap<ProductId, Vec<(String, u32)>> = HashMap::new();
    for (number, word) in words.iter().enumerate() {
        if words[..number].contains(word) {
            continue;
        }
        let mut of_this_word: HashMap<ProductId, Vec<(String, u32)>> = HashMap::new();
        let mut rows = statement.query((word, past_prefix(word.clone())))?;
        while let Some(row) = rows.next()? {
            let product = ProductId::from_bytes(row.get(0)?);
            if number == 0 || matched.contains_key(&product) {
                of_this_word.entry(product).or_default().push((row.get(1)?, row.get(2)?));
            }
        }
        for (product, mut more) in std::mem::take(&mut matched) {
            if let Some(now) = of_this_word.get_mut(&product) {
                now.append(&mut more);
            }
        }
        matched = of_this_word;
        if matched.is_empty() {
            break;
        }
    }
    Ok(matched
        .into_iter()
        .filter_map(|(product, indexed)| search::score(words, &indexed).map(|score| (product, score)))
        .collect())
}

/// The position of a product in the list, if the filter lets it in.
fn matching_position(
    connection: &Connection,
    id: ProductId,
    score: u32,
    filter: &ProductFilter,
    sort: ProductSort,
) -> Result<Option<Position>, Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT p.name, p.category, p.price, p.created_at, s.available
         FROM products p JOIN stock s ON s.product_id = p.id WHERE p.id = ?1 AND NOT p.archived",
    )?;
    let mut rows = statement.query([id.as_bytes()])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let category = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
    let price: i64 = row.get(2)?;
    let available: i32 = row.get(4)?;
    let wanted = filter.categories.as_ref().is_none_or(|wanted| wanted.iter().any(|name| name == category))
        && filter.in_stock.is_none_or(|in_stock| in_stock == (available > 0))
        && filter.min_price.is_none_or(|bound| price >= bound)
        && filter.max_price.is_none_or(|bound| price <= bound);
    if !wanted {
        return Ok(None);
    }
    Ok(Some(match sort {
        ProductSort::Relevance => Position::Relevance(score, row.get(0)?, id),
        ProductSort::Newest => Position::Newest(row.get(3)?, id),
        ProductSort::Name => Position::Name(row.get(0)?, id),
        ProductSort::PriceAscending => Position::PriceAscending(price, id),
        ProductSort::PriceDescending => Position::PriceDescending(price, id),
    }))
}

/// The filter without its search, in SQL.
fn conditions(filter: &ProductFilter) -> (String, Vec<Value>) {
    let mut sql = String::from("NOT p.archived");
    let mut values = Vec::new();
    if let Some(categories) = &filter.categories {
        let json = serde_json::to_string(categories).expect("a list of texts always serialises");
        sql.push_str(" AND p.category IN (SELECT value FROM json_each(?))");
        values.push(Value::Text(json));
    }
    if let Some(in_stock) = filter.in_stock {
        sql.push_str(if in_stock { " AND s.available > 0" } else { " AND s.available = 0" });
    }
    for (bound, compare) in [(filter.min_price, ">="), (filter.max_price, "<=")] {
        if let Some(price) = bound {
            sql.push_str(&format!(" AND p.price {compare} ?"));
            values.push(Value::Integer(price));
        }
    }
    (sql, values)
}

pub(super) fn categories(connection: &Connection) -> Result<Vec<Category>, Failure> {
    let mut statement = connection.prepare_cached(
        "SELECT category, COUNT(*) FROM products WHERE NOT archived GROUP BY category ORDER BY category",
    )?;
    let mut rows = statement.query(())?;
    let mut categories = Vec::new();
    while let Some(row) = rows.next()? {
        categories.push(Category { name: row.get(0)?, product_count: row.get(1)? });
    }
    Ok(categories)
}
