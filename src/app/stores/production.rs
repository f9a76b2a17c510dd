//! The production adapters: MongoDB and Kafka.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::{AppError, Flow, History, OpenedLog, OpenedStores, Stores, log_failed};
use crate::config::{Config, Domain, SaslMechanism};
use crate::kafka::broker::{BrokerLog, BrokerSettings, Security, SignIn};
use crate::store::mongo::{
    self, MongoOperationsStore, MongoOrderStore, MongoProductStore, MongoRecommendationStore, MongoSettings,
    MongoStores, MongoUserStore, OpenError,
};
use crate::store::operations::OperationsStore;
use crate::store::users::UserStore;

/// MongoDB does not tell that another process has written: who waits for that looks this often.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl From<OpenError> for AppError {
    fn from(error: OpenError) -> Self {
        Self::failed(error)
    }
}

pub(in crate::app) fn mongo_settings(config: &Config) -> MongoSettings {
    let store = &config.store;
    let own = |domain: Domain| (domain, store.uri_of(domain).expose().to_owned());
    MongoSettings {
        uri: store.uri.expose().to_owned(),
        uris: Domain::ALL.into_iter().map(own).collect::<BTreeMap<_, _>>(),
        prefix: store.prefix.clone(),
    }
}

/// A line for each database.
pub(super) async fn migrate_stores(config: &Config) -> Result<Vec<String>, AppError> {
    let migrated = mongo::migrate(&mongo_settings(config), config.start_timeout()).await?;
    Ok(migrated.iter().map(ToString::to_string).collect())
}

pub(super) async fn open_operations(config: &Config) -> Result<Arc<dyn OperationsStore>, AppError> {
    Ok(Arc::new(MongoOperationsStore::open_alone(&mongo_settings(config), config.start_timeout()).await?))
}

pub(super) async fn open_history(config: &Config) -> Result<History, AppError> {
    let (settings, patience) = (mongo_settings(config), config.start_timeout());
    let orders = MongoOrderStore::open_alone(&settings, patience).await?;
    let recommendations = MongoRecommendationStore::open_alone(&settings, patience).await?;
    Ok((Arc::new(orders), Arc::new(recommendations)))
}

pub(super) async fn open_flow(config: &Config) -> Result<Flow, AppError> {
    let (settings, patience) = (mongo_settings(config), config.start_timeout());
    let orders = MongoOrderStore::open_alone(&settings, patience).await?;
    let products = MongoProductStore::open_alone(&settings, patience).await?;
    Ok((Arc::new(orders), Arc::new(products)))
}

pub(super) async fn open_users(config: &Config) -> Result<Arc<dyn UserStore>, AppError> {
    Ok(Arc::new(MongoUserStore::open_alone(&mongo_settings(config), config.start_timeout()).await?))
}

/// Fires again and again, until nobody listens.
fn every(period: Duration) -> watch::Receiver<u64> {
    let (fire, fired) = watch::channel(0);
    tokio::spawn(async move {
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => fire.send_modify(|count| *count += 1),
                () = fire.closed() => return,
            }
        }
    });
    fired
}

pub(in crate::app) fn broker_settings(config: &Config) -> BrokerSettings {
    let events = &config.events;
    let mechanism = match events.sasl {
        SaslMechanism::None => None,
        SaslMechanism::Plain => Some("PLAIN"),
        SaslMechanism::ScramSha256 => Some("SCRAM-SHA-256"),
        SaslMechanism::ScramSha512 => Some("SCRAM-SHA-512"),
    };
    let sign_in = |mechanism| SignIn { mechanism, user: events.user.clone(), password: events.password.clone() };
    BrokerSettings {
        brokers: events.brokers.clone(),
        prefix: events.prefix.clone(),
        partitions: events.partitions,
        retention: Duration::from_secs(u64::from(events.retention_days) * 24 * 60 * 60),
        session_timeout: Duration::from_millis(events.session_timeout_ms),
        security: Security {
            tls: events.tls,
            ca_file: Some(events.tls_ca_file.clone()).filter(|path| !path.as_os_str().is_empty()),
            sign_in: mechanism.map(sign_in),
        },
    }
}

pub(super) async fn open_log(config: &Config) -> Result<OpenedLog, AppError> {
    let log = Arc::new(BrokerLog::open(broker_settings(config)).await.map_err(log_failed)?);
    let closing = Arc::clone(&log);
    Ok(OpenedLog { log, close: Box::new(move || closing.close()) })
}

pub(super) async fn open_stores(config: &Config) -> Result<OpenedStores, AppError> {
    let opened = MongoStores::open(&mongo_settings(config), config.start_timeout()).await?;
    for migrated in opened.migrated.iter().filter(|migrated| !migrated.steps.is_empty()) {
        tracing::info!("{migrated}");
    }
    let stores = Stores {
        users: opened.users.clone(),
        api_keys: opened.users.clone(),
        products: opened.products.clone(),
        campaigns: opened.products.clone(),
        orders: opened.orders.clone(),
        recommendations: opened.recommendations.clone(),
        notifications: opened.notifications.clone(),
        notifications_written: every(LOOK_EVERY),
        serve_one_process: false,
        operations: opened.operations.clone(),
        markers: opened.operations.clone(),
        cache: None,
        outboxes: vec![
            opened.users.clone(),
            opened.products.clone(),
            opened.orders.clone(),
            opened.recommendations.clone(),
            opened.notifications.clone(),
            opened.operations.clone(),
        ],
        product_consumption: opened.products.clone(),
        order_consumption: opened.orders.clone(),
        recommendations_written: every(LOOK_EVERY),
        recommendation_consumption: opened.recommendations.clone(),
        notification_consumption: opened.notifications.clone(),
        operations_consumption: opened.operations.clone(),
    };
    Ok(OpenedStores { stores, close: Box::new(move || opened.close()) })
}
