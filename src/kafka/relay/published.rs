//! What of each aggregate is out already.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

/// The last published sequence of the aggregates that were published recently, by the hash of their names: two
/// generations, of which the older goes when the newer is full.
pub(super) struct Published {
    hasher: RandomState,
    recent: HashMap<u64, i64>,
    older: HashMap<u64, i64>,
}

/// Aggregates of a generation.
const GENERATION: usize = 128 * 1024;

impl Default for Published {
    fn default() -> Self {
        Self { hasher: RandomState::new(), recent: HashMap::new(), older: HashMap::new() }
    }
}

impl Published {
    pub(super) fn hash(&self, aggregate: &str) -> u64 {
        self.hasher.hash_one(aggregate)
    }

    pub(super) fn last(&self, aggregate: u64) -> Option<i64> {
        self.recent.get(&aggregate).or_else(|| self.older.get(&aggregate)).copied()
    }

    pub(super) fn note(&mut self, aggregate: &str, sequence: i64) {
        let aggregate = self.hash(aggregate);
        let last = self.last(aggregate).unwrap_or(0).max(sequence);
        if self.recent.len() >= GENERATION && !self.recent.contains_key(&aggregate) {
            self.older = std::mem::take(&mut self.recent);
        }
        self.recent.insert(aggregate, last);
    }
}
