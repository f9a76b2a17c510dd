//! The configuration: one typed value, checked before anything starts.
//!
//! [`Config::load`] lays four sources over each other, the later ones winning: the defaults of this module (those of a
//! developer's machine), a TOML file, `SOUK__SECTION__KEY` variables and command line flags. [`Config::validate`] then
//! applies the rules that need more than one setting. An error names the setting, where its value came from, and what
//! would be right; the explanation it quotes is the comment in `config.toml`, so the two cannot drift apart.
//!
//! An empty string stands for "not set" throughout, so that every setting has a value, a type and a line in
//! `config.toml`.

mod campaigns;
mod error;
mod load;
mod net;
mod reference;
mod roles;
mod secret;
mod sender;
#[cfg(test)]
mod tests;
mod uri;
mod validate;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use error::{ConfigError, Place, Problem};
pub use load::{CliOverrides, process_environment};
pub use net::IpNetwork;
pub use roles::{Role, Roles};
pub use secret::{Secret, SecretUri};
pub use sender::MailSender;
pub use uri::{Endpoint, Uri};

use crate::domain::recommendations::{Limits, Rules, Score};

/// Declares one section: its fields with their types and, in the same line, their defaults.
macro_rules! section {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty = $default:expr,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }
    };
}

section! {
    /// Every setting of a process. `config.toml` explains each; the comments here say only what a reader of the code needs.
    Config {
        environment: Environment = Environment::Development,
        data_dir: PathBuf = PathBuf::from("souk-data"),
        roles: Roles = Roles::all(),
        /// Already resolved: an unset `demo` is true in development and false in production.
        demo: bool = true,
        shutdown_timeout_ms: u64 = 30_000,
        start_timeout_ms: u64 = 60_000,
        allow_embedded_in_production: bool = false,
        shop: ShopConfig = ShopConfig::default(),
        gateway: GatewayConfig = GatewayConfig::default(),
        admin: AdminConfig = AdminConfig::default(),
        store: StoreConfig = StoreConfig::default(),
        events: EventsConfig = EventsConfig::default(),
        cache: CacheConfig = CacheConfig::default(),
        mail: MailConfig = MailConfig::default(),
        orders: OrdersConfig = OrdersConfig::default(),
        notifications: NotificationsConfig = NotificationsConfig::default(),
        recommendations: RecommendationsConfig = RecommendationsConfig::default(),
        campaigns: CampaignsConfig = CampaignsConfig::default(),
        auth: AuthConfig = AuthConfig::default(),
        limits: LimitsConfig = LimitsConfig::default(),
        supervision: SupervisionConfig = SupervisionConfig::default(),
        faults: FaultsConfig = FaultsConfig::default(),
        log: LogConfig = LogConfig::default(),
        traces: TracesConfig = TracesConfig::default(),
    }
}

section! {
    ShopConfig {
        /// Three capital letters; the domain turns them into its own currency type.
        currency: String = "EUR".into(),
    }
}

section! {
    GatewayConfig {
        listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 4000)),
        /// Empty: read [`Config::public_url`], which derives it.
        public_url: String = String::new(),
        /// Read through [`GatewayConfig::serves_graphiql`], which knows `hardened` and `trusted_documents`.
        graphiql: bool = true,
        /// Read through [`GatewayConfig::answers_introspection`], which knows `hardened`.
        introspection: bool = true,
        hardened: bool = false,
        max_depth: usize = 16,
        max_complexity: usize = 15_000,
        max_aliases: usize = 100,
        max_root_fields: usize = 20,
        max_body_bytes: usize = 1_048_576,
        persisted_query_bytes: usize = 4_194_304,
        /// Empty: every document is executed.
        trusted_documents: PathBuf = PathBuf::new(),
        request_timeout_ms: u64 = 10_000,
        max_subscriptions_per_socket: usize = 100,
        connection_init_timeout_ms: u64 = 3_000,
        /// Asked through [`GatewayConfig::allows_origin`].
        allowed_origins: Vec<String> = Vec::new(),
        /// Asked through [`GatewayConfig::trusts_proxy`].
        trusted_proxies: Vec<IpNetwork> = Vec::new(),
    }
}

section! {
    AdminConfig {
        listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 9200)),
        metrics: bool = true,
    }
}

section! {
    StoreConfig {
        kind: StoreKind = StoreKind::Sqlite,
        /// Read through [`StoreConfig::uri_of`], which knows the overrides in `uris`.
        uri: SecretUri = SecretUri::default(),
        prefix: String = "souk_".into(),
        uris: StoreUris = StoreUris::default(),
    }
}

section! {
    /// One optional URI a domain, over `store.uri`.
    StoreUris {
        users: SecretUri = SecretUri::default(),
        products: SecretUri = SecretUri::default(),
        orders: SecretUri = SecretUri::default(),
        recommendations: SecretUri = SecretUri::default(),
        notifications: SecretUri = SecretUri::default(),
        operations: SecretUri = SecretUri::default(),
    }
}

section! {
    EventsConfig {
        kind: EventsKind = EventsKind::Embedded,
        brokers: Vec<String> = Vec::new(),
        tls: bool = false,
        tls_ca_file: PathBuf = PathBuf::new(),
        sasl: SaslMechanism = SaslMechanism::None,
        user: String = String::new(),
        password: Secret = Secret::default(),
        prefix: String = String::new(),
        partitions: u32 = 8,
        retention_days: u32 = 30,
        session_timeout_ms: u64 = 6_000,
        max_attempts: u32 = 5,
        retry_base_ms: u64 = 100,
        retry_max_ms: u64 = 30_000,
        batch_size: usize = 500,
    }
}

section! {
    CacheConfig {
        kind: CacheKind = CacheKind::Memory,
        uri: SecretUri = SecretUri::default(),
    }
}

section! {
    MailConfig {
        kind: MailKind = MailKind::Directory,
        uri: SecretUri = SecretUri::default(),
        tls_ca_file: PathBuf = PathBuf::new(),
        from: String = "Souk <souk@localhost>".into(),
        deadline_ms: u64 = 30_000,
    }
}

section! {
    OrdersConfig {
        writer_batch_max: usize = 1_000,
        writer_queue_max: usize = 10_000,
    }
}

section! {
    NotificationsConfig {
        standard_per_second: u32 = 50,
        standard_per_recipient_per_day: u32 = 3,
        max_attempts: u32 = 5,
        backoff_base_ms: u64 = 1_000,
        backoff_max_ms: u64 = 600_000,
        workers: usize = 4,
        digest_every_days: u32 = 7,
    }
}

section! {
    RecommendationsConfig {
        consumable_categories: Vec<String> = Vec::new(),
        score: Score = Score::Continuation,
        min_support: u32 = 2,
        shrinkage_orders: u32 = 30,
        sequence_percent: u32 = 90,
        newest_percent: u32 = 50,
        older_order_percent: u32 = 50,
        popularity_percent: u32 = 2,
        category_percent: u32 = 10,
        again_percent: u32 = 10,
        lines_per_order: usize = 50,
        neighbours_per_item: usize = 200,
        history_items: usize = 20,
        candidates: usize = 300,
    }
}

section! {
    CampaignsConfig {
        /// 0: no price launches a campaign.
        price_cut_percent: u32 = 0,
        back_in_stock: bool = false,
        /// Read through [`CampaignsConfig::schedules`].
        schedules: Vec<ScheduleConfig> = Vec::new(),
    }
}

section! {
    /// One of `[[campaigns.schedules]]`.
    ScheduleConfig {
        name: String = String::new(),
        cron: String = String::new(),
        kind: ScheduleKind = ScheduleKind::Favourites,
        subject: String = String::new(),
        message: String = String::new(),
        /// Only of [`ScheduleKind::Message`]; empty: not narrowed.
        category: String = String::new(),
    }
}

section! {
    AuthConfig {
        bcrypt_cost: u32 = 12,
        access_token_seconds: u64 = 900,
        refresh_token_days: u32 = 30,
        key_secret: Secret = Secret::default(),
        key_refresh_ms: u64 = 5_000,
        /// Empty: the signing key lives in the users store.
        signing_key_file: PathBuf = PathBuf::new(),
        /// Public keys whose tokens are still accepted after a change of the signing key.
        verification_key_files: Vec<PathBuf> = Vec::new(),
        issuer: String = "souk".into(),
        audience: String = "souk".into(),
        hasher_threads: usize = 2,
        hasher_queue: usize = 32,
    }
}

section! {
    /// Rate limits, counted by each process for itself.
    LimitsConfig {
        enabled: bool = true,
        sign_in_per_account_per_minute: u32 = 10,
        sign_in_per_address_per_minute: u32 = 60,
        sign_up_per_address_per_minute: u32 = 20,
        reset_per_account_per_hour: u32 = 3,
    }
}

section! {
    SupervisionConfig {
        intensity: u32 = 10,
        window_seconds: u64 = 60,
        heartbeat_ms: u64 = 1_000,
        freeze_after_ms: u64 = 4_000,
        backoff_base_ms: u64 = 50,
        backoff_max_ms: u64 = 5_000,
        backoff_reset_seconds: u64 = 60,
        mailbox_critical: usize = 1_024,
        mailbox_standard: usize = 4_096,
        critical_burst: usize = 16,
        ask_timeout_ms: u64 = 5_000,
    }
}

section! {
    FaultsConfig {
        enabled: bool = false,
    }
}

section! {
    LogConfig {
        format: LogFormat = LogFormat::Auto,
        level: String = "info,actix_server=warn".into(),
    }
}

section! {
    TracesConfig {
        /// Empty: nothing is sent.
        otlp_endpoint: String = String::new(),
        sample_percent: u32 = 100,
    }
}

/// Declares an enum whose values are written in lower case in the file and in variables.
macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }
    };
}

choice! { Environment { Development, Production, } }
choice! { StoreKind { Sqlite, Mongodb, } }
choice! { EventsKind { Embedded, Kafka, } }
choice! {
    SaslMechanism {
        None,
        Plain,
        #[serde(rename = "scram-sha-256")]
        ScramSha256,
        #[serde(rename = "scram-sha-512")]
        ScramSha512,
    }
}
choice! { CacheKind { Memory, Redis, } }
choice! { MailKind { Directory, Smtp, } }
choice! {
    ScheduleKind {
        /// To each user products in stock of the categories that they buy most.
        Favourites,
        /// The same to everybody, or to the buyers of a category.
        Message,
    }
}
choice! {
    LogFormat {
        /// Text when stderr is a terminal, JSON otherwise.
        Auto,
        Json,
        Text,
    }
}
choice! {
    /// The owner of a database.
    Domain { Users, Products, Orders, Recommendations, Notifications, Operations, }
}

impl Domain {
    pub const ALL: [Self; 6] =
        [Self::Users, Self::Products, Self::Orders, Self::Recommendations, Self::Notifications, Self::Operations];

    /// The name that follows the prefix in a database's or file's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Users => "users",
            Self::Products => "products",
            Self::Orders => "orders",
            Self::Recommendations => "recommendations",
            Self::Notifications => "notifications",
            Self::Operations => "operations",
        }
    }
}

impl Config {
    /// The defaults for a test that starts a server of its own: any free port, cheap password hashes, an empty shop.
    /// Rate limits stay on; a test that signs up many users switches them off itself.
    pub fn for_testing(data_dir: impl Into<PathBuf>) -> Self {
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut config = Self { data_dir: data_dir.into(), demo: false, ..Self::default() };
        config.gateway.listen = any_port;
        config.admin.listen = any_port;
        config.auth.bcrypt_cost = 4;
        config
    }

    /// Whether links in mails may lead nowhere: they name the address that this process listens on, which in production is
    /// not what customers reach, and nothing at all where the gateway is another process.
    pub fn guesses_public_url(&self) -> bool {
        let guesses = self.gateway.public_url.is_empty() && self.roles.has(Role::Notifications);
        guesses && (self.is_production() || !self.roles.has(Role::Gateway))
    }

    /// `config.toml` of the working folder, where there is one: what `--config` means when it is not given.
    pub fn default_file() -> Option<PathBuf> {
        let file = PathBuf::from("config.toml");
        file.is_file().then_some(file)
    }

    pub fn is_production(&self) -> bool {
        self.environment == Environment::Production
    }

    /// The origin that mail links start with: `gateway.public_url`, or else the address really bound, where a wildcard
    /// address becomes the loopback one that a browser on this machine can open.
    pub fn public_url(&self, bound: SocketAddr) -> String {
        if !self.gateway.public_url.is_empty() {
            return self.gateway.public_url.clone();
        }
        let ip = match bound.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::from(std::net::Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        format!("http://{}", SocketAddr::new(ip, bound.port()))
    }

    /// The configuration as `souk config print` shows it: complete, loadable but for its secrets, which read `***`.
    pub fn to_toml_masked(&self) -> Result<String, toml::ser::Error> {
        toml::to_string_pretty(self)
    }

    pub fn shutdown_timeout(&self) -> Duration {
        Duration::from_millis(self.shutdown_timeout_ms)
    }

    pub fn start_timeout(&self) -> Duration {
        Duration::from_millis(self.start_timeout_ms)
    }
}

impl GatewayConfig {
    pub fn serves_graphiql(&self) -> bool {
        self.graphiql && !self.hardened && self.trusted_documents.as_os_str().is_empty()
    }

    pub fn answers_introspection(&self) -> bool {
        self.introspection && !self.hardened
    }

    /// Whether a browser page of `origin` (the request's `Origin` header) may use the API: one that is listed, or of
    /// `public_url`, which is the gateway's own behind a proxy. The address that it listens on is not known here.
    pub fn allows_origin(&self, origin: &str) -> bool {
        let wanted = net::normal_origin(origin);
        let public = Some(&self.public_url).filter(|url| !url.is_empty());
        self.allowed_origins.iter().chain(public).any(|allowed| allowed == "*" || net::normal_origin(allowed) == wanted)
    }

    /// Whether `X-Forwarded-For` and its relatives are believed when `peer` sends them.
    pub fn trusts_proxy(&self, peer: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|network| network.contains(peer))
    }
}

impl StoreConfig {
    pub fn uri_of(&self, domain: Domain) -> &SecretUri {
        let own = match domain {
            Domain::Users => &self.uris.users,
            Domain::Products => &self.uris.products,
            Domain::Orders => &self.uris.orders,
            Domain::Recommendations => &self.uris.recommendations,
            Domain::Notifications => &self.uris.notifications,
            Domain::Operations => &self.uris.operations,
        };
        if own.is_empty() { &self.uri } else { own }
    }
}

impl AuthConfig {
    pub fn has_key_files(&self) -> bool {
        self.signing_key_file != Path::new("")
    }
}

impl RecommendationsConfig {
    /// Purchases that may be recommended again, where something is consumable.
    const BOUGHT_AGAIN: usize = 200;

    /// The rules as the domain takes them.
    pub fn rules(&self) -> Rules {
        let share = |percent: u32| f64::from(percent) / 100.0;
        Rules {
            score: self.score,
            min_support: self.min_support,
            shrinkage: f64::from(self.shrinkage_orders),
            sequence_weight: share(self.sequence_percent),
            newest_weight: share(self.newest_percent),
            older_order_weight: share(self.older_order_percent),
            popularity_weight: share(self.popularity_percent),
            category_weight: share(self.category_percent),
            again_weight: share(self.again_percent),
            limits: Limits {
                lines_per_order: self.lines_per_order,
                neighbours_per_item: self.neighbours_per_item,
                history_items: self.history_items,
                candidates: self.candidates,
                bought_again: if self.consumable_categories.is_empty() { 0 } else { Self::BOUGHT_AGAIN },
            },
            consumable_categories: self.consumable_categories.clone(),
        }
    }
}
