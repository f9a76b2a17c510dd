//! The shop's measurements: `scripts/bench` runs them and prints one table.
//!
//! Every figure is a ratio within one run, because the machine's own speed is not the subject. The shop is the release
//! binary in a process of its own, the clients are this binary again (`shop client`), so that neither's CPU time is
//! taken for the other's. An answer with `errors` counts as a failure and is never counted as done.

#![expect(clippy::disallowed_methods, reason = "a measurement waits out its time, on threads of its own")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement that fails ends with a panic and prints")]

mod bare;
mod changes;
mod follow;
mod http;
mod idle;
mod job;
mod load;
mod mail;
mod metrics;
mod orders;
mod pairs;
mod process;
mod run;
mod servers;
mod shop;
mod table;
mod yardstick;

/// Shared with the tests.
#[path = "../../tests/delivery/queue.rs"]
mod queue;
#[expect(dead_code, reason = "the tests use more of it")]
#[path = "../../tests/support/sink.rs"]
mod sink;

/// How long a mail or a change may take before the measurement gives up.
const DEADLINE: std::time::Duration = std::time::Duration::from_secs(60);

/// The shop's own, for the parts that run the shop in this process.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    // Cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.first().map(String::as_str) {
        Some("client") => job::serve_client(),
        Some("bare") => bare::serve(&arguments[1]),
        Some("only") => run::all(&run::Only::named(&arguments[1..])),
        _ => run::all(&run::Only::default()),
    }
}
