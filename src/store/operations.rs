//! Port of the operations store: dead letters, kept, shown, replayed, discarded.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::StoreError;
use super::consumption::{Consumed, Consumption, StoredRecord};
use crate::domain::events::PendingEvent;
use crate::domain::page::{Page, PageRequest};
use crate::domain::time::Timestamp;

/// A message that failed for good. Also the body of the event by which it travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// `group/topic/partition/offset/round`: the same failure is the same letter.
    pub id: String,
    /// The group that failed.
    pub source: String,
    pub reason: String,
    pub attempts: u32,
    pub record: StoredRecord,
    /// 0 the first time; a replay that fails again is a letter of the next round.
    pub round: u32,
    pub failed_at: Timestamp,
    #[serde(default)]
    pub replayed_at: Option<Timestamp>,
    #[serde(default)]
    pub discarded_at: Option<Timestamp>,
}

/// What a replay or a discard did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettleDeadLetter {
    Settled(Box<DeadLetter>),
    /// It had been replayed or discarded before: nothing happened again.
    AlreadySettled(Box<DeadLetter>),
    NotFound,
}

#[async_trait]
pub trait OperationsStore: Send + Sync {
    /// Stores letters; one that is there already stays as it is.
    async fn add_dead_letters(
        &self,
        letters: Vec<DeadLetter>,
        consumption: Consumption,
    ) -> Result<Consumed<()>, StoreError>;

    async fn dead_letters(&self, ids: &[String]) -> Result<Vec<DeadLetter>, StoreError>;

    /// Newest first; `open_only` leaves out what was replayed or discarded.
    async fn list_dead_letters(
        &self,
        source: Option<&str>,
        open_only: bool,
        page: &PageRequest,
    ) -> Result<Page<DeadLetter>, StoreError>;

    /// Marks a letter replayed and saves the event that carries it back, in one commit.
    async fn replay_dead_letter(
        &self,
        id: &str,
        event: PendingEvent,
        at: Timestamp,
    ) -> Result<SettleDeadLetter, StoreError>;

    /// Marks a letter discarded, with who did it.
    async fn discard_dead_letter(&self, id: &str, by: &str, at: Timestamp) -> Result<SettleDeadLetter, StoreError>;
}

/// Names under which a job that must survive a crash keeps how far it has come.
#[async_trait]
pub trait MarkerStore: Send + Sync {
    async fn marker(&self, name: &str) -> Result<Option<String>, StoreError>;

    async fn set_marker(&self, name: &str, value: &str) -> Result<(), StoreError>;
}
