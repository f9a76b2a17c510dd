//! Where a client speaks from.

use std::fmt;
use std::net::IpAddr;

/// A network from which an account signed in within so many days is known to it. Milliseconds.
pub const NETWORK_KNOWN_MS: i64 = 30 * 24 * 60 * 60 * 1_000;

/// The network of an address: of IPv6 the /64, of which one customer has a whole one; of IPv4 the address itself.
pub fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let prefix = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(prefix.into())
        }
    }
}

/// A keyed digest of a network: good for telling whether two are the same, and no more.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct NetworkDigest(pub [u8; 16]);

impl fmt::Debug for NetworkDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NetworkDigest(***)")
    }
}
