//! How good recommendations are, on generated baskets of fixed seeds, by the rules that are shipped. The table that
//! compares the scores is printed by `scripts/bench recommendations`.

mod baskets;
mod evaluation;

use baskets::{groceries, planted_pairs};
use evaluation::hit_rates;
use souk::config::RecommendationsConfig;
use souk::domain::recommendations::{Rules, Score};

fn shipped() -> Rules {
    RecommendationsConfig::default().rules()
}

#[test]
fn planted_pairs_are_found_at_least_twice_as_often_as_by_popularity() {
    let rates = hit_rates(&planted_pairs(1, 6_000), 600, &shipped());
    assert!(rates.ratio() >= 2.0, "{:.3} against {:.3}", rates.recommended, rates.popularity);
}

#[test]
fn receipts_are_completed_better_than_by_popularity() {
    for seed in 1..=2 {
        let rates = hit_rates(&groceries(seed, 6_000, true), 600, &shipped());
        assert!(rates.ratio() >= 1.02, "seed {seed}: {:.3} against {:.3}", rates.recommended, rates.popularity);
    }
}

#[test]
fn the_shipped_score_is_the_best_of_those_that_were_measured() {
    let baskets = groceries(1, 6_000, true);
    let rate = |score| hit_rates(&baskets, 400, &Rules { score, ..shipped() }).recommended;
    let shipped = rate(shipped().score);
    for score in Score::ALL {
        assert!(rate(score) <= shipped, "{} is better", score.as_str());
    }
}

#[test]
fn where_the_order_of_lines_says_nothing_popularity_is_kept_up_with() {
    let rates = hit_rates(&groceries(1, 6_000, false), 600, &shipped());
    assert!(rates.ratio() >= 0.95, "{:.3} against {:.3}", rates.recommended, rates.popularity);
}
