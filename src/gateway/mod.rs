//! The only way in: HTTP and WebSocket in front of one GraphQL schema.
//!
//! A request comes through [`server`] (ids, headers, metrics) to [`http`] or [`ws`]; both hand its text to
//! [`service::GraphqlService`], which refuses what is too large ([`document_limits`]), parses once ([`documents`]),
//! learns who asks ([`auth`]) and runs it. [`admin`] is the operators' own listener.

pub mod admin;
pub mod auth;
pub mod client_address;
pub mod context;
pub mod document_limits;
pub mod documents;
pub mod drain;
pub mod graphiql;
pub mod http;
pub mod request_errors;
pub mod server;
pub mod service;
pub mod session_check;
pub mod settings;
pub mod ws;
