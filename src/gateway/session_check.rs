//! Whether a session, or an API key, still serves: asked of the users actor, remembered for a few seconds.
//!
//! Nearly every request finds a fresh copy and asks nobody. Of the requests that find none, one asks and the others
//! wait for its answer. The sessions and keys of open sockets are watched: one question after the other asks for all of them,
//! at once when something about one has changed in this process.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use quick_cache::sync::Cache;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};
use tracing::warn;

use crate::actors::Address;
use crate::actors::errors::DomainError;
use crate::actors::users::UserActor;
use crate::actors::users::messages::{CheckApiKeys, CheckSession, CheckSessions};
use crate::domain::ids::{ApiKeyId, SessionId};
use crate::store::api_keys::ApiKeyState;
use crate::store::users::SessionState;

/// A copy may be at most 5 s old when it is used; the rest is for the time that a request takes to act on it.
pub const MAX_COPY_AGE: Duration = Duration::from_millis(4_500);
/// So long a failed question is answered by its failure, lest every waiting request asks in turn.
const FAILURE_AGE: Duration = Duration::from_millis(250);
const CACHED: usize = 20_000;
/// Watched sessions or keys that one question is about: it must not hold up a reader of the store for long.
const WATCHED_A_QUESTION: usize = 1_000;
/// How soon a question about what is watched that failed is repeated.
const WATCH_RETRY: Duration = Duration::from_secs(1);
/// So long what has changed is gathered before what is watched is looked at for it.
const CHANGES_GATHERED: Duration = Duration::from_millis(100);

/// What is checked is known by an id.
pub trait Id: Copy + Eq + Hash + fmt::Display + Send + Sync + 'static {}
impl<I: Copy + Eq + Hash + fmt::Display + Send + Sync + 'static> Id for I {}

/// What it is worth now.
pub trait State: Copy + PartialEq + Send + Sync + 'static {}
impl<S: Copy + PartialEq + Send + Sync + 'static> State for S {}

/// Who knows the states.
#[async_trait]
pub trait Source<I, S>: Send + Sync {
    /// The state as it is now, not a copy. `None`: there is no such session or key.
    async fn state(&self, id: I) -> Result<Option<S>, DomainError>;

    /// The same of many at once: of those that there are.
    async fn states(&self, ids: Vec<I>) -> Result<Vec<(I, S)>, DomainError>;
}

/// The users actor as the source.
#[derive(Clone)]
pub struct UserActorSource {
    pub users: Address<UserActor>,
    pub deadline: Duration,
}

// Every signed-in request may wait for them: they go ahead of sign-ins, which wait for the hasher.

#[async_trait]
impl Source<SessionId, SessionState> for UserActorSource {
    async fn state(&self, session_id: SessionId) -> Result<Option<SessionState>, DomainError> {
        self.users.ask_critical(CheckSession { session_id }, self.deadline).await?
    }

    async fn states(&self, session_ids: Vec<SessionId>) -> Result<Vec<(SessionId, SessionState)>, DomainError> {
        self.users.ask_critical(CheckSessions { session_ids }, self.deadline).await?
    }
}

#[async_trait]
impl Source<ApiKeyId, ApiKeyState> for UserActorSource {
    async fn state(&self, id: ApiKeyId) -> Result<Option<ApiKeyState>, DomainError> {
        Ok(Source::<ApiKeyId, ApiKeyState>::states(self, vec![id]).await?.pop().map(|(_, state)| state))
    }

    async fn states(&self, ids: Vec<ApiKeyId>) -> Result<Vec<(ApiKeyId, ApiKeyState)>, DomainError> {
        self.users.ask_critical(CheckApiKeys { ids }, self.deadline).await?
    }
}

/// The states cannot be read at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the session cannot be checked at present")]
pub struct SessionUnknown;

#[derive(Debug, Clone, Copy)]
struct Kept<S> {
    state: Result<Option<S>, SessionUnknown>,
    /// When the question was asked: the state is at least as new.
    asked_at: Instant,
}

impl<S> Kept<S> {
    fn is_fresh(&self, max_age: Duration) -> bool {
        let max_age = if self.state.is_err() { FAILURE_AGE.min(max_age) } else { max_age };
        self.asked_at.elapsed() <= max_age
    }
}

/// What was last seen of what is watched.
#[derive(Debug, Clone, Copy)]
pub struct Sighting<S> {
    /// `None`: there is no such session or key.
    pub state: Option<S>,
    /// When the question was asked: the state is at least as new.
    pub asked_at: Instant,
}

/// A session or key that is watched for as long as this lives.
pub struct Watch<I: Id, S: State> {
    check: Check<I, S>,
    id: I,
    sightings: watch::Receiver<Sighting<S>>,
}

pub type SessionWatch = Watch<SessionId, SessionState>;
pub type ApiKeyWatch = Watch<ApiKeyId, ApiKeyState>;

impl<I: Id, S: State> Watch<I, S> {
    pub fn latest(&self) -> Sighting<S> {
        *self.sightings.borrow()
    }

    /// Resolves when the state has become another one; a newer sighting of the same state wakes nobody.
    pub async fn changed(&mut self) {
        if self.sightings.changed().await.is_err() {
            // The watch itself keeps the sender.
            std::future::pending().await
        }
    }
}

impl<I: Id, S: State> Drop for Watch<I, S> {
    fn drop(&mut self) {
        let mut watched = self.check.watched();
        // The last one: this watch's own receiver is still counted.
        if watched.get(&self.id).is_some_and(|sender| sender.receiver_count() <= 1) {
            watched.remove(&self.id);
        }
    }
}

/// Cheap to clone; the clones share their copies.
pub struct Check<I: Id, S: State>(Arc<Inner<I, S>>);

pub type SessionCheck = Check<SessionId, SessionState>;
pub type ApiKeyCheck = Check<ApiKeyId, ApiKeyState>;

impl<I: Id, S: State> Clone for Check<I, S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

type Watched<I, S> = HashMap<I, watch::Sender<Sighting<S>>>;

struct Inner<I: Id, S: State> {
    source: Box<dyn Source<I, S>>,
    copies: Cache<I, Kept<S>>,
    /// Counts what was forgotten: an answer that was under way meanwhile may be of before.
    forgotten: AtomicU64,
    watched: Mutex<Watched<I, S>>,
    /// Something was forgotten: what is watched is to be looked at.
    changed: Notify,
}

impl<I: Id, S: State> Check<I, S> {
    pub fn new(source: impl Source<I, S> + 'static) -> Self {
        let source = Box::new(source);
        Self(Arc::new(Inner {
            source,
            copies: Cache::new(CACHED),
            forgotten: AtomicU64::new(0),
            watched: Mutex::default(),
            changed: Notify::new(),
        }))
    }

    /// The state, no older than `max_age`. `Ok(None)`: there is no such session or key.
    pub async fn state(&self, id: I, max_age: Duration) -> Result<Option<S>, SessionUnknown> {
        self.copy(id, max_age).await.state
    }

    /// Watches a session or key from a state of it no older than `max_age`.
    pub async fn watch(&self, id: I, max_age: Duration) -> Result<Watch<I, S>, SessionUnknown> {
        let Kept { state, asked_at } = self.copy(id, max_age).await;
        let sighting = Sighting { state: state?, asked_at };
        let mut watched = self.watched();
        let sender = watched.entry(id).or_insert_with(|| watch::Sender::new(sighting));
        note(sender, sighting);
        Ok(Watch { check: self.clone(), id, sightings: sender.subscribe() })
    }

    /// Looks at all that is watched every `interval`, and as soon as something was forgotten. Never ends.
    pub async fn keep_watch(&self, interval: Duration) {
        let mut wait = interval;
        loop {
            tokio::select! {
                () = sleep(wait) => {}
                () = self.0.changed.notified() => sleep(CHANGES_GATHERED.min(interval)).await,
            }
            wait = match self.look_at_watched().await {
                Ok(()) => interval,
                Err(error) => {
                    warn!(%error, "could not check the sessions of open sockets");
                    WATCH_RETRY.min(interval)
                }
            };
        }
    }

    async fn look_at_watched(&self) -> Result<(), DomainError> {
        let ids: Vec<I> = self.watched().keys().copied().collect();
        for ids in ids.chunks(WATCHED_A_QUESTION) {
            let asked_at = Instant::now();
            let found: HashMap<_, _> = self.0.source.states(ids.to_vec()).await?.into_iter().collect();
            let watched = self.watched();
            for id in ids {
                if let Some(sender) = watched.get(id) {
                    note(sender, Sighting { state: found.get(id).copied(), asked_at });
                }
            }
        }
        Ok(())
    }

    fn watched(&self) -> MutexGuard<'_, Watched<I, S>> {
        self.0.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn copy(&self, id: I, max_age: Duration) -> Kept<S> {
        let Inner { source, copies, forgotten, .. } = &*self.0;
        loop {
            if let Some(copy) = copies.get(&id) {
                if copy.is_fresh(max_age) {
                    return copy;
                }
                copies.remove_if(&id, |found| found.asked_at == copy.asked_at);
            }
            let guard = match copies.get_value_or_guard_async(&id).await {
                // A copy that came while this waited counts however short `max_age` is: it was asked for afterwards.
                Ok(copy) if copy.is_fresh(max_age.max(FAILURE_AGE)) => return copy,
                Ok(_) => continue,
                Err(guard) => guard,
            };
            let before = forgotten.load(Ordering::SeqCst);
            let asked_at = Instant::now();
            let state = source.state(id).await.map_err(|error| {
                warn!(%id, %error, "could not check a session");
                SessionUnknown
            });
            if forgotten.load(Ordering::SeqCst) == before {
                // Refused only when the entry was forgotten this very moment; then nothing needs to be kept.
                let copy = Kept { state, asked_at };
                let _ = guard.insert(copy);
                return copy;
            }
        }
    }

    /// Something about this session or key changed in this process: the next request asks anew.
    pub fn forget(&self, id: I) {
        self.0.forgotten.fetch_add(1, Ordering::SeqCst);
        self.0.copies.remove(&id);
        self.0.changed.notify_one();
    }

    /// Something changed that is not known one by one: a password, a role, a sign-out everywhere.
    pub fn forget_all(&self) {
        self.0.forgotten.fetch_add(1, Ordering::SeqCst);
        self.0.copies.clear();
        self.0.changed.notify_one();
    }
}

/// Keeps the newest sighting; wakes who watches when the state differs.
fn note<S: PartialEq>(sender: &watch::Sender<Sighting<S>>, sighting: Sighting<S>) {
    sender.send_if_modified(|latest| {
        if sighting.asked_at < latest.asked_at {
            return false;
        }
        let differs = latest.state != sighting.state;
        *latest = sighting;
        differs
    });
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
        /// How many sessions each question about many was about.
        asked_of_many: Mutex<Vec<usize>>,
        ended: std::sync::atomic::AtomicBool,
        down: std::sync::atomic::AtomicBool,
    }

    struct Shared(Arc<Counting>);

    #[async_trait]
    impl Source<SessionId, SessionState> for Shared {
        async fn state(&self, _: SessionId) -> Result<Option<SessionState>, DomainError> {
            let epoch = self.0.asked.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(10)).await;
            if self.0.down.load(Ordering::SeqCst) {
                return Err(DomainError::Timeout);
            }
            let user_id = UserId::from_uuid(Uuid::from_u128(1));
            Ok(Some(SessionState { user_id, role: Role::Customer, ended: false, token_epoch: epoch as i64 }))
        }

        async fn states(&self, ids: Vec<SessionId>) -> Result<Vec<(SessionId, SessionState)>, DomainError> {
            self.0.asked_of_many.lock().unwrap().push(ids.len());
            if self.0.down.load(Ordering::SeqCst) {
                return Err(DomainError::Timeout);
            }
            let user_id = UserId::from_uuid(Uuid::from_u128(1));
            let ended = self.0.ended.load(Ordering::SeqCst);
            let state = SessionState { user_id, role: Role::Customer, ended, token_epoch: -1 };
            Ok(ids.into_iter().map(|id| (id, state)).collect())
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
    async fn all_watched_sessions_are_asked_about_in_one_question_and_a_change_wakes_their_watches() {
        let source = Arc::new(Counting::default());
        let check = SessionCheck::new(Shared(Arc::clone(&source)));
        let interval = Duration::from_secs(4);
        let asked = || source.asked_of_many.lock().unwrap().clone();
        let session = |n: u128| SessionId::from_uuid(Uuid::from_u128(n));
        let mut watches = Vec::new();
        // Two sockets of each session.
        for n in (0..500).chain(0..500) {
            watches.push(check.watch(session(n), interval).await.unwrap());
        }
        let keeper = check.clone();
        let keeping = tokio::spawn(async move { keeper.keep_watch(interval).await });
        sleep(interval * 3 + Duration::from_millis(100)).await;
        assert_eq!(asked(), [500, 500, 500]);
        assert!(watches.iter().all(|watch| watch.latest().asked_at.elapsed() <= Duration::from_millis(100)));

        // The first round has seen another epoch than the sockets at their start.
        futures_util::future::join_all(watches.iter_mut().map(Watch::changed)).await;
        source.ended.store(true, Ordering::SeqCst);
        let began = Instant::now();
        check.forget_all();
        futures_util::future::join_all(watches.iter_mut().map(Watch::changed)).await;
        assert!(began.elapsed() < Duration::from_millis(500), "not only at the next round");
        assert!(watches.iter().all(|watch| watch.latest().state.is_some_and(|state| state.ended)));

        watches.truncate(1);
        sleep(interval + Duration::from_millis(100)).await;
        assert_eq!(asked().last(), Some(&1), "who is gone is not asked about");
        watches.clear();
        let rounds = asked().len();
        sleep(interval * 3).await;
        assert_eq!(asked().len(), rounds, "nobody is there to be asked about");
        keeping.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_round_that_fails_leaves_what_was_seen_and_is_repeated_soon() {
        let source = Arc::new(Counting::default());
        let check = SessionCheck::new(Shared(Arc::clone(&source)));
        let interval = Duration::from_secs(4);
        let watch = check.watch(session(), interval).await.unwrap();
        let seen = watch.latest().asked_at;
        source.down.store(true, Ordering::SeqCst);
        let keeper = check.clone();
        let keeping = tokio::spawn(async move { keeper.keep_watch(interval).await });
        sleep(interval + WATCH_RETRY * 2 + Duration::from_millis(100)).await;
        assert_eq!(source.asked_of_many.lock().unwrap().len(), 3);
        assert_eq!(watch.latest().asked_at, seen);
        source.down.store(false, Ordering::SeqCst);
        sleep(WATCH_RETRY).await;
        assert!(watch.latest().asked_at.elapsed() <= WATCH_RETRY);
        keeping.abort();
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
