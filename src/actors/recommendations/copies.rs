//! Copies of users' rankings in this process: at most 1 s old, and dropped at once by what this process applies.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quick_cache::sync::Cache;

use crate::domain::ids::{ProductId, UserId};
use crate::domain::recommendations::Ranked;
use crate::store::cache::PROCESS_COPY_AGE;

/// Rankings follow what other processes apply within a second.
const MAX_AGE: Duration = PROCESS_COPY_AGE;

/// Users whose rankings are kept: a ranking takes about 20 KiB.
const USERS: usize = 1_000;

/// A user's recommendations before stock was asked.
#[derive(Debug, Default)]
pub struct Ranking {
    /// Bought or disliked.
    pub excluded: HashSet<ProductId>,
    /// Best first.
    pub ranked: Vec<Ranked>,
}

/// When a read began.
#[derive(Clone, Copy)]
pub struct Reading {
    at: Instant,
    changes: u64,
}

pub struct RankingCopies {
    copies: Cache<UserId, (Instant, Arc<Ranking>)>,
    /// Counts what dropped a copy: a read that began before it is not kept.
    changes: AtomicU64,
}

impl Default for RankingCopies {
    fn default() -> Self {
        Self { copies: Cache::new(USERS), changes: AtomicU64::new(0) }
    }
}

impl RankingCopies {
    pub fn get(&self, user: UserId) -> Option<Arc<Ranking>> {
        let (read_at, ranking) = self.copies.get(&user)?;
        (read_at.elapsed() < MAX_AGE).then_some(ranking)
    }

    /// Before the store is read.
    pub fn begin(&self) -> Reading {
        Reading { at: Instant::now(), changes: self.changes.load(Ordering::Acquire) }
    }

    /// Keeps what was read, unless something has changed since the read began.
    pub fn keep(&self, user: UserId, reading: Reading, ranking: &Arc<Ranking>) {
        let is_current = || self.changes.load(Ordering::Acquire) == reading.changes;
        if is_current() {
            self.copies.insert(user, (reading.at, Arc::clone(ranking)));
            // A change between the look and the insertion found nothing to drop.
            if !is_current() {
                self.copies.remove(&user);
            }
        }
    }

    pub fn forget(&self, user: UserId) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        self.copies.remove(&user);
    }

    pub fn forget_all(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        self.copies.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::TypedId;
    use uuid::Uuid;

    fn user(number: u128) -> UserId {
        UserId::from_uuid(Uuid::from_u128(number))
    }

    #[test]
    fn a_change_drops_the_users_copy_and_no_other() {
        let copies = RankingCopies::default();
        let ranking = Arc::new(Ranking::default());
        for number in [1, 2] {
            copies.keep(user(number), copies.begin(), &ranking);
        }
        copies.forget(user(1));
        assert!(copies.get(user(1)).is_none());
        assert!(copies.get(user(2)).is_some());
        copies.forget_all();
        assert!(copies.get(user(2)).is_none());
    }

    #[test]
    fn what_was_read_before_a_change_is_not_kept() {
        let copies = RankingCopies::default();
        let reading = copies.begin();
        copies.forget(user(1));
        copies.keep(user(1), reading, &Arc::new(Ranking::default()));
        assert!(copies.get(user(1)).is_none());
    }

    #[test]
    fn a_copy_ages_from_before_it_was_read() {
        let copies = RankingCopies::default();
        let Some(at) = Instant::now().checked_sub(MAX_AGE) else { return };
        copies.keep(user(1), Reading { at, changes: 0 }, &Arc::new(Ranking::default()));
        assert!(copies.get(user(1)).is_none());
    }
}
