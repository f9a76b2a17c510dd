//! What all clients of the broker have in common: where they connect, how they sign in, and what becomes of
//! librdkafka's own log lines.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::KafkaError;

use super::super::LogError;
use super::BrokerSettings;

/// How long a question to the broker may take.
pub(super) const ANSWER: Duration = Duration::from_secs(3);

/// Where and as whom every client connects.
pub(super) fn config(settings: &BrokerSettings) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", settings.brokers.join(","))
        .set("client.id", "souk")
        // A server that comes back is found within a second.
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "1000")
        .set("socket.connection.setup.timeout.ms", "5000")
        .set("socket.timeout.ms", "10000")
        .set("socket.keepalive.enable", "true")
        .set_log_level(RDKafkaLogLevel::Info);
    let security = &settings.security;
    let protocol = match (security.tls, security.sign_in.is_some()) {
        (false, false) => "plaintext",
        (true, false) => "ssl",
        (false, true) => "sasl_plaintext",
        (true, true) => "sasl_ssl",
    };
    config.set("security.protocol", protocol);
    if let Some(file) = &security.ca_file {
        config.set("ssl.ca.location", file.to_string_lossy());
    }
    if let Some(sign_in) = &security.sign_in {
        config
            .set("sasl.mechanism", sign_in.mechanism)
            .set("sasl.username", sign_in.user.as_str())
            .set("sasl.password", sign_in.password.expose());
    }
    config
}

/// A client that nobody polls for anything but answers.
pub(super) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, subject: &str, line: &str) {
        log_line(level, subject, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        log_error(&error, reason);
    }
}

impl rdkafka::consumer::ConsumerContext for Quiet {}

/// Lines about connections that come and go: whoever has to wait for the log says so.
pub(super) fn log_line(level: RDKafkaLogLevel, subject: &str, line: &str) {
    tracing::debug!(?level, subject, line, "librdkafka");
}

pub(super) fn log_error(error: &KafkaError, reason: &str) {
    tracing::debug!(%error, reason, "librdkafka");
}

pub(super) fn away(error: impl std::fmt::Display) -> LogError {
    LogError::Unavailable(error.to_string())
}

/// Runs what waits for the broker on a thread that may wait.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LogError> + Send + 'static,
) -> Result<T, LogError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| away(format!("asking the broker failed: {error}")))?
}

/// Waits on a thread that may wait, which those of [`blocking`] are.
#[expect(clippy::disallowed_methods, reason = "it is a thread for what blocks")]
pub(super) fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// What these locks guard is changed in one step: it is whole also after a panic elsewhere.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
