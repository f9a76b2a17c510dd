//! Recommendations: what is learned from each order, and how a user's history becomes a ranked list.
//!
//! An order counts once ([`settle`]): its items, and each pair of them with who came first in the basket. A user's
//! list is made from [`Evidence`], which a store reads in one piece: the user's purchases and ratings, the neighbours of
//! what was bought, and what is popular. [`rank`] scores every candidate by the [`Rules`] and says why it is there.

mod ranking;
mod scores;
mod tallies;

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::events::{PendingEvent, RecommendationChanged, RecommendedItem, Topic, event_type, source};
use super::ids::{OrderId, ProductId, UserId};
use super::time::Timestamp;

pub use ranking::{rank, shortlist};
pub use scores::{PairCounts, Score};
pub use tallies::{ItemTally, PairTally, Tallies};

/// The most recommendations that are kept for a user.
pub const MAX_RANKED: usize = 200;
/// The most recommendations that an event carries.
pub const MAX_ANNOUNCED: usize = 20;
/// The most products that a reason names.
pub const MAX_BECAUSE: usize = 2;

/// What is counted and kept at most: bounds the work of an order and of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Lines of an order that make pairs; k of them make k * (k - 1) / 2.
    pub lines_per_order: usize,
    /// Neighbours that an item keeps when it is trimmed; it is trimmed at twice as many.
    pub neighbours_per_item: usize,
    /// Of a user's purchases and likes, how many of the newest speak for other products.
    pub history_items: usize,
    /// Neighbours that are scored for a user, and half as many best sellers.
    pub candidates: usize,
    /// Of a user's purchases, how many of the newest may be recommended again; 0 where nothing is consumable.
    pub bought_again: usize,
}

/// The table of rules; `config.toml` explains each line.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    pub score: Score,
    /// Orders that must hold a pair before it speaks for either.
    pub min_support: u32,
    /// Imagined orders in which a product sells as it does everywhere.
    pub shrinkage: f64,
    /// How much it counts which of a pair came first in the basket.
    pub sequence_weight: f64,
    /// Share of the newest item of the history, against all of it together.
    pub newest_weight: f64,
    /// What an order counts, as part of the next newer one.
    pub older_order_weight: f64,
    pub popularity_weight: f64,
    pub category_weight: f64,
    /// What is left of the score of something of the newest order that may be bought again.
    pub again_weight: f64,
    pub limits: Limits,
    pub consumable_categories: Vec<String>,
}

impl Rules {
    pub fn is_consumable(&self, category: &str) -> bool {
        self.consumable_categories.iter().any(|consumable| consumable == category)
    }
}

/// A product of an order.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
pub struct PurchasedLine {
    pub product_id: ProductId,
    pub category: String,
}

/// A confirmed order, as far as recommendations are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purchase {
    pub order_id: OrderId,
    pub user_id: UserId,
    pub at: Timestamp,
    /// Each product once, in the order in which they were put into the basket.
    pub lines: Vec<PurchasedLine>,
}

/// What an event changes of the read model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HistoryChange {
    Bought(Purchase),
    /// Takes back what the order added.
    Cancelled(Purchase),
    UserDeleted(UserId),
}

impl HistoryChange {
    /// Whom it is about.
    pub fn user_id(&self) -> UserId {
        match self {
            Self::Bought(purchase) | Self::Cancelled(purchase) => purchase.user_id,
            Self::UserDeleted(user_id) => *user_id,
        }
    }
}

/// What became of an order in the read model; nothing is known of one that never came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderState {
    Counted,
    /// Cancelled: a confirmation that comes late counts nothing.
    Withdrawn,
}

/// An order's new state and what it adds (1) or takes back (-1); `None` when the change came before or adds nothing.
pub fn settle(known: Option<OrderState>, cancelled: bool) -> Option<(OrderState, i64)> {
    match (known, cancelled) {
        (None, false) => Some((OrderState::Counted, 1)),
        (None, true) => Some((OrderState::Withdrawn, 0)),
        (Some(OrderState::Counted), true) => Some((OrderState::Withdrawn, -1)),
        (Some(OrderState::Counted), false) | (Some(OrderState::Withdrawn), _) => None,
    }
}

/// A product that a user bought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bought {
    pub product_id: ProductId,
    pub category: String,
    /// 0 for the newest order, 1 for the one before.
    pub orders_ago: u32,
}

/// What all orders say of an item.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemCounts {
    pub category: String,
    /// Orders that hold it.
    pub orders: i64,
    /// Items that came before it in its baskets, all of them together, and after it.
    pub before: i64,
    pub after: i64,
}

/// What was bought with an item.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbours {
    /// Some were forgotten: one that is not here may have been bought with the item.
    pub trimmed: bool,
    pub pairs: HashMap<ProductId, PairCounts>,
}

/// Everything that a user's recommendations are made from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Orders of all users, and their items together.
    pub orders: i64,
    pub lines: i64,
    /// Newest order first, each in the order of its basket.
    pub bought: Vec<Bought>,
    /// Newest first.
    pub liked: Vec<ProductId>,
    pub disliked: HashSet<ProductId>,
    /// Of what was bought or liked: [`Evidence::sources`].
    pub neighbours: HashMap<ProductId, Neighbours>,
    /// Of every source and every candidate.
    pub items: HashMap<ProductId, ItemCounts>,
    /// What may be recommended.
    pub candidates: Vec<ProductId>,
}

impl Evidence {
    /// The products that speak for others, newest first: of the newest order first what was put into the basket last.
    pub fn sources(&self, limits: &Limits) -> Vec<Source> {
        let mut sources: Vec<Source> = Vec::new();
        let mut orders = self.bought.chunk_by(|one, next| one.orders_ago == next.orders_ago);
        let bought = orders.by_ref().flat_map(|order| order.iter().rev());
        let bought = bought.map(|item| Source { product_id: item.product_id, orders_ago: Some(item.orders_ago) });
        let liked = self.liked.iter().map(|id| Source { product_id: *id, orders_ago: None });
        for source in bought.take(4 * limits.history_items).chain(liked) {
            if sources.len() < limits.history_items && sources.iter().all(|known| known.product_id != source.product_id)
            {
                sources.push(source);
            }
        }
        sources
    }

    /// The shares of the categories in what the user bought, best first.
    pub fn category_shares(&self) -> Vec<(&str, f64)> {
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for item in &self.bought {
            *counts.entry(&item.category).or_default() += 1;
        }
        let total = self.bought.len().max(1) as f64;
        let mut shares: Vec<_> = counts.into_iter().map(|(category, count)| (category, count as f64 / total)).collect();
        shares.sort_unstable_by(|one, other| other.1.total_cmp(&one.1).then_with(|| one.0.cmp(other.0)));
        shares
    }
}

/// A product that speaks for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    pub product_id: ProductId,
    /// `None`: not bought, but liked.
    pub orders_ago: Option<u32>,
}

/// A recommendation before anybody asked whether it is in stock.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranked {
    pub product_id: ProductId,
    /// About how likely it is wanted next: above 0, at most 1.
    pub score: f64,
    pub reason: Reason,
}

/// Why a product is recommended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// With these of the user's purchases, the one that says most first.
    BoughtTogether(Vec<ProductId>),
    /// With these, which the user likes.
    GoesWithLiked(Vec<ProductId>),
    Liked,
    /// Of a category that the user buys from.
    Category(String),
    /// The user has bought it, and it is used up.
    Again,
    Popular,
    /// Nothing says more of it than that it can be bought.
    InStock,
}

impl Reason {
    /// The products that the reason names.
    pub fn because_of(&self) -> &[ProductId] {
        match self {
            Self::BoughtTogether(products) | Self::GoesWithLiked(products) => products,
            Self::Liked | Self::Category(_) | Self::Again | Self::Popular | Self::InStock => &[],
        }
    }

    /// The reason for a shopper; `names` are those of the products of [`Self::because_of`] that are known.
    pub fn words(&self, names: &[&str]) -> String {
        match (self, names) {
            (Self::BoughtTogether(_), [one]) => format!("Often bought together with {one}"),
            (Self::BoughtTogether(_), [one, other, ..]) => format!("Often bought together with {one} and {other}"),
            (Self::BoughtTogether(_), []) => "Often bought together with what you bought".into(),
            (Self::GoesWithLiked(_), [one]) => format!("Often bought together with {one}, which you like"),
            (Self::GoesWithLiked(_), [one, other, ..]) => {
                format!("Often bought together with {one} and {other}, which you like")
            }
            (Self::GoesWithLiked(_), []) => "Often bought together with what you like".into(),
            (Self::Liked, _) => "You like it".into(),
            (Self::Category(category), _) => format!("Popular in {category}, where you have shopped"),
            (Self::Again, _) => "You have bought it before".into(),
            (Self::Popular, _) => "Popular with other customers".into(),
            (Self::InStock, _) => "New in the shop".into(),
        }
    }
}

/// The event of a user's changed recommendations; `sequence` counts the user's.
pub fn changed_event(user_id: UserId, sequence: i64, items: Vec<RecommendedItem>, at: Timestamp) -> PendingEvent {
    let body = RecommendationChanged { user_id, items };
    PendingEvent::new(
        Topic::RecommendationEvents,
        source::RECOMMENDATIONS,
        event_type::RECOMMENDATION_CHANGED,
        user_id.to_string(),
        sequence,
        at,
        &body,
    )
}

#[cfg(test)]
mod tests;
