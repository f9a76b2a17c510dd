//! Cursors: the sort position of an entry, so that rows that come and go do not move it. Opaque outside the adapters.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::StoreError;
use crate::domain::page::{Page, PageRequest};

/// The text is no position that [`encode`] made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InvalidCursor;

impl From<InvalidCursor> for StoreError {
    fn from(InvalidCursor: InvalidCursor) -> Self {
        Self::InvalidCursor
    }
}

/// A position as text.
pub(super) fn encode(position: &impl Serialize) -> String {
    let json = serde_json::to_vec(position).expect("positions are plain data: nothing in them can fail to serialise");
    URL_SAFE_NO_PAD.encode(json)
}

/// The position that [`encode`] made this text of.
pub(super) fn decode<P: DeserializeOwned>(cursor: &str) -> Result<P, InvalidCursor> {
    let json = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| InvalidCursor)?;
    serde_json::from_slice(&json).map_err(|_| InvalidCursor)
}

/// The page of entries that were read up to one past its end.
pub(super) fn page<T>(mut entries: Vec<(String, T)>, request: &PageRequest, total: i64) -> Page<T> {
    let first = request.first as usize;
    let has_next = entries.len() > first;
    entries.truncate(first);
    Page { entries, has_next, has_previous: request.after.is_some(), total: total.unsigned_abs() }
}
