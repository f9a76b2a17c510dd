//! The campaigns' part of the products domain: what its actor works with.

use std::sync::Arc;
use std::time::Duration;

use super::{AppError, Stores};
use crate::actors::Address;
use crate::actors::clock::now;
use crate::actors::products::ProductActor;
use crate::actors::products::campaigns::CampaignActor;
use crate::actors::products::campaigns::neighbours::NeighbourActors;
use crate::actors::products::campaigns::runner::CampaignTools;
use crate::actors::recommendations::RecommendationActor;
use crate::actors::supervisor::ActorSpec;
use crate::actors::users::UserActor;
use crate::config::{Config, Role};
use crate::telemetry::Metrics;

/// How often a campaign is looked for whose process has stopped.
const LOOK_EVERY: Duration = Duration::from_secs(10);

pub(super) fn spec(
    config: &Config,
    stores: &Stores,
    metrics: &Metrics,
    users: Address<UserActor>,
    products: Address<ProductActor>,
    recommendations: Address<RecommendationActor>,
) -> Result<ActorSpec<CampaignActor>, AppError> {
    let ask_deadline = Duration::from_millis(config.supervision.ask_timeout_ms);
    let tools = Arc::new(CampaignTools {
        store: Arc::clone(&stores.campaigns),
        neighbours: Arc::new(NeighbourActors { users, products, recommendations, ask_deadline }),
        schedules: config.campaigns.schedules().map_err(AppError::usage)?,
        triggers: config.campaigns.triggers(),
        clock: now,
        metrics: metrics.campaigns.clone(),
        runs: config.roles.has(Role::Campaigns),
        look_every: (!stores.serve_one_process).then_some(LOOK_EVERY),
    });
    Ok(ActorSpec::new("products.campaigns", move || Ok(CampaignActor::new(Arc::clone(&tools)))))
}
