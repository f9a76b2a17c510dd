//! The actors and what keeps them alive.
//!
//! An [`Address`] puts a question into its actor's two-lane queue ([`mailbox`]) and waits for the answer with a
//! deadline ([`ask`]). The [`supervisor`] owns queue and actor apart from each other, so that a panicked or frozen
//! actor is rebuilt behind an address that stays valid.

pub mod ask;
mod inbox;
pub mod mailbox;
pub mod supervisor;

pub use ask::{Address, AskError};
