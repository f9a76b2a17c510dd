//! Group `inventory`: placed and cancelled orders, in log order, to the products actor, which decides them.

use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;

use super::consumer::{BatchHandler, BatchOutcome, ConsumedEvent, EventFailure, HandlerError};
use crate::actors::Address;
use crate::actors::products::ProductActor;
use crate::actors::products::messages::DecideInventory;
use crate::domain::events::{Topic, event_type};
use crate::domain::ids::OrderId;
use crate::domain::inventory::{InventoryRequest, WantedLine};
use crate::store::consumption::Consumption;

/// Of `OrderChanged`, as far as stock is concerned.
#[derive(Deserialize)]
struct OrderedLines {
    order_id: OrderId,
    lines: Vec<WantedLine>,
}

pub struct InventoryHandler {
    products: Address<ProductActor>,
    deadline: Duration,
}

impl InventoryHandler {
    pub const GROUP: &str = "inventory";
    pub const TOPICS: [Topic; 1] = [Topic::OrderEvents];

    pub fn new(products: Address<ProductActor>, deadline: Duration) -> Self {
        Self { products, deadline }
    }
}

#[async_trait]
impl BatchHandler for InventoryHandler {
    fn wants(&self, event_type: &str) -> bool {
        matches!(event_type, event_type::ORDER_PLACED | event_type::ORDER_CANCELLED)
    }

    async fn handle(&self, events: &[ConsumedEvent], consumption: Consumption) -> Result<BatchOutcome, HandlerError> {
        let mut requests = Vec::with_capacity(events.len());
        let mut touched = Vec::new();
        let mut failures = Vec::new();
        for (position, event) in events.iter().enumerate() {
            let order: OrderedLines = match event.body() {
                Ok(order) => order,
                Err(error) => {
                    failures.push(EventFailure::undecodable(position, &error));
                    continue;
                }
            };
            touched.extend(order.lines.iter().map(|line| line.product_id));
            let order_id = order.order_id;
            requests.push(if event.event_type() == event_type::ORDER_CANCELLED {
                InventoryRequest::Cancelled { order_id }
            } else {
                InventoryRequest::Placed { order_id, lines: order.lines }
            });
        }
        if !failures.is_empty() {
            return Ok(BatchOutcome::Failed(failures));
        }
        touched.sort_unstable();
        touched.dedup();
        let decided = self.products.ask(DecideInventory { requests, touched, consumption }, self.deadline).await;
        Ok(decided??.into())
    }
}
