//! Pages of a list, as Relay connections need them.

/// What part of a list is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRequest {
    /// 1 to 100.
    pub first: u32,
    /// The position after which the page starts, in the store's own terms.
    pub after: Option<String>,
}

/// The number of entries a page has when the client names none.
pub const DEFAULT_PAGE_SIZE: u32 = 20;
/// The most entries a page may have.
pub const MAX_PAGE_SIZE: u32 = 100;

impl PageRequest {
    pub fn first(first: u32) -> Self {
        Self { first, after: None }
    }
}

/// A part of a list with what the connection says about the whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// Each entry with its cursor: a position that stays valid while rows come and go.
    pub entries: Vec<(String, T)>,
    pub has_next: bool,
    /// True when the page was asked for with `after`.
    pub has_previous: bool,
    /// Entries of the whole list under the same filter.
    pub total: u64,
}

impl<T> Page<T> {
    pub fn map<U>(self, mut change: impl FnMut(T) -> U) -> Page<U> {
        Page {
            entries: self.entries.into_iter().map(|(cursor, entry)| (cursor, change(entry))).collect(),
            has_next: self.has_next,
            has_previous: self.has_previous,
            total: self.total,
        }
    }
}
