//! The notifications database: [`super::intake`] fills it, [`super::deliveries`] is its queue of mails, and
//! [`super::inbox`] what users see of it.

use std::time::Duration;

use async_trait::async_trait;

use super::batches::{Batches, Gathering};
use super::database::MongoDatabase;
use super::intake::{TakeIn, insert, take_in};
use super::notification_documents::MIGRATIONS;
use super::{deliveries, inbox};
use crate::domain::ids::{CampaignId, NotificationId, UserId};
use crate::domain::notifications::intake::Intake;
use crate::domain::notifications::{CampaignTally, NewNotification, Notification};
use crate::domain::page::PageRequest;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::consumption::{Consumed, Consumption};
use crate::store::notifications::{
    Claim, ClaimWanted, InboxPage, Lease, MarkRead, Marked, NotificationStore, QueueDepths, SettleAttempt, Settled,
};

/// A delivery that is over shares its commit with others that end soon; a mail takes about as long to be delivered, so a worker
/// hardly waits for it.
const SETTLEMENTS: Gathering = Gathering { apart: Duration::from_millis(30), enough: 3 };

/// Notifications in their MongoDB database.
pub struct MongoNotificationStore {
    database: MongoDatabase,
    /// Workers that end their deliveries at about the same time.
    settlements: Batches<SettleAttempt, Settled>,
}

super::store_over_database!(MongoNotificationStore, Notifications, MIGRATIONS, settlements: Batches::gathering(SETTLEMENTS));
super::outbox_over_database!(MongoNotificationStore);

#[async_trait]
impl NotificationStore for MongoNotificationStore {
    async fn take_in(
        &self,
        intake: Vec<Intake>,
        digest_every_days: u32,
        consumption: Consumption,
        at: Timestamp,
    ) -> Result<Consumed<()>, StoreError> {
        let input = TakeIn { intake, digest_every_days, at };
        self.database.consume_with(consumption, input, |tx, input| Box::pin(take_in(tx, input))).await
    }

    async fn insert_notifications(&self, batch: Vec<NewNotification>, at: Timestamp) -> Result<u64, StoreError> {
        self.database.transaction((batch, at), |tx, (batch, at)| Box::pin(insert(tx, batch, *at))).await
    }

    async fn claim(&self, wanted: ClaimWanted) -> Result<Claim, StoreError> {
        self.database.transaction(wanted, |tx, wanted| Box::pin(deliveries::claim(tx, wanted))).await
    }

    async fn settle(&self, attempt: SettleAttempt) -> Result<Settled, StoreError> {
        let settle = |attempts: Vec<SettleAttempt>| {
            self.database.transaction(attempts, |tx, attempts| Box::pin(deliveries::settle(tx, attempts)))
        };
        self.settlements.call(attempt, settle).await
    }

    async fn release(&self, claimed: Vec<(NotificationId, Lease)>) -> Result<(), StoreError> {
        deliveries::release(&self.database, &claimed).await
    }

    async fn void_leases(&self, but: Vec<NotificationId>) -> Result<u64, StoreError> {
        deliveries::void_leases(&self.database, &but).await
    }

    async fn queue_depths(&self) -> Result<QueueDepths, StoreError> {
        deliveries::depths(&self.database).await
    }

    async fn notifications(
        &self,
        ids: &[NotificationId],
        user: Option<UserId>,
    ) -> Result<Vec<Notification>, StoreError> {
        inbox::by_ids(&self.database, ids, user).await
    }

    async fn inbox(&self, user: UserId, unread_only: bool, page: &PageRequest) -> Result<InboxPage, StoreError> {
        inbox::page(&self.database, user, unread_only, page).await
    }

    async fn mark_read(&self, user: UserId, which: MarkRead, at: Timestamp) -> Result<Marked, StoreError> {
        let input = (user, which, at);
        self.database
            .transaction(input, |tx, (user, which, at)| Box::pin(inbox::mark_read(tx, *user, which, *at)))
            .await
    }

    async fn latest_received(&self, user: UserId) -> Result<String, StoreError> {
        inbox::latest(&self.database, user).await
    }

    async fn received_after(
        &self,
        user: UserId,
        cursor: &str,
        limit: u32,
    ) -> Result<Vec<(String, Notification)>, StoreError> {
        inbox::after(&self.database, user, cursor, limit).await
    }

    async fn export_notifications(&self, user: UserId) -> Result<Vec<Notification>, StoreError> {
        inbox::export(&self.database, user).await
    }

    async fn campaign_tallies(&self, ids: &[CampaignId]) -> Result<Vec<(CampaignId, CampaignTally)>, StoreError> {
        inbox::tallies(&self.database, ids).await
    }
}
