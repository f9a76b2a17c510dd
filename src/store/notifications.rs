//! Port of the notifications store: the queue of mails, and the inboxes.
//!
//! A mail is claimed by lease, so that many processes can deliver: while the lease lasts nobody else claims it, and only
//! who holds it settles it. A lease that nobody settles ends by itself.

use async_trait::async_trait;
use uuid::Uuid;

use super::StoreError;
use super::consumption::{Consumed, Consumption};
use crate::domain::ids::{CampaignId, NotificationId, UserId};
use crate::domain::notifications::attempts::{Attempt, RetryPolicy};
use crate::domain::notifications::intake::Intake;
use crate::domain::notifications::{CampaignTally, NewNotification, Notification, StandardLimits};
use crate::domain::page::{Page, PageRequest};
use crate::domain::time::Timestamp;

/// One claim's hold on what it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lease(pub Uuid);

/// What somebody is ready to deliver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClaimWanted {
    pub critical: u32,
    pub standard: u32,
    pub limits: StandardLimits,
    pub lease: Lease,
    pub lease_ms: i64,
    pub now: Timestamp,
}

/// What a claim took, and when another one is worth its while.
#[derive(Debug, Clone, Default)]
pub struct Claim {
    /// Critical ones first, each in the order in which they became due; of one recipient one at a time.
    pub taken: Vec<Notification>,
    /// Ended as SKIPPED instead, over the daily limit.
    pub skipped: u32,
    /// Something due of the lane was left: there was no room for it, or its recipient is being delivered to.
    pub left_critical: bool,
    pub left_standard: bool,
    /// When something becomes due, a lease ends, or the pace allows more.
    pub again_at: Option<Timestamp>,
}

/// How an attempt at a claimed mail ended, and how to go on.
#[derive(Debug, Clone, PartialEq)]
pub struct SettleAttempt {
    pub id: NotificationId,
    pub lease: Lease,
    pub attempt: Attempt,
    pub policy: RetryPolicy,
    /// The pace of standard mail, to which a skipped one gives its place back.
    pub per_second: u32,
    pub at: Timestamp,
    /// 0.0 to 1.0, for the delay of the next attempt.
    pub chance: f64,
}

/// What settling did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    Sent,
    Skipped,
    /// To be tried again then.
    Again(Timestamp),
    /// With its dead letter.
    Dead,
    /// The lease is not the one that holds it: nothing was written.
    Lost,
}

/// Which notifications were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MarkRead {
    /// All of these.
    These(Vec<NotificationId>),
    /// Up to so many of the unread ones.
    Unread(u32),
}

/// What marking did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marked {
    /// So many became read.
    Done(u64),
    /// The one at this position is not there or not this user's: nothing was changed.
    NotFound { position: usize },
}

/// A page of an inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboxPage {
    pub page: Page<Notification>,
    /// Of the whole inbox.
    pub unread: u64,
}

/// How many are queued in each lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueueDepths {
    pub critical: LaneDepth,
    pub standard: LaneDepth,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LaneDepth {
    pub queued: u64,
    /// When the first of them is or was due; of one that is being delivered, when its lease ends.
    pub first_due: Option<Timestamp>,
}

#[async_trait]
pub trait NotificationStore: Send + Sync {
    /// Does what events ask, with the progress of their group. Who is told what is decided by
    /// `domain::notifications::intake::admit`; what the user was told already is passed over.
    async fn take_in(
        &self,
        intake: Vec<Intake>,
        digest_every_days: u32,
        consumption: Consumption,
        at: Timestamp,
    ) -> Result<Consumed<()>, StoreError>;

    /// Queues many in one commit, whatever is known of their users; how many were new.
    async fn insert_notifications(&self, batch: Vec<NewNotification>, at: Timestamp) -> Result<u64, StoreError>;

    /// Takes what is due, within the shop's limits on standard mail.
    async fn claim(&self, wanted: ClaimWanted) -> Result<Claim, StoreError>;

    /// Ends an attempt, if the lease still holds.
    async fn settle(&self, attempt: SettleAttempt) -> Result<Settled, StoreError>;

    /// Gives back what was claimed and not tried: due at once.
    async fn release(&self, claimed: Vec<(NotificationId, Lease)>) -> Result<(), StoreError>;

    /// Ends every lease but those on these; how many. For a store that no other process delivers from.
    async fn void_leases(&self, but: Vec<NotificationId>) -> Result<u64, StoreError>;

    async fn queue_depths(&self) -> Result<QueueDepths, StoreError>;

    /// Those that exist, in no order; with a user only theirs.
    async fn notifications(
        &self,
        ids: &[NotificationId],
        user: Option<UserId>,
    ) -> Result<Vec<Notification>, StoreError>;

    /// Newest first.
    async fn inbox(&self, user: UserId, unread_only: bool, page: &PageRequest) -> Result<InboxPage, StoreError>;

    async fn mark_read(&self, user: UserId, which: MarkRead, at: Timestamp) -> Result<Marked, StoreError>;

    /// The position after which a user's stream that starts now begins.
    async fn latest_received(&self, user: UserId) -> Result<String, StoreError>;

    /// Up to `limit` of a user's notifications after a position, oldest first, each with its own.
    async fn received_after(
        &self,
        user: UserId,
        cursor: &str,
        limit: u32,
    ) -> Result<Vec<(String, Notification)>, StoreError>;

    /// All that is kept about a user, oldest first.
    async fn export_notifications(&self, user: UserId) -> Result<Vec<Notification>, StoreError>;

    /// Of each campaign, in this order; one without notifications has none.
    async fn campaign_tallies(&self, ids: &[CampaignId]) -> Result<Vec<(CampaignId, CampaignTally)>, StoreError>;
}
