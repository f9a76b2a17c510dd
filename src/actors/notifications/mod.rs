//! The notifications actors: inboxes and intake, and the delivery of mail.
//!
//! [`NotificationActor`] is the front of the store. What it queues wakes the [`dispatcher`], which claims what is due by
//! lease, keeps it in two bounded lanes, critical before standard, and hands it to the [`worker`]s; each asks the users
//! actor whom the mail goes to, has it written and delivered, and settles it. The store is the truth: lanes hold only
//! what is claimed, and a lease that nobody settles ends by itself.

pub mod dispatcher;
pub mod messages;
pub mod recipients;
pub mod worker;

use std::collections::HashSet;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actix::{Actor, Context, Handler, ResponseFuture, Supervised};
use serde_json::json;
use tokio::sync::Notify;

use self::messages::{
    CampaignCounts, Enqueue, ExportNotifications, GetNotifications, LatestReceived, ListInbox, MarkNotificationsRead,
    ReceivedAfter, TakeIn, WhichRead,
};
use crate::actors::clock::now;
use crate::actors::errors::{DomainError, path};
use crate::domain::ids::{CampaignId, NotificationId, UserId};
use crate::domain::notifications::{CampaignTally, Notification};
use crate::store::StoreError;
use crate::store::consumption::Consumed;
use crate::store::notifications::{InboxPage, MarkRead, Marked, NotificationStore};

/// How many one commit marks as read.
const MARKED_AT_ONCE: u32 = 500;

/// How an attempt at a mail ended, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    Sent,
    /// To be tried again.
    Failed,
    Skipped,
    Dead,
}

impl Outcome {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Dead => "dead",
        }
    }
}

/// Told of outcomes and how many of them there were.
pub type OutcomeObserver = Arc<dyn Fn(Outcome, u64) + Send + Sync>;

/// Mails that workers of this process have in hand: a dispatcher that starts anew leaves their leases alone.
#[derive(Clone, Default)]
pub struct InHand(Arc<Mutex<HashSet<NotificationId>>>);

impl InHand {
    fn lock(&self) -> MutexGuard<'_, HashSet<NotificationId>> {
        // Each change of the set is one call: a panic leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, id: NotificationId) -> InHandGuard {
        self.lock().insert(id);
        InHandGuard { in_hand: self.clone(), id }
    }

    fn ids(&self) -> Vec<NotificationId> {
        self.lock().iter().copied().collect()
    }
}

/// A mail in hand; no longer when it is dropped, by a panic too.
struct InHandGuard {
    in_hand: InHand,
    id: NotificationId,
}

impl Drop for InHandGuard {
    fn drop(&mut self) {
        self.in_hand.lock().remove(&self.id);
    }
}

/// The notifications actor's tools.
pub struct NotificationTools {
    pub store: Arc<dyn NotificationStore>,
    /// Told when something was queued.
    pub wake: Arc<Notify>,
    pub digest_every_days: u32,
}

impl NotificationTools {
    async fn mark_read(&self, user: UserId, which: MarkRead) -> Result<u64, DomainError> {
        match self.store.mark_read(user, which, now()).await? {
            Marked::Done(marked) => Ok(marked),
            Marked::NotFound { position } => {
                Err(DomainError::NotFound { what: "a notification", field: path(&format!("ids.{position}")) })
            }
        }
    }
}

pub struct NotificationActor {
    tools: Arc<NotificationTools>,
}

impl NotificationActor {
    pub fn new(tools: Arc<NotificationTools>) -> Self {
        Self { tools }
    }

    fn beside<T, E, F>(&self, work: impl FnOnce(Arc<NotificationTools>) -> F) -> ResponseFuture<Result<T, E>>
    where
        F: Future<Output = Result<T, E>> + 'static,
    {
        Box::pin(work(Arc::clone(&self.tools)))
    }
}

impl Actor for NotificationActor {
    type Context = Context<Self>;
}

impl Supervised for NotificationActor {}

impl Handler<TakeIn> for NotificationActor {
    type Result = ResponseFuture<Result<Consumed<()>, StoreError>>;

    fn handle(&mut self, TakeIn { intake, consumption }: TakeIn, _: &mut Context<Self>) -> Self::Result {
        self.beside(|tools| async move {
            let taken = tools.store.take_in(intake, tools.digest_every_days, consumption, now()).await;
            // Also after a failure: what became of the write is unknown then.
            tools.wake.notify_one();
            taken
        })
    }
}

impl Handler<Enqueue> for NotificationActor {
    type Result = ResponseFuture<Result<u64, DomainError>>;

    fn handle(&mut self, Enqueue { batch }: Enqueue, _: &mut Context<Self>) -> Self::Result {
        self.beside(|tools| async move {
            let inserted = tools.store.insert_notifications(batch, now()).await;
            tools.wake.notify_one();
            Ok(inserted?)
        })
    }
}

impl Handler<GetNotifications> for NotificationActor {
    type Result = ResponseFuture<Result<Vec<Notification>, DomainError>>;

    fn handle(&mut self, message: GetNotifications, _: &mut Context<Self>) -> Self::Result {
        let GetNotifications { ids, user_id } = message;
        self.beside(|tools| async move { Ok(tools.store.notifications(&ids, user_id).await?) })
    }
}

impl Handler<ListInbox> for NotificationActor {
    type Result = ResponseFuture<Result<InboxPage, DomainError>>;

    fn handle(&mut self, message: ListInbox, _: &mut Context<Self>) -> Self::Result {
        let ListInbox { user_id, unread_only, page } = message;
        self.beside(|tools| async move { Ok(tools.store.inbox(user_id, unread_only, &page).await?) })
    }
}

impl Handler<MarkNotificationsRead> for NotificationActor {
    type Result = ResponseFuture<Result<u64, DomainError>>;

    fn handle(&mut self, message: MarkNotificationsRead, _: &mut Context<Self>) -> Self::Result {
        let MarkNotificationsRead { user_id, which } = message;
        self.beside(|tools| async move {
            match which {
                WhichRead::These(ids) => tools.mark_read(user_id, MarkRead::These(ids)).await,
                WhichRead::All => {
                    let mut marked = 0;
                    loop {
                        let more = tools.mark_read(user_id, MarkRead::Unread(MARKED_AT_ONCE)).await?;
                        marked += more;
                        if more < u64::from(MARKED_AT_ONCE) {
                            return Ok(marked);
                        }
                    }
                }
            }
        })
    }
}

impl Handler<LatestReceived> for NotificationActor {
    type Result = ResponseFuture<Result<String, DomainError>>;

    fn handle(&mut self, message: LatestReceived, _: &mut Context<Self>) -> Self::Result {
        let LatestReceived { user_id } = message;
        self.beside(|tools| async move { Ok(tools.store.latest_received(user_id).await?) })
    }
}

impl Handler<ReceivedAfter> for NotificationActor {
    type Result = ResponseFuture<Result<Vec<(String, Notification)>, DomainError>>;

    fn handle(&mut self, message: ReceivedAfter, _: &mut Context<Self>) -> Self::Result {
        let ReceivedAfter { user_id, cursor, limit } = message;
        self.beside(|tools| async move { Ok(tools.store.received_after(user_id, &cursor, limit).await?) })
    }
}

impl Handler<ExportNotifications> for NotificationActor {
    type Result = ResponseFuture<Result<serde_json::Value, DomainError>>;

    fn handle(&mut self, message: ExportNotifications, _: &mut Context<Self>) -> Self::Result {
        let ExportNotifications { user_id } = message;
        self.beside(|tools| async move {
            let kept = tools.store.export_notifications(user_id).await?;
            Ok(kept.iter().map(exported).collect())
        })
    }
}

fn exported(notification: &Notification) -> serde_json::Value {
    json!({
        "id": notification.id,
        "kind": notification.kind.as_str(),
        "status": notification.status.as_str(),
        "subject": notification.subject,
        "body": notification.body,
        "read": notification.read,
        "createdAt": notification.created_at.to_string(),
        "sentAt": notification.sent_at.map(|at| at.to_string()),
    })
}

impl Handler<CampaignCounts> for NotificationActor {
    type Result = ResponseFuture<Result<Vec<(CampaignId, CampaignTally)>, DomainError>>;

    fn handle(&mut self, CampaignCounts { ids }: CampaignCounts, _: &mut Context<Self>) -> Self::Result {
        self.beside(|tools| async move { Ok(tools.store.campaign_tallies(&ids).await?) })
    }
}
