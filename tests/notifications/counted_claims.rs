//! A store of notifications that counts the claims made of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use souk::domain::ids::{CampaignId, NotificationId, UserId};
use souk::domain::notifications::intake::Intake;
use souk::domain::notifications::{CampaignTally, NewNotification, Notification};
use souk::domain::page::PageRequest;
use souk::domain::time::Timestamp;
use souk::store::StoreError;
use souk::store::consumption::{Consumed, Consumption};
use souk::store::notifications::{
    Claim, ClaimWanted, InboxPage, Lease, MarkRead, Marked, NotificationStore, QueueDepths, SettleAttempt, Settled,
};
use souk::store::sqlite::SqliteNotificationStore;

pub struct CountedClaims {
    pub store: Arc<SqliteNotificationStore>,
    pub claims: AtomicUsize,
}

type Answer<T> = Result<T, StoreError>;

#[async_trait]
impl NotificationStore for CountedClaims {
    async fn claim(&self, wanted: ClaimWanted) -> Answer<Claim> {
        self.claims.fetch_add(1, Ordering::Relaxed);
        self.store.claim(wanted).await
    }

    async fn take_in(&self, intake: Vec<Intake>, days: u32, by: Consumption, at: Timestamp) -> Answer<Consumed<()>> {
        self.store.take_in(intake, days, by, at).await
    }

    async fn insert_notifications(&self, batch: Vec<NewNotification>, at: Timestamp) -> Answer<u64> {
        self.store.insert_notifications(batch, at).await
    }

    async fn settle(&self, attempt: SettleAttempt) -> Answer<Settled> {
        self.store.settle(attempt).await
    }

    async fn release(&self, claimed: Vec<(NotificationId, Lease)>) -> Answer<()> {
        self.store.release(claimed).await
    }

    async fn void_leases(&self, but: Vec<NotificationId>) -> Answer<u64> {
        self.store.void_leases(but).await
    }

    async fn queue_depths(&self) -> Answer<QueueDepths> {
        self.store.queue_depths().await
    }

    async fn notifications(&self, ids: &[NotificationId], user: Option<UserId>) -> Answer<Vec<Notification>> {
        self.store.notifications(ids, user).await
    }

    async fn inbox(&self, user: UserId, unread_only: bool, page: &PageRequest) -> Answer<InboxPage> {
        self.store.inbox(user, unread_only, page).await
    }

    async fn mark_read(&self, user: UserId, which: MarkRead, at: Timestamp) -> Answer<Marked> {
        self.store.mark_read(user, which, at).await
    }

    async fn latest_received(&self, user: UserId) -> Answer<String> {
        self.store.latest_received(user).await
    }

    async fn received_after(&self, user: UserId, cursor: &str, limit: u32) -> Answer<Vec<(String, Notification)>> {
        self.store.received_after(user, cursor, limit).await
    }

    async fn export_notifications(&self, user: UserId) -> Answer<Vec<Notification>> {
        self.store.export_notifications(user).await
    }

    async fn campaign_tallies(&self, ids: &[CampaignId]) -> Answer<Vec<(CampaignId, CampaignTally)>> {
        self.store.campaign_tallies(ids).await
    }
}
