//! The notifications domain put together: its head, the workers that the head's dispatcher relies on, and the mailer.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::loops::Loops;
use super::tree::mailbox_limits;
use super::{AppError, Stores};
use crate::actors::Address;
use crate::actors::notifications::dispatcher::{self, DispatchTools};
use crate::actors::notifications::recipients::UserRecipients;
use crate::actors::notifications::worker::{DeliveryWorker, WorkerTools};
use crate::actors::notifications::{InHand, NotificationActor, NotificationTools, OutcomeObserver};
use crate::actors::supervisor::{ActorSpec, MailboxLimits};
use crate::actors::users::UserActor;
use crate::config::{Config, MailKind, MailSender, Role};
use crate::domain::notifications::StandardLimits;
use crate::domain::notifications::attempts::RetryPolicy;
use crate::mail::Mailer;
use crate::mail::directory::DirectoryMailer;
use crate::mail::smtp::SmtpMailer;
use crate::telemetry::Metrics;

/// How mail leaves.
pub(super) struct Way {
    pub mailer: Arc<dyn Mailer>,
    /// Where its links lead.
    pub origin: watch::Receiver<Option<String>>,
}

/// The domain but for its consumer, behind an address that is known already.
pub(super) fn spec(
    address: &Address<NotificationActor>,
    config: &Config,
    stores: &Stores,
    users: &Address<UserActor>,
    metrics: &Metrics,
    loops: &Loops<'_>,
    way: Way,
) -> Result<ActorSpec<NotificationActor>, AppError> {
    let settings = &config.notifications;
    let limits = StandardLimits {
        per_second: settings.standard_per_second,
        per_recipient_per_day: settings.standard_per_recipient_per_day,
    };
    let policy = RetryPolicy {
        max_attempts: settings.max_attempts,
        backoff_base_ms: settings.backoff_base_ms,
        backoff_max_ms: settings.backoff_max_ms,
    };
    let (wake, in_hand, observe) = (Arc::new(Notify::new()), InHand::default(), observer(metrics));

    let worker_tools = Arc::new(WorkerTools {
        store: Arc::clone(&stores.notifications),
        recipients: Arc::new(UserRecipients {
            users: users.clone(),
            deadline: Duration::from_millis(config.supervision.ask_timeout_ms),
        }),
        mailer: way.mailer,
        origin: way.origin.clone(),
        policy,
        per_second: limits.per_second,
        in_hand: in_hand.clone(),
        reached: AtomicBool::new(true),
        observe: Arc::clone(&observe),
    });
    let delivering = if config.roles.has(Role::Notifications) { settings.workers } else { 0 };
    let workers: Vec<_> = (1..=delivering).map(|number| worker(number, &worker_tools)).collect();

    let dispatch_tools = Arc::new(DispatchTools {
        store: Arc::clone(&stores.notifications),
        workers: workers.iter().map(ActorSpec::address).collect(),
        wake: Arc::clone(&wake),
        foreign_writes: stores.notifications_written.clone(),
        alone: stores.serve_one_process,
        origin: way.origin,
        limits,
        policy,
        delivery_deadline: Duration::from_millis(config.mail.deadline_ms),
        burst: config.supervision.critical_burst,
        in_hand,
        observe,
        restraint: loops.restraint(),
    });
    let tools = Arc::new(NotificationTools {
        store: Arc::clone(&stores.notifications),
        wake,
        digest_every_days: settings.digest_every_days,
    });
    let head = ActorSpec::at(address.clone(), move || Ok(NotificationActor::new(Arc::clone(&tools))))
        .mailbox(mailbox_limits(&config.supervision));
    if workers.is_empty() {
        return Ok(head);
    }
    let dispatcher = loops.loop_actor("notifications.dispatcher", &loops.stop_consumers, move |stop| {
        dispatcher::run(Arc::clone(&dispatch_tools), stop)
    });
    Ok(workers.into_iter().fold(head, ActorSpec::part).follower(dispatcher))
}

fn worker(number: usize, tools: &Arc<WorkerTools>) -> ActorSpec<DeliveryWorker> {
    let tools = Arc::clone(tools);
    ActorSpec::new(&format!("notifications.worker-{number}"), move || Ok(DeliveryWorker::new(Arc::clone(&tools))))
        .mailbox(MailboxLimits { in_flight: 1, ..MailboxLimits::default() })
}

fn observer(metrics: &Metrics) -> OutcomeObserver {
    let mails = metrics.mail.mails.clone();
    Arc::new(move |outcome, count| mails.with_label_values(&[outcome.as_str()]).inc_by(count))
}

pub(super) fn mailer(config: &Config) -> Result<Arc<dyn Mailer>, AppError> {
    let sender = MailSender::parse(&config.mail.from).map_err(AppError::usage)?;
    Ok(match config.mail.kind {
        MailKind::Directory => Arc::new(DirectoryMailer::new(&config.data_dir, sender)),
        MailKind::Smtp => {
            Arc::new(SmtpMailer::new(&config.mail, sender, config.is_production()).map_err(AppError::usage)?)
        }
    })
}
