//! The schema: the areas put together, its limits, its text.

use async_graphql::{MergedObject, MergedSubscription, Request, SDLExportOptions, Schema, SchemaBuilder};

use super::access::{Guarded, Owned, annotate};
use super::context::{RequestInfo, Shop, Viewer};
use super::loaders::Loaders;
use super::node::NodeQuery;
use super::order_placement::OrderPlacementMutation;
use super::order_updates::OrderSubscription;
use super::orders::{OrderMutation, OrderQuery};
use super::products::{ProductMutation, ProductQuery};
use super::sessions::SessionMutation;
use super::stock_updates::StockSubscription;
use super::supervision::{SupervisionQuery, SupervisionSubscription};
use super::users::{UserMutation, UserQuery};
use crate::domain::ids::UserId;

/// What can be read.
#[derive(MergedObject, Default)]
#[graphql(name = "Query")]
pub struct QueryAreas(NodeQuery, UserQuery, ProductQuery, OrderQuery, SupervisionQuery);

/// What can be changed.
#[derive(MergedObject, Default)]
#[graphql(name = "Mutation")]
pub struct MutationAreas(SessionMutation, UserMutation, ProductMutation, OrderPlacementMutation, OrderMutation);

/// What can be watched.
#[derive(MergedSubscription, Default)]
#[graphql(name = "Subscription")]
pub struct SubscriptionAreas(OrderSubscription, StockSubscription, SupervisionSubscription);

macro_rules! roots {
    ($($areas:ident),*) => {$(
        /// A root belongs to nobody.
        impl Owned for $areas {
            fn owner(&self) -> Option<UserId> {
                None
            }
        }
    )*};
}
roots!(QueryAreas, MutationAreas, SubscriptionAreas);

pub type SoukSchema = Schema<Guarded<QueryAreas>, Guarded<MutationAreas>, Guarded<SubscriptionAreas>>;

/// What a request may ask at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchemaLimits {
    /// Levels of fields.
    pub max_depth: usize,
    /// The sum of the fields' costs: see `connections`.
    pub max_complexity: usize,
    /// Directives on one field.
    pub max_directives: usize,
    /// False hides the schema from clients.
    pub introspection: bool,
}

impl Default for SchemaLimits {
    fn default() -> Self {
        // GraphiQL's own introspection is 15 levels deep.
        Self { max_depth: 16, max_complexity: 10_000, max_directives: 8, introspection: true }
    }
}

type Builder = SchemaBuilder<Guarded<QueryAreas>, Guarded<MutationAreas>, Guarded<SubscriptionAreas>>;

fn builder() -> Builder {
    Schema::build(
        Guarded(QueryAreas::default()),
        Guarded(MutationAreas::default()),
        Guarded(SubscriptionAreas::default()),
    )
    .disable_suggestions()
}

/// The schema in front of a shop.
pub fn build_schema(shop: Shop, limits: SchemaLimits) -> SoukSchema {
    let builder = builder()
        .data(shop)
        .limit_depth(limits.max_depth)
        .limit_complexity(limits.max_complexity)
        .limit_directives(limits.max_directives)
        // Fragments inside fragments count here too: what is deeper is refused before it is looked at.
        .limit_recursive_depth(2 * limits.max_depth);
    if limits.introspection { builder.finish() } else { builder.disable_introspection().finish() }
}

/// A request with all that its resolvers need: who asks, where from, and loaders of its own.
pub fn with_viewer(request: Request, viewer: Viewer, info: RequestInfo) -> Request {
    request.data(viewer).data(info).data(Loaders::default())
}

/// The schema's text: what `souk schema print` prints and `schema.graphql` holds.
pub fn sdl() -> String {
    let options = SDLExportOptions::new().use_space_ident().prefer_single_line_descriptions();
    let text = builder().finish().sdl_with_options(options);
    // What every GraphQL server knows needs no declaration.
    let own: Vec<&str> = text.split_inclusive('\n').collect();
    let known = |line: &str| {
        ["@include", "@skip", "@deprecated"]
            .iter()
            .any(|name| line.strip_prefix("directive ").is_some_and(|rest| rest.starts_with(name)))
    };
    let mut kept = String::with_capacity(text.len());
    for (index, line) in own.iter().enumerate() {
        let describes_known = line.starts_with('"') && own.get(index + 1).is_some_and(|next| known(next));
        if !known(line) && !describes_known {
            kept.push_str(line);
        }
    }
    annotate(&kept)
}
