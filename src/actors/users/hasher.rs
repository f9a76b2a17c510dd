//! Password hashing: bcrypt on a bounded pool of low-priority threads.
//!
//! One hash takes about a quarter of a second of a core, so hashing neither runs on a reactor nor queues without end:
//! what would not be done in good time is refused at once with a retry hint. A password is normalised (NFKC) and digested
//! before bcrypt, which would otherwise ignore what comes after its 72nd byte.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use actix::{Actor, Addr, Handler, Message, SyncArbiter, SyncContext};
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD, STANDARD};
use base64::{Engine, alphabet};
use sha2::{Digest, Sha384};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::messages::Password;
use crate::actors::errors::DomainError;
use crate::actors::priority::step_back;
use crate::domain::passwords::{self, PasswordRefusal};
use crate::domain::users::PasswordHash;

/// How long a refused caller is told to wait. Milliseconds.
const RETRY_AFTER_MS: u32 = 1_000;

/// A password in the form that is hashed: its digest, 64 characters, so that every code point counts.
#[derive(Clone)]
struct PreparedPassword(String);

impl PreparedPassword {
    fn of(normalised: &str) -> Self {
        Self(STANDARD.encode(Sha384::digest(normalised.as_bytes())))
    }
}

/// Whether a new password may be used.
pub fn check_new_password(password: &Password) -> Result<(), DomainError> {
    passwords::chosen(&password.0).map(drop).map_err(weak)
}

fn weak(refusal: PasswordRefusal) -> DomainError {
    DomainError::WeakPassword(refusal.to_string())
}

/// Of a hash; `None`: it is no bcrypt hash.
fn cost_of(hash: &PasswordHash) -> Option<u32> {
    hash.0.parse::<bcrypt::HashParts>().ok().map(|parts| parts.get_cost())
}

/// What a hash takes of late, in microseconds: a running average, which every worker moves.
struct HashTime(AtomicU64);

impl HashTime {
    /// What a core of today takes, until the first hash tells better.
    fn guessed(cost: u32) -> Self {
        Self(AtomicU64::new(60 << cost.min(31)))
    }

    fn of(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed))
    }

    fn measured(&self, taken: Duration) {
        let taken = u64::try_from(taken.as_micros()).unwrap_or(u64::MAX);
        // Two workers at once may lose one of their measures: the average bears it.
        let average = self.0.load(Ordering::Relaxed);
        self.0.store(average - average / 8 + taken / 8, Ordering::Relaxed);
    }
}

struct HashWorker {
    cost: u32,
    time: Arc<HashTime>,
}

impl HashWorker {
    /// Runs one hash, unless nobody waits for it any more.
    fn run<T>(&self, ticket: &Ticket, work: impl FnOnce() -> bcrypt::BcryptResult<T>) -> Result<T, DomainError> {
        if ticket.asker.strong_count() == 0 {
            return Err(DomainError::Timeout);
        }
        let began = Instant::now();
        // A panic would end the pool's thread for good.
        let done = match catch_unwind(AssertUnwindSafe(work)) {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(fault(&error.to_string())),
            Err(_) => Err(fault("panic")),
        };
        self.time.measured(began.elapsed());
        done
    }

    /// Makes a refusal by a hash of a lower cost take as long as one by the decoy. Each cost takes twice the time of the one
    /// before, so a hash of every cost from the lower one on is what is missing.
    fn make_up_for(&self, password: &PreparedPassword, hash: &PasswordHash) -> bcrypt::BcryptResult<()> {
        for cost in cost_of(hash).unwrap_or(self.cost)..self.cost {
            bcrypt::verify(&password.0, &decoy(cost).0)?;
        }
        Ok(())
    }
}

/// A place in the queue, given back when the hash is done or left out.
struct Ticket {
    _place: OwnedSemaphorePermit,
    asker: Weak<()>,
}

impl Actor for HashWorker {
    type Context = SyncContext<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        step_back();
    }
}

#[derive(Message)]
#[rtype(result = "Result<PasswordHash, DomainError>")]
struct Hash(PreparedPassword, Ticket);

#[derive(Message)]
#[rtype(result = "Result<bool, DomainError>")]
struct Verify(PreparedPassword, PasswordHash, Ticket);

fn fault(what: &str) -> DomainError {
    DomainError::Internal(format!("password hashing failed: {what}"))
}

impl Handler<Hash> for HashWorker {
    type Result = Result<PasswordHash, DomainError>;

    fn handle(&mut self, Hash(password, ticket): Hash, _: &mut Self::Context) -> Self::Result {
        self.run(&ticket, || bcrypt::hash(&password.0, self.cost)).map(PasswordHash)
    }
}

impl Handler<Verify> for HashWorker {
    type Result = Result<bool, DomainError>;

    fn handle(&mut self, Verify(password, hash, ticket): Verify, _: &mut Self::Context) -> Self::Result {
        self.run(&ticket, || {
            let matches = bcrypt::verify(&password.0, &hash.0)?;
            if !matches {
                self.make_up_for(&password, &hash)?;
            }
            Ok(matches)
        })
    }
}

/// The pool; cheap to clone.
#[derive(Clone)]
pub struct PasswordHasher {
    workers: Addr<HashWorker>,
    cost: u32,
    threads: usize,
    queue: usize,
    admission: Arc<Semaphore>,
    time: Arc<HashTime>,
    /// The longest that a hash may be expected to take with its wait.
    patience: Duration,
    refused: Arc<AtomicU64>,
    /// Of no password: what an unknown address is checked against, so that it takes the same time.
    decoy: Arc<PasswordHash>,
}

impl PasswordHasher {
    /// `cost` is bcrypt's (4 to 15), `queue` how many hashes may run or wait, `patience` how long one may be expected to
    /// take with its wait. Needs a running actix system.
    pub fn start(cost: u32, threads: usize, queue: usize, patience: Duration) -> Self {
        let time = Arc::new(HashTime::guessed(cost));
        let of_workers = Arc::clone(&time);
        Self {
            workers: SyncArbiter::start(threads, move || HashWorker { cost, time: Arc::clone(&of_workers) }),
            cost,
            threads,
            queue,
            admission: Arc::new(Semaphore::new(queue)),
            time,
            patience,
            refused: Arc::default(),
            decoy: Arc::new(decoy(cost)),
        }
    }

    /// Hashes that run or wait, for metrics.
    pub fn taken_places(&self) -> usize {
        self.queue.saturating_sub(self.admission.available_permits())
    }

    /// Hashes that were refused so far, for metrics.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Whether a password that was verified should be hashed anew: its hash is of another cost than new ones.
    pub fn is_outdated(&self, hash: &PasswordHash) -> bool {
        cost_of(hash) != Some(self.cost)
    }

    /// Refusals: WeakPassword (what cannot be a password; a common one is hashed), Busy.
    pub async fn hash(&self, password: &Password) -> Result<PasswordHash, DomainError> {
        let prepared = PreparedPassword::of(&passwords::normalised(&password.0).map_err(weak)?);
        let asker = Arc::new(());
        let ticket = self.admit(&asker)?;
        self.workers.send(Hash(prepared, ticket)).await.map_err(|_| fault("the pool is gone"))?
    }

    /// Checks a password. Without a hash, and for what cannot be a password, it checks against the decoy and answers false.
    /// Refusal: Busy.
    pub async fn verify(&self, password: &Password, hash: Option<&PasswordHash>) -> Result<bool, DomainError> {
        let normalised = passwords::normalised(&password.0);
        let hash = hash.filter(|_| normalised.is_ok());
        let prepared = PreparedPassword::of(&normalised.unwrap_or_default());
        let asker = Arc::new(());
        let ticket = self.admit(&asker)?;
        let hash_or_decoy = hash.unwrap_or(&self.decoy).clone();
        let matches = self
            .workers
            .send(Verify(prepared, hash_or_decoy, ticket))
            .await
            .map_err(|_| fault("the pool is gone"))??;
        Ok(matches && hash.is_some())
    }

    fn admit(&self, asker: &Arc<()>) -> Result<Ticket, DomainError> {
        self.try_admit(asker).inspect_err(|_| {
            self.refused.fetch_add(1, Ordering::Relaxed);
        })
    }

    /// A place, if what waits for the answer is likely to be there still when it comes.
    fn try_admit(&self, asker: &Arc<()>) -> Result<Ticket, DomainError> {
        let busy = || DomainError::Busy { retry_after_ms: RETRY_AFTER_MS };
        let place = Arc::clone(&self.admission).try_acquire_owned().map_err(|_| busy())?;
        let taken = self.taken_places();
        let rounds = u32::try_from(taken.div_ceil(self.threads.max(1))).unwrap_or(u32::MAX);
        // A free thread is used however slow it is: else a slow machine would never sign anybody in.
        if rounds > 1 && self.time.of().saturating_mul(rounds) > self.patience {
            return Err(busy());
        }
        Ok(Ticket { _place: place, asker: Arc::downgrade(asker) })
    }
}

/// A well-formed hash of this cost that no password is known to have. Made without hashing: a start is not slowed down.
fn decoy(cost: u32) -> PasswordHash {
    let bcrypt_base64 = GeneralPurpose::new(&alphabet::BCRYPT, NO_PAD);
    let salt: [u8; 16] = rand::random();
    let digest: [u8; 23] = rand::random();
    PasswordHash(format!("$2b${cost:02}${}{}", bcrypt_base64.encode(salt), bcrypt_base64.encode(digest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn password(text: &str) -> Password {
        Password(text.to_owned())
    }

    #[actix::test]
    async fn passwords_that_differ_only_past_byte_72_do_not_verify_each_other() {
        let hasher = PasswordHasher::start(4, 1, 8, PATIENCE);
        for same in ["x".repeat(72), "x".repeat(127), "é".repeat(36), "é".repeat(100), "🐪".repeat(18)] {
            let (one, other) = (password(&format!("{same}1")), password(&format!("{same}2")));
            let hash = hasher.hash(&one).await.unwrap();
            assert!(hasher.verify(&one, Some(&hash)).await.unwrap());
            assert!(!hasher.verify(&other, Some(&hash)).await.unwrap(), "{same}");
            assert!(!hasher.verify(&password(&same), Some(&hash)).await.unwrap(), "{same}");
            assert!(!hasher.verify(&one, None).await.unwrap());
        }
    }

    #[actix::test]
    async fn forms_of_one_text_are_one_password() {
        let hasher = PasswordHasher::start(4, 1, 8, PATIENCE);
        let hash = hasher.hash(&password("caf\u{e9}-office")).await.unwrap();
        for typed in ["cafe\u{301}-office", "ｃａｆé－ｏｆｆｉｃｅ", "caf\u{e9}-o\u{fb03}ce"] {
            assert!(hasher.verify(&password(typed), Some(&hash)).await.unwrap(), "{typed}");
        }
        assert!(!hasher.verify(&password("cafe-office"), Some(&hash)).await.unwrap());
    }

    #[actix::test]
    async fn an_excess_is_refused_at_once() {
        let hasher = PasswordHasher::start(4, 1, 0, PATIENCE);
        assert!(matches!(hasher.hash(&password("correct horse")).await, Err(DomainError::Busy { .. })));
    }

    #[actix::test]
    async fn what_would_wait_too_long_is_refused_and_a_free_thread_is_always_used() {
        let hasher = PasswordHasher::start(4, 2, 100, Duration::from_secs(1));
        hasher.time.0.store(2_000_000, Ordering::Relaxed);
        let (one, asker) = (password("correct horse"), Arc::new(()));
        let running = [hasher.admit(&asker).unwrap(), hasher.admit(&asker).unwrap()];
        assert!(matches!(hasher.verify(&one, None).await, Err(DomainError::Busy { .. })));
        drop(running);
        assert!(!hasher.verify(&one, None).await.unwrap());
        // What is measured moves the average: these hashes take milliseconds.
        for _ in 0..40 {
            assert!(!hasher.verify(&one, None).await.unwrap());
        }
        let running = [hasher.admit(&asker).unwrap(), hasher.admit(&asker).unwrap()];
        assert!(!hasher.verify(&one, None).await.unwrap());
        drop(running);
    }

    #[actix::test]
    async fn nothing_is_hashed_for_an_asker_that_is_gone() {
        let hasher = PasswordHasher::start(4, 1, 8, PATIENCE);
        let gone = hasher.admit(&Arc::new(())).unwrap();
        let answer = hasher.workers.send(Hash(PreparedPassword::of("correct horse"), gone)).await.unwrap();
        assert!(matches!(answer, Err(DomainError::Timeout)));
        assert_eq!(hasher.taken_places(), 0);
    }

    #[actix::test]
    async fn a_hash_of_another_cost_serves_on_and_is_outdated() {
        let (before, after) = (PasswordHasher::start(4, 1, 8, PATIENCE), PasswordHasher::start(5, 1, 8, PATIENCE));
        let one = password("correct horse");
        let hash = before.hash(&one).await.unwrap();
        assert!(!before.is_outdated(&hash) && after.is_outdated(&hash));
        assert!(after.verify(&one, Some(&hash)).await.unwrap());
        assert!(!after.verify(&password("wrong horse"), Some(&hash)).await.unwrap());
        assert!(after.is_outdated(&PasswordHash(String::new())));
    }

    #[actix::test]
    async fn what_cannot_be_a_password_is_refused_like_a_wrong_one() {
        let hasher = PasswordHasher::start(4, 1, 8, PATIENCE);
        let hash = hasher.hash(&password("correct horse")).await.unwrap();
        for impossible in ["", "short", &"x".repeat(100_000)] {
            assert!(!hasher.verify(&password(impossible), Some(&hash)).await.unwrap());
            assert!(matches!(hasher.hash(&password(impossible)).await, Err(DomainError::WeakPassword(_))));
        }
        // A password that was taken before it was known as a common one still is one.
        let hash = hasher.hash(&password("password1")).await.unwrap();
        assert!(hasher.verify(&password("password1"), Some(&hash)).await.unwrap());
        assert!(check_new_password(&password("password1")).is_err());
    }
}
