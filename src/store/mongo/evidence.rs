//! What users' recommendations are made from, read from the live generation in one snapshot: some seven commands, for one
//! user or for many.

use std::collections::{HashMap, HashSet};

use mongodb::bson::{Document, doc};
use serde::Deserialize;

use super::co_purchases::{BoughtDocument, ITEMS, ItemDocument, ItemKey, PURCHASES, PurchaseDocument, item_key};
use super::failure::Failure;
use super::generations;
use super::readers::{RATINGS, RatingDocument};
use super::transaction::Tx;
use crate::domain::ids::{OrderId, ProductId, UserId};
use crate::domain::recommendations::{Bought, Evidence, ItemCounts, Limits, Neighbours, shortlist};
use crate::store::recommendations::{ExportedPurchase, ExportedRating, Generation, UserHistory};

/// Purchases that are read of a user, newest first: what was bought before them may be recommended again.
const PURCHASES_READ: usize = 200;
/// Likes that are read, newest first; dislikes count all.
const RATINGS_READ: usize = 1_000;
/// Categories of the user whose best sellers are candidates, and how many of each.
const CATEGORIES: usize = 3;
const OF_A_CATEGORY: usize = 30;

/// Of each user, in this order.
pub(super) async fn of(tx: &mut Tx, users: &[UserId], limits: &Limits) -> Result<Vec<Evidence>, Failure> {
    let live = generations::live(tx).await?;
    let mut bought = newest_purchases(tx, live.generation, users).await?;
    let mut ratings = ratings(tx, users, doc! { "at": -1, "_id": 1 }).await?;
    let mut all = Vec::with_capacity(users.len());
    for user in users {
        let mut evidence = Evidence { orders: live.orders, lines: live.lines, ..Evidence::default() };
        evidence.bought = bought.remove(user).map(|orders| newest(&orders)).unwrap_or_default();
        for rating in ratings.remove(user).unwrap_or_default() {
            let product = rating.key.product_id;
            if !rating.liked {
                evidence.disliked.insert(product);
            } else if evidence.liked.len() < RATINGS_READ {
                evidence.liked.push(product);
            }
        }
        all.push(evidence);
    }
    add_neighbours(tx, live.generation, &mut all, limits).await?;
    add_candidates(tx, live.generation, &mut all, limits).await?;
    Ok(all)
}

fn newest(orders: &[(OrderId, BoughtDocument)]) -> Vec<Bought> {
    let lines = (0..).zip(orders).flat_map(|(orders_ago, (_, order))| {
        order.lines.iter().map(move |line| Bought {
            product_id: line.product_id,
            category: line.category.clone(),
            orders_ago,
        })
    });
    lines.take(PURCHASES_READ).collect()
}

/// Every source with what was bought with it.
async fn add_neighbours(
    tx: &mut Tx,
    generation: Generation,
    all: &mut [Evidence],
    limits: &Limits,
) -> Result<(), Failure> {
    let sources: HashSet<ProductId> =
        all.iter().flat_map(|evidence| evidence.sources(limits)).map(|source| source.product_id).collect();
    let items = items(tx, generation, sources, doc! {}).await?;
    for evidence in all {
        for source in evidence.sources(limits) {
            let product = source.product_id;
            let Some(item) = items.get(&product) else { continue };
            evidence.items.insert(product, item.counts());
            evidence.neighbours.insert(product, Neighbours { trimmed: item.trimmed, pairs: item.pairs() });
        }
    }
    Ok(())
}

/// What may be recommended: what goes with the sources, what is liked or may be bought again, and what sells best.
async fn add_candidates(
    tx: &mut Tx,
    generation: Generation,
    all: &mut [Evidence],
    limits: &Limits,
) -> Result<(), Failure> {
    let mut unknown = HashSet::new();
    for evidence in all.iter_mut() {
        let mut candidates = shortlist(&evidence.neighbours, &evidence.items, limits.candidates);
        candidates.extend(evidence.liked.iter().take(limits.history_items));
        candidates.extend(evidence.bought.iter().map(|item| item.product_id).take(limits.bought_again));
        candidates.retain(|product| !evidence.disliked.contains(product));
        unknown.extend(candidates.iter().copied().filter(|product| !evidence.items.contains_key(product)));
        evidence.candidates = candidates;
    }
    let favourites: Vec<Vec<String>> = all
        .iter()
        .map(|evidence| {
            let shares = evidence.category_shares().into_iter().take(CATEGORIES);
            shares.map(|(category, _)| category.to_owned()).collect()
        })
        .collect();
    let categories: HashSet<&String> = favourites.iter().flatten().collect();
    let best = best_sellers(tx, generation, categories, limits.candidates / 2).await?;
    let known = items(tx, generation, unknown, without_neighbours()).await?;
    for (evidence, favourites) in all.iter_mut().zip(favourites) {
        for product in &evidence.candidates {
            if let Some(item) = known.get(product) {
                evidence.items.entry(*product).or_insert_with(|| item.counts());
            }
        }
        for item in best.iter().filter(|item| item.of_all || favourites.contains(&item.category)) {
            let BestSeller { key, category, orders, before, after, .. } = item;
            let counts = || ItemCounts { category: category.clone(), orders: *orders, before: *before, after: *after };
            evidence.items.entry(key.product_id).or_insert_with(counts);
            evidence.candidates.push(key.product_id);
        }
    }
    Ok(())
}

fn without_neighbours() -> Document {
    doc! { "neighbours": 0 }
}

async fn items(
    tx: &mut Tx,
    generation: Generation,
    products: HashSet<ProductId>,
    projection: Document,
) -> Result<HashMap<ProductId, ItemDocument>, Failure> {
    if products.is_empty() {
        return Ok(HashMap::new());
    }
    let keys: Vec<Document> = products.into_iter().map(|product| item_key(generation, product)).collect();
    let items = tx.collection::<ItemDocument>(ITEMS);
    let found = items.find(doc! { "_id": { "$in": keys } }).projection(projection).session(tx.session()).await?;
    Ok(tx.collect(found).await?.into_iter().map(|item| (item.key.product_id, item)).collect())
}

/// An item that is among the best of its category, or of the shop.
#[derive(Deserialize)]
struct BestSeller {
    #[serde(rename = "_id")]
    key: ItemKey,
    category: String,
    orders: i64,
    before: i64,
    after: i64,
    #[serde(default, rename = "ofAll")]
    of_all: bool,
}

#[derive(Deserialize)]
struct Best {
    best: Vec<BestSeller>,
}

/// Of the shop and of each of these categories, in one command: it starts from the document of their generation.
async fn best_sellers(
    tx: &mut Tx,
    generation: Generation,
    categories: HashSet<&String>,
    of_all: usize,
) -> Result<Vec<BestSeller>, Failure> {
    let best = |filter: Document, limit: usize| -> Vec<Document> {
        vec![
            doc! { "$match": filter },
            doc! { "$sort": { "orders": -1, "_id": 1 } },
            doc! { "$limit": limit as i64 },
            doc! { "$project": without_neighbours() },
        ]
    };
    let mut of_shop = best(doc! { "_id.generation": generation }, of_all.max(1));
    of_shop.push(doc! { "$set": { "ofAll": true } });
    let of_categories = categories
        .into_iter()
        .map(|category| best(doc! { "_id.generation": generation, "category": category }, OF_A_CATEGORY));
    let parts = std::iter::once(of_shop).chain(of_categories);
    let mut pipeline = vec![doc! { "$match": { "_id": generation } }];
    let mut names = Vec::new();
    for (number, part) in parts.enumerate() {
        let name = format!("best{number}");
        pipeline.push(doc! { "$lookup": { "from": ITEMS, "as": &name, "pipeline": part } });
        names.push(format!("${name}"));
    }
    pipeline.push(doc! { "$project": { "best": { "$concatArrays": names } } });
    let generations = tx.collection::<Best>(generations::GENERATIONS);
    let found = generations.aggregate(pipeline).with_type::<Best>().session(tx.session()).await?;
    Ok(tx.collect(found).await?.into_iter().flat_map(|found| found.best).collect())
}

type Purchases = Vec<(OrderId, BoughtDocument)>;

fn purchases_of(generation: Generation, users: &[UserId]) -> Document {
    let users: Vec<String> = users.iter().map(UserId::to_string).collect();
    doc! { "bought.userId": { "$in": users }, "_id.generation": generation }
}

/// Ids of orders grow with time.
fn newest_first() -> Document {
    doc! { "_id.orderId": -1 }
}

fn bought(documents: Vec<PurchaseDocument>) -> Purchases {
    documents.into_iter().filter_map(|PurchaseDocument { key, bought, .. }| Some((key.order_id, bought?))).collect()
}

/// The newest orders of each of these users, newest first.
async fn newest_purchases(
    tx: &mut Tx,
    generation: Generation,
    users: &[UserId],
) -> Result<HashMap<UserId, Purchases>, Failure> {
    #[derive(Deserialize)]
    struct OfUser {
        #[serde(rename = "_id")]
        user: UserId,
        newest: Vec<PurchaseDocument>,
    }
    let newest = doc! { "$firstN": { "input": "$$ROOT", "n": PURCHASES_READ as i64 } };
    let of_each = [
        doc! { "$match": purchases_of(generation, users) },
        doc! { "$sort": newest_first() },
        doc! { "$group": { "_id": "$bought.userId", "newest": newest } },
    ];
    let purchases = tx.collection::<OfUser>(PURCHASES);
    let found = purchases.aggregate(of_each).with_type::<OfUser>().session(tx.session()).await?;
    Ok(tx.collect(found).await?.into_iter().map(|OfUser { user, newest }| (user, bought(newest))).collect())
}

async fn ratings(
    tx: &mut Tx,
    users: &[UserId],
    sort: Document,
) -> Result<HashMap<UserId, Vec<RatingDocument>>, Failure> {
    let texts: Vec<String> = users.iter().map(UserId::to_string).collect();
    let known = tx.collection::<RatingDocument>(RATINGS);
    let found = known.find(doc! { "_id.userId": { "$in": texts } }).sort(sort).session(tx.session()).await?;
    let mut ratings: HashMap<UserId, Vec<RatingDocument>> = HashMap::new();
    for rating in tx.collect(found).await? {
        ratings.entry(rating.key.user_id).or_default().push(rating);
    }
    Ok(ratings)
}

/// What is kept about a user.
pub(super) async fn history(tx: &mut Tx, user: UserId) -> Result<UserHistory, Failure> {
    let generation = generations::live(tx).await?.generation;
    let all = tx.collection::<PurchaseDocument>(PURCHASES);
    let found = all.find(purchases_of(generation, &[user])).sort(newest_first()).session(tx.session()).await?;
    let purchases = bought(tx.collect(found).await?).into_iter().flat_map(|(order_id, order)| {
        let at = order.at;
        order.lines.into_iter().map(move |line| ExportedPurchase {
            order_id,
            product_id: line.product_id,
            category: line.category,
            at,
        })
    });
    let ratings = ratings(tx, &[user], doc! { "_id": 1 }).await?.remove(&user).unwrap_or_default();
    let rating = |rating: RatingDocument| ExportedRating {
        product_id: rating.key.product_id,
        liked: rating.liked,
        at: rating.at,
    };
    Ok(UserHistory { purchases: purchases.collect(), ratings: ratings.into_iter().map(rating).collect() })
}
