//! The event log and what moves events through it: the port's conformance suite over every adapter, consumer groups,
//! the relay, dead letters, the tail.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "tests end at the first surprise; measurements print")]

mod broker;
mod conformance;
mod consumers;
mod dead_letters;
mod embedded;
mod fakes;
mod measure;
mod memory_log;
mod relays;
mod tails;
