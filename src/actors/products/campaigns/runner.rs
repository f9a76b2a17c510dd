//! Runs campaigns: fires the slots that are due, goes on with what is not finished, then sleeps until the next slot or
//! until it is woken.
//!
//! It keeps nothing that a restart could lose: each step begins at the cursor that the store has, and is written only if
//! the cursor is still there.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use uuid::Uuid;

use super::neighbours::Neighbours;
use crate::actors::errors::DomainError;
use crate::domain::campaign_triggers::TriggerRules;
use crate::domain::campaigns::{Audience, Campaign, Step};
use crate::domain::events::CampaignRecipient;
use crate::domain::ids::{CampaignId, TypedId, UserId};
use crate::domain::schedules::Schedule;
use crate::domain::time::Timestamp;
use crate::store::campaigns::{AdvanceCampaign, CampaignStore};
use crate::telemetry::metrics::CampaignMetrics;

/// Users looked at in one step. With five names of products for each the chunk stays well below what the log takes.
pub const USERS_PER_STEP: u32 = 250;

/// Categories and products that a favourites campaign names to one user.
const FAVOURITE_CATEGORIES: u32 = 3;
const PRODUCTS_PER_USER: usize = 5;

/// While something that a step needs is away, from and to.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// Slots are looked for at least this often while there are schedules, also while a campaign is written out: the clock may
/// have been set, and a slot that has passed is made up for an hour only ([`Schedule::due`]).
const BETWEEN_LOOKS: Duration = Duration::from_secs(60);

/// What the campaigns actor works with.
pub struct CampaignTools {
    pub store: Arc<dyn CampaignStore>,
    pub neighbours: Arc<dyn Neighbours>,
    pub schedules: Vec<Schedule>,
    pub triggers: TriggerRules,
    pub clock: fn() -> Timestamp,
    pub metrics: CampaignMetrics,
    /// Whether this process fires schedules and writes campaigns out; else it only launches and shows them.
    pub runs: bool,
    /// How often a campaign is looked for that does not move, because its process has stopped; `None`: there is no other.
    pub look_every: Option<Duration>,
}

/// A campaign, and where its cursor is.
type Place = (CampaignId, Option<UserId>);

/// Works until it is dropped.
pub(super) async fn run(tools: Arc<CampaignTools>, work: Arc<Notify>) {
    let mut pause = RETRY.0;
    // At the start anything may be left.
    let (mut is_told, mut seen) = (true, None);
    loop {
        let sleep = match tools.do_what_is_due(is_told, &mut seen).await {
            Ok(()) => {
                pause = RETRY.0;
                is_told = false;
                tools.until_next_slot().into_iter().chain(tools.look_every).min()
            }
            Err(error) => {
                // Once an outage.
                if pause == RETRY.0 {
                    tracing::warn!(%error, "campaigns wait for a part of the shop");
                }
                // What was begun is not finished, and a slot may have been fired.
                is_told = true;
                let now = pause;
                pause = (pause * 2).min(RETRY.1);
                Some(now)
            }
        };
        tokio::select! {
            () = work.notified() => is_told = true,
            () = sleep_for(sleep) => {}
        }
    }
}

async fn sleep_for(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

impl CampaignTools {
    /// All that is unfinished, when this process is told of something or fires a slot. Else a campaign is another process's,
    /// as long as it moves: `seen` is where one was at the last look.
    async fn do_what_is_due(&self, is_told: bool, seen: &mut Option<Place>) -> Result<(), DomainError> {
        if !self.fire_due_slots().await? && !is_told {
            let before = seen.take();
            *seen = self.store.unfinished_campaign().await?.map(|campaign| (campaign.id, campaign.cursor));
            if seen.is_none() || *seen != before {
                return Ok(());
            }
        }
        let mut looked_at = Instant::now();
        while let Some(campaign) = self.store.unfinished_campaign().await? {
            self.step(&campaign).await?;
            if looked_at.elapsed() >= BETWEEN_LOOKS {
                looked_at = Instant::now();
                self.fire_due_slots().await?;
            }
        }
        Ok(())
    }

    /// `None`: there is no schedule.
    fn until_next_slot(&self) -> Option<Duration> {
        let now = (self.clock)();
        let next = self.schedules.iter().filter_map(|schedule| schedule.next_after(now)).min()?;
        Some(Duration::from_millis(next.millis_since(now).max(1).unsigned_abs()).min(BETWEEN_LOOKS))
    }

    /// Whether this process fired one.
    async fn fire_due_slots(&self) -> Result<bool, DomainError> {
        let mut has_fired = false;
        for schedule in &self.schedules {
            let now = (self.clock)();
            let settled = self.store.see_schedule(&schedule.name, now).await?;
            let Some(slot) = schedule.due(settled, now) else { continue };
            let (campaign, event) = schedule.campaign(CampaignId::from_uuid(Uuid::now_v7()), slot, now);
            let id = campaign.id;
            if self.store.fire_schedule(&schedule.name, slot, campaign, event).await? {
                has_fired = true;
                self.metrics.launched.with_label_values(&["schedule"]).inc();
                tracing::info!(schedule = %schedule.name, %slot, campaign = %id, "schedule fired");
            }
        }
        Ok(has_fired)
    }

    async fn step(&self, campaign: &Campaign) -> Result<(), DomainError> {
        let users = self.neighbours.opted_in(campaign.cursor, USERS_PER_STEP).await?;
        let step = Step {
            from: campaign.cursor,
            to: users.last().copied(),
            is_last: users.len() < USERS_PER_STEP as usize,
            recipients: self.recipients(&campaign.pitch.audience, users).await?,
        };
        let recipients = step.recipients.len() as u64;
        // A step that is lost was written by another process: the next one begins where that left off.
        if let AdvanceCampaign::Advanced(_) = self.store.advance_campaign(campaign.id, step, (self.clock)()).await?
            && recipients > 0
        {
            self.metrics.chunks.inc();
            self.metrics.recipients.inc_by(recipients);
        }
        Ok(())
    }

    async fn recipients(
        &self,
        audience: &Audience,
        mut users: Vec<UserId>,
    ) -> Result<Vec<CampaignRecipient>, DomainError> {
        if users.is_empty() {
            return Ok(Vec::new());
        }
        match audience {
            Audience::Everybody => {}
            Audience::BuyersOf(category) => {
                let buyers: HashSet<_> =
                    self.neighbours.buyers_of(category, users.clone()).await?.into_iter().collect();
                users.retain(|user| buyers.contains(user));
            }
            Audience::Favourites => return self.with_favourites(users).await,
        }
        Ok(users.into_iter().map(|user_id| CampaignRecipient { user_id, products: Vec::new() }).collect())
    }

    /// Those for whom something is in stock, with what it is.
    async fn with_favourites(&self, users: Vec<UserId>) -> Result<Vec<CampaignRecipient>, DomainError> {
        let favourites = self.neighbours.favourite_categories(users, FAVOURITE_CATEGORIES).await?;
        let mut in_stock = BTreeMap::new();
        for category in favourites.iter().flat_map(|(_, categories)| categories) {
            if !in_stock.contains_key(category) {
                let products = self.neighbours.in_stock(category, PRODUCTS_PER_USER as u32).await?;
                in_stock.insert(category, products.into_iter().map(|product| product.name).collect::<Vec<_>>());
            }
        }
        let recipient = |(user_id, categories): &(UserId, Vec<String>)| {
            let shelves: Vec<_> = categories.iter().filter_map(|category| in_stock.get(category)).collect();
            // The first of each category, then the second of each.
            let products: Vec<String> = (0..PRODUCTS_PER_USER)
                .flat_map(|place| shelves.iter().filter_map(move |shelf| shelf.get(place)))
                .take(PRODUCTS_PER_USER)
                .cloned()
                .collect();
            (!products.is_empty()).then_some(CampaignRecipient { user_id: *user_id, products })
        };
        Ok(favourites.iter().filter_map(recipient).collect())
    }
}
