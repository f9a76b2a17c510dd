//! The rules that a type cannot hold: ranges, pairs of settings, and what production refuses.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::Path;

use tracing_subscriber::filter::{LevelFilter, Targets};

use super::load::explanation;
use super::{
    CacheKind, Config, ConfigError, Domain, Endpoint, EventsKind, MailKind, MailSender, Place, Problem, SaslMechanism,
    SecretUri, StoreKind, Uri,
};

const DAY_MS: u64 = 86_400_000;

impl Config {
    /// Finds everything that is wrong. The problems' places are [`Place::Unstated`]; `load` knows them.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut check = Check::default();
        self.check_ranges(&mut check);
        self.check_texts(&mut check);
        self.check_servers(&mut check);
        self.check_pairs(&mut check);
        if self.is_production() {
            self.check_production(&mut check);
        }
        if check.problems.is_empty() { Ok(()) } else { Err(ConfigError::Problems(check.problems)) }
    }

    fn check_ranges(&self, check: &mut Check) {
        check.range("shutdown_timeout_ms", self.shutdown_timeout_ms, 1..=3_600_000);
        check.range("start_timeout_ms", self.start_timeout_ms, 1..=3_600_000);

        let gateway = &self.gateway;
        check.range("gateway.max_depth", gateway.max_depth, 1..=100);
        check.range("gateway.max_complexity", gateway.max_complexity, 1..=1_000_000);
        check.range("gateway.max_aliases", gateway.max_aliases, 0..=10_000);
        check.range("gateway.max_root_fields", gateway.max_root_fields, 1..=10_000);
        check.range("gateway.max_body_bytes", gateway.max_body_bytes, 1_024..=104_857_600);
        check.range("gateway.persisted_query_bytes", gateway.persisted_query_bytes, 0..=1_073_741_824);
        check.range("gateway.request_timeout_ms", gateway.request_timeout_ms, 100..=600_000);
        check.range("gateway.max_subscriptions_per_socket", gateway.max_subscriptions_per_socket, 1..=10_000);
        check.range("gateway.connection_init_timeout_ms", gateway.connection_init_timeout_ms, 100..=60_000);

        let events = &self.events;
        check.range("events.partitions", events.partitions, 1..=1_000);
        check.range("events.retention_days", events.retention_days, 1..=3_650);
        check.range("events.session_timeout_ms", events.session_timeout_ms, 1_000..=30_000);
        check.range("events.max_attempts", events.max_attempts, 1..=100);
        check.range("events.retry_base_ms", events.retry_base_ms, 1..=DAY_MS);
        check.range("events.retry_max_ms", events.retry_max_ms, 1..=DAY_MS);
        check.range("events.batch_size", events.batch_size, 1..=10_000);

        check.range("orders.writer_batch_max", self.orders.writer_batch_max, 1..=10_000);
        check.range("orders.writer_queue_max", self.orders.writer_queue_max, 1..=1_000_000);

        check.range("mail.deadline_ms", self.mail.deadline_ms, 100..=60_000);
        let notifications = &self.notifications;
        check.range("notifications.standard_per_second", notifications.standard_per_second, 1..=100_000);
        check.range(
            "notifications.standard_per_recipient_per_day",
            notifications.standard_per_recipient_per_day,
            0..=10_000,
        );
        check.range("notifications.max_attempts", notifications.max_attempts, 1..=100);
        check.range("notifications.backoff_base_ms", notifications.backoff_base_ms, 1..=DAY_MS);
        check.range("notifications.backoff_max_ms", notifications.backoff_max_ms, 1..=DAY_MS);
        check.range("notifications.workers", notifications.workers, 1..=256);
        check.range("notifications.digest_every_days", notifications.digest_every_days, 0..=3_650);

        let recommendations = &self.recommendations;
        check.range("recommendations.min_support", recommendations.min_support, 1..=1_000);
        check.range("recommendations.shrinkage_orders", recommendations.shrinkage_orders, 0..=100_000);
        for (key, value, most) in [
            ("recommendations.sequence_percent", recommendations.sequence_percent, 100),
            ("recommendations.newest_percent", recommendations.newest_percent, 100),
            ("recommendations.older_order_percent", recommendations.older_order_percent, 100),
            ("recommendations.popularity_percent", recommendations.popularity_percent, 1_000),
            ("recommendations.category_percent", recommendations.category_percent, 1_000),
            ("recommendations.again_percent", recommendations.again_percent, 100),
        ] {
            check.range(key, value, 0..=most);
        }
        check.range("recommendations.lines_per_order", recommendations.lines_per_order, 2..=100);
        check.range("recommendations.neighbours_per_item", recommendations.neighbours_per_item, 10..=10_000);
        check.range("recommendations.history_items", recommendations.history_items, 1..=100);
        check.range("recommendations.candidates", recommendations.candidates, 10..=10_000);
        check.range("campaigns.price_cut_percent", self.campaigns.price_cut_percent, 0..=100);

        let auth = &self.auth;
        check.range("auth.bcrypt_cost", auth.bcrypt_cost, 4..=15);
        check.range("auth.access_token_seconds", auth.access_token_seconds, 1..=86_400);
        check.range("auth.refresh_token_days", auth.refresh_token_days, 1..=3_650);
        check.range("auth.key_refresh_ms", auth.key_refresh_ms, 50..=60_000);
        check.range("auth.hasher_threads", auth.hasher_threads, 1..=64);
        check.range("auth.hasher_queue", auth.hasher_queue, 1..=10_000);

        let limits = &self.limits;
        for (key, value) in [
            ("limits.sign_in_per_account_per_minute", limits.sign_in_per_account_per_minute),
            ("limits.sign_in_per_address_per_minute", limits.sign_in_per_address_per_minute),
            ("limits.sign_up_per_address_per_minute", limits.sign_up_per_address_per_minute),
            ("limits.reset_per_account_per_hour", limits.reset_per_account_per_hour),
        ] {
            check.range(key, value, 1..=1_000_000);
        }

        let supervision = &self.supervision;
        check.range("supervision.intensity", supervision.intensity, 0..=10_000);
        check.range("supervision.window_seconds", supervision.window_seconds, 1..=86_400);
        check.range("supervision.heartbeat_ms", supervision.heartbeat_ms, 10..=60_000);
        check.range("supervision.freeze_after_ms", supervision.freeze_after_ms, 20..=600_000);
        check.range("supervision.backoff_base_ms", supervision.backoff_base_ms, 1..=60_000);
        check.range("supervision.backoff_max_ms", supervision.backoff_max_ms, 1..=3_600_000);
        check.range("supervision.backoff_reset_seconds", supervision.backoff_reset_seconds, 1..=86_400);
        check.range("supervision.mailbox_critical", supervision.mailbox_critical, 1..=1_000_000);
        check.range("supervision.mailbox_standard", supervision.mailbox_standard, 1..=1_000_000);
        check.range("supervision.critical_burst", supervision.critical_burst, 1..=10_000);
        check.range("supervision.ask_timeout_ms", supervision.ask_timeout_ms, 10..=600_000);
    }

    fn check_texts(&self, check: &mut Check) {
        if self.data_dir.as_os_str().is_empty() {
            check.wrong("data_dir", "it is empty");
        }
        let currency = &self.shop.currency;
        if currency.len() != 3 || !currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
            check.wrong("shop.currency", format!("`{currency}` is not three capital letters"));
        }
        if !self.gateway.public_url.is_empty() {
            check.origin("gateway.public_url", &self.gateway.public_url);
        }
        for origin in self.gateway.allowed_origins.iter().filter(|origin| *origin != "*") {
            check.origin("gateway.allowed_origins", origin);
        }
        let collector = &self.traces.otlp_endpoint;
        if !collector.is_empty() {
            check.origin("traces.otlp_endpoint", collector);
            if !collector.starts_with("http://") {
                let advice = "name a collector near this process, which sends on as it likes: http://127.0.0.1:4318";
                check.push("traces.otlp_endpoint", "it does not start with http://", advice);
            }
        }
        check.range("traces.sample_percent", self.traces.sample_percent, 1..=100);
        check.name_prefix("store.prefix", &self.store.prefix, 30);
        check.name_prefix("events.prefix", &self.events.prefix, 100);
        if let Err(what) = MailSender::parse(&self.mail.from) {
            check.wrong("mail.from", what);
        }
        for (key, value) in [("auth.issuer", &self.auth.issuer), ("auth.audience", &self.auth.audience)] {
            if value.is_empty() || value.len() > 200 || value.chars().any(char::is_control) {
                check.wrong(key, "it must be 1 to 200 characters, none of them a control character");
            }
        }
        let categories = &self.recommendations.consumable_categories;
        if categories.iter().any(|category| category.trim().is_empty()) {
            check.wrong("recommendations.consumable_categories", "a category has no name");
        }
        if let Err(what) = self.campaigns.schedules() {
            check.wrong("campaigns.schedules", what);
        }
        if let Err(what) = parse_log_level(&self.log.level) {
            check.wrong("log.level", what);
        }
    }

    fn check_servers(&self, check: &mut Check) {
        if self.store.kind == StoreKind::Mongodb {
            // One message for one missing `store.uri`, not one a domain.
            let uris: BTreeSet<(String, &str)> = Domain::ALL
                .into_iter()
                .map(|domain| {
                    let uri = self.store.uri_of(domain);
                    let own = uri != &self.store.uri;
                    (if own { format!("store.uris.{}", domain.name()) } else { "store.uri".into() }, uri.expose())
                })
                .collect();
            for (key, uri) in uris {
                let uri = check.uri(&key, uri, "store.kind = \"mongodb\"", &["mongodb", "mongodb+srv"]);
                let resolved_by_dns = |uri: &Uri| uri.scheme == "mongodb+srv";
                let has_ports = |uri: &Uri| uri.endpoints.len() > 1 || uri.endpoints.iter().any(|e| e.port.is_some());
                if uri.is_some_and(|uri| resolved_by_dns(&uri) && has_ports(&uri)) {
                    check.wrong(&key, "a mongodb+srv URI has exactly one host and no port");
                }
            }
        }
        if self.events.kind == EventsKind::Kafka {
            self.check_kafka(check);
        }
        if self.cache.kind == CacheKind::Redis {
            check.one_host("cache.uri", &self.cache.uri, "cache.kind = \"redis\"", &["redis", "rediss"]);
        }
        if self.mail.kind == MailKind::Smtp {
            let uri = check.one_host("mail.uri", &self.mail.uri, "mail.kind = \"smtp\"", &["smtp"]);
            if let Some(uri) = uri {
                self.check_smtp(check, &uri);
            }
        }
    }

    fn check_kafka(&self, check: &mut Check) {
        let events = &self.events;
        if events.brokers.is_empty() {
            check.wrong("events.brokers", "it is empty, but events.kind = \"kafka\" needs it");
        }
        for broker in &events.brokers {
            match Endpoint::parse(broker) {
                Ok(Endpoint { port: Some(_), .. }) => {}
                Ok(_) => check.wrong("events.brokers", format!("`{broker}` has no port")),
                Err(what) => check.wrong("events.brokers", format!("`{broker}`: {what}")),
            }
        }
        if events.sasl == SaslMechanism::None {
            if !events.user.is_empty() || !events.password.is_empty() {
                check.wrong("events.sasl", "it is none, but events.user or events.password is set");
            }
        } else if events.user.is_empty() || events.password.is_empty() {
            check.wrong("events.sasl", "it needs events.user and events.password");
        }
        if !events.tls && events.tls_ca_file != Path::new("") {
            check.wrong("events.tls_ca_file", "it is set, but events.tls is false");
        }
        if !cfg!(feature = "kafka-tls") {
            let scram = matches!(events.sasl, SaslMechanism::ScramSha256 | SaslMechanism::ScramSha512);
            for (key, wanted) in [("events.tls", events.tls), ("events.sasl", scram)] {
                if wanted {
                    let remedy = "use a build with it: cargo build --release --features kafka-tls";
                    check.push(key, "this build is without the feature kafka-tls", remedy);
                }
            }
        }
    }

    fn check_smtp(&self, check: &mut Check, uri: &Uri) {
        if let Some((name, _)) = uri.query.iter().find(|(name, _)| name != "tls") {
            check.wrong("mail.uri", format!("it has an option `{name}`, but the only one there is is `tls`"));
        }
        match uri.option("tls") {
            None | Some("starttls" | "implicit") => {}
            Some("none") if self.is_production() => check.wrong("mail.uri", "tls=none is refused in production"),
            Some("none") => {}
            Some(other) => {
                check.wrong("mail.uri", format!("tls={other} is none of tls=starttls, tls=implicit and tls=none"));
            }
        }
        if uri.option("tls") == Some("none") && self.mail.tls_ca_file != Path::new("") {
            check.wrong("mail.tls_ca_file", "it is set, but mail.uri says tls=none");
        }
        if !uri.path.is_empty() {
            check.wrong("mail.uri", "nothing but an option may follow host and port");
        }
    }

    fn check_pairs(&self, check: &mut Check) {
        for (base_key, base, max_key, max) in [
            ("events.retry_base_ms", self.events.retry_base_ms, "events.retry_max_ms", self.events.retry_max_ms),
            (
                "notifications.backoff_base_ms",
                self.notifications.backoff_base_ms,
                "notifications.backoff_max_ms",
                self.notifications.backoff_max_ms,
            ),
            (
                "supervision.backoff_base_ms",
                self.supervision.backoff_base_ms,
                "supervision.backoff_max_ms",
                self.supervision.backoff_max_ms,
            ),
        ] {
            if base > max {
                check.wrong(max_key, format!("{max} is less than {base_key} = {base}"));
            }
        }
        let supervision = &self.supervision;
        if supervision.freeze_after_ms < 2 * supervision.heartbeat_ms {
            check.wrong(
                "supervision.freeze_after_ms",
                format!("{} is less than two heartbeats", supervision.freeze_after_ms),
            );
        }
        if !self.roles.is_all() {
            for (key, embedded, name) in [
                ("store.kind", self.store.kind == StoreKind::Sqlite, "mongodb"),
                ("events.kind", self.events.kind == EventsKind::Embedded, "kafka"),
            ] {
                if embedded {
                    check.push(
                        key,
                        "an embedded adapter serves one process only, but roles names less than all",
                        format!("set {key} = \"{name}\", or roles = [\"all\"]"),
                    );
                }
            }
        }
        if !self.auth.has_key_files() && !self.auth.verification_key_files.is_empty() {
            check.wrong("auth.verification_key_files", "it is set without auth.signing_key_file");
        }
    }

    fn check_production(&self, check: &mut Check) {
        let refused = "production refuses it";
        if self.faults.enabled {
            check.push("faults.enabled", refused, "set it to false, or environment = \"development\"");
        }
        if !self.limits.enabled {
            check.push("limits.enabled", "production refuses to run without rate limits", "set it to true");
        }
        if (4..10).contains(&self.auth.bcrypt_cost) {
            let what = format!("production refuses a cost below 10, this is {}", self.auth.bcrypt_cost);
            check.push("auth.bcrypt_cost", what, "set it to 10 to 15; 12 is the default");
        }
        if self.demo {
            check.push("demo", refused, "leave it out, or set it to false");
        }
        if !self.allow_embedded_in_production {
            for (key, embedded, name) in [
                ("store.kind", self.store.kind == StoreKind::Sqlite, "mongodb"),
                ("events.kind", self.events.kind == EventsKind::Embedded, "kafka"),
                ("cache.kind", self.cache.kind == CacheKind::Memory, "redis"),
                ("mail.kind", self.mail.kind == MailKind::Directory, "smtp"),
            ] {
                if embedded {
                    let remedy = format!("set {key} = \"{name}\", or allow_embedded_in_production = true");
                    check.push(key, "production refuses the embedded adapter", remedy);
                }
            }
        }
        self.check_production_secrets(check);
    }

    fn check_production_secrets(&self, check: &mut Check) {
        const MIN_SECRET_BYTES: usize = 16;
        let advice = "set it to at least 16 random characters, or auth.signing_key_file to a key of your own";
        let secret = self.auth.key_secret.expose();
        if secret.is_empty() {
            if !self.auth.has_key_files() {
                check.push("auth.key_secret", "production needs it, and it is not set", advice);
            }
        } else if secret.len() < MIN_SECRET_BYTES {
            check.push("auth.key_secret", "it is too short for production", advice);
        } else if is_placeholder(secret) {
            check.push("auth.key_secret", "it is a placeholder, not a secret", advice);
        }
    }
}

/// Words that stand in examples, and one character repeated.
fn is_placeholder(secret: &str) -> bool {
    let plain: String = secret.to_lowercase().chars().filter(|c| c.is_alphanumeric()).collect();
    plain.contains("changeme") || plain.contains("replaceme") || secret.chars().all(|c| secret.starts_with(c))
}

/// Stricter than the filter, which takes a misspelt level for the name of a module.
fn parse_log_level(text: &str) -> Result<(), String> {
    let bare = text.split(',').map(str::trim).filter(|directive| !directive.contains(['=', '[', ':']));
    for level in bare {
        level.parse::<LevelFilter>().map_err(|_| format!("`{level}` is no level"))?;
    }
    text.parse::<Targets>().map(|_| ()).map_err(|error| error.to_string())
}

fn is_bare_origin(text: &str) -> Result<(), String> {
    let uri = Uri::parse(text)?;
    if uri.scheme != "http" && uri.scheme != "https" {
        return Err("it does not start with http:// or https://".into());
    }
    if uri.user.is_some() {
        return Err("it contains credentials".into());
    }
    if uri.endpoints.len() != 1 {
        return Err("it names more than one host".into());
    }
    let after_host = text.split_once("://").map_or("", |(_, rest)| rest);
    if after_host.contains(['/', '?', '#']) {
        return Err("something follows host and port, be it only a slash".into());
    }
    Ok(())
}

#[derive(Default)]
struct Check {
    problems: Vec<Problem>,
}

impl Check {
    fn push(&mut self, key: &str, what: impl Into<String>, remedy: impl Into<String>) {
        let (key, what, remedy) = (key.to_owned(), what.into(), remedy.into());
        self.problems.push(Problem { key, place: Place::Unstated, what, remedy });
    }

    /// A problem whose remedy is what `config.toml` says about the setting.
    fn wrong(&mut self, key: &str, what: impl Into<String>) {
        self.push(key, what, explanation(key));
    }

    fn range<T: PartialOrd + Display>(&mut self, key: &str, value: T, range: RangeInclusive<T>) {
        if !range.contains(&value) {
            self.wrong(key, format!("{value} is not in {} to {}", range.start(), range.end()));
        }
    }

    fn origin(&mut self, key: &str, text: &str) {
        if let Err(what) = is_bare_origin(text) {
            self.wrong(key, format!("`{text}` is no bare origin: {what}"));
        }
    }

    fn name_prefix(&mut self, key: &str, prefix: &str, max_bytes: usize) {
        let plain = prefix.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
        if !plain || prefix.len() > max_bytes || (key == "store.prefix" && prefix.contains('.')) {
            self.wrong(key, format!("`{prefix}` cannot begin a name"));
        }
    }

    fn uri(&mut self, key: &str, uri: &str, needed_by: &str, schemes: &[&str]) -> Option<Uri> {
        if uri.is_empty() {
            self.wrong(key, format!("it is empty, but {needed_by} needs it"));
            return None;
        }
        match Uri::parse(uri) {
            Ok(uri) if schemes.contains(&uri.scheme.as_str()) => return Some(uri),
            Ok(_) => self.wrong(key, format!("it does not start with {}://", schemes.join(":// or "))),
            Err(what) => self.wrong(key, what),
        }
        None
    }

    fn one_host(&mut self, key: &str, uri: &SecretUri, needed_by: &str, schemes: &[&str]) -> Option<Uri> {
        let uri = self.uri(key, uri.expose(), needed_by, schemes)?;
        if uri.endpoints.len() > 1 {
            self.wrong(key, "it names more than one host");
        }
        Some(uri)
    }
}
