//! Waiting for stock's verdict about an order that is stored.
//!
//! The order's live key is watched before the first read, so a verdict between the two is not missed. A wake only says
//! that something happened; the store says what.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::OrderActor;
use super::messages::GetOrders;
use crate::actors::Address;
use crate::actors::live::{LiveHub, LiveKey};
use crate::domain::ids::UserId;
use crate::domain::orders::{Order, OrderStatus};

/// How long a read may take at least.
const SHORTEST_READ: Duration = Duration::from_millis(100);

/// The order once it is no longer PENDING, or as it was last seen when `wait` is over or the process ends. A read that
/// fails is as good as no news: the order is stored, and its customer is told so.
pub async fn await_verdict(
    orders: &Address<OrderActor>,
    live: &LiveHub,
    mut order: Order,
    customer: UserId,
    wait: Duration,
    ask_deadline: Duration,
) -> Order {
    if order.status != OrderStatus::Pending || wait.is_zero() {
        return order;
    }
    let give_up = Instant::now() + wait;
    // Long enough for one look at the store, however short the wait.
    let read_deadline = ask_deadline.min(wait.max(SHORTEST_READ));
    let mut watch = live.watch(LiveKey::Order(order.id));
    let mut is_over = false;
    loop {
        let message = GetOrders { ids: vec![order.id], customer_id: Some(customer) };
        if let Ok(Ok(mut found)) = orders.ask(message, read_deadline).await
            && let Some(now) = found.pop()
        {
            order = now;
        }
        if order.status != OrderStatus::Pending || is_over || Instant::now() >= give_up {
            return order;
        }
        // When the time is over without a wake, the store has the last word.
        tokio::select! {
            _ = timeout_at(give_up, watch.changed()) => {}
            () = live.waits_over() => is_over = true,
        }
    }
}
