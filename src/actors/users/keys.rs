//! The keys that sign access tokens and the server's secret: in the users store, encrypted
//! where a secret is configured. Signing keys may be in files instead.
//!
//! In the store they are made at the first start, so that every process on one store accepts the others' tokens, and every
//! process reads them again and again: a rotation reaches all of them without a restart.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chacha20poly1305::aead::{Aead, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::spki::DecodePublicKey;
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey};
use sha2::{Digest, Sha256};

use super::key_ring::{KeyId, KeyMaterial, KeyRing, NoSigningKey};
use crate::actors::clock::now;
use crate::actors::server_secret::ServerSecret;
use crate::config::Secret;
use crate::domain::signing_keys::{KeyTerm, Rotation};
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::users::{StoredSecret, StoredSigningKey, UserStore};

const NONCE_BYTES: usize = 12;

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("signing key {kid} is encrypted under another auth.key_secret than the configured one")]
    WrongSecret { kid: String },
    #[error("signing key {kid} in the users store is encrypted: set auth.key_secret")]
    SecretMissing { kid: String },
    #[error("{path}: {reason}")]
    File { path: PathBuf, reason: String },
    #[error("signing key {kid}: {reason}")]
    Invalid { kid: String, reason: String },
    #[error(transparent)]
    NoKey(#[from] NoSigningKey),
    #[error("the server's secret is encrypted under another auth.key_secret than the configured one")]
    WrongSecretOfServer,
    #[error("the server's secret in the users store is encrypted: set auth.key_secret")]
    SecretOfServerMissing,
}

/// What is stored encrypted, each under a key of its own.
#[derive(Clone, Copy)]
enum Purpose {
    SigningKeys,
    ServerSecret,
}

impl Purpose {
    fn label(self) -> &'static [u8] {
        match self {
            Self::SigningKeys => b"souk signing keys v1\0",
            Self::ServerSecret => b"souk server secret v1\0",
        }
    }
}

fn cipher(purpose: Purpose, secret: &str) -> ChaCha20Poly1305 {
    // The secret is long and random by the rules of the configuration, so one hash derives the key.
    let mut hasher = Sha256::new();
    hasher.update(purpose.label());
    hasher.update(secret.as_bytes());
    ChaCha20Poly1305::new(&Key::from(<[u8; 32]>::from(hasher.finalize())))
}

fn seal(purpose: Purpose, content: &[u8], secret: &str) -> Vec<u8> {
    let nonce: [u8; NONCE_BYTES] = rand::random();
    let sealed = cipher(purpose, secret)
        .encrypt(&Nonce::from(nonce), content)
        .expect("encrypting a short buffer in memory cannot fail");
    [nonce.as_slice(), &sealed].concat()
}

/// `None`: sealed under another secret.
fn open(purpose: Purpose, sealed: &[u8], secret: &str) -> Option<Vec<u8>> {
    let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>()?;
    cipher(purpose, secret).decrypt(&Nonce::from(*nonce), sealed).ok()
}

/// A new key as it is stored; an empty `secret` stores it as it is.
fn new_key(secret: &str, created_at: Timestamp, term: KeyTerm) -> StoredSigningKey {
    let signing_key = SigningKey::from_bytes(&rand::random());
    let document = signing_key.to_pkcs8_der().expect("an Ed25519 key always has a PKCS#8 form");
    let encrypted = !secret.is_empty();
    let private_key =
        if encrypted { seal(Purpose::SigningKeys, document.as_bytes(), secret) } else { document.as_bytes().to_vec() };
    let kid = KeyId::of(&signing_key.verifying_key()).to_string();
    StoredSigningKey { kid, private_key, encrypted, created_at, term }
}

fn opened(key: &StoredSigningKey, secret: &str) -> Result<KeyMaterial, KeyError> {
    let kid = || key.kid.clone();
    let pkcs8 = match (key.encrypted, secret.is_empty()) {
        (true, true) => return Err(KeyError::SecretMissing { kid: kid() }),
        (true, false) => {
            open(Purpose::SigningKeys, &key.private_key, secret).ok_or_else(|| KeyError::WrongSecret { kid: kid() })?
        }
        (false, _) => key.private_key.clone(),
    };
    let signing = SigningKey::from_pkcs8_der(&pkcs8)
        .map_err(|error| KeyError::Invalid { kid: kid(), reason: error.to_string() })?;
    Ok(KeyMaterial::signing(signing, key.term))
}

/// The keys that the store has, newest first; none is made.
pub async fn present_keys(store: &dyn UserStore, secret: &str) -> Result<Vec<KeyMaterial>, KeyError> {
    store.signing_keys().await?.iter().map(|key| opened(key, secret)).collect()
}

/// The store's keys, newest first; the first one is made when there is none. An empty `secret` stores it as it is.
pub async fn stored_keys(store: &dyn UserStore, secret: &str) -> Result<Vec<KeyMaterial>, KeyError> {
    let mut stored = store.signing_keys().await?;
    if stored.is_empty() {
        let at = now();
        // Of several processes that start at once one wins; all go on with its key.
        let first = new_key(secret, at, KeyTerm { signs_from: at, accepted_until: None });
        stored = store.ensure_signing_key(first).await?;
    }
    stored.iter().map(|key| opened(key, secret)).collect()
}

/// Whether `secret` opens all that is stored; makes nothing. Returns the number of signing keys.
pub async fn check_secret(store: &dyn UserStore, secret: &str) -> Result<usize, KeyError> {
    let keys = present_keys(store, secret).await?;
    if let Some(stored) = store.server_secret().await? {
        opened_server_secret(stored, secret)?;
    }
    Ok(keys.len())
}

/// Seals under `secret` what was stored before there was one; nothing when it is empty. An error, and nothing sealed, when
/// something is sealed already under another one.
pub async fn seal_plain(store: &dyn UserStore, secret: &str) -> Result<(), KeyError> {
    if secret.is_empty() {
        return Ok(());
    }
    check_secret(store, secret).await?;
    let plain = store.signing_keys().await?.into_iter().filter(|key| !key.encrypted);
    let keys: Vec<_> = plain.map(|key| (key.kid, seal(Purpose::SigningKeys, &key.private_key, secret))).collect();
    let server = store.server_secret().await?.filter(|stored| !stored.encrypted);
    let server = server.map(|stored| seal(Purpose::ServerSecret, &stored.secret, secret));
    // Of several processes that start at once one does it; what it sealed under, the others find out as they open it.
    if (!keys.is_empty() || server.is_some()) && store.seal_secrets(keys, server).await? {
        tracing::info!("secrets that were stored without auth.key_secret are sealed under it now");
    }
    Ok(())
}

/// Adds a key to those of the store and ends the others; returns all, newest first.
pub async fn rotate(store: &dyn UserStore, secret: &str, rotation: Rotation) -> Result<Vec<KeyMaterial>, KeyError> {
    // By another secret than that of the keys which are there no process could read the new one.
    stored_keys(store, secret).await?;
    let new = new_key(secret, rotation.at, rotation.term());
    let stored = store.rotate_signing_key(new, rotation.others_end()).await?;
    stored.iter().map(|key| opened(key, secret)).collect()
}

/// How a process follows the keys of the store.
#[derive(Clone)]
pub struct FollowedKeys {
    pub secret: Secret,
    /// How often they are read.
    pub every: Duration,
}

impl FollowedKeys {
    /// Has a ring hold what is stored now. False: that is what it held.
    pub async fn read_into(&self, ring: &KeyRing, store: &dyn UserStore) -> Result<bool, KeyError> {
        Ok(ring.replace(&stored_keys(store, self.secret.expose()).await?)?)
    }
}

/// The server's secret; it is made when there is none. An empty `secret` stores it as it is.
pub async fn stored_server_secret(store: &dyn UserStore, secret: &str) -> Result<ServerSecret, KeyError> {
    let stored = match store.server_secret().await? {
        Some(stored) => stored,
        None => {
            let made: [u8; 32] = rand::random();
            let encrypted = !secret.is_empty();
            let sealed = if encrypted { seal(Purpose::ServerSecret, &made, secret) } else { made.to_vec() };
            // Of several processes that start at once one wins; all go on with its secret.
            store.ensure_server_secret(StoredSecret { secret: sealed, encrypted, created_at: now() }).await?
        }
    };
    opened_server_secret(stored, secret)
}

fn opened_server_secret(stored: StoredSecret, secret: &str) -> Result<ServerSecret, KeyError> {
    let opened = match (stored.encrypted, secret.is_empty()) {
        (true, true) => return Err(KeyError::SecretOfServerMissing),
        (true, false) => open(Purpose::ServerSecret, &stored.secret, secret).ok_or(KeyError::WrongSecretOfServer)?,
        (false, _) => stored.secret,
    };
    let opened: [u8; 32] =
        opened.try_into().map_err(|_| StoreError::Broken("the server's secret has another length".into()))?;
    Ok(ServerSecret::new(opened))
}

/// The key of a PKCS#8 PEM file, then the public keys (SPKI PEM) whose tokens are still accepted.
pub fn file_keys(signing: &Path, verification: &[PathBuf]) -> Result<Vec<KeyMaterial>, KeyError> {
    let failed =
        |path: &Path, reason: &dyn ToString| KeyError::File { path: path.to_owned(), reason: reason.to_string() };
    let read = |path: &Path| std::fs::read_to_string(path).map_err(|error| failed(path, &error));
    let key = SigningKey::from_pkcs8_pem(&read(signing)?).map_err(|error| failed(signing, &error))?;
    let mut keys = vec![KeyMaterial::signing(key, KeyTerm::ENDLESS)];
    for path in verification {
        let public =
            ed25519_dalek::VerifyingKey::from_public_key_pem(&read(path)?).map_err(|error| failed(path, &error))?;
        keys.push(KeyMaterial::verifying(public));
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_under_its_own_secret_and_purpose_only() {
        let sealed = seal(Purpose::ServerSecret, b"content", "one secret");
        assert_eq!(open(Purpose::ServerSecret, &sealed, "one secret").as_deref(), Some(b"content".as_slice()));
        assert_eq!(open(Purpose::ServerSecret, &sealed, "another"), None);
        assert_eq!(open(Purpose::SigningKeys, &sealed, "one secret"), None);
        assert_eq!(open(Purpose::ServerSecret, &sealed[..5], "one secret"), None);
    }
}
