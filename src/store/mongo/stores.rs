//! The stores of all domains, opened together.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{
    Connections, Migrated, MongoNotificationStore, MongoOperationsStore, MongoOrderStore, MongoProductStore,
    MongoRecommendationStore, MongoSettings, MongoUserStore, OpenError,
};

/// Between two attempts to reach a server that is away; each has searched for it before.
const PAUSE: Duration = Duration::from_millis(500);

/// The stores of all domains, over the same connections.
pub struct MongoStores {
    pub users: Arc<MongoUserStore>,
    pub products: Arc<MongoProductStore>,
    pub orders: Arc<MongoOrderStore>,
    pub recommendations: Arc<MongoRecommendationStore>,
    pub notifications: Arc<MongoNotificationStore>,
    pub operations: Arc<MongoOperationsStore>,
    /// What opening did to each database.
    pub migrated: Vec<Migrated>,
    connections: Arc<Connections>,
}

impl MongoStores {
    /// Connects to the database of each domain and brings it to its newest version. A server that is away is waited for as
    /// long as `patience` says.
    pub async fn open(settings: &MongoSettings, patience: Duration) -> Result<Self, OpenError> {
        let connections = Connections::start()?;
        patiently(patience, async || Self::open_on(&connections, settings).await).await
    }

    async fn open_on(connections: &Arc<Connections>, settings: &MongoSettings) -> Result<Self, OpenError> {
        let (users, users_migrated) = MongoUserStore::open(connections, settings).await?;
        let (products, products_migrated) = MongoProductStore::open(connections, settings).await?;
        let (orders, orders_migrated) = MongoOrderStore::open(connections, settings).await?;
        let (recommendations, recommendations_migrated) = MongoRecommendationStore::open(connections, settings).await?;
        let (notifications, notifications_migrated) = MongoNotificationStore::open(connections, settings).await?;
        let (operations, operations_migrated) = MongoOperationsStore::open(connections, settings).await?;
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
            connections: Arc::clone(connections),
        })
    }

    /// Finishes what was accepted and ends the connections. Blocks; later calls of any store are refused.
    pub fn close(&self) {
        self.connections.close();
    }
}

/// Brings the database of each domain to its newest version and reports what that took.
pub async fn migrate(settings: &MongoSettings, patience: Duration) -> Result<Vec<Migrated>, OpenError> {
    Ok(MongoStores::open(settings, patience).await?.migrated)
}

/// Opens, again while the server is away and there is patience left.
pub(super) async fn patiently<T>(
    patience: Duration,
    open: impl AsyncFn() -> Result<T, OpenError>,
) -> Result<T, OpenError> {
    let deadline = Instant::now() + patience;
    loop {
        match open().await {
            Err(error) if error.is_away() && Instant::now() + PAUSE < deadline => {
                tracing::warn!(%error, "waiting for a store that is away");
                tokio::time::sleep(PAUSE).await;
            }
            opened => return opened,
        }
    }
}
