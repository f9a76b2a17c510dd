//! The main job through the public API, on a shop in this process.

#![expect(clippy::unwrap_used, reason = "test code: a failure here fails the test")]

#[path = "../support/mod.rs"]
mod support;

mod accounts;
mod api_keys;
mod caching;
mod campaigns;
mod catalogue;
mod contention;
mod dead_letters;
mod event_stream;
mod keys;
mod metrics;
mod notifications;
mod orders;
mod own_account;
mod passwords;
mod recommendations;
mod refresh;
mod restarts;
mod subscriptions;
mod timing;
mod trusted_documents;
