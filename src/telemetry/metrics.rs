//! What the process counts: the one registry, and who counts what in it.
//!
//! Names begin with `souk_` and end with their unit. Labels are names that the program knows (actors, groups, topics,
//! domains, lanes, caches, root fields of the schema) and never what a client can make up, so there is a bounded number
//! of series. Where a label's value is known its handle is taken once and kept: counting is a few atomic additions.

use prometheus::core::Collector;
use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};

use super::build;

/// Upper bounds in seconds of the time of an actor's handler: from a look into a copy to a stalled mail server.
const HANDLER_SECONDS: [f64; 10] = [0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0];

/// Upper bounds in seconds of the time of a GraphQL operation.
const OPERATION_SECONDS: [f64; 10] = [0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];

/// Upper bounds in seconds of the time from an order's placement to stock's verdict.
const VERDICT_SECONDS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0];

/// What the process counts. Clones count into the same values.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    pub process: ProcessMetrics,
    pub actors: ActorMetrics,
    pub orders: OrderMetrics,
    pub events: EventMetrics,
    pub mail: MailMetrics,
    pub campaigns: CampaignMetrics,
    pub gateway: GatewayMetrics,
    pub sign_in: SignInMetrics,
    pub caches: CacheMetrics,
}

#[derive(Clone)]
pub struct ProcessMetrics {
    /// 1 while the process serves.
    pub ready: IntGauge,
    /// By `dependency`: 1 if it answered when it was last asked.
    pub dependency_up: IntGaugeVec,
    /// By `dependency`: how long its last answer took.
    pub dependency_seconds: GaugeVec,
}

/// By `actor`, its name in the supervision tree.
#[derive(Clone)]
pub struct ActorMetrics {
    pub up: IntGaugeVec,
    pub messages_handled: IntCounterVec,
    pub messages_in_flight: IntGaugeVec,
    /// Also by `lane`.
    pub mailbox_depth: IntGaugeVec,
    /// Failed starts count too.
    pub restarts: IntCounterVec,
    pub panics: IntCounterVec,
    pub freezes: IntCounterVec,
    pub escalations: IntCounterVec,
    /// Also by `reason`: busy, timeout, interrupted, stopped.
    pub asks_failed: IntCounterVec,
}

#[derive(Clone)]
pub struct OrderMetrics {
    pub writer_batch: Histogram,
    pub writer_commit_seconds: Histogram,
    /// By `status`: what the verdict made of the order.
    pub verdict_seconds: HistogramVec,
    pub pending: IntGauge,
    pub pending_oldest_seconds: Gauge,
}

#[derive(Clone)]
pub struct EventMetrics {
    /// By `domain`: of its outbox.
    pub outbox_depth: IntGaugeVec,
    pub outbox_oldest_seconds: GaugeVec,
    pub outbox_published: IntCounterVec,
    pub outbox_failures: IntCounterVec,
    pub outbox_refused: IntCounterVec,
    /// By `group` and `topic`.
    pub handled: IntCounterVec,
    pub retries: IntCounterVec,
    pub dead_letters: IntCounterVec,
    pub lag: IntGaugeVec,
    /// By `group`.
    pub parked: IntGaugeVec,
    pub waits: IntCounterVec,
    pub missed: IntCounterVec,
}

#[derive(Clone)]
pub struct MailMetrics {
    /// By `outcome`: sent, failed (to be tried again), skipped, dead.
    pub mails: IntCounterVec,
    /// By `lane`: critical, standard.
    pub queue_depth: IntGaugeVec,
    pub queue_oldest_seconds: GaugeVec,
}

#[derive(Clone)]
pub struct CampaignMetrics {
    /// By `cause`: staff, schedule, trigger.
    pub launched: IntCounterVec,
    pub chunks: IntCounter,
    pub recipients: IntCounter,
}

#[derive(Clone)]
pub struct GatewayMetrics {
    /// By `operation`: see `gateway::meters`.
    pub operation_seconds: HistogramVec,
    /// By `operation` and `fault`: client, server.
    pub operations_failed: IntCounterVec,
    /// By `code`, that of the error's extensions.
    pub errors: IntCounterVec,
    pub sockets_open: IntGauge,
    pub subscriptions_open: IntGauge,
    pub subscription_messages: IntCounter,
}

#[derive(Clone)]
pub struct SignInMetrics {
    pub hashes: IntGauge,
    pub hashes_refused: IntCounter,
}

/// By `cache`.
#[derive(Clone)]
pub struct CacheMetrics {
    hits: IntCounterVec,
    misses: IntCounterVec,
    pub errors: IntCounterVec,
}

impl CacheMetrics {
    /// The counters of one cache.
    pub fn of(&self, cache: &str) -> CacheMeter {
        CacheMeter { hits: self.hits.with_label_values(&[cache]), misses: self.misses.with_label_values(&[cache]) }
    }
}

/// What one cache was asked.
#[derive(Clone)]
pub struct CacheMeter {
    hits: IntCounter,
    misses: IntCounter,
}

impl CacheMeter {
    pub fn note(&self, hits: usize, misses: usize) {
        // Most questions have but one sort of answer.
        if hits > 0 {
            self.hits.inc_by(hits as u64);
        }
        if misses > 0 {
            self.misses.inc_by(misses as u64);
        }
    }

    pub fn hit(&self) {
        self.hits.inc();
    }

    pub fn miss(&self) {
        self.misses.inc();
    }
}

/// Counts as one of what is open until it is dropped.
#[derive(Debug)]
pub struct Open(IntGauge);

impl Open {
    pub fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The time that an actor takes for a message, from when it begins on it to its answer. It belongs to the actor, which
/// outlives its values; whoever has the tree adds it to the registry.
pub fn handler_seconds(actor: &str) -> Histogram {
    let opts = HistogramOpts::new("souk_actor_handler_seconds", "Time from the start on a message to its answer.")
        .const_label("actor", actor)
        .buckets(HANDLER_SECONDS.to_vec());
    Histogram::with_opts(opts).expect("the name, its label and the buckets are valid")
}

/// Brings a counter that is kept elsewhere to its value there.
pub fn copy_count(counter: &IntCounter, value: u64) {
    counter.inc_by(value.saturating_sub(counter.get()));
}

/// Makes metrics of one registry.
struct Maker<'a>(&'a Registry);

type Made<T> = Result<T, prometheus::Error>;

impl Maker<'_> {
    fn add<T: Collector + Clone + 'static>(&self, made: T) -> Made<T> {
        self.0.register(Box::new(made.clone()))?;
        Ok(made)
    }

    fn counter(&self, name: &str, help: &str) -> Made<IntCounter> {
        self.add(IntCounter::new(name, help)?)
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Made<IntCounterVec> {
        self.add(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    fn gauge(&self, name: &str, help: &str) -> Made<IntGauge> {
        self.add(IntGauge::new(name, help)?)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Made<IntGaugeVec> {
        self.add(IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    fn times(&self, name: &str, help: &str, labels: &[&str]) -> Made<GaugeVec> {
        self.add(GaugeVec::new(Opts::new(name, help), labels)?)
    }

    fn histogram(&self, name: &str, help: &str, buckets: Vec<f64>) -> Made<Histogram> {
        self.add(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))?)
    }

    fn histograms(&self, name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> Made<HistogramVec> {
        self.add(HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels)?)
    }

    fn process(&self) -> Made<ProcessMetrics> {
        #[cfg(target_os = "linux")]
        self.0.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        let info = Opts::new("souk_build_info", "1, with the version and build that run.")
            .const_label("version", build::VERSION)
            .const_label("build", build::BUILD);
        self.add(IntGauge::with_opts(info)?)?.set(1);
        Ok(ProcessMetrics {
            ready: self.gauge("souk_ready", "1 while the process serves.")?,
            dependency_up: self.gauges(
                "souk_dependency_up",
                "1 if the dependency answered when it was last asked.",
                &["dependency"],
            )?,
            dependency_seconds: self.times(
                "souk_dependency_answer_seconds",
                "Time of the dependency's last answer.",
                &["dependency"],
            )?,
        })
    }

    fn actors(&self) -> Made<ActorMetrics> {
        let counters = |name: &str, help: &str| self.counters(name, help, &["actor"]);
        let gauges = |name: &str, help: &str| self.gauges(name, help, &["actor"]);
        Ok(ActorMetrics {
            up: gauges("souk_actor_up", "1 while the actor runs.")?,
            messages_handled: counters("souk_actor_messages_handled_total", "Messages that an actor has answered.")?,
            messages_in_flight: gauges("souk_actor_messages_in_flight", "Messages that an actor has in hand.")?,
            mailbox_depth: self.gauges(
                "souk_actor_mailbox_depth",
                "Messages that wait in a lane of an actor.",
                &["actor", "lane"],
            )?,
            restarts: counters("souk_actor_restarts_total", "Restarts of an actor, failed starts included.")?,
            panics: counters("souk_actor_panics_total", "Panics of an actor.")?,
            freezes: counters("souk_actor_freezes_total", "Times that an actor blocked its thread.")?,
            escalations: counters("souk_actor_escalations_total", "Times that supervision gave up on an actor.")?,
            asks_failed: self.counters(
                "souk_actor_asks_failed_total",
                "Questions that an actor did not answer.",
                &["actor", "reason"],
            )?,
        })
    }

    fn orders(&self) -> Made<OrderMetrics> {
        Ok(OrderMetrics {
            writer_batch: self.histogram(
                "souk_order_writer_batch_orders",
                "Orders in one commit of the order writer.",
                prometheus::exponential_buckets(1.0, 2.0, 11)?,
            )?,
            writer_commit_seconds: self.histogram(
                "souk_order_writer_commit_seconds",
                "Time of one commit of the order writer.",
                prometheus::exponential_buckets(0.000_25, 2.0, 14)?,
            )?,
            verdict_seconds: self.histograms(
                "souk_order_verdict_seconds",
                "Time from an order's placement to stock's verdict.",
                &["status"],
                &VERDICT_SECONDS,
            )?,
            pending: self.gauge("souk_orders_pending", "Orders that wait for stock's verdict.")?,
            pending_oldest_seconds: self.add(Gauge::new(
                "souk_orders_pending_oldest_seconds",
                "Age of the oldest order that waits for stock's verdict.",
            )?)?,
        })
    }

    fn events(&self) -> Made<EventMetrics> {
        let of_domain = |name: &str, help: &str| self.counters(name, help, &["domain"]);
        let of_group = |name: &str, help: &str| self.counters(name, help, &["group"]);
        let of_topic = |name: &str, help: &str| self.counters(name, help, &["group", "topic"]);
        Ok(EventMetrics {
            outbox_depth: self.gauges("souk_outbox_events", "Events that wait to be published.", &["domain"])?,
            outbox_oldest_seconds: self.times(
                "souk_outbox_oldest_seconds",
                "Age of the oldest event that waits to be published, or to be forgotten after it.",
                &["domain"],
            )?,
            outbox_published: of_domain("souk_outbox_events_published_total", "Events that the log has acknowledged.")?,
            outbox_failures: of_domain("souk_outbox_failures_total", "Failed attempts to publish or clear events.")?,
            outbox_refused: of_domain("souk_outbox_events_refused_total", "Events that the log will never take.")?,
            handled: of_topic("souk_consumer_events_handled_total", "Events whose effect a group has committed.")?,
            retries: of_topic(
                "souk_consumer_retries_total",
                "Attempts at an event that failed for its own reason and are repeated.",
            )?,
            dead_letters: of_topic("souk_dead_letters_total", "Events that failed for good.")?,
            lag: self.gauges(
                "souk_consumer_lag_events",
                "Events in the log that the group has not committed.",
                &["group", "topic"],
            )?,
            parked: self.gauges("souk_consumer_parked_events", "Events that wait for another attempt.", &["group"])?,
            waits: of_group("souk_consumer_waits_total", "Waits of a group for its domain or the log.")?,
            missed: of_group(
                "souk_consumer_events_missed_total",
                "Events that the log had removed before the group read them.",
            )?,
        })
    }

    fn mail(&self) -> Made<MailMetrics> {
        let mails =
            self.counters("souk_notification_mails_total", "Ends of attempts at a notification's mail.", &["outcome"])?;
        for outcome in ["sent", "failed", "skipped", "dead"] {
            // A rise from nothing to 1 is seen only if 0 was shown before.
            mails.with_label_values(&[outcome]);
        }
        Ok(MailMetrics {
            mails,
            queue_depth: self.gauges(
                "souk_notification_queue_depth",
                "Notifications whose mail is still to be sent.",
                &["lane"],
            )?,
            queue_oldest_seconds: self.times(
                "souk_notification_queue_oldest_seconds",
                "How long the mail that is due longest is due.",
                &["lane"],
            )?,
        })
    }

    fn campaigns(&self) -> Made<CampaignMetrics> {
        let launched = self.counters("souk_campaigns_launched_total", "Campaigns that began.", &["cause"])?;
        for cause in ["staff", "schedule", "trigger"] {
            launched.with_label_values(&[cause]);
        }
        Ok(CampaignMetrics {
            launched,
            chunks: self.counter("souk_campaign_chunks_total", "Chunks of campaigns that were written.")?,
            recipients: self.counter("souk_campaign_recipients_total", "Users in the chunks of campaigns.")?,
        })
    }

    fn gateway(&self) -> Made<GatewayMetrics> {
        Ok(GatewayMetrics {
            operation_seconds: self.histograms(
                "souk_graphql_operation_seconds",
                "Time of a query or mutation from its execution to its answer.",
                &["operation"],
                &OPERATION_SECONDS,
            )?,
            operations_failed: self.counters(
                "souk_graphql_operations_failed_total",
                "Operations that were answered with errors.",
                &["operation", "fault"],
            )?,
            errors: self.counters("souk_graphql_errors_total", "Top-level errors of answers.", &["code"])?,
            sockets_open: self.gauge("souk_gateway_sockets_open", "Open WebSockets.")?,
            subscriptions_open: self.gauge("souk_gateway_subscriptions_open", "Running subscriptions.")?,
            subscription_messages: self
                .counter("souk_gateway_subscription_messages_total", "Results sent to subscriptions.")?,
        })
    }

    fn sign_in(&self) -> Made<SignInMetrics> {
        Ok(SignInMetrics {
            hashes: self.gauge("souk_sign_in_queue_hashes", "Password hashes that run or wait.")?,
            hashes_refused: self.counter("souk_sign_in_refused_total", "Password hashes refused: too many waited.")?,
        })
    }

    fn caches(&self) -> Made<CacheMetrics> {
        let counters = |name: &str, help: &str| self.counters(name, help, &["cache"]);
        let errors = counters("souk_cache_errors_total", "Questions that failed because the cache was away.")?;
        // The only cache that can be away; where there is none it never is.
        errors.with_label_values(&["redis"]);
        Ok(CacheMetrics {
            hits: counters("souk_cache_hits_total", "Questions that a cache answered.")?,
            misses: counters("souk_cache_misses_total", "Questions that a cache could not answer.")?,
            errors,
        })
    }
}

impl Metrics {
    pub fn new() -> Self {
        Self::register(Registry::new()).expect("the names are valid and distinct")
    }

    fn register(registry: Registry) -> Made<Self> {
        let maker = Maker(&registry);
        Ok(Self {
            process: maker.process()?,
            actors: maker.actors()?,
            orders: maker.orders()?,
            events: maker.events()?,
            mail: maker.mail()?,
            campaigns: maker.campaigns()?,
            gateway: maker.gateway()?,
            sign_in: maker.sign_in()?,
            caches: maker.caches()?,
            registry,
        })
    }

    /// The one registry of the process, for whoever adds metrics of its own (HTTP, the tree).
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Everything counted, in Prometheus' text format.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        render(&self.registry)
    }
}

/// Everything that a registry has, in Prometheus' text format.
pub fn render(registry: &Registry) -> Result<String, prometheus::Error> {
    let mut text = Vec::with_capacity(64 * 1024);
    TextEncoder::new().encode(&registry.gather(), &mut text)?;
    String::from_utf8(text).map_err(|error| prometheus::Error::Msg(error.to_string()))
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_rendered_under_its_name_with_its_unit() {
        let metrics = Metrics::new();
        metrics.actors.messages_handled.with_label_values(&["orders"]).inc_by(3);
        metrics.clone().actors.messages_handled.with_label_values(&["orders"]).inc();
        metrics.actors.mailbox_depth.with_label_values(&["orders", "critical"]).set(2);
        metrics.orders.writer_batch.observe(7.0);
        metrics.orders.writer_commit_seconds.observe(0.004);
        metrics.events.handled.with_label_values(&["inventory", "order-events"]).inc_by(9);
        metrics.events.lag.with_label_values(&["inventory", "order-events"]).set(5);
        metrics.mail.mails.with_label_values(&["sent"]).inc();
        metrics.caches.of("products").note(3, 1);
        let handling = handler_seconds("orders");
        metrics.registry().register(Box::new(handling.clone())).unwrap();
        metrics.registry().register(Box::new(handler_seconds("users"))).unwrap();
        handling.observe(0.002);

        let text = metrics.render().unwrap();
        for line in [
            "souk_actor_messages_handled_total{actor=\"orders\"} 4",
            "souk_actor_mailbox_depth{actor=\"orders\",lane=\"critical\"} 2",
            "souk_order_writer_batch_orders_bucket{le=\"8\"} 1",
            "souk_order_writer_commit_seconds_bucket{le=\"0.004\"} 1",
            "souk_consumer_events_handled_total{group=\"inventory\",topic=\"order-events\"} 9",
            "souk_consumer_lag_events{group=\"inventory\",topic=\"order-events\"} 5",
            "souk_notification_mails_total{outcome=\"sent\"} 1",
            "souk_notification_mails_total{outcome=\"dead\"} 0",
            "souk_cache_hits_total{cache=\"products\"} 3",
            "souk_cache_misses_total{cache=\"products\"} 1",
            "souk_actor_handler_seconds_bucket{actor=\"orders\",le=\"0.005\"} 1",
            "souk_actor_handler_seconds_count{actor=\"users\"} 0",
            concat!(
                "souk_build_info{build=\"",
                env!("SOUK_BUILD"),
                "\",version=\"",
                env!("CARGO_PKG_VERSION"),
                "\"} 1"
            ),
        ] {
            assert!(text.contains(line), "no `{line}` in:\n{text}");
        }
    }

    #[test]
    fn a_count_that_is_kept_elsewhere_is_copied_and_never_falls() {
        let counter = IntCounter::new("c", "c").unwrap();
        for (value, shown) in [(3, 3), (5, 5), (4, 5)] {
            copy_count(&counter, value);
            assert_eq!(counter.get(), shown);
        }
    }

    #[test]
    fn what_is_open_counts_until_it_is_dropped() {
        let gauge = IntGauge::new("g", "g").unwrap();
        let (one, two) = (Open::new(&gauge), Open::new(&gauge));
        assert_eq!(gauge.get(), 2);
        drop(one);
        assert_eq!(gauge.get(), 1);
        drop(two);
        assert_eq!(gauge.get(), 0);
    }
}
