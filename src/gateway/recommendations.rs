//! Recommendations: what a user may want next and why, what they think of it, and when it changes.

use async_graphql::{Context, Error, ID, Object, SimpleObject, Subscription};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};

use super::access::Denied;
use super::connections::{list_cost, mutation_cost, page_size, root_cost};
use super::context::{RequestInfo, Shop, Viewer, answered};
use super::errors::{Inputs, UserError, query_error, top_level, user_errors};
use super::following::{FIRST_READ_ATTEMPTS, read_again_and_again};
use super::products::Product;
use crate::actors::errors::{DomainError, path};
use crate::actors::live::{LiveKey, LiveWatch};
use crate::actors::recommendations::messages::{GetRecommendations, Rate, Recommendation as Recommended};
use crate::domain::ids::UserId;
use crate::domain::page::DEFAULT_PAGE_SIZE;

/// A product that a user may want next.
#[derive(SimpleObject)]
pub struct Recommendation {
    /// The product: on sale and in stock.
    product: Product,
    /// About how likely it is wanted next, 0 to 1: good for comparing the entries of one list.
    score: f64,
    /// Why, in words a shopper understands.
    reason: String,
    /// The products that the reason is about.
    #[graphql(complexity = "list_cost(child_complexity)")]
    because_of: Vec<Product>,
}

impl From<Recommended> for Recommendation {
    fn from(recommended: Recommended) -> Self {
        Self {
            product: Product(recommended.product),
            score: recommended.score,
            reason: recommended.reason,
            because_of: recommended.because_of.into_iter().map(Product).collect(),
        }
    }
}

async fn read(shop: &Shop, user_id: UserId, first: u32, fresh: bool) -> Result<Vec<Recommended>, DomainError> {
    let message = GetRecommendations { user_id, first, fresh };
    answered(shop.recommendations.ask(message, shop.ask_deadline).await)
}

/// The recommendations of a user whom the viewer may see.
pub async fn list(ctx: &Context<'_>, user_id: UserId, first: Option<i32>) -> Result<Vec<Recommendation>, Error> {
    let recommended = read(ctx.data::<Shop>()?, user_id, page_size(first)?, false).await;
    Ok(recommended.map_err(|error| query_error(ctx, error))?.into_iter().map(Recommendation::from).collect())
}

/// What a rating answers.
#[derive(SimpleObject)]
pub struct RecommendationRatePayload {
    /// The user's recommendations after the rating; empty when it was refused.
    #[graphql(complexity = "list_cost(child_complexity)")]
    recommendations: Vec<Recommendation>,
    /// Why nothing was changed; empty when it was.
    user_errors: Vec<UserError>,
}

#[derive(Default)]
pub struct RecommendationMutation;

#[Object]
impl RecommendationMutation {
    /// Tells whether the signed-in user likes a product: what they do not like is not recommended to them any more. The
    /// last word counts.
    #[graphql(complexity = "mutation_cost(child_complexity)")]
    async fn recommendation_rate(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The product's id.")] product_id: ID,
        #[graphql(desc = "True: more like it. False: not this one.")] liked: bool,
    ) -> Result<RecommendationRatePayload, Error> {
        let shop = ctx.data::<Shop>()?;
        match rate(shop, Viewer::of(ctx), &product_id, liked).await {
            Ok(recommended) => Ok(RecommendationRatePayload {
                recommendations: recommended.into_iter().map(Recommendation::from).collect(),
                user_errors: Vec::new(),
            }),
            Err(error) => Ok(RecommendationRatePayload {
                recommendations: Vec::new(),
                user_errors: user_errors(ctx, Inputs::PLAIN, error)?,
            }),
        }
    }
}

async fn rate(shop: &Shop, viewer: Viewer, product_id: &ID, liked: bool) -> Result<Vec<Recommended>, DomainError> {
    let Some(user_id) = viewer.user_id() else {
        return Err(DomainError::NotFound { what: "the user", field: Vec::new() });
    };
    let missing = || DomainError::NotFound { what: "the product", field: path("productId") };
    let product_id = product_id.parse().map_err(|_| missing())?;
    answered(shop.recommendations.ask(Rate { user_id, product_id, liked }, shop.ask_deadline).await)?;
    read(shop, user_id, DEFAULT_PAGE_SIZE, true).await
}

/// Follows the recommendations of one user.
struct Feed {
    shop: Shop,
    info: Option<RequestInfo>,
    watch: LiveWatch,
    user_id: UserId,
    /// As last sent, or as they were when the stream began.
    known: Vec<Recommended>,
    ended: bool,
}

impl Feed {
    async fn read(&self, attempts: Option<u32>) -> Result<Vec<Recommended>, DomainError> {
        read_again_and_again(attempts, || read(&self.shop, self.user_id, DEFAULT_PAGE_SIZE, true)).await
    }

    async fn next(&mut self) -> Option<Result<Vec<Recommendation>, Error>> {
        while !self.ended {
            self.watch.changed().await;
            match self.read(None).await {
                Ok(now) if differ(&self.known, &now) => {
                    self.known.clone_from(&now);
                    return Some(Ok(now.into_iter().map(Recommendation::from).collect()));
                }
                Ok(_) => {}
                Err(fault) => {
                    self.ended = true;
                    return Some(Err(top_level(self.info.as_ref(), fault)));
                }
            }
        }
        None
    }
}

/// Whether a shopper would see a difference in the recommendations themselves; stock and prices move all the time.
fn differ(known: &[Recommended], now: &[Recommended]) -> bool {
    let seen = |list: &[Recommended]| -> Vec<_> {
        list.iter().map(|one| (one.product.id, one.score.to_bits(), one.reason.clone())).collect()
    };
    seen(known) != seen(now)
}

#[derive(Default)]
pub struct RecommendationSubscription;

#[Subscription]
impl RecommendationSubscription {
    /// The best 20 recommendations of the signed-in user, whenever an order or a rating of theirs has changed them.
    #[graphql(complexity = "root_cost(list_cost(child_complexity))")]
    async fn recommendations_updated(
        &self,
        ctx: &Context<'_>,
    ) -> Result<BoxStream<'static, Result<Vec<Recommendation>, Error>>, Error> {
        let Some(user_id) = Viewer::of(ctx).user_id() else { return Err(Denied::Unauthenticated.into()) };
        let shop = ctx.data::<Shop>()?.clone();
        let mut feed = Feed {
            watch: shop.live.watch(LiveKey::Recommendations(user_id)),
            shop,
            info: ctx.data_opt::<RequestInfo>().cloned(),
            user_id,
            known: Vec::new(),
            ended: false,
        };
        let known = feed.read(Some(FIRST_READ_ATTEMPTS)).await;
        feed.known = known.map_err(|fault| top_level(feed.info.as_ref(), fault))?;
        Ok(stream::unfold(feed, |mut feed| async move { Some((feed.next().await?, feed)) }).boxed())
    }
}
