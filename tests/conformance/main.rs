//! One suite for each port: every case is named once and runs over every adapter.
//!
//! An adapter is plugged in by a module in [`harness`] that opens its stores; what cannot run here is marked ignored
//! there, never passed in silence.

#![allow(clippy::unwrap_used, reason = "a case that cannot go on fails where it stands")]

#[macro_use]
mod harness;

mod accounts;
mod api_keys;
mod cache;
mod campaigns;
mod consumption;
mod inventory;
mod markers;
mod mongo;
mod mongo_notifications;
mod mongo_orders;
mod mongo_recommendations;
mod notifications;
mod operations;
mod orders;
mod outbox;
mod products;
mod recommendations;
mod search;
mod sqlite;
mod users;
mod wire;
