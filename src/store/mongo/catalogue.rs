//! Lists of the products. Without search words a page is found and counted by an index that has its order. With them the
//! word index finds the candidates by the beginnings of their words, and the server scores them as `domain::search` does
//! and cuts the page: one command, however many match.

use futures_util::future::try_join;
use futures_util::{FutureExt, TryStreamExt};
use mongodb::bson::{Bson, Document, deserialize_from_document, doc};
use serde::Deserialize;

use super::failure::Failure;
use super::product_documents::{PRODUCTS, ProductDocument, without_words};
use super::products::MongoProductStore;
use super::values::date;
use crate::domain::page::{Page, PageRequest};
use crate::domain::products::{Category, Product, ProductFilter, ProductSort};
use crate::domain::search;
use crate::domain::time::Timestamp;
use crate::store::product_position::Position;
use crate::store::{StoreError, cursor};

const SCORE: &str = "score";
const NAME: &str = "name";
const CREATED: &str = "createdAt";
const PRICE: &str = "price.minorUnits";

/// A field that a list is sorted by, with its direction: 1 is ascending.
type Key = (&'static str, i32);

/// The order of a list; the last decides between what else is equal.
fn keys(sort: ProductSort) -> Vec<Key> {
    match sort {
        ProductSort::Relevance => vec![(SCORE, -1), (NAME, 1), ("_id", 1)],
        ProductSort::Newest => vec![(CREATED, -1), ("_id", -1)],
        ProductSort::Name => vec![(NAME, 1), ("_id", 1)],
        ProductSort::PriceAscending => vec![(PRICE, 1), ("_id", 1)],
        ProductSort::PriceDescending => vec![(PRICE, -1), ("_id", 1)],
    }
}

fn order(sort: ProductSort) -> Document {
    keys(sort).into_iter().map(|(field, direction)| (field.to_owned(), direction.into())).collect()
}

/// A position's values, one for each key of its list.
fn values_of(position: Position) -> Vec<Bson> {
    match position {
        Position::Relevance(score, name, id) => vec![i64::from(score).into(), name.into(), id.to_string().into()],
        Position::Newest(at, id) => vec![date(Timestamp(at)).into(), id.to_string().into()],
        Position::Name(name, id) => vec![name.into(), id.to_string().into()],
        Position::PriceAscending(price, id) | Position::PriceDescending(price, id) => {
            vec![price.into(), id.to_string().into()]
        }
    }
}

/// What comes after a position: beyond it by a key, and level with it by those before.
fn past(sort: ProductSort, position: Position) -> Document {
    let keyed: Vec<(Key, Bson)> = keys(sort).into_iter().zip(values_of(position)).collect();
    let beyond = |direction: i32| if direction > 0 { "$gt" } else { "$lt" };
    let alternatives: Vec<Document> = (0..keyed.len())
        .map(|decisive| {
            let level = keyed[..decisive].iter().map(|((field, _), value)| ((*field).to_owned(), value.clone()));
            let mut alternative: Document = level.collect();
            let ((field, direction), value) = &keyed[decisive];
            alternative.insert(*field, doc! { beyond(*direction): value.clone() });
            alternative
        })
        .collect();
    // By the first key alone, which is what an index is entered by.
    let entry = keyed.first().map(|((field, direction), value)| {
        let bound = format!("{}e", beyond(*direction));
        doc! { *field: { bound: value.clone() } }
    });
    doc! { "$and": [entry.unwrap_or_default(), { "$or": alternatives }] }
}

fn position(product: &Product, score: i64, sort: ProductSort) -> Position {
    match sort {
        ProductSort::Relevance => {
            Position::Relevance(u32::try_from(score).unwrap_or(u32::MAX), product.name.clone(), product.id)
        }
        ProductSort::Newest => Position::Newest(product.created_at.0, product.id),
        ProductSort::Name => Position::Name(product.name.clone(), product.id),
        ProductSort::PriceAscending => Position::PriceAscending(product.price.minor_units, product.id),
        ProductSort::PriceDescending => Position::PriceDescending(product.price.minor_units, product.id),
    }
}

/// The filter without its search, in the server's terms.
fn conditions(filter: &ProductFilter) -> Document {
    let mut conditions = doc! { "archived": false };
    if let Some(categories) = &filter.categories {
        conditions.insert("category", doc! { "$in": categories });
    }
    if let Some(in_stock) = filter.in_stock {
        conditions.insert(
            "available",
            if in_stock {
                doc! { "$gt": 0 }
            } else {
                doc! { "$eq": 0 }
            },
        );
    }
    let mut price = Document::new();
    for (bound, compare) in [(filter.min_price, "$gte"), (filter.max_price, "$lte")] {
        price.extend(bound.map(|amount| (compare.to_owned(), amount.into())));
    }
    if !price.is_empty() {
        conditions.insert(PRICE, price);
    }
    conditions
}

/// Each word of a search once, with how often it was given.
fn counted(words: Vec<String>) -> Vec<(String, i64)> {
    let mut counted: Vec<(String, i64)> = Vec::new();
    for word in words {
        match counted.iter_mut().find(|(known, _)| *known == word) {
            Some((_, times)) => *times += 1,
            None => counted.push((word, 1)),
        }
    }
    counted
}

/// What every match has: of each word one that begins with it. Words are alphanumeric, so nothing in them is an operator.
fn matching(words: &[(String, i64)]) -> Vec<Document> {
    words.iter().map(|(word, _)| doc! { "words.word": { "$regex": format!("^{word}") } }).collect()
}

/// `domain::search::score` as an expression.
fn score(words: &[(String, i64)]) -> Document {
    let best = |word: &str| {
        let begins = doc! { "$eq": [{ "$indexOfBytes": ["$$indexed.word", { "$literal": word }] }, 0] };
        let whole = doc! { "$eq": ["$$indexed.word", { "$literal": word }] };
        let counts = doc! { "$cond": [whole, { "$multiply": ["$$indexed.score", 2] }, "$$indexed.score"] };
        let found = doc! { "$filter": { "input": "$words", "as": "indexed", "cond": begins } };
        doc! { "$max": { "$map": { "input": found, "as": "indexed", "in": counts } } }
    };
    let parts: Vec<Document> = words.iter().map(|(word, times)| doc! { "$multiply": [*times, best(word)] }).collect();
    doc! { "$toLong": { "$add": parts } }
}

#[derive(Deserialize)]
struct Found {
    #[serde(flatten)]
    product: ProductDocument,
    /// Only of a list that is sorted by it.
    #[serde(default)]
    score: i64,
}

#[derive(Deserialize)]
struct Facets {
    page: Vec<Found>,
    total: Vec<Total>,
}

#[derive(Deserialize)]
struct Total {
    count: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CategoryCount {
    #[serde(rename = "_id")]
    name: String,
    product_count: u32,
}

impl MongoProductStore {
    pub(super) async fn list_catalogue(
        &self,
        filter: &ProductFilter,
        sort: ProductSort,
        page: &PageRequest,
    ) -> Result<Page<Product>, StoreError> {
        let words = filter.search.as_deref().map(search::words).unwrap_or_default();
        match sort {
            _ if !words.is_empty() => self.search(words, filter, sort, page).await,
            ProductSort::Relevance => self.list_all(filter, ProductSort::Name, page).await,
            _ => self.list_all(filter, sort, page).await,
        }
    }

    async fn list_all(
        &self,
        filter: &ProductFilter,
        sort: ProductSort,
        page: &PageRequest,
    ) -> Result<Page<Product>, StoreError> {
        let products = self.database.collection::<ProductDocument>(PRODUCTS);
        let (counted, page) = (conditions(filter), page.clone());
        let mut listed = counted.clone();
        if let Some(position) = Position::requested(&page, sort)? {
            listed = doc! { "$and": [listed, past(sort, position)] };
        }
        self.database
            .read(async move {
                let found = products.find(listed).sort(order(sort)).projection(without_words());
                // One reply holds the page.
                let found = found.limit(i64::from(page.first) + 1).batch_size(page.first + 2);
                let found = async { found.await?.try_collect::<Vec<_>>().await };
                let (found, total) = try_join(found, products.count_documents(counted).into_future()).await?;
                let entries = found.into_iter().map(Product::from);
                let entries = entries.map(|product| (cursor::encode(&position(&product, 0, sort)), product)).collect();
                Ok(cursor::page(entries, &page, total as i64))
            })
            .await
    }

    async fn search(
        &self,
        words: Vec<String>,
        filter: &ProductFilter,
        sort: ProductSort,
        page: &PageRequest,
    ) -> Result<Page<Product>, StoreError> {
        let products = self.database.collection::<ProductDocument>(PRODUCTS);
        let page = page.clone();
        let words = counted(words);
        let mut candidates = conditions(filter);
        candidates.insert("$and", matching(&words));
        let mut stages = vec![doc! { "$match": candidates }];
        if sort == ProductSort::Relevance {
            stages.push(doc! { "$set": { SCORE: score(&words) } });
        }
        stages.push(doc! { "$unset": "words" });
        let mut cut = Vec::new();
        if let Some(position) = Position::requested(&page, sort)? {
            cut.push(doc! { "$match": past(sort, position) });
        }
        cut.extend([doc! { "$sort": order(sort) }, doc! { "$limit": i64::from(page.first) + 1 }]);
        stages.push(doc! { "$facet": { "page": cut, "total": [{ "$count": "count" }] } });
        self.database
            .read(async move {
                let Some(facets) = products.aggregate(stages).await?.try_next().await? else {
                    return Ok(cursor::page(Vec::new(), &page, 0));
                };
                let Facets { page: found, total } = deserialize_from_document(facets)?;
                let entries = found.into_iter().map(|Found { product, score }| {
                    let product = Product::from(product);
                    (cursor::encode(&position(&product, score, sort)), product)
                });
                let total = total.first().map_or(0, |total| total.count);
                Ok(cursor::page(entries.collect(), &page, total))
            })
            .await
    }

    pub(super) async fn count_categories(&self) -> Result<Vec<Category>, StoreError> {
        let products = self.database.collection::<ProductDocument>(PRODUCTS);
        let stages = [
            doc! { "$match": { "archived": false, "category": { "$gte": "" } } },
            doc! { "$group": { "_id": "$category", "productCount": { "$sum": 1 } } },
            doc! { "$sort": { "_id": 1 } },
        ];
        let counts = async move {
            let found: Vec<CategoryCount> = products.aggregate(stages).with_type().await?.try_collect().await?;
            let category = |CategoryCount { name, product_count }| Category { name, product_count };
            Ok::<_, Failure>(found.into_iter().map(category).collect())
        };
        self.database.read(counts.boxed()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::{ProductId, TypedId};
    use uuid::Uuid;

    #[test]
    fn what_comes_after_a_position_is_beyond_it_by_one_key_and_level_by_those_before() {
        let id = ProductId::from_uuid(Uuid::from_u128(1));
        let after = past(ProductSort::PriceDescending, Position::PriceDescending(5, id));
        let expected = doc! { "$and": [
            { "price.minorUnits": { "$lte": 5_i64 } },
            { "$or": [
                { "price.minorUnits": { "$lt": 5_i64 } },
                { "price.minorUnits": 5_i64, "_id": { "$gt": id.to_string() } },
            ] },
        ] };
        assert_eq!(after, expected);
    }

    #[test]
    fn a_word_that_is_given_twice_counts_twice() {
        let words = ["lamp", "desk", "lamp"].map(str::to_owned).to_vec();
        assert_eq!(counted(words), [("lamp".to_owned(), 2), ("desk".to_owned(), 1)]);
    }
}
