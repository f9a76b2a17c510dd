//! Whether a session, or an API key, still serves: asked of the users actor, remembered for a few seconds.
//!
//! Nearly every request finds a fresh copy and asks nobody. Of the requests that find none, one asks and the others
//! wait for its answer. Copies in use are renewed before they are too old, all that are due with one question: many
//! customers cost one in some seconds, not one each, and no request waits for it. The sessions and keys of open sockets are
//! watched: one question after the other asks for all of them, at once when something about one has changed in this process.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream;
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
/// A copy that is used at this age or later is due to be renewed.
const DUE_AGE: Duration = Duration::from_secs(2);
/// One that is used at this age has all that are due renewed.
const RENEWAL_AGE: Duration = Duration::from_millis(3_500);
/// Questions of one renewal that are under way at a time.
const QUESTIONS_AT_ONCE: usize = 4;
const CACHED: usize = 20_000;
/// Sessions or keys that one question is about: it must not hold up a reader of the store for long.
const IDS_A_QUESTION: usize = 1_000;
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

/// What an answer said.
#[derive(Debug, Clone, Copy)]
struct Seen<S> {
    state: Result<Option<S>, SessionUnknown>,
    /// When the question was asked: the state is at least as new.
    asked_at: Instant,
}

impl<S> Seen<S> {
    fn is_fresh(&self, max_age: Duration) -> bool {
        let max_age = if self.state.is_err() { FAILURE_AGE.min(max_age) } else { max_age };
        self.asked_at.elapsed() <= max_age
    }
}

/// A copy. It is renewed where it is: one that was forgotten or replaced meanwhile is nobody's any more.
#[derive(Debug)]
struct Kept<S> {
    seen: Mutex<Seen<S>>,
    /// Noted among those that are due.
    is_due: AtomicBool,
}

impl<S: Copy> Kept<S> {
    fn new(seen: Seen<S>) -> Arc<Self> {
        Arc::new(Self { seen: Mutex::new(seen), is_due: AtomicBool::new(false) })
    }

    fn seen(&self) -> Seen<S> {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn renew(&self, seen: Seen<S>) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = seen;
        self.is_due.store(false, Ordering::Relaxed);
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
    copies: Cache<I, Arc<Kept<S>>>,
    /// Those that there were when they were last asked for, however long ago.
    known: Cache<I, ()>,
    /// The copies that are due, at most as many as are kept.
    due: Mutex<Vec<(I, Arc<Kept<S>>)>>,
    renewing: AtomicBool,
    /// The last check of a single one has failed: an outage is told once.
    fails: AtomicBool,
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
            known: Cache::new(CACHED),
            due: Mutex::default(),
            renewing: AtomicBool::new(false),
            fails: AtomicBool::new(false),
            forgotten: AtomicU64::new(0),
            watched: Mutex::default(),
            changed: Notify::new(),
        }))
    }

    /// The state, no older than `max_age`. `Ok(None)`: there is no such session or key.
    pub async fn state(&self, id: I, max_age: Duration) -> Result<Option<S>, SessionUnknown> {
        self.copy(id, max_age).await.state
    }

    /// Whether there was such a session or key when it was last asked for: of one that is remembered, and nothing that is
    /// decided by.
    pub fn knows(&self, id: I) -> bool {
        self.0.known.get(&id).is_some()
    }

    /// Watches a session or key from a state of it no older than `max_age`.
    pub async fn watch(&self, id: I, max_age: Duration) -> Result<Watch<I, S>, SessionUnknown> {
        let Seen { state, asked_at } = self.copy(id, max_age).await;
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
        for ids in ids.chunks(IDS_A_QUESTION) {
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

    async fn copy(&self, id: I, max_age: Duration) -> Seen<S> {
        let Inner { source, copies, known, forgotten, .. } = &*self.0;
        loop {
            if let Some(copy) = copies.get(&id) {
                let seen = copy.seen();
                if seen.is_fresh(max_age) {
                    self.renew_in_time(id, &copy, seen);
                    return seen;
                }
                copies.remove_if(&id, |found| Arc::ptr_eq(found, &copy));
            }
            let guard = match copies.get_value_or_guard_async(&id).await.map(|copy| copy.seen()) {
                // A copy that came while this waited counts however short `max_age` is: it was asked for afterwards.
                Ok(seen) if seen.is_fresh(max_age.max(FAILURE_AGE)) => return seen,
                Ok(_) => continue,
                Err(guard) => guard,
            };
            let before = forgotten.load(Ordering::SeqCst);
            let asked_at = Instant::now();
            let state = source.state(id).await;
            let failed_before = self.0.fails.swap(state.is_err(), Ordering::Relaxed);
            let state = state.map_err(|error| {
                if !failed_before {
                    warn!(%id, %error, "could not check a session");
                }
                SessionUnknown
            });
            match state {
                Ok(Some(_)) => known.insert(id, ()),
                Ok(None) => drop(known.remove(&id)),
                Err(SessionUnknown) => {}
            }
            if forgotten.load(Ordering::SeqCst) == before {
                // Refused only when the entry was forgotten this very moment; then nothing needs to be kept.
                let seen = Seen { state, asked_at };
                let _ = guard.insert(Kept::new(seen));
                return seen;
            }
        }
    }

    /// A copy was used: notes that it is due, and begins to renew those that are when it is time.
    fn renew_in_time(&self, id: I, copy: &Arc<Kept<S>>, seen: Seen<S>) {
        let age = seen.asked_at.elapsed();
        if age < DUE_AGE || seen.state.is_err() {
            return;
        }
        let mut is_full = false;
        if !copy.is_due.load(Ordering::Relaxed) {
            let mut due = self.due();
            is_full = due.len() >= CACHED;
            if !is_full && !copy.is_due.swap(true, Ordering::Relaxed) {
                due.push((id, Arc::clone(copy)));
            }
        }
        if (age >= RENEWAL_AGE || is_full) && !self.0.renewing.swap(true, Ordering::SeqCst) {
            let renewal = Renewal(self.clone());
            tokio::spawn(async move { renewal.0.renew_due().await });
        }
    }

    async fn renew_due(&self) {
        let mut due = std::mem::take(&mut *self.due());
        // Not what was forgotten, replaced or left to grow too old since.
        due.retain(|(id, copy)| {
            copy.seen().is_fresh(MAX_COPY_AGE) && self.0.copies.peek(id).is_some_and(|found| Arc::ptr_eq(&found, copy))
        });
        let questions: Vec<_> = due.chunks(IDS_A_QUESTION).map(|due| self.renew(due)).collect();
        stream::iter(questions).buffer_unordered(QUESTIONS_AT_ONCE).collect::<()>().await;
    }

    /// Asks about these until there is an answer, or their copies are too old: then each is asked about when it is used.
    async fn renew(&self, due: &[(I, Arc<Kept<S>>)]) {
        loop {
            let asked_at = Instant::now();
            match self.0.source.states(due.iter().map(|(id, _)| *id).collect()).await {
                Ok(states) => {
                    let states: HashMap<I, S> = states.into_iter().collect();
                    for (id, copy) in due {
                        copy.renew(Seen { state: Ok(states.get(id).copied()), asked_at });
                    }
                    return;
                }
                Err(error) if due.iter().all(|(_, copy)| !copy.seen().is_fresh(MAX_COPY_AGE)) => {
                    return warn!(%error, "could not renew what is known of sessions");
                }
                Err(_) => sleep(FAILURE_AGE).await,
            }
        }
    }

    fn due(&self) -> MutexGuard<'_, Vec<(I, Arc<Kept<S>>)>> {
        self.0.due.lock().unwrap_or_else(PoisonError::into_inner)
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

/// Under way; however it ends, the next one may begin.
struct Renewal<I: Id, S: State>(Check<I, S>);

impl<I: Id, S: State> Drop for Renewal<I, S> {
    fn drop(&mut self) {
        self.0.0.renewing.store(false, Ordering::SeqCst);
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
mod tests;
