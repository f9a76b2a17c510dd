//! The cache that processes share: what it keeps, and that nothing fails without it.

use std::time::Duration;

use souk::store::cache::redis::RedisCache;
use souk::store::cache::{Entry, Fence, SharedCache};
use uuid::Uuid;

use crate::harness::soon;

/// A cache on the real server, under keys of its own, which end by themselves.
fn redis() -> RedisCache {
    let uri = std::env::var("SOUK_TEST_REDIS_URI").expect("SOUK_TEST_REDIS_URI names a redis server");
    RedisCache::open(&uri, &format!("test-{}:", Uuid::new_v4())).unwrap()
}

fn entry(key: &str, version: i64, value: &str) -> Entry {
    Entry { key: key.into(), version, value: format!("1|{version}|{value}"), ttl: Duration::from_secs(20) }
}

async fn kept(cache: &RedisCache, key: &str) -> Option<String> {
    cache.get(vec![key.into()]).await.pop().flatten()
}

#[tokio::test]
#[ignore = "needs SOUK_TEST_REDIS_URI; scripts/test gives it"]
async fn an_older_version_never_replaces_a_newer() {
    let cache = redis();
    assert!(cache.is_there().await);
    cache.put(vec![entry("a", 2, "new"), entry("b", 1, "other")]).await;
    cache.put(vec![entry("a", 1, "old")]).await;
    assert_eq!(kept(&cache, "a").await.as_deref(), Some("1|2|new"));
    cache.put(vec![entry("a", 2, "again"), entry("b", 3, "newer")]).await;
    let both = cache.get(vec!["b".into(), "none".into(), "a".into()]).await;
    assert_eq!(both, [Some("1|3|newer".to_owned()), None, Some("1|2|again".to_owned())]);
}

#[tokio::test]
#[ignore = "needs SOUK_TEST_REDIS_URI; scripts/test gives it"]
async fn a_fence_ends_an_entry_and_keeps_out_what_was_read_before() {
    let cache = redis();
    cache.put(vec![entry("a", 4, "before")]).await;
    cache.fence(vec![Fence { key: "a".into(), version: 5 }]).await;
    cache.put(vec![entry("a", 4, "before")]).await;
    assert_eq!(kept(&cache, "a").await.as_deref(), Some("1|5|"));
    cache.put(vec![entry("a", 5, "after")]).await;
    assert_eq!(kept(&cache, "a").await.as_deref(), Some("1|5|after"));
}

#[tokio::test]
#[ignore = "needs SOUK_TEST_REDIS_URI; scripts/test gives it"]
async fn what_another_build_or_program_left_is_replaced() {
    let uri = std::env::var("SOUK_TEST_REDIS_URI").expect("SOUK_TEST_REDIS_URI names a redis server");
    let prefix = format!("test-{}:", Uuid::new_v4());
    let cache = RedisCache::open(&uri, &prefix).unwrap();
    let mut plain = redis::Client::open(uri).unwrap().get_multiplexed_async_connection().await.unwrap();
    let key = format!("{prefix}cache:a");
    let _: () = redis::cmd("SET")
        .arg(&key)
        .arg(&[0xff_u8, 0xfe][..])
        .arg("PX")
        .arg(20_000)
        .query_async(&mut plain)
        .await
        .unwrap();
    assert_eq!(kept(&cache, "a").await, None);
    cache.put(vec![entry("a", 1, "value")]).await;
    assert_eq!(kept(&cache, "a").await.as_deref(), Some("1|1|value"));
}

#[tokio::test]
#[ignore = "needs SOUK_TEST_REDIS_URI; scripts/test gives it"]
async fn an_entry_ends_by_itself() {
    let cache = redis();
    cache.put(vec![Entry { ttl: Duration::from_millis(1), ..entry("a", 1, "value") }]).await;
    soon("the end of the entry", async {
        while kept(&cache, "a").await.is_some() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_cache_that_is_away_holds_nothing_and_fails_nothing() {
    // Nobody listens on a port that was just given back.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let cache = RedisCache::open(&format!("redis://127.0.0.1:{port}"), "test:").unwrap();
    assert!(!cache.is_there().await);
    cache.put(vec![entry("a", 1, "value")]).await;
    cache.fence(vec![Fence { key: "a".into(), version: 2 }]).await;
    assert_eq!(cache.get(vec!["a".into(), "b".into()]).await, [None, None]);
    assert!(RedisCache::open("http://127.0.0.1", "test:").is_err());
}
