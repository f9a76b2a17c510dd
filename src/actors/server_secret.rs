//! The server's secret, from which keys are derived that every process of a shop has: of tokens in mails and of cursors.
//!
//! It lives in the users store; `users::keys` reads or makes it.

use hmac::{Hmac, Mac};
use sha2::Sha256;

/// 256 random bits: never printed, never logged.
#[derive(Clone)]
pub struct ServerSecret([u8; 32]);

impl ServerSecret {
    pub fn new(secret: [u8; 32]) -> Self {
        Self(secret)
    }

    /// A key for one purpose.
    pub fn derive(&self, purpose: &str) -> [u8; 32] {
        hmac(&self.0, &[b"souk v1\0", purpose.as_bytes()])
    }
}

/// HMAC-SHA256 over the parts as one text: what varies in length is told apart by the caller.
pub fn hmac(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(key).expect("HMAC takes keys of every length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}
