//! Port of the operations store: dead letters, kept, shown, replayed, discarded.

use async_trait::async_trait;

use super::StoreError;
use super::consumption::{Consumed, Consumption};
pub use crate::domain::dead_letters::DeadLetter;
use crate::domain::events::PendingEvent;
use crate::domain::page::{Page, PageRequest};
use crate::domain::time::Timestamp;

/// What a replay or a discard did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettleDeadLetter {
    Settled(Box<DeadLetter>),
    /// Nothing happened: it had been discarded before, or, when it was to be replayed, replayed.
    AlreadySettled(Box<DeadLetter>),
    NotFound,
}

/// A letter with its position in the order in which letters came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterEntry {
    pub cursor: String,
    pub letter: DeadLetter,
}

#[async_trait]
pub trait OperationsStore: Send + Sync {
    /// Stores letters, with the news of each ([`DeadLetter::kept_event`]); one that is there already stays as it is.
    async fn add_dead_letters(
        &self,
        letters: Vec<DeadLetter>,
        consumption: Consumption,
        at: Timestamp,
    ) -> Result<Consumed<()>, StoreError>;

    async fn dead_letters(&self, ids: &[String]) -> Result<Vec<DeadLetter>, StoreError>;

    /// Newest first; `open_only` leaves out what was replayed or discarded.
    async fn list_dead_letters(
        &self,
        source: Option<&str>,
        open_only: bool,
        page: &PageRequest,
    ) -> Result<Page<DeadLetter>, StoreError>;

    /// The position after which a stream of new letters that starts now begins.
    async fn latest_dead_letter(&self) -> Result<String, StoreError>;

    /// Up to `limit` letters that came after a cursor, oldest first.
    async fn dead_letters_after(&self, cursor: &str, limit: u32) -> Result<Vec<DeadLetterEntry>, StoreError>;

    /// Marks a letter replayed, with who did it, and saves the event that carries it back, in one commit.
    async fn replay_dead_letter(
        &self,
        id: &str,
        event: PendingEvent,
        by: &str,
        at: Timestamp,
    ) -> Result<SettleDeadLetter, StoreError>;

    /// Marks a letter discarded, with who did it. One that was replayed can be discarded too.
    async fn discard_dead_letter(&self, id: &str, by: &str, at: Timestamp) -> Result<SettleDeadLetter, StoreError>;
}

/// Names under which a job that must survive a crash keeps how far it has come.
#[async_trait]
pub trait MarkerStore: Send + Sync {
    async fn marker(&self, name: &str) -> Result<Option<String>, StoreError>;

    async fn set_marker(&self, name: &str, value: &str) -> Result<(), StoreError>;
}
