//! `souk keys`: what there is of signing keys, and a new one, straight in the users store.

use super::{AppError, stores, tree};
use crate::actors::clock::now;
use crate::actors::users::key_ring::{KeyId, KeyMaterial};
use crate::actors::users::keys::{file_keys, present_keys, rotate};
use crate::actors::users::tokens::LEEWAY_SECONDS;
use crate::config::{AuthConfig, Config};
use crate::domain::signing_keys::{KeyState, KeyTerm, Rotation, states};

/// How often every process has read the keys anew by the time that a new one signs.
const READ_BEFORE_SIGNING: i64 = 3;

/// A signing key as an operator sees it.
pub struct KeyView {
    pub id: KeyId,
    pub state: KeyState,
    pub term: KeyTerm,
}

fn view(keys: &[KeyMaterial]) -> Vec<KeyView> {
    let terms: Vec<KeyTerm> = keys.iter().map(|key| key.term).collect();
    let seen = keys.iter().zip(states(&terms, now()));
    seen.map(|(key, state)| KeyView { id: key.id, state, term: key.term }).collect()
}

/// Those that the configuration names, newest first.
pub async fn signing_keys(config: &Config) -> Result<Vec<KeyView>, AppError> {
    let auth = &config.auth;
    let keys = if auth.has_key_files() {
        file_keys(&auth.signing_key_file, &auth.verification_key_files)
    } else {
        let users = stores::open_users(config).await?;
        present_keys(users.as_ref(), auth.key_secret.expose()).await
    };
    Ok(view(&keys.map_err(tree::key_failed)?))
}

/// Announces a new key and answers all, newest first. Those before it are accepted for `overlap_seconds` after it has begun to
/// sign, or until the last of their tokens has expired.
pub async fn rotate_keys(config: &Config, overlap_seconds: Option<u32>) -> Result<Vec<KeyView>, AppError> {
    let auth = &config.auth;
    if auth.has_key_files() {
        let how = "auth.signing_key_file is set, so the keys are files: add the new key's public half to \
                   auth.verification_key_files of every process and restart them, then do the same with the new key as \
                   auth.signing_key_file and the old one's public half";
        return Err(AppError::usage(how));
    }
    let users = stores::open_users(config).await?;
    let rotation = rotation(auth, overlap_seconds);
    let keys = rotate(users.as_ref(), auth.key_secret.expose(), rotation).await.map_err(tree::key_failed)?;
    Ok(view(&keys))
}

fn rotation(auth: &AuthConfig, overlap_seconds: Option<u32>) -> Rotation {
    // Signed by a clock that is behind, checked by one that is ahead.
    let until_expiry = auth.access_token_seconds + 2 * LEEWAY_SECONDS;
    let overlap = overlap_seconds.map_or(until_expiry, u64::from);
    let millis = |amount: u64| i64::try_from(amount).unwrap_or(i64::MAX);
    Rotation {
        at: now(),
        announced_ms: READ_BEFORE_SIGNING * millis(auth.key_refresh_ms),
        overlap_ms: millis(overlap).saturating_mul(1_000),
    }
}
