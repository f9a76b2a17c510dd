//! The catalogue through the cache.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{Entry, Fence, SharedCache, decode, encode, entry};
use crate::domain::ids::ProductId;
use crate::domain::page::{Page, PageRequest};
use crate::domain::products::{Category, Product, ProductFilter, ProductSort};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::products::ProductStore;
use crate::telemetry::{CacheMeter, Metrics};

/// Reads of the catalogue. Whatever changes ends its entry; pages show stock as it was at most [`super::SHARED_TTL`] ago.
#[derive(Clone)]
pub struct CatalogueReads {
    pub store: Arc<dyn ProductStore>,
    /// `None`: every read goes to the store.
    pub cache: Option<Arc<dyn SharedCache>>,
    /// Pages have no version of their own: the newest read wins.
    pub clock: fn() -> Timestamp,
    pub meters: CatalogueMeters,
}

/// What reads of the catalogue found kept: by the process, and behind it in the shared cache.
#[derive(Clone)]
pub struct CatalogueMeters {
    pub products: CacheMeter,
    pub offers: CacheMeter,
    pub pages: CacheMeter,
    pub categories: CacheMeter,
    shared_products: CacheMeter,
    shared_pages: CacheMeter,
}

impl CatalogueMeters {
    pub fn of(metrics: &Metrics) -> Self {
        let of = |cache| metrics.caches.of(cache);
        Self {
            products: of("products"),
            offers: of("offers"),
            pages: of("product-pages"),
            categories: of("categories"),
            shared_products: of("redis-products"),
            shared_pages: of("redis-product-pages"),
        }
    }
}

/// A page of products as it is kept.
#[derive(Serialize, Deserialize)]
struct KeptPage {
    /// Of the catalogue when the page was read: see [`CatalogueReads::forget`].
    state: Option<Uuid>,
    entries: Vec<(String, Product)>,
    has_next: bool,
    has_previous: bool,
    total: u64,
}

/// Under this key lies the state of the catalogue, a new one with every change by hand: it ends all pages at once.
const STATE_KEY: &str = "catalogue";
/// Pages of an earlier state are gone long before the state itself is.
const STATE_TTL: Duration = Duration::from_secs(15);

fn product_key(id: ProductId) -> String {
    format!("product:{id}")
}

fn page_key(filter: &ProductFilter, sort: ProductSort, page: &PageRequest) -> String {
    let digest = Sha256::digest(format!("{filter:?}\n{sort:?}\n{page:?}"));
    format!("products:{}", URL_SAFE_NO_PAD.encode(digest))
}

impl KeptPage {
    fn page(self) -> Page<Product> {
        let Self { entries, has_next, has_previous, total, .. } = self;
        Page { entries, has_next, has_previous, total }
    }
}

impl CatalogueReads {
    /// Those that exist, archived ones included, in no order.
    pub async fn products(&self, ids: &[ProductId]) -> Result<Vec<Product>, StoreError> {
        let Some(cache) = &self.cache else { return self.store.products(ids).await };
        let began = Instant::now();
        let kept = cache.get(ids.iter().map(|id| product_key(*id)).collect()).await;
        let found = ids.iter().zip(kept).filter_map(|(id, kept)| Some((*id, decode::<Product>(&kept?)?)));
        let found: HashMap<ProductId, Product> = found.collect();
        let missing: Vec<ProductId> = ids.iter().filter(|id| !found.contains_key(id)).copied().collect();
        self.meters.shared_products.note(found.len(), missing.len());
        let mut products: Vec<Product> = found.into_values().collect();
        if !missing.is_empty() {
            let read = self.store.products(&missing).await?;
            let kept = |product: &Product| entry(product_key(product.id), product.event_sequence, product, began);
            cache.put(read.iter().filter_map(kept).collect()).await;
            products.extend(read);
        }
        Ok(products)
    }

    pub async fn list_products(
        &self,
        filter: &ProductFilter,
        sort: ProductSort,
        page: &PageRequest,
    ) -> Result<Page<Product>, StoreError> {
        let Some(cache) = &self.cache else { return self.store.list_products(filter, sort, page).await };
        let (began, version, key) = (Instant::now(), (self.clock)().0, page_key(filter, sort, page));
        let mut kept = cache.get(vec![STATE_KEY.to_owned(), key.clone()]).await.into_iter();
        let state: Option<Uuid> = kept.next().flatten().and_then(|kept| decode(&kept));
        let kept: Option<KeptPage> = kept.next().flatten().and_then(|kept| decode(&kept));
        if let Some(kept) = kept.filter(|kept| kept.state == state) {
            self.meters.shared_pages.hit();
            return Ok(kept.page());
        }
        self.meters.shared_pages.miss();
        let Page { entries, has_next, has_previous, total } = self.store.list_products(filter, sort, page).await?;
        let read = KeptPage { state, entries, has_next, has_previous, total };
        cache.put(entry(key, version, &read, began).into_iter().collect()).await;
        Ok(read.page())
    }

    /// By name, archived products not counted.
    pub async fn categories(&self) -> Result<Vec<Category>, StoreError> {
        self.store.categories().await
    }

    /// The stock of these has moved, to what is not known here.
    pub async fn forget_stock(&self, ids: impl IntoIterator<Item = ProductId>) {
        if let Some(cache) = &self.cache {
            let fences = ids.into_iter().map(|id| Fence { key: product_key(id), version: i64::MAX });
            cache.fence(fences.collect()).await;
        }
    }

    /// A product was changed by hand, to what it is now.
    pub async fn forget(&self, product: &Product) {
        let Some(cache) = &self.cache else { return };
        let version = (self.clock)().0;
        let state = encode(version, &Uuid::new_v4());
        let state = state.map(|value| Entry { key: STATE_KEY.to_owned(), version, value, ttl: STATE_TTL });
        cache.put(state.into_iter().collect()).await;
        cache.fence(vec![Fence { key: product_key(product.id), version: product.event_sequence }]).await;
    }
}
