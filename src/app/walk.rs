//! The walk through a running shop: every query and mutation with what its answer must say.
//!
//! `assets/walk/` has the steps, which are the one source of `souk demo --walk` and of the Postman collection. `steps`
//! reads them, `checks` judges an answer, `walker` asks a shop over HTTP as any client would.

mod checks;
mod steps;
mod walker;

pub use checks::{Mismatch, fill, placeholders, verify};
pub use steps::{Chapter, Check, Rule, Step, chapters};
pub use walker::{Stumble, Walker};

/// The variables of a walk, by name.
pub type Variables = std::collections::BTreeMap<String, String>;
