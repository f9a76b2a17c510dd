//! A notifications domain whose mailer and recipients are scripted.

use std::collections::{HashMap, HashSet, VecDeque};
use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use souk::actors::Address;
use souk::actors::clock::now;
use souk::actors::errors::DomainError;
use souk::actors::notifications::dispatcher::{self, DispatchTools};
use souk::actors::notifications::messages::{Enqueue, TakeIn};
use souk::actors::notifications::recipients::Recipients;
use souk::actors::notifications::worker::{DeliveryWorker, WorkerTools};
use souk::actors::notifications::{InHand, NotificationActor, NotificationTools, Outcome, OutcomeObserver};
use souk::actors::supervisor::{ActorSpec, ActorState, Fault, MailboxLimits, RestartPolicy, SupervisionTree};
use souk::actors::users::messages::{LinkWanted, MailLink, Recipient};
use souk::domain::ids::{CampaignId, MailRequestId, NotificationId, TypedId, UserId};
use souk::domain::notifications::attempts::RetryPolicy;
use souk::domain::notifications::content::Content;
use souk::domain::notifications::intake::Intake;
use souk::domain::notifications::{NewNotification, Notification, NotificationStatus, StandardLimits};
use souk::domain::text::Email;
use souk::domain::users::Preferences;
use souk::kafka::supervised::{LoopActor, Work};
use souk::mail::{DeliveryFailure, FailureClass, Mail, Mailer};
use souk::store::consumption::Consumption;
use souk::store::notifications::NotificationStore;
use souk::store::outbox::Outbox;
use souk::store::sqlite::SqliteNotificationStore;
use tempfile::TempDir;
use tokio::sync::{Notify, Semaphore, watch};
use uuid::Uuid;

use crate::counted_claims::CountedClaims;
use crate::support::eventually;

const FILE: &str = "notifications.db";
const ASK: Duration = Duration::from_secs(5);

/// What the mail server does with an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Fails(FailureClass),
    /// Never answers.
    Stalls,
    /// The mailer itself has a fault.
    Panics,
}

#[derive(Default)]
struct Log {
    script: HashMap<NotificationId, VecDeque<Answer>>,
    started: Vec<NotificationId>,
    delivered: Vec<NotificationId>,
}

/// Takes every mail, once a permit lets it, unless the script says otherwise.
pub struct ScriptedMailer {
    log: Mutex<Log>,
    permits: Semaphore,
}

#[async_trait]
impl Mailer for ScriptedMailer {
    async fn deliver(&self, mail: &Mail) -> Result<(), DeliveryFailure> {
        let id = mail.notification_id();
        let answer = {
            let mut log = self.log.lock().unwrap();
            log.started.push(id);
            log.script.get_mut(&id).and_then(VecDeque::pop_front)
        };
        match answer {
            Some(Answer::Fails(class)) => return Err(DeliveryFailure { class, reason: format!("{class:?}") }),
            Some(Answer::Stalls) => std::future::pending().await,
            Some(Answer::Panics) => panic!("as planned"),
            None => {}
        }
        self.permits.acquire().await.unwrap().forget();
        self.log.lock().unwrap().delivered.push(id);
        Ok(())
    }

    async fn is_there(&self) -> bool {
        true
    }
}

/// Everybody wants everything, unless a test says otherwise.
#[derive(Default)]
pub struct ScriptedRecipients {
    pub unwanting: Mutex<HashSet<UserId>>,
    pub unknown: Mutex<HashSet<UserId>>,
    pub void_links: Mutex<HashSet<UserId>>,
    /// How often the users domain is away.
    pub away: Mutex<u32>,
}

#[async_trait]
impl Recipients for ScriptedRecipients {
    async fn recipient(&self, user: UserId, link: Option<LinkWanted>) -> Result<Option<Recipient>, DomainError> {
        {
            let mut away = self.away.lock().unwrap();
            if *away > 0 {
                *away -= 1;
                return Err(DomainError::Unavailable("as planned".into()));
            }
        }
        if self.unknown.lock().unwrap().contains(&user) {
            return Ok(None);
        }
        let wanted = !self.unwanting.lock().unwrap().contains(&user);
        let token = if self.void_links.lock().unwrap().contains(&user) {
            MailLink::Void
        } else {
            MailLink::Token("a-token".into())
        };
        Ok(Some(Recipient {
            email: Email::parse(&format!("{user}@test.example")).unwrap(),
            name: "Ada".into(),
            preferences: Preferences { order_updates: wanted, promotions: wanted, recommendations: wanted },
            email_verified: true,
            demo: false,
            link: link.map(|_| token),
        }))
    }
}

/// How a scene differs from the usual one.
pub struct Setting {
    pub workers: usize,
    pub burst: usize,
    /// Mails that are taken before a test lets more pass.
    pub permits: usize,
    pub limits: StandardLimits,
    /// Mails in hand at a time, as if the machine were behind with other work.
    pub restraint: Option<usize>,
}

impl Default for Setting {
    fn default() -> Self {
        let limits = StandardLimits { per_second: 10_000, per_recipient_per_day: 1_000 };
        Self { workers: 4, burst: 16, permits: Semaphore::MAX_PERMITS, limits, restraint: None }
    }
}

pub struct Scene {
    pub store: Arc<SqliteNotificationStore>,
    pub mailer: Arc<ScriptedMailer>,
    pub recipients: Arc<ScriptedRecipients>,
    pub tree: SupervisionTree,
    pub outcomes: Arc<Mutex<HashMap<Outcome, u64>>>,
    claims: Arc<CountedClaims>,
    restraint: Arc<Mutex<Option<usize>>>,
    head: Address<NotificationActor>,
    stop: watch::Sender<bool>,
    folder: TempDir,
}

pub fn scene(setting: Setting) -> Scene {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(SqliteNotificationStore::open(&folder.path().join(FILE)).unwrap().0);
    let mailer = Arc::new(ScriptedMailer { log: Mutex::default(), permits: Semaphore::new(setting.permits) });
    let recipients = Arc::new(ScriptedRecipients::default());
    let outcomes: Arc<Mutex<HashMap<Outcome, u64>>> = Arc::default();
    let counted = Arc::clone(&outcomes);
    let observe: OutcomeObserver = Arc::new(move |outcome, count| {
        *counted.lock().unwrap().entry(outcome).or_default() += count;
    });
    let (wake, in_hand, stop) = (Arc::new(Notify::new()), InHand::default(), watch::Sender::new(false));
    let origin = watch::Sender::new(Some("http://shop.example".to_owned())).subscribe();
    let policy = RetryPolicy { max_attempts: 3, backoff_base_ms: 5, backoff_max_ms: 20 };
    let restraint = Arc::new(Mutex::new(setting.restraint));
    let claims = Arc::new(CountedClaims { store: store.clone(), claims: AtomicUsize::new(0) });
    let port: Arc<dyn NotificationStore> = claims.clone();

    let worker_tools = Arc::new(WorkerTools {
        store: Arc::clone(&port),
        recipients: recipients.clone(),
        mailer: mailer.clone(),
        origin: origin.clone(),
        policy,
        per_second: setting.limits.per_second,
        in_hand: in_hand.clone(),
        observe: Arc::clone(&observe),
        reached: AtomicBool::new(true),
    });
    let worker = |number: usize| {
        let tools = Arc::clone(&worker_tools);
        ActorSpec::new(&format!("worker-{number}"), move || Ok(DeliveryWorker::new(Arc::clone(&tools))))
            .mailbox(MailboxLimits { in_flight: 1, ..MailboxLimits::default() })
    };
    let workers: Vec<_> = (1..=setting.workers).map(worker).collect();
    let tools = Arc::new(DispatchTools {
        store: Arc::clone(&port),
        workers: workers.iter().map(ActorSpec::address).collect(),
        wake: Arc::clone(&wake),
        alone: true,
        foreign_writes: store.foreign_writes(),
        origin,
        limits: setting.limits,
        policy,
        delivery_deadline: Duration::from_secs(30),
        burst: setting.burst,
        in_hand,
        observe,
        restraint: {
            let restraint = Arc::clone(&restraint);
            Arc::new(move || *restraint.lock().unwrap())
        },
    });
    let stopping = stop.subscribe();
    let work: Work = Arc::new(move || Box::pin(dispatcher::run(Arc::clone(&tools), stopping.clone())));
    let dispatcher = ActorSpec::new("dispatcher", move || Ok(LoopActor::new(Arc::clone(&work))));
    let tools = Arc::new(NotificationTools { store: port, wake, digest_every_days: 7 });
    let head = ActorSpec::new("notifications", move || Ok(NotificationActor::new(Arc::clone(&tools))));
    let address = head.address();
    let dispatcher = dispatcher.policy(RestartPolicy::Transient);
    let domain = workers.into_iter().fold(head, ActorSpec::part).follower(dispatcher);
    let tree = SupervisionTree::builder("test").on_callers_runtime().domain(domain).start().unwrap();
    Scene { store, mailer, recipients, tree, outcomes, claims, restraint, head: address, stop, folder }
}

pub fn id<I: TypedId>() -> I {
    I::from_uuid(Uuid::now_v7())
}

fn new(user_id: UserId, content: Content) -> NewNotification {
    let id: NotificationId = id();
    NewNotification { id, user_id, content, dedupe_key: id.to_string(), traceparent: None }
}

pub fn critical(user: UserId) -> NewNotification {
    new(user, Content::PasswordChanged)
}

pub fn reset(user: UserId) -> NewNotification {
    new(user, Content::PasswordReset { request_id: id::<MailRequestId>() })
}

pub fn standard(user: UserId) -> NewNotification {
    let (subject, message) = ("Lamps".into(), "Cheaper".into());
    new(user, Content::Promotion { campaign_id: id::<CampaignId>(), subject, message, products: Vec::new() })
}

impl Scene {
    /// The ids in the order of the batch.
    pub async fn enqueue(&self, batch: Vec<NewNotification>) -> Vec<NotificationId> {
        let ids: Vec<_> = batch.iter().map(|new| new.id).collect();
        let queued = self.head.ask(Enqueue { batch }, ASK).await.unwrap().unwrap();
        assert_eq!(queued, ids.len() as u64);
        ids
    }

    pub async fn take_in(&self, intake: Vec<Intake>) {
        let consumption = Consumption { group: "notifications".into(), ..Consumption::default() };
        self.head.ask(TakeIn { intake, consumption }, ASK).await.unwrap().unwrap();
    }

    pub fn script(&self, id: NotificationId, answers: &[Answer]) {
        self.mailer.log.lock().unwrap().script.insert(id, answers.iter().copied().collect());
    }

    pub fn let_pass(&self, mails: usize) {
        self.mailer.permits.add_permits(mails);
    }

    pub fn claims(&self) -> usize {
        self.claims.claims.load(Ordering::Relaxed)
    }

    pub fn started(&self) -> Vec<NotificationId> {
        self.mailer.log.lock().unwrap().started.clone()
    }

    pub fn delivered(&self) -> Vec<NotificationId> {
        self.mailer.log.lock().unwrap().delivered.clone()
    }

    /// A worker counts an outcome after it has stored it, so the count comes a moment later than the status.
    pub async fn assert_counted(&self, expected: &[(Outcome, u64)]) {
        let counts = || {
            let outcomes = self.outcomes.lock().unwrap();
            expected
                .iter()
                .map(|(outcome, _)| (*outcome, outcomes.get(outcome).copied().unwrap_or(0)))
                .collect::<Vec<_>>()
        };
        let counted = eventually("the outcomes are counted", async || {
            let counted = counts();
            counted.iter().zip(expected).all(|((_, now), (_, due))| now >= due).then_some(counted)
        })
        .await;
        assert_eq!(counted, expected);
    }

    pub async fn one(&self, id: NotificationId) -> Notification {
        self.store.notifications(&[id], None).await.unwrap().pop().unwrap()
    }

    pub async fn becomes(&self, id: NotificationId, status: NotificationStatus) -> Notification {
        eventually(&format!("{id} is {status:?}"), async || {
            let now = self.one(id).await;
            (now.status == status).then_some(now)
        })
        .await
    }

    pub async fn until<F: Future<Output = bool>>(&self, what: &str, mut is: impl FnMut() -> F) {
        eventually(what, || {
            let is = is();
            async move { is.await.then_some(()) }
        })
        .await;
    }

    pub async fn until_started(&self, mails: usize) {
        eventually(&format!("{mails} deliveries have begun"), async || (self.started().len() >= mails).then_some(()))
            .await;
    }

    pub async fn until_delivered(&self, mails: usize) {
        eventually(&format!("{mails} mails are delivered"), async || (self.delivered().len() >= mails).then_some(()))
            .await;
    }

    pub fn end_restraint(&self) {
        *self.restraint.lock().unwrap() = None;
    }

    pub fn inject(&self, actor: &str, fault: Fault) {
        self.tree.inject(actor, fault).unwrap();
    }

    pub fn restarts(&self, actor: &str) -> u64 {
        let domain = self.tree.status().children.pop().unwrap();
        domain.children.iter().find(|child| child.name == actor).unwrap().restarts
    }

    /// As at the stop of a process.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// The dispatcher has ended by itself.
    pub async fn until_stopped(&self) {
        self.until("the dispatcher ends", async || {
            let domain = self.tree.status().children.pop().unwrap();
            domain.children.iter().any(|child| child.name == "dispatcher" && child.state == ActorState::Stopped)
        })
        .await;
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join(FILE)
    }

    /// Everything that is claimed and not settled, and so under a lease.
    pub async fn voided(&self) -> u64 {
        self.store.void_leases(Vec::new()).await.unwrap()
    }
}

/// Some time of this day, for stores that are asked directly.
pub fn today() -> souk::domain::time::Timestamp {
    now()
}
