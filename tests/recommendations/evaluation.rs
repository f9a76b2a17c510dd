//! Leave the last item of some baskets out, learn from all the rest, and count how often it is among the five that are
//! recommended, next to how often it is among the five most popular items that the basket does not hold.

use std::collections::HashSet;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::index::sample;
use souk::domain::ids::{OrderId, ProductId, TypedId, UserId};
use souk::domain::recommendations::{
    Bought, Evidence, ItemCounts, Neighbours, PairCounts, Purchase, PurchasedLine, Rules, Tallies, rank, shortlist,
};
use souk::domain::time::Timestamp;
use uuid::Uuid;

use super::baskets::Basket;

/// How many recommendations are looked at.
pub const SHOWN: usize = 5;

pub struct HitRates {
    pub popularity: f64,
    pub recommended: f64,
}

impl HitRates {
    pub fn ratio(&self) -> f64 {
        self.recommended / self.popularity
    }
}

fn product(item: usize) -> ProductId {
    ProductId::from_uuid(Uuid::from_u128(item as u128))
}

fn purchase(basket: &[usize]) -> Purchase {
    Purchase {
        order_id: OrderId::from_uuid(Uuid::nil()),
        user_id: UserId::from_uuid(Uuid::nil()),
        at: Timestamp(0),
        lines: basket
            .iter()
            .map(|item| PurchasedLine { product_id: product(*item), category: "Everything".into() })
            .collect(),
    }
}

/// The counts of many baskets, as a store keeps them.
pub struct Counted {
    whole: Evidence,
    /// Best sellers first.
    popular: Vec<ProductId>,
}

impl Counted {
    pub fn of<'a>(baskets: impl Iterator<Item = &'a [usize]>, rules: &Rules) -> Self {
        let mut tallies = Tallies::default();
        baskets.for_each(|basket| tallies.add(&purchase(basket), 1, &rules.limits));
        let mut whole = Evidence { orders: tallies.orders, lines: tallies.lines, ..Evidence::default() };
        for (id, item) in tallies.items {
            let counts =
                ItemCounts { category: item.category, orders: item.orders, before: item.before, after: item.after };
            whole.items.insert(id, counts);
            whole.neighbours.insert(id, Neighbours::default());
        }
        for ((item, other), pair) in tallies.pairs {
            let counts = PairCounts { together: pair.together, later: pair.later };
            whole.neighbours.get_mut(&item).expect("counted").pairs.insert(other, counts);
        }
        let mut popular: Vec<ProductId> = whole.items.keys().copied().collect();
        popular.sort_unstable_by_key(|id| (std::cmp::Reverse(whole.items[id].orders), *id));
        Self { whole, popular }
    }

    /// What somebody who bought this one basket is shown.
    pub fn recommended(&mut self, basket: &[usize], rules: &Rules) -> Vec<ProductId> {
        let evidence = &mut self.whole;
        let bought = |item: &usize| Bought { product_id: product(*item), category: "Everything".into(), orders_ago: 0 };
        evidence.bought = basket.iter().map(bought).collect();
        let near = evidence.sources(&rules.limits).into_iter().map(|source| {
            (source.product_id, evidence.neighbours.get(&source.product_id).cloned().unwrap_or_default())
        });
        evidence.candidates = shortlist(&near.collect(), &evidence.items, rules.limits.candidates);
        evidence.candidates.extend(self.popular.iter().take(100));
        let ranked = rank(evidence, rules);
        ranked.into_iter().take(SHOWN).map(|ranked| ranked.product_id).collect()
    }
}

/// Both hit rates over `held_out` baskets of at least two items.
pub fn hit_rates(baskets: &[Basket], held_out: usize, rules: &Rules) -> HitRates {
    let mut random = StdRng::seed_from_u64(1);
    let whole: Vec<usize> = (0..baskets.len()).filter(|number| baskets[*number].len() > 1).collect();
    let chosen: HashSet<usize> =
        sample(&mut random, whole.len(), held_out.min(whole.len())).iter().map(|place| whole[place]).collect();
    let known = baskets
        .iter()
        .enumerate()
        .map(|(number, basket)| if chosen.contains(&number) { &basket[..basket.len() - 1] } else { &basket[..] });
    let mut counted = Counted::of(known, rules);
    let (mut popular_hits, mut hits) = (0, 0);
    for number in &chosen {
        let (last, basket) = baskets[*number].split_last().expect("at least two items");
        let held: HashSet<ProductId> = basket.iter().map(|item| product(*item)).collect();
        let mut popular = counted.popular.iter().filter(|id| !held.contains(id)).take(SHOWN);
        popular_hits += usize::from(popular.any(|id| *id == product(*last)));
        hits += usize::from(counted.recommended(basket, rules).contains(&product(*last)));
    }
    let rate = |hits: usize| hits as f64 / chosen.len() as f64;
    HitRates { popularity: rate(popular_hits), recommended: rate(hits) }
}
