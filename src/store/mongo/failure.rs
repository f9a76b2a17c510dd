//! What goes wrong inside the adapters, and the one place where it becomes a [`StoreError`].
//!
//! The server quotes keys and documents in its messages, so they are told only where they cannot hold any.

use std::any::Any;

use mongodb::error::{Error, ErrorKind, TRANSIENT_TRANSACTION_ERROR, UNKNOWN_TRANSACTION_COMMIT_RESULT, WriteFailure};

use crate::store::StoreError;
use crate::store::cursor::InvalidCursor;

const UNAUTHORIZED: i32 = 13;
const MAX_TIME_EXPIRED: i32 = 50;
const DUPLICATE_KEY: i32 = 11_000;
const FAILED_VALIDATION: i32 = 121;

/// Codes after which the same call may succeed later: no primary or none reachable, a conflict, a limit of time or room.
const PASSING_CODES: &[i32] = &[
    6, 7, 24, 50, 64, 79, 89, 91, 100, 112, 134, 175, 189, 202, 246, 251, 262, 290, 9001, 10_058, 10_107, 11_600,
    11_601, 11_602, 13_435, 13_436, 14_031,
];

/// A failure of a call.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("{}", describe(.0))]
    Mongo(#[from] Error),
    #[error("a stored document is not what it should be: {0}")]
    Document(#[from] mongodb::bson::error::Error),
    #[error("stored JSON is not what it should be: {0}")]
    Json(#[from] serde_json::Error),
    /// The index whose key is taken.
    #[error("a key of the unique index {0} is taken")]
    Duplicate(String),
    /// Another transaction was faster with a key of a unique index: run again, this one finds what it wrote.
    #[error("another transaction was faster")]
    Conflict,
    #[error("{0}")]
    Broken(String),
    /// Written, but not known to be on most of the replica set.
    #[error("a write found no majority: {0}")]
    Unsettled(String),
    #[error("no answer within {0} s")]
    TimedOut(u64),
    /// Calls before this one have searched for the server in vain, and it was not found since.
    #[error("mongodb is away")]
    Away,
    #[error("the store is closed")]
    Closed,
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
            passing if passing.is_passing() => Self::Unavailable(passing.to_string()),
            other => Self::Broken(other.to_string()),
        }
    }
}

impl Failure {
    pub(super) fn panicked(panic: &(dyn Any + Send)) -> Self {
        let message = panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_default();
        Self::Broken(format!("a job of the store panicked: {message}"))
    }

    /// The name of the unique index that a write ran into.
    pub(super) fn duplicate_index(&self) -> Option<&str> {
        match self {
            Self::Duplicate(index) => Some(index),
            Self::Mongo(error) => {
                let (DUPLICATE_KEY, message) = first_error(error)? else { return None };
                Some(index_in(message))
            }
            _ => None,
        }
    }

    /// Whether the same call may succeed later: the server or the way to it is in the way, not the data.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Mongo(error) => {
                self.is_transient()
                    || is_connection_lost(error)
                    || first_error(error).is_some_and(|(code, _)| PASSING_CODES.contains(&code))
            }
            Self::Conflict | Self::Unsettled(_) | Self::TimedOut(_) | Self::Away | Self::Closed => true,
            _ => false,
        }
    }

    /// Whether the whole transaction is to be run again, at once. Not after a search for a primary in vain: that has
    /// taken its time already.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Mongo(error) => error.contains_label(TRANSIENT_TRANSACTION_ERROR) && !is_without_server(error),
            Self::Conflict => true,
            _ => false,
        }
    }

    /// Whether the server did not answer, so that it is to be searched for.
    pub(super) fn is_unreachable(&self) -> bool {
        match self {
            Self::Mongo(error) => is_connection_lost(error),
            Self::TimedOut(_) | Self::Away => true,
            _ => false,
        }
    }

    /// In a transaction that has found the key of this index free: whoever has taken it since was faster.
    pub(super) fn or_conflict(self, index: &str) -> Self {
        if self.duplicate_index() == Some(index) { Self::Conflict } else { self }
    }

    /// Whether a commit may or may not have happened and can be asked for again.
    pub(super) fn is_unknown_commit(&self) -> bool {
        matches!(self, Self::Mongo(error)
            if error.contains_label(UNKNOWN_TRANSACTION_COMMIT_RESULT)
                && !is_without_server(error)
                && first_error(error).is_none_or(|(code, _)| code != MAX_TIME_EXPIRED))
    }

    /// Whether the server could not be reached at all.
    pub(super) fn is_away(&self) -> bool {
        self.is_passing()
            && !matches!(self, Self::Mongo(error) if matches!(*error.kind, ErrorKind::Authentication { .. }))
    }
}

/// The index that a message about a duplicate key names; what follows there is the key itself.
pub(super) fn index_in(message: &str) -> &str {
    let index = message.split_once("index: ").map_or("unknown", |(_, rest)| rest);
    index.split_once(" dup key").map_or(index, |(name, _)| name).split_whitespace().next().unwrap_or("unknown")
}

pub(super) fn is_duplicate(code: i32) -> bool {
    code == DUPLICATE_KEY
}

fn is_without_server(error: &Error) -> bool {
    matches!(*error.kind, ErrorKind::ServerSelection { .. })
}

fn is_connection_lost(error: &Error) -> bool {
    matches!(
        *error.kind,
        ErrorKind::ServerSelection { .. }
            | ErrorKind::Io(_)
            | ErrorKind::ConnectionPoolCleared { .. }
            | ErrorKind::DnsResolve { .. }
            | ErrorKind::Authentication { .. }
            | ErrorKind::Shutdown
    )
}

/// The first error of a command with its code.
fn first_error(error: &Error) -> Option<(i32, &str)> {
    match &*error.kind {
        ErrorKind::Command(command) => Some((command.code, &command.message)),
        ErrorKind::Write(WriteFailure::WriteError(write)) => Some((write.code, &write.message)),
        ErrorKind::Write(WriteFailure::WriteConcernError(concern)) => Some((concern.code, &concern.message)),
        ErrorKind::InsertMany(many) => {
            let write = many.write_errors.iter().flatten().next().map(|write| (write.code, write.message.as_str()));
            write.or_else(|| many.write_concern_error.as_ref().map(|concern| (concern.code, concern.message.as_str())))
        }
        _ => None,
    }
}

fn describe(error: &Error) -> String {
    match (&*error.kind, first_error(error)) {
        (_, Some((DUPLICATE_KEY, message))) => format!("a key of the unique index {} is taken", index_in(message)),
        (_, Some((FAILED_VALIDATION, _))) => "a document does not pass its collection's validator".into(),
        (_, Some((UNAUTHORIZED, _))) => "mongodb allows this user too little".into(),
        (_, Some((code, message))) => format!("mongodb refused a command: {message} (code {code})"),
        (ErrorKind::ServerSelection { .. }, _) => "mongodb has no primary that can be reached".into(),
        (ErrorKind::Io(io), _) => format!("the connection to mongodb failed: {io}"),
        (ErrorKind::ConnectionPoolCleared { .. }, _) => "the connection to mongodb was lost".into(),
        (ErrorKind::Authentication { .. }, _) => "mongodb refused the user or the password".into(),
        (kind, _) => format!("mongodb: {kind}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_duplicate_key_only_the_index_is_told() {
        let message = r#"E11000 duplicate key error collection: souk_users.users index: users_by_email dup key: { emailKey: "ada@example.com" }"#;
        assert_eq!(index_in(message), "users_by_email");
        assert_eq!(index_in("something else"), "unknown");
    }

    #[test]
    fn what_may_pass_is_unavailable_and_the_rest_is_broken() {
        let refused = Failure::Mongo(std::io::Error::from(std::io::ErrorKind::ConnectionRefused).into());
        assert!(matches!(StoreError::from(refused), StoreError::Unavailable(_)));
        assert!(matches!(StoreError::from(Failure::Closed), StoreError::Unavailable(_)));
        assert!(matches!(StoreError::from(Failure::TimedOut(10)), StoreError::Unavailable(_)));
        assert!(matches!(StoreError::from(Failure::Away), StoreError::Unavailable(_)));
        assert!(matches!(StoreError::from(broken("a role")), StoreError::Broken(_)));
        assert!(matches!(StoreError::from(Failure::Duplicate("i".into())), StoreError::Broken(_)));
        assert!(matches!(StoreError::from(Failure::InvalidCursor), StoreError::InvalidCursor));
    }
}
