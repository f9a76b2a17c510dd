//! Tokens in the links of mails, derived from the server's secret: no process keeps one, each derives the same.
//!
//! A request's token is the HMAC of its purpose and id. An unsubscribe token seals whom and what it is about with the
//! day on which it expires: nothing in it can be read, and the store keeps nothing of it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};

use super::token_hash;
use crate::actors::server_secret::{ServerSecret, hmac};
use crate::domain::ids::{MailRequestId, UserId};
use crate::domain::mail_requests::{MailRequest, MailRequestKind};
use crate::domain::time::Timestamp;
use crate::domain::users::Subscription;

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;
/// An unsubscribe link serves at least so long: mails are read late.
const UNSUBSCRIBE_DAYS: i64 = 90;

const TOKEN_BYTES: usize = 16;
const NONCE_BYTES: usize = 12;
/// Of the subscription, the day of expiry and the user.
const SEALED_BYTES: usize = 1 + 4 + 16;

/// Derives and reads the tokens; cheap to clone.
#[derive(Clone)]
pub struct MailTokens {
    request_key: [u8; 32],
    sealing_key: [u8; 32],
    nonce_key: [u8; 32],
}

impl MailTokens {
    pub fn new(secret: &ServerSecret) -> Self {
        Self {
            request_key: secret.derive("mail requests"),
            sealing_key: secret.derive("unsubscribe"),
            nonce_key: secret.derive("unsubscribe nonces"),
        }
    }

    /// The token of a request: 128 bits, so that its link is short enough for one line.
    pub fn of_request(&self, kind: MailRequestKind, id: MailRequestId) -> String {
        let derived = hmac(&self.request_key, &[kind.as_str().as_bytes(), b"\0", id.as_bytes()]);
        URL_SAFE_NO_PAD.encode(&derived[..TOKEN_BYTES])
    }

    /// A request that begins now, with the hash of its token.
    pub fn request(&self, kind: MailRequestKind, id: MailRequestId, user_id: UserId, at: Timestamp) -> MailRequest {
        MailRequest::new(id, user_id, kind, token_hash(&self.of_request(kind, id)), at)
    }

    fn cipher(&self) -> ChaCha20Poly1305 {
        ChaCha20Poly1305::new(&Key::from(self.sealing_key))
    }

    /// A token that ends one subscription of one user; those of one day are the same.
    pub fn unsubscribe(&self, user: UserId, subscription: Subscription, now: Timestamp) -> String {
        let expiry_day = now.0.div_euclid(DAY_MS) + UNSUBSCRIBE_DAYS + 1;
        let expiry_day = u32::try_from(expiry_day).unwrap_or(u32::MAX);
        let mut content = vec![number_of(subscription)];
        content.extend(expiry_day.to_be_bytes());
        content.extend(user.as_bytes());
        // Derived from the content: only equal contents have equal nonces, and those give equal tokens.
        let mut nonce = [0; NONCE_BYTES];
        nonce.copy_from_slice(&hmac(&self.nonce_key, &[&content])[..NONCE_BYTES]);
        let sealed = self
            .cipher()
            .encrypt(&Nonce::from(nonce), Payload::from(content.as_slice()))
            .expect("encrypting a short buffer in memory cannot fail");
        URL_SAFE_NO_PAD.encode([nonce.as_slice(), &sealed].concat())
    }

    /// Whom and what an unsubscribe token is about, if it is one of ours and in its time.
    pub fn open_unsubscribe(&self, token: &str, now: Timestamp) -> Option<(UserId, Subscription)> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_BYTES>()?;
        let content = self.cipher().decrypt(&Nonce::from(*nonce), Payload::from(sealed)).ok()?;
        let content: [u8; SEALED_BYTES] = content.try_into().ok()?;
        let (head, user) = content.split_first_chunk::<5>()?;
        let [number, day @ ..] = *head;
        let subscription = Subscription::ALL.into_iter().find(|subscription| number_of(*subscription) == number)?;
        let expires_at = i64::from(u32::from_be_bytes(day)) * DAY_MS;
        (now.0 < expires_at).then_some((UserId::from_bytes(user.try_into().ok()?), subscription))
    }
}

/// As it stands in tokens that were sent: never changes.
fn number_of(subscription: Subscription) -> u8 {
    match subscription {
        Subscription::OrderUpdates => 1,
        Subscription::Promotions => 2,
        Subscription::Recommendations => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::TypedId;
    use std::collections::HashSet;
    use uuid::Uuid;

    fn tokens() -> MailTokens {
        MailTokens::new(&ServerSecret::new([7; 32]))
    }

    fn user(n: u128) -> UserId {
        UserId::from_uuid(Uuid::from_u128(n))
    }

    #[test]
    fn a_request_has_one_token_however_often_it_is_derived() {
        let id = MailRequestId::from_uuid(Uuid::from_u128(5));
        let other_id = MailRequestId::from_uuid(Uuid::from_u128(6));
        let token = tokens().of_request(MailRequestKind::PasswordReset, id);
        assert_eq!(tokens().of_request(MailRequestKind::PasswordReset, id), token);
        let different = HashSet::from([
            token.clone(),
            tokens().of_request(MailRequestKind::Verification, id),
            tokens().of_request(MailRequestKind::PasswordReset, other_id),
            MailTokens::new(&ServerSecret::new([8; 32])).of_request(MailRequestKind::PasswordReset, id),
        ]);
        assert_eq!(different.len(), 4);
        assert_eq!(URL_SAFE_NO_PAD.decode(&token).unwrap().len(), TOKEN_BYTES);
    }

    #[test]
    fn an_unsubscribe_token_says_whom_and_what_it_is_about_until_it_expires() {
        let now = Timestamp(20_000 * DAY_MS + 5);
        for subscription in Subscription::ALL {
            let token = tokens().unsubscribe(user(1), subscription, now);
            assert_eq!(tokens().open_unsubscribe(&token, now), Some((user(1), subscription)));
            let last = now.plus_millis(UNSUBSCRIBE_DAYS * DAY_MS);
            assert!(tokens().open_unsubscribe(&token, last).is_some());
            assert_eq!(tokens().open_unsubscribe(&token, last.plus_millis(DAY_MS)), None);
            assert_eq!(
                MailTokens::new(&ServerSecret::new([8; 32])).open_unsubscribe(&token, now),
                None,
                "another secret"
            );
        }
    }

    #[test]
    fn an_unsubscribe_token_hides_the_user_and_cannot_be_changed() {
        let now = Timestamp(20_000 * DAY_MS);
        let token = tokens().unsubscribe(user(0x4141_4141_4141_4141), Subscription::Promotions, now);
        let bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
        assert!(!bytes.windows(4).any(|window| window == b"AAAA"));
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_eq!(tokens().open_unsubscribe(&URL_SAFE_NO_PAD.encode(changed), now), None, "byte {at}");
        }
        for broken in ["", "x", "🦀", &token[1..], &"A".repeat(100_000)] {
            assert_eq!(tokens().open_unsubscribe(broken, now), None);
        }
    }
}
