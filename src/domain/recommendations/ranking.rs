//! From evidence to a ranked list.

use std::collections::{HashMap, HashSet};

use super::scores::Measure;
use super::{Evidence, ItemCounts, MAX_BECAUSE, MAX_RANKED, Neighbours, PairCounts, Ranked, Reason, Rules, Source};
use crate::domain::ids::ProductId;

/// A pair is named as a reason down to this multiple of chance: in a small shop everything is bought with everything.
const LEAST_LIFT_OF_A_REASON: f64 = 0.9;

/// Of all neighbours those that are worth scoring: the strongest, by the share of a source's orders that hold them.
pub fn shortlist(
    neighbours: &HashMap<ProductId, Neighbours>,
    sources: &HashMap<ProductId, ItemCounts>,
    limit: usize,
) -> Vec<ProductId> {
    let mut strongest: HashMap<ProductId, f64> = HashMap::new();
    for (source, known) in neighbours {
        // As if the source had sold in one more order: what was bought with it once is not the strongest of all.
        let orders = sources.get(source).map_or(1.0, |counts| counts.orders as f64 + 1.0);
        for (product, pair) in &known.pairs {
            let strength = strongest.entry(*product).or_insert(0.0);
            *strength = strength.max(pair.together as f64 / orders);
        }
    }
    let mut listed: Vec<_> = strongest.into_iter().collect();
    listed.sort_unstable_by(|one, other| other.1.total_cmp(&one.1).then(one.0.cmp(&other.0)));
    listed.truncate(limit);
    listed.into_iter().map(|(product, _)| product).collect()
}

/// What one source says of a candidate.
struct Voice {
    source: Source,
    weight: f64,
    value: f64,
    /// As a multiple of chance; 0 when the pair has too little support to be a reason.
    lift: f64,
}

struct Ranking<'a> {
    evidence: &'a Evidence,
    rules: &'a Rules,
    measure: Measure,
    sources: Vec<Source>,
    shares: HashMap<&'a str, f64>,
    newest: HashSet<ProductId>,
    bought: HashSet<ProductId>,
}

/// The user's recommendations, best first: never what was bought, unless it is used up, and never what is disliked.
pub fn rank(evidence: &Evidence, rules: &Rules) -> Vec<Ranked> {
    let newest = evidence.bought.iter().filter(|item| item.orders_ago == 0);
    let ranking = Ranking {
        evidence,
        rules,
        measure: Measure {
            score: rules.score,
            shrinkage: rules.shrinkage,
            sequence_weight: rules.sequence_weight,
            orders: evidence.orders as f64,
            lines: evidence.lines as f64,
        },
        sources: evidence.sources(&rules.limits),
        shares: evidence.category_shares().into_iter().collect(),
        newest: newest.map(|item| item.product_id).collect(),
        bought: evidence.bought.iter().map(|item| item.product_id).collect(),
    };
    let mut seen = HashSet::new();
    let candidates = evidence.candidates.iter().filter(|product| seen.insert(**product));
    let mut ranked: Vec<Ranked> = candidates.filter_map(|product| ranking.judge(*product)).collect();
    ranked.sort_unstable_by(|one, other| other.score.total_cmp(&one.score).then(one.product_id.cmp(&other.product_id)));
    ranked.truncate(MAX_RANKED);
    ranked
}

impl Ranking<'_> {
    fn judge(&self, product_id: ProductId) -> Option<Ranked> {
        let item = self.evidence.items.get(&product_id).filter(|item| item.orders > 0)?;
        let again = self.bought.contains(&product_id);
        if self.evidence.disliked.contains(&product_id) || (again && !self.rules.is_consumable(&item.category)) {
            return None;
        }
        let voices = self.voices(product_id, item);
        let popularity = item.orders as f64 / self.evidence.orders.max(1) as f64;
        let together = self.together(&voices).unwrap_or(popularity);
        let share = self.shares.get(item.category.as_str()).copied().unwrap_or_default();
        let (popular, categorical) = (self.rules.popularity_weight, self.rules.category_weight);
        // Each factor is at most 1, and so is the score.
        let mut score = (together + popular * popularity) / (1.0 + popular);
        score *= (1.0 + categorical * share) / (1.0 + categorical);
        if self.newest.contains(&product_id) {
            score *= self.rules.again_weight;
        }
        let reason = if again { Reason::Again } else { self.reason(product_id, item, voices) };
        Some(Ranked { product_id, score: score.max(f64::MIN_POSITIVE), reason })
    }

    fn voices(&self, product_id: ProductId, item: &ItemCounts) -> Vec<Voice> {
        let mut voices = Vec::with_capacity(self.sources.len());
        for source in self.sources.iter().filter(|source| source.product_id != product_id) {
            let Some(counts) = self.evidence.items.get(&source.product_id).filter(|counts| counts.orders > 0) else {
                continue;
            };
            let orders_ago = source.orders_ago.unwrap_or(1).min(i32::MAX as u32) as i32;
            let weight = self.rules.older_order_weight.powi(orders_ago);
            let neighbours = self.evidence.neighbours.get(&source.product_id);
            let pair = neighbours.and_then(|known| known.pairs.get(&product_id)).copied();
            let (value, lift) = match pair {
                Some(pair) if pair.together >= i64::from(self.rules.min_support) => {
                    (self.measure.pair(counts, item, pair), self.measure.lift(counts, item, pair))
                }
                // Too seldom to speak for it, but not to speak against it.
                Some(pair) => (self.measure.pair(counts, item, pair).min(self.measure.by_chance(counts, item)), 0.0),
                // Perhaps forgotten: nothing is known.
                None if neighbours.is_none_or(|known| known.trimmed) => (self.measure.by_chance(counts, item), 0.0),
                None => (self.measure.pair(counts, item, PairCounts::default()), 0.0),
            };
            voices.push(Voice { source: *source, weight, value, lift });
        }
        voices
    }

    /// The mean over the history, and the newest item by itself.
    fn together(&self, voices: &[Voice]) -> Option<f64> {
        let newest = voices.first()?;
        let weights: f64 = voices.iter().map(|voice| voice.weight).sum();
        let mean = voices.iter().map(|voice| voice.weight * voice.value).sum::<f64>() / weights.max(f64::MIN_POSITIVE);
        let share = self.rules.newest_weight;
        Some(share * newest.value + (1.0 - share) * mean)
    }

    fn reason(&self, product_id: ProductId, item: &ItemCounts, mut voices: Vec<Voice>) -> Reason {
        voices.retain(|voice| voice.lift >= LEAST_LIFT_OF_A_REASON);
        voices.sort_by(|one, other| (other.weight * other.lift).total_cmp(&(one.weight * one.lift)));
        if let Some(best) = voices.first() {
            let was_bought = best.source.orders_ago.is_some();
            let alike = voices.iter().filter(|voice| voice.source.orders_ago.is_some() == was_bought);
            let because = alike.take(MAX_BECAUSE).map(|voice| voice.source.product_id).collect();
            return if was_bought { Reason::BoughtTogether(because) } else { Reason::GoesWithLiked(because) };
        }
        if self.evidence.liked.contains(&product_id) {
            Reason::Liked
        } else if self.shares.contains_key(item.category.as_str()) {
            Reason::Category(item.category.clone())
        } else {
            Reason::Popular
        }
    }
}
