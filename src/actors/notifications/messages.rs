//! What the notifications actor can be asked.

use actix::Message;

use crate::actors::errors::DomainError;
use crate::domain::ids::{CampaignId, NotificationId, UserId};
use crate::domain::notifications::intake::Intake;
use crate::domain::notifications::{CampaignTally, NewNotification, Notification};
use crate::domain::page::PageRequest;
use crate::store::StoreError;
use crate::store::consumption::{Consumed, Consumption};
use crate::store::notifications::InboxPage;

/// Does what events ask, with the offset of the events that asked it.
#[derive(Message)]
#[rtype(result = "Result<Consumed<()>, StoreError>")]
pub struct TakeIn {
    pub intake: Vec<Intake>,
    pub consumption: Consumption,
}

/// Queues notifications that no event asks for; how many are new.
#[derive(Message)]
#[rtype(result = "Result<u64, DomainError>")]
pub struct Enqueue {
    pub batch: Vec<NewNotification>,
}

/// Those that exist, in no order; with a user only theirs.
#[derive(Message)]
#[rtype(result = "Result<Vec<Notification>, DomainError>")]
pub struct GetNotifications {
    pub ids: Vec<NotificationId>,
    pub user_id: Option<UserId>,
}

/// Newest first. Refusal: InvalidInput (`after`).
#[derive(Message)]
#[rtype(result = "Result<InboxPage, DomainError>")]
pub struct ListInbox {
    pub user_id: UserId,
    pub unread_only: bool,
    pub page: PageRequest,
}

/// Which of a user's notifications were read.
pub enum WhichRead {
    These(Vec<NotificationId>),
    All,
}

/// How many became read. Refusal: NotFound (`ids.N`), when one is not there or not this user's: then none did.
#[derive(Message)]
#[rtype(result = "Result<u64, DomainError>")]
pub struct MarkNotificationsRead {
    pub user_id: UserId,
    pub which: WhichRead,
}

/// The position after which a stream of what a user receives begins now.
#[derive(Message)]
#[rtype(result = "Result<String, DomainError>")]
pub struct LatestReceived {
    pub user_id: UserId,
}

/// A user's notifications after a position, oldest first, each with its own.
#[derive(Message)]
#[rtype(result = "Result<Vec<(String, Notification)>, DomainError>")]
pub struct ReceivedAfter {
    pub user_id: UserId,
    pub cursor: String,
    pub limit: u32,
}

/// What is kept about a user, for `accountExport`, as JSON.
#[derive(Message)]
#[rtype(result = "Result<serde_json::Value, DomainError>")]
pub struct ExportNotifications {
    pub user_id: UserId,
}

/// What became of the notifications of each campaign, in this order.
#[derive(Message)]
#[rtype(result = "Result<Vec<(CampaignId, CampaignTally)>, DomainError>")]
pub struct CampaignCounts {
    pub ids: Vec<CampaignId>,
}
