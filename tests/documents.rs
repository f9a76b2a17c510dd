//! What the documents name is there: every path in backticks in the documents for people, and every test in the one on security.

use std::path::Path;

/// Paths that a document names although they come to be only while a shop runs or a tool is installed.
const MADE_LATER: &[&str] = &["souk-data"];

/// What a document says between single backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The texts between single backticks that look like a path of this repository.
fn named_paths(text: &str) -> Vec<&str> {
    let is_path = |part: &&str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
        part.contains('/') && part.chars().all(plain) && !part.starts_with('/') && !part.starts_with("http")
    };
    quoted(text).filter(is_path).collect()
}

fn exists(root: &Path, path: &str) -> bool {
    // A path below src is often named as the module tree names it.
    [root.join(path), root.join("src").join(path)].iter().any(|candidate| candidate.exists())
}

fn missing(root: &Path, text: &str) -> Vec<String> {
    let unknown = |path: &&str| !MADE_LATER.contains(path) && !exists(root, path);
    named_paths(text).into_iter().filter(unknown).map(str::to_owned).collect()
}

/// The tests that a document names, each with the file that was named last before it: names of at least four words.
fn named_tests(text: &str) -> Vec<(&str, &str)> {
    let mut file = "";
    let mut tests = Vec::new();
    for part in quoted(text) {
        let is_name = part.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        if part.ends_with(".rs") {
            file = part;
        } else if is_name && part.split('_').count() >= 4 {
            tests.push((file, part));
        }
    }
    tests
}

fn missing_tests(root: &Path, text: &str) -> Vec<String> {
    let is_test = |file: &str, name: &str| {
        let source = std::fs::read_to_string(root.join(file)).unwrap_or_default();
        let place = source.find(&format!("fn {name}("));
        // Its attributes, `async` and a reason to be ignored stand right before it.
        place.is_some_and(|place| source[..place].rsplit("\n\n").next().is_some_and(|head| head.contains("test]")))
    };
    let missing = named_tests(text).into_iter().filter(|(file, name)| !is_test(file, name));
    missing.map(|(file, name)| format!("{file}: {name}")).collect()
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
        "docs/security.md",
        "assets/walk/README.md",
    ] {
        let text = std::fs::read_to_string(root.join(document)).unwrap();
        assert_eq!(missing(root, &text), Vec::<String>::new(), "{document} names what is not there");
    }
}

#[test]
fn every_test_that_the_document_on_security_names_is_where_it_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("docs/security.md")).unwrap();
    assert!(named_tests(&text).len() >= 40, "{:?}", named_tests(&text));
    assert_eq!(missing_tests(root, &text), Vec::<String>::new());
    let risks = (1..=10).filter(|risk| text.contains(&format!("| API{risk} "))).count();
    assert_eq!(risks, 10, "a risk of OWASP's ten has no row");
}

#[test]
fn a_planted_path_is_found() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = "See `src/domain/orders.rs`, `actors/live.rs`, `graphql-transport-ws` and `src/domain/nothing.rs`.";
    assert_eq!(missing(root, text), ["src/domain/nothing.rs"]);
}

#[test]
fn a_planted_test_is_found() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = "See `tests/documents.rs`: `a_planted_path_is_found`, `key_secret`, `no_such_test_is_there`, `every_path_that_a_document_names_exists`;
        `tests/house.rs`: `a_planted_path_is_found`.";
    assert_eq!(
        missing_tests(root, text),
        ["tests/documents.rs: no_such_test_is_there", "tests/house.rs: a_planted_path_is_found"]
    );
}
