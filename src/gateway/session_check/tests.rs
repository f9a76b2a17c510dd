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
    unknown: Mutex<Option<SessionId>>,
    /// How long a question about many takes.
    answers_after: Mutex<Duration>,
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
        let answers_after = *self.0.answers_after.lock().unwrap();
        if !answers_after.is_zero() {
            sleep(answers_after).await;
        }
        if self.0.down.load(Ordering::SeqCst) {
            return Err(DomainError::Timeout);
        }
        let user_id = UserId::from_uuid(Uuid::from_u128(1));
        let ended = self.0.ended.load(Ordering::SeqCst);
        let state = SessionState { user_id, role: Role::Customer, ended, token_epoch: -1 };
        let unknown = *self.0.unknown.lock().unwrap();
        Ok(ids.into_iter().filter(|id| Some(*id) != unknown).map(|id| (id, state)).collect())
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

    tokio::time::advance(DUE_AGE).await;
    check.state(session(), MAX_COPY_AGE).await.unwrap();
    assert_eq!(asked(), 1);
    tokio::time::advance(MAX_COPY_AGE - DUE_AGE).await;
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

/// Lets a renewal that was begun end.
async fn renewed() {
    sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn copies_in_use_are_renewed_with_one_question_before_they_are_too_old() {
    let source = Arc::new(Counting::default());
    let check = SessionCheck::new(Shared(Arc::clone(&source)));
    let asked = || (source.asked.load(Ordering::SeqCst), source.asked_of_many.lock().unwrap().clone());
    let session = |n: u128| SessionId::from_uuid(Uuid::from_u128(n));
    let use_all = async |sessions: std::ops::Range<u128>| {
        let all = sessions.map(|n| check.state(session(n), MAX_COPY_AGE));
        assert!(futures_util::future::join_all(all).await.iter().all(Result::is_ok));
    };
    use_all(0..100).await;
    assert_eq!(asked(), (100, vec![]), "each is asked about when it first comes");
    tokio::time::advance(DUE_AGE).await;
    use_all(0..90).await;
    renewed().await;
    assert_eq!(asked(), (100, vec![]));
    *source.unknown.lock().unwrap() = Some(session(5));
    tokio::time::advance(RENEWAL_AGE - DUE_AGE).await;
    use_all(0..3).await;
    renewed().await;
    assert_eq!(asked(), (100, vec![90]));

    tokio::time::advance(MAX_COPY_AGE - RENEWAL_AGE).await;
    assert_eq!(check.state(session(5), MAX_COPY_AGE).await, Ok(None), "one that is gone is told so");
    use_all(0..90).await;
    assert_eq!(asked(), (100, vec![90]));
    // Who was not seen lately is asked about when he comes again.
    use_all(90..100).await;
    assert_eq!(asked(), (110, vec![90]));
}

#[tokio::test(start_paused = true)]
async fn what_was_forgotten_or_asked_anew_meanwhile_is_not_renewed() {
    enum Meanwhile {
        Forgotten,
        AllForgotten,
        AskedAnew,
    }
    for meanwhile in [Meanwhile::Forgotten, Meanwhile::AllForgotten, Meanwhile::AskedAnew] {
        let source = Arc::new(Counting::default());
        let check = SessionCheck::new(Shared(Arc::clone(&source)));
        check.state(session(), MAX_COPY_AGE).await.unwrap();
        tokio::time::advance(RENEWAL_AGE).await;
        *source.answers_after.lock().unwrap() = Duration::from_millis(100);
        check.state(session(), MAX_COPY_AGE).await.unwrap();
        sleep(Duration::from_millis(50)).await;
        assert_eq!(*source.asked_of_many.lock().unwrap(), [1]);
        let newer = match meanwhile {
            Meanwhile::Forgotten => {
                check.forget(session());
                None
            }
            Meanwhile::AllForgotten => {
                check.forget_all();
                None
            }
            Meanwhile::AskedAnew => Some(check.state(session(), Duration::ZERO).await.unwrap().unwrap().token_epoch),
        };
        sleep(Duration::from_millis(100)).await;
        let seen = check.state(session(), MAX_COPY_AGE).await.unwrap().unwrap().token_epoch;
        assert_ne!(seen, -1, "not what the renewal was told");
        assert!(newer.is_none_or(|newer| newer == seen));
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_fails_is_repeated_before_the_copies_are_too_old() {
    let source = Arc::new(Counting::default());
    let check = SessionCheck::new(Shared(Arc::clone(&source)));
    check.state(session(), MAX_COPY_AGE).await.unwrap();
    tokio::time::advance(RENEWAL_AGE).await;
    source.down.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        assert!(check.state(session(), MAX_COPY_AGE).await.is_ok());
        renewed().await;
    }
    assert_eq!(*source.asked_of_many.lock().unwrap(), [1], "not with each request");
    source.down.store(false, Ordering::SeqCst);
    sleep(FAILURE_AGE).await;
    tokio::time::advance(MAX_COPY_AGE - RENEWAL_AGE - FAILURE_AGE).await;
    assert_eq!(check.state(session(), MAX_COPY_AGE).await.unwrap().unwrap().token_epoch, -1);

    tokio::time::advance(RENEWAL_AGE).await;
    source.down.store(true, Ordering::SeqCst);
    assert!(check.state(session(), MAX_COPY_AGE).await.is_ok());
    sleep(MAX_COPY_AGE - RENEWAL_AGE).await;
    assert!(check.state(session(), MAX_COPY_AGE).await.is_err(), "nobody is served by what is too old");
    sleep(MAX_COPY_AGE).await;
    let asked = source.asked_of_many.lock().unwrap().len();
    sleep(MAX_COPY_AGE).await;
    assert_eq!(source.asked_of_many.lock().unwrap().len(), asked, "what is too old is not renewed any more");
}

#[tokio::test(start_paused = true)]
async fn only_copies_that_still_serve_are_renewed() {
    let source = Arc::new(Counting::default());
    let check = SessionCheck::new(Shared(Arc::clone(&source)));
    let session = |n: u128| SessionId::from_uuid(Uuid::from_u128(n));
    let use_one = async |n| {
        check.state(session(n), MAX_COPY_AGE).await.unwrap();
    };
    // Of three that are due the first grows too old, the second is forgotten.
    use_one(0).await;
    tokio::time::advance(DUE_AGE).await;
    use_one(0).await;
    use_one(1).await;
    use_one(2).await;
    tokio::time::advance(DUE_AGE).await;
    use_one(1).await;
    use_one(2).await;
    check.forget(session(1));
    tokio::time::advance(RENEWAL_AGE - DUE_AGE).await;
    use_one(2).await;
    renewed().await;
    assert_eq!(*source.asked_of_many.lock().unwrap(), [1]);
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
