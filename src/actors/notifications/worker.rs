//! A delivery worker: one mail at a time, from whom it goes to until it is settled.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix::{Actor, Context, Handler, Message, ResponseActFuture, Supervised, WrapFuture};
use tokio::sync::watch;
use tracing::Instrument;

use super::recipients::Recipients;
use super::{InHand, Outcome, OutcomeObserver};
use crate::actors::clock::now;
use crate::actors::users::messages::{LinkWanted, MailLink};
use crate::domain::notifications::attempts::{Attempt, RetryPolicy};
use crate::domain::notifications::content::Content;
use crate::domain::notifications::{Notification, NotificationPriority, SkipReason, objection};
use crate::domain::time::Timestamp;
use crate::domain::users::Subscription;
use crate::mail::letters::{Letter, Letters};
use crate::mail::{FailureClass, Mailer};
use crate::store::StoreError;
use crate::store::notifications::{Lease, NotificationStore, SettleAttempt, Settled};
use crate::telemetry::trace_context::TraceParent;
use crate::telemetry::traces;

/// Between two attempts to write down how a delivery ended.
const SETTLE_PAUSE: Duration = Duration::from_millis(250);

/// What all workers share.
pub struct WorkerTools {
    pub store: Arc<dyn NotificationStore>,
    pub recipients: Arc<dyn Recipients>,
    pub mailer: Arc<dyn Mailer>,
    /// Where the links of mails lead; known once the shop is open.
    pub origin: watch::Receiver<Option<String>>,
    pub policy: RetryPolicy,
    /// The pace of standard mail.
    pub per_second: u32,
    pub in_hand: InHand,
    pub observe: OutcomeObserver,
    /// The mail server was reached the last time: an outage is told once, not for each mail.
    pub reached: AtomicBool,
}

pub struct DeliveryWorker {
    tools: Arc<WorkerTools>,
}

impl DeliveryWorker {
    pub fn new(tools: Arc<WorkerTools>) -> Self {
        Self { tools }
    }
}

impl Actor for DeliveryWorker {
    type Context = Context<Self>;
}

impl Supervised for DeliveryWorker {}

/// Delivers what the lease holds and settles it. The future is the actor's own: it ends with it, so that a worker that
/// is built anew has nothing in hand.
#[derive(Message)]
#[rtype(result = "Result<Settled, StoreError>")]
pub struct Deliver {
    pub notification: Notification,
    pub lease: Lease,
    /// When the lease ends.
    pub until: Timestamp,
}

impl Handler<Deliver> for DeliveryWorker {
    type Result = ResponseActFuture<Self, Result<Settled, StoreError>>;

    fn handle(&mut self, deliver: Deliver, _: &mut Context<Self>) -> Self::Result {
        let tools = Arc::clone(&self.tools);
        Box::pin(async move { tools.deliver(deliver).await }.into_actor(self))
    }
}

impl WorkerTools {
    async fn deliver(&self, Deliver { notification, lease, until }: Deliver) -> Result<Settled, StoreError> {
        let _in_hand = self.in_hand.take(notification.id);
        let span = tracing::info_span!(target: traces::TARGET, "mail", notification = %notification.id);
        if let Some(cause) = notification.traceparent.as_deref().and_then(TraceParent::parse) {
            traces::continue_from(&span, cause);
        }
        let attempt = self.attempt(&notification).instrument(span).await;
        self.log_attempt(&notification, &attempt);
        let settled = self.settle(&notification, lease, until, attempt).await;
        match &settled {
            Ok(Settled::Sent) => (self.observe)(Outcome::Sent, 1),
            Ok(Settled::Skipped) => (self.observe)(Outcome::Skipped, 1),
            Ok(Settled::Again(_)) => (self.observe)(Outcome::Failed, 1),
            Ok(Settled::Dead) => {
                tracing::error!(notification = %notification.id, "a mail could not be delivered: it is a dead letter");
                (self.observe)(Outcome::Dead, 1);
            }
            Ok(Settled::Lost) => tracing::warn!(notification = %notification.id, "a delivery outlived its lease"),
            Err(error) => {
                tracing::warn!(notification = %notification.id, %error, "could not write down how a delivery ended");
            }
        }
        settled
    }

    /// Writes down how it ended, as long as the lease holds: what is not written down is delivered again.
    async fn settle(
        &self,
        notification: &Notification,
        lease: Lease,
        until: Timestamp,
        attempt: Attempt,
    ) -> Result<Settled, StoreError> {
        loop {
            let settling = SettleAttempt {
                id: notification.id,
                lease,
                attempt: attempt.clone(),
                policy: self.policy,
                per_second: self.per_second,
                at: now(),
                chance: rand::random(),
            };
            match self.store.settle(settling).await {
                Err(StoreError::Unavailable(_)) if now() < until => tokio::time::sleep(SETTLE_PAUSE).await,
                settled => return settled,
            }
        }
    }

    fn log_attempt(&self, notification: &Notification, attempt: &Attempt) {
        if matches!(attempt, Attempt::Sent | Attempt::Refused(_)) && !self.reached.swap(true, Ordering::Relaxed) {
            tracing::info!("mails are delivered again");
        }
        match attempt {
            Attempt::NotReached(reason) if self.reached.swap(false, Ordering::Relaxed) => {
                tracing::warn!(notification = %notification.id, reason, "mails cannot be delivered just now and wait");
            }
            Attempt::NotReached(reason) => {
                tracing::debug!(notification = %notification.id, reason, "a mail was not delivered");
            }
            Attempt::Refused(reason) | Attempt::RefusedForGood(reason) => {
                tracing::warn!(notification = %notification.id, reason, "a mail was not delivered");
            }
            Attempt::Sent | Attempt::Skipped(_) => {}
        }
    }

    async fn attempt(&self, notification: &Notification) -> Attempt {
        let Some(content) = &notification.content else { return Attempt::Skipped(SkipReason::AccountDeleted) };
        let Some(origin) = self.origin.borrow().clone() else {
            return Attempt::NotReached("the shop is not open yet".into());
        };
        let recipient = match self.recipients.recipient(notification.user_id, link_of(content)).await {
            Ok(Some(recipient)) => recipient,
            Ok(None) => return Attempt::Skipped(SkipReason::AccountDeleted),
            Err(error) => return Attempt::NotReached(format!("its recipient could not be looked up: {error}")),
        };
        if let Some(reason) = objection(content, recipient.preferences, recipient.demo) {
            return Attempt::Skipped(reason);
        }
        let token = match &recipient.link {
            Some(MailLink::Token(token)) => Some(token.as_str()),
            Some(MailLink::Void) => return Attempt::Skipped(SkipReason::LinkExpired),
            None => None,
        };
        let ends_mails = notification.priority() == NotificationPriority::Standard;
        let letter = Letter {
            notification_id: notification.id,
            to: &recipient.email,
            name: &recipient.name,
            subject: &notification.subject,
            at: notification.created_at,
            content,
            link_token: token.filter(|_| !ends_mails),
            unsubscribe_token: token.filter(|_| ends_mails),
        };
        let mail = match Letters::new(origin).write(&letter) {
            Ok(mail) => mail,
            Err(refusal) => return Attempt::RefusedForGood(refusal.to_string()),
        };
        match self.mailer.deliver(&mail).await {
            Ok(()) => Attempt::Sent,
            Err(failure) => match failure.class {
                FailureClass::NotReached => Attempt::NotReached(failure.reason),
                FailureClass::Transient => Attempt::Refused(failure.reason),
                FailureClass::Permanent => Attempt::RefusedForGood(failure.reason),
            },
        }
    }
}

/// The link that the mail carries: its request's, or of standard mail the one that ends mails of its sort.
fn link_of(content: &Content) -> Option<LinkWanted> {
    match content {
        Content::Promotion { .. } => Some(LinkWanted::Unsubscribe(Subscription::Promotions)),
        Content::Digest { .. } => Some(LinkWanted::Unsubscribe(Subscription::Recommendations)),
        _ => content.request_id().map(LinkWanted::Request),
    }
}
