//! Which adapter each port has: SQLite files and the embedded log under the data folder.

use std::sync::Arc;
use std::time::Duration;

use super::AppError;
use crate::config::Config;
use crate::kafka::EventLog;
use crate::kafka::embedded::{EmbeddedLog, EmbeddedLogOptions};
use crate::store::consumption::ConsumptionStore;
use crate::store::operations::{MarkerStore, OperationsStore};
use crate::store::orders::OrderStore;
use crate::store::outbox::Outbox;
use crate::store::products::ProductStore;
use crate::store::sqlite::{DataDirLock, OpenError, SqliteOperationsStore, SqliteStores, SqliteUserStore};
use crate::store::users::UserStore;

/// The ports, whatever adapters are behind them.
#[derive(Clone)]
pub struct Stores {
    pub users: Arc<dyn UserStore>,
    pub products: Arc<dyn ProductStore>,
    pub orders: Arc<dyn OrderStore>,
    pub operations: Arc<dyn OperationsStore>,
    pub markers: Arc<dyn MarkerStore>,
    /// One a domain.
    pub outboxes: Vec<Arc<dyn Outbox>>,
    /// Where group `inventory` keeps its offsets.
    pub product_consumption: Arc<dyn ConsumptionStore>,
    /// Where group `orders` does.
    pub order_consumption: Arc<dyn ConsumptionStore>,
    /// Where group `dead-letters` does.
    pub operations_consumption: Arc<dyn ConsumptionStore>,
}

/// The lock on the data folder, held for as long as a server runs on it.
pub struct DataDirGuard(#[expect(dead_code, reason = "held, never read")] DataDirLock);

/// What [`open`] opened.
pub(super) struct Opened {
    pub stores: Stores,
    pub log: Arc<dyn EventLog>,
    pub close_files: Box<dyn Fn() + Send + Sync>,
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
    let migrated = crate::store::sqlite::migrate(&config.data_dir)?;
    Ok(migrated.iter().map(ToString::to_string).collect())
}

pub fn open_operations(config: &Config) -> Result<Arc<dyn OperationsStore>, AppError> {
    let (store, _) = SqliteOperationsStore::open_in(&config.data_dir)?;
    Ok(Arc::new(store))
}

pub(super) fn open_users(config: &Config) -> Result<Arc<SqliteUserStore>, AppError> {
    let (store, _) = SqliteUserStore::open_in(&config.data_dir)?;
    Ok(Arc::new(store))
}

pub(super) fn open(config: &Config) -> Result<Opened, AppError> {
    let files = SqliteStores::open(&config.data_dir)?;
    let options = EmbeddedLogOptions {
        partitions: config.events.partitions,
        retention: Some(Duration::from_secs(u64::from(config.events.retention_days) * 24 * 60 * 60)),
    };
    let log = Arc::new(EmbeddedLog::open(&config.data_dir, &options).map_err(AppError::usage)?);
    let stores = Stores {
        users: files.users.clone(),
        products: files.products.clone(),
        orders: files.orders.clone(),
        operations: files.operations.clone(),
        markers: files.operations.clone(),
        outboxes: vec![files.users.clone(), files.products.clone(), files.orders.clone(), files.operations.clone()],
        product_consumption: files.products.clone(),
        order_consumption: files.orders.clone(),
        operations_consumption: files.operations.clone(),
    };
    let close_files = Box::new(move || files.close());
    Ok(Opened { stores, log, close_files })
}
