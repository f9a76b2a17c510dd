//! Campaigns, for staff: launched, and what became of them.

use async_graphql::{Context, Error, ID, InputObject, Object, SimpleObject};

use super::connections::{Connection, mutation_cost, page_cost, page_request};
use super::context::{Shop, Viewer, answered};
use super::cursors::CursorKind;
use super::errors::{Inputs, UserError, query_error, user_errors};
use super::scalars::{Cursor, DateTime};
use crate::actors::errors::DomainError;
use crate::actors::notifications::messages::CampaignCounts;
use crate::actors::products::campaigns::messages::{GetCampaigns, LaunchCampaign, ListCampaigns};
use crate::domain::campaigns::{Audience, Campaign as DomainCampaign, Pitch};
use crate::domain::ids::CampaignId;
use crate::domain::notifications::CampaignTally;

/// A campaign with what became of its notifications.
pub struct Campaign {
    campaign: DomainCampaign,
    tally: CampaignTally,
}

fn int(count: impl TryInto<i32>) -> i32 {
    count.try_into().unwrap_or(i32::MAX)
}

/// One message to many users.
#[Object]
impl Campaign {
    /// The campaign's id.
    pub async fn id(&self) -> ID {
        self.campaign.id.to_string().into()
    }

    /// The subject of its mails.
    async fn subject(&self) -> &str {
        &self.campaign.pitch.subject
    }

    /// Only those who bought something of this category were written to.
    async fn category(&self) -> Option<&str> {
        self.campaign.pitch.audience.category()
    }

    /// How many users it goes to; it grows until the whole audience has been gone through.
    async fn audience_size(&self) -> i32 {
        int(self.campaign.audience_size)
    }

    /// How many of its notifications wait to be sent.
    async fn queued(&self) -> i32 {
        int(self.tally.queued)
    }

    /// How many of its notifications were sent.
    async fn sent(&self) -> i32 {
        int(self.tally.sent)
    }

    /// How many of its notifications were not to be sent: the user has opted out since, or has had too many.
    async fn skipped(&self) -> i32 {
        int(self.tally.skipped)
    }

    /// When it was launched.
    async fn launched_at(&self) -> DateTime {
        DateTime(self.campaign.launched_at)
    }
}

/// The campaigns with their counts, in the same order.
async fn counted(shop: &Shop, campaigns: Vec<DomainCampaign>) -> Result<Vec<Campaign>, DomainError> {
    if campaigns.is_empty() {
        return Ok(Vec::new());
    }
    let ids = campaigns.iter().map(|campaign| campaign.id).collect();
    let tallies = answered(shop.notifications.ask(CampaignCounts { ids }, shop.ask_deadline).await)?;
    let tally_of = |id: CampaignId| tallies.iter().find(|(of, _)| *of == id).map(|(_, tally)| *tally);
    let with_tally = |campaign: DomainCampaign| Campaign { tally: tally_of(campaign.id).unwrap_or_default(), campaign };
    Ok(campaigns.into_iter().map(with_tally).collect())
}

/// The campaign of an id, for staff; to everybody else there is none.
pub async fn visible_campaign(ctx: &Context<'_>, id: CampaignId) -> Result<Option<Campaign>, Error> {
    if !Viewer::of(ctx).is_staff() {
        return Ok(None);
    }
    let shop = ctx.data::<Shop>()?;
    let found = async {
        let campaigns = answered(shop.campaigns.ask(GetCampaigns { ids: vec![id] }, shop.ask_deadline).await)?;
        counted(shop, campaigns).await
    };
    Ok(found.await.map_err(|error| query_error(ctx, error))?.pop())
}

#[derive(Default)]
pub struct CampaignQuery;

#[Object]
impl CampaignQuery {
    /// Campaigns, newest first: those of staff, of schedules and of events.
    #[graphql(complexity = "page_cost(first, child_complexity)")]
    async fn campaigns(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The size of the page: 1 to 100, 20 unless given.")] first: Option<i32>,
        #[graphql(desc = "The page starts after this cursor.")] after: Option<Cursor>,
    ) -> Result<Connection<Campaign>, Error> {
        let page = page_request(ctx, first, after.as_ref(), CursorKind::Campaigns)?;
        let shop = ctx.data::<Shop>()?;
        let listed = async {
            let page = answered(shop.campaigns.ask(ListCampaigns { page }, shop.ask_deadline).await)?;
            let campaigns = page.entries.iter().map(|(_, campaign)| campaign.clone()).collect();
            Ok((page, counted(shop, campaigns).await?))
        };
        let (page, campaigns) = listed.await.map_err(|error| query_error(ctx, error))?;
        let mut campaigns = campaigns.into_iter();
        let node = |campaign| campaigns.next().unwrap_or(Campaign { campaign, tally: CampaignTally::default() });
        Ok(Connection::of(page, CursorKind::Campaigns, node))
    }
}

/// A new campaign.
#[derive(InputObject)]
pub struct CampaignLaunchInput {
    /// Repeating the same request under the same key launches once. 1 to 255 characters.
    idempotency_key: String,
    /// The subject of the mails, 1 to 200 characters.
    subject: String,
    /// What they say, plain text, 1 to 5,000 characters.
    message: String,
    /// Only to those who bought something of this category. 1 to 100 characters.
    category: Option<String>,
}

/// What `campaignLaunch` answers.
#[derive(SimpleObject)]
pub struct CampaignPayload {
    /// The campaign; null when it was refused.
    campaign: Option<Campaign>,
    /// Why nothing was launched; empty when it was.
    user_errors: Vec<UserError>,
}

#[derive(Default)]
pub struct CampaignMutation;

#[Object]
impl CampaignMutation {
    /// Writes to every user who wants promotions, or of these to those who bought something of a category.
    #[graphql(complexity = "mutation_cost(child_complexity)")]
    async fn campaign_launch(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The new campaign.")] input: CampaignLaunchInput,
    ) -> Result<CampaignPayload, Error> {
        let shop = ctx.data::<Shop>()?;
        let CampaignLaunchInput { idempotency_key, subject, message, category } = input;
        let pitch = Pitch { subject, message, audience: category.map_or(Audience::Everybody, Audience::BuyersOf) };
        let launched = async {
            let message = LaunchCampaign { idempotency_key, pitch };
            let campaign = answered(shop.campaigns.ask(message, shop.ask_deadline).await)?;
            Ok(counted(shop, vec![campaign]).await?.pop())
        };
        Ok(match launched.await {
            Ok(campaign) => CampaignPayload { campaign, user_errors: Vec::new() },
            Err(error) => CampaignPayload { campaign: None, user_errors: user_errors(ctx, Inputs::OBJECT, error)? },
        })
    }
}
