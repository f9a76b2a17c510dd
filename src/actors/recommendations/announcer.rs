//! Looks again at the users whose history or ratings have changed, and saves an event for each whose best have.
//!
//! The store marks a user as due in the commit of the change, so that a crash between the two loses nothing. A user who
//! changes faster than the rounds come is looked at once a round.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Shared;
use crate::actors::clock::now;
use crate::actors::errors::DomainError;
use crate::domain::events::RecommendedItem;
use crate::domain::ids::UserId;
use crate::domain::recommendations::MAX_ANNOUNCED;
use crate::store::recommendations::Announcement;

/// Between two rounds while there is something to do: an order is announced well within a second, a burst of orders
/// does not rank its buyers over and over.
const GAP: Duration = Duration::from_millis(250);
/// Of the time, how much is pause at least, in parts of a round: what is looked at again and again costs a fifth of what
/// it could.
const PAUSE_OF_ROUND: u32 = 4;
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// After a failed round.
const WAIT: Duration = Duration::from_secs(1);
/// Users of one round.
const ROUND: u32 = 100;

/// Runs for one life of the actor; its first round is about what an earlier life, or another process, left.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut failing = false;
    loop {
        let began = Instant::now();
        match round(&shared).await {
            Ok(more) => {
                failing = false;
                if more {
                    tokio::time::sleep((began.elapsed() * PAUSE_OF_ROUND).min(LONGEST_PAUSE)).await;
                } else {
                    tokio::time::sleep(GAP).await;
                    shared.due.notified().await;
                }
            }
            Err(error) => {
                // Once an outage.
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "changed recommendations wait to be announced");
                }
                tokio::time::sleep(WAIT).await;
            }
        }
    }
}

/// True: there may be more.
async fn round(shared: &Shared) -> Result<bool, DomainError> {
    let due = shared.tools.store.due_users(ROUND).await?;
    if due.is_empty() {
        return Ok(false);
    }
    let more = due.len() == ROUND as usize;
    let mut announcements = Vec::with_capacity(due.len());
    let users: Vec<UserId> = due.iter().map(|due| due.user_id).collect();
    let (read, evidence) = shared.evidence(&users).await?;
    for (due, evidence) in due.into_iter().zip(evidence) {
        let ranking = shared.ranked(due.user_id, read, evidence);
        let best = shared.recommend(&ranking, MAX_ANNOUNCED).await?;
        let scores = best.iter().map(|recommendation| recommendation.score).collect();
        let items = best.into_iter().map(|recommendation| RecommendedItem {
            product_id: recommendation.product.id,
            name: recommendation.product.name,
            reason: recommendation.reason,
        });
        announcements.push(Announcement { due, items: items.collect(), scores });
    }
    shared.tools.store.announce(announcements, now()).await?;
    Ok(more)
}
