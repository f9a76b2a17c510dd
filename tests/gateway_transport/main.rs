//! The gateway's transports over real sockets, in front of a small schema: GraphQL over HTTP, graphql-transport-ws,
//! authentication, and the admin listener.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking too")]

mod admin;
mod harness;
mod http;
mod mail_pages;
mod socket;
