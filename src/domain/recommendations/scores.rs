//! How much one item of a basket speaks for another: the scores that were measured against one another.
//!
//! `n(i)` are the orders that hold i, `n(i,j)` those that hold both, `n` all of them. Rare pairs are drawn towards what
//! would be so by chance: by imagined orders where the score is a share, by the factor `n(i,j) / (n(i,j) + m)` elsewhere.

use serde::{Deserialize, Serialize};

use super::ItemCounts;

/// Which score is in use. `bench/README.md` has the table that chose the default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Score {
    /// Of the orders with i in which j did not come before, the share in which it came later: what completes the basket.
    #[default]
    Continuation,
    /// `n(i,j) / n(i)` (Agrawal, Imielinski, Swami 1993).
    Confidence,
    /// `n(i,j) / sqrt(n(i) n(j))` (Sarwar, Karypis, Konstan, Riedl 2001).
    Cosine,
    /// `n(i,j) / (n(i) + n(j) - n(i,j))` (Jaccard 1901).
    Jaccard,
    /// The root of the log-likelihood ratio (Dunning 1993), 0 where the two are together less often than by chance.
    LogLikelihood,
}

impl Score {
    pub const ALL: [Self; 5] = [Self::Continuation, Self::Confidence, Self::Cosine, Self::Jaccard, Self::LogLikelihood];

    /// As in config.toml.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Continuation => "continuation",
            Self::Confidence => "confidence",
            Self::Cosine => "cosine",
            Self::Jaccard => "jaccard",
            Self::LogLikelihood => "log_likelihood",
        }
    }
}

/// Orders that hold two items.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairCounts {
    pub together: i64,
    /// Of these, in how many the other came later in the basket.
    pub later: i64,
}

/// What all pairs are measured by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measure {
    pub score: Score,
    pub shrinkage: f64,
    pub sequence_weight: f64,
    pub orders: f64,
    pub lines: f64,
}

impl Measure {
    /// How likely an item is next when nothing is known of the basket.
    pub fn prior(&self, item: &ItemCounts) -> f64 {
        let bought = item.orders.max(0) as f64;
        match self.score {
            Score::Continuation => {
                // Places in all baskets at which the item could still have come, and did.
                let came = self.sequenced(item.before as f64, (item.before + item.after) as f64);
                let gone = self.sequenced(item.after as f64, (item.before + item.after) as f64);
                // A shop whose baskets hold one item each knows no order: then what sells is what comes.
                (came + bought / self.orders.max(1.0)) / (self.lines - bought - gone + 1.0).max(1.0)
            }
            _ => bought / self.orders.max(1.0),
        }
    }

    /// How much `item` speaks for `other`.
    pub fn pair(&self, item: &ItemCounts, other: &ItemCounts, pair: PairCounts) -> f64 {
        self.value(item, other, pair.together.max(0) as f64, pair.later.max(0) as f64)
    }

    /// The same of two items that have nothing to do with one another.
    pub fn by_chance(&self, item: &ItemCounts, other: &ItemCounts) -> f64 {
        match self.score {
            Score::Continuation | Score::Confidence => self.prior(other),
            _ => {
                let together = item.orders as f64 * other.orders as f64 / self.orders.max(1.0);
                self.value(item, other, together, together / 2.0)
            }
        }
    }

    fn value(&self, item: &ItemCounts, other: &ItemCounts, together: f64, later: f64) -> f64 {
        let (m, prior) = (self.shrinkage, self.prior(other));
        let (n_i, n_j) = (item.orders.max(0) as f64, other.orders.max(0) as f64);
        let both = together.min(n_i).min(n_j);
        let rarely = both / (both + m).max(f64::MIN_POSITIVE);
        match self.score {
            Score::Continuation => {
                let later = self.sequenced(later.min(both), both);
                (later + m * prior) / (n_i - (both - later) + m).max(f64::MIN_POSITIVE)
            }
            Score::Confidence => (both + m * prior) / (n_i + m).max(f64::MIN_POSITIVE),
            Score::Cosine => rarely * both / (n_i * n_j).sqrt().max(1.0),
            Score::Jaccard => rarely * both / (n_i + n_j - both).max(1.0),
            Score::LogLikelihood => rarely * self.log_likelihood_root(n_i, n_j, both),
        }
    }

    /// How often the pair is together, as a multiple of chance; drawn towards 1.
    pub fn lift(&self, item: &ItemCounts, other: &ItemCounts, pair: PairCounts) -> f64 {
        let by_chance = item.orders as f64 * other.orders as f64 / self.orders.max(1.0);
        (pair.together as f64 + self.shrinkage) / (by_chance + self.shrinkage).max(f64::MIN_POSITIVE)
    }

    /// A count of one sequence among `both`, drawn towards a half by as much as sequence does not count.
    fn sequenced(&self, count: f64, both: f64) -> f64 {
        self.sequence_weight * count + (1.0 - self.sequence_weight) * both / 2.0
    }

    /// Between 0 and 1: the root of the ratio over the root of its largest value.
    fn log_likelihood_root(&self, n_i: f64, n_j: f64, both: f64) -> f64 {
        let n = self.orders.max(1.0);
        if both * n <= n_i * n_j {
            return 0.0;
        }
        let plogp = |x: f64| if x > 0.0 { x * x.ln() } else { 0.0 };
        let cells = [both, n_i - both, n_j - both, (n - n_i - n_j + both).max(0.0)];
        let rows = plogp(n_i) + plogp(n - n_i);
        let columns = plogp(n_j) + plogp(n - n_j);
        let ratio = 2.0 * (cells.into_iter().map(plogp).sum::<f64>() - rows - columns + plogp(n));
        let largest = 2.0 * n * std::f64::consts::LN_2;
        (ratio.max(0.0) / largest).sqrt().min(1.0)
    }
}
