//! Versioned schemas: each domain's file has a list of steps, `PRAGMA user_version` says how many of them it has seen.
//!
//! Every step runs in a transaction of its own with the version it leads to, so an interrupted migration goes on where
//! it stopped and two processes that migrate at once do each step once.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, Transaction, TransactionBehavior};

/// One step; its place in the list is its version, so a step that was released never changes or moves.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    pub name: &'static str,
    pub sql: &'static [&'static str],
}

/// What was done to a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrated {
    pub path: PathBuf,
    pub from: u32,
    pub to: u32,
    /// The names of the steps that ran.
    pub steps: Vec<&'static str>,
}

impl std::fmt::Display for Migrated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = self.path.display();
        if self.steps.is_empty() {
            return write!(f, "{path}: version {}, nothing to do", self.to);
        }
        write!(f, "{path}: version {} to {} ({})", self.from, self.to, self.steps.join(", "))
    }
}

/// Why a store file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot use the data folder {}: {source}", path.display())]
    Folder { path: PathBuf, source: std::io::Error },
    #[error("cannot open {}: {source}", path.display())]
    Sqlite { path: PathBuf, source: rusqlite::Error },
    #[error("{} has schema version {found}, this program knows up to {known}: use a newer souk", path.display())]
    Newer { path: PathBuf, found: u32, known: u32 },
    #[error("{} is of an older souk, which is running: stop it first", path.display())]
    InUseByOlder { path: PathBuf },
    #[error("cannot start a thread for {}: {source}", path.display())]
    Thread { path: PathBuf, source: std::io::Error },
}

impl OpenError {
    /// Another process holds a lock on the file: it may be free a moment later.
    pub fn is_busy(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked};
        match self {
            Self::Sqlite { source, .. } => matches!(source.sqlite_error_code(), Some(DatabaseBusy | DatabaseLocked)),
            Self::Folder { .. } | Self::Newer { .. } | Self::InUseByOlder { .. } | Self::Thread { .. } => false,
        }
    }
}

/// Brings a file to the newest version. Nothing to do is no error.
pub(super) fn migrate(
    connection: &mut Connection,
    path: &Path,
    migrations: &[Migration],
) -> Result<Migrated, OpenError> {
    let failed = |source| OpenError::Sqlite { path: path.to_owned(), source };
    let known = migrations.len() as u32;
    let from = version(connection).map_err(failed)?;
    if from > known {
        return Err(OpenError::Newer { path: path.to_owned(), found: from, known });
    }
    let mut steps = Vec::new();
    for (target, migration) in (1..).zip(migrations).skip(from as usize) {
        let transaction = Transaction::new(connection, TransactionBehavior::Immediate).map_err(failed)?;
        if version(&transaction).map_err(failed)? >= target {
            continue;
        }
        for sql in migration.sql {
            transaction.execute_batch(sql).map_err(failed)?;
        }
        transaction.pragma_update(None, "user_version", target).map_err(failed)?;
        transaction.commit().map_err(failed)?;
        steps.push(migration.name);
    }
    Ok(Migrated { path: path.to_owned(), from, to: known, steps })
}

pub(super) fn version(connection: &Connection) -> rusqlite::Result<u32> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}
