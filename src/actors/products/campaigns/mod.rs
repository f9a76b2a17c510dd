//! The campaigns actor, a part of the products domain: launches campaigns and runs them.
//!
//! A launch is stored with its event and answered; group `campaigns` brings that event back to whichever process runs
//! campaigns, whose [`runner`] writes the chunks.

pub mod messages;
pub mod neighbours;
pub mod runner;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use actix::{Actor, AsyncContext, Context, Handler, ResponseFuture, Supervised, WrapFuture};
use tokio::sync::Notify;
use uuid::Uuid;

use self::messages::{GetCampaigns, LaunchCampaign, ListCampaigns, TakeNews};
use self::runner::{CampaignTools, run};
use crate::actors::errors::DomainError;
use crate::domain::campaign_triggers::WhatHappened;
use crate::domain::campaigns::{Campaign, LaunchKey};
use crate::domain::ids::{CampaignId, TypedId};
use crate::domain::page::Page;
use crate::store::StoreError;
use crate::store::campaigns::LaunchCampaign as Launched;
use crate::store::consumption::Consumed;

pub struct CampaignActor {
    tools: Arc<CampaignTools>,
    work: Arc<Notify>,
}

impl CampaignActor {
    pub fn new(tools: Arc<CampaignTools>) -> Self {
        Self { tools, work: Arc::default() }
    }
}

impl Actor for CampaignActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        if self.tools.runs {
            ctx.spawn(run(Arc::clone(&self.tools), Arc::clone(&self.work)).into_actor(self));
        }
    }
}

impl Supervised for CampaignActor {}

fn new_id() -> CampaignId {
    CampaignId::from_uuid(Uuid::now_v7())
}

impl Handler<LaunchCampaign> for CampaignActor {
    type Result = ResponseFuture<Result<Campaign, DomainError>>;

    fn handle(
        &mut self,
        LaunchCampaign { idempotency_key, pitch }: LaunchCampaign,
        _: &mut Context<Self>,
    ) -> Self::Result {
        let tools = Arc::clone(&self.tools);
        Box::pin(async move {
            let key = LaunchKey::Staff(idempotency_key);
            key.check()?;
            pitch.check()?;
            let (campaign, event) = Campaign::launch(new_id(), &key, pitch, (tools.clock)());
            match tools.store.launch_campaign(campaign.clone(), event).await? {
                Launched::Launched => {
                    tools.metrics.launched.with_label_values(&["staff"]).inc();
                    Ok(campaign)
                }
                Launched::Existing(existing) if existing.pitch == campaign.pitch => Ok(*existing),
                Launched::Existing(_) => Err(DomainError::IdempotencyKeyReused),
            }
        })
    }
}

impl Handler<GetCampaigns> for CampaignActor {
    type Result = ResponseFuture<Result<Vec<Campaign>, DomainError>>;

    fn handle(&mut self, GetCampaigns { ids }: GetCampaigns, _: &mut Context<Self>) -> Self::Result {
        let tools = Arc::clone(&self.tools);
        Box::pin(async move { Ok(tools.store.campaigns(&ids).await?) })
    }
}

impl Handler<ListCampaigns> for CampaignActor {
    type Result = ResponseFuture<Result<Page<Campaign>, DomainError>>;

    fn handle(&mut self, ListCampaigns { page }: ListCampaigns, _: &mut Context<Self>) -> Self::Result {
        let tools = Arc::clone(&self.tools);
        Box::pin(async move { Ok(tools.store.list_campaigns(&page).await?) })
    }
}

/// A neighbour that is away holds the events up, as the store would.
fn as_store_error(error: DomainError) -> StoreError {
    match error {
        DomainError::Internal(reason) => StoreError::Broken(reason),
        other => StoreError::Unavailable(other.to_string()),
    }
}

impl Handler<TakeNews> for CampaignActor {
    type Result = ResponseFuture<Result<Consumed<()>, StoreError>>;

    fn handle(&mut self, TakeNews { news, consumption }: TakeNews, _: &mut Context<Self>) -> Self::Result {
        let (tools, work) = (Arc::clone(&self.tools), Arc::clone(&self.work));
        Box::pin(async move {
            let now = (tools.clock)();
            let mut campaigns = Vec::new();
            for news in news.iter().filter(|news| !news.is_stale(now)) {
                let pitch = match &news.what {
                    WhatHappened::Edited(change) => tools.triggers.pitch_of_edit(change),
                    WhatHappened::StockMoved(change) if tools.triggers.is_return(change) => {
                        let product = tools.neighbours.product(change.product_id).await.map_err(as_store_error)?;
                        product.and_then(|product| tools.triggers.pitch_of_return(&product))
                    }
                    WhatHappened::StockMoved(_) => None,
                };
                campaigns.extend(pitch.map(|pitch| news.campaign(new_id(), pitch, now)));
            }
            let triggered = campaigns.len() as u64;
            let taken = tools.store.launch_campaigns(campaigns, consumption).await;
            if let Ok(Consumed::Done(())) = taken {
                tools.metrics.launched.with_label_values(&["trigger"]).inc_by(triggered);
            }
            // Also when it was lost: whoever was faster may be a life of this actor that ended before it ran anything.
            work.notify_one();
            taken
        })
    }
}
