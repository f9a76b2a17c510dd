//! Group `recommendations`: confirmed and cancelled orders, and deleted users, to the recommendations actor.

use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;

use super::consumer::{BatchHandler, BatchOutcome, ConsumedEvent, EventFailure, HandlerError};
use super::envelope::{DecodeError, Envelope};
use crate::actors::Address;
use crate::actors::recommendations::RecommendationActor;
use crate::actors::recommendations::messages::ApplyHistory;
use crate::domain::events::{Topic, event_type};
use crate::domain::ids::{OrderId, UserId};
use crate::domain::recommendations::{HistoryChange, Purchase, PurchasedLine};
use crate::store::consumption::Consumption;

/// Of `OrderChanged`, as far as recommendations are concerned.
#[derive(Deserialize)]
struct BoughtLines {
    order_id: OrderId,
    customer_id: UserId,
    lines: Vec<PurchasedLine>,
}

/// Of `UserChanged`.
#[derive(Deserialize)]
struct Deleted {
    user_id: UserId,
}

pub struct RecommendationHandler {
    recommendations: Address<RecommendationActor>,
    deadline: Duration,
}

impl RecommendationHandler {
    pub const GROUP: &str = "recommendations";
    pub const TOPICS: [Topic; 2] = [Topic::OrderEvents, Topic::UserEvents];

    pub fn new(recommendations: Address<RecommendationActor>, deadline: Duration) -> Self {
        Self { recommendations, deadline }
    }
}

fn change_of(event: &ConsumedEvent) -> Result<HistoryChange, DecodeError> {
    if event.event_type() == event_type::USER_DELETED {
        return Ok(HistoryChange::UserDeleted(event.body::<Deleted>()?.user_id));
    }
    let BoughtLines { order_id, customer_id, lines } = event.body()?;
    let purchase = Purchase { order_id, user_id: customer_id, at: Envelope::time(&event.record)?, lines };
    Ok(if event.event_type() == event_type::ORDER_CANCELLED {
        HistoryChange::Cancelled(purchase)
    } else {
        HistoryChange::Bought(purchase)
    })
}

#[async_trait]
impl BatchHandler for RecommendationHandler {
    fn wants(&self, event_type: &str) -> bool {
        matches!(event_type, event_type::ORDER_CONFIRMED | event_type::ORDER_CANCELLED | event_type::USER_DELETED)
    }

    async fn handle(&self, events: &[ConsumedEvent], consumption: Consumption) -> Result<BatchOutcome, HandlerError> {
        let mut changes = Vec::with_capacity(events.len());
        let mut failures = Vec::new();
        for (position, event) in events.iter().enumerate() {
            match change_of(event) {
                Ok(change) => changes.push(change),
                Err(error) => failures.push(EventFailure::undecodable(position, &error)),
            }
        }
        if !failures.is_empty() {
            return Ok(BatchOutcome::Failed(failures));
        }
        let message = ApplyHistory { changes, consumption };
        let applied = self.recommendations.ask_critical(message, self.deadline).await;
        Ok(applied??.into())
    }
}
