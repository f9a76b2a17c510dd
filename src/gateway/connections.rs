//! Relay connections: pages of a list with a stable cursor for each entry.

use std::borrow::Cow;

use async_graphql::{Context, Error, Object, OutputType, TypeName};

use super::context::Shop;
use super::cursors::CursorKind;
use super::errors::bad_input;
use super::scalars::Cursor;
use crate::domain::page::{DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE, Page, PageRequest};

/// Where a page lies in its list.
#[derive(Clone)]
pub struct PageInfo {
    kind: CursorKind,
    has_next: bool,
    has_previous: bool,
    /// Of the first entry and the last.
    ends: Option<(String, String)>,
}

/// Where a page lies in its list.
#[Object]
impl PageInfo {
    /// True when entries follow this page.
    async fn has_next_page(&self) -> bool {
        self.has_next
    }

    /// True when entries may come before this page: it was asked for with `after`.
    async fn has_previous_page(&self) -> bool {
        self.has_previous
    }

    /// The cursor of the page's first entry.
    async fn start_cursor(&self, ctx: &Context<'_>) -> Result<Option<Cursor>, Error> {
        self.ends.as_ref().map(|(first, _)| sealed(ctx, self.kind, first)).transpose()
    }

    /// The cursor of the page's last entry: give it as `after` for the next page.
    async fn end_cursor(&self, ctx: &Context<'_>) -> Result<Option<Cursor>, Error> {
        self.ends.as_ref().map(|(_, last)| sealed(ctx, self.kind, last)).transpose()
    }
}

/// Only where it is asked for: a page's other answers do not pay for it.
fn sealed(ctx: &Context<'_>, kind: CursorKind, position: &str) -> Result<Cursor, Error> {
    Ok(ctx.data::<Shop>()?.cursors.seal(kind, position))
}

/// An entry of a list with its position.
pub struct Edge<T: OutputType> {
    kind: CursorKind,
    position: String,
    node: T,
}

/// An entry of a list with its position.
#[Object(name_type)]
impl<T: OutputType> Edge<T> {
    /// The position of this entry.
    async fn cursor(&self, ctx: &Context<'_>) -> Result<Cursor, Error> {
        sealed(ctx, self.kind, &self.position)
    }

    /// The entry.
    async fn node(&self) -> &T {
        &self.node
    }
}

impl<T: OutputType> Edge<T> {
    pub fn entry(&self) -> &T {
        &self.node
    }
}

impl<T: OutputType> TypeName for Edge<T> {
    fn type_name() -> Cow<'static, str> {
        format!("{}Edge", T::type_name()).into()
    }
}

/// A page of a list.
pub struct Connection<T: OutputType> {
    edges: Vec<Edge<T>>,
    page_info: PageInfo,
    total_count: i32,
}

impl<T: OutputType> TypeName for Connection<T> {
    fn type_name() -> Cow<'static, str> {
        format!("{}Connection", T::type_name()).into()
    }
}

impl<T: OutputType> Connection<T> {
    /// The page as the API shows it.
    pub fn of<D>(page: Page<D>, kind: CursorKind, mut node: impl FnMut(D) -> T) -> Self {
        let edges: Vec<_> =
            page.entries.into_iter().map(|(position, entry)| Edge { kind, position, node: node(entry) }).collect();
        let position = |edge: &Edge<T>| edge.position.clone();
        let page_info = PageInfo {
            kind,
            has_next: page.has_next,
            has_previous: page.has_previous,
            ends: edges.first().map(position).zip(edges.last().map(position)),
        };
        Self { edges, page_info, total_count: i32::try_from(page.total).unwrap_or(i32::MAX) }
    }

    /// A list without entries.
    pub fn empty(kind: CursorKind) -> Self {
        let page_info = PageInfo { kind, has_next: false, has_previous: false, ends: None };
        Self { edges: Vec::new(), page_info, total_count: 0 }
    }
}

/// For connections that say more than this one.
impl<T: OutputType> Connection<T> {
    pub fn entries(&self) -> &[Edge<T>] {
        &self.edges
    }

    pub fn place(&self) -> &PageInfo {
        &self.page_info
    }

    pub fn total(&self) -> i32 {
        self.total_count
    }
}

/// A page of a list.
#[Object(name_type)]
impl<T: OutputType> Connection<T> {
    /// The entries of this page with their cursors.
    async fn edges(&self) -> &[Edge<T>] {
        &self.edges
    }

    /// The entries of this page.
    async fn nodes(&self) -> Vec<&T> {
        self.edges.iter().map(|edge| &edge.node).collect()
    }

    /// Where this page lies in the list.
    async fn page_info(&self) -> &PageInfo {
        &self.page_info
    }

    /// The number of entries of the whole list.
    async fn total_count(&self) -> i32 {
        self.total_count
    }
}

/// How many entries are asked for; what is outside 1 to 100 is BAD_USER_INPUT.
pub fn page_size(first: Option<i32>) -> Result<u32, Error> {
    match first {
        None => Ok(DEFAULT_PAGE_SIZE),
        Some(first) => u32::try_from(first)
            .ok()
            .filter(|first| (1..=MAX_PAGE_SIZE).contains(first))
            .ok_or_else(|| bad_input("first", format!("first is 1 to {MAX_PAGE_SIZE}"))),
    }
}

/// What part of a list is asked for; a broken cursor, too, is BAD_USER_INPUT.
pub fn page_request(
    ctx: &Context<'_>,
    first: Option<i32>,
    after: Option<&Cursor>,
    kind: CursorKind,
) -> Result<PageRequest, Error> {
    Ok(PageRequest { first: page_size(first)?, after: position(ctx, after, kind)? })
}

/// The position of a cursor that was given as `after`.
pub fn position(ctx: &Context<'_>, after: Option<&Cursor>, kind: CursorKind) -> Result<Option<String>, Error> {
    let Some(cursor) = after else { return Ok(None) };
    let opened = ctx.data::<Shop>()?.cursors.open(kind, cursor);
    opened.map(Some).map_err(|broken| bad_input("after", broken))
}

/// No field costs more: sums of costs stay far from overflow whatever is nested.
const COST_CEILING: usize = 1_000_000_000_000;

/// The complexity of a root field: it asks an actor.
pub fn root_cost(child: usize) -> usize {
    child.saturating_add(20)
}

/// The complexity of a mutation: it writes. A thousand of them in one request are too many under any sane limit.
pub fn mutation_cost(child: usize) -> usize {
    child.saturating_add(50)
}

/// The complexity of a connection: its entries times what is asked of each.
pub fn page_cost(first: Option<i32>, child: usize) -> usize {
    let entries = first.and_then(|first| usize::try_from(first).ok()).unwrap_or(DEFAULT_PAGE_SIZE as usize);
    entries.clamp(1, MAX_PAGE_SIZE as usize).saturating_mul(child).saturating_add(10).min(COST_CEILING)
}

/// The complexity of a connection on an object: where the object stands in a page, each entry asks an actor for a page
/// of its own, however short.
pub fn nested_page_cost(first: Option<i32>, child: usize) -> usize {
    page_cost(first, child).saturating_add(20)
}

/// The complexity of a text of up to thousands of characters: under a hundred aliases an entry has as many copies of it.
pub const TEXT_COST: usize = 10;
/// The same of a note: it is in a short list of a page, and what counts few entries of such a list must not make its texts cheap.
pub const NOTE_COST: usize = 16;

/// The complexity of a short list whose length is not known beforehand.
pub fn list_cost(child: usize) -> usize {
    child.saturating_mul(2).saturating_add(1).min(COST_CEILING)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_1_to_100_entries_and_20_unless_told() {
        assert_eq!(page_size(None).unwrap(), 20);
        assert_eq!(page_size(Some(1)).unwrap(), 1);
        assert_eq!(page_size(Some(100)).unwrap(), 100);
        for first in [i32::MIN, -1, 0, 101, i32::MAX] {
            assert!(page_size(Some(first)).is_err(), "{first}");
        }
    }

    #[test]
    fn a_connection_costs_what_its_entries_cost_together() {
        assert_eq!(page_cost(Some(100), 7), 710);
        assert_eq!(page_cost(None, 2), 50);
        assert_eq!(page_cost(Some(-5), 2), 50);
        assert_eq!(page_cost(Some(i32::MAX), usize::MAX), COST_CEILING);
        assert_eq!(nested_page_cost(Some(1), 2), 32);
    }
}
