//! The only way in: HTTP and WebSocket in front of one GraphQL schema.
//!
//! A resolver translates: input to a message, the message's answer to output. `access` says who may use which field,
//! `errors` what a refusal looks like, `schema` puts the areas together (one file an area).

pub mod access;
pub mod connections;
pub mod context;
pub mod errors;
pub mod loaders;
pub mod money;
pub mod node;
pub mod order_placement;
pub mod order_updates;
pub mod orders;
pub mod products;
pub mod rate_limits;
pub mod scalars;
pub mod schema;
pub mod sessions;
pub mod stock_updates;
pub mod supervision;
pub mod top_level_errors;
pub mod users;
