//! A look at the servers and databases of the production stores that changes nothing.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use mongodb::bson::{DateTime, Document, doc};
use mongodb::{Client, Database};
use tokio::time::timeout;

use super::failure::Failure;
use super::migrations::{Change, Migration, version};
use super::{
    Connections, MongoNotificationStore, MongoOperationsStore, MongoOrderStore, MongoProductStore,
    MongoRecommendationStore, MongoSettings, MongoUserStore, OpenError,
};

/// How long all that is asked of one database may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// What a server answers that has no such collection.
const NAMESPACE_NOT_FOUND: i32 = 26;

/// What was found of one domain's database.
#[derive(Debug)]
pub struct DatabaseFound {
    pub database: String,
    pub server: ServerFound,
    /// The version of its schema, 0 for one that is not there yet, and the one that this program brings it to.
    pub version: (u32, u32),
    /// Indexes of the versions up to its own that are not there, as `collection.index`.
    pub missing_indexes: Vec<String>,
}

#[derive(Debug)]
pub struct ServerFound {
    pub version: String,
    /// `None`: it runs alone, without transactions.
    pub replica_set: Option<String>,
    /// By how many milliseconds its clock is ahead of this machine's, as far as the answer's way lets know.
    pub clock_ahead_ms: i64,
}

/// Looks at the database of each domain. The error's text holds no URI.
pub async fn inspect(settings: &MongoSettings) -> Result<Vec<Result<DatabaseFound, OpenError>>, OpenError> {
    let connections = Connections::start()?;
    let schemas = [
        MongoUserStore::SCHEMA,
        MongoProductStore::SCHEMA,
        MongoOrderStore::SCHEMA,
        MongoRecommendationStore::SCHEMA,
        MongoNotificationStore::SCHEMA,
        MongoOperationsStore::SCHEMA,
    ];
    let mut found = Vec::new();
    for (domain, migrations) in schemas {
        let name = settings.database(domain);
        let looked = match connections.server(settings.uri_of(domain)).await {
            Ok(server) => {
                let database = server.client.database(&name);
                let look = async move {
                    match timeout(PATIENCE, look(&server.client, &database, migrations)).await {
                        Ok(looked) => looked,
                        Err(_) => Err(Failure::Away),
                    }
                };
                connections.run(look).await
            }
            Err(failure) => Err(failure),
        };
        found.push(looked.map_err(|failure| OpenError::of(&name, &failure)));
    }
    Ok(found)
}

async fn look(client: &Client, database: &Database, migrations: &[Migration]) -> Result<DatabaseFound, Failure> {
    let server = server(client).await?;
    let found = version(database).await?;
    let mut missing_indexes = Vec::new();
    for change in migrations.iter().take(found as usize).flat_map(|migration| (migration.changes)()) {
        match change {
            Change::Indexes { collection, indexes } => {
                let there = index_names(database, collection).await?;
                let wanted = indexes.into_iter().filter_map(|index| index.options?.name);
                missing_indexes
                    .extend(wanted.filter(|name| !there.contains(name)).map(|name| format!("{collection}.{name}")));
            }
            Change::DropIndex { collection, name } => {
                missing_indexes.retain(|missing| *missing != format!("{collection}.{name}"));
            }
            Change::Collection { .. } => {}
        }
    }
    let version = (found, migrations.len() as u32);
    Ok(DatabaseFound { database: database.name().to_owned(), server, version, missing_indexes })
}

async fn index_names(database: &Database, collection: &str) -> Result<HashSet<String>, Failure> {
    match database.collection::<Document>(collection).list_index_names().await {
        Ok(names) => Ok(names.into_iter().collect()),
        Err(error) => match &*error.kind {
            mongodb::error::ErrorKind::Command(command) if command.code == NAMESPACE_NOT_FOUND => Ok(HashSet::new()),
            _ => Err(error.into()),
        },
    }
}

async fn server(client: &Client) -> Result<ServerFound, Failure> {
    let admin = client.database("admin");
    let build = admin.run_command(doc! { "buildInfo": 1 }).await?;
    let asked = SystemTime::now();
    let hello = admin.run_command(doc! { "hello": 1 }).await?;
    let way = asked.elapsed().unwrap_or_default();
    let its_time = hello.get_datetime("localTime").map_or_else(|_| DateTime::now(), |time| *time);
    let ours = DateTime::from_system_time(asked + way / 2);
    Ok(ServerFound {
        version: build.get_str("version").unwrap_or("of an unknown version").to_owned(),
        replica_set: hello.get_str("setName").ok().map(str::to_owned),
        clock_ahead_ms: its_time.timestamp_millis() - ours.timestamp_millis(),
    })
}
