//! When API keys were last used: noted by whoever checks a key, written by the users actor, at most once a minute for each
//! key, many keys in one commit. What was noted and not yet written goes with the process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::domain::ids::ApiKeyId;
use crate::domain::time::Timestamp;

/// A key's use is not written again before. Milliseconds.
const WRITTEN_EVERY_MS: i64 = 60_000;

/// Cheap to clone; the clones share what was noted.
#[derive(Clone, Default)]
pub struct ApiKeyUses(Arc<Inner>);

#[derive(Default)]
struct Inner {
    notes: Mutex<Notes>,
    noted: Notify,
}

#[derive(Default)]
struct Notes {
    /// Still to be written.
    pending: HashMap<ApiKeyId, Timestamp>,
    /// Taken to be written less than a minute ago.
    taken: HashMap<ApiKeyId, Timestamp>,
}

impl ApiKeyUses {
    /// A key was used.
    pub fn note(&self, id: ApiKeyId, at: Timestamp) {
        let mut notes = self.lock();
        if notes.taken.get(&id).is_some_and(|taken| at.millis_since(*taken) < WRITTEN_EVERY_MS) {
            return;
        }
        notes.pending.insert(id, at);
        self.0.noted.notify_one();
    }

    /// Resolves when there is something to write.
    pub async fn noted(&self) {
        while self.lock().pending.is_empty() {
            self.0.noted.notified().await;
        }
    }

    /// What is to be written now: whoever takes it writes it.
    pub fn take(&self, now: Timestamp) -> Vec<(ApiKeyId, Timestamp)> {
        let mut notes = self.lock();
        notes.taken.retain(|_, taken| now.millis_since(*taken) < WRITTEN_EVERY_MS);
        let pending: Vec<_> = notes.pending.drain().collect();
        notes.taken.extend(pending.iter().map(|(id, _)| (*id, now)));
        pending
    }

    fn lock(&self) -> MutexGuard<'_, Notes> {
        // Each change is one call on a map: a panic leaves it whole.
        self.0.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;
    use crate::domain::ids::TypedId;
    use uuid::Uuid;

    fn key(n: u128) -> ApiKeyId {
        ApiKeyId::from_uuid(Uuid::from_u128(n))
    }

    #[test]
    fn a_key_is_written_once_a_minute_with_its_last_use() {
        let uses = ApiKeyUses::default();
        uses.note(key(1), Timestamp(1_000));
        uses.note(key(1), Timestamp(1_500));
        assert_eq!(uses.take(Timestamp(2_000)), [(key(1), Timestamp(1_500))]);
        uses.note(key(1), Timestamp(61_999));
        assert_eq!(uses.take(Timestamp(61_999)), []);
        uses.note(key(2), Timestamp(61_999));
        uses.note(key(1), Timestamp(62_000));
        let mut taken = uses.take(Timestamp(62_000));
        taken.sort();
        assert_eq!(taken, [(key(1), Timestamp(62_000)), (key(2), Timestamp(61_999))]);
        uses.take(Timestamp(200_000));
        assert_eq!(uses.lock().taken.len(), 0, "keys that are no longer used are forgotten");
    }

    #[test]
    fn a_note_is_seen_also_by_who_comes_to_wait_after_another_was_abandoned() {
        let uses = ApiKeyUses::default();
        let mut task = Context::from_waker(Waker::noop());
        let mut is_noted = || pin!(uses.noted()).poll(&mut task).is_ready();
        assert!(!is_noted());
        uses.note(key(1), Timestamp(1));
        assert!(is_noted() && is_noted());
        uses.take(Timestamp(1));
        assert!(!is_noted());
    }
}
