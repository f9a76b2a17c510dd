//! The delivery of mail by its actors, with a store on disk and a mailer that does what a test says.

#![expect(clippy::unwrap_used, reason = "test code: a failure here fails the test")]

#[path = "../support/mod.rs"]
mod support;

mod counted_claims;
mod deliveries;
mod failures;
mod scene;
