//! Cursors as clients get them: sealed positions.
//!
//! A store's positions count what belongs to everybody, and are no business of a client's. A cursor is its position under a
//! key derived from the server's secret, bound to its list. It is the same whenever and by whichever process it is made,
//! so it serves on every process of a store and after restarts; what none of them has made opens to nothing.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};

use super::scalars::Cursor;
use crate::actors::server_secret::{ServerSecret, hmac};
use crate::domain::ids::UserId;

/// The first byte of a cursor: one of another form is refused like any other that this list has not made.
const VERSION: u8 = 1;
const NONCE_BYTES: usize = 12;
/// Contents are filled up to a multiple of this: a cursor's length says nothing about its position.
const BLOCK: usize = 32;

/// What a cursor is a position of: one of another list is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CursorKind {
    Users,
    Products,
    Orders,
    /// The orders of a customer.
    OrdersOf(UserId),
    /// The stream of all changes of a customer's orders.
    OrderChanges(UserId),
    /// The timeline of one order.
    OrderTimeline,
    DeadLetters,
    Campaigns,
    /// A user's inbox.
    Notifications(UserId),
}

impl CursorKind {
    /// Sealed with the position: the list's name, and whose it is.
    fn label(self) -> Vec<u8> {
        let (name, owner) = match self {
            Self::Users => ("users", None),
            Self::Products => ("products", None),
            Self::Orders => ("orders", None),
            Self::OrdersOf(owner) => ("orders of", Some(owner)),
            Self::OrderChanges(owner) => ("order changes", Some(owner)),
            Self::OrderTimeline => ("order timeline", None),
            Self::DeadLetters => ("dead letters", None),
            Self::Campaigns => ("campaigns", None),
            Self::Notifications(owner) => ("notifications", Some(owner)),
        };
        let mut label = name.as_bytes().to_vec();
        label.extend(owner.iter().flat_map(|owner| owner.as_bytes()));
        label
    }
}

/// The text is not a cursor of the list that it was given to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor of this list")]
pub struct BrokenCursor;

/// Seals and opens cursors; cheap to clone.
#[derive(Clone)]
pub struct Cursors {
    key: [u8; 32],
    nonce_key: [u8; 32],
}

impl Cursors {
    pub fn new(secret: &ServerSecret) -> Self {
        Self { key: secret.derive("cursors"), nonce_key: secret.derive("cursor nonces") }
    }

    fn cipher(&self) -> ChaCha20Poly1305 {
        ChaCha20Poly1305::new(&Key::from(self.key))
    }

    /// The cursor of a position in the store's own terms.
    pub fn seal(&self, kind: CursorKind, position: &str) -> Cursor {
        let mut content = position.as_bytes().to_vec();
        // The end of the position, then filling.
        content.push(1);
        content.resize(content.len().next_multiple_of(BLOCK), 0);
        let label = kind.label();
        // Derived from the content: only equal cursors have equal nonces.
        let mut nonce = [0; NONCE_BYTES];
        nonce.copy_from_slice(&hmac(&self.nonce_key, &[&label, b"\0", &content])[..NONCE_BYTES]);
        let sealed = self
            .cipher()
            .encrypt(&Nonce::from(nonce), Payload { msg: &content, aad: &label })
            .expect("encrypting a short buffer in memory cannot fail");
        Cursor(URL_SAFE_NO_PAD.encode([&[VERSION], nonce.as_slice(), &sealed].concat()))
    }

    /// The position in the store's own terms; whether it exists is the store's to say.
    pub fn open(&self, kind: CursorKind, cursor: &Cursor) -> Result<String, BrokenCursor> {
        self.opened(kind, cursor).ok_or(BrokenCursor)
    }

    fn opened(&self, kind: CursorKind, Cursor(cursor): &Cursor) -> Option<String> {
        let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
        let (nonce, sealed) = bytes.strip_prefix(&[VERSION])?.split_first_chunk::<NONCE_BYTES>()?;
        let payload = Payload { msg: sealed, aad: &kind.label() };
        let mut content = self.cipher().decrypt(&Nonce::from(*nonce), payload).ok()?;
        let end = content.iter().rposition(|byte| *byte != 0)?;
        content.truncate(end);
        String::from_utf8(content).ok()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::ids::TypedId;

    fn cursors(secret: u8) -> Cursors {
        Cursors::new(&ServerSecret::new([secret; 32]))
    }

    #[test]
    fn a_cursor_opens_where_it_was_made_and_nowhere_else() {
        let shop = cursors(1);
        for position in
            ["", "1", "MTIz", "ä position of any length, longer than a block of them, to be sure", "a\0", "\0"]
        {
            let cursor = shop.seal(CursorKind::Orders, position);
            assert_eq!(cursor, cursors(1).seal(CursorKind::Orders, position), "it is always the same");
            assert_eq!(shop.open(CursorKind::Orders, &cursor).as_deref(), Ok(position));
            assert_eq!(shop.open(CursorKind::Products, &cursor), Err(BrokenCursor), "another list");
            let of = |user: u128| CursorKind::OrdersOf(UserId::from_uuid(Uuid::from_u128(user)));
            let cursor = shop.seal(of(1), position);
            assert_eq!(shop.open(of(1), &cursor).as_deref(), Ok(position));
            for other in [of(2), CursorKind::Orders, CursorKind::OrderChanges(UserId::from_uuid(Uuid::from_u128(1)))] {
                assert_eq!(shop.open(other, &cursor), Err(BrokenCursor), "{other:?}");
            }
            let cursor = shop.seal(CursorKind::Orders, position);
            assert_eq!(cursors(2).open(CursorKind::Orders, &cursor), Err(BrokenCursor), "another shop");
        }
        for broken in ["", "?", "x", "MTIz", "cDo", "////", "_w", "cDoxMjM=", "AQ", "🦀", &"A".repeat(80)] {
            assert_eq!(shop.open(CursorKind::Orders, &Cursor(broken.into())), Err(BrokenCursor), "{broken}");
        }
    }

    #[test]
    fn a_cursor_of_another_form_and_one_that_was_changed_open_nowhere() {
        let shop = cursors(1);
        let bytes = URL_SAFE_NO_PAD.decode(shop.seal(CursorKind::Users, "12").0).unwrap();
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 2;
            let changed = Cursor(URL_SAFE_NO_PAD.encode(changed));
            assert_eq!(shop.open(CursorKind::Users, &changed), Err(BrokenCursor), "byte {place}");
        }
    }

    #[test]
    fn neighbouring_positions_have_nothing_in_common() {
        let shop = cursors(1);
        let seal = |n: u32| shop.seal(CursorKind::Orders, &n.to_string()).0;
        let sealed: Vec<_> = (1..1_000_000).step_by(99_999).map(seal).collect();
        assert!(sealed.iter().all(|cursor| cursor.len() == sealed[0].len()), "the length tells nothing");
        for (index, cursor) in sealed.iter().enumerate() {
            for other in &sealed[index + 1..] {
                let same = cursor.bytes().zip(other.bytes()).filter(|(a, b)| a == b).count();
                assert!(same < cursor.len() / 4, "{cursor} {other}");
            }
        }
    }
}
