//! Where a product stands in a list of the catalogue, by the sort of the list: the content of its cursor.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::cursor::{self, InvalidCursor};
use crate::domain::ids::ProductId;
use crate::domain::page::PageRequest;
use crate::domain::products::ProductSort;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Position {
    Relevance(u32, String, ProductId),
    Newest(i64, ProductId),
    Name(String, ProductId),
    PriceAscending(i64, ProductId),
    PriceDescending(i64, ProductId),
}

impl Position {
    fn sort(&self) -> ProductSort {
        match self {
            Self::Relevance(..) => ProductSort::Relevance,
            Self::Newest(..) => ProductSort::Newest,
            Self::Name(..) => ProductSort::Name,
            Self::PriceAscending(..) => ProductSort::PriceAscending,
            Self::PriceDescending(..) => ProductSort::PriceDescending,
        }
    }

    /// The position of `request.after`, which must come from a list of this sort.
    pub(super) fn requested(request: &PageRequest, sort: ProductSort) -> Result<Option<Self>, InvalidCursor> {
        let position: Option<Self> = request.after.as_deref().map(cursor::decode).transpose()?;
        if position.as_ref().is_some_and(|position| position.sort() != sort) {
            return Err(InvalidCursor);
        }
        Ok(position)
    }

    /// The order of a list; positions of different sorts never meet in one.
    pub(super) fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Relevance(score, name, id), Self::Relevance(other_score, other_name, other_id)) => {
                other_score.cmp(score).then_with(|| name.cmp(other_name)).then_with(|| id.cmp(other_id))
            }
            (Self::Newest(at, id), Self::Newest(other_at, other_id)) => other_at.cmp(at).then_with(|| other_id.cmp(id)),
            (Self::Name(name, id), Self::Name(other_name, other_id)) => {
                name.cmp(other_name).then_with(|| id.cmp(other_id))
            }
            (Self::PriceAscending(price, id), Self::PriceAscending(other_price, other_id)) => {
                price.cmp(other_price).then_with(|| id.cmp(other_id))
            }
            (Self::PriceDescending(price, id), Self::PriceDescending(other_price, other_id)) => {
                other_price.cmp(price).then_with(|| id.cmp(other_id))
            }
            _ => Ordering::Equal,
        }
    }
}
