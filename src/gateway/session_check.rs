//! Whether a session still lives: asked of the users actor, remembered for a few seconds.
//!
//! Nearly every request finds a fresh copy and asks nobody. Of the requests that find none, one asks and the others
//! wait for its answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use quick_cache::sync::Cache;
use tokio::time::Instant;
use tracing::warn;

use crate::actors::Address;
use crate::actors::errors::DomainError;
use crate::actors::users::UserActor;
use crate::actors::users::messages::CheckSession;
use crate::domain::ids::SessionId;
use crate::store::users::SessionState;

/// A copy may be at most 5 s old when it is used; the rest is for the time that a request takes to act on it.
pub const MAX_COPY_AGE: Duration = Duration::from_millis(4_500);
/// So long a failed question is answered by its failure, lest every waiting request asks in turn.
const FAILURE_AGE: Duration = Duration::from_millis(250);
const CACHED_SESSIONS: usize = 20_000;

/// Who knows the sessions.
#[async_trait]
pub trait SessionSource: Send + Sync {
    /// The session as it is now, not a copy. `None`: there is no such session.
    async fn session_state(&self, session_id: SessionId) -> Result<Option<SessionState>, DomainError>;
}

/// The users actor as the source.
pub struct UserActorSessions {
    pub users: Address<UserActor>,
    pub deadline: Duration,
}

#[async_trait]
impl SessionSource for UserActorSessions {
    async fn session_state(&self, session_id: SessionId) -> Result<Option<SessionState>, DomainError> {
        // Every signed-in request may wait for it: it goes ahead of sign-ins, which wait for the hasher.
        self.users.ask_critical(CheckSession { session_id }, self.deadline).await?
    }
}

/// The sessions cannot be read at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the session cannot be checked at present")]
pub struct SessionUnknown;

#[derive(Debug, Clone, Copy)]
struct Copy {
    state: Result<Option<SessionState>, SessionUnknown>,
    /// When the question was asked: the state is at least as new.
    asked_at: Instant,
}

impl Copy {
    fn is_fresh(&self, max_age: Duration) -> bool {
        let max_age = if self.state.is_err() { FAILURE_AGE.min(max_age) } else { max_age };
        self.asked_at.elapsed() <= max_age
    }
}

/// Cheap to clone; the clones share their copies.
#[derive(Clone)]
pub struct SessionCheck(Arc<Inner>);

struct Inner {
    source: Box<dyn SessionSource>,
    copies: Cache<SessionId, Copy>,
    /// Counts what was forgotten: an answer that was under way meanwhile may be of before.
    forgotten: AtomicU64,
}

impl SessionCheck {
    pub fn new(source: impl SessionSource + 'static) -> Self {
        let source = Box::new(source);
        Self(Arc::new(Inner { source, copies: Cache::new(CACHED_SESSIONS), forgotten: AtomicU64::new(0) }))
    }

    /// The session's state, no older than `max_age`. `Ok(None)`: there is no such session.
    pub async fn state(
        &self,
        session_id: SessionId,
        max_age: Duration,
    ) -> Result<Option<SessionState>, SessionUnknown> {
        let Inner { source, copies, forgotten } = &*self.0;
        loop {
            if let Some(copy) = copies.get(&session_id) {
                if copy.is_fresh(max_age) {
                    return copy.state;
                }
                copies.remove_if(&session_id, |found| found.asked_at == copy.asked_at);
            }
            let guard = match copies.get_value_or_guard_async(&session_id).await {
                // A copy that came while this waited counts however short `max_age` is: it was asked for afterwards.
                Ok(copy) if copy.is_fresh(max_age.max(FAILURE_AGE)) => return copy.state,
                Ok(_) => continue,
                Err(guard) => guard,
            };
            let before = forgotten.load(Ordering::SeqCst);
            let asked_at = Instant::now();
            let state = source.session_state(session_id).await.map_err(|error| {
                warn!(%session_id, %error, "could not check a session");
                SessionUnknown
            });
            if forgotten.load(Ordering::SeqCst) == before {
                // Refused only when the entry was forgotten this very moment; then nothing needs to be kept.
                let _ = guard.insert(Copy { state, asked_at });
                return state;
            }
        }
    }

    /// Something about this session changed in this process: the next request asks anew.
    pub fn forget(&self, session_id: SessionId) {
        self.0.forgotten.fetch_add(1, Ordering::SeqCst);
        self.0.copies.remove(&session_id);
    }

    /// Sessions changed that are not known one by one: a password, a role, a sign-out everywhere.
    pub fn forget_all(&self) {
        self.0.forgotten.fetch_add(1, Ordering::SeqCst);
        self.0.copies.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::{TypedId, UserId};
    use crate::domain::users::Role;
    use std::sync::atomic::AtomicUsize;
    use uuid::Uuid;

    #[derive(Default)]
    struct Counting {
        asked: AtomicUsize,
        down: std::sync::atomic::AtomicBool,
    }

    struct Shared(Arc<Counting>);

    #[async_trait]
    impl SessionSource for Shared {
        async fn session_state(&self, _: SessionId) -> Result<Option<SessionState>, DomainError> {
            let epoch = self.0.asked.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(10)).await;
            if self.0.down.load(Ordering::SeqCst) {
                return Err(DomainError::Timeout);
            }
            let user_id = UserId::from_uuid(Uuid::from_u128(1));
            Ok(Some(SessionState { user_id, role: Role::Customer, ended: false, token_epoch: epoch as i64 }))
        }
    }

    fn session() -> SessionId {
        SessionId::from_uuid(Uuid::from_u128(9))
    }

    #[tokio::test(start_paused = true)]
    async fn a_copy_serves_until_it_is_too_old_or_forgotten_and_many_ask_once() {
        let source = Arc::new(Counting::default());
        let check = SessionCheck::new(Shared(Arc::clone(&source)));
        let asked = || source.asked.load(Ordering::SeqCst);

        let all = (0..50).map(|_| check.state(session(), MAX_COPY_AGE));
        assert!(futures_util::future::join_all(all).await.iter().all(|state| matches!(state, Ok(Some(_)))));
        assert_eq!(asked(), 1);

        tokio::time::advance(MAX_COPY_AGE - Duration::from_millis(100)).await;
        check.state(session(), MAX_COPY_AGE).await.unwrap();
        assert_eq!(asked(), 1);
        tokio::time::advance(Duration::from_millis(200)).await;
        check.state(session(), MAX_COPY_AGE).await.unwrap();
        assert_eq!(asked(), 2);

        check.forget(session());
        check.state(session(), MAX_COPY_AGE).await.unwrap();
        check.forget_all();
        check.state(session(), MAX_COPY_AGE).await.unwrap();
        assert_eq!(asked(), 4);

        // Forgotten while the question is under way: asked again, so that no state of before is kept.
        check.forget(session());
        let (state, ()) = tokio::join!(check.state(session(), MAX_COPY_AGE), async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            check.forget(session());
        });
        assert_eq!((asked(), state.unwrap().unwrap().token_epoch), (6, 5));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_answered_once_for_all_who_wait_and_not_for_long() {
        let source = Arc::new(Counting::default());
        source.down.store(true, Ordering::SeqCst);
        let check = SessionCheck::new(Shared(Arc::clone(&source)));
        let all = (0..50).map(|_| check.state(session(), MAX_COPY_AGE));
        assert!(futures_util::future::join_all(all).await.iter().all(Result::is_err));
        assert_eq!(source.asked.load(Ordering::SeqCst), 1);

        source.down.store(false, Ordering::SeqCst);
        tokio::time::advance(Duration::from_millis(300)).await;
        assert!(check.state(session(), MAX_COPY_AGE).await.is_ok());
    }
}
