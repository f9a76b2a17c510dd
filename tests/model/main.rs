//! Model test of the order flow: random interleavings of everything that can happen to an order, with a crash between
//! any two steps, checked after each. The domain's functions are the real ones; the stores, the log, the relays and
//! the consumers are models of their contracts.
//!
//! `SOUK_MODEL_SEEDS=n` sets how many seeds run. `SOUK_MODEL_SEED=n`, and `SOUK_MODEL_BUG=Name` for a planted bug,
//! replays one run and prints its steps.

mod bugs;
mod databases;
mod flow;
mod invariants;
mod random;
mod requests;
mod steps;
mod world;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use bugs::Bug;
use steps::{Phase, Step};
use world::World;

/// Seeds of the everyday test: a few seconds in a debug build.
const EVERYDAY_SEEDS: u64 = 500;
/// A planted bug must be found within so many seeds.
const SEEDS_FOR_A_BUG: u64 = 1_000;
/// A world that still moves after so many undisturbed steps will never settle.
const SETTLING_STEPS: usize = 2_000;

/// What a run of one seed did.
struct Run {
    steps: i64,
    situations: BTreeMap<&'static str, u64>,
    trace: Vec<String>,
    outcome: Result<(), String>,
}

fn run(seed: u64, bug: Option<Bug>, traced: bool) -> Run {
    let mut world = World::new(seed, bug, traced);
    // A panic of the domain's code is a finding like any other: it must name its seed.
    let outcome = catch_unwind(AssertUnwindSafe(|| play(&mut world))).unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<String>().map(String::as_str);
        Err(format!("panic: {}", message.or(panic.downcast_ref::<&str>().copied()).unwrap_or("unknown")))
    });
    Run { steps: world.clock, situations: world.situations, trace: world.trace.unwrap_or_default(), outcome }
}

fn play(world: &mut World) -> Result<(), String> {
    let mut steps: Vec<(u32, Step)> = Vec::new();
    for _ in 0..world.random.between(50, 350) {
        world.possible(Phase::Disturbed, &mut steps);
        advance(world, &steps)?;
    }
    world.note(|| "from here on undisturbed".into());
    for _ in 0..SETTLING_STEPS {
        world.possible(Phase::Settling, &mut steps);
        if steps.is_empty() {
            return world.check_settled();
        }
        advance(world, &steps)?;
    }
    Err(format!("still not settled after {SETTLING_STEPS} undisturbed steps"))
}

/// Takes one of the possible steps and checks.
fn advance(world: &mut World, steps: &[(u32, Step)]) -> Result<(), String> {
    let total: u32 = steps.iter().map(|(weight, _)| weight).sum();
    let mut ticket = world.random.below(total as usize) as u32;
    for (weight, step) in steps {
        if ticket < *weight {
            world.take(*step);
            break;
        }
        ticket -= weight;
    }
    world.check()
}

/// Runs seeds on every core and returns the smallest that fails, with the sum of what happened.
fn run_seeds(seeds: u64, bug: Option<Bug>) -> (Option<u64>, i64, BTreeMap<&'static str, u64>) {
    let next = AtomicU64::new(0);
    let failed = AtomicU64::new(u64::MAX);
    let sums = Mutex::new((0, BTreeMap::new()));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                let (mut steps, mut situations) = (0, BTreeMap::new());
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds || failed.load(Ordering::Relaxed) < seed {
                        break;
                    }
                    let run = run(seed, bug, false);
                    steps += run.steps;
                    add(&mut situations, run.situations);
                    if run.outcome.is_err() {
                        failed.fetch_min(seed, Ordering::Relaxed);
                    }
                }
                let mut sums = sums.lock().expect("no thread panics with the lock");
                sums.0 += steps;
                add(&mut sums.1, situations);
            });
        }
    });
    let (steps, situations) = sums.into_inner().expect("no thread panics with the lock");
    (Some(failed.into_inner()).filter(|seed| *seed < u64::MAX), steps, situations)
}

fn add(sums: &mut BTreeMap<&'static str, u64>, further: BTreeMap<&'static str, u64>) {
    for (situation, count) in further {
        *sums.entry(situation).or_default() += count;
    }
}

/// The last `lines` of a run's steps, what went wrong and how to see it again.
fn report(seed: u64, bug: Option<Bug>, lines: usize) -> String {
    let run = run(seed, bug, true);
    let planted = bug.map(|bug| format!("SOUK_MODEL_BUG={bug:?} ")).unwrap_or_default();
    format!(
        "{}\nseed {seed}, step {}: {}\nreplay: {planted}SOUK_MODEL_SEED={seed} cargo test --test model -- replay_one_seed --nocapture",
        run.trace[run.trace.len().saturating_sub(lines)..].join("\n"),
        run.steps,
        run.outcome.err().unwrap_or_else(|| "every invariant held".into()),
    )
}

fn number_from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

#[test]
fn every_seed_keeps_the_invariants() {
    let seeds = number_from_environment("SOUK_MODEL_SEEDS").unwrap_or(EVERYDAY_SEEDS);
    let started = std::time::Instant::now();
    let (failed, steps, situations) = run_seeds(seeds, None);
    if let Some(seed) = failed {
        panic!("{}", report(seed, None, usize::MAX));
    }
    println!("{seeds} seeds, {steps} steps, {:.1} s", started.elapsed().as_secs_f64());
    for (situation, count) in &situations {
        println!("{count:>9} {situation}");
    }
    if seeds >= EVERYDAY_SEEDS {
        for situation in SITUATIONS {
            assert!(situations.contains_key(situation), "in {seeds} seeds it never happened that {situation}");
        }
    }
}

/// What the model is there for: a run of all seeds in which one of these never came up proves little.
const SITUATIONS: [&str; 28] = [
    "a cancellation overtook its placement",
    "a client repeated its request",
    "a client was told that its order failed",
    "a commit's outcome was unknown to a consumer",
    "a commit's outcome was unknown to the writer",
    "a decided order was placed again",
    "a key was reused for another input",
    "a part of a process panicked",
    "a process crashed",
    "a product was archived",
    "a request was answered as a replay",
    "a verdict came after the cancellation",
    "a verdict was dropped",
    "an adjustment below zero was refused",
    "an adjustment was repeated",
    "an event was published twice",
    "an illegal move was refused",
    "an old event was delivered again",
    "an order number was taken",
    "an order was cancelled",
    "an order was rejected",
    "an order was delivered",
    "an order was shipped",
    "another owner had moved the offset",
    "one key twice in a batch",
    "stock was released",
    "stock was reserved",
    "the relay's channel was full",
];

#[test]
fn every_planted_bug_is_found() {
    let mut missed = Vec::new();
    for bug in Bug::ALL {
        let (Some(seed), ..) = run_seeds(SEEDS_FOR_A_BUG, Some(bug)) else {
            missed.push(bug);
            continue;
        };
        println!("\n=== {bug:?}\n{}", report(seed, Some(bug), 40));
        let (failed, ..) = run_seeds(seed + 1, None);
        assert_eq!(failed, None, "{bug:?}: its seeds must pass without it");
    }
    assert!(missed.is_empty(), "not found in {SEEDS_FOR_A_BUG} seeds: {missed:?}");
}

#[test]
fn a_seed_replays_exactly() {
    for seed in 0..20 {
        let (first, second) = (run(seed, None, true), run(seed, None, true));
        assert_eq!(first.trace, second.trace, "seed {seed}");
        assert_eq!(first.steps, run(seed, None, false).steps, "seed {seed}: the trace changes the run");
    }
}

/// Replays the run that `SOUK_MODEL_SEED` names.
#[test]
fn replay_one_seed() {
    let Some(seed) = number_from_environment("SOUK_MODEL_SEED") else { return };
    let bug = std::env::var("SOUK_MODEL_BUG")
        .ok()
        .map(|name| Bug::named(&name).unwrap_or_else(|| panic!("{name:?} is none of {:?}", Bug::ALL)));
    println!("{}", report(seed, bug, usize::MAX));
    assert!(run(seed, bug, false).outcome.is_ok(), "seed {seed} fails");
}
