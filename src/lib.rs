//! Souk: a real-time, event-driven e-commerce backend.
