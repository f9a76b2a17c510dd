//! Supervised actors: the domains and what they share.

pub mod ask;
pub mod clock;
pub mod errors;
pub mod live;
pub mod orders;
pub mod products;
pub mod users;

pub use ask::{Address, AskError};
