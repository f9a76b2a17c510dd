//! Cursors as clients get them: a store's positions count the rows of all customers, so they go out sealed.
//!
//! A cursor is its position under a key derived from the server's secret, bound to its list. It is the same whenever and
//! by whichever process it is made, so it serves on every process of a store and after restarts; what none of them has made
//! opens to nothing.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};

use super::errors::DomainError;
use super::server_secret::{ServerSecret, hmac};
use crate::domain::page::{Page, PageRequest};

const NONCE_BYTES: usize = 12;
/// Contents are filled up to a multiple of this: a cursor's length says nothing about its position.
const BLOCK: usize = 32;

/// Seals and opens the cursors of one list; cheap to clone.
#[derive(Clone)]
pub struct SealedCursors {
    list: &'static str,
    key: [u8; 32],
    nonce_key: [u8; 32],
}

impl SealedCursors {
    /// `list` names the list or stream: its cursors open nowhere else.
    pub fn of(list: &'static str, secret: &ServerSecret) -> Self {
        Self { list, key: secret.derive("cursors"), nonce_key: secret.derive("cursor nonces") }
    }

    fn cipher(&self) -> ChaCha20Poly1305 {
        ChaCha20Poly1305::new(&Key::from(self.key))
    }

    /// A store's position as a client gets it.
    pub fn seal(&self, position: &str) -> String {
        let mut content = position.as_bytes().to_vec();
        // The end of the position, then filling.
        content.push(1);
        content.resize(content.len().next_multiple_of(BLOCK), 0);
        // Derived from the content: only equal cursors have equal nonces.
        let mut nonce = [0; NONCE_BYTES];
        nonce.copy_from_slice(&hmac(&self.nonce_key, &[self.list.as_bytes(), b"\0", &content])[..NONCE_BYTES]);
        let sealed = self
            .cipher()
            .encrypt(&Nonce::from(nonce), Payload { msg: &content, aad: self.list.as_bytes() })
            .expect("encrypting a short buffer in memory cannot fail");
        URL_SAFE_NO_PAD.encode([nonce.as_slice(), &sealed].concat())
    }

    /// The store's position in a client's cursor. `None`: no process of this shop has made it for this list.
    pub fn open(&self, cursor: &str) -> Option<String> {
        let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_BYTES>()?;
        let payload = Payload { msg: sealed, aad: self.list.as_bytes() };
        let mut content = self.cipher().decrypt(&Nonce::from(*nonce), payload).ok()?;
        let end = content.iter().rposition(|byte| *byte != 0)?;
        content.truncate(end);
        String::from_utf8(content).ok()
    }

    /// What the store is asked for. Refusal: InvalidInput (`after`).
    pub fn open_request(&self, page: PageRequest) -> Result<PageRequest, DomainError> {
        let after = match page.after {
            None => None,
            Some(cursor) => {
                let position = self.open(&cursor);
                Some(position.ok_or_else(|| DomainError::invalid("after", "not a cursor of this list"))?)
            }
        };
        Ok(PageRequest { first: page.first, after })
    }

    /// The store's page as a client gets it.
    pub fn seal_page<T>(&self, page: Page<T>) -> Page<T> {
        let entries = page.entries.into_iter().map(|(position, entry)| (self.seal(&position), entry)).collect();
        Page { entries, ..page }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursors(list: &'static str, secret: u8) -> SealedCursors {
        SealedCursors::of(list, &ServerSecret::new([secret; 32]))
    }

    #[test]
    fn a_cursor_opens_where_it_was_made_and_nowhere_else() {
        let orders = cursors("orders", 1);
        for position in
            ["", "1", "MTIz", "ä position of any length, longer than a block of them, to be sure", "a\0", "\0"]
        {
            let cursor = orders.seal(position);
            assert_eq!(cursor, cursors("orders", 1).seal(position), "it is always the same");
            assert_eq!(orders.open(&cursor).as_deref(), Some(position));
            assert_eq!(cursors("changes", 1).open(&cursor), None, "another list");
            assert_eq!(cursors("orders", 2).open(&cursor), None, "another shop");
        }
        for broken in ["", "x", "MTIz", "🦀", &"A".repeat(80)] {
            assert_eq!(orders.open(broken), None);
        }
        let page = PageRequest { first: 3, after: Some("MTIz".into()) };
        assert!(matches!(orders.open_request(page), Err(DomainError::InvalidInput { .. })));
    }

    #[test]
    fn neighbouring_positions_have_nothing_in_common() {
        let orders = cursors("orders", 1);
        let sealed: Vec<_> = (1..1_000_000).step_by(99_999).map(|n: u32| orders.seal(&n.to_string())).collect();
        assert!(sealed.iter().all(|cursor| cursor.len() == sealed[0].len()), "the length tells nothing");
        for (index, cursor) in sealed.iter().enumerate() {
            for other in &sealed[index + 1..] {
                let same = cursor.bytes().zip(other.bytes()).filter(|(a, b)| a == b).count();
                assert!(same < cursor.len() / 4, "{cursor} {other}");
            }
        }
    }
}
