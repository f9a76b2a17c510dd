//! Versioned schemas: each domain has a list of steps, and the collection `migrations` of its database one document for
//! each that was done.
//!
//! What a step does can be done twice, so two processes that migrate at once hold up neither one another nor, when one of
//! them dies, the next start. Whoever inserts the step's document has done it.

use std::fmt;

use futures_util::TryStreamExt;
use mongodb::bson::{DateTime, Document, doc};
use mongodb::options::IndexOptions;
use mongodb::{Database, IndexModel};
use serde::{Deserialize, Serialize};

use super::failure::Failure;

const MIGRATIONS: &str = "migrations";
/// The collection is there.
const NAMESPACE_EXISTS: i32 = 48;
const INDEX_NOT_FOUND: i32 = 27;

/// One step; its place in the list is its version, so a step that was released never changes or moves.
pub struct Migration {
    pub name: &'static str,
    pub changes: fn() -> Vec<Change>,
}

/// A part of a step, the same whether it is done once or twice.
pub enum Change {
    /// Makes a collection whose documents must pass a validator.
    Collection {
        name: &'static str,
        validator: Document,
    },
    Indexes {
        collection: &'static str,
        indexes: Vec<IndexModel>,
    },
    /// Drops an index that an earlier step has made.
    DropIndex {
        collection: &'static str,
        name: &'static str,
    },
}

/// What was done to a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrated {
    pub database: String,
    pub from: u32,
    pub to: u32,
    /// The names of the steps that this process did.
    pub steps: Vec<&'static str>,
}

impl fmt::Display for Migrated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.steps.is_empty() {
            return write!(f, "{}: version {}, nothing to do", self.database, self.to);
        }
        write!(f, "{}: version {} to {} ({})", self.database, self.from, self.to, self.steps.join(", "))
    }
}

/// Why a store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot start the thread of mongodb: {0}")]
    Thread(#[from] std::io::Error),
    #[error("cannot open the database {database}: {what}")]
    Database {
        database: String,
        what: String,
        /// The server may be there a moment later.
        away: bool,
    },
    #[error("the database {database} has schema version {found}, this program knows up to {known}: use a newer souk")]
    Newer { database: String, found: u32, known: u32 },
}

impl OpenError {
    pub(super) fn of(database: &str, failure: &Failure) -> Self {
        Self::Database { database: database.to_owned(), what: failure.to_string(), away: failure.is_away() }
    }

    /// The server cannot be reached: it may be back a moment later.
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Database { away: true, .. })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Done {
    #[serde(rename = "_id")]
    version: u32,
    name: String,
    done_at: DateTime,
}

/// A collection whose documents have these fields, each with the BSON type or types that it may have. A field whose name
/// ends in `?` may be missing.
pub(super) fn collection(name: &'static str, fields: &[(&str, &[&str])]) -> Change {
    let required: Vec<&str> = fields.iter().map(|(field, _)| *field).filter(|field| !field.ends_with('?')).collect();
    let properties: Document = fields
        .iter()
        .map(|(field, types)| (field.trim_end_matches('?').to_owned(), doc! { "bsonType": types.to_vec() }.into()))
        .collect();
    let schema = doc! { "bsonType": "object", "required": required, "properties": properties };
    Change::Collection { name, validator: doc! { "$jsonSchema": schema } }
}

pub(super) fn indexes(collection: &'static str, indexes: impl Into<Vec<IndexModel>>) -> Change {
    Change::Indexes { collection, indexes: indexes.into() }
}

pub(super) fn index(name: &str, keys: Document) -> IndexModel {
    with_options(keys, IndexOptions::builder().name(name.to_owned()).build())
}

pub(super) fn unique_index(name: &str, keys: Document) -> IndexModel {
    with_options(keys, IndexOptions::builder().name(name.to_owned()).unique(true).build())
}

/// Of the documents that have the field only.
pub(super) fn sparse_unique_index(name: &str, keys: Document) -> IndexModel {
    with_options(keys, IndexOptions::builder().name(name.to_owned()).unique(true).sparse(true).build())
}

/// Of the documents that the filter matches only.
pub(super) fn partial_index(name: &str, keys: Document, filter: Document) -> IndexModel {
    with_options(keys, IndexOptions::builder().name(name.to_owned()).partial_filter_expression(filter).build())
}

fn with_options(keys: Document, options: IndexOptions) -> IndexModel {
    IndexModel::builder().keys(keys).options(options).build()
}

/// Brings a database to the newest version. Nothing to do is no error.
pub(super) async fn migrate(database: &Database, migrations: &[Migration]) -> Result<Migrated, OpenError> {
    let name = database.name();
    let failed = |failure: Failure| OpenError::of(name, &failure);
    let known = migrations.len() as u32;
    let from = version(database).await.map_err(failed)?;
    if from > known {
        return Err(OpenError::Newer { database: name.to_owned(), found: from, known });
    }
    let mut steps = Vec::new();
    for (target, migration) in (1..).zip(migrations).skip(from as usize) {
        for change in (migration.changes)() {
            make(database, change).await.map_err(failed)?;
        }
        if note(database, target, migration.name).await.map_err(failed)? {
            tracing::info!(database = name, version = target, step = migration.name, "migrated a database");
            steps.push(migration.name);
        }
    }
    Ok(Migrated { database: name.to_owned(), from, to: known, steps })
}

pub(super) async fn version(database: &Database) -> Result<u32, Failure> {
    let steps = database.collection::<Done>(MIGRATIONS);
    let mut newest = steps.find(doc! {}).sort(doc! { "_id": -1 }).limit(1).await?;
    Ok(newest.try_next().await?.map_or(0, |done| done.version))
}

async fn make(database: &Database, change: Change) -> Result<(), Failure> {
    match change {
        Change::Collection { name, validator } => match database.create_collection(name).validator(validator).await {
            Err(error) if is_command_error(&error, NAMESPACE_EXISTS) => Ok(()),
            made => Ok(made?),
        },
        Change::Indexes { collection, indexes } => {
            database.collection::<Document>(collection).create_indexes(indexes).await?;
            Ok(())
        }
        Change::DropIndex { collection, name } => {
            match database.collection::<Document>(collection).drop_index(name).await {
                Err(error) if is_command_error(&error, INDEX_NOT_FOUND) => Ok(()),
                dropped => Ok(dropped?),
            }
        }
    }
}

fn is_command_error(error: &mongodb::error::Error, code: i32) -> bool {
    matches!(&*error.kind, mongodb::error::ErrorKind::Command(command) if command.code == code)
}

/// False: another process has done the step meanwhile.
async fn note(database: &Database, version: u32, name: &str) -> Result<bool, Failure> {
    let done = Done { version, name: name.to_owned(), done_at: DateTime::now() };
    match database.collection::<Done>(MIGRATIONS).insert_one(done).await.map_err(Failure::from) {
        Ok(_) => Ok(true),
        Err(failure) if failure.duplicate_index().is_some() => Ok(false),
        Err(failure) => Err(failure),
    }
}
