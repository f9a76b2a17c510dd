//! The gateway's transports over real sockets, in front of a small schema: GraphQL over HTTP, graphql-transport-ws,
//! server-sent events, authentication, and the admin listener.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking too")]

mod admin;
mod event_stream;
#[expect(dead_code, reason = "the shop's tests use more of it")]
#[path = "../support/events.rs"]
mod events;
mod harness;
mod http;
mod mail_pages;
mod persisted_queries;
mod socket;
