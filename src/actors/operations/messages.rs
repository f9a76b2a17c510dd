//! What the operations actor can be asked.

use actix::Message;

use crate::actors::errors::DomainError;
use crate::domain::dead_letters::DeadLetter;
use crate::domain::page::{Page, PageRequest};
use crate::store::operations::DeadLetterEntry;

/// Those that exist, in no order.
#[derive(Message)]
#[rtype(result = "Result<Vec<DeadLetter>, DomainError>")]
pub struct GetDeadLetters {
    pub ids: Vec<String>,
}

/// Newest first, settled ones included. Refusal: InvalidInput (`after`).
#[derive(Message)]
#[rtype(result = "Result<Page<DeadLetter>, DomainError>")]
pub struct ListDeadLetters {
    /// Only those of this group.
    pub source: Option<String>,
    pub page: PageRequest,
}

/// What is done with letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settling {
    /// Their events go back to the group that failed on them, once.
    Replay,
    /// They are given up.
    Discard,
}

/// Settles each letter for itself: a refusal of one holds up no other. Doing it again changes nothing and answers the
/// same. Refusal of all: InvalidInput (`ids`).
#[derive(Message)]
#[rtype(result = "Result<SettledDeadLetters, DomainError>")]
pub struct SettleDeadLetters {
    /// 1 to [`MAX_LETTERS`]. `None` stands for what is no letter's id: it is answered as a missing one is.
    pub ids: Vec<Option<String>>,
    pub settling: Settling,
    /// The id of the user who asks for it.
    pub by: String,
}

/// The most letters that one message settles.
pub const MAX_LETTERS: usize = 100;

#[derive(Debug)]
pub struct SettledDeadLetters {
    /// As they are now, each once, in the order of the ids.
    pub letters: Vec<DeadLetter>,
    /// NotFound, InvalidInput (cannot go back), DeadLetterDiscarded; each about `ids` and a position.
    pub refusals: Vec<DomainError>,
}

/// The position after which a stream of new letters begins now.
#[derive(Message)]
#[rtype(result = "Result<String, DomainError>")]
pub struct LatestDeadLetter;

/// Letters that came after a position, oldest first.
#[derive(Message)]
#[rtype(result = "Result<Vec<DeadLetterEntry>, DomainError>")]
pub struct DeadLettersAfter {
    pub cursor: String,
    pub limit: u32,
}
