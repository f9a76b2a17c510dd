//! Copies of the catalogue in this process: at most [`PROCESS_COPY_AGE`] old, counted from before they were read.
//!
//! Reads of single products that miss are gathered while another read is on its way and fetched together (natural
//! batching: no timer). A change that this process makes drops the copy and fences reads that began before it. Stock moves
//! with every order, names and prices rarely: new orders are priced from copies that a decision about stock leaves alone.
//!
//! What is kept is limited by bytes: clients choose the filters, and staff the length of descriptions.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tokio::sync::oneshot;

use super::messages::ListProducts;
use crate::domain::ids::ProductId;
use crate::domain::page::{Page, PageRequest};
use crate::domain::products::{Category, Product, ProductFilter, ProductSort};
use crate::store::StoreError;
use crate::store::cache::PROCESS_COPY_AGE;
use crate::store::cache::products::CatalogueReads;

/// Single products kept, in bytes.
const PRODUCTS_BYTES: u64 = 8 * 1024 * 1024;

/// Pages kept, with the filters that they are of, in bytes.
const PAGES_BYTES: u64 = 4 * 1024 * 1024;

/// What an entry takes besides its texts: about the fixed parts of product, copy and table.
const ENTRY_BYTES: usize = 256;

#[derive(Clone)]
struct Copy<T> {
    value: T,
    /// When its read began.
    read_at: Instant,
}

impl<T> Copy<T> {
    fn is_fresh(&self) -> bool {
        self.read_at.elapsed() < PROCESS_COPY_AGE
    }
}

/// When a product changed last, counted in changes of this process.
#[derive(Clone, Copy, Default)]
struct Fence {
    /// Anything of it.
    changed: u64,
    /// More than its stock.
    edited: u64,
}

fn product_bytes(product: &Product) -> usize {
    let Product { sku, name, description, category, .. } = product;
    ENTRY_BYTES + sku.len() + name.len() + description.len() + category.len()
}

fn page_bytes((_, filter, _, _, after): &PageKey, page: &Page<Product>) -> usize {
    let categories = filter.categories.iter().flatten().map(|name| size_of::<String>() + name.len());
    let texts = filter.search.iter().chain(after).map(String::len);
    let entries = page.entries.iter().map(|(cursor, product)| cursor.len() + product_bytes(product));
    ENTRY_BYTES + categories.chain(texts).chain(entries).sum::<usize>()
}

#[derive(Clone)]
struct ProductBytes;

impl Weighter<ProductId, Copy<Arc<Product>>> for ProductBytes {
    fn weight(&self, _: &ProductId, copy: &Copy<Arc<Product>>) -> u64 {
        product_bytes(&copy.value) as u64
    }
}

/// A page with its weight, which takes long to reckon.
#[derive(Clone)]
struct WeighedPage {
    page: Arc<Page<Product>>,
    bytes: u64,
}

#[derive(Clone)]
struct PageBytes;

impl Weighter<PageKey, Copy<WeighedPage>> for PageBytes {
    fn weight(&self, _: &PageKey, copy: &Copy<WeighedPage>) -> u64 {
        copy.value.bytes
    }
}

type PageKey = (u64, ProductFilter, ProductSort, u32, Option<String>);
type Answer = Result<Vec<Product>, StoreError>;

#[derive(Default)]
struct Gathering {
    waiting: Vec<(Vec<ProductId>, oneshot::Sender<Answer>)>,
    reading: bool,
}

pub struct ProductCopies {
    reads: CatalogueReads,
    products: Cache<ProductId, Copy<Arc<Product>>, ProductBytes>,
    /// The same, but the stock may be of any age.
    offers: Cache<ProductId, Copy<Arc<Product>>, ProductBytes>,
    pages: Cache<PageKey, Copy<WeighedPage>, PageBytes>,
    categories: Mutex<Option<(u64, Copy<Vec<Category>>)>>,
    gathering: Mutex<Gathering>,
    /// Counts the changes that this process made to the catalogue: a page of an earlier count is not used.
    generation: AtomicU64,
    /// Counts the changes of single products that reads on their way must not hide.
    fence: AtomicU64,
    /// Entries are dropped when no read is on its way.
    fenced: Mutex<HashMap<ProductId, Fence>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What these mutexes hold is changed in single calls: a panic leaves it whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ProductCopies {
    pub fn new(reads: CatalogueReads) -> Self {
        Self {
            reads,
            products: Cache::with_weighter(10_000, PRODUCTS_BYTES, ProductBytes),
            offers: Cache::with_weighter(10_000, PRODUCTS_BYTES, ProductBytes),
            pages: Cache::with_weighter(200, PAGES_BYTES, PageBytes),
            categories: Mutex::new(None),
            gathering: Mutex::default(),
            generation: AtomicU64::new(0),
            fence: AtomicU64::new(0),
            fenced: Mutex::default(),
        }
    }

    /// Those that exist, in no order.
    pub async fn products(self: &Arc<Self>, ids: &[ProductId]) -> Result<Vec<Product>, StoreError> {
        let mut found = Vec::with_capacity(ids.len());
        let mut missing = Vec::new();
        for id in ids {
            match self.products.get(id).filter(Copy::is_fresh) {
                Some(copy) => found.push(Product::clone(&copy.value)),
                None => missing.push(*id),
            }
        }
        self.reads.meters.products.note(found.len(), missing.len());
        if !missing.is_empty() {
            found.extend(self.fetch(missing).await?);
        }
        Ok(found)
    }

    /// As [`Self::products`], for names and prices: what is in stock may be older.
    pub async fn offers(self: &Arc<Self>, ids: &[ProductId]) -> Result<Vec<Arc<Product>>, StoreError> {
        let mut found = Vec::with_capacity(ids.len());
        let mut missing = Vec::new();
        for id in ids {
            match self.offers.get(id).filter(Copy::is_fresh) {
                Some(copy) => found.push(copy.value),
                None => missing.push(*id),
            }
        }
        self.reads.meters.offers.note(found.len(), missing.len());
        if !missing.is_empty() {
            found.extend(self.fetch(missing).await?.into_iter().map(Arc::new));
        }
        Ok(found)
    }

    async fn fetch(self: &Arc<Self>, ids: Vec<ProductId>) -> Answer {
        let (sender, receiver) = oneshot::channel();
        let starts_reading = {
            let mut gathering = lock(&self.gathering);
            gathering.waiting.push((ids, sender));
            !std::mem::replace(&mut gathering.reading, true)
        };
        if starts_reading {
            actix_rt::spawn(Arc::clone(self).read_what_waits());
        }
        receiver.await.unwrap_or_else(|_| Err(StoreError::Unavailable("the reading task ended".into())))
    }

    /// Reads rounds until nobody waits. A task of its own: no asker's cancellation stops the others.
    async fn read_what_waits(self: Arc<Self>) {
        let _turn = ReadingTurn(&self);
        loop {
            let round = std::mem::take(&mut lock(&self.gathering).waiting);
            let mut wanted: Vec<ProductId> = round.iter().flat_map(|(ids, _)| ids.iter().copied()).collect();
            wanted.sort_unstable();
            wanted.dedup();
            let together = self.read_and_keep(&wanted).await;
            for (ids, sender) in round {
                let share = together
                    .as_ref()
                    .map_err(Clone::clone)
                    .map(|products| products.iter().filter(|product| ids.contains(&product.id)).cloned().collect());
                // An asker that gave up needs no answer.
                let _ = sender.send(share);
            }
            let mut gathering = lock(&self.gathering);
            if gathering.waiting.is_empty() {
                gathering.reading = false;
                return;
            }
        }
    }

    async fn read_and_keep(&self, ids: &[ProductId]) -> Answer {
        let (read_at, fence) = (Instant::now(), self.fence.load(Ordering::Acquire));
        let products = self.reads.products(ids).await?;
        let fenced = lock(&self.fenced);
        for product in &products {
            let known = fenced.get(&product.id).copied().unwrap_or_default();
            if known.edited <= fence {
                let copy = Copy { value: Arc::new(product.clone()), read_at };
                self.offers.insert(product.id, copy.clone());
                if known.changed <= fence {
                    self.products.insert(product.id, copy);
                }
            }
        }
        drop(fenced);
        Ok(products)
    }

    /// A page of the catalogue.
    pub async fn page(&self, list: ListProducts) -> Result<Page<Product>, StoreError> {
        let ListProducts { filter, sort, page } = list;
        let generation = self.generation.load(Ordering::Acquire);
        let PageRequest { first, after } = page.clone();
        let key: PageKey = (generation, filter, sort, first, after);
        if let Some(copy) = self.pages.get(&key).filter(Copy::is_fresh) {
            self.reads.meters.pages.hit();
            return Ok(Page::clone(&copy.value.page));
        }
        self.reads.meters.pages.miss();
        let read_at = Instant::now();
        let read = self.reads.list_products(&key.1, key.2, &page).await?;
        let bytes = page_bytes(&key, &read) as u64;
        self.pages.insert(key, Copy { value: WeighedPage { page: Arc::new(read.clone()), bytes }, read_at });
        Ok(read)
    }

    /// The categories of the catalogue.
    pub async fn categories(&self) -> Result<Vec<Category>, StoreError> {
        let generation = self.generation.load(Ordering::Acquire);
        if let Some((of, copy)) = lock(&self.categories).as_ref()
            && *of == generation
            && copy.is_fresh()
        {
            self.reads.meters.categories.hit();
            return Ok(copy.value.clone());
        }
        self.reads.meters.categories.miss();
        let read_at = Instant::now();
        let categories = self.reads.categories().await?;
        *lock(&self.categories) = Some((generation, Copy { value: categories.clone(), read_at }));
        Ok(categories)
    }

    /// A product is now this: pages and copies made before are not used any more.
    pub async fn changed(&self, product: &Product) {
        // First what processes share: a read that begins after the answer must not find it there.
        self.reads.forget(product).await;
        self.forget(product.id, |fence, now| *fence = Fence { changed: now, edited: now });
        self.offers.remove(&product.id);
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// The stock of these may have changed: their copies are dropped, also those that are being read now.
    pub async fn stock_moved(&self, ids: &[ProductId]) {
        self.reads.forget_stock(ids.iter().copied()).await;
        for id in ids {
            self.forget(*id, |fence, now| fence.changed = now);
        }
    }

    fn forget(&self, id: ProductId, raise: impl FnOnce(&mut Fence, u64)) {
        let mut fenced = lock(&self.fenced);
        let now = self.fence.fetch_add(1, Ordering::AcqRel) + 1;
        if !lock(&self.gathering).reading {
            fenced.clear();
        }
        raise(fenced.entry(id).or_default(), now);
        self.products.remove(&id);
    }
}

/// Gives the turn back when the reading task panics: who waits sees the channel close, the next asker starts anew.
struct ReadingTurn<'a>(&'a ProductCopies);

impl Drop for ReadingTurn<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut gathering = lock(&self.0.gathering);
            gathering.reading = false;
            gathering.waiting.clear();
        }
    }
}
