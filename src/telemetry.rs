//! Logs and metrics: how the process tells what it does.
//!
//! [`init_logs`] is called once by `main`, before anything can log; everything goes to stderr, because stdout carries only
//! the ready lines and what a command was asked for. [`Metrics`] is made once by `app` and handed to whoever counts; its
//! registry is the only one, so the admin listener shows all of it with [`Metrics::render`].

use std::io::IsTerminal;

use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::Layer;
use tracing_subscriber::prelude::*;

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogStyle {
    /// Text on a terminal, JSON otherwise.
    Auto,
    Json,
    Text,
}

#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("{source_name}: `{directives}` is no log level: {source}; use one such as info or info,souk::kafka=debug")]
    Level { source_name: &'static str, directives: String, source: tracing_subscriber::filter::ParseError },
}

/// Starts logging. `RUST_LOG`, when it is set, is over `level`. A second call in the same process changes nothing, so
/// that tests can call it as they like.
pub fn init_logs(style: LogStyle, level: &str) -> Result<(), TelemetryError> {
    let from_variable = std::env::var("RUST_LOG").ok().filter(|directives| !directives.trim().is_empty());
    let (source_name, directives) = match from_variable {
        Some(directives) => ("RUST_LOG", directives),
        None => ("log.level", level.to_owned()),
    };
    let filter = EnvFilter::builder().parse(&directives).map_err(|source| TelemetryError::Level {
        source_name,
        directives,
        source,
    })?;

    let terminal = std::io::stderr().is_terminal();
    let registry = tracing_subscriber::registry().with(filter);
    let layer = Layer::new().with_writer(std::io::stderr);
    let started = match style {
        LogStyle::Json => registry.with(layer.json().flatten_event(true)).try_init(),
        LogStyle::Auto if !terminal => registry.with(layer.json().flatten_event(true)).try_init(),
        LogStyle::Auto | LogStyle::Text => {
            let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            registry.with(layer.with_ansi(colours)).try_init()
        }
    };
    // The only failure is that the process logs already.
    drop(started);
    Ok(())
}

/// What the process counts. Clones count into the same values.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    /// By `actor`, its name in the supervision tree.
    pub actor_messages_handled: IntCounterVec,
    /// By `actor`; failed starts count too.
    pub actor_restarts: IntCounterVec,
    /// By `actor`.
    pub actor_mailbox_depth: IntGaugeVec,
    pub order_writer_batch_size: Histogram,
    pub order_writer_commit_seconds: Histogram,
    /// By `domain`.
    pub outbox_published: IntCounterVec,
    /// By `group`.
    pub events_handled: IntCounterVec,
    /// By `group`.
    pub event_attempts_failed: IntCounterVec,
    /// By `group` and `topic`: events in the log that the group has not committed.
    pub consumer_lag: IntGaugeVec,
    /// By `group`, the one that failed.
    pub dead_letters: IntCounterVec,
    /// By `outcome`: sent, failed (to be tried again), skipped, dead.
    pub notification_mails: IntCounterVec,
    /// By `lane`: critical, standard.
    pub notification_queue_depth: IntGaugeVec,
}

impl Metrics {
    pub fn new() -> Self {
        Self::register(Registry::new()).expect("the names below are valid and distinct")
    }

    fn register(registry: Registry) -> Result<Self, prometheus::Error> {
        let counters = |name: &str, help: &str, labels: &[&str]| -> Result<IntCounterVec, prometheus::Error> {
            let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counters.clone()))?;
            Ok(counters)
        };
        let histogram = |name: &str, help: &str, buckets: Vec<f64>| -> Result<Histogram, prometheus::Error> {
            let histogram = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))?;
            registry.register(Box::new(histogram.clone()))?;
            Ok(histogram)
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| -> Result<IntGaugeVec, prometheus::Error> {
            let gauges = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(gauges.clone()))?;
            Ok(gauges)
        };
        #[cfg(target_os = "linux")]
        registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;

        Ok(Self {
            actor_messages_handled: counters(
                "souk_actor_messages_handled_total",
                "Messages that an actor has answered.",
                &["actor"],
            )?,
            actor_restarts: counters("souk_actor_restarts_total", "Restarts of an actor.", &["actor"])?,
            actor_mailbox_depth: gauges(
                "souk_actor_mailbox_depth",
                "Messages that wait in both lanes of an actor.",
                &["actor"],
            )?,
            order_writer_batch_size: histogram(
                "souk_order_writer_batch_orders",
                "Orders in one commit of the order writer.",
                prometheus::exponential_buckets(1.0, 2.0, 11)?,
            )?,
            order_writer_commit_seconds: histogram(
                "souk_order_writer_commit_seconds",
                "Time of one commit of the order writer.",
                prometheus::exponential_buckets(0.000_25, 2.0, 14)?,
            )?,
            outbox_published: counters(
                "souk_outbox_events_published_total",
                "Pending events that the log has acknowledged.",
                &["domain"],
            )?,
            events_handled: counters(
                "souk_consumer_events_handled_total",
                "Events whose effect a group has committed.",
                &["group"],
            )?,
            event_attempts_failed: counters(
                "souk_consumer_attempts_failed_total",
                "Attempts at an event that failed for its own reason.",
                &["group"],
            )?,
            consumer_lag: gauges(
                "souk_consumer_lag_events",
                "Events in the log that the group has not committed.",
                &["group", "topic"],
            )?,
            dead_letters: counters("souk_dead_letters_total", "Events that failed for good.", &["group"])?,
            notification_mails: counters(
                "souk_notification_mails_total",
                "Ends of attempts at a notification's mail.",
                &["outcome"],
            )?,
            notification_queue_depth: gauges(
                "souk_notification_queue_depth",
                "Notifications whose mail is still to be sent.",
                &["lane"],
            )?,
            registry,
        })
    }

    /// The one registry of the process, for whoever adds metrics of its own (HTTP).
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Everything counted, in Prometheus' text format.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
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
        metrics.actor_messages_handled.with_label_values(&["orders"]).inc_by(3);
        metrics.clone().actor_messages_handled.with_label_values(&["orders"]).inc();
        metrics.actor_restarts.with_label_values(&["orders"]).inc();
        metrics.actor_mailbox_depth.with_label_values(&["orders"]).set(2);
        metrics.order_writer_batch_size.observe(7.0);
        metrics.order_writer_commit_seconds.observe(0.004);
        metrics.outbox_published.with_label_values(&["orders"]).inc();
        metrics.events_handled.with_label_values(&["inventory"]).inc_by(9);
        metrics.event_attempts_failed.with_label_values(&["inventory"]).inc();
        metrics.consumer_lag.with_label_values(&["inventory", "order-events"]).set(5);
        metrics.dead_letters.with_label_values(&["inventory"]).inc();
        metrics.notification_mails.with_label_values(&["sent"]).inc();
        metrics.notification_queue_depth.with_label_values(&["critical"]).set(3);

        let text = metrics.render().unwrap();
        for line in [
            "souk_actor_messages_handled_total{actor=\"orders\"} 4",
            "souk_actor_restarts_total{actor=\"orders\"} 1",
            "souk_actor_mailbox_depth{actor=\"orders\"} 2",
            "souk_order_writer_batch_orders_bucket{le=\"8\"} 1",
            "souk_order_writer_commit_seconds_bucket{le=\"0.004\"} 1",
            "souk_outbox_events_published_total{domain=\"orders\"} 1",
            "souk_consumer_events_handled_total{group=\"inventory\"} 9",
            "souk_consumer_attempts_failed_total{group=\"inventory\"} 1",
            "souk_consumer_lag_events{group=\"inventory\",topic=\"order-events\"} 5",
            "souk_dead_letters_total{group=\"inventory\"} 1",
            "souk_notification_mails_total{outcome=\"sent\"} 1",
            "souk_notification_queue_depth{lane=\"critical\"} 3",
        ] {
            assert!(text.contains(line), "no `{line}` in:\n{text}");
        }
    }

    #[test]
    fn logs_start_once_and_refuse_a_level_that_is_none() {
        init_logs(LogStyle::Auto, "info,souk=debug").unwrap();
        init_logs(LogStyle::Json, "warn").unwrap();
        let refused = init_logs(LogStyle::Text, "souk=loud");
        if std::env::var_os("RUST_LOG").is_none() {
            assert!(refused.unwrap_err().to_string().contains("log.level: `souk=loud`"));
        }
    }
}
