//! The supervision tree: which actors there are, what belongs to what, and what each is made of.
//!
//! ```text
//! souk@host:pid
//! ├─ users
//! ├─ products
//! │    ├─ products.inventory    group `inventory`: decides placed and cancelled orders
//! │    ├─ products.campaigns    launches campaigns and writes their chunks
//! │    └─ products.campaign-events  group `campaigns`: launched campaigns, and events that launch one
//! ├─ orders
//! │    ├─ orders.writer         commits new orders in batches
//! │    └─ orders.verdicts       group `orders`: confirms or rejects
//! ├─ recommendations
//! │    └─ recommendations.history  group `recommendations`: learns from confirmed and cancelled orders
//! ├─ operations                 dead letters, for staff
//! ├─ notifications             inboxes, and what events tell users
//! │    ├─ notifications.worker-1     delivers mail; with others beside it, critical mail only
//! │    ├─ notifications.worker-2 ...
//! │    ├─ notifications.dispatcher   claims what is due and hands it to the workers
//! │    └─ notifications.events       group `notifications`
//! └─ events                     publishes what the domains commit
//!      ├─ events.tail           wakes live subscriptions
//!      └─ events.dead-letters   group `dead-letters`
//! ```

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::listeners::domains_of;
use super::loops::Loops;
use super::readings::Readings;
use super::stores::{DataDirGuard, Opened};
use super::{AppError, Core};
use crate::actors::Address;
use crate::actors::clock::now;
use crate::actors::live::LiveHub;
use crate::actors::notifications::NotificationActor;
use crate::actors::operations::OperationsActor;
use crate::actors::orders::ids::OrderIds;
use crate::actors::orders::writer::OrderWriter;
use crate::actors::orders::{OrderActor, OrderTools, VerdictObserver};
use crate::actors::products::ProductActor;
use crate::actors::recommendations::{RecommendationActor, RecommendationTools};
use crate::actors::server_secret::ServerSecret;
use crate::actors::supervisor::{ActorSpec, MailboxLimits, SupervisedActor, SupervisionSettings, SupervisionTree};
use crate::actors::users::api_key_uses::ApiKeyUses;
use crate::actors::users::hasher::PasswordHasher;
use crate::actors::users::keys::{FollowedKeys, KeyError, file_keys, seal_plain, stored_keys, stored_server_secret};
use crate::actors::users::mail_tokens::MailTokens;
use crate::actors::users::networks::Networks;
use crate::actors::users::tokens::AccessTokens;
use crate::actors::users::{SignInChange, UserActor, UserTools};
use crate::config::{Config, Role, SupervisionConfig};
use crate::domain::events::source;
use crate::domain::money::Currency;
use crate::domain::orders::OrderStatus;
use crate::domain::page::PageRequest;
use crate::domain::products::{ProductFilter, ProductSort};
use crate::gateway::cursors::Cursors;
use crate::kafka::campaigns::CampaignHandler;
use crate::kafka::dead_letters::{DeadLetterKeeper, GROUP as DEAD_LETTERS};
use crate::kafka::inventory::InventoryHandler;
use crate::kafka::notifications::NotificationHandler;
use crate::kafka::precedence::Precedence;
use crate::kafka::recommendations::RecommendationHandler;
use crate::kafka::supervised::LoopActor;
use crate::kafka::verdicts::VerdictHandler;
use crate::store::cache::products::{CatalogueMeters, CatalogueReads};
use crate::store::cache::recommendations::EvidenceReads;
use crate::store::users::UserStore;
use crate::telemetry::Metrics;

/// Told of each change about who is signed in.
pub type SignInChanged = Box<dyn Fn(SignInChange) + Send + Sync>;

/// Messages that the order actors may have in hand: a writer's batch is made of them.
const ORDERS_IN_FLIGHT: usize = 4_096;

pub(super) async fn start(
    config: &Config,
    opened: Opened,
    lock: Option<DataDirGuard>,
    metrics: Metrics,
    sign_in_changed: SignInChanged,
) -> Result<Core, AppError> {
    let Opened { stores, log, close_files } = opened;
    let currency: Currency = config.shop.currency.parse().map_err(AppError::usage)?;
    check_currency(&stores, currency).await?;
    let tokens = access_tokens(config, &stores).await?;
    let ask_deadline = Duration::from_millis(config.supervision.ask_timeout_ms);
    let auth = &config.auth;
    // Half of what an asker waits: the other half is for what comes before and after the hash.
    let patience = ask_deadline / 2;
    let hasher = PasswordHasher::start(auth.bcrypt_cost, auth.hasher_threads, auth.hasher_queue, patience);
    let live = LiveHub::default();

    let mailbox = mailbox_limits(&config.supervision);

    let catalogue = CatalogueReads {
        store: Arc::clone(&stores.products),
        cache: stores.cache.clone(),
        clock: now,
        meters: CatalogueMeters::of(&metrics),
    };
    let products_spec = ActorSpec::new("products", move || Ok(ProductActor::new(catalogue.clone()))).mailbox(mailbox);

    let precedence: Arc<Precedence> = Arc::default();
    let writer_spec = order_writer(config, &stores, &metrics, &precedence);
    let secret = server_secret(config, stores.users.as_ref()).await?;
    let order_tools = Arc::new(OrderTools {
        store: Arc::clone(&stores.orders),
        products: products_spec.address(),
        writer: writer_spec.address(),
        ids: OrderIds::new(config.events.partitions),
        currency,
        ask_deadline,
        observe_verdict: verdict_observer(&metrics, &precedence),
    });
    let order_mailbox = order_mailbox(config);
    let orders_spec =
        ActorSpec::new("orders", move || Ok(OrderActor::new(Arc::clone(&order_tools)))).mailbox(order_mailbox);

    let rules = config.recommendations.rules();
    let recommendation_tools = Arc::new(RecommendationTools {
        store: Arc::clone(&stores.recommendations),
        reads: EvidenceReads {
            store: Arc::clone(&stores.recommendations),
            cache: stores.cache.clone(),
            limits: rules.limits,
            clock: now,
            meter: metrics.caches.of("redis-evidence"),
        },
        products: products_spec.address(),
        rules,
        ask_deadline,
        foreign_writes: stores.recommendations_written.clone(),
        copies_meter: metrics.caches.of("rankings"),
        announces: config.roles.has(Role::Recommendations),
    });
    let recommendations_spec =
        ActorSpec::new("recommendations", move || Ok(RecommendationActor::new(Arc::clone(&recommendation_tools))))
            .mailbox(mailbox);

    let recommendations = recommendations_spec.address();
    let operations_store = Arc::clone(&stores.operations);
    let operations_spec =
        ActorSpec::new("operations", move || Ok(OperationsActor::new(Arc::clone(&operations_store)))).mailbox(mailbox);
    // Users and notifications ask one another.
    let notifications = Address::<NotificationActor>::reserve("notifications");
    let api_key_uses = ApiKeyUses::default();
    let user_tools = Arc::new(UserTools {
        store: Arc::clone(&stores.users),
        api_keys: Arc::clone(&stores.api_keys),
        api_key_uses: api_key_uses.clone(),
        tokens: tokens.clone(),
        followed_keys: (!auth.has_key_files()).then(|| FollowedKeys {
            secret: auth.key_secret.clone(),
            every: Duration::from_millis(auth.key_refresh_ms),
        }),
        mail_tokens: MailTokens::new(&secret),
        networks: Networks::new(&secret),
        hasher: hasher.clone(),
        refresh_token_days: config.auth.refresh_token_days,
        orders: orders_spec.address(),
        recommendations: recommendations.clone(),
        notifications: notifications.clone(),
        ask_deadline,
        sign_in_changed,
    });
    let users_spec = ActorSpec::new("users", move || Ok(UserActor::new(Arc::clone(&user_tools)))).mailbox(mailbox);

    let (users, products, orders) = (users_spec.address(), products_spec.address(), orders_spec.address());
    let operations = operations_spec.address();
    let loops = Loops::new(config, &log, &precedence);
    let inventory = loops.consumer(
        Some(Role::Inventory),
        "products.inventory",
        InventoryHandler::GROUP,
        &InventoryHandler::TOPICS,
        source::PRODUCTS,
        &stores.product_consumption,
        Arc::new(InventoryHandler::new(products.clone(), ask_deadline)),
    );
    let campaigns_spec =
        super::campaigns::spec(config, &stores, &metrics, users.clone(), products.clone(), recommendations.clone())?
            .mailbox(mailbox);
    let campaigns = campaigns_spec.address();
    let campaign_events = loops.consumer(
        Some(Role::Campaigns),
        "products.campaign-events",
        CampaignHandler::GROUP,
        &CampaignHandler::TOPICS,
        source::PRODUCTS,
        &stores.product_consumption,
        Arc::new(CampaignHandler::new(campaigns.clone(), config.campaigns.triggers(), ask_deadline)),
    );
    let verdicts = loops.consumer(
        Some(Role::Orders),
        "orders.verdicts",
        VerdictHandler::GROUP,
        &VerdictHandler::TOPICS,
        source::ORDERS,
        &stores.order_consumption,
        Arc::new(VerdictHandler::new(orders.clone(), ask_deadline)),
    );
    let history = loops.consumer(
        Some(Role::Recommendations),
        "recommendations.history",
        RecommendationHandler::GROUP,
        &RecommendationHandler::TOPICS,
        source::RECOMMENDATIONS,
        &stores.recommendation_consumption,
        Arc::new(RecommendationHandler::new(recommendations.clone(), ask_deadline)),
    );
    let dead_letters = loops.consumer(
        None,
        "events.dead-letters",
        DEAD_LETTERS,
        &DeadLetterKeeper::TOPICS,
        source::OPERATIONS,
        &stores.operations_consumption,
        Arc::new(DeadLetterKeeper::new(Arc::clone(&stores.operations))),
    );
    if config.guesses_public_url() {
        tracing::warn!("gateway.public_url is empty: links in mails lead to this process's own address");
    }
    // A gateway knows where it is reached once it is bound; the others are told where theirs is.
    let known = (!config.roles.has(Role::Gateway)).then(|| config.public_url(config.gateway.listen));
    let mail_origin = watch::Sender::new(known);
    let mailer = super::notifications::mailer(config)?;
    let way = super::notifications::Way { mailer: Arc::clone(&mailer), origin: mail_origin.subscribe() };
    let notifications_spec =
        super::notifications::spec(&notifications, config, &stores, &users, &metrics, &loops, way)?;
    let told = loops.consumer(
        Some(Role::Notifications),
        "notifications.events",
        NotificationHandler::GROUP,
        &NotificationHandler::TOPICS,
        source::NOTIFICATIONS,
        &stores.notification_consumption,
        Arc::new(NotificationHandler::new(notifications.clone(), ask_deadline)),
    );
    let relays = stores.relays(config, &log, &precedence);
    let tail = config.roles.has(Role::Gateway).then(|| loops.tail(&live));
    let tree = SupervisionTree::builder(&process_name())
        .settings(supervision_settings(&config.supervision))
        .domain(followed(loops.publisher(&relays), tail.into_iter().chain(dead_letters)))
        .domain(users_spec)
        .domain(followed(followed(products_spec, inventory).follower(campaigns_spec), campaign_events))
        .domain(followed(orders_spec.part(writer_spec), verdicts))
        .domain(followed(recommendations_spec, history))
        .domain(operations_spec)
        .domain(followed(notifications_spec, told))
        .start()
        .map_err(AppError::failed)?;

    for times in tree.handler_seconds() {
        metrics.registry().register(Box::new(times)).map_err(AppError::failed)?;
    }
    let tree = Arc::new(tree);
    let (background, consumers) = loops.end(relays.clone());
    let needed = domains_of(&config.roles);
    // A gateway's requests write to every domain.
    let is_read = |domain: &str| needed.contains(domain) || config.roles.has(Role::Gateway);
    let serves_or = |role| config.roles.has(role) || config.roles.has(Role::Gateway);
    let readings = Arc::new(Readings {
        metrics: metrics.clone(),
        tree: Arc::clone(&tree),
        log,
        relays,
        outboxes: stores.outboxes.iter().filter(|outbox| is_read(outbox.domain())).cloned().collect(),
        consumers,
        orders: serves_or(Role::Orders).then(|| Arc::clone(&stores.orders)),
        notifications: serves_or(Role::Notifications).then(|| Arc::clone(&stores.notifications)),
        cache: stores.cache.clone(),
        hasher: hasher.clone(),
        asking: tokio::sync::Mutex::new(()),
    });
    Ok(Core {
        stores,
        users,
        products,
        campaigns,
        orders,
        recommendations,
        operations,
        notifications,
        mail_origin,
        mailer,
        live,
        hasher,
        tokens,
        api_key_uses,
        cursors: Cursors::new(&secret),
        currency,
        ask_deadline,
        metrics,
        tree,
        readings,
        background,
        close_files,
        _lock: lock,
    })
}

fn followed<A: SupervisedActor>(
    spec: ActorSpec<A>,
    followers: impl IntoIterator<Item = ActorSpec<LoopActor>>,
) -> ActorSpec<A> {
    followers.into_iter().fold(spec, ActorSpec::follower)
}

fn order_writer(
    config: &Config,
    stores: &super::Stores,
    metrics: &Metrics,
    precedence: &Arc<Precedence>,
) -> ActorSpec<OrderWriter> {
    let precedence = Arc::clone(precedence);
    let (store, batch_max) = (Arc::clone(&stores.orders), config.orders.writer_batch_max);
    let metrics = metrics.orders.clone();
    let observe = Arc::new(move |orders: usize, took: Duration| {
        precedence.note_commit(orders);
        metrics.writer_batch.observe(orders as f64);
        metrics.writer_commit_seconds.observe(took.as_secs_f64());
    });
    ActorSpec::new("orders.writer", move || Ok(OrderWriter::new(Arc::clone(&store), batch_max, observe.clone())))
        .mailbox(order_mailbox(config))
}

fn verdict_observer(metrics: &Metrics, precedence: &Arc<Precedence>) -> VerdictObserver {
    let precedence = Arc::clone(precedence);
    let seconds = |status: OrderStatus| metrics.orders.verdict_seconds.with_label_values(&[status.as_str()]);
    let (confirmed, rejected) = (seconds(OrderStatus::Confirmed), seconds(OrderStatus::Rejected));
    Arc::new(move |status, took| {
        let of_verdict = if status == OrderStatus::Confirmed { &confirmed } else { &rejected };
        of_verdict.observe(took.as_secs_f64());
        precedence.note_verdict(took);
    })
}

pub(super) fn mailbox_limits(config: &SupervisionConfig) -> MailboxLimits {
    MailboxLimits {
        standard: config.mailbox_standard,
        critical: config.mailbox_critical,
        burst: config.critical_burst,
        ..MailboxLimits::default()
    }
}

fn order_mailbox(config: &Config) -> MailboxLimits {
    MailboxLimits {
        standard: config.orders.writer_queue_max,
        in_flight: ORDERS_IN_FLIGHT,
        ..mailbox_limits(&config.supervision)
    }
}

fn supervision_settings(config: &SupervisionConfig) -> SupervisionSettings {
    let millis = Duration::from_millis;
    let heartbeat = millis(config.heartbeat_ms.max(1));
    SupervisionSettings {
        intensity: config.intensity as usize,
        intensity_window: Duration::from_secs(config.window_seconds),
        backoff_base: millis(config.backoff_base_ms),
        backoff_max: millis(config.backoff_max_ms),
        backoff_reset: Duration::from_secs(config.backoff_reset_seconds),
        heartbeat,
        // A thread is blocked once the heartbeat after the last one that it may miss is missing too.
        missed_heartbeats: (config.freeze_after_ms / config.heartbeat_ms.max(1)).saturating_sub(2).max(1),
        ..SupervisionSettings::default()
    }
}

/// The root of the tree is named after the process.
fn process_name() -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("souk@{host}:{}", std::process::id())
}

/// Stored prices are in the currency that the shop was made with: another one would mix the two in one total.
async fn check_currency(stores: &super::Stores, configured: Currency) -> Result<(), AppError> {
    let (filter, page) = (ProductFilter::default(), PageRequest::first(1));
    let listed = stores.products.list_products(&filter, ProductSort::Newest, &page).await.map_err(AppError::failed)?;
    match listed.entries.first().map(|(_, product)| product.price.currency) {
        Some(stored) if stored != configured => Err(AppError::Usage(format!(
            "the shop's prices are in {}, but shop.currency is {}: set it back",
            stored.as_str(),
            configured.as_str()
        ))),
        _ => Ok(()),
    }
}

async fn access_tokens(config: &Config, stores: &super::Stores) -> Result<AccessTokens, AppError> {
    let auth = &config.auth;
    // Also with key files: the server's own secret is in the store.
    seal_plain(stores.users.as_ref(), auth.key_secret.expose()).await.map_err(key_failed)?;
    let keys = if auth.has_key_files() {
        file_keys(&auth.signing_key_file, &auth.verification_key_files)
    } else {
        stored_keys(stores.users.as_ref(), auth.key_secret.expose()).await
    };
    let keys = keys.map_err(key_failed)?;
    let lifetime = i64::try_from(auth.access_token_seconds).map_err(AppError::usage)?;
    AccessTokens::new(&keys, &auth.issuer, &auth.audience, lifetime).map_err(AppError::failed)
}

pub(super) async fn server_secret(config: &Config, users: &dyn UserStore) -> Result<ServerSecret, AppError> {
    stored_server_secret(users, config.auth.key_secret.expose()).await.map_err(key_failed)
}

pub(super) fn key_failed(error: KeyError) -> AppError {
    match error {
        KeyError::Store(_) => AppError::failed(error),
        _ => AppError::usage(error),
    }
}
