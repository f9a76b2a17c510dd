//! The only way in: HTTP and WebSocket in front of one GraphQL schema.

pub mod context;
