//! `souk orders settle`: brings orders to their verdict that no event leads to it any more, because the log that had
//! their events is gone: lost, or left behind for another one.
//!
//! Stock decides them as it would have, and takes back what was reserved for cancelled ones, by the same transactions, in
//! the order in which they were placed. Whatever of this has been done before, or is done by a server at the same time, changes nothing.

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

const ORDERS_AT_ONCE: usize = 100;
/// Where the commits are noted: a group that reads nothing.
const GROUP: &str = "settle";

/// Settles what is PENDING, and the stock of what is CANCELLED, of the orders that were placed before that time; returns how
/// many have their verdict by it.
pub async fn settle_pending(
    orders: &dyn OrderStore,
    products: &dyn ProductStore,
    placed_before: Timestamp,
) -> Result<u64, StoreError> {
    let statuses = Some(vec![OrderStatus::Pending, OrderStatus::Cancelled]);
    let filter = OrderFilter { statuses, placed_before: Some(placed_before), ..OrderFilter::default() };
    let mut page = PageRequest::first(ORDERS_AT_ONCE as u32);
    let mut newest_first = Vec::new();
    loop {
        let listed = orders.list_orders(&filter, &page).await?;
        newest_first.extend(listed.entries.iter().map(|(_, order)| order.id));
        page.after = listed.entries.into_iter().last().map(|(cursor, _)| cursor);
        if !listed.has_next {
            break;
        }
    }
    let mut settled = 0;
    for ids in newest_first.rchunks(ORDERS_AT_ONCE) {
        let mut waiting = orders.orders(ids).await?;
        waiting.sort_unstable_by_key(|order| (order.created_at, order.id));
        settled += settle(orders, products, &waiting).await?;
    }
    Ok(settled)
}

async fn settle(orders: &dyn OrderStore, products: &dyn ProductStore, waiting: &[Order]) -> Result<u64, StoreError> {
    let consumption = || Consumption { group: GROUP.to_owned(), ..Consumption::default() };
    let request_of = |order: &Order| {
        let order_id = order.id;
        if order.status == OrderStatus::Cancelled {
            return InventoryRequest::Cancelled { order_id };
        }
        let wanted = order.lines.iter().map(|line| WantedLine { product_id: line.product_id, quantity: line.quantity });
        InventoryRequest::Placed { order_id, lines: wanted.collect() }
    };
    let requests = waiting.iter().map(request_of);
    // Nothing can be lost of a consumption without moves.
    products.decide_inventory(requests.collect(), consumption(), now()).await?;
    let pending = waiting.iter().filter(|order| order.status == OrderStatus::Pending);
    let ids: Vec<OrderId> = pending.map(|order| order.id).collect();
    let verdict_of = |(id, decision)| match decision {
        Decision::Reserved { .. } => Some((id, Verdict::Reserved)),
        Decision::Rejected { shortages, unavailable } => Some((id, Verdict::Rejected { shortages, unavailable })),
        // Cancelled meanwhile.
        Decision::Released => None,
    };
    let verdicts = products.decisions(&ids).await?.into_iter().filter_map(verdict_of).collect();
    match orders.apply_verdicts(verdicts, consumption(), now()).await? {
        Consumed::Done(judged) => Ok(judged.len() as u64),
        Consumed::Lost => Ok(0),
    }
}
