//! Stock decisions: loads what `domain::inventory::decide` needs and writes what it returns, in the transaction of a batch
//! and with one command for each thing that it touches, whatever its size.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures_util::TryStreamExt;
use mongodb::Collection;
use mongodb::bson::{Bson, Document, doc};
use serde::{Deserialize, Serialize};

use super::failure::{Failure, broken};
use super::order_documents::ShortageDocument;
use super::product_documents::{DECISIONS, PRODUCTS, StockDocument};
use super::transaction::Tx;
use super::updates::Update;
use super::values::{self, date};
use crate::domain::ids::{OrderId, ProductId};
use crate::domain::inventory::{self, Decision, InventoryRequest, InventoryState, Shortage, Stock, WantedLine};
use crate::domain::time::Timestamp;

/// In collection `decisions`, one an order.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DecisionDocument {
    #[serde(rename = "_id")]
    order_id: OrderId,
    decision: DecisionKind,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    lines: Vec<WantedDocument>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    shortages: Vec<ShortageDocument>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    unavailable: Vec<ProductId>,
    #[serde(with = "values::time")]
    decided_at: Timestamp,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum DecisionKind {
    Reserved,
    Rejected,
    Released,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WantedDocument {
    product_id: ProductId,
    quantity: u32,
}

impl DecisionDocument {
    fn of(order_id: OrderId, decision: &Decision, decided_at: Timestamp) -> Self {
        let (mut lines, mut shortages, mut unavailable) = (Vec::new(), Vec::new(), Vec::new());
        let decision = match decision {
            Decision::Reserved { lines: wanted } => {
                let of_line =
                    |line: &WantedLine| WantedDocument { product_id: line.product_id, quantity: line.quantity };
                lines = wanted.iter().map(of_line).collect();
                DecisionKind::Reserved
            }
            Decision::Rejected { shortages: short, unavailable: gone } => {
                shortages = short.iter().map(ShortageDocument::from).collect();
                unavailable.clone_from(gone);
                DecisionKind::Rejected
            }
            Decision::Released => DecisionKind::Released,
        };
        Self { order_id, decision, lines, shortages, unavailable, decided_at }
    }

    fn decision(self) -> (OrderId, Decision) {
        let of_line = |WantedDocument { product_id, quantity }| WantedLine { product_id, quantity };
        let decision = match self.decision {
            DecisionKind::Reserved => Decision::Reserved { lines: self.lines.into_iter().map(of_line).collect() },
            DecisionKind::Rejected => Decision::Rejected {
                shortages: self.shortages.into_iter().map(Shortage::from).collect(),
                unavailable: self.unavailable,
            },
            DecisionKind::Released => Decision::Released,
        };
        (self.order_id, decision)
    }
}

pub(super) async fn decide(tx: &mut Tx, requests: &[InventoryRequest], at: Timestamp) -> Result<(), Failure> {
    if requests.is_empty() {
        return Ok(());
    }
    let state = load(tx, requests).await?;
    let (stored, stock) = (state.decisions.clone(), state.stock.clone());
    let changes = inventory::decide(state, requests, at);
    save_decisions(tx, &stored, &changes.decisions, at).await?;
    save_stock(tx, &stock, &changes.stock).await?;
    changes.events.into_iter().for_each(|event| tx.emit(event));
    Ok(())
}

/// First in a transaction. Changes nothing that is read: of a repeated one and another one that decides about the same
/// products one is run again, before this one has a snapshot that grows old.
pub(super) async fn claim(tx: &mut Tx, requests: &[InventoryRequest]) -> Result<(), Failure> {
    if !tx.is_repeated() {
        return Ok(());
    }
    let (mut products, _) = inventory::touched(requests);
    let cancelled = |request: &InventoryRequest| match request {
        InventoryRequest::Cancelled { order_id } => Some(*order_id),
        InventoryRequest::Placed { .. } => None,
    };
    let cancelled: BTreeSet<OrderId> = requests.iter().filter_map(cancelled).collect();
    if !cancelled.is_empty() {
        // Outside the transaction: its snapshot begins with its first command.
        let given_back = decisions(&tx.collection(DECISIONS), &Vec::from_iter(cancelled)).await?;
        products.extend(given_back.iter().flat_map(|(_, decision)| reserved(decision)).map(|line| line.product_id));
    }
    if !products.is_empty() {
        tx.update(PRODUCTS, vec![Update::all(any_of(&products), doc! { "$inc": { "touched": 1 } })]).await?;
    }
    Ok(())
}

fn reserved(decision: &Decision) -> &[WantedLine] {
    if let Decision::Reserved { lines } = decision { lines } else { &[] }
}

async fn load(tx: &mut Tx, requests: &[InventoryRequest]) -> Result<InventoryState, Failure> {
    let (mut products, orders) = inventory::touched(requests);
    let mut state = InventoryState::default();
    let decisions = tx.collection::<DecisionDocument>(DECISIONS);
    let mut found = decisions.find(any_of(&orders)).session(tx.session()).await?;
    while let Some(document) = found.next(tx.session()).await.transpose()? {
        let (order, decision) = document.decision();
        // A cancellation gives these back.
        products.extend(reserved(&decision).iter().map(|line| line.product_id));
        state.decisions.insert(order, decision);
    }
    if products.is_empty() {
        return Ok(state);
    }
    let stock = tx.collection::<StockDocument>(PRODUCTS);
    let mut found = stock.find(any_of(&products)).projection(StockDocument::fields()).session(tx.session()).await?;
    while let Some(document) = found.next(tx.session()).await.transpose()? {
        state.stock.insert(document.id, document.stock());
    }
    Ok(state)
}

fn any_of<I: ToString>(ids: &BTreeSet<I>) -> Document {
    doc! { "_id": { "$in": ids.iter().map(|id| Bson::from(id.to_string())).collect::<Vec<_>>() } }
}

async fn save_decisions(
    tx: &mut Tx,
    stored: &HashMap<OrderId, Decision>,
    decisions: &BTreeMap<OrderId, Decision>,
    at: Timestamp,
) -> Result<(), Failure> {
    let (again, new): (Vec<_>, Vec<_>) = decisions.iter().partition(|(order, _)| stored.contains_key(*order));
    if !new.is_empty() {
        let documents = new.into_iter().map(|(order, decision)| DecisionDocument::of(*order, decision, at));
        let decisions = tx.collection::<DecisionDocument>(DECISIONS);
        let inserted = decisions.insert_many(documents).session(tx.session()).await;
        inserted.map_err(|error| Failure::from(error).or_conflict("_id_"))?;
    }
    if !again.is_empty() {
        // All that ever changes of a decision: a reservation that is given back.
        let released = doc! { "$set": { "decision": "RELEASED", "decidedAt": date(at) }, "$unset": { "lines": "" } };
        let update = |(order, _): (&OrderId, _)| {
            Update::one(doc! { "_id": order.to_string(), "decision": "RESERVED" }, released.clone())
        };
        let updates: Vec<Update> = again.into_iter().map(update).collect();
        write_all(tx, DECISIONS, updates).await?;
    }
    Ok(())
}

async fn save_stock(
    tx: &mut Tx,
    before: &HashMap<ProductId, Stock>,
    after: &BTreeMap<ProductId, Stock>,
) -> Result<(), Failure> {
    let updates = after.iter().filter_map(|(product, stock)| {
        let unmoved = doc! { "_id": product.to_string(), "eventSequence": before.get(product)?.event_sequence };
        let change = doc! { "$set": { "available": stock.available, "eventSequence": stock.event_sequence } };
        Some(Update::one(unmoved, change))
    });
    let updates: Vec<Update> = updates.collect();
    write_all(tx, PRODUCTS, updates).await
}

/// What has moved since the snapshot makes a conflict, so a condition that does not hold is a fault.
async fn write_all(tx: &mut Tx, collection: &str, updates: Vec<Update>) -> Result<(), Failure> {
    let expected = updates.len() as u64;
    if expected == 0 || tx.update(collection, updates).await?.matched == expected {
        return Ok(());
    }
    Err(broken(format!("{collection} are not what a decision was made from")))
}

pub(super) async fn decisions(
    decisions: &Collection<DecisionDocument>,
    orders: &[OrderId],
) -> Result<Vec<(OrderId, Decision)>, Failure> {
    let found = decisions.find(any_of(&orders.iter().copied().collect())).await?;
    Ok(found.map_ok(DecisionDocument::decision).try_collect().await?)
}
