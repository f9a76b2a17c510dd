//! The public and the admin listener, made from the configuration and put in front of a running core.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::watch;

use super::readings::Readings;
use super::tree::SignInChanged;
use super::trusted_documents::trusted_documents;
use super::{AppError, Core};
use crate::actors::supervisor::{ActorState, ActorStatus, Fault, SupervisionTree};
use crate::actors::users::SignInChange;
use crate::config::{CacheKind, Config, Domain, Role, Roles};
use crate::gateway::admin::{AdminServer, FaultKind, FaultSwitch, Health, Phase, Probe};
use crate::gateway::api_key_auth::ApiKeyAuth;
use crate::gateway::auth::Auth;
use crate::gateway::context::{ActorStateView, ActorStatusView, Shop, SupervisionView};
use crate::gateway::document_limits::DocumentLimits;
use crate::gateway::errors::finish_response;
use crate::gateway::mail_pages::UserActorMailActions;
use crate::gateway::rate_limits::{RateLimitSettings, RateLimits};
use crate::gateway::schema::{SchemaLimits, build_schema, sdl, with_loaders};
use crate::gateway::server::PublicServer;
use crate::gateway::service::GraphqlService;
use crate::gateway::session_check::{ApiKeyCheck, SessionCheck, UserActorSource};
use crate::gateway::settings::HttpSettings;
use crate::kafka::EventLog;
use crate::mail::Mailer;
use crate::store::cache::SharedCache;
use crate::store::outbox::Outbox;
use crate::telemetry::Metrics;

/// Dependencies as `/health/ready` names them, besides the stores.
const EVENTS: &str = "events";
const CACHE: &str = "cache";
const MAIL: &str = "mail";

fn store_name(domain: &str) -> String {
    format!("store.{domain}")
}

/// How long an injected freeze blocks an actor's thread.
const FREEZE: Duration = Duration::from_secs(20);

/// Lets the users actor, which starts first, reach the gateway's copies of sessions and API keys, which come later.
#[derive(Clone, Default)]
pub(super) struct SessionsForgetter(Arc<OnceLock<(SessionCheck, ApiKeyCheck)>>);

impl SessionsForgetter {
    pub(super) fn callback(&self) -> SignInChanged {
        let checks = Arc::clone(&self.0);
        Box::new(move |change| {
            // Nothing is copied before the gateway is there.
            let Some((sessions, api_keys)) = checks.get() else { return };
            match change {
                SignInChange::Session(session) => sessions.forget(session),
                SignInChange::ApiKey(key) => api_keys.forget(key),
                SignInChange::Any => {
                    sessions.forget_all();
                    api_keys.forget_all();
                }
            }
        })
    }
}

/// The admin listener, which is there before the core is.
pub(super) struct AdminListener {
    server: AdminServer,
    health: Health,
    readings: Arc<OnceLock<Arc<Readings>>>,
}

impl AdminListener {
    /// Live, and not ready.
    pub(super) fn start(config: &Config, metrics: &Metrics) -> Result<Self, AppError> {
        let readings = Arc::<OnceLock<Arc<Readings>>>::default();
        let health = Health::metered_by(&metrics.process);
        let needed = domains_of(&config.roles);
        for domain in Domain::ALL.map(Domain::name) {
            health.expect(store_name(domain), needed.contains(domain));
        }
        if config.cache.kind == CacheKind::Redis {
            health.expect(CACHE.to_owned(), false);
        }
        for name in [EVENTS, MAIL] {
            health.expect(name.to_owned(), false);
        }
        let faults = config.faults.enabled.then(|| fault_switch(Arc::clone(&readings)));
        let (of_core, scraped) = (Arc::clone(&readings), health.clone());
        let before_scrape = Arc::new(move || -> BoxFuture<'static, ()> {
            let (readings, health) = (of_core.get().cloned(), scraped.clone());
            Box::pin(async move {
                if let Some(readings) = readings {
                    readings.refresh(&health).await;
                }
            })
        });
        let registry = config.admin.metrics.then(|| metrics.registry().clone());
        let server = AdminServer::start(config.admin.listen, health.clone(), registry, before_scrape, faults)
            .map_err(AppError::usage)?;
        Ok(Self { server, health, readings })
    }

    /// From here on it tells of a core.
    pub(super) fn show(&self, config: &Config, core: &Core) {
        let needed = domains_of(&config.roles);
        for outbox in &core.stores.outboxes {
            self.health.add_probe(store_probe(outbox, needed.contains(outbox.domain())));
        }
        if let Some(cache) = &core.stores.cache {
            self.health.add_probe(cache_probe(cache));
        }
        self.health.add_probe(log_probe(&core.readings.log));
        self.health.add_probe(mail_probe(&core.mailer));
        self.readings.get_or_init(|| Arc::clone(&core.readings));
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.server.address()
    }

    pub(super) fn set_phase(&self, phase: Phase) {
        self.health.set_phase(phase);
    }

    pub(super) async fn stop(&self) {
        self.server.stop().await;
    }
}

/// The domains without whose stores a process of these roles does nothing of worth. Every process keeps dead letters, but
/// goes on while they wait.
pub(super) fn domains_of(roles: &Roles) -> BTreeSet<&'static str> {
    let of_role = |role| -> &[Domain] {
        match role {
            // The shop goes on selling without recommendations and inboxes.
            Role::Gateway => &[Domain::Users, Domain::Products, Domain::Orders],
            Role::Inventory => &[Domain::Products],
            Role::Orders => &[Domain::Orders],
            Role::Recommendations => &[Domain::Recommendations, Domain::Products],
            Role::Notifications => &[Domain::Notifications, Domain::Users],
            Role::Campaigns => &[Domain::Products, Domain::Users, Domain::Recommendations],
        }
    };
    roles.iter().flat_map(|role| of_role(role).iter().map(|domain| domain.name())).collect()
}

/// A store answers when it can be read and written.
fn store_probe(outbox: &Arc<dyn Outbox>, required: bool) -> Probe {
    let outbox = Arc::clone(outbox);
    Probe {
        name: store_name(outbox.domain()),
        required,
        check: Arc::new(move || -> BoxFuture<'static, bool> {
            let outbox = Arc::clone(&outbox);
            Box::pin(async move { outbox.check().await.is_ok() })
        }),
    }
}

/// Without the event log orders are still accepted, and decided later.
fn log_probe(log: &Arc<dyn EventLog>) -> Probe {
    let log = Arc::clone(log);
    Probe {
        name: EVENTS.to_owned(),
        required: false,
        check: Arc::new(move || -> BoxFuture<'static, bool> {
            let log = Arc::clone(&log);
            Box::pin(async move { log.check().await.is_ok() })
        }),
    }
}

/// Without the cache reads go to the stores.
fn cache_probe(cache: &Arc<dyn SharedCache>) -> Probe {
    let cache = Arc::clone(cache);
    Probe {
        name: CACHE.to_owned(),
        required: false,
        check: Arc::new(move || -> BoxFuture<'static, bool> {
            let cache = Arc::clone(&cache);
            Box::pin(async move { cache.is_there().await })
        }),
    }
}

/// Without its server mail waits in the store.
fn mail_probe(mailer: &Arc<dyn Mailer>) -> Probe {
    let mailer = Arc::clone(mailer);
    Probe {
        name: MAIL.to_owned(),
        required: false,
        check: Arc::new(move || -> BoxFuture<'static, bool> {
            let mailer = Arc::clone(&mailer);
            Box::pin(async move { mailer.is_there().await })
        }),
    }
}

fn fault_switch(readings: Arc<OnceLock<Arc<Readings>>>) -> FaultSwitch {
    Arc::new(move |actor, kind| {
        let fault = match kind {
            FaultKind::Panic => Fault::Panic,
            FaultKind::Freeze => Fault::Freeze(FREEZE),
            FaultKind::FailStart => Fault::FailStart,
        };
        readings.get().is_some_and(|readings| readings.tree.inject(actor, fault).is_ok())
    })
}

/// Serves the API in front of a core.
pub(super) fn start_public(
    config: &Config,
    core: &Core,
    sessions: &SessionsForgetter,
) -> Result<PublicServer, AppError> {
    let source = UserActorSource { users: core.users.clone(), deadline: core.ask_deadline };
    let checks = (SessionCheck::new(source.clone()), ApiKeyCheck::new(source));
    let (sessions, api_keys) = sessions.0.get_or_init(|| checks).clone();
    let rate_limits = rate_limits(config);
    let api_keys = ApiKeyAuth { check: api_keys, uses: core.api_key_uses.clone(), limits: rate_limits.clone() };
    let gateway = &config.gateway;
    let limits = SchemaLimits {
        max_depth: gateway.max_depth,
        max_complexity: gateway.max_complexity,
        introspection: gateway.answers_introspection(),
        ..SchemaLimits::default()
    };
    let shop = Shop {
        users: core.users.clone(),
        products: core.products.clone(),
        campaigns: core.campaigns.clone(),
        orders: core.orders.clone(),
        recommendations: core.recommendations.clone(),
        operations: core.operations.clone(),
        notifications: core.notifications.clone(),
        live: core.live.clone(),
        tokens: core.tokens.clone(),
        cursors: core.cursors.clone(),
        currency: core.currency,
        ask_deadline: core.ask_deadline,
        rate_limits,
        supervision: Arc::new(TreeView(Arc::clone(&core.tree))),
    };
    let settings = http_settings(config);
    let auth = Auth::new(core.tokens.clone(), sessions).accepting_keys(api_keys);
    let metrics = config.admin.metrics.then_some(&core.metrics);
    let auth = match metrics {
        Some(metrics) => auth.metered_by(metrics.caches.of("tokens")),
        None => auth,
    };
    let service = GraphqlService::new(build_schema(shop, limits), auth, settings)
        .preparing_with(Arc::new(|request, _| with_loaders(request)))
        .finishing_with(Arc::new(finish_response))
        .typed_by(&sdl())
        .trusting(trusted_documents(config)?)
        .metered_by(metrics);
    let mail_actions = Arc::new(UserActorMailActions { users: core.users.clone(), deadline: core.ask_deadline });
    let server = PublicServer::start(gateway.listen, Arc::new(service), mail_actions, core.metrics.registry());
    let server = server.map_err(AppError::usage)?;
    // From here on the links of mails lead somewhere.
    core.mail_origin.send_replace(Some(config.public_url(server.address())));
    Ok(server)
}

fn rate_limits(config: &Config) -> RateLimits {
    let limits = &config.limits;
    // The configuration's ranges start at 1.
    let count = |limit: u32| NonZeroU32::new(limit).unwrap_or(NonZeroU32::MIN);
    RateLimits::new(RateLimitSettings {
        enabled: limits.enabled,
        sign_in_per_account_per_minute: count(limits.sign_in_per_account_per_minute),
        sign_in_per_address_per_minute: count(limits.sign_in_per_address_per_minute),
        sign_up_per_address_per_minute: count(limits.sign_up_per_address_per_minute),
        reset_per_account_per_hour: count(limits.reset_per_account_per_hour),
    })
}

/// The supervision tree as the API shows it.
struct TreeView(Arc<SupervisionTree>);

impl SupervisionView for TreeView {
    fn status(&self) -> ActorStatusView {
        view_of(self.0.status())
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes()
    }
}

fn view_of(status: ActorStatus) -> ActorStatusView {
    ActorStatusView {
        name: status.name,
        state: match status.state {
            ActorState::Running => ActorStateView::Running,
            ActorState::Restarting => ActorStateView::Restarting,
            ActorState::Stopped => ActorStateView::Stopped,
            ActorState::Escalated => ActorStateView::Escalated,
        },
        restarts: status.restarts,
        last_panic: status.last_panic,
        mailbox_depth: status.mailbox.depth(),
        handled: status.mailbox.handled,
        children: status.children.into_iter().map(view_of).collect(),
    }
}

fn http_settings(config: &Config) -> HttpSettings {
    let gateway = &config.gateway;
    let (origins, proxies) = (gateway.clone(), gateway.clone());
    HttpSettings {
        max_body_bytes: gateway.max_body_bytes,
        request_timeout: Duration::from_millis(gateway.request_timeout_ms),
        graphiql: gateway.serves_graphiql(),
        introspection: gateway.answers_introspection(),
        allows_origin: Arc::new(move |origin| origins.allows_origin(origin)),
        trusts_proxy: Arc::new(move |address| proxies.trusts_proxy(address)),
        document_limits: document_limits(config),
        persisted_query_bytes: gateway.persisted_query_bytes,
        max_subscriptions_per_socket: gateway.max_subscriptions_per_socket,
        max_socket_message_bytes: gateway.max_body_bytes,
        connection_init_timeout: Duration::from_millis(gateway.connection_init_timeout_ms),
        // A new key is known here after one of these, and signs after `keys::READ_BEFORE_SIGNING` of them.
        key_set_max_age: Duration::from_millis(config.auth.key_refresh_ms).min(Duration::from_secs(5)),
        metrics: config.admin.metrics,
        ..HttpSettings::default()
    }
}

/// What a document may hold.
pub(super) fn document_limits(config: &Config) -> DocumentLimits {
    DocumentLimits {
        max_aliases: config.gateway.max_aliases,
        max_root_fields: config.gateway.max_root_fields,
        ..DocumentLimits::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_needs_what_it_sells_by_and_workers_need_their_own_stores() {
        let needs = |roles: &[Role]| domains_of(&roles.iter().copied().collect()).into_iter().collect::<Vec<_>>();
        assert_eq!(needs(&[Role::Gateway]), ["orders", "products", "users"]);
        assert_eq!(needs(&[Role::Notifications]), ["notifications", "users"]);
        assert_eq!(needs(&[Role::Gateway, Role::Recommendations]), ["orders", "products", "recommendations", "users"]);
        assert!(!needs(&Role::ALL).contains(&"operations"), "dead letters can wait");
    }
}
