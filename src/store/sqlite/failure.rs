//! What goes wrong inside the adapter, and the one place where it becomes a [`StoreError`].

use rusqlite::ErrorCode;

use crate::store::StoreError;
use crate::store::cursor::InvalidCursor;

/// A failure of a job on a connection.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Sql(#[from] rusqlite::Error),
    #[error("stored JSON is not what it should be: {0}")]
    Json(#[from] serde_json::Error),
    #[error("{0}")]
    Broken(String),
    #[error("not a cursor of this list")]
    InvalidCursor,
}

/// A stored value that no version of the program writes.
pub(super) fn broken(what: impl Into<String>) -> Failure {
    Failure::Broken(what.into())
}

impl From<InvalidCursor> for Failure {
    fn from(InvalidCursor: InvalidCursor) -> Self {
        Self::InvalidCursor
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::InvalidCursor => Self::InvalidCursor,
            Failure::Sql(error) if is_passing(&error) => Self::Unavailable(error.to_string()),
            other => Self::Broken(other.to_string()),
        }
    }
}

/// Whether the same write may succeed later: the disk, a lock or memory is in the way, not the data.
fn is_passing(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::OperationInterrupted
                | ErrorCode::OutOfMemory
                | ErrorCode::ReadOnly
                | ErrorCode::SystemIoFailure
                | ErrorCode::DiskFull
                | ErrorCode::CannotOpen
                | ErrorCode::PermissionDenied
                | ErrorCode::FileLockingProtocolFailed
        )
    )
}
