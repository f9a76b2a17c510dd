//! The embedded adapters: SQLite files and the event log under the data folder.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{AppError, Flow, History, OpenedLog, OpenedStores, Stores, log_failed};
use crate::config::Config;
use crate::kafka::LogError;
use crate::kafka::backoff::Backoff;
use crate::kafka::embedded::{self, EmbeddedLog, EmbeddedLogOptions};
use crate::store::operations::OperationsStore;
use crate::store::outbox::Outbox;
use crate::store::sqlite::{
    Migrated, OpenError, SqliteOperationsStore, SqliteOrderStore, SqliteProductStore, SqliteRecommendationStore,
    SqliteStores, SqliteUserStore,
};
use crate::store::users::UserStore;

/// Between two attempts to open a store that is busy.
const OPEN_WAIT: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));

impl From<OpenError> for AppError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::InUseByOlder { .. } => Self::usage(error),
            error => Self::failed(error),
        }
    }
}

/// A line for each file.
pub(super) fn migrate_stores(config: &Config) -> Result<Vec<String>, AppError> {
    Ok(crate::store::sqlite::migrate(&config.data_dir)?.iter().map(ToString::to_string).collect())
}

pub(super) fn migrate_log(config: &Config) -> Result<String, AppError> {
    let (from, to) = embedded::migrate(&config.data_dir, &log_options(config)).map_err(log_failed)?;
    let steps = if from < to { vec!["event log"] } else { Vec::new() };
    Ok(Migrated { path: config.data_dir.join(embedded::FILE_NAME), from, to, steps }.to_string())
}

pub(in crate::app) fn inspect_log(config: &Config) -> Result<bool, LogError> {
    embedded::inspect(&config.data_dir, &log_options(config))
}

/// How long a server that has just started may take to bring a file to its version.
const MIGRATING: Duration = Duration::from_secs(5);

/// Opens a store for a command, which may run beside a server.
async fn beside<S>(open: impl Fn() -> Result<(S, Migrated), OpenError>) -> Result<Arc<S>, AppError> {
    let deadline = Instant::now() + MIGRATING;
    loop {
        match open() {
            Err(OpenError::InUseByOlder { .. }) if Instant::now() < deadline => {
                tokio::time::sleep(OPEN_WAIT.delay(1)).await;
            }
            opened => return Ok(Arc::new(opened?.0)),
        }
    }
}

pub(super) async fn open_operations(config: &Config) -> Result<Arc<dyn OperationsStore>, AppError> {
    Ok(beside(|| SqliteOperationsStore::open_beside(&config.data_dir)).await?)
}

pub(super) async fn open_history(config: &Config) -> Result<History, AppError> {
    let orders = beside(|| SqliteOrderStore::open_beside(&config.data_dir)).await?;
    Ok((orders, beside(|| SqliteRecommendationStore::open_beside(&config.data_dir)).await?))
}

pub(super) async fn open_flow(config: &Config) -> Result<Flow, AppError> {
    let orders = beside(|| SqliteOrderStore::open_beside(&config.data_dir)).await?;
    Ok((orders, beside(|| SqliteProductStore::open_beside(&config.data_dir)).await?))
}

pub(super) async fn open_users(config: &Config) -> Result<Arc<dyn UserStore>, AppError> {
    Ok(beside(|| SqliteUserStore::open_beside(&config.data_dir)).await?)
}

fn log_options(config: &Config) -> EmbeddedLogOptions {
    EmbeddedLogOptions {
        partitions: config.events.partitions,
        retention: Some(Duration::from_secs(u64::from(config.events.retention_days) * 24 * 60 * 60)),
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

pub(super) fn open_log(config: &Config) -> Result<OpenedLog, AppError> {
    let log = Arc::new(EmbeddedLog::open(&config.data_dir, &log_options(config)).map_err(log_failed)?);
    let appended = Arc::clone(&log);
    Ok(OpenedLog { log, close: Box::new(move || appended.close()) })
}

pub(super) async fn open_stores(config: &Config) -> Result<OpenedStores, AppError> {
    let files = open_files(config).await?;
    let stores = Stores {
        users: files.users.clone(),
        api_keys: files.users.clone(),
        products: files.products.clone(),
        campaigns: files.products.clone(),
        orders: files.orders.clone(),
        recommendations: files.recommendations.clone(),
        notifications: files.notifications.clone(),
        notifications_written: files.notifications.foreign_writes(),
        serve_one_process: true,
        operations: files.operations.clone(),
        markers: files.operations.clone(),
        cache: None,
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
    Ok(OpenedStores { stores, close: Box::new(move || files.close()) })
}
