//! The rules of the shop, pure: ids, money, events, decisions, one file a domain.
//!
//! Nothing here performs I/O, reads a clock, or knows another module of the crate: time and randomness come in as
//! arguments, so every decision can be replayed.

pub mod api_keys;
pub mod campaign_triggers;
pub mod campaigns;
pub mod dead_letters;
pub mod events;
pub mod ids;
pub mod inventory;
pub mod mail_requests;
pub mod money;
pub mod networks;
pub mod notifications;
pub mod orders;
pub mod page;
pub mod passwords;
pub mod products;
pub mod recommendations;
pub mod schedules;
pub mod search;
pub mod signing_keys;
pub mod text;
pub mod time;
pub mod users;
