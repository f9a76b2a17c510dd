//! Embedded stores: one SQLite file a domain.
