//! A look at the files of the embedded stores that changes nothing: which are there, of which version, and whether they are whole.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::migrations::version;
use super::{
    SqliteNotificationStore, SqliteOperationsStore, SqliteOrderStore, SqliteProductStore, SqliteRecommendationStore,
    SqliteUserStore,
};

/// What was found of one domain's file.
#[derive(Debug, PartialEq, Eq)]
pub struct FileFound {
    pub path: PathBuf,
    pub state: FileState,
}

#[derive(Debug, PartialEq, Eq)]
pub enum FileState {
    /// A start makes it.
    Missing,
    /// `known` is what this program brings it to.
    Version { found: u32, known: u32 },
    /// What SQLite says is wrong with it.
    Broken(String),
}

impl FileFound {
    /// Opening it changes nothing.
    pub fn is_current(&self) -> bool {
        matches!(self.state, FileState::Version { found, known } if found == known)
    }
}

/// Looks at the file of each domain, all of its pages: a large one takes its time. Blocks.
pub fn inspect(data_dir: &Path) -> Vec<FileFound> {
    let files = [
        SqliteUserStore::FILE,
        SqliteProductStore::FILE,
        SqliteOrderStore::FILE,
        SqliteRecommendationStore::FILE,
        SqliteNotificationStore::FILE,
        SqliteOperationsStore::FILE,
    ];
    files.map(|(name, known)| look(data_dir.join(name), known)).into()
}

fn look(path: PathBuf, known: u32) -> FileFound {
    let state = match path.try_exists() {
        Ok(false) => FileState::Missing,
        Ok(true) => read(&path, known).unwrap_or_else(|error| FileState::Broken(error.to_string())),
        Err(error) => FileState::Broken(error.to_string()),
    };
    FileFound { path, state }
}

fn read(path: &Path, known: u32) -> rusqlite::Result<FileState> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let found = version(&connection)?;
    let complaint: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    Ok(if complaint == "ok" { FileState::Version { found, known } } else { FileState::Broken(complaint) })
}

/// Whether a file is there and of a version before `known`.
pub(super) fn is_older(path: &Path, known: u32) -> bool {
    let found = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).and_then(|file| version(&file));
    found.is_ok_and(|found| (1..known).contains(&found))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite::SqliteStores;

    fn states(folder: &Path) -> Vec<FileState> {
        inspect(folder).into_iter().map(|file| file.state).collect()
    }

    #[test]
    fn files_are_missing_then_current_then_newer_or_broken_and_a_look_makes_none() {
        let folder = tempfile::tempdir().unwrap();
        assert!(states(folder.path()).iter().all(|state| *state == FileState::Missing));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);

        SqliteStores::open(folder.path()).unwrap().close();
        let current = |state: &FileState| matches!(state, FileState::Version { found, known } if found == known);
        assert!(states(folder.path()).iter().all(current));

        let users = Connection::open(folder.path().join("users.db")).unwrap();
        users.pragma_update(None, "user_version", 99).unwrap();
        std::fs::write(folder.path().join("products.db"), "not a database, but a text of some length".repeat(40))
            .unwrap();
        let states = states(folder.path());
        assert!(matches!(states[0], FileState::Version { found: 99, known } if known < 99), "{states:?}");
        assert!(matches!(&states[1], FileState::Broken(why) if why.contains("not a database")), "{states:?}");
    }
}
