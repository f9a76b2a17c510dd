//! Generated baskets: a grocer's, and a shop's with planted pairs. The same seed makes the same baskets.

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

/// Items by number, in the order in which they went into the basket.
pub type Basket = Vec<usize>;

/// A draw by weight; what was drawn can be taken out.
struct Urn {
    weights: Vec<f64>,
    total: f64,
}

impl Urn {
    fn new(weights: Vec<f64>) -> Self {
        let total = weights.iter().sum();
        Self { weights, total }
    }

    fn draw(&mut self, random: &mut StdRng) -> usize {
        let mut left = random.random::<f64>() * self.total;
        let drawn = self.weights.iter().position(|weight| {
            left -= weight;
            left < 0.0
        });
        // Rounding may leave nothing at the end: then the last that is left.
        let drawn = drawn.or_else(|| self.weights.iter().rposition(|weight| *weight > 0.0)).unwrap_or(0);
        self.total -= std::mem::take(&mut self.weights[drawn]);
        drawn
    }
}

/// About normal, with mean 0 and deviation 1.
fn normal(random: &mut StdRng) -> f64 {
    (0..12).map(|_| random.random::<f64>()).sum::<f64>() - 6.0
}

/// Receipts like a grocer's: 169 items, the best seller on a quarter of them, 4.4 items on the mean, half of them with one to
/// three; what is bought depends on why one went shopping, weakly. `aisles`: the lines follow the aisles of the shop, as
/// on printed receipts; else they are shuffled.
pub fn groceries(seed: u64, receipts: usize, aisles: bool) -> Vec<Basket> {
    const ITEMS: usize = 169;
    const AISLES: usize = 14;
    /// How often, and how much is bought, in what kinds of shopping.
    const ERRANDS: [(f64, f64); 6] = [(0.3, 1.0), (0.2, 0.5), (0.2, 1.6), (0.1, 0.7), (0.1, 2.0), (0.1, 0.4)];
    let mut random = StdRng::seed_from_u64(seed);
    let aisle: Vec<usize> = (0..ITEMS).map(|_| random.random_range(0..AISLES)).collect();
    let mut shelf: Vec<usize> = (0..ITEMS).collect();
    shelf.shuffle(&mut random);
    let errands: Vec<Vec<f64>> = ERRANDS
        .iter()
        .map(|_| {
            let loads: Vec<f64> = (0..AISLES).map(|_| (0.7 * normal(&mut random)).exp()).collect();
            let likes = |item: usize, random: &mut StdRng| (0.35 * normal(random)).exp() * loads[aisle[item]];
            (0..ITEMS).map(|item| likes(item, &mut random) / (item as f64 + 4.0).powf(1.2)).collect()
        })
        .collect();
    let meals: Vec<[usize; 3]> = (0..30).map(|_| std::array::from_fn(|_| random.random_range(0..80))).collect();
    let errand = |random: &mut StdRng| {
        let mut left = random.random::<f64>();
        let chosen = ERRANDS.iter().position(|(often, _)| {
            left -= often;
            left < 0.0
        });
        chosen.unwrap_or(0)
    };
    (0..receipts)
        .map(|_| {
            let (first, second, share) = (errand(&mut random), errand(&mut random), random.random::<f64>());
            let lines = 1.0 - (1.0 - random.random::<f64>()).ln() * 3.8 * ERRANDS[first].1;
            let mut weights: Vec<f64> = errands[first]
                .iter()
                .zip(&errands[second])
                .map(|(one, other)| share * one + (1.0 - share) * other)
                .collect();
            for _ in 0..3 {
                for item in meals[random.random_range(0..meals.len())] {
                    weights[item] *= 1.8;
                }
            }
            let mut urn = Urn::new(weights);
            let mut basket: Basket = (0..(lines as usize).clamp(1, 32)).map(|_| urn.draw(&mut random)).collect();
            if aisles {
                basket.sort_by_key(|item| (aisle[*item], shelf[*item]));
            } else {
                basket.shuffle(&mut random);
            }
            basket
        })
        .collect()
}

/// Baskets of a shop with 400 items of skewed popularity; in half of them somebody buys one of 60 pairs of seldom items.
pub fn planted_pairs(seed: u64, baskets: usize) -> Vec<Basket> {
    const ITEMS: usize = 400;
    const PAIRS: usize = 60;
    let mut random = StdRng::seed_from_u64(seed);
    let mut seldom: Vec<usize> = (20..ITEMS).collect();
    seldom.shuffle(&mut random);
    (0..baskets)
        .map(|_| {
            let mut urn = Urn::new((0..ITEMS).map(|item| 1.0 / (item as f64 + 2.0)).collect());
            let mut basket: Basket = (0..random.random_range(1..=3)).map(|_| urn.draw(&mut random)).collect();
            if random.random_bool(0.5) {
                let pair = random.random_range(0..PAIRS);
                basket.extend(&seldom[2 * pair..2 * pair + 2]);
                basket.sort_unstable();
                basket.dedup();
            }
            basket.shuffle(&mut random);
            basket
        })
        .collect()
}
