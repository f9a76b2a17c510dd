//! What the transports can be told; `app` fills it from the configuration.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::document_limits::DocumentLimits;

/// Whether a browser page of this origin may use the API. The server's own origin need not be named.
pub type OriginRule = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// Whether `X-Forwarded-For` is believed when this peer sends it.
pub type ProxyRule = Arc<dyn Fn(IpAddr) -> bool + Send + Sync>;

#[derive(Clone)]
pub struct HttpSettings {
    pub max_body_bytes: usize,
    /// How long an operation may take; each `orderPlace` in it adds the longest `waitMs`.
    pub request_timeout: Duration,
    /// Serves the GraphiQL page.
    pub graphiql: bool,
    pub introspection: bool,
    pub allows_origin: OriginRule,
    pub trusts_proxy: ProxyRule,
    pub document_limits: DocumentLimits,
    /// Of all queries together that are kept by their hash; 0 keeps none.
    pub persisted_query_bytes: usize,
    /// Operations that one socket may have running.
    pub max_subscriptions_per_socket: usize,
    /// Also of a whole message in fragments.
    pub max_socket_message_bytes: usize,
    pub connection_init_timeout: Duration,
    /// A socket from which nothing came for two of these is dead.
    pub keepalive_interval: Duration,
    /// How often the sessions of signed-in sockets are checked, all in one question.
    pub session_check_interval: Duration,
    /// A socket whose client takes nothing for so long is closed 4413.
    pub slow_consumer_timeout: Duration,
    /// How long a client has to answer the close frame of the server.
    pub close_timeout: Duration,
    /// How long the public keys may be cached by those who read them.
    pub key_set_max_age: Duration,
    /// Counts requests and operations.
    pub metrics: bool,
    /// Threads that serve.
    pub workers: usize,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            max_body_bytes: 1_048_576,
            request_timeout: Duration::from_secs(10),
            graphiql: true,
            introspection: true,
            allows_origin: Arc::new(|_| false),
            trusts_proxy: Arc::new(|_| false),
            document_limits: DocumentLimits::default(),
            persisted_query_bytes: 4_194_304,
            max_subscriptions_per_socket: 100,
            max_socket_message_bytes: 1_048_576,
            connection_init_timeout: Duration::from_secs(3),
            keepalive_interval: Duration::from_secs(25),
            session_check_interval: Duration::from_secs(4),
            slow_consumer_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(2),
            key_set_max_age: Duration::from_secs(5),
            metrics: true,
            workers: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

impl fmt::Debug for HttpSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpSettings").field("graphiql", &self.graphiql).finish_non_exhaustive()
    }
}
