//! Production stores: one MongoDB database a domain, in documents that a person can read.
//!
//! A store turns each verb of its port into a call of its [`MongoDatabase`](database::MongoDatabase), which runs on the
//! adapters' own thread and ends within ten seconds. What touches more than one document is a transaction. Its work gets
//! all that it needs as one input and may run several times, so it starts from the input and the database each time:
//!
//! ```text
//! async fn rename(&self, id: UserId, name: String, at: Timestamp) -> Result<Option<User>, StoreError> {
//!     self.database.transaction((id, name, at), |tx, (id, name, at)| Box::pin(rename(tx, *id, name, *at))).await
//! }
//! async fn rename(tx: &mut Tx, id: UserId, name: &str, at: Timestamp) -> Result<Option<User>, Failure> {
//!     let users = tx.collection::<UserDocument>("users");
//!     let Some(user) = users.find_one(doc! { "_id": id.to_string() }).session(tx.session()).await? else { return Ok(None) };
//!     // ... decide, write with `.session(tx.session())`, many updates of a collection with `tx.update`, then
//!     tx.emit(event); // saved with the commit, handed to the relay after it
//!     Ok(Some(user))
//! }
//! ```
//!
//! The effect of a consumed event is `database.consume_with(consumption, input, |tx, input| Box::pin(...))`. Reads and
//! writes of single documents need no transaction: `database.read(async move { ... })`, `database.write(...)`.

mod abandoned;
mod accounts;
mod announcer;
mod api_keys;
mod batches;
mod campaigns;
mod catalogue;
mod co_purchases;
mod connections;
mod consumption;
mod database;
mod deliveries;
mod evidence;
mod failure;
mod generations;
mod inbox;
mod inspection;
mod intake;
mod inventory;
mod mail_requests;
mod migrations;
mod money;
mod notification_content;
mod notification_documents;
mod notifications;
mod operations;
mod order_changes;
mod order_documents;
mod order_insertion;
mod order_outbox;
mod orders;
mod outbox;
mod product_documents;
mod products;
mod readers;
mod recommendations;
mod secrets;
mod server;
mod sessions;
mod stores;
mod transaction;
mod updates;
mod user_documents;
mod users;
mod values;

use std::collections::BTreeMap;
use std::fmt;

pub use connections::Connections;
pub use inspection::{DatabaseFound, ServerFound, inspect};
pub use migrations::{Migrated, OpenError};
pub use notifications::MongoNotificationStore;
pub use operations::MongoOperationsStore;
pub use orders::MongoOrderStore;
pub use products::MongoProductStore;
pub use recommendations::MongoRecommendationStore;
pub use stores::{MongoStores, migrate};
pub use users::MongoUserStore;

use super::cursor;
use super::delegation::{consumption_over_database, outbox_over_database};
use crate::config::Domain;

/// Where the databases are.
#[derive(Clone)]
pub struct MongoSettings {
    pub uri: String,
    /// Of the domains that are elsewhere.
    pub uris: BTreeMap<Domain, String>,
    /// Before the names of databases.
    pub prefix: String,
}

/// URIs carry passwords.
impl fmt::Debug for MongoSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MongoSettings").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl MongoSettings {
    fn uri_of(&self, domain: Domain) -> &str {
        self.uris.get(&domain).unwrap_or(&self.uri)
    }

    fn database(&self, domain: Domain) -> String {
        format!("{}{}", self.prefix, domain.name())
    }
}

/// What every store has besides its own port: it opens and consumes events. Further fields are named with their values.
macro_rules! store_over_database {
    ($store:ident, $domain:ident, $migrations:expr $(, $field:ident: $value:expr)*) => {
        impl $store {
            /// Whose database it is, and the steps to its newest version.
            pub(super) const SCHEMA: (crate::config::Domain, &'static [super::migrations::Migration]) =
                (crate::config::Domain::$domain, $migrations);

            /// Connects to the domain's database and brings it to the newest version.
            pub async fn open(
                connections: &std::sync::Arc<super::Connections>,
                settings: &super::MongoSettings,
            ) -> Result<(Self, super::Migrated), super::OpenError> {
                let (domain, migrations) = Self::SCHEMA;
                let (database, migrated) =
                    super::database::MongoDatabase::open(connections, settings, domain, migrations).await?;
                Ok((Self { database, $($field: $value),* }, migrated))
            }

            /// As [`Self::open`], on connections of its own; a server that is away is waited for.
            pub async fn open_alone(
                settings: &super::MongoSettings,
                patience: std::time::Duration,
            ) -> Result<Self, super::OpenError> {
                let connections = super::Connections::start()?;
                let open = async || Self::open(&connections, settings).await;
                Ok(super::stores::patiently(patience, open).await?.0)
            }
        }

        super::consumption_over_database!($store);
    };
}
use store_over_database;
