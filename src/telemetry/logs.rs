//! Logs: one line an event, to stderr, because stdout carries only the ready lines and what a command was asked for.

use std::io::IsTerminal;

use opentelemetry_otlp::ExporterBuildError;
use tracing_subscriber::filter::{FilterExt, ParseError, Targets, filter_fn};
use tracing_subscriber::fmt::Layer;
use tracing_subscriber::prelude::*;

use super::request_spans;
use super::traces::{self, TraceGuard, TraceSettings};

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
    Level { source_name: &'static str, directives: String, source: ParseError },
    #[error("cannot send traces: {0}")]
    Traces(#[from] ExporterBuildError),
}

/// Starts logging and tracing. `RUST_LOG`, when it is set, is over `level`. A second call in the same process changes
/// nothing, so that tests can call it as they like. The guard sends the last spans when it is dropped.
pub fn init(style: LogStyle, level: &str, traces: &TraceSettings) -> Result<TraceGuard, TelemetryError> {
    let from_variable = std::env::var("RUST_LOG").ok().filter(|directives| !directives.trim().is_empty());
    let (source_name, directives) = match from_variable {
        Some(directives) => ("RUST_LOG", directives),
        None => ("log.level", level.to_owned()),
    };
    let filter: Targets =
        directives.parse().map_err(|source| TelemetryError::Level { source_name, directives, source })?;
    let provider = traces::provider(traces)?;

    let terminal = std::io::stderr().is_terminal();
    let layer = Layer::new().with_writer(std::io::stderr);
    let lines = if style == LogStyle::Json || (style == LogStyle::Auto && !terminal) {
        request_spans::lines(layer.json().flatten_event(true).with_current_span(false), true).boxed()
    } else {
        let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        request_spans::lines(layer.with_ansi(colours), false).boxed()
    };
    let logs = lines.with_filter(filter.and(filter_fn(traces::concerns_logs)));
    let started = tracing_subscriber::registry()
        .with(provider.as_ref().map(traces::layer))
        .with(request_spans::layer())
        .with(logs)
        .try_init();
    // The only failure is that the process logs already.
    drop(started);
    Ok(TraceGuard(provider))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_start_once_and_refuse_a_level_that_is_none() {
        let nowhere = TraceSettings::default();
        drop(init(LogStyle::Auto, "info,souk=debug", &nowhere).unwrap());
        drop(init(LogStyle::Json, "warn", &nowhere).unwrap());
        let refused = init(LogStyle::Text, "souk=loud", &nowhere);
        if std::env::var_os("RUST_LOG").is_none() {
            assert!(refused.unwrap_err().to_string().contains("log.level: `souk=loud`"));
        }
    }
}
