//! The schema as a promise: its snapshot is current, it keeps the contract, every field says what it is and who may
//! use it, and nothing that a client relies on goes away unsaid.

#![expect(clippy::unwrap_used, reason = "test code: a failure here fails the test")]

mod access;
mod changes;
mod model;
#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::path::PathBuf;

use changes::{Breaking, breaking_changes, owner};
use model::{Kind, parts};
use souk::gateway::schema::sdl;

fn project_file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(project_file(name)).unwrap_or_default()
}

#[test]
fn the_snapshot_is_current() {
    assert!(read("schema.graphql") == sdl(), "schema.graphql is old; run: cargo run -- schema print > schema.graphql");
}

#[test]
fn everything_is_described_and_every_field_has_a_rule() {
    let mut missing = Vec::new();
    for (coordinate, part) in parts(&sdl()) {
        if !part.described {
            missing.push(format!("{coordinate} has no description"));
        }
        if part.kind == Kind::Field && part.rule.is_none() {
            missing.push(format!("{coordinate} has no @access: decide in gateway/access.rs"));
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

/// Parts of the contract that are not there yet. What is present must not stand here.
const NOT_YET: &[&str] = &[];

fn is_not_yet(coordinate: &str) -> bool {
    NOT_YET.iter().any(|part| {
        coordinate.strip_prefix(part).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '(', ' ']))
    })
}

/// The rule of a field to which the contract gives none: its type's, as the contract's head says.
fn default_rule(coordinate: &str) -> &'static str {
    match coordinate.split('.').next() {
        Some(
            "User" | "Preferences" | "SignedInSession" | "Session" | "Order" | "OrderLine" | "OrderEvent"
            | "OrderUpdate" | "Notification" | "Recommendation",
        ) => "OWNER",
        Some("DeadLetter" | "Header" | "Campaign" | "ActorStatus") => "STAFF",
        _ => "PUBLIC",
    }
}

#[test]
fn the_contract_is_kept() {
    let contract = parts(&read("tests/fixtures/contract.graphql"));
    let ours = parts(&sdl());
    let mut problems = Vec::new();
    for (coordinate, promised) in &contract {
        let Some(part) = ours.get(coordinate) else {
            if !is_not_yet(coordinate) {
                problems.push(format!("{coordinate} is missing"));
            }
            continue;
        };
        if is_not_yet(coordinate) {
            problems.push(format!("{coordinate} is there: strike it from NOT_YET"));
        }
        if (part.kind, &part.ty, &part.default) != (promised.kind, &promised.ty, &promised.default) {
            problems.push(format!("{coordinate} is {part:?}, promised is {promised:?}"));
        }
        if promised.kind == Kind::Field {
            let rule = promised.rule.as_deref().unwrap_or_else(|| default_rule(coordinate));
            if part.rule.as_deref() != Some(rule) {
                problems.push(format!("{coordinate} has the rule {:?}, promised is {rule}", part.rule));
            }
        }
    }
    for (coordinate, part) in &ours {
        if part.is_required()
            && !contract.contains_key(coordinate)
            && owner(coordinate).is_some_and(|owner| contract.contains_key(owner))
        {
            problems.push(format!("{coordinate} is required and not in the contract"));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

fn unaccepted() -> Vec<Breaking> {
    breaking_changes(&parts(&read("tests/schema.accepted.graphql")), &parts(&sdl()))
}

fn in_words(changes: &[Breaking]) -> String {
    changes.iter().map(|change| format!("  {} {}\n", change.coordinate, change.what)).collect()
}

#[test]
fn nothing_that_was_accepted_is_broken() {
    let changes = unaccepted();
    assert!(
        changes.is_empty(),
        "the schema breaks its clients:\n{}if that is meant, name each under \"Breaking\" in CHANGELOG.md (Unreleased) \
         and run scripts/accept-schema",
        in_words(&changes)
    );
}

/// The entries under `### Breaking` of `## Unreleased` (also written `## [Unreleased]`).
fn announced_breaking(changelog: &str) -> String {
    let mut version = "";
    let mut group = "";
    let mut announced = String::new();
    for line in changelog.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            (version, group) = (title.trim().trim_matches(['[', ']']), "");
        } else if let Some(title) = line.strip_prefix("### ") {
            group = title.trim();
        } else if version == "Unreleased" && group == "Breaking" {
            announced.push_str(line);
            announced.push('\n');
        }
    }
    announced
}

/// Whether the entries name exactly this part: `User.orders` does not name `User.order`.
fn names(announced: &str, coordinate: &str) -> bool {
    announced.match_indices(coordinate).any(|(at, found)| {
        let goes_on = |symbol: char| symbol.is_alphanumeric() || symbol == '_';
        let before = announced[..at].chars().next_back();
        let mut after = announced[at + found.len()..].chars();
        let next = after.next();
        let continues = match next {
            Some('.') => after.next().is_some_and(goes_on),
            Some('(') => true,
            next => next.is_some_and(goes_on),
        };
        !before.is_some_and(|symbol| goes_on(symbol) || symbol == '.') && !continues
    })
}

#[test]
fn a_breaking_change_counts_as_announced_only_where_it_belongs() {
    let changelog = "# Changelog\n## [Unreleased]\n### Added\n- `Lamp.color`\n### Breaking\n- `User.orders(first:)` is gone.\n\
                     - User.name, without follow-up.\n## 0.1.0\n### Breaking\n- `Lamp`\n";
    let announced = announced_breaking(changelog);
    for (coordinate, expected) in [
        ("User.orders(first:)", true),
        ("User.name", true),
        ("User.orders", false),
        ("User", false),
        ("name", false),
        ("Lamp.color", false),
        ("Lamp", false),
    ] {
        assert_eq!(names(&announced, coordinate), expected, "{coordinate}");
    }
}

/// Run by scripts/accept-schema: makes the present schema the accepted one.
#[test]
#[ignore = "rewrites tests/schema.accepted.graphql; run scripts/accept-schema"]
fn accept_the_present_schema() {
    let announced = announced_breaking(&read("CHANGELOG.md"));
    let unsaid: Vec<_> = unaccepted().into_iter().filter(|change| !names(&announced, &change.coordinate)).collect();
    assert!(
        unsaid.is_empty(),
        "these break clients and CHANGELOG.md does not name them under \"Breaking\" in Unreleased:\n{}",
        in_words(&unsaid)
    );
    fs::write(project_file("tests/schema.accepted.graphql"), sdl()).expect("the project is writable");
}
