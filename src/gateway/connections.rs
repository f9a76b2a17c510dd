//! Relay connections: pages of a list with a stable cursor for each entry.

use std::borrow::Cow;

use async_graphql::{Error, Object, OutputType, SimpleObject, TypeName};

use super::errors::bad_input;
use super::scalars::{Cursor, CursorKind};
use crate::domain::page::{DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE, Page, PageRequest};

/// Where a page lies in its list.
#[derive(SimpleObject, Clone)]
pub struct PageInfo {
    /// True when entries follow this page.
    has_next_page: bool,
    /// True when entries may come before this page: it was asked for with `after`.
    has_previous_page: bool,
    /// The cursor of the page's first entry.
    start_cursor: Option<Cursor>,
    /// The cursor of the page's last entry: give it as `after` for the next page.
    end_cursor: Option<Cursor>,
}

/// An entry of a list with its position.
#[derive(SimpleObject)]
#[graphql(name_type)]
pub struct Edge<T: OutputType> {
    /// The position of this entry.
    cursor: Cursor,
    /// The entry.
    node: T,
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
        let edges: Vec<_> = page
            .entries
            .into_iter()
            .map(|(position, entry)| Edge { cursor: Cursor::of(kind, &position), node: node(entry) })
            .collect();
        let page_info = PageInfo {
            has_next_page: page.has_next,
            has_previous_page: page.has_previous,
            start_cursor: edges.first().map(|edge| edge.cursor.clone()),
            end_cursor: edges.last().map(|edge| edge.cursor.clone()),
        };
        Self { edges, page_info, total_count: i32::try_from(page.total).unwrap_or(i32::MAX) }
    }

    /// A list without entries.
    pub fn empty() -> Self {
        let page_info =
            PageInfo { has_next_page: false, has_previous_page: false, start_cursor: None, end_cursor: None };
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

/// What part of a list is asked for; a size outside 1 to 100 and a broken cursor are BAD_USER_INPUT.
pub fn page_request(first: Option<i32>, after: Option<&Cursor>, kind: CursorKind) -> Result<PageRequest, Error> {
    let first = match first {
        None => DEFAULT_PAGE_SIZE,
        Some(first) => u32::try_from(first)
            .ok()
            .filter(|first| (1..=MAX_PAGE_SIZE).contains(first))
            .ok_or_else(|| bad_input("first", format!("first is 1 to {MAX_PAGE_SIZE}")))?,
    };
    let after = after.map(|cursor| cursor.position(kind)).transpose();
    Ok(PageRequest { first, after: after.map_err(|broken| bad_input("after", broken))? })
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

/// The complexity of a short list whose length is not known beforehand.
pub fn list_cost(child: usize) -> usize {
    child.saturating_mul(5).saturating_add(1).min(COST_CEILING)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_1_to_100_entries_and_20_unless_told() {
        let page = |first| page_request(first, None, CursorKind::Users);
        assert_eq!(page(None).unwrap().first, 20);
        assert_eq!(page(Some(1)).unwrap().first, 1);
        assert_eq!(page(Some(100)).unwrap().first, 100);
        for first in [i32::MIN, -1, 0, 101, i32::MAX] {
            assert!(page(Some(first)).is_err(), "{first}");
        }
        let foreign = Cursor::of(CursorKind::Orders, "1");
        assert!(page_request(None, Some(&foreign), CursorKind::Users).is_err());
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
