//! Which adapter each port has: [`embedded`] in the data folder, or [`production`] on servers; stores and log are chosen apart.

pub(super) mod embedded;
pub(super) mod production;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::AppError;
use crate::config::{CacheKind, Config, Domain, EventsKind, StoreKind};
use crate::kafka::precedence::Precedence;
use crate::kafka::relay::{Relay, RelaySettings};
use crate::kafka::{EventLog, LogError};
use crate::store::api_keys::ApiKeyStore;
use crate::store::cache::SharedCache;
use crate::store::cache::redis::RedisCache;
use crate::store::campaigns::CampaignStore;
use crate::store::consumption::ConsumptionStore;
use crate::store::notifications::NotificationStore;
use crate::store::operations::{MarkerStore, OperationsStore};
use crate::store::orders::OrderStore;
use crate::store::outbox::Outbox;
use crate::store::products::ProductStore;
use crate::store::recommendations::RecommendationStore;
use crate::store::sqlite::DataDirLock;
use crate::store::users::UserStore;

/// The ports, whatever adapters are behind them.
#[derive(Clone)]
pub struct Stores {
    pub users: Arc<dyn UserStore>,
    /// In the users domain's own database.
    pub api_keys: Arc<dyn ApiKeyStore>,
    pub products: Arc<dyn ProductStore>,
    /// In the products domain's own database.
    pub campaigns: Arc<dyn CampaignStore>,
    pub orders: Arc<dyn OrderStore>,
    pub recommendations: Arc<dyn RecommendationStore>,
    pub notifications: Arc<dyn NotificationStore>,
    pub operations: Arc<dyn OperationsStore>,
    pub markers: Arc<dyn MarkerStore>,
    /// What processes share of their reads; `None`: each keeps its own alone.
    pub cache: Option<Arc<dyn SharedCache>>,
    /// Fires when another process may have written to the notifications store.
    pub notifications_written: watch::Receiver<u64>,
    /// Embedded: nobody else serves from these stores.
    pub serve_one_process: bool,
    /// One a domain.
    pub outboxes: Vec<Arc<dyn Outbox>>,
    /// Where group `inventory` keeps its offsets.
    pub product_consumption: Arc<dyn ConsumptionStore>,
    /// Where group `orders` does.
    pub order_consumption: Arc<dyn ConsumptionStore>,
    /// Fires when another process may have written to the recommendations store.
    pub recommendations_written: watch::Receiver<u64>,
    /// Where group `recommendations` does.
    pub recommendation_consumption: Arc<dyn ConsumptionStore>,
    /// Where group `notifications` does.
    pub notification_consumption: Arc<dyn ConsumptionStore>,
    /// Where group `dead-letters` does.
    pub operations_consumption: Arc<dyn ConsumptionStore>,
}

impl Stores {
    /// One a domain.
    pub(super) fn relays(
        &self,
        config: &Config,
        log: &Arc<dyn EventLog>,
        precedence: &Arc<Precedence>,
    ) -> Vec<Arc<Relay>> {
        let relay = |outbox: &Arc<dyn Outbox>| {
            let mut settings = relay_settings(config.store.kind, outbox.domain());
            if outbox.domain() == Domain::Orders.name() {
                settings.precedence = Some(Arc::clone(precedence));
            }
            Arc::new(Relay::new(Arc::clone(outbox), Arc::clone(log), settings))
        };
        self.outboxes.iter().map(relay).collect()
    }
}

fn relay_settings(store: StoreKind, domain: &str) -> RelaySettings {
    let mut settings = RelaySettings::default();
    if store == StoreKind::Mongodb {
        settings.left_age = Duration::from_secs(1);
        // One removal for many. But of a product many processes write events in turn, and whoever closes a gap publishes
        // what is not removed yet.
        if domain != Domain::Products.name() {
            settings.clear_after = Duration::from_millis(500);
        }
        // Nobody waits at a screen for what was mailed or recommended to be told.
        if [Domain::Notifications.name(), Domain::Recommendations.name()].contains(&domain) {
            settings.pace = Duration::from_millis(50);
        }
        // An order's verdict forgets that its placement is pending.
        if domain == Domain::Orders.name() {
            settings.clear_first_after = Duration::from_secs(7);
        }
    }
    settings
}

/// The lock on the data folder, held for as long as a server runs on it.
pub struct DataDirGuard(#[expect(dead_code, reason = "held, never read")] DataDirLock);

/// Ends an adapter; blocks until it has.
type Close = Box<dyn FnOnce() + Send>;

struct OpenedStores {
    stores: Stores,
    close: Close,
}

struct OpenedLog {
    log: Arc<dyn EventLog>,
    close: Close,
}

/// What [`open`] opened.
pub(super) struct Opened {
    pub stores: Stores,
    pub log: Arc<dyn EventLog>,
    pub close_files: Close,
}

/// Whether stores or log lie in the data folder.
pub(super) fn keeps_files(config: &Config) -> bool {
    config.store.kind == StoreKind::Sqlite || config.events.kind == EventsKind::Embedded
}

/// Refuses a data folder that another server, or `migrate`, holds; `None` when nothing of the shop lies there.
pub fn lock_data_dir(config: &Config) -> Result<Option<DataDirGuard>, AppError> {
    let lock = keeps_files(config).then(|| DataDirLock::acquire(&config.data_dir).map(DataDirGuard));
    lock.transpose().map_err(AppError::usage)
}

/// Brings the stores to this version's schema; a line for each file or database.
pub async fn migrate(config: &Config) -> Result<Vec<String>, AppError> {
    let mut lines = match config.store.kind {
        StoreKind::Sqlite => embedded::migrate_stores(config)?,
        StoreKind::Mongodb => production::migrate_stores(config).await?,
    };
    if config.events.kind == EventsKind::Embedded {
        lines.push(embedded::migrate_log(config)?);
    }
    Ok(lines)
}

pub async fn open_operations(config: &Config) -> Result<Arc<dyn OperationsStore>, AppError> {
    match config.store.kind {
        StoreKind::Sqlite => embedded::open_operations(config).await,
        StoreKind::Mongodb => production::open_operations(config).await,
    }
}

/// What a rebuild of the recommendations reads and what it writes.
pub type History = (Arc<dyn OrderStore>, Arc<dyn RecommendationStore>);

pub async fn open_history(config: &Config) -> Result<History, AppError> {
    match config.store.kind {
        StoreKind::Sqlite => embedded::open_history(config).await,
        StoreKind::Mongodb => production::open_history(config).await,
    }
}

/// What the order flow reads and writes.
pub type Flow = (Arc<dyn OrderStore>, Arc<dyn ProductStore>);

pub async fn open_flow(config: &Config) -> Result<Flow, AppError> {
    match config.store.kind {
        StoreKind::Sqlite => embedded::open_flow(config).await,
        StoreKind::Mongodb => production::open_flow(config).await,
    }
}

pub async fn open_users(config: &Config) -> Result<Arc<dyn UserStore>, AppError> {
    match config.store.kind {
        StoreKind::Sqlite => embedded::open_users(config).await,
        StoreKind::Mongodb => production::open_users(config).await,
    }
}

fn log_failed(error: LogError) -> AppError {
    match error {
        LogError::PartitionCount { .. } => AppError::usage(error),
        error => AppError::failed(error),
    }
}

pub(super) fn open_cache(config: &Config) -> Result<Option<Arc<dyn SharedCache>>, AppError> {
    match config.cache.kind {
        CacheKind::Memory => Ok(None),
        CacheKind::Redis => {
            // Shops on one server keep apart as their databases do.
            let cache = RedisCache::open(config.cache.uri.expose(), &config.store.prefix);
            Ok(Some(Arc::new(cache.map_err(AppError::usage)?)))
        }
    }
}

pub(super) async fn open(config: &Config) -> Result<Opened, AppError> {
    let mut opened = match config.store.kind {
        StoreKind::Sqlite => embedded::open_stores(config).await?,
        StoreKind::Mongodb => production::open_stores(config).await?,
    };
    opened.stores.cache = open_cache(config)?;
    let log = match config.events.kind {
        EventsKind::Embedded => embedded::open_log(config)?,
        EventsKind::Kafka => production::open_log(config).await?,
    };
    let close_files = Box::new(move || {
        (opened.close)();
        (log.close)();
    });
    Ok(Opened { stores: opened.stores, log: log.log, close_files })
}
