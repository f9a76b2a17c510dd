//! Embedded stores: one SQLite file a domain.
//!
//! A store turns each verb of its port into a job for its [`Database`](database::Database): writes go through the one
//! writer thread of the file and are answered after their commit, reads go to connections of their own.

mod accounts;
mod api_keys;
mod campaigns;
mod catalogue;
mod co_purchases;
mod consumption;
mod database;
mod deliveries;
mod evidence;
mod failure;
mod inspection;
mod inventory;
mod lock;
mod mail_requests;
mod migrations;
mod notification_rows;
mod notifications;
mod operations;
mod order_outbox;
mod orders;
mod outbox;
mod products;
mod queue;
mod recommendations;
mod secrets;
mod sessions;
mod user_lists;
mod users;
mod writer;

use std::path::Path;
use std::sync::Arc;

pub use inspection::{FileFound, FileState, inspect};
pub use lock::{DataDirLock, LockError};
pub use migrations::{Migrated, OpenError};
pub use notifications::SqliteNotificationStore;
pub use operations::SqliteOperationsStore;
pub use orders::SqliteOrderStore;
pub use products::SqliteProductStore;
pub use recommendations::SqliteRecommendationStore;
pub use users::SqliteUserStore;

use super::cursor;
use super::delegation::{consumption_over_database, outbox_over_database};

/// The stores of all domains under one data folder.
#[derive(Clone)]
pub struct SqliteStores {
    pub users: Arc<SqliteUserStore>,
    pub products: Arc<SqliteProductStore>,
    pub orders: Arc<SqliteOrderStore>,
    pub recommendations: Arc<SqliteRecommendationStore>,
    pub notifications: Arc<SqliteNotificationStore>,
    pub operations: Arc<SqliteOperationsStore>,
    /// What opening did to each file.
    pub migrated: Vec<Migrated>,
}

impl SqliteStores {
    /// Opens a file for each domain, such as `users.db`; makes what is missing, the folder too, and brings every file to
    /// its newest version. Blocks.
    pub fn open(data_dir: &Path) -> Result<Self, OpenError> {
        let (users, users_migrated) = SqliteUserStore::open_in(data_dir)?;
        let (products, products_migrated) = SqliteProductStore::open_in(data_dir)?;
        let (orders, orders_migrated) = SqliteOrderStore::open_in(data_dir)?;
        let (recommendations, recommendations_migrated) = SqliteRecommendationStore::open_in(data_dir)?;
        let (notifications, notifications_migrated) = SqliteNotificationStore::open_in(data_dir)?;
        let (operations, operations_migrated) = SqliteOperationsStore::open_in(data_dir)?;
        Ok(Self {
            users: Arc::new(users),
            products: Arc::new(products),
            orders: Arc::new(orders),
            recommendations: Arc::new(recommendations),
            notifications: Arc::new(notifications),
            operations: Arc::new(operations),
            migrated: vec![
                users_migrated,
                products_migrated,
                orders_migrated,
                recommendations_migrated,
                notifications_migrated,
                operations_migrated,
            ],
        })
    }

    /// Finishes what was accepted and closes every file. Blocks; later calls of any store are refused.
    pub fn close(&self) {
        self.users.close();
        self.products.close();
        self.orders.close();
        self.recommendations.close();
        self.notifications.close();
        self.operations.close();
    }
}

/// Brings every file under `data_dir` to its newest version and reports what that took.
pub fn migrate(data_dir: &Path) -> Result<Vec<Migrated>, OpenError> {
    let stores = SqliteStores::open(data_dir)?;
    stores.close();
    Ok(stores.migrated)
}

/// Refuses a file of an older version in a folder that a server has for itself.
fn check_is_current(data_dir: &Path, (name, known): (&str, u32)) -> Result<(), OpenError> {
    let path = data_dir.join(name);
    let is_held = || matches!(DataDirLock::acquire(data_dir), Err(LockError::InUse { .. }));
    if inspection::is_older(&path, known) && is_held() { Err(OpenError::InUseByOlder { path }) } else { Ok(()) }
}

/// What every store has besides its own port: it opens and closes a file and consumes events.
macro_rules! store_over_database {
    ($store:ident, $domain:literal, $migrations:expr) => {
        impl $store {
            /// The name of its file, and the newest version that this program knows.
            pub(super) const FILE: (&'static str, u32) = (concat!($domain, ".db"), $migrations.len() as u32);

            /// Opens the file, makes it if it is missing, and brings it to the newest version. Blocks.
            pub fn open(
                path: &std::path::Path,
            ) -> Result<(Self, super::migrations::Migrated), super::migrations::OpenError> {
                let (database, migrated) = super::database::Database::open(path, $domain, $migrations)?;
                Ok((Self { database }, migrated))
            }

            /// As [`Self::open`], in a data folder that is made if it is missing.
            pub fn open_in(
                data_dir: &std::path::Path,
            ) -> Result<(Self, super::migrations::Migrated), super::migrations::OpenError> {
                super::lock::create_data_dir(data_dir)
                    .map_err(|source| super::migrations::OpenError::Folder { path: data_dir.to_owned(), source })?;
                Self::open(&data_dir.join(Self::FILE.0))
            }

            /// As [`Self::open_in`], for a command that may run beside a server: one that knows only an older version would
            /// fail on the newest, so nothing is brought to it beneath such a server. Blocks.
            pub fn open_beside(
                data_dir: &std::path::Path,
            ) -> Result<(Self, super::migrations::Migrated), super::migrations::OpenError> {
                super::check_is_current(data_dir, Self::FILE)?;
                Self::open_in(data_dir)
            }

            /// Finishes what was accepted and closes the file. Blocks; later calls are refused.
            pub fn close(&self) {
                self.database.close();
            }
        }

        super::consumption_over_database!($store);
    };
}
use store_over_database;
