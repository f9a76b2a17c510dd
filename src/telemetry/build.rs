//! Which program this is.

pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit that a release was built from, or `dev`: see `build.rs`.
pub const BUILD: &str = env!("SOUK_BUILD");

/// As `souk --version` says it.
pub const VERSION_AND_BUILD: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("SOUK_BUILD"), ")");
