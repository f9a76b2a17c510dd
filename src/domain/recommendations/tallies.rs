//! What orders add to the counts, summed up before it is written: one write an item and pair, however many orders.

use std::collections::BTreeMap;

use super::{Limits, Purchase};
use crate::domain::ids::ProductId;

/// What orders add to an item.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ItemTally {
    pub orders: i64,
    pub before: i64,
    pub after: i64,
    /// As the newest of the orders that are added has it; empty: all are taken back.
    pub category: String,
}

/// What orders add to a pair, seen from one of its items.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PairTally {
    pub together: i64,
    /// Of these, in how many the other came later.
    pub later: i64,
}

/// What a number of orders add. Sorted, so that neighbours in a store are written one after the other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tallies {
    pub orders: i64,
    pub lines: i64,
    pub items: BTreeMap<ProductId, ItemTally>,
    /// Each pair twice: from either side.
    pub pairs: BTreeMap<(ProductId, ProductId), PairTally>,
}

impl Tallies {
    /// Adds an order (1) or takes it back (-1). Lines past the limit count as sold, but make no pairs.
    pub fn add(&mut self, purchase: &Purchase, times: i64, limits: &Limits) {
        self.orders += times;
        let paired = purchase.lines.len().min(limits.lines_per_order);
        for (place, line) in purchase.lines.iter().enumerate() {
            let item = self.items.entry(line.product_id).or_default();
            item.orders += times;
            // What is taken back was bought before: it says nothing about where the product is found now.
            if times > 0 {
                item.category.clone_from(&line.category);
            }
            self.lines += times;
            if place >= paired {
                continue;
            }
            item.before += times * place as i64;
            item.after += times * (paired - 1 - place) as i64;
            for later in &purchase.lines[place + 1..paired] {
                let there = self.pairs.entry((line.product_id, later.product_id)).or_default();
                there.together += times;
                there.later += times;
                self.pairs.entry((later.product_id, line.product_id)).or_default().together += times;
            }
        }
    }

    /// Whether nothing is to be written: what was added was also taken back.
    pub fn is_empty(&self) -> bool {
        let none = |item: &ItemTally| (item.orders, item.before, item.after) == (0, 0, 0);
        self.orders == 0
            && self.items.values().all(none)
            && self.pairs.values().all(|pair| *pair == PairTally::default())
    }
}
