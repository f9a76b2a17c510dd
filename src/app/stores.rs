//! Which adapter each port has: SQLite files and the embedded log under the data folder.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::AppError;
use crate::config::Config;
use crate::kafka::backoff::Backoff;
use crate::kafka::embedded::{self, EmbeddedLog, EmbeddedLogOptions};
use crate::kafka::{EventLog, LogError};
use crate::store::campaigns::CampaignStore;
use crate::store::consumption::ConsumptionStore;
use crate::store::notifications::NotificationStore;
use crate::store::operations::{MarkerStore, OperationsStore};
use crate::store::orders::OrderStore;
use crate::store::outbox::Outbox;
use crate::store::products::ProductStore;
use crate::store::recommendations::RecommendationStore;
use crate::store::sqlite::{
    DataDirLock, Migrated, OpenError, SqliteOperationsStore, SqliteOrderStore, SqliteRecommendationStore, SqliteStores,
    SqliteUserStore,
};
use crate::store::users::UserStore;

/// Between two attempts to open a store that is busy.
const OPEN_WAIT: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));

/// The ports, whatever adapters are behind them.
#[derive(Clone)]
pub struct Stores {
    pub users: Arc<dyn UserStore>,
    pub products: Arc<dyn ProductStore>,
    /// In the products domain's own database.
    pub campaigns: Arc<dyn CampaignStore>,
    pub orders: Arc<dyn OrderStore>,
    pub recommendations: Arc<dyn RecommendationStore>,
    pub notifications: Arc<dyn NotificationStore>,
    pub operations: Arc<dyn OperationsStore>,
    pub markers: Arc<dyn MarkerStore>,
    /// What tells of other processes' notifications.
    pub notification_outbox: Arc<dyn Outbox>,
    /// One a domain.
    pub outboxes: Vec<Arc<dyn Outbox>>,
    /// Where group `inventory` keeps its offsets.
    pub product_consumption: Arc<dyn ConsumptionStore>,
    /// Where group `orders` does.
    pub order_consumption: Arc<dyn ConsumptionStore>,
    /// Fires when another process has written to the recommendations store.
    pub recommendations_written: watch::Receiver<u64>,
    /// Where group `recommendations` does.
    pub recommendation_consumption: Arc<dyn ConsumptionStore>,
    /// Where group `notifications` does.
    pub notification_consumption: Arc<dyn ConsumptionStore>,
    /// Where group `dead-letters` does.
    pub operations_consumption: Arc<dyn ConsumptionStore>,
}

/// The lock on the data folder, held for as long as a server runs on it.
pub struct DataDirGuard(#[expect(dead_code, reason = "held, never read")] DataDirLock);

/// What [`open`] opened.
pub(super) struct Opened {
    pub stores: Stores,
    pub log: Arc<dyn EventLog>,
    pub close_files: Box<dyn FnOnce() + Send>,
}

impl From<OpenError> for AppError {
    fn from(error: OpenError) -> Self {
        Self::failed(error)
    }
}

/// Refuses a data folder that another server, or `migrate`, holds.
pub fn lock_data_dir(config: &Config) -> Result<DataDirGuard, AppError> {
    DataDirLock::acquire(&config.data_dir).map(DataDirGuard).map_err(AppError::usage)
}

/// Brings the stores to this version's schema; a line for each file.
pub fn migrate(config: &Config) -> Result<Vec<String>, AppError> {
    let mut migrated = crate::store::sqlite::migrate(&config.data_dir)?;
    let (from, to) = embedded::migrate(&config.data_dir, &log_options(config)).map_err(log_failed)?;
    let steps = if from < to { vec!["event log"] } else { Vec::new() };
    migrated.push(Migrated { path: config.data_dir.join(embedded::FILE_NAME), from, to, steps });
    Ok(migrated.iter().map(ToString::to_string).collect())
}

pub fn open_operations(config: &Config) -> Result<Arc<dyn OperationsStore>, AppError> {
    let (store, _) = SqliteOperationsStore::open_in(&config.data_dir)?;
    Ok(Arc::new(store))
}

/// What a rebuild of the recommendations reads and what it writes.
pub type History = (Arc<dyn OrderStore>, Arc<dyn RecommendationStore>);

pub fn open_history(config: &Config) -> Result<History, AppError> {
    let (orders, _) = SqliteOrderStore::open_in(&config.data_dir)?;
    let (recommendations, _) = SqliteRecommendationStore::open_in(&config.data_dir)?;
    Ok((Arc::new(orders), Arc::new(recommendations)))
}

pub(super) fn open_users(config: &Config) -> Result<Arc<SqliteUserStore>, AppError> {
    let (store, _) = SqliteUserStore::open_in(&config.data_dir)?;
    Ok(Arc::new(store))
}

fn log_options(config: &Config) -> EmbeddedLogOptions {
    EmbeddedLogOptions {
        partitions: config.events.partitions,
        retention: Some(Duration::from_secs(u64::from(config.events.retention_days) * 24 * 60 * 60)),
    }
}

fn log_failed(error: LogError) -> AppError {
    match error {
        LogError::PartitionCount { .. } => AppError::usage(error),
        error => AppError::failed(error),
    }
}

/// Opens the stores; one that another process holds up is tried again until the start's timeout has passed.
async fn open_files(config: &Config) -> Result<SqliteStores, AppError> {
    let deadline = Instant::now() + config.start_timeout();
    let mut failures = 0;
    loop {
        match SqliteStores::open(&config.data_dir) {
            Err(error) if error.is_busy() && Instant::now() < deadline => {
                failures += 1;
                tracing::warn!(%error, "waiting for a store that another process holds");
                let left = deadline.saturating_duration_since(Instant::now());
                tokio::time::sleep(OPEN_WAIT.delay(failures).min(left)).await;
            }
            opened => return Ok(opened?),
        }
    }
}

pub(super) async fn open(config: &Config) -> Result<Opened, AppError> {
    let files = open_files(config).await?;
    let log = Arc::new(EmbeddedLog::open(&config.data_dir, &log_options(config)).map_err(log_failed)?);
    let stores = Stores {
        users: files.users.clone(),
        products: files.products.clone(),
        campaigns: files.products.clone(),
        orders: files.orders.clone(),
        recommendations: files.recommendations.clone(),
        notifications: files.notifications.clone(),
        notification_outbox: files.notifications.clone(),
        operations: files.operations.clone(),
        markers: files.operations.clone(),
        outboxes: vec![
            files.users.clone(),
            files.products.clone(),
            files.orders.clone(),
            files.recommendations.clone(),
            files.notifications.clone(),
            files.operations.clone(),
        ],
        product_consumption: files.products.clone(),
        order_consumption: files.orders.clone(),
        recommendations_written: files.recommendations.foreign_writes(),
        recommendation_consumption: files.recommendations.clone(),
        notification_consumption: files.notifications.clone(),
        operations_consumption: files.operations.clone(),
    };
    let appended = Arc::clone(&log);
    let close_files = Box::new(move || {
        files.close();
        appended.close();
    });
    Ok(Opened { stores, log, close_files })
}
