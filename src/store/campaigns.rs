//! Port of the campaigns, which live in the products database: launched once a key, written out chunk by chunk.

use async_trait::async_trait;

use super::StoreError;
use super::consumption::{Consumed, Consumption};
use crate::domain::campaigns::{Campaign, Step};
use crate::domain::events::PendingEvent;
use crate::domain::ids::CampaignId;
use crate::domain::page::{Page, PageRequest};
use crate::domain::time::Timestamp;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LaunchCampaign {
    Launched,
    /// The key has launched this one: nothing was stored.
    Existing(Box<Campaign>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdvanceCampaign {
    Advanced(Box<Campaign>),
    /// Somebody else has moved the campaign on: nothing was written.
    Lost,
}

#[async_trait]
pub trait CampaignStore: Send + Sync {
    /// Stores a campaign with its event, unless there is one of its key.
    async fn launch_campaign(&self, campaign: Campaign, event: PendingEvent) -> Result<LaunchCampaign, StoreError>;

    /// Launches what a group's events ask for, in one commit with its progress; a key that was used is passed over.
    async fn launch_campaigns(
        &self,
        campaigns: Vec<(Campaign, PendingEvent)>,
        consumption: Consumption,
    ) -> Result<Consumed<()>, StoreError>;

    /// Those that exist, in no order.
    async fn campaigns(&self, ids: &[CampaignId]) -> Result<Vec<Campaign>, StoreError>;

    /// Newest first.
    async fn list_campaigns(&self, page: &PageRequest) -> Result<Page<Campaign>, StoreError>;

    /// The oldest that is not finished.
    async fn unfinished_campaign(&self) -> Result<Option<Campaign>, StoreError>;

    /// Moves a campaign on by a step (`domain::campaigns::Campaign::advance`) and saves its chunk with it, if its cursor
    /// is still where the step begins.
    async fn advance_campaign(&self, id: CampaignId, step: Step, at: Timestamp) -> Result<AdvanceCampaign, StoreError>;

    /// Up to when the slots of a schedule are done with; one that was never seen begins `at` this moment.
    async fn see_schedule(&self, name: &str, at: Timestamp) -> Result<Timestamp, StoreError>;

    /// Launches the campaign of a schedule's slot, unless the slot or a later one was fired. True: it was launched.
    async fn fire_schedule(
        &self,
        name: &str,
        slot: Timestamp,
        campaign: Campaign,
        event: PendingEvent,
    ) -> Result<bool, StoreError>;
}
