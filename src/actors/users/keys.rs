//! The keys that sign access tokens: in the users store, encrypted where a secret is configured, or in files.
//!
//! In the store they are made at the first start, so that every process on one store accepts the others' tokens.

use std::path::{Path, PathBuf};

use chacha20poly1305::aead::{Aead, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::spki::DecodePublicKey;
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey};
use sha2::{Digest, Sha256};

use super::tokens::{KeyMaterial, kid_of};
use crate::actors::clock::now;
use crate::store::StoreError;
use crate::store::users::{StoredSigningKey, UserStore};

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
}

fn cipher(secret: &str) -> ChaCha20Poly1305 {
    // The secret is long and random by the rules of the configuration, so one hash derives the key.
    let mut hasher = Sha256::new();
    hasher.update(b"souk signing keys v1\0");
    hasher.update(secret.as_bytes());
    ChaCha20Poly1305::new(&Key::from(<[u8; 32]>::from(hasher.finalize())))
}

fn seal(pkcs8: &[u8], secret: &str) -> Vec<u8> {
    let nonce: [u8; NONCE_BYTES] = rand::random();
    let sealed =
        cipher(secret).encrypt(&Nonce::from(nonce), pkcs8).expect("encrypting a short buffer in memory cannot fail");
    [nonce.as_slice(), &sealed].concat()
}

fn open(key: &StoredSigningKey, secret: &str) -> Result<Vec<u8>, KeyError> {
    let wrong_secret = || KeyError::WrongSecret { kid: key.kid.clone() };
    let (nonce, sealed) = key.private_key.split_at_checked(NONCE_BYTES).ok_or_else(wrong_secret)?;
    let nonce: [u8; NONCE_BYTES] = nonce.try_into().map_err(|_| wrong_secret())?;
    cipher(secret).decrypt(&Nonce::from(nonce), sealed).map_err(|_| wrong_secret())
}

/// The store's keys, newest first; the first one is made when there is none. An empty `secret` stores them as they are.
pub async fn stored_keys(store: &dyn UserStore, secret: &str) -> Result<Vec<KeyMaterial>, KeyError> {
    let mut stored = store.signing_keys().await?;
    if stored.is_empty() {
        let signing_key = SigningKey::from_bytes(&rand::random());
        let document = signing_key.to_pkcs8_der().expect("an Ed25519 key always has a PKCS#8 form");
        let encrypted = !secret.is_empty();
        let private_key = if encrypted { seal(document.as_bytes(), secret) } else { document.as_bytes().to_vec() };
        let kid = kid_of(&signing_key.verifying_key());
        // Of several processes that start at once one wins; all go on with its key.
        stored = store.ensure_signing_key(StoredSigningKey { kid, private_key, encrypted, created_at: now() }).await?;
    }
    stored
        .iter()
        .map(|key| {
            let pkcs8 = match (key.encrypted, secret.is_empty()) {
                (true, true) => return Err(KeyError::SecretMissing { kid: key.kid.clone() }),
                (true, false) => open(key, secret)?,
                (false, _) => key.private_key.clone(),
            };
            let invalid =
                |reason: &dyn ToString| KeyError::Invalid { kid: key.kid.clone(), reason: reason.to_string() };
            let signing = SigningKey::from_pkcs8_der(&pkcs8).map_err(|error| invalid(&error))?;
            Ok(KeyMaterial::signing(key.kid.clone(), signing))
        })
        .collect()
}

/// The key of a PKCS#8 PEM file, then the public keys (SPKI PEM) whose tokens are still accepted.
pub fn file_keys(signing: &Path, verification: &[PathBuf]) -> Result<Vec<KeyMaterial>, KeyError> {
    let failed =
        |path: &Path, reason: &dyn ToString| KeyError::File { path: path.to_owned(), reason: reason.to_string() };
    let read = |path: &Path| std::fs::read_to_string(path).map_err(|error| failed(path, &error));
    let key = SigningKey::from_pkcs8_pem(&read(signing)?).map_err(|error| failed(signing, &error))?;
    let mut keys = vec![KeyMaterial::signing(kid_of(&key.verifying_key()), key)];
    for path in verification {
        let public =
            ed25519_dalek::VerifyingKey::from_public_key_pem(&read(path)?).map_err(|error| failed(path, &error))?;
        keys.push(KeyMaterial::verifying(kid_of(&public), public));
    }
    Ok(keys)
}
