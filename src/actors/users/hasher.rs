//! Password hashing: bcrypt on a bounded pool of low-priority threads.
//!
//! One hash takes about a quarter of a second of a core, so hashing neither runs on a reactor nor queues without end:
//! what does not fit is refused at once with a retry hint. A password is normalised (NFKC) and digested before bcrypt,
//! which would otherwise cut it at 72 bytes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use actix::{Actor, Addr, Handler, Message, SyncArbiter, SyncContext};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha384};
use tokio::sync::Semaphore;
use unicode_normalization::UnicodeNormalization;

use super::messages::Password;
use crate::actors::errors::DomainError;
use crate::domain::users::{PASSWORD_LENGTH, PasswordHash};

/// How far the pool's threads step back behind the rest of the process.
const NICENESS: i32 = 10;

/// How long a refused caller is told to wait. Milliseconds.
const RETRY_AFTER_MS: u32 = 1_000;

/// A password in the form that is hashed: its digest, 64 characters, so that every code point counts.
#[derive(Clone)]
struct PreparedPassword(String);

fn normalised(password: &Password) -> String {
    password.0.nfkc().collect()
}

fn prepare(password: &Password) -> PreparedPassword {
    PreparedPassword(STANDARD.encode(Sha384::digest(normalised(password).as_bytes())))
}

/// Whether a new password may be used.
pub fn check_new_password(password: &Password) -> Result<(), DomainError> {
    let (shortest, longest) = (*PASSWORD_LENGTH.start(), *PASSWORD_LENGTH.end());
    // Normalising costs time by length: what is far too long is refused before.
    if password.0.len() > 32 * longest {
        return Err(DomainError::WeakPassword(format!("a password has at most {longest} characters")));
    }
    let text = normalised(password);
    let length = text.chars().count();
    if length < shortest {
        return Err(DomainError::WeakPassword(format!("a password has at least {shortest} characters")));
    }
    if length > longest {
        return Err(DomainError::WeakPassword(format!("a password has at most {longest} characters")));
    }
    if text.chars().any(char::is_control) {
        return Err(DomainError::WeakPassword("a password has no control characters".into()));
    }
    Ok(())
}

struct HashWorker {
    cost: u32,
}

impl Actor for HashWorker {
    type Context = SyncContext<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        // On Linux priority is a thread's; where it cannot be lowered hashing still works.
        let thread = rustix::thread::gettid();
        if let Err(error) = rustix::process::setpriority_process(Some(thread), NICENESS) {
            tracing::debug!(%error, "could not lower the priority of a hashing thread");
        }
    }
}

#[derive(Message)]
#[rtype(result = "Result<PasswordHash, DomainError>")]
struct Hash(PreparedPassword);

#[derive(Message)]
#[rtype(result = "Result<bool, DomainError>")]
struct Verify(PreparedPassword, PasswordHash);

fn fault(what: &str) -> DomainError {
    DomainError::Internal(format!("password hashing failed: {what}"))
}

impl Handler<Hash> for HashWorker {
    type Result = Result<PasswordHash, DomainError>;

    fn handle(&mut self, Hash(password): Hash, _: &mut Self::Context) -> Self::Result {
        // A panic would end the pool's thread for good.
        match catch_unwind(AssertUnwindSafe(|| bcrypt::hash(&password.0, self.cost))) {
            Ok(Ok(hash)) => Ok(PasswordHash(hash)),
            Ok(Err(error)) => Err(fault(&error.to_string())),
            Err(_) => Err(fault("panic")),
        }
    }
}

impl Handler<Verify> for HashWorker {
    type Result = Result<bool, DomainError>;

    fn handle(&mut self, Verify(password, hash): Verify, _: &mut Self::Context) -> Self::Result {
        match catch_unwind(AssertUnwindSafe(|| bcrypt::verify(&password.0, &hash.0))) {
            Ok(Ok(matches)) => Ok(matches),
            Ok(Err(error)) => Err(fault(&error.to_string())),
            Err(_) => Err(fault("panic")),
        }
    }
}

/// The pool; cheap to clone.
#[derive(Clone)]
pub struct PasswordHasher {
    workers: Addr<HashWorker>,
    admission: Arc<Semaphore>,
    /// Of no password: what an unknown address is checked against, so that it takes the same time.
    decoy: Arc<PasswordHash>,
}

impl PasswordHasher {
    /// `cost` is bcrypt's (4 to 15), `queue` how many hashes may run or wait. Needs a running actix system.
    pub fn start(cost: u32, threads: usize, queue: usize) -> Result<Self, bcrypt::BcryptError> {
        let salt: [u8; 16] = rand::random();
        let secret: [u8; 32] = rand::random();
        let decoy = bcrypt::hash_with_salt(STANDARD.encode(secret), cost, salt)?.to_string();
        let workers = SyncArbiter::start(threads, move || HashWorker { cost });
        Ok(Self { workers, admission: Arc::new(Semaphore::new(queue)), decoy: Arc::new(PasswordHash(decoy)) })
    }

    /// Hashes that run or wait, for metrics.
    pub fn free_places(&self) -> usize {
        self.admission.available_permits()
    }

    /// Refusal: Busy.
    pub async fn hash(&self, password: &Password) -> Result<PasswordHash, DomainError> {
        let _place = self.admit()?;
        self.workers.send(Hash(prepare(password))).await.map_err(|_| fault("the pool is gone"))?
    }

    /// Checks a password; without a hash it checks against the decoy and answers false. Refusal: Busy.
    pub async fn verify(&self, password: &Password, hash: Option<&PasswordHash>) -> Result<bool, DomainError> {
        let _place = self.admit()?;
        let hash_or_decoy = hash.unwrap_or(&self.decoy).clone();
        let matches = self
            .workers
            .send(Verify(prepare(password), hash_or_decoy))
            .await
            .map_err(|_| fault("the pool is gone"))??;
        Ok(matches && hash.is_some())
    }

    fn admit(&self) -> Result<tokio::sync::SemaphorePermit<'_>, DomainError> {
        self.admission.try_acquire().map_err(|_| DomainError::Busy { retry_after_ms: RETRY_AFTER_MS })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(text: &str) -> Password {
        Password(text.to_owned())
    }

    #[actix::test]
    async fn passwords_that_differ_only_past_byte_72_do_not_verify_each_other() {
        let hasher = PasswordHasher::start(4, 1, 8).unwrap();
        let one = password(&format!("{}1", "é".repeat(100)));
        let other = password(&format!("{}2", "é".repeat(100)));
        let hash = hasher.hash(&one).await.unwrap();
        assert!(hasher.verify(&one, Some(&hash)).await.unwrap());
        assert!(!hasher.verify(&other, Some(&hash)).await.unwrap());
        assert!(!hasher.verify(&one, None).await.unwrap());
    }

    #[actix::test]
    async fn forms_of_one_text_are_one_password() {
        let hasher = PasswordHasher::start(4, 1, 8).unwrap();
        let hash = hasher.hash(&password("caf\u{e9}-12345")).await.unwrap();
        assert!(hasher.verify(&password("cafe\u{301}-12345"), Some(&hash)).await.unwrap());
    }

    #[actix::test]
    async fn an_excess_is_refused_at_once() {
        let hasher = PasswordHasher::start(4, 1, 0).unwrap();
        assert!(matches!(hasher.hash(&password("correct horse")).await, Err(DomainError::Busy { .. })));
    }

    #[test]
    fn lengths_are_counted_in_code_points() {
        assert!(check_new_password(&password("1234567")).is_err());
        assert!(check_new_password(&password("12345678")).is_ok());
        assert!(check_new_password(&password(&"é".repeat(128))).is_ok());
        assert!(check_new_password(&password(&"é".repeat(129))).is_err());
        assert!(check_new_password(&password("1234567\0")).is_err());
    }
}
