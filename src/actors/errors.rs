//! What a domain actor answers when it does not do what it was asked: one type, mapped to the API in one place
//! (`gateway/errors.rs`).

use std::fmt;

use super::ask::AskError;
use crate::domain::ids::ProductId;
use crate::domain::inventory::Shortage;
use crate::domain::orders::IllegalTransition;
use crate::domain::products::{InvalidField, StockOutOfRange};
use crate::store::StoreError;

/// Which input is meant: names and positions from the message inward, e.g. `lines`, `0`, `quantity`.
pub type FieldPath = Vec<String>;

#[derive(Debug, Clone, thiserror::Error)]
pub enum DomainError {
    #[error("{reason}")]
    InvalidInput { field: FieldPath, reason: String },
    /// Missing, or not the viewer's, or no id at all: answered alike, so `what` has its article everywhere.
    #[error("{what} was not found")]
    NotFound { what: &'static str, field: FieldPath },
    /// The object has changed since the caller read it.
    #[error("the product has changed: its version is {current}")]
    VersionConflict { current: i32 },
    #[error("the SKU belongs to another product")]
    SkuTaken,
    #[error("the e-mail address belongs to an account already")]
    EmailTaken,
    #[error("the e-mail address or the password is wrong")]
    InvalidCredentials,
    /// Of an account that is known: the one who asks is signed in.
    #[error("the password is wrong")]
    WrongPassword,
    #[error("the token is not valid")]
    TokenInvalid,
    #[error("{0}")]
    WeakPassword(String),
    /// Each product of which there is too little.
    #[error("there is not enough in stock")]
    InsufficientStock(Vec<Shortage>),
    #[error("the product is no longer sold")]
    ProductUnavailable { product_id: ProductId, field: FieldPath },
    #[error(transparent)]
    IllegalTransition(#[from] IllegalTransition),
    #[error("the dead letter was discarded")]
    DeadLetterDiscarded { field: FieldPath },
    #[error("the idempotency key was used with other input")]
    IdempotencyKeyReused,
    #[error("too busy")]
    Busy { retry_after_ms: u32 },
    /// A fault, not a refusal: the store is away.
    #[error("{0}")]
    Unavailable(String),
    /// A fault: the answer did not come in time; whether it was done is unknown.
    #[error("no answer in time")]
    Timeout,
    /// A fault of the program.
    #[error("{0}")]
    Internal(String),
}

impl DomainError {
    pub fn invalid(field: &str, reason: impl fmt::Display) -> Self {
        Self::InvalidInput { field: path(field), reason: reason.to_string() }
    }
}

/// `lines.0.quantity` as a path.
pub fn path(dotted: &str) -> FieldPath {
    dotted.split('.').filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

impl From<StoreError> for DomainError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(reason) => Self::Unavailable(reason),
            StoreError::Broken(reason) => Self::Internal(reason),
            StoreError::InvalidCursor => Self::invalid("after", error),
        }
    }
}

impl From<InvalidField> for DomainError {
    fn from(error: InvalidField) -> Self {
        Self::invalid(error.field, error.reason)
    }
}

impl From<StockOutOfRange> for DomainError {
    fn from(error: StockOutOfRange) -> Self {
        Self::invalid("delta", error)
    }
}

/// How long a client is told to wait when a mailbox is full. Milliseconds.
pub const BUSY_RETRY_MS: u32 = 250;

impl From<AskError> for DomainError {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Busy => Self::Busy { retry_after_ms: BUSY_RETRY_MS },
            AskError::Timeout => Self::Timeout,
            AskError::Interrupted => Self::Unavailable("the actor was restarted while it worked on this".into()),
            AskError::Stopped => Self::Unavailable("shutting down".into()),
        }
    }
}
