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

/// The page of entries that were read up to one past its end. One that is the whole list counts itself: the total may be of
/// another moment, and the list have changed in between.
pub(super) fn page<T>(mut entries: Vec<(String, T)>, request: &PageRequest, total: i64) -> Page<T> {
    let first = request.first as usize;
    let (has_next, has_previous) = (entries.len() > first, request.after.is_some());
    entries.truncate(first);
    let total = if has_next || has_previous { total.unsigned_abs() } else { entries.len() as u64 };
    Page { entries, has_next, has_previous, total }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_is_the_whole_list_counts_itself() {
        let of = |count: usize, after: Option<&str>, total: i64| {
            let entries = (0..count).map(|number| (number.to_string(), number)).collect();
            page(entries, &PageRequest { first: 2, after: after.map(str::to_owned) }, total)
        };
        for total in [0, 1, 9] {
            assert_eq!((of(0, None, total).total, of(2, None, total).total), (0, 2));
        }
        let cut = of(3, None, 9);
        assert_eq!((cut.entries.len(), cut.has_next, cut.total), (2, true, 9));
        assert_eq!(of(1, Some("7"), 9).total, 9);
    }
}
