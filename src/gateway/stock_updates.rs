//! Live stock: `stockChanged` sends a product whenever the number of its pieces has changed.
//!
//! The live hub says that something happened to a product; what is sent is decided by comparing what the store holds
//! with what was known before.

use std::collections::{HashMap, VecDeque};

use async_graphql::{Context, Error, ID, Subscription};
use futures_util::future::select_all;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt};

use super::connections::root_cost;
use super::context::{RequestInfo, Shop, answered};
use super::errors::{bad_input, top_level};
use super::following::{FIRST_READ_ATTEMPTS, read_again_and_again};
use super::products::Product;
use crate::actors::errors::DomainError;
use crate::actors::live::{LiveKey, LiveWatch};
use crate::actors::products::messages::GetFreshProducts;
use crate::domain::ids::ProductId;
use crate::domain::products::Product as DomainProduct;

/// The most products that one subscription watches.
const MAX_PRODUCTS: usize = 100;

struct Feed {
    shop: Shop,
    info: Option<RequestInfo>,
    watches: Vec<(ProductId, LiveWatch)>,
    /// The products that are watched with their pieces as last sent.
    known: HashMap<ProductId, i32>,
    waiting: VecDeque<DomainProduct>,
    ended: bool,
}

impl Feed {
    async fn read(&self, ids: Vec<ProductId>, attempts: Option<u32>) -> Result<Vec<DomainProduct>, DomainError> {
        let shop = &self.shop;
        read_again_and_again(attempts, || {
            let message = GetFreshProducts { ids: ids.clone() };
            async move { answered(shop.products.ask(message, shop.ask_deadline).await) }
        })
        .await
    }

    /// Waits until something may have changed, and tells of which products.
    async fn woken(&mut self) -> Vec<ProductId> {
        let wakes = self.watches.iter_mut().map(|(id, watch)| {
            Box::pin(async move {
                watch.changed().await;
                *id
            })
        });
        let (first, _, others) = select_all(wakes).await;
        // Those woken at the same time are read with it.
        std::iter::once(first).chain(others.into_iter().filter_map(FutureExt::now_or_never)).collect()
    }

    async fn next(&mut self) -> Option<Result<Product, Error>> {
        while !self.ended {
            if let Some(product) = self.waiting.pop_front() {
                return Some(Ok(Product(product)));
            }
            let woken = self.woken().await;
            match self.read(woken, None).await {
                Ok(products) => self.note(products),
                Err(fault) => {
                    self.ended = true;
                    return Some(Err(top_level(self.info.as_ref(), fault)));
                }
            }
        }
        None
    }

    /// Queues the products whose stock is another than was known.
    fn note(&mut self, products: Vec<DomainProduct>) {
        for product in products {
            if self.known.insert(product.id, product.available) != Some(product.available) {
                self.waiting.push_back(product);
            }
        }
    }
}

#[derive(Default)]
pub struct StockSubscription;

#[Subscription]
impl StockSubscription {
    /// A product, whenever the number of its available pieces has changed. Unknown ids are passed over, unless no id
    /// is known.
    #[graphql(complexity = "root_cost(child_complexity)")]
    async fn stock_changed(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The products to watch, 1 to 100.")] product_ids: Vec<ID>,
    ) -> Result<BoxStream<'static, Result<Product, Error>>, Error> {
        if product_ids.is_empty() || product_ids.len() > MAX_PRODUCTS {
            return Err(bad_input("productIds", format!("name 1 to {MAX_PRODUCTS} products")));
        }
        let mut ids: Vec<ProductId> = product_ids.iter().filter_map(|id| id.parse().ok()).collect();
        ids.sort_unstable();
        ids.dedup();
        let shop = ctx.data::<Shop>()?.clone();
        let mut feed = Feed {
            watches: ids.iter().map(|id| (*id, shop.live.watch(LiveKey::Product(*id)))).collect(),
            shop,
            info: ctx.data_opt::<RequestInfo>().cloned(),
            known: HashMap::new(),
            waiting: VecDeque::new(),
            ended: false,
        };
        if !ids.is_empty() {
            let products = feed.read(ids, Some(FIRST_READ_ATTEMPTS)).await;
            let products = products.map_err(|fault| top_level(feed.info.as_ref(), fault))?;
            feed.known = products.into_iter().map(|product| (product.id, product.available)).collect();
            feed.watches.retain(|(id, _)| feed.known.contains_key(id));
        }
        if feed.known.is_empty() {
            return Err(bad_input("productIds", "none of these products was found"));
        }
        Ok(stream::unfold(feed, |mut feed| async move { Some((feed.next().await?, feed)) }).boxed())
    }
}
