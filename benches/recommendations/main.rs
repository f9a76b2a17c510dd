//! How good recommendations are, and what a rebuild takes. `cargo bench --bench recommendations`; see bench/README.md.
//!
//! The scores are compared on the generated baskets of `tests/recommendations`, so that the table and the tests are about
//! the same.

#![allow(clippy::print_stdout, reason = "a measurement prints")]

#[path = "../../tests/recommendations/baskets.rs"]
mod baskets;
#[path = "../../tests/recommendations/evaluation.rs"]
mod evaluation;
mod orders;
mod rebuild;

use baskets::{Basket, groceries, planted_pairs};
use evaluation::hit_rates;
use souk::config::RecommendationsConfig;
use souk::domain::recommendations::{Rules, Score};

/// Baskets of each set whose last item is left out.
const HELD_OUT: usize = 2_000;

fn main() {
    let shipped = RecommendationsConfig::default().rules();
    if !std::env::args().any(|argument| argument == "rebuild") {
        compare_scores(&shipped);
    }
    rebuild::measure(&shipped);
}

fn compare_scores(shipped: &Rules) {
    let sets: [(&str, Vec<Basket>); 3] = [
        ("receipts by aisle", groceries(1, 10_000, true)),
        ("receipts, shuffled", groceries(1, 10_000, false)),
        ("planted pairs", planted_pairs(1, 10_000)),
    ];
    println!("hit rate@5 on held-out last items, and as a multiple of popularity's\n");
    println!("| score          | {} |", sets.each_ref().map(|(name, _)| format!("{name:<18}")).join(" | "));
    println!("| -------------- | {} |", ["------------------"; 3].join(" | "));
    let popularity = sets.each_ref().map(|(_, baskets)| hit_rates(baskets, HELD_OUT, shipped).popularity);
    println!("| popularity     | {} |", popularity.map(|rate| format!("{:<18}", format!("{rate:.3}"))).join(" | "));
    for score in Score::ALL {
        let rules = Rules { score, ..shipped.clone() };
        let cells = sets.each_ref().map(|(_, baskets)| {
            let rates = hit_rates(baskets, HELD_OUT, &rules);
            format!("{:<18}", format!("{:.3} ({:.2})", rates.recommended, rates.ratio()))
        });
        println!("| {:<14} | {} |", score.as_str(), cells.join(" | "));
    }
    println!("\nchosen: {}\n", shipped.score.as_str());
}
