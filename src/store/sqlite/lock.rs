//! The lock of a server on its data folder: held by the operating system, so that a killed process leaves none behind.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Why the data folder cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds it.
    #[error("the data folder {} is in use by another souk", path.display())]
    InUse { path: PathBuf },
    #[error("cannot lock the data folder {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// Held as long as the value lives.
#[derive(Debug)]
pub struct DataDirLock {
    _file: File,
}

impl DataDirLock {
    /// Takes the folder, which is made if it is missing.
    pub fn acquire(data_dir: &Path) -> Result<Self, LockError> {
        let failed = |source| LockError::Io { path: data_dir.to_owned(), source };
        create_data_dir(data_dir).map_err(failed)?;
        let path = data_dir.join("souk.lock");
        let file =
            OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(LockError::InUse { path: data_dir.to_owned() }),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }
}

/// Makes the folder, for its owner only; one that is there keeps its mode.
pub(super) fn create_data_dir(data_dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(data_dir)
}
