//! What must be refused, as a table: every operation in scope and the transport, through the public API.
//!
//! A row says what is sent and what is answered: the status as either media type, the code and the input that it is
//! about. Each row is sent as both; afterwards nothing may be stored and nothing may have been restarted.

#![expect(clippy::unwrap_used, reason = "test code: a failure here fails the test")]

#[path = "../support/mod.rs"]
mod support;

mod accounts;
mod api_keys;
mod campaigns;
mod dead_letters;
mod documents;
mod errors_and_data;
mod forgeries;
mod hostile;
mod lists;
mod notifications;
mod orders;
mod own_account;
mod products;
mod recommendations;
mod row;
mod sockets;
mod tokens;
mod transport;
mod world;
