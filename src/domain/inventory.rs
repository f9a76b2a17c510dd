//! The stock decision: all lines of an order or none, one decision per order id, in log order.
//!
//! `decide` is pure: the store loads stock and earlier decisions in its transaction, calls it, and writes what it
//! returns, so that a crash leaves either nothing or everything of a batch.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use super::events::{InventoryDecided, PendingEvent, StockChanged, Topic, event_type, source};
use super::ids::{OrderId, ProductId};
use super::time::Timestamp;

/// A product of which an order wants more than there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shortage {
    pub product_id: ProductId,
    /// Over all lines of the order.
    pub requested: u32,
    pub available: i32,
}

/// What an order wants of one product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedLine {
    pub product_id: ProductId,
    pub quantity: u32,
}

/// A fact about an order that stock has to answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InventoryRequest {
    Placed { order_id: OrderId, lines: Vec<WantedLine> },
    Cancelled { order_id: OrderId },
}

impl InventoryRequest {
    pub fn order_id(&self) -> OrderId {
        match self {
            Self::Placed { order_id, .. } | Self::Cancelled { order_id } => *order_id,
        }
    }
}

/// What was decided about an order. RESERVED may become RELEASED; nothing else ever changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "decision", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Decision {
    Reserved { lines: Vec<WantedLine> },
    Rejected { shortages: Vec<Shortage>, unavailable: Vec<ProductId> },
    Released,
}

/// A product's stock as the store holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stock {
    pub available: i32,
    pub archived: bool,
    /// Of the product's last event.
    pub event_sequence: i64,
}

/// What is stored of the orders and products that a batch touches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InventoryState {
    pub stock: HashMap<ProductId, Stock>,
    pub decisions: HashMap<OrderId, Decision>,
}

/// What a batch changes: to be written in one transaction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InventoryChanges {
    /// Every product whose stock changed, with its new value.
    pub stock: BTreeMap<ProductId, Stock>,
    /// Every order decided or released, with its decision after the batch.
    pub decisions: BTreeMap<OrderId, Decision>,
    /// Decisions first, in the order they were taken, then one stock change for each product.
    pub events: Vec<PendingEvent>,
}

/// The products and orders whose state `decide` needs for these requests. Of a cancellation the products are known
/// from the stored decision only.
pub fn touched(requests: &[InventoryRequest]) -> (BTreeSet<ProductId>, BTreeSet<OrderId>) {
    let mut products = BTreeSet::new();
    let mut orders = BTreeSet::new();
    for request in requests {
        orders.insert(request.order_id());
        if let InventoryRequest::Placed { lines, .. } = request {
            products.extend(lines.iter().map(|line| line.product_id));
        }
    }
    (products, orders)
}

/// Decides a batch in order. `state` must hold the stock of every known product that the requests or the stored
/// reservations of cancelled orders name, and the decision of every order that has one.
pub fn decide(mut state: InventoryState, requests: &[InventoryRequest], at: Timestamp) -> InventoryChanges {
    let mut changes = InventoryChanges::default();
    let mut before: BTreeMap<ProductId, i32> = BTreeMap::new();
    for request in requests {
        let order_id = request.order_id();
        let earlier = state.decisions.get(&order_id);
        let (decision, sequence) = match (request, earlier) {
            (InventoryRequest::Placed { .. }, Some(_)) => continue,
            (InventoryRequest::Placed { lines, .. }, None) => (judge(&state.stock, lines), 1),
            (InventoryRequest::Cancelled { .. }, Some(Decision::Reserved { .. })) => (Decision::Released, 2),
            (InventoryRequest::Cancelled { .. }, Some(_)) => continue,
            (InventoryRequest::Cancelled { .. }, None) => (Decision::Released, 1),
        };
        let moved: &[WantedLine] = match (&decision, earlier) {
            (Decision::Reserved { lines }, _) | (Decision::Released, Some(Decision::Reserved { lines })) => lines,
            _ => &[],
        };
        let sign = if matches!(decision, Decision::Reserved { .. }) { -1 } else { 1 };
        for line in moved {
            if let Some(stock) = state.stock.get_mut(&line.product_id) {
                before.entry(line.product_id).or_insert(stock.available);
                // A return past 2^31 - 1 pieces saturates: stock never wraps.
                stock.available = stock.available.saturating_add(sign * line.quantity as i32);
            }
        }
        changes.events.push(decision_event(order_id, sequence, &decision, at));
        changes.decisions.insert(order_id, decision.clone());
        state.decisions.insert(order_id, decision);
    }
    for (product_id, previous) in before {
        let Some(stock) = state.stock.get_mut(&product_id) else { continue };
        if stock.available == previous {
            continue;
        }
        stock.event_sequence += 1;
        changes.stock.insert(product_id, *stock);
        changes.events.push(stock_changed_event(product_id, stock, previous, at));
    }
    changes
}

/// All lines or none: every product is sold and has enough. A line repeated for one product counts as its sum.
fn judge(stock: &HashMap<ProductId, Stock>, lines: &[WantedLine]) -> Decision {
    let lines = merge_lines(lines);
    let mut shortages = Vec::new();
    let mut unavailable = Vec::new();
    for line in &lines {
        match stock.get(&line.product_id) {
            None => unavailable.push(line.product_id),
            Some(stock) if stock.archived => unavailable.push(line.product_id),
            Some(stock) if i64::from(stock.available) < i64::from(line.quantity) => shortages.push(Shortage {
                product_id: line.product_id,
                requested: line.quantity,
                available: stock.available,
            }),
            Some(_) => {}
        }
    }
    if shortages.is_empty() && unavailable.is_empty() {
        Decision::Reserved { lines }
    } else {
        Decision::Rejected { shortages, unavailable }
    }
}

/// One line for each product, in the order of first mention, with the sum of its quantities.
pub fn merge_lines(lines: &[WantedLine]) -> Vec<WantedLine> {
    let mut merged: Vec<WantedLine> = Vec::with_capacity(lines.len());
    for line in lines {
        match merged.iter_mut().find(|known| known.product_id == line.product_id) {
            Some(known) => known.quantity = known.quantity.saturating_add(line.quantity),
            None => merged.push(*line),
        }
    }
    merged
}

fn decision_event(order_id: OrderId, sequence: i64, decision: &Decision, at: Timestamp) -> PendingEvent {
    let (event_type, shortages, unavailable) = match decision {
        Decision::Reserved { .. } => (event_type::INVENTORY_RESERVED, Vec::new(), Vec::new()),
        Decision::Rejected { shortages, unavailable } => {
            (event_type::INVENTORY_REJECTED, shortages.clone(), unavailable.clone())
        }
        Decision::Released => (event_type::INVENTORY_RELEASED, Vec::new(), Vec::new()),
    };
    let body = InventoryDecided { order_id, shortages, unavailable };
    PendingEvent::new(Topic::InventoryEvents, source::PRODUCTS, event_type, order_id.to_string(), sequence, at, &body)
}

/// The event of a stock that is now `stock`, `stock.event_sequence` being the event's own sequence.
pub fn stock_changed_event(product_id: ProductId, stock: &Stock, previous: i32, at: Timestamp) -> PendingEvent {
    let body = StockChanged { product_id, available: stock.available, previous };
    let aggregate = product_id.to_string();
    PendingEvent::new(
        Topic::InventoryEvents,
        source::PRODUCTS,
        event_type::STOCK_CHANGED,
        aggregate,
        stock.event_sequence,
        at,
        &body,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::TypedId;
    use uuid::Uuid;

    fn product(n: u128) -> ProductId {
        ProductId::from_uuid(Uuid::from_u128(n))
    }
    fn order(n: u128) -> OrderId {
        OrderId::from_uuid(Uuid::from_u128(n))
    }
    fn placed(n: u128, lines: &[(u128, u32)]) -> InventoryRequest {
        let lines = lines.iter().map(|&(p, quantity)| WantedLine { product_id: product(p), quantity }).collect();
        InventoryRequest::Placed { order_id: order(n), lines }
    }
    fn cancelled(n: u128) -> InventoryRequest {
        InventoryRequest::Cancelled { order_id: order(n) }
    }
    fn state(stock: &[(u128, i32)]) -> InventoryState {
        let stock = stock
            .iter()
            .map(|&(p, available)| (product(p), Stock { available, archived: false, event_sequence: 1 }))
            .collect();
        InventoryState { stock, decisions: HashMap::new() }
    }
    fn run(state: InventoryState, requests: &[InventoryRequest]) -> InventoryChanges {
        decide(state, requests, Timestamp(0))
    }

    #[test]
    fn all_lines_are_taken_or_none() {
        let changes = run(state(&[(1, 5), (2, 1)]), &[placed(1, &[(1, 2), (2, 2)]), placed(2, &[(1, 2), (2, 1)])]);
        assert!(matches!(&changes.decisions[&order(1)], Decision::Rejected { shortages, .. }
            if shortages == &[Shortage { product_id: product(2), requested: 2, available: 1 }]));
        assert!(matches!(changes.decisions[&order(2)], Decision::Reserved { .. }));
        assert_eq!(changes.stock[&product(1)].available, 3);
        assert_eq!(changes.stock[&product(2)].available, 0);
        assert_eq!(changes.events.len(), 4);
    }

    #[test]
    fn one_product_on_two_lines_counts_as_their_sum() {
        let changes = run(state(&[(1, 5)]), &[placed(1, &[(1, 3), (1, 3)])]);
        assert!(matches!(&changes.decisions[&order(1)], Decision::Rejected { shortages, .. }
            if shortages == &[Shortage { product_id: product(1), requested: 6, available: 5 }]));
    }

    #[test]
    fn a_second_placement_changes_nothing() {
        let changes = run(state(&[(1, 5)]), &[placed(1, &[(1, 3)]), placed(1, &[(1, 3)])]);
        assert_eq!(changes.stock[&product(1)].available, 2);
        assert_eq!(changes.events.len(), 2);
    }

    #[test]
    fn a_cancellation_returns_a_reservation_once() {
        let changes = run(state(&[(1, 5)]), &[placed(1, &[(1, 3)]), cancelled(1), cancelled(1)]);
        assert_eq!(changes.decisions[&order(1)], Decision::Released);
        assert!(changes.stock.is_empty(), "the batch leaves the stock as it was");
        assert_eq!(changes.events.len(), 2);
    }

    #[test]
    fn a_placement_after_its_cancellation_takes_nothing() {
        let changes = run(state(&[(1, 5)]), &[cancelled(1), placed(1, &[(1, 3)])]);
        assert_eq!(changes.decisions[&order(1)], Decision::Released);
        assert!(changes.stock.is_empty());
    }

    #[test]
    fn archived_and_unknown_products_are_refused() {
        let mut given = state(&[(1, 5)]);
        given.stock.get_mut(&product(1)).unwrap().archived = true;
        let changes = run(given, &[placed(1, &[(1, 1), (9, 1)])]);
        assert_eq!(
            changes.decisions[&order(1)],
            Decision::Rejected { shortages: vec![], unavailable: vec![product(1), product(9)] }
        );
    }
}
