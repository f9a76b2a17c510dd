//! What users' recommendations are made from, through the cache.

use std::sync::Arc;
use std::time::Instant;

use super::{Fence, SharedCache, decode, entry};
use crate::domain::ids::UserId;
use crate::domain::recommendations::{Evidence, Limits};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::recommendations::RecommendationStore;
use crate::telemetry::CacheMeter;

/// Reads of evidence. Counts are shop-wide and move with every order: an entry is as old as [`super::SHARED_TTL`] allows, and
/// what a process applies of a user ends theirs.
pub struct EvidenceReads {
    pub store: Arc<dyn RecommendationStore>,
    /// `None`: every read goes to the store.
    pub cache: Option<Arc<dyn SharedCache>>,
    pub limits: Limits,
    /// Versions are times of reads: the newest read wins.
    pub clock: fn() -> Timestamp,
    /// Of the shared cache.
    pub meter: CacheMeter,
}

impl EvidenceReads {
    fn key(&self, user: UserId) -> String {
        // Processes with other settings read other evidence.
        let Limits { lines_per_order, neighbours_per_item, history_items, candidates, bought_again } = self.limits;
        format!("evidence:{lines_per_order}.{neighbours_per_item}.{history_items}.{candidates}.{bought_again}:{user}")
    }

    /// As it is in the store now.
    pub async fn newest(&self, user: UserId) -> Result<Evidence, StoreError> {
        Ok(self.store.evidence(&[user], self.limits).await?.pop().unwrap_or_default())
    }

    /// Perhaps as another process has read it a moment ago.
    pub async fn recent(&self, user: UserId) -> Result<Evidence, StoreError> {
        let Some(cache) = &self.cache else { return self.newest(user).await };
        let (began, version, key) = (Instant::now(), (self.clock)().0, self.key(user));
        let kept = cache.get(vec![key.clone()]).await.pop().flatten();
        if let Some(kept) = kept.and_then(|kept| decode(&kept)) {
            self.meter.hit();
            return Ok(kept);
        }
        self.meter.miss();
        let evidence = self.newest(user).await?;
        cache.put(entry(key, version, &evidence, began).into_iter().collect()).await;
        Ok(evidence)
    }

    /// These users' evidence has changed.
    pub async fn forget(&self, users: impl IntoIterator<Item = UserId>) {
        if let Some(cache) = &self.cache {
            let version = (self.clock)().0;
            cache.fence(users.into_iter().map(|user| Fence { key: self.key(user), version }).collect()).await;
        }
    }
}
