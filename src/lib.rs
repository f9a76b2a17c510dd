//! Souk: a real-time, event-driven e-commerce backend.
#![forbid(unsafe_code)]

pub mod actors;
