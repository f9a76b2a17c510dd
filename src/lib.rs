//! Souk: a real-time, event-driven e-commerce backend.
//!
//! Supervised actors own the domains, one GraphQL gateway is the way in, an event log joins the domains, and one
//! binary runs it all. ARCHITECTURE.md has the map; imports point inward and `tests/house.rs` enforces it.

#![forbid(unsafe_code)]

pub mod actors;
pub mod app;
pub mod cli;
pub mod config;
pub mod domain;
pub mod gateway;
pub mod kafka;
pub mod mail;
pub mod store;
pub mod telemetry;
