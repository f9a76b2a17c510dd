//! Many processes of the real binary on real servers: they share the load, and what happens to one of them, or to a server, loses
//! nothing and doubles nothing.

#![expect(clippy::unwrap_used, reason = "test code: a failure here fails the test")]

#[path = "../support/mod.rs"]
mod support;

mod away;
mod books;
mod chaos;
mod demo;
mod fleet;
mod happenings;
mod load;
mod report;
mod roles;
mod shutdown;
