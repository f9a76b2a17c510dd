//! The cache on Redis.
//!
//! Its connection lives on a thread of its own, so that an actor that froze cannot hold it up, and comes back by itself. After a
//! failure nobody asks for a moment: a server that is away costs its time-out once, not once a read.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ::redis::aio::{ConnectionManager, ConnectionManagerConfig};
use ::redis::{Client, RedisError, cmd};
use async_trait::async_trait;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::{Entry, Fence, SharedCache, fence_value};

/// A read that takes longer is better made from the store.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(250);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Nobody asks for so long after a failure.
const QUIET: Duration = Duration::from_secs(1);
/// A fence outlasts every entry of a read that began before it: what took longer than [`super::SHARED_TTL`] is not kept.
const FENCE_TTL: Duration = Duration::from_secs(1);

/// Sets each key to its value, but over no entry of a higher version: `KEYS`, then in `ARGV` the server's time at which this was
/// sent, as far as it is known (else 0), and for each key version, value and milliseconds. They count from then: what a
/// server that stood still had received meanwhile is no younger for it. What cannot be read as an entry is replaced.
/// Answers the server's time.
const PUT: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local sent = tonumber(ARGV[1])
local late = sent > 0 and math.max(now - sent, 0) or 0
for i, key in ipairs(KEYS) do
  local version, value, left = ARGV[3 * i - 1], ARGV[3 * i], ARGV[3 * i + 1] - late
  local kept = redis.call('GET', key)
  local known = kept and tonumber(string.match(kept, '^%d+|(%-?%d+)|'))
  if left > 0 and (not known or known <= tonumber(version)) then
    redis.call('SET', key, value, 'PX', left)
  end
end
return now";

/// Why the cache cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    #[error("cache.uri is no address of a redis server: {0}")]
    Uri(String),
    #[error("the thread of the cache could not be started: {0}")]
    Thread(#[from] std::io::Error),
}

pub struct RedisCache {
    connection: ConnectionManager,
    handle: Handle,
    /// In front of every key.
    prefix: String,
    began: Instant,
    /// Milliseconds after `began` until which nobody asks.
    quiet_until: AtomicU64,
    failures: AtomicU64,
    /// Milliseconds from this cache's own time to the server's; 0: not known yet.
    server_ahead: AtomicI64,
    /// Ends the thread when it is dropped.
    _open: oneshot::Sender<()>,
}

impl RedisCache {
    /// Connects when it is first asked: a server that is away at the start holds nothing up.
    pub fn open(uri: &str, prefix: &str) -> Result<Self, CacheError> {
        // The error's text may hold the URI, and that a password.
        let client = Client::open(uri).map_err(|error| CacheError::Uri(format!("{:?}", error.kind())))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let config = ConnectionManagerConfig::new()
            .set_response_timeout(Some(ANSWER_TIMEOUT))
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_number_of_retries(1);
        let connection = {
            let _entered = handle.enter();
            ConnectionManager::new_lazy_with_config(client, config)
                .map_err(|error| CacheError::Uri(format!("{:?}", error.kind())))?
        };
        let (open, closed) = oneshot::channel::<()>();
        std::thread::Builder::new().name("redis".into()).spawn(move || {
            // Resolves when the cache is dropped, by an error.
            let _dropped = runtime.block_on(closed);
            runtime.shutdown_background();
        })?;
        Ok(Self {
            connection,
            handle,
            prefix: format!("{prefix}cache:"),
            began: Instant::now(),
            quiet_until: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            server_ahead: AtomicI64::new(0),
            _open: open,
        })
    }

    fn key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// As [`Self::try_ask`], and counts what failed.
    async fn ask<T: ::redis::FromRedisValue + Send + 'static>(&self, command: ::redis::Cmd) -> Option<T> {
        let answer = self.try_ask(command).await;
        if answer.is_none() {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        answer
    }

    /// Runs a command on the cache's thread. `None`: the server is away, or was a moment ago.
    async fn try_ask<T: ::redis::FromRedisValue + Send + 'static>(&self, command: ::redis::Cmd) -> Option<T> {
        if self.now() < self.quiet_until.load(Ordering::Relaxed) {
            return None;
        }
        let mut connection = self.connection.clone();
        let asked = self.handle.spawn(async move {
            let answered = tokio::time::timeout(2 * ANSWER_TIMEOUT, command.query_async::<T>(&mut connection)).await;
            answered.unwrap_or_else(|_| Err(RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut))))
        });
        match asked.await {
            Ok(Ok(answer)) => {
                if self.quiet_until.swap(0, Ordering::Relaxed) > 0 {
                    tracing::info!("the cache is back");
                }
                Some(answer)
            }
            Ok(Err(error)) => {
                let quiet_until = self.now().saturating_add(QUIET.as_millis() as u64);
                // Once an outage.
                if self.quiet_until.swap(quiet_until, Ordering::Relaxed) == 0 {
                    tracing::warn!(error = ?error.kind(), "the cache is away: reads go to the stores");
                }
                None
            }
            // Its thread has ended.
            Err(_) => None,
        }
    }
}

#[async_trait]
impl SharedCache for RedisCache {
    async fn get(&self, keys: Vec<String>) -> Vec<Option<String>> {
        if keys.is_empty() {
            return Vec::new();
        }
        let mut command = cmd("MGET");
        keys.iter().for_each(|key| {
            command.arg(self.key(key));
        });
        // Bytes: what somebody else wrote there need not be text.
        let kept: Option<Vec<Option<Vec<u8>>>> = self.ask(command).await;
        match kept {
            Some(kept) if kept.len() == keys.len() => {
                kept.into_iter().map(|value| value.and_then(|value| String::from_utf8(value).ok())).collect()
            }
            _ => vec![None; keys.len()],
        }
    }

    async fn put(&self, entries: Vec<Entry>) {
        if entries.is_empty() {
            return;
        }
        let server_ahead = self.server_ahead.load(Ordering::Relaxed);
        let sent = if server_ahead == 0 { 0 } else { server_ahead.saturating_add_unsigned(self.now()) };
        let mut command = cmd("EVAL");
        command.arg(PUT).arg(entries.len());
        for entry in &entries {
            command.arg(self.key(&entry.key));
        }
        command.arg(sent);
        for entry in entries {
            command.arg(entry.version).arg(entry.value).arg(entry.ttl.as_millis().max(1) as u64);
        }
        // What is not kept is read again.
        let server_time: Option<i64> = self.ask(command).await;
        if let Some(server_time) = server_time {
            // Behind by the time that the answer took: an entry ends a little early rather than late.
            self.server_ahead.store(server_time.saturating_sub_unsigned(self.now()), Ordering::Relaxed);
        }
    }

    async fn fence(&self, fences: Vec<Fence>) {
        let entries = fences.into_iter().map(|Fence { key, version }| Entry {
            value: fence_value(version),
            key,
            version,
            ttl: FENCE_TTL,
        });
        self.put(entries.collect()).await;
    }

    async fn is_there(&self) -> bool {
        let pong: Option<String> = self.ask(cmd("PING")).await;
        pong.is_some()
    }

    fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }
}
