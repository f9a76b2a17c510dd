//! What processes keep of their reads for one another, in front of the stores.
//!
//! A store that is wrapped ([`products`], [`recommendations`]) looks into the cache first, reads what is missing and keeps
//! it for a moment. Entries carry the version of what they hold: an older one never replaces a newer. A writer fences what
//! it changed: the entry is gone, and a read that began before the change cannot bring it back. The cache is never where
//! something is decided, and one that is away costs a read of the store, nothing else.
//!
//! A process has copies of its own in front of this, of at most [`PROCESS_COPY_AGE`]; together with [`SHARED_TTL`] that makes
//! the second within which every reader follows a change, event or not. Orders are in no cache: who waits for a change of
//! one must see it when told of it, and a read by id is one command of the store.

pub mod products;
pub mod recommendations;
pub mod redis;

use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// How old an entry gets, counted from before it was read.
pub const SHARED_TTL: Duration = Duration::from_millis(400);

/// How old a process's own copy gets, counted from before it was read, here or in the store.
pub const PROCESS_COPY_AGE: Duration = Duration::from_millis(600);

/// In front of every value. A value in another form, of a newer build perhaps, is not there.
const FORMAT: &str = "1";

/// A value to keep.
pub struct Entry {
    pub key: String,
    /// Of what it holds; it replaces none of a higher one.
    pub version: i64,
    /// With its format and version in front.
    pub value: String,
    pub ttl: Duration,
}

/// A key whose entries below a version are not wanted any more.
pub struct Fence {
    pub key: String,
    pub version: i64,
}

/// Port of the cache. Nothing of it fails: a cache that is away holds nothing.
#[async_trait]
pub trait SharedCache: Send + Sync {
    /// What is kept under these keys, in their order.
    async fn get(&self, keys: Vec<String>) -> Vec<Option<String>>;

    async fn put(&self, entries: Vec<Entry>);

    /// Ends entries, and refuses those of lower versions for longer than what was read before may be kept.
    async fn fence(&self, fences: Vec<Fence>);

    async fn is_there(&self) -> bool;

    /// Questions that it could not be asked, or did not answer, so far.
    fn failures(&self) -> u64;
}

fn encode<T: Serialize>(version: i64, value: &T) -> Option<String> {
    let json = serde_json::to_string(value).ok()?;
    Some(format!("{FORMAT}|{version}|{json}"))
}

/// `None` for what is not in this form, and for a fence.
fn decode<T: DeserializeOwned>(kept: &str) -> Option<T> {
    let (_, json) = kept.strip_prefix(FORMAT)?.strip_prefix('|')?.split_once('|')?;
    serde_json::from_str(json).ok()
}

fn fence_value(version: i64) -> String {
    format!("{FORMAT}|{version}|")
}

/// An entry of what was read from `began` on; `None` when it is too old to be kept.
fn entry<T: Serialize>(key: String, version: i64, value: &T, began: Instant) -> Option<Entry> {
    let ttl = SHARED_TTL.checked_sub(began.elapsed()).filter(|left| left.as_millis() > 0)?;
    Some(Entry { key, version, value: encode(version, value)?, ttl })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_comes_back_and_what_is_none_is_not_there() {
        let kept = encode(7, &vec!["a|b", "c"]).unwrap();
        assert_eq!(decode::<Vec<String>>(&kept), Some(vec!["a|b".to_owned(), "c".to_owned()]));
        for broken in ["", "1", "1|", "1|7|", "1|7|{", "2|7|[\"a\"]", "[\"a\"]", "1|7|{\"other\":1}"] {
            assert_eq!(decode::<Vec<String>>(broken), None, "{broken}");
        }
        assert_eq!(decode::<Vec<String>>(&fence_value(7)), None);
    }

    #[test]
    fn what_was_read_too_long_ago_is_not_kept() {
        assert!(entry("k".into(), 1, &1, Instant::now()).is_some());
        let long_ago = Instant::now().checked_sub(SHARED_TTL).unwrap();
        assert!(entry("k".into(), 1, &1, long_ago).is_none());
    }

    #[test]
    fn a_reader_follows_a_change_within_a_second() {
        assert!(SHARED_TTL + PROCESS_COPY_AGE <= Duration::from_secs(1));
    }
}
