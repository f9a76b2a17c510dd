//! Calls that come while others are under way are done together by the next one, so that a busy store gets few large
//! commands instead of many small ones, and a single call waits for nobody. A kind of call that may wait a little gathers:
//! its batches are kept apart, unless enough calls wait for one.

use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};
use tokio::time::{Duration, Instant, sleep_until, timeout};

use crate::store::StoreError;

type Answer<O> = Result<O, StoreError>;

/// Longer than a batch takes, but for a store that is hardly there.
const TURN_PATIENCE: Duration = Duration::from_secs(2);

/// One kind of call. Each caller may be dropped at any moment: whoever waits for a batch that is dropped is told that its
/// outcome is unknown, and what the dropped one had asked for may still be done with the next batch.
pub(super) struct Batches<I, O> {
    waiting: Mutex<Vec<(I, oneshot::Sender<Answer<O>>)>>,
    /// Held by a batch that is under way.
    turn: tokio::sync::Mutex<()>,
    /// When the last batch began.
    began: Mutex<Option<Instant>>,
    gathering: Gathering,
    enough_wait: Notify,
}

/// How long after the one before a batch begins at least, and how many calls need not wait for that.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gathering {
    pub apart: Duration,
    pub enough: usize,
}

impl<I, O> Default for Batches<I, O> {
    fn default() -> Self {
        Self::gathering(Gathering { apart: Duration::ZERO, enough: 0 })
    }
}

impl<I, O> Batches<I, O> {
    pub(super) fn gathering(gathering: Gathering) -> Self {
        let (waiting, turn, began) = (Mutex::default(), tokio::sync::Mutex::default(), Mutex::default());
        Self { waiting, turn, began, gathering, enough_wait: Notify::new() }
    }
}

impl<I: Clone, O> Batches<I, O> {
    fn waiting(&self) -> MutexGuard<'_, Vec<(I, oneshot::Sender<Answer<O>>)>> {
        // Each change of the list is one call: a panic leaves it whole.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn began(&self) -> MutexGuard<'_, Option<Instant>> {
        self.began.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A turn spares commands, and nothing depends on it. One that does not end, because whoever has it is on a thread that
    /// hangs, holds up for long only the calls that its batch has taken.
    async fn turn(&self) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        let starts_at = self.began().map(|before| before + self.gathering.apart);
        if let Some(starts_at) = starts_at.filter(|starts_at| Instant::now() < *starts_at) {
            tokio::select! {
                () = sleep_until(starts_at) => {}
                () = self.until_enough_wait() => {}
            }
        }
        timeout(TURN_PATIENCE, self.turn.lock()).await.ok()
    }

    async fn until_enough_wait(&self) {
        while self.waiting().len() < self.gathering.enough {
            self.enough_wait.notified().await;
        }
    }

    /// `work` answers every input in its place. A batch that fails is done again one by one, so that a call fails only of
    /// its own, until it is plain that the store is away.
    pub(super) async fn call<F>(&self, input: I, work: impl Fn(Vec<I>) -> F) -> Answer<O>
    where
        F: Future<Output = Result<Vec<O>, StoreError>>,
    {
        let (answer, mut answered) = oneshot::channel();
        let waiting = {
            let mut waiting = self.waiting();
            waiting.push((input, answer));
            waiting.len()
        };
        if waiting >= self.gathering.enough {
            self.enough_wait.notify_one();
        }
        let _turn = tokio::select! {
            biased;
            answer = &mut answered => return answer.unwrap_or_else(|_| Err(dropped())),
            turn = self.turn() => turn,
        };
        let (inputs, answers): (Vec<I>, Vec<_>) = std::mem::take(&mut *self.waiting()).into_iter().unzip();
        if inputs.is_empty() {
            // The batch before has taken this call along.
            return answered.await.unwrap_or_else(|_| Err(dropped()));
        }
        *self.began() = Some(Instant::now());
        match work(inputs.clone()).await {
            Ok(outcomes) => {
                for (answer, outcome) in answers.into_iter().zip(outcomes) {
                    // Who is gone needs no answer.
                    let _ = answer.send(Ok(outcome));
                }
            }
            Err(error) if inputs.len() == 1 => {
                for answer in answers {
                    let _ = answer.send(Err(error.clone()));
                }
            }
            Err(_) => {
                let mut unavailable = 0;
                for (input, answer) in inputs.into_iter().zip(answers) {
                    let outcome = if unavailable < GIVEN_UP_AFTER { work(vec![input]).await } else { Err(away()) };
                    unavailable = if matches!(outcome, Err(StoreError::Unavailable(_))) { unavailable + 1 } else { 0 };
                    let _ = answer.send(outcome.and_then(|mut outcomes| outcomes.pop().ok_or_else(dropped)));
                }
            }
        }
        answered.await.unwrap_or_else(|_| Err(dropped()))
    }
}

/// Calls in a row that find the store unavailable, after which the others of their batch do not wait for it in turn.
const GIVEN_UP_AFTER: u32 = 2;

fn away() -> StoreError {
    StoreError::Unavailable("it was not there for the calls before this one".into())
}

fn dropped() -> StoreError {
    StoreError::Unavailable("the call that this one was done with was given up".into())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::future::{join, join_all};
    use tokio::sync::Semaphore;

    use super::*;

    /// Doubles numbers; refuses a batch with an odd one, and is away for one of 100 and more. Notes the batches; each waits
    /// for a permit.
    struct Doubling {
        batches: Batches<u32, u32>,
        seen: Mutex<Vec<Vec<u32>>>,
        permits: Semaphore,
    }

    impl Doubling {
        fn new() -> Arc<Self> {
            Self::with(Batches::default())
        }

        fn with(batches: Batches<u32, u32>) -> Arc<Self> {
            Arc::new(Self { batches, seen: Mutex::default(), permits: Semaphore::new(0) })
        }

        async fn double(&self, number: u32) -> Answer<u32> {
            let work = |numbers: Vec<u32>| async move {
                self.seen.lock().unwrap().push(numbers.clone());
                self.permits.acquire().await.unwrap().forget();
                if numbers.iter().any(|number| *number >= 100) {
                    return Err(StoreError::Unavailable("away".into()));
                }
                if numbers.iter().any(|number| number % 2 == 1) {
                    return Err(StoreError::Broken("odd".into()));
                }
                Ok(numbers.iter().map(|number| number * 2).collect())
            };
            self.batches.call(number, work).await
        }
    }

    async fn until(is_true: impl Fn() -> bool) {
        while !is_true() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_comes_while_a_call_is_under_way_is_one_batch_and_each_gets_its_own_answer() {
        let doubling = Doubling::new();
        let first = tokio::spawn({
            let doubling = Arc::clone(&doubling);
            async move { doubling.double(2).await }
        });
        until(|| !doubling.seen.lock().unwrap().is_empty()).await;
        let rest = [4, 6, 8].map(|number| {
            let doubling = Arc::clone(&doubling);
            tokio::spawn(async move { doubling.double(number).await })
        });
        until(|| doubling.batches.waiting().len() == 3).await;
        doubling.permits.add_permits(2);
        assert_eq!(first.await.unwrap().unwrap(), 4);
        let rest: Vec<u32> = join_all(rest).await.into_iter().map(|answer| answer.unwrap().unwrap()).collect();
        assert_eq!(rest, [8, 12, 16]);
        assert_eq!(*doubling.seen.lock().unwrap(), [vec![2], vec![4, 6, 8]]);
    }

    #[tokio::test(start_paused = true)]
    async fn batches_that_gather_are_kept_apart_until_enough_calls_wait() {
        let apart = Duration::from_millis(30);
        let doubling = Doubling::with(Batches::gathering(Gathering { apart, enough: 3 }));
        doubling.permits.add_permits(10);
        let began = Instant::now();
        assert_eq!(doubling.double(2).await.unwrap(), 4);
        assert_eq!(began.elapsed(), Duration::ZERO, "nobody was there to wait for");
        join_all([4, 6].map(|number| doubling.double(number))).await;
        assert_eq!(began.elapsed(), apart);
        let third = async {
            tokio::time::sleep(apart / 3).await;
            doubling.double(12).await
        };
        let (two, third) = join(join_all([8, 10].map(|number| doubling.double(number))), third).await;
        assert!(two.iter().all(Result::is_ok) && third.is_ok());
        assert_eq!(began.elapsed(), apart + apart / 3);
        tokio::time::advance(apart).await;
        doubling.double(14).await.unwrap();
        assert_eq!(began.elapsed(), 2 * apart + apart / 3);
        assert_eq!(*doubling.seen.lock().unwrap(), [vec![2], vec![4, 6], vec![8, 10, 12], vec![14]]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_that_hangs_holds_up_nobody_for_long() {
        let doubling = Doubling::new();
        let mut hanging = Box::pin(doubling.double(2));
        assert!(futures_util::poll!(&mut hanging).is_pending());
        // One for each: the one that hangs does not take notice of its own.
        doubling.permits.add_permits(2);
        let began = Instant::now();
        assert_eq!(doubling.double(4).await.unwrap(), 8);
        assert_eq!(began.elapsed(), TURN_PATIENCE);
        assert_eq!(hanging.await.unwrap(), 4);
    }

    #[tokio::test]
    async fn one_bad_call_of_a_batch_fails_alone() {
        let doubling = Doubling::new();
        doubling.permits.add_permits(10);
        let answers = join_all([2, 3, 4].map(|number| doubling.double(number))).await;
        let answers: Vec<Option<u32>> = answers.into_iter().map(Result::ok).collect();
        assert_eq!(answers, [Some(4), None, Some(8)]);
    }

    #[tokio::test]
    async fn of_a_batch_that_finds_nothing_there_the_later_calls_do_not_wait_in_turn() {
        let doubling = Doubling::new();
        let mut first = Box::pin(doubling.double(2));
        assert!(futures_util::poll!(&mut first).is_pending());
        let mut rest = Box::pin(join_all([100, 4, 101, 102, 6].map(|number| doubling.double(number))));
        assert!(futures_util::poll!(&mut rest).is_pending());
        doubling.permits.add_permits(10);
        let (first, rest) = join(first, rest).await;
        assert_eq!(first.unwrap(), 4);
        let rest: Vec<Option<u32>> = rest.into_iter().map(Result::ok).collect();
        assert_eq!(rest, [None, Some(8), None, None, None], "one alone fails of its own");
        let seen = doubling.seen.lock().unwrap();
        assert_eq!(seen[1..], [vec![100, 4, 101, 102, 6], vec![100], vec![4], vec![101], vec![102]]);
    }

    #[tokio::test]
    async fn a_caller_that_is_dropped_leaves_the_others_an_answer_and_the_next_batch_its_turn() {
        let doubling = Doubling::new();
        let leader = tokio::spawn({
            let doubling = Arc::clone(&doubling);
            async move { doubling.double(2).await }
        });
        until(|| !doubling.seen.lock().unwrap().is_empty()).await;
        leader.abort();
        assert!(leader.await.unwrap_err().is_cancelled());
        doubling.permits.add_permits(1);
        assert_eq!(doubling.double(4).await.unwrap(), 8);
    }
}
