//! `souk orders settle`: brings orders to their verdict that no event leads to it any more, because the log that had
//! their events is gone: lost, or left behind for another one.
//!
//! Stock decides them as it would have, by the same transactions and in the order in which they were placed, and takes
//! back what is still reserved for cancelled ones. Whatever of this has been done before, or is done by a server at the
//! same time, changes nothing.

use std::collections::HashMap;

use crate::actors::clock::now;
use crate::domain::ids::OrderId;
use crate::domain::inventory::{Decision, InventoryRequest, WantedLine};
use crate::domain::orders::{Order, OrderFilter, OrderStatus, Verdict};
use crate::domain::page::PageRequest;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::consumption::{Consumed, Consumption};
use crate::store::orders::OrderStore;
use crate::store::products::ProductStore;

/// Few, as what is decided together is one transaction.
const ORDERS_AT_ONCE: usize = 100;
/// Many, as each page counts the whole list.
const IDS_AT_ONCE: u32 = 2_000;
/// Where the commits are noted: a group that reads nothing.
const GROUP: &str = "settle";

/// Settles what is PENDING, and the stock of what is CANCELLED, of the orders that were placed before that time; returns how
/// many have their verdict by it.
pub async fn settle_pending(
    orders: &dyn OrderStore,
    products: &dyn ProductStore,
    placed_before: Timestamp,
) -> Result<u64, StoreError> {
    for ids in ids_of(orders, OrderStatus::Cancelled, placed_before).await?.rchunks(ORDERS_AT_ONCE) {
        give_back(products, ids).await?;
    }
    let mut settled = 0;
    for ids in ids_of(orders, OrderStatus::Pending, placed_before).await?.rchunks(ORDERS_AT_ONCE) {
        settled += decide(orders, products, ids).await?;
    }
    Ok(settled)
}

/// Newest first, as they are at the time: what is settled meanwhile moves nothing in this list.
async fn ids_of(
    orders: &dyn OrderStore,
    status: OrderStatus,
    placed_before: Timestamp,
) -> Result<Vec<OrderId>, StoreError> {
    let (statuses, placed_before) = (Some(vec![status]), Some(placed_before));
    let filter = OrderFilter { statuses, placed_before, ..OrderFilter::default() };
    let mut page = PageRequest::first(IDS_AT_ONCE);
    let mut ids = Vec::new();
    loop {
        let listed = orders.list_orders(&filter, &page).await?;
        ids.extend(listed.entries.iter().map(|(_, order)| order.id));
        page.after = listed.entries.into_iter().last().map(|(cursor, _)| cursor);
        if !listed.has_next {
            return Ok(ids);
        }
    }
}

/// Without moves nothing of it can be lost.
fn consumption() -> Consumption {
    Consumption { group: GROUP.to_owned(), ..Consumption::default() }
}

async fn give_back(products: &dyn ProductStore, cancelled: &[OrderId]) -> Result<(), StoreError> {
    let decisions = products.decisions(cancelled).await?;
    let reserved = decisions.into_iter().filter(|(_, decision)| matches!(decision, Decision::Reserved { .. }));
    let requests: Vec<_> = reserved.map(|(order_id, _)| InventoryRequest::Cancelled { order_id }).collect();
    if !requests.is_empty() {
        products.decide_inventory(requests, consumption(), now()).await?;
    }
    Ok(())
}

async fn decide(orders: &dyn OrderStore, products: &dyn ProductStore, ids: &[OrderId]) -> Result<u64, StoreError> {
    let mut found: HashMap<OrderId, Order> =
        orders.orders(ids).await?.into_iter().map(|order| (order.id, order)).collect();
    let oldest_first = ids.iter().rev().filter_map(|id| found.remove(id));
    let still_pending = oldest_first.filter(|order| order.status == OrderStatus::Pending);
    let requests = still_pending.map(|order| {
        let wanted = order.lines.iter().map(|line| WantedLine { product_id: line.product_id, quantity: line.quantity });
        InventoryRequest::Placed { order_id: order.id, lines: wanted.collect() }
    });
    products.decide_inventory(requests.collect(), consumption(), now()).await?;
    let verdict_of = |(id, decision)| match decision {
        Decision::Reserved { .. } => Some((id, Verdict::Reserved)),
        Decision::Rejected { shortages, unavailable } => Some((id, Verdict::Rejected { shortages, unavailable })),
        // Cancelled meanwhile.
        Decision::Released => None,
    };
    let verdicts = products.decisions(ids).await?.into_iter().filter_map(verdict_of).collect();
    match orders.apply_verdicts(verdicts, consumption(), now()).await? {
        Consumed::Done(judged) => Ok(judged.len() as u64),
        Consumed::Lost => Ok(0),
    }
}
