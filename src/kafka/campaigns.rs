//! Group `campaigns`: launched campaigns to be run, and what products tell that may launch one.

use std::time::Duration;

use async_trait::async_trait;

use super::consumer::{BatchHandler, BatchOutcome, ConsumedEvent, EventFailure, HandlerError};
use super::envelope::{DecodeError, Envelope};
use crate::actors::Address;
use crate::actors::products::campaigns::CampaignActor;
use crate::actors::products::campaigns::messages::TakeNews;
use crate::domain::campaign_triggers::{ProductNews, TriggerRules, WhatHappened};
use crate::domain::events::{Topic, event_type};
use crate::store::consumption::Consumption;

pub struct CampaignHandler {
    campaigns: Address<CampaignActor>,
    triggers: TriggerRules,
    deadline: Duration,
}

impl CampaignHandler {
    pub const GROUP: &str = "campaigns";
    pub const TOPICS: [Topic; 3] = [Topic::PromotionalEvents, Topic::ProductEvents, Topic::InventoryEvents];

    pub fn new(campaigns: Address<CampaignActor>, triggers: TriggerRules, deadline: Duration) -> Self {
        Self { campaigns, triggers, deadline }
    }
}

/// What an event tells of a product; nothing when it tells of a launched campaign.
fn news_of(event: &ConsumedEvent) -> Result<Option<ProductNews>, DecodeError> {
    let what = match event.event_type() {
        event_type::PRODUCT_UPDATED => WhatHappened::Edited(event.body()?),
        event_type::STOCK_CHANGED => WhatHappened::StockMoved(event.body()?),
        _ => return Ok(None),
    };
    Ok(Some(ProductNews { event_id: event.original_id().to_owned(), at: Envelope::time(&event.record)?, what }))
}

#[async_trait]
impl BatchHandler for CampaignHandler {
    fn wants(&self, event_type: &str) -> bool {
        match event_type {
            event_type::CAMPAIGN_LAUNCHED => true,
            event_type::PRODUCT_UPDATED => self.triggers.price_cut_percent > 0,
            // Comes with every order: only whom it concerns reads it.
            event_type::STOCK_CHANGED => self.triggers.back_in_stock,
            _ => false,
        }
    }

    async fn handle(&self, events: &[ConsumedEvent], consumption: Consumption) -> Result<BatchOutcome, HandlerError> {
        let mut news = Vec::new();
        let mut failures = Vec::new();
        for (position, event) in events.iter().enumerate() {
            match news_of(event) {
                Ok(told) => news.extend(told),
                Err(error) => failures.push(EventFailure::undecodable(position, &error)),
            }
        }
        if !failures.is_empty() {
            return Ok(BatchOutcome::Failed(failures));
        }
        Ok(self.campaigns.ask(TakeNews { news, consumption }, self.deadline).await??.into())
    }
}
