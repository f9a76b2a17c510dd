//! Counts orders, each once a generation; an item that has gathered too many neighbours forgets the weakest.
//!
//! An item is one document with its neighbours in it. A batch of orders costs a few commands, however many items and
//! pairs it holds: what only adds is added by the server, what takes something back is read and written anew.

use std::collections::{BTreeMap, HashMap, HashSet};

use mongodb::bson::{Bson, Document, doc, serialize_to_document};
use serde::{Deserialize, Serialize};

use super::failure::Failure;
use super::generations::GENERATIONS;
use super::transaction::Tx;
use super::updates::Update;
use super::values;
use crate::domain::ids::{OrderId, ProductId, UserId};
use crate::domain::recommendations::{
    HistoryChange, ItemCounts, ItemTally, Limits, OrderState, PairCounts, PairTally, Purchase, Tallies, settle,
};
use crate::domain::time::Timestamp;
use crate::store::recommendations::Generation;

pub(super) const ITEMS: &str = "items";
pub(super) const PURCHASES: &str = "purchases";

#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ItemKey {
    pub generation: Generation,
    pub product_id: ProductId,
}

/// What all orders of a generation say of a product.
#[derive(Serialize, Deserialize)]
pub(super) struct ItemDocument {
    #[serde(rename = "_id")]
    pub key: ItemKey,
    pub category: String,
    pub orders: i64,
    pub before: i64,
    pub after: i64,
    #[serde(default)]
    pub neighbours: HashMap<ProductId, PairDocument>,
    /// Whether some neighbours were forgotten.
    #[serde(default)]
    pub trimmed: bool,
}

#[derive(Default, Clone, Copy, Serialize, Deserialize)]
pub(super) struct PairDocument {
    pub together: i64,
    pub later: i64,
}

impl ItemDocument {
    pub(super) fn counts(&self) -> ItemCounts {
        let Self { category, orders, before, after, .. } = self;
        ItemCounts { category: category.clone(), orders: *orders, before: *before, after: *after }
    }

    pub(super) fn pairs(&self) -> HashMap<ProductId, PairCounts> {
        let pair = |pair: &PairDocument| PairCounts { together: pair.together, later: pair.later };
        self.neighbours.iter().map(|(product, counts)| (*product, pair(counts))).collect()
    }

    /// Adds, or takes back, what was counted.
    fn count(&mut self, item: &ItemTally, pairs: &[(ProductId, PairTally)]) {
        if !item.category.is_empty() {
            self.category.clone_from(&item.category);
        }
        self.orders += item.orders;
        self.before += item.before;
        self.after += item.after;
        for (other, tally) in pairs {
            match self.neighbours.get_mut(other) {
                Some(pair) => {
                    pair.together += tally.together;
                    pair.later += tally.later;
                    if pair.together <= 0 {
                        self.neighbours.remove(other);
                    }
                }
                None if tally.together > 0 => {
                    let pair = PairDocument { together: tally.together, later: tally.later };
                    self.neighbours.insert(*other, pair);
                }
                // What is taken back was forgotten before.
                None => {}
            }
        }
    }

    /// Keeps the strongest neighbours. That it happens at twice as many gives a new one time to become strong; among
    /// equals the younger products stay.
    fn trim(&mut self, keep: usize) {
        if self.neighbours.len() < 2 * keep {
            return;
        }
        let mut strongest: Vec<(ProductId, PairDocument)> = self.neighbours.drain().collect();
        strongest.sort_unstable_by_key(|(product, pair)| std::cmp::Reverse((pair.together, *product)));
        strongest.truncate(keep);
        self.neighbours.extend(strongest);
        self.trimmed = true;
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PurchaseKey {
    pub generation: Generation,
    pub order_id: OrderId,
}

/// An order of a generation, and the history of who placed it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PurchaseDocument {
    #[serde(rename = "_id")]
    pub key: PurchaseKey,
    state: StateDocument,
    /// Not of a cancelled order, nor of a user who was deleted: such an order only counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bought: Option<BoughtDocument>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum StateDocument {
    Counted,
    Withdrawn,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BoughtDocument {
    pub user_id: UserId,
    #[serde(with = "values::time")]
    pub at: Timestamp,
    /// In the order of the basket.
    pub lines: Vec<LineDocument>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LineDocument {
    pub product_id: ProductId,
    pub category: String,
}

impl BoughtDocument {
    fn of(purchase: &Purchase) -> Self {
        let lines = purchase.lines.iter();
        let lines = lines.map(|line| LineDocument { product_id: line.product_id, category: line.category.clone() });
        Self { user_id: purchase.user_id, at: purchase.at, lines: lines.collect() }
    }
}

/// What makes a purchase one that only counts.
pub(super) fn forgotten() -> Document {
    doc! { "$unset": { "bought": "" } }
}

/// Counts what changes, in its order, into each of the generations. `deleted` has those users of the changes who were
/// deleted before, and gets those who are deleted by them.
pub(super) async fn count(
    tx: &mut Tx,
    generations: &[Generation],
    changes: &[HistoryChange],
    deleted: &mut HashSet<UserId>,
    limits: &Limits,
) -> Result<(), Failure> {
    let mut states = states(tx, generations, changes).await?;
    let mut purchases: BTreeMap<PurchaseKey, PurchaseDocument> = BTreeMap::new();
    let mut tallies: Vec<(Generation, Tallies)> =
        generations.iter().map(|generation| (*generation, Tallies::default())).collect();
    for change in changes {
        let (purchase, cancelled) = match change {
            HistoryChange::Bought(purchase) => (purchase, false),
            HistoryChange::Cancelled(purchase) => (purchase, true),
            HistoryChange::UserDeleted(user) => {
                deleted.insert(*user);
                let own = |purchase: &&mut PurchaseDocument| {
                    purchase.bought.as_ref().is_some_and(|bought| bought.user_id == *user)
                };
                purchases.values_mut().filter(own).for_each(|purchase| purchase.bought = None);
                continue;
            }
        };
        for (generation, tallies) in &mut tallies {
            let key = PurchaseKey { generation: *generation, order_id: purchase.order_id };
            let Some((state, times)) = settle(states.get(&key).copied(), cancelled) else { continue };
            states.insert(key, state);
            if times != 0 {
                tallies.add(purchase, times, limits);
            }
            let is_kept = state == OrderState::Counted && !deleted.contains(&purchase.user_id);
            let bought = is_kept.then(|| BoughtDocument::of(purchase));
            let state = if state == OrderState::Counted { StateDocument::Counted } else { StateDocument::Withdrawn };
            purchases.insert(key, PurchaseDocument { key, state, bought });
        }
    }
    save_purchases(tx, purchases.into_values()).await?;
    tallies.retain(|(_, tallies)| !tallies.is_empty());
    if tallies.is_empty() {
        return Ok(());
    }
    let count = |(generation, tallies): &(Generation, Tallies)| {
        let change = doc! { "$inc": { "orders": tallies.orders, "lines": tallies.lines } };
        Update::one(doc! { "_id": *generation }, change)
    };
    tx.update(GENERATIONS, tallies.iter().map(count).collect()).await?;
    save_items(tx, &tallies, limits.neighbours_per_item).await
}

/// What is known of the orders of these changes.
async fn states(
    tx: &mut Tx,
    generations: &[Generation],
    changes: &[HistoryChange],
) -> Result<HashMap<PurchaseKey, OrderState>, Failure> {
    #[derive(Deserialize)]
    struct Known {
        #[serde(rename = "_id")]
        key: PurchaseKey,
        state: StateDocument,
    }
    let orders: HashSet<OrderId> = changes
        .iter()
        .filter_map(|change| match change {
            HistoryChange::Bought(purchase) | HistoryChange::Cancelled(purchase) => Some(purchase.order_id),
            HistoryChange::UserDeleted(_) => None,
        })
        .collect();
    if orders.is_empty() {
        return Ok(HashMap::new());
    }
    let keys: Vec<Document> = generations
        .iter()
        .flat_map(|generation| orders.iter().map(|order| purchase_key(*generation, *order)))
        .collect();
    let purchases = tx.collection::<Known>(PURCHASES);
    let known = purchases.find(doc! { "_id": { "$in": keys } }).projection(doc! { "state": 1 });
    let known = known.session(tx.session()).await?;
    let state = |known: Known| {
        let counted = known.state == StateDocument::Counted;
        (known.key, if counted { OrderState::Counted } else { OrderState::Withdrawn })
    };
    Ok(tx.collect(known).await?.into_iter().map(state).collect())
}

fn purchase_key(generation: Generation, order: OrderId) -> Document {
    doc! { "generation": generation, "orderId": order.to_string() }
}

pub(super) fn item_key(generation: Generation, product: ProductId) -> Document {
    doc! { "generation": generation, "productId": product.to_string() }
}

async fn save_purchases(tx: &mut Tx, purchases: impl Iterator<Item = PurchaseDocument>) -> Result<(), Failure> {
    let mut updates = Vec::new();
    for purchase in purchases {
        let key = purchase_key(purchase.key.generation, purchase.key.order_id);
        updates.push(Update::one(doc! { "_id": key }, serialize_to_document(&purchase)?).or_insert());
    }
    if !updates.is_empty() {
        tx.update(PURCHASES, updates).await?;
    }
    Ok(())
}

type Pairs = Vec<(ProductId, PairTally)>;

async fn save_items(tx: &mut Tx, tallies: &[(Generation, Tallies)], keep: usize) -> Result<(), Failure> {
    let mut updates = Vec::new();
    let mut grown = Vec::new();
    let mut taken_back: HashMap<ItemKey, (&ItemTally, Pairs)> = HashMap::new();
    for (generation, tallies) in tallies {
        let mut pairs: HashMap<ProductId, Pairs> = HashMap::new();
        for ((item, other), pair) in tallies.pairs.iter().filter(|(_, pair)| **pair != PairTally::default()) {
            pairs.entry(*item).or_default().push((*other, *pair));
        }
        for (product, item) in &tallies.items {
            let pairs = pairs.remove(product).unwrap_or_default();
            let key = ItemKey { generation: *generation, product_id: *product };
            if item.orders > 0 && pairs.iter().all(|(_, pair)| pair.together > 0) {
                updates.push(added(key, item, &pairs));
                if !pairs.is_empty() {
                    grown.push(item_key(*generation, *product));
                }
            } else {
                taken_back.insert(key, (item, pairs));
            }
        }
    }
    if !taken_back.is_empty() {
        write_anew(tx, taken_back, &mut updates, keep).await?;
    }
    if !updates.is_empty() {
        tx.update(ITEMS, updates).await?;
    }
    trim(tx, grown, keep).await
}

fn added(key: ItemKey, item: &ItemTally, pairs: &[(ProductId, PairTally)]) -> Update {
    let mut sums = doc! { "orders": item.orders, "before": item.before, "after": item.after };
    for (other, pair) in pairs {
        sums.insert(format!("neighbours.{other}.together"), pair.together);
        sums.insert(format!("neighbours.{other}.later"), pair.later);
    }
    let change = doc! { "$set": { "category": &item.category }, "$inc": sums };
    Update::one(doc! { "_id": item_key(key.generation, key.product_id) }, change).or_insert()
}

/// Reads what loses something, and writes what is left of it; an item of which nothing is left goes.
async fn write_anew(
    tx: &mut Tx,
    taken_back: HashMap<ItemKey, (&ItemTally, Pairs)>,
    updates: &mut Vec<Update>,
    keep: usize,
) -> Result<(), Failure> {
    let keys: Vec<Document> = taken_back.keys().map(|key| item_key(key.generation, key.product_id)).collect();
    let items = tx.collection::<ItemDocument>(ITEMS);
    let known = items.find(doc! { "_id": { "$in": keys } }).session(tx.session()).await?;
    let mut known: HashMap<ItemKey, ItemDocument> =
        tx.collect(known).await?.into_iter().map(|item| (item.key, item)).collect();
    let mut gone = Vec::new();
    for (key, (tally, pairs)) in taken_back {
        let id = item_key(key.generation, key.product_id);
        let mut item = known.remove(&key).unwrap_or_else(|| ItemDocument {
            key,
            category: String::new(),
            orders: 0,
            before: 0,
            after: 0,
            neighbours: HashMap::new(),
            trimmed: false,
        });
        item.count(tally, &pairs);
        item.trim(keep);
        if item.orders <= 0 && item.neighbours.is_empty() {
            gone.push(id);
        } else {
            updates.push(Update::one(doc! { "_id": id }, serialize_to_document(&item)?).or_insert());
        }
    }
    if !gone.is_empty() {
        items.delete_many(doc! { "_id": { "$in": gone } }).session(tx.session()).await?;
    }
    Ok(())
}

/// Of items that have won neighbours, trims those that have too many: the server finds them.
async fn trim(tx: &mut Tx, grown: Vec<Document>, keep: usize) -> Result<(), Failure> {
    if grown.is_empty() {
        return Ok(());
    }
    let count = doc! { "$size": { "$objectToArray": { "$ifNull": ["$neighbours", {}] } } };
    let too_many = Bson::Int64(2 * keep as i64);
    let items = tx.collection::<ItemDocument>(ITEMS);
    let full = items.aggregate([
        doc! { "$match": { "_id": { "$in": grown } } },
        doc! { "$match": { "$expr": { "$gte": [count, too_many] } } },
    ]);
    let full = full.with_type::<ItemDocument>().session(tx.session()).await?;
    let mut updates = Vec::new();
    for mut item in tx.collect(full).await? {
        item.trim(keep);
        let id = item_key(item.key.generation, item.key.product_id);
        updates.push(Update::one(doc! { "_id": id }, serialize_to_document(&item)?));
    }
    if !updates.is_empty() {
        tx.update(ITEMS, updates).await?;
    }
    Ok(())
}
