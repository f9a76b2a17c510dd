//! Where a client speaks from.

use std::fmt;

/// A network from which an account signed in within so many days is known to it. Milliseconds.
pub const NETWORK_KNOWN_MS: i64 = 30 * 24 * 60 * 60 * 1_000;

/// A keyed digest of a network: good for telling whether two are the same, and no more.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct NetworkDigest(pub [u8; 16]);

impl fmt::Debug for NetworkDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NetworkDigest(***)")
    }
}
