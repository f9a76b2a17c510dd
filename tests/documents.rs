//! What the documents name is there: every path in backticks in the documents for people.

use std::path::Path;

/// Paths that a document names although they come to be only while a shop runs or a tool is installed.
const MADE_LATER: &[&str] = &["souk-data"];

/// The texts between single backticks that look like a path of this repository.
fn named_paths(text: &str) -> Vec<&str> {
    let is_path = |part: &&str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
        part.contains('/') && part.chars().all(plain) && !part.starts_with('/') && !part.starts_with("http")
    };
    text.split('`').skip(1).step_by(2).filter(is_path).collect()
}

fn exists(root: &Path, path: &str) -> bool {
    // A path below src is often named as the module tree names it.
    [root.join(path), root.join("src").join(path)].iter().any(|candidate| candidate.exists())
}

fn missing(root: &Path, text: &str) -> Vec<String> {
    let unknown = |path: &&str| !MADE_LATER.contains(path) && !exists(root, path);
    named_paths(text).into_iter().filter(unknown).map(str::to_owned).collect()
}

#[test]
fn every_path_that_a_document_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for document in [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "bench/README.md",
        "docs/api.md",
        "docs/gateway.md",
        "docs/runbook.md",
        "docs/scaling.md",
        "assets/walk/README.md",
    ] {
        let text = std::fs::read_to_string(root.join(document)).unwrap();
        assert_eq!(missing(root, &text), Vec::<String>::new(), "{document} names what is not there");
    }
}

#[test]
fn a_planted_path_is_found() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = "See `src/domain/orders.rs`, `actors/live.rs`, `graphql-transport-ws` and `src/domain/nothing.rs`.";
    assert_eq!(missing(root, text), ["src/domain/nothing.rs"]);
}
