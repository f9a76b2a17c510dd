//! Group `orders`: stock's decisions to the orders actor, which confirms or rejects.

use std::time::Duration;

use async_trait::async_trait;

use super::consumer::{BatchHandler, BatchOutcome, ConsumedEvent, EventFailure, HandlerError};
use crate::actors::Address;
use crate::actors::orders::OrderActor;
use crate::actors::orders::messages::ApplyVerdicts;
use crate::domain::events::{InventoryDecided, Topic, event_type};
use crate::domain::orders::Verdict;
use crate::store::consumption::Consumption;

pub struct VerdictHandler {
    orders: Address<OrderActor>,
    deadline: Duration,
}

impl VerdictHandler {
    pub const GROUP: &str = "orders";
    pub const TOPICS: [Topic; 1] = [Topic::InventoryEvents];

    pub fn new(orders: Address<OrderActor>, deadline: Duration) -> Self {
        Self { orders, deadline }
    }
}

#[async_trait]
impl BatchHandler for VerdictHandler {
    fn wants(&self, event_type: &str) -> bool {
        matches!(event_type, event_type::INVENTORY_RESERVED | event_type::INVENTORY_REJECTED)
    }

    async fn handle(&self, events: &[ConsumedEvent], consumption: Consumption) -> Result<BatchOutcome, HandlerError> {
        let mut verdicts = Vec::with_capacity(events.len());
        let mut failures = Vec::new();
        for (position, event) in events.iter().enumerate() {
            match event.body::<InventoryDecided>() {
                Ok(decided) => {
                    let order_id = decided.order_id;
                    verdicts
                        .extend(Verdict::from_event(event.event_type(), decided).map(|verdict| (order_id, verdict)));
                }
                Err(error) => failures.push(EventFailure::undecodable(position, &error)),
            }
        }
        if !failures.is_empty() {
            return Ok(BatchOutcome::Failed(failures));
        }
        // Ahead of the customers: a flood of new orders must not hold up the verdicts on those that are placed.
        let applied = self.orders.ask_critical(ApplyVerdicts { verdicts, consumption }, self.deadline).await;
        Ok(applied??.into())
    }
}
