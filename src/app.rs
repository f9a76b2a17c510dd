//! The composition root: the only place that names adapters.
//!
//! Start: lock the data folder, bind the admin listener, open stores and log, load the signing keys, start the supervision
//! tree, fill an empty demo shop, bind the public listener, say ready. Stop, in this order: not ready, the gateway finishes
//! what it accepted, consumers finish the batch in hand, the relay publishes what was committed, the actors drain, the files
//! close.

mod campaigns;
mod catalogue;
mod demo;
pub mod doctor;
mod keys;
mod listeners;
mod loops;
mod notifications;
mod readings;
mod rebuild;
mod settle;
mod stores;
mod tree;
mod trusted_documents;
pub mod walk;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::actors::Address;
use crate::actors::errors::DomainError;
use crate::actors::live::LiveHub;
use crate::actors::notifications::NotificationActor;
use crate::actors::operations::OperationsActor;
use crate::actors::orders::OrderActor;
use crate::actors::products::ProductActor;
use crate::actors::products::campaigns::CampaignActor;
use crate::actors::recommendations::RecommendationActor;
use crate::actors::supervisor::{Escalation, SupervisionTree};
use crate::actors::users::UserActor;
use crate::actors::users::api_key_uses::ApiKeyUses;
use crate::actors::users::hasher::PasswordHasher;
use crate::actors::users::mail_tokens::MailTokens;
use crate::actors::users::messages::CreateAccount;
use crate::actors::users::tokens::AccessTokens;
use crate::config::{Config, Role};
use crate::domain::money::Currency;
use crate::domain::users::{Preferences, User};
use crate::mail::Mailer;
use crate::store::users::UserStore;
use crate::telemetry::Metrics;

pub use demo::{DEMO_ACCOUNTS, DEMO_PASSWORD};
pub use keys::{KeyView, rotate_keys, signing_keys};
pub use rebuild::{Rebuilt, rebuild};
pub use settle::settle_pending;
pub use stores::{Stores, lock_data_dir, migrate, open_flow, open_history, open_operations, open_users};
pub use trusted_documents::read_trusted_documents;

use crate::gateway::admin::Phase;
use crate::gateway::cursors::Cursors;
use crate::gateway::server::PublicServer;
use listeners::{AdminListener, SessionsForgetter};

/// Why the shop did not start, or a command could not open its stores.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The operator can mend it by other arguments or configuration: exit code 2.
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Failed(String),
    /// Supervision gave up.
    #[error("gave up: supervision escalated because of {who}: {why}")]
    Escalated { who: String, why: String },
    /// Asked to stop before it was ready; whatever had started has stopped in order.
    #[error("stopped before it was ready")]
    Stopped,
}

impl AppError {
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Usage(_))
    }

    fn usage(reason: impl std::fmt::Display) -> Self {
        Self::Usage(reason.to_string())
    }

    fn failed(reason: impl std::fmt::Display) -> Self {
        Self::Failed(reason.to_string())
    }
}

/// Everything behind the gateway: stores, log and actors. The demo fill and every command that needs the real flow run
/// on it without listeners.
pub struct Core {
    pub stores: Stores,
    pub users: Address<UserActor>,
    pub products: Address<ProductActor>,
    pub campaigns: Address<CampaignActor>,
    pub orders: Address<OrderActor>,
    pub recommendations: Address<RecommendationActor>,
    pub operations: Address<OperationsActor>,
    pub notifications: Address<NotificationActor>,
    /// Where the links of mails lead; no mail is sent before it is known.
    pub mail_origin: watch::Sender<Option<String>>,
    mailer: Arc<dyn Mailer>,
    pub live: LiveHub,
    pub hasher: PasswordHasher,
    pub tokens: AccessTokens,
    pub api_key_uses: ApiKeyUses,
    pub cursors: Cursors,
    pub currency: Currency,
    pub ask_deadline: Duration,
    pub metrics: Metrics,
    tree: Arc<SupervisionTree>,
    readings: Arc<readings::Readings>,
    background: loops::Background,
    close_files: Box<dyn FnOnce() + Send>,
    /// Held until the process ends: one server a data folder. `None` when nothing of the shop lies there.
    _lock: Option<stores::DataDirGuard>,
}

/// How a run ended.
#[derive(Debug)]
pub enum Ended {
    Stopped,
    Escalated { who: String, why: String },
}

impl Ended {
    fn phase(&self) -> Phase {
        match self {
            Self::Stopped => Phase::Draining,
            Self::Escalated { .. } => Phase::Escalated,
        }
    }
}

impl From<Escalation> for Ended {
    fn from(Escalation { who, why }: Escalation) -> Self {
        Self::Escalated { who, why }
    }
}

fn noted(escalation: Escalation) -> Escalation {
    tracing::error!(actor = %escalation.who, "supervision gave up: {}", escalation.why);
    escalation
}

/// How long an escalated process drains before it ends.
const ESCALATED_DRAIN: Duration = Duration::from_secs(5);

/// What comes after the gateway in a shutdown has at least this long, and at least three tenths of the time.
const AFTER_GATEWAY: Duration = Duration::from_secs(3);

/// How long the gateway may take to finish what it accepted: clients that hold on to their requests must not take the
/// time of consumers, relays and actors. Of a short time it has half.
fn gateway_share(deadline: Duration) -> Duration {
    deadline.saturating_sub(AFTER_GATEWAY.max(deadline * 3 / 10)).max(deadline / 2)
}

/// Of the gateway's time this much is left to answers that wait for nothing any more; of a short time a third.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// The files have at least this long to close.
const SHORTEST_CLOSE: Duration = Duration::from_millis(500);

/// Closes the files beside the runtime: a disk that hangs must not hold up the end of the process. What a file had not
/// folded in by then is in its WAL, and the next start goes on with it.
async fn close_within(close: Box<dyn FnOnce() + Send>, deadline: Duration) -> bool {
    let (done, closed) = tokio::sync::oneshot::channel();
    let closing = std::thread::Builder::new().name("souk-close".into()).spawn(move || {
        close();
        // Nobody waits any more when the deadline has passed.
        let _ = done.send(());
    });
    closing.is_ok() && matches!(tokio::time::timeout(deadline, closed).await, Ok(Ok(())))
}

impl Core {
    /// Opens the files and starts the actors. `sign_in_changed` is told of every session or key that ended.
    async fn start(
        config: &Config,
        lock: Option<stores::DataDirGuard>,
        metrics: Metrics,
        sign_in_changed: tree::SignInChanged,
    ) -> Result<Self, AppError> {
        let opened = stores::open(config).await?;
        tree::start(config, opened, lock, metrics, sign_in_changed).await
    }

    /// Stops in order, within the deadline; true if everything drained. The actors have a quarter of it to themselves.
    pub async fn stop(self, deadline: Duration) -> bool {
        let began = Instant::now();
        let left = || deadline.saturating_sub(began.elapsed());
        let finished = self.background.finish(deadline * 3 / 4).await;
        let drained = self.tree.shutdown(left().max(Duration::from_millis(100))).await;
        let closed = close_within(self.close_files, left().max(SHORTEST_CLOSE)).await;
        finished && drained && closed
    }
}

/// A running shop.
pub struct App {
    core: Core,
    /// Only of a process with the role `gateway`.
    public: Option<PublicServer>,
    admin: AdminListener,
    demo: bool,
    shutdown_timeout: Duration,
}

impl App {
    /// Everything up and serving when it answers.
    pub async fn start(config: Config) -> Result<Self, AppError> {
        Self::start_unless(config, std::future::pending()).await
    }

    /// As [`Self::start`], until `stop` resolves: what has started by then stops in order, and the answer is
    /// [`AppError::Stopped`]. So it does when a later step of the start fails.
    pub async fn start_unless(config: Config, stop: impl Future<Output = ()>) -> Result<Self, AppError> {
        let mut stop = std::pin::pin!(stop);
        let sessions = SessionsForgetter::default();
        let (lock, metrics) = (lock_data_dir(&config)?, Metrics::new());
        // In front of the stores: operators see that the process lives while it waits for one.
        let admin = AdminListener::start(&config, &metrics)?;
        // Nothing of the core runs before it is returned whole.
        let core = tokio::select! {
            core = Core::start(&config, lock, metrics, sessions.callback()) => core,
            () = &mut stop => Err(AppError::Stopped),
        };
        let core = match core {
            Ok(core) => core,
            Err(error) => {
                admin.stop().await;
                return Err(error);
            }
        };
        admin.show(&config, &core);
        let shutdown_timeout = config.shutdown_timeout();
        let opened = tokio::select! {
            opened = open_shop(&config, &core, &sessions) => opened,
            escalation = core.tree.escalated() => {
                let Escalation { who, why } = noted(escalation);
                Err(AppError::Escalated { who, why })
            }
            () = stop => Err(AppError::Stopped),
        };
        match opened {
            Ok((public, demo)) => {
                admin.set_phase(Phase::Ready);
                Ok(Self { core, public, admin, demo, shutdown_timeout })
            }
            Err(error) => {
                let (phase, deadline) = match error {
                    AppError::Escalated { .. } => (Phase::Escalated, shutdown_timeout.min(ESCALATED_DRAIN)),
                    _ => (Phase::Draining, shutdown_timeout),
                };
                admin.set_phase(phase);
                core.stop(deadline).await;
                admin.stop().await;
                Err(error)
            }
        }
    }

    /// `None`: this process is no gateway.
    pub fn public_address(&self) -> Option<SocketAddr> {
        self.public.as_ref().map(PublicServer::address)
    }

    pub fn admin_address(&self) -> SocketAddr {
        self.admin.address()
    }

    pub fn has_demo_data(&self) -> bool {
        self.demo
    }

    pub fn core(&self) -> &Core {
        &self.core
    }

    /// Runs until `stop` resolves or supervision escalates, then stops in order.
    pub async fn run_until(self, stop: impl Future<Output = ()>) -> Ended {
        let mut ended = tokio::select! {
            () = stop => Ended::Stopped,
            escalation = self.core.tree.escalated() => noted(escalation).into(),
        };
        let mut ends = Instant::now() + self.time_to_end(&ended);
        self.admin.set_phase(ended.phase());
        let mut answered = true;
        if let Some(public) = &self.public {
            answered = tokio::select! {
                answered = self.drain(public, ends) => answered,
                escalation = self.core.tree.escalated(), if matches!(ended, Ended::Stopped) => {
                    ended = noted(escalation).into();
                    ends = ends.min(Instant::now() + self.time_to_end(&ended));
                    self.admin.set_phase(ended.phase());
                    self.drain(public, ends).await
                }
            };
            public.stop().await;
        }
        let drained = self.core.stop(ends.saturating_duration_since(Instant::now())).await;
        self.admin.stop().await;
        if !(answered && drained) {
            tracing::warn!("not everything was finished before the shutdown timeout; the next start goes on with it");
        }
        ended
    }

    fn time_to_end(&self, ended: &Ended) -> Duration {
        match ended {
            Ended::Stopped => self.shutdown_timeout,
            Ended::Escalated { .. } => self.shutdown_timeout.min(ESCALATED_DRAIN),
        }
    }

    /// True: everything that was accepted is answered. An order that still waits for its verdict shortly before the end is
    /// answered without.
    async fn drain(&self, public: &PublicServer, ends: Instant) -> bool {
        let share = gateway_share(ends.saturating_duration_since(Instant::now()));
        let last_answers = LAST_ANSWERS.min(share / 3);
        let ending_waits = async {
            tokio::time::sleep(share - last_answers).await;
            self.core.live.end_waits();
            std::future::pending().await
        };
        tokio::select! {
            answered = public.drain(share) => answered,
            never = ending_waits => never,
        }
    }

    /// What a person at a terminal is told once the shop serves.
    pub fn banner(&self) -> String {
        let Some(address) = self.public_address() else { return demo_accounts() };
        format!(
            "\n  Souk serves a demo shop.\n\n  GraphiQL   http://{address}/graphiql\n  API        http://{address}/graphql\n\n{}\n",
            demo_accounts()
        )
    }
}

/// The last steps of a start: the demo data, where it is wanted, and the public listener.
async fn open_shop(
    config: &Config,
    core: &Core,
    sessions: &SessionsForgetter,
) -> Result<(Option<PublicServer>, bool), AppError> {
    // The orders of the fill need every role to be there.
    let demo = if config.demo && config.roles.is_all() {
        demo::fill_if_empty(core, &|_, _, _| {}).await.map_err(demo_failed)?
    } else {
        if config.roles.is_all() {
            demo::abandon_interrupted(core).await.map_err(AppError::failed)?;
        }
        false
    };
    let serves = config.roles.has(Role::Gateway);
    let public = serves.then(|| listeners::start_public(config, core, sessions)).transpose()?;
    Ok((public, demo))
}

/// The sign-ins of the demo accounts, a line each.
pub fn demo_accounts() -> String {
    let lines: Vec<_> = DEMO_ACCOUNTS
        .iter()
        .map(|(role, _, email)| format!("  demo {:<9} {email}  password {DEMO_PASSWORD}", role.as_str().to_lowercase()))
        .collect();
    lines.join("\n")
}

fn demo_failed(error: anyhow::Error) -> AppError {
    AppError::Failed(format!("the demo data could not be made: {error:#}"))
}

/// `souk demo`: the real flow without listeners. False: the shop is not empty.
pub fn fill_with_demo_data(config: Config, progress: demo::Progress<'_>) -> Result<bool, AppError> {
    actix_rt::System::new().block_on(async {
        let lock = lock_data_dir(&config)?;
        let core = Core::start(&config, lock, Metrics::new(), Box::new(|_| {})).await?;
        let filled = demo::fill_if_empty(&core, progress).await.map_err(demo_failed);
        core.stop(config.shutdown_timeout()).await;
        filled
    })
}

/// `souk admin create`: straight into the users store, server running or not. The inner error is a refusal.
pub fn create_account(config: &Config, account: CreateAccount) -> Result<Result<User, DomainError>, AppError> {
    actix_rt::System::new().block_on(async {
        let users = stores::open_users(config).await?;
        let hasher = PasswordHasher::start(config.auth.bcrypt_cost, 1, 1, Duration::MAX);
        let store: &dyn UserStore = users.as_ref();
        let mail_tokens = MailTokens::new(&tree::server_secret(config, store).await?);
        let preferences = Preferences::default();
        Ok(crate::actors::users::create_account(store, &mail_tokens, &hasher, account, preferences).await)
    })
}

/// Lets the process hold as many sockets as the system allows it; where that fails the default stays.
pub fn raise_open_files_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        tracing::debug!(%error, "could not raise the limit of open files");
    }
}

/// A switch that is thrown once.
type Stopping = watch::Sender<bool>;
