//! Cursors: the sort position of an entry, so that rows that come and go do not move it. Opaque outside this adapter.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::failure::Failure;
use crate::domain::page::{Page, PageRequest};

/// A position as text.
pub(super) fn encode(position: &impl Serialize) -> String {
    let json = serde_json::to_vec(position).expect("positions are plain data: nothing in them can fail to serialise");
    URL_SAFE_NO_PAD.encode(json)
}

/// The position that [`encode`] made this text of.
pub(super) fn decode<P: DeserializeOwned>(cursor: &str) -> Result<P, Failure> {
    let json = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| Failure::InvalidCursor)?;
    serde_json::from_slice(&json).map_err(|_| Failure::InvalidCursor)
}

/// The page of entries that were read up to one past its end.
pub(super) fn page<T>(mut entries: Vec<(String, T)>, request: &PageRequest, total: i64) -> Page<T> {
    let first = request.first as usize;
    let has_next = entries.len() > first;
    entries.truncate(first);
    Page { entries, has_next, has_previous: request.after.is_some(), total: total.unsigned_abs() }
}
