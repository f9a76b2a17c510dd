//! `souk recommendations rebuild`: counts every bought order into a new generation, which then replaces the live one.
//!
//! The one place outside the orders domain that reads its store. A server may serve meanwhile: what it applies goes to
//! both generations, and each counts an order once. What a rebuild that was cut off has left is removed by the next.

use crate::domain::orders::{Order, OrderFilter, OrderStatus};
use crate::domain::page::PageRequest;
use crate::domain::recommendations::{Limits, Purchase, PurchasedLine};
use crate::store::StoreError;
use crate::store::orders::OrderStore;
use crate::store::recommendations::{RebuildStep, RecommendationStore};

/// Orders of one commit: few enough for a server's own writes to come in between.
const ORDERS_AT_ONCE: u32 = 500;

/// How a rebuild ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rebuilt {
    /// This many orders were counted.
    Done(u64),
    /// Another rebuild has begun since.
    Superseded,
}

/// Rebuilds; `progress` is told how many of about how many orders are done.
pub async fn rebuild(
    orders: &dyn OrderStore,
    recommendations: &dyn RecommendationStore,
    limits: Limits,
    progress: &dyn Fn(u64, u64),
) -> Result<Rebuilt, StoreError> {
    let statuses = Some(vec![OrderStatus::Confirmed, OrderStatus::Shipped, OrderStatus::Delivered]);
    let filter = OrderFilter { statuses, ..OrderFilter::default() };
    let total = orders.list_orders(&filter, &PageRequest::first(1)).await?.total;
    let generation = recommendations.begin_rebuild().await?;
    while recommendations.remove_abandoned().await? {}
    let mut done = 0;
    let mut after: Option<String> = None;
    loop {
        progress(done, total.max(done));
        let page = orders.bought_orders(after.as_deref(), ORDERS_AT_ONCE).await?;
        let Some((cursor, _)) = page.last() else { break };
        after = Some(cursor.clone());
        done += page.len() as u64;
        let purchases = page.into_iter().map(|(_, order)| purchase_of(order)).collect();
        if recommendations.rebuild(generation, purchases, limits).await? == RebuildStep::Superseded {
            return Ok(Rebuilt::Superseded);
        }
    }
    if recommendations.finish_rebuild(generation).await? == RebuildStep::Superseded {
        return Ok(Rebuilt::Superseded);
    }
    while recommendations.remove_abandoned().await? {}
    Ok(Rebuilt::Done(done))
}

fn purchase_of(order: Order) -> Purchase {
    let confirmed = order.timeline.iter().find(|entry| entry.status == OrderStatus::Confirmed);
    let at = confirmed.map_or(order.created_at, |entry| entry.at);
    let lines = order
        .lines
        .into_iter()
        .map(|line| PurchasedLine { product_id: line.product_id, category: line.category })
        .collect();
    Purchase { order_id: order.id, user_id: order.customer_id, at, lines }
}
