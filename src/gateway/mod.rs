//! The only way in: HTTP and WebSocket in front of one GraphQL schema.
//!
//! A request comes through [`server`] (ids, headers, metrics) to [`http`] or [`ws`]; both hand its text to
//! [`service::GraphqlService`], which finds what is named by its hash ([`persisted_queries`], [`trusted_documents`]), refuses what is too large ([`document_limits`]), parses once ([`documents`]),
//! learns who asks ([`auth`]) and runs it. A resolver translates: input to a message, the message's answer to output.
//! [`access`] says who may use which field, `scopes` which of them with an API key, [`errors`] what a refusal looks like, [`schema`] puts the areas together
//! (one file an area). [`admin`] is the operators' own listener.

pub mod access;
pub mod accounts;
pub mod admin;
mod answer_times;
pub mod api_key_auth;
pub mod api_keys;
pub mod auth;
pub mod campaigns;
pub mod client_address;
pub mod connections;
pub mod context;
pub mod cursors;
pub mod dead_letters;
pub mod document_limits;
pub mod documents;
pub mod drain;
mod entity_tags;
pub mod errors;
pub mod failed_fields;
pub mod field_names;
pub mod following;
mod fragment_sizes;
pub mod graphiql;
pub mod http;
pub mod input_values;
mod introspection_cost;
mod json_limits;
pub mod key_set;
pub mod loaders;
pub mod mail_pages;
pub mod meters;
pub mod money;
pub mod node;
pub mod notifications;
pub mod order_placement;
pub mod order_updates;
pub mod orders;
pub mod passwords;
pub mod persisted_queries;
pub mod products;
pub mod rate_limits;
pub mod recommendations;
pub mod request_errors;
pub mod request_ids;
pub mod scalars;
pub mod schema;
mod schema_file;
mod scopes;
pub mod server;
pub mod service;
pub mod session_check;
pub mod sessions;
pub mod settings;
pub mod sign_in_delays;
mod signed_in;
pub mod stock_updates;
pub mod supervision;
pub mod top_level_errors;
pub mod trusted_documents;
pub mod users;
pub mod ws;
