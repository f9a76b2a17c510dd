//! What the campaigns actor can be asked.

use actix::Message;

use crate::actors::errors::DomainError;
use crate::domain::campaign_triggers::ProductNews;
use crate::domain::campaigns::{Campaign, Pitch};
use crate::domain::ids::CampaignId;
use crate::domain::page::{Page, PageRequest};
use crate::store::StoreError;
use crate::store::consumption::{Consumed, Consumption};

/// Launches a campaign, once for each key. Refusals: InvalidInput (`subject`, `message`, `category`, `idempotencyKey`),
/// IdempotencyKeyReused.
#[derive(Message)]
#[rtype(result = "Result<Campaign, DomainError>")]
pub struct LaunchCampaign {
    pub idempotency_key: String,
    pub pitch: Pitch,
}

/// Those that exist, in no order.
#[derive(Message)]
#[rtype(result = "Result<Vec<Campaign>, DomainError>")]
pub struct GetCampaigns {
    pub ids: Vec<CampaignId>,
}

/// Newest first. Refusal: InvalidInput (`after`).
#[derive(Message)]
#[rtype(result = "Result<Page<Campaign>, DomainError>")]
pub struct ListCampaigns {
    pub page: PageRequest,
}

/// Launches what these events ask for, with the offset of the events, and goes on with what is not finished.
#[derive(Message)]
#[rtype(result = "Result<Consumed<()>, StoreError>")]
pub struct TakeNews {
    pub news: Vec<ProductNews>,
    pub consumption: Consumption,
}
