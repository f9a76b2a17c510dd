//! `souk recommendations rebuild`: counts every bought order into a new generation, which then replaces the live one.
//!
//! The one place outside the orders domain that reads its store. A server may serve meanwhile: what it applies goes to
//! both generations, and each counts an order once. What a rebuild that was cut off has left is removed by the next.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use crate::domain::orders::{Order, OrderFilter, OrderStatus};
use crate::domain::page::PageRequest;
use crate::domain::recommendations::{Limits, Purchase, PurchasedLine};
use crate::store::StoreError;
use crate::store::orders::OrderStore;
use crate::store::recommendations::{RebuildStep, RecommendationStore};

/// Orders of one commit. What many orders have in common is written once, so the more the better, as long as a server's
/// own writes come in between.
const ORDERS_AT_ONCE: RangeInclusive<u32> = 500..=8_000;
/// How long a commit should take at most.
const COMMIT: Duration = Duration::from_millis(500);

/// How many orders the next commit takes, after one that took so long.
fn orders_at_once(present: u32, took: Duration) -> u32 {
    let next = if took < COMMIT / 2 {
        present.saturating_mul(2)
    } else if took > COMMIT {
        present / 2
    } else {
        present
    };
    next.clamp(*ORDERS_AT_ONCE.start(), *ORDERS_AT_ONCE.end())
}

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
    let mut at_once = *ORDERS_AT_ONCE.start();
    loop {
        progress(done, total.max(done));
        let page = orders.bought_orders(after.as_deref(), at_once).await?;
        let Some((cursor, _)) = page.last() else { break };
        after = Some(cursor.clone());
        done += page.len() as u64;
        let purchases = page.into_iter().map(|(_, order)| purchase_of(order)).collect();
        let began = Instant::now();
        if recommendations.rebuild(generation, purchases, limits).await? == RebuildStep::Superseded {
            return Ok(Rebuilt::Superseded);
        }
        at_once = orders_at_once(at_once, began.elapsed());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_takes_as_many_orders_as_it_has_time_for_within_bounds() {
        let mut at_once = *ORDERS_AT_ONCE.start();
        for expected in [1_000, 2_000, 4_000, 8_000, 8_000] {
            at_once = orders_at_once(at_once, Duration::from_millis(20));
            assert_eq!(at_once, expected);
        }
        assert_eq!(orders_at_once(at_once, COMMIT), at_once, "as it should be");
        for expected in [4_000, 2_000, 1_000, 500, 500] {
            at_once = orders_at_once(at_once, Duration::from_secs(2));
            assert_eq!(at_once, expected);
        }
    }
}
