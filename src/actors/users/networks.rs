//! Networks that users sign in from, kept as digests under a key of the shop: nobody reads an address out of the store.

use std::net::IpAddr;

use crate::actors::server_secret::{ServerSecret, hmac};
use crate::domain::networks::NetworkDigest;

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

#[derive(Clone)]
pub struct Networks {
    key: [u8; 32],
}

impl Networks {
    pub fn new(secret: &ServerSecret) -> Self {
        Self { key: secret.derive("networks of sessions") }
    }

    /// Of the network that an address is in.
    pub fn digest(&self, address: IpAddr) -> NetworkDigest {
        let derived = hmac(&self.key, &[network_of(address).to_string().as_bytes()]);
        let mut digest = [0; 16];
        digest.copy_from_slice(&derived[..16]);
        NetworkDigest(digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_addresses_of_one_network_have_one_digest_under_one_key() {
        let networks = Networks::new(&ServerSecret::new([1; 32]));
        let digest = |address: &str| networks.digest(address.parse().unwrap());
        assert!(digest("2001:db8::1") == digest("2001:db8::2"));
        assert!(digest("::ffff:10.0.0.1") == digest("10.0.0.1"));
        assert!(digest("10.0.0.1") != digest("10.0.0.2"));
        let other = Networks::new(&ServerSecret::new([2; 32]));
        assert!(digest("10.0.0.1") != other.digest("10.0.0.1".parse().unwrap()));
    }
}
