//! Whether somebody who keeps a connection open is still signed in: looked at whenever the session or API key has changed,
//! the token or key ends, or the last look is too old.

use std::time::Duration;

use tokio::time::Instant;

use super::auth::{Auth, AuthError, Proof, WatchedProof};
use crate::actors::clock;
use crate::actors::users::key_ring::KeyRing;

/// A connection whose session cannot be checked for so long is closed.
const MAX_UNCHECKED: Duration = Duration::from_secs(30);
/// How soon a session is looked at again whose check is overdue.
const CHECK_RETRY: Duration = Duration::from_secs(1);
/// The oldest copy of a session by which a connection opens, and how late a check of all sessions may be: with the interval
/// of the checks, less than 5 s.
const MAX_CHECK_AGE: Duration = Duration::from_millis(500);

/// Why a connection of somebody who is signed in must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SignedOut {
    /// The token has expired, its key's term is over, or its session has ended or changed; or the API key has.
    Ended,
    /// The session could not be checked for a long time.
    Unknown,
}

/// What is known of who opened a connection with a token or an API key.
pub(super) struct SignedIn {
    watched: WatchedProof,
    keys: KeyRing,
    interval: Duration,
    next_look: Instant,
}

impl SignedIn {
    /// `interval`: how often all sessions are checked.
    pub(super) async fn watch(auth: &Auth, proof: Proof, interval: Duration) -> Result<Self, AuthError> {
        let watched = auth.watch(proof, MAX_CHECK_AGE).await?;
        Ok(Self { watched, keys: auth.keys().clone(), interval, next_look: Instant::now() })
    }

    /// By which the connection was opened.
    pub(super) fn proof(&self) -> Proof {
        self.watched.proof()
    }

    /// When to look again, unless the session changes before.
    pub(super) fn next_look(&self) -> Instant {
        self.next_look
    }

    /// Resolves when the session or key has changed.
    pub(super) async fn changed(&mut self) {
        self.watched.changed().await;
    }

    /// Whether the token or key still serves, by what was last seen of it. While sessions cannot be read the connection
    /// goes on for a time: a restart of the users actor is not its fault.
    pub(super) fn look(&mut self) -> Result<(), SignedOut> {
        let oldest = self.max_check_age();
        let left_ms = self.watched.expires_at().map(|expiry| expiry.millis_since(clock::now()));
        if !self.watched.is_good(&self.keys) {
            return Err(SignedOut::Ended);
        }
        let asked_at = self.watched.asked_at();
        let age = asked_at.elapsed();
        if age >= MAX_UNCHECKED {
            return Err(SignedOut::Unknown);
        }
        let now = Instant::now();
        let next = if age < oldest { asked_at + oldest } else { now + CHECK_RETRY.min(self.interval) };
        // Of years that are left no instant could be made.
        let left = left_ms.map_or(oldest, |left_ms| Duration::from_millis(left_ms.unsigned_abs()).min(oldest));
        self.next_look = next.min(now + left);
        Ok(())
    }

    /// Whether the session was checked too long ago to deliver results by it. All sessions are checked at an interval, so
    /// this is so only while they cannot be read, or after something else took long.
    pub(super) fn is_check_too_old(&self) -> bool {
        self.watched.asked_at().elapsed() >= self.max_check_age()
    }

    /// With the age that a session's state may have when it is asked for: 5 s under the usual interval.
    fn max_check_age(&self) -> Duration {
        self.interval + MAX_CHECK_AGE
    }
}

/// Resolves when the session of who is signed in has changed; never, when nobody is.
pub(super) async fn session_changed(signed_in: &mut Option<SignedIn>) {
    match signed_in {
        Some(signed_in) => signed_in.changed().await,
        None => std::future::pending().await,
    }
}
