//! Logs: one line an event, to stderr, because stdout carries only the ready lines and what a command was asked for.

use std::io::IsTerminal;

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
        LogStyle::Json => registry.with(layer.json().flatten_event(true).with_current_span(false)).try_init(),
        LogStyle::Auto if !terminal => {
            registry.with(layer.json().flatten_event(true).with_current_span(false)).try_init()
        }
        LogStyle::Auto | LogStyle::Text => {
            let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            registry.with(layer.with_ansi(colours)).try_init()
        }
    };
    // The only failure is that the process logs already.
    drop(started);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

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
