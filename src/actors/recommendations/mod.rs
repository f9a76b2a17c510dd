//! The recommendations actor: what to show a user next, from what was bought in the shop.
//!
//! A user's ranking is made from the store's evidence by `domain::recommendations::rank` and kept for a moment
//! ([`copies`]); what is in stock is asked of the products actor at each read. Events about the user drop the copy, and
//! the [`announcer`] looks again at whom they concern and saves an event when the best have changed.

mod announcer;
pub mod copies;
pub mod messages;

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, AsyncContext, Context, Handler, ResponseFuture, Supervised, WrapFuture};
use serde_json::json;
use tokio::sync::{Notify, watch};

use self::copies::{Ranking, RankingCopies, Reading};
use self::messages::{
    ApplyHistory, BuyersOf, ExportHistory, FavouriteCategories, GetRecommendations, Rate, Recommendation,
};
use crate::actors::ask::Address;
use crate::actors::clock::now;
use crate::actors::errors::{DomainError, path};
use crate::actors::products::ProductActor;
use crate::actors::products::messages::{GetProducts, ListProducts};
use crate::domain::ids::{ProductId, UserId};
use crate::domain::page::{MAX_PAGE_SIZE, PageRequest};
use crate::domain::products::{Product, ProductFilter, ProductSort};
use crate::domain::recommendations::{Evidence, HistoryChange, Ranked, Reason, Rules, rank};
use crate::store::StoreError;
use crate::store::cache::recommendations::EvidenceReads;
use crate::store::consumption::Consumed;
use crate::store::recommendations::{RecommendationStore, UserHistory};
use crate::telemetry::CacheMeter;

/// Products that are looked at beyond those wanted, for those that are sold out.
const SPARE: usize = 20;

/// The recommendations actor's tools.
pub struct RecommendationTools {
    pub store: Arc<dyn RecommendationStore>,
    pub reads: EvidenceReads,
    pub products: Address<ProductActor>,
    pub rules: Rules,
    pub ask_deadline: Duration,
    /// Fires when another process has written to the store: a rebuild, perhaps.
    pub foreign_writes: watch::Receiver<u64>,
    /// Of the rankings that are kept for a moment.
    pub copies_meter: CacheMeter,
    /// Whether this process announces what has changed; else it only shows and rates.
    pub announces: bool,
}

pub struct RecommendationActor {
    shared: Arc<Shared>,
}

/// What the futures of one life of the actor share.
struct Shared {
    tools: Arc<RecommendationTools>,
    copies: RankingCopies,
    /// Somebody may be due.
    due: Notify,
}

impl RecommendationActor {
    pub fn new(tools: Arc<RecommendationTools>) -> Self {
        Self { shared: Arc::new(Shared { tools, copies: RankingCopies::default(), due: Notify::new() }) }
    }

    fn beside<T, E, F>(&self, work: impl FnOnce(Arc<Shared>) -> F) -> ResponseFuture<Result<T, E>>
    where
        F: Future<Output = Result<T, E>> + 'static,
    {
        Box::pin(work(Arc::clone(&self.shared)))
    }
}

impl Actor for RecommendationActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        if self.shared.tools.announces {
            ctx.spawn(announcer::run(Arc::clone(&self.shared)).into_actor(self));
        }
        let (shared, mut foreign_writes) = (Arc::clone(&self.shared), self.shared.tools.foreign_writes.clone());
        let forget = async move {
            while foreign_writes.changed().await.is_ok() {
                shared.copies.forget_all();
                shared.due.notify_one();
            }
        };
        ctx.spawn(forget.into_actor(self));
    }
}

impl Supervised for RecommendationActor {}

impl Shared {
    async fn ranking(&self, user: UserId, fresh: bool) -> Result<Arc<Ranking>, DomainError> {
        if !fresh {
            if let Some(copy) = self.copies.get(user) {
                self.tools.copies_meter.hit();
                return Ok(copy);
            }
            self.tools.copies_meter.miss();
        }
        let read = self.copies.begin();
        let reads = &self.tools.reads;
        let evidence = if fresh { reads.newest(user).await? } else { reads.recent(user).await? };
        Ok(self.ranked(user, read, evidence))
    }

    /// Of each of these users, for [`Self::ranked`].
    async fn evidence(&self, users: &[UserId]) -> Result<(Reading, Vec<Evidence>), DomainError> {
        let read = self.copies.begin();
        Ok((read, self.tools.store.evidence(users, self.tools.rules.limits).await?))
    }

    fn ranked(&self, user: UserId, read: Reading, evidence: Evidence) -> Arc<Ranking> {
        let excluded = evidence.bought.iter().map(|item| item.product_id).chain(evidence.disliked.iter().copied());
        let ranking = Arc::new(Ranking { excluded: excluded.collect(), ranked: rank(&evidence, &self.tools.rules) });
        self.copies.keep(user, read, &ranking);
        ranking
    }

    async fn recommend(&self, ranking: &Ranking, first: usize) -> Result<Vec<Recommendation>, DomainError> {
        let mut chosen: Vec<(Ranked, Product)> = Vec::with_capacity(first);
        for part in ranking.ranked.chunks(first + SPARE) {
            let mut products = self.products(part.iter().map(|ranked| ranked.product_id).collect()).await?;
            let on_sale = part.iter().filter_map(|ranked| {
                let product = products.remove(&ranked.product_id)?;
                is_on_sale(&product).then(|| (ranked.clone(), product))
            });
            chosen.extend(on_sale.take(first - chosen.len()));
            if chosen.len() >= first {
                break;
            }
        }
        if chosen.len() < first {
            self.add_unsold(ranking, &mut chosen, first).await?;
        }
        self.explained(chosen).await
    }

    /// Fills up with what is in stock and nobody has bought yet: a new shop, or a new product, starts somewhere.
    async fn add_unsold(
        &self,
        ranking: &Ranking,
        chosen: &mut Vec<(Ranked, Product)>,
        first: usize,
    ) -> Result<(), DomainError> {
        let list = ListProducts {
            filter: ProductFilter { in_stock: Some(true), ..ProductFilter::default() },
            sort: ProductSort::Newest,
            page: PageRequest::first(MAX_PAGE_SIZE),
        };
        let listed = self.tools.products.ask(list, self.tools.ask_deadline).await??;
        for (_, product) in listed.entries {
            if chosen.len() >= first {
                break;
            }
            let is_listed = chosen.iter().any(|(_, known)| known.id == product.id);
            if !is_listed && !ranking.excluded.contains(&product.id) {
                chosen.push((Ranked { product_id: product.id, score: 0.0, reason: Reason::InStock }, product));
            }
        }
        Ok(())
    }

    async fn explained(&self, chosen: Vec<(Ranked, Product)>) -> Result<Vec<Recommendation>, DomainError> {
        let mut because: Vec<ProductId> =
            chosen.iter().flat_map(|(ranked, _)| ranked.reason.because_of().iter().copied()).collect();
        because.sort_unstable();
        because.dedup();
        let products = if because.is_empty() { HashMap::new() } else { self.products(because).await? };
        let explain = |(ranked, product): (Ranked, Product)| {
            let because_of: Vec<Product> =
                ranked.reason.because_of().iter().filter_map(|id| products.get(id).cloned()).collect();
            let names: Vec<&str> = because_of.iter().map(|product| product.name.as_str()).collect();
            Recommendation { score: ranked.score, reason: ranked.reason.words(&names), product, because_of }
        };
        Ok(chosen.into_iter().map(explain).collect())
    }

    async fn products(&self, ids: Vec<ProductId>) -> Result<HashMap<ProductId, Product>, DomainError> {
        let products = self.tools.products.ask(GetProducts { ids }, self.tools.ask_deadline).await??;
        Ok(products.into_iter().map(|product| (product.id, product)).collect())
    }

    /// Something of these users has changed.
    async fn changed(&self, users: &[UserId]) {
        self.tools.reads.forget(users.iter().copied()).await;
        users.iter().for_each(|user| self.copies.forget(*user));
        self.due.notify_one();
    }
}

fn is_on_sale(product: &Product) -> bool {
    product.available > 0 && !product.archived
}

impl Handler<GetRecommendations> for RecommendationActor {
    type Result = ResponseFuture<Result<Vec<Recommendation>, DomainError>>;

    fn handle(&mut self, message: GetRecommendations, _: &mut Context<Self>) -> Self::Result {
        let GetRecommendations { user_id, first, fresh } = message;
        self.beside(|shared| async move {
            let ranking = shared.ranking(user_id, fresh).await?;
            shared.recommend(&ranking, first as usize).await
        })
    }
}

impl Handler<Rate> for RecommendationActor {
    type Result = ResponseFuture<Result<(), DomainError>>;

    fn handle(&mut self, Rate { user_id, product_id, liked }: Rate, _: &mut Context<Self>) -> Self::Result {
        self.beside(|shared| async move {
            if shared.products(vec![product_id]).await?.is_empty() {
                return Err(DomainError::NotFound { what: "the product", field: path("productId") });
            }
            shared.tools.store.rate(user_id, product_id, liked, now()).await?;
            shared.changed(&[user_id]).await;
            Ok(())
        })
    }
}

impl Handler<BuyersOf> for RecommendationActor {
    type Result = ResponseFuture<Result<Vec<UserId>, DomainError>>;

    fn handle(&mut self, BuyersOf { category, users }: BuyersOf, _: &mut Context<Self>) -> Self::Result {
        self.beside(|shared| async move { Ok(shared.tools.store.buyers_of(&category, &users).await?) })
    }
}

impl Handler<FavouriteCategories> for RecommendationActor {
    type Result = ResponseFuture<Result<Vec<(UserId, Vec<String>)>, DomainError>>;

    fn handle(&mut self, message: FavouriteCategories, _: &mut Context<Self>) -> Self::Result {
        let FavouriteCategories { users, limit } = message;
        self.beside(|shared| async move { Ok(shared.tools.store.favourite_categories(&users, limit).await?) })
    }
}

impl Handler<ExportHistory> for RecommendationActor {
    type Result = ResponseFuture<Result<serde_json::Value, DomainError>>;

    fn handle(&mut self, ExportHistory { user_id }: ExportHistory, _: &mut Context<Self>) -> Self::Result {
        self.beside(|shared| async move {
            let UserHistory { purchases, ratings } = shared.tools.store.history(user_id).await?;
            Ok(json!({
                "purchases": purchases.iter().map(|purchase| json!({
                    "orderId": purchase.order_id,
                    "productId": purchase.product_id,
                    "category": purchase.category,
                    "at": purchase.at.to_string(),
                })).collect::<Vec<_>>(),
                "ratings": ratings.iter().map(|rating| json!({
                    "productId": rating.product_id,
                    "liked": rating.liked,
                    "at": rating.at.to_string(),
                })).collect::<Vec<_>>(),
            }))
        })
    }
}

impl Handler<ApplyHistory> for RecommendationActor {
    type Result = ResponseFuture<Result<Consumed<()>, StoreError>>;

    fn handle(&mut self, ApplyHistory { changes, consumption }: ApplyHistory, _: &mut Context<Self>) -> Self::Result {
        self.beside(|shared| async move {
            let users: Vec<UserId> = changes.iter().map(HistoryChange::user_id).collect();
            let applied = shared.tools.store.apply(changes, shared.tools.rules.limits, consumption).await;
            // Also after a failure: whether it was written is unknown.
            shared.changed(&users).await;
            applied
        })
    }
}
