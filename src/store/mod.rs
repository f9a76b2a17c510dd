//! Ports of the stores: narrow traits with the verbs that their one user needs, one file a domain.
//!
//! Every write that changes an aggregate saves its events in the same commit; the adapter hands what it committed to
//! the relay through [`outbox::Outbox::committed`], so nobody can commit an event and forget to publish it. Every effect of a
//! consumed event commits together with the consumer's offset ([`consumption::Consumption`]).

pub mod api_keys;
pub mod cache;
pub mod campaigns;
pub mod consumption;
mod cursor;
mod delegation;
pub mod mongo;
pub mod notifications;
pub mod operations;
pub mod orders;
pub mod outbox;
mod product_position;
pub mod products;
pub mod recommendations;
pub mod sqlite;
pub mod users;

/// Why a store could not do what it was asked. Expected refusals are values of each verb's own result.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The store cannot be reached or failed: try again later. Whether the write happened is unknown.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// The store holds something that it should not, or the adapter has a fault.
    #[error("the store is broken: {0}")]
    Broken(String),
    /// The position after which a page was asked for is not one that this store made for this list.
    #[error("not a cursor of this list")]
    InvalidCursor,
}
