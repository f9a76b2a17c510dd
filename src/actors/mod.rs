//! The actors and what keeps them alive.
//!
//! An [`Address`] puts a question into its actor's two-lane queue ([`mailbox`]) and waits for the answer with a
//! deadline ([`ask`]). The [`supervisor`] owns queue and actor apart from each other, so that a panicked or frozen
//! actor is rebuilt behind an address that stays valid. The domains' actors ([`users`], [`products`], [`orders`],
//! [`recommendations`], [`notifications`], [`operations`]) hold no truth of their own: the stores decide every race.

pub mod ask;
pub mod clock;
pub mod errors;
mod inbox;
pub mod live;
pub mod mailbox;
pub mod notifications;
pub mod operations;
pub mod orders;
pub mod priority;
pub mod products;
pub mod recommendations;
pub mod server_secret;
pub mod supervisor;
pub mod users;

pub use ask::{Address, AskError};
