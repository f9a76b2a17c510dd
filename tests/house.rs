//! The rules of the house that no compiler checks, by reading the sources: the import table, a pure domain, short files,
//! log messages, no messages sent into the void, and panics that unwind.
//!
//! Each rule is a function from one source file to what breaks it, and has a test that plants such a break.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

#[path = "house/lexer.rs"]
mod lexer;

use std::fs;
use std::path::{Path, PathBuf};

use lexer::{Token, TokenKind, tokens};

const MAX_LINES: usize = 600;

/// Who may import whom: each layer those with a lower rank, and itself. Layers of one rank are siblings, which never
/// import each other.
const LAYERS: &[(&str, usize)] = &[
    ("domain", 0),
    ("config", 1),
    ("telemetry", 1),
    ("store", 2),
    ("mail", 2),
    ("actors", 3),
    ("kafka", 4),
    ("gateway", 4),
    ("app", 5),
    ("cli", 6),
    ("main", 7),
];

/// What the domain must not name: runtimes, I/O and clocks. A path's tail suffices, however it was imported.
const FORBIDDEN_IN_DOMAIN: &[&[&str]] = &[
    &["actix"],
    &["actix_rt"],
    &["actix_web"],
    &["tokio"],
    &["rusqlite"],
    &["std", "fs"],
    &["std", "net"],
    &["std", "env"],
    &["std", "thread"],
    &["Utc", "now"],
    &["Local", "now"],
    &["SystemTime", "now"],
    &["Instant", "now"],
    &["Uuid", "now_v7"],
];

/// One source file, its path relative to `src/`.
struct Source {
    path: PathBuf,
    text: String,
    tokens: Vec<Token>,
}

impl Source {
    fn new(path: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { path: path.into(), tokens: tokens(&text), text }
    }

    /// The file's place among the modules: `actors/orders.rs` is `[actors, orders]`, `actors/mod.rs` is `[actors]`.
    fn module(&self) -> Vec<String> {
        let mut module: Vec<String> =
            self.path.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
        if module.last().is_some_and(|last| last == "mod") {
            module.pop();
        }
        module
    }

    fn ident(&self, at: usize) -> Option<&str> {
        self.tokens.get(at).and_then(Token::ident)
    }

    fn is(&self, at: usize, punct: char) -> bool {
        self.tokens.get(at).is_some_and(|token| token.kind == TokenKind::Punct(punct))
    }

    /// Whether the tokens at `at` are `::`.
    fn is_path_separator(&self, at: usize) -> bool {
        self.is(at, ':') && self.is(at + 1, ':')
    }

    /// Whether `idents` stand at `at`, joined by `::`.
    fn is_path(&self, at: usize, idents: &[&str]) -> bool {
        idents.iter().enumerate().all(|(i, ident)| {
            self.ident(at + 3 * i) == Some(ident) && (i == 0 || self.is_path_separator(at + 3 * i - 2))
        })
    }

    fn breach(&self, at: usize, what: impl std::fmt::Display) -> String {
        format!("src/{}:{}: {what}", self.path.display(), self.tokens[at].line)
    }
}

fn rank(layer: &str) -> Option<usize> {
    LAYERS.iter().find(|(name, _)| *name == layer).map(|(_, rank)| *rank)
}

/// The first names of every path into the crate that starts at token `at`: one, or those of a group in braces.
fn roots_after(source: &Source, at: usize) -> Vec<(usize, String)> {
    if let Some(name) = source.ident(at) {
        return vec![(at, name.to_owned())];
    }
    if source.is(at, '*') {
        return vec![(at, "*".to_owned())];
    }
    let mut roots = Vec::new();
    if source.is(at, '{') {
        let (mut depth, mut at, mut starts) = (1, at + 1, true);
        while depth > 0 && at < source.tokens.len() {
            match &source.tokens[at].kind {
                TokenKind::Punct('{') => depth += 1,
                TokenKind::Punct('}') => depth -= 1,
                TokenKind::Punct(',') if depth == 1 => starts = true,
                TokenKind::Punct('*') if depth == 1 && starts => roots.push((at, "*".to_owned())),
                TokenKind::Ident(name) if depth == 1 && starts => {
                    roots.push((at, name.clone()));
                    starts = false;
                }
                _ => {}
            }
            at += 1;
        }
    }
    roots
}

/// Every name at the crate's root that the file uses: through `crate::`, `souk::`, or enough `super::` to get there.
fn roots_used(source: &Source) -> Vec<(usize, String)> {
    let depth = source.module().len();
    let mut used = Vec::new();
    for at in 0..source.tokens.len() {
        let inside_a_path = at >= 2 && source.is_path_separator(at - 2);
        let Some(name) = source.ident(at) else { continue };
        match name {
            "crate" | "souk" if !inside_a_path && source.is_path_separator(at + 1) => {
                used.extend(roots_after(source, at + 3));
            }
            "crate" if source.ident(at + 1) == Some("as") => used.push((at, "*".to_owned())),
            "super" if !inside_a_path => {
                let mut next = at;
                let mut levels = 0;
                while source.ident(next) == Some("super") && source.is_path_separator(next + 1) {
                    levels += 1;
                    next += 3;
                }
                if levels >= depth {
                    used.extend(roots_after(source, next).into_iter().filter(|(_, name)| rank(name).is_some()));
                }
            }
            _ => {}
        }
    }
    used
}

fn check_imports(source: &Source) -> Vec<String> {
    let module = source.module();
    let own = module.first().map(String::as_str).unwrap_or_default();
    if own == "lib" {
        return check_lib(source);
    }
    let Some(own_rank) = rank(own) else {
        return vec![format!("src/{}: `{own}` is no layer of the import table", source.path.display())];
    };
    roots_used(source)
        .into_iter()
        .filter_map(|(at, used)| {
            if used == "*" {
                return Some(source.breach(at, "the whole crate is imported, which hides the layers"));
            }
            // What is no layer is a macro at the root: lib.rs re-exports nothing.
            let allowed = used == own || rank(&used).is_none_or(|used_rank| used_rank < own_rank);
            (!allowed).then(|| source.breach(at, format_args!("`{own}` must not import `{used}`")))
        })
        .collect()
}

/// lib.rs only declares the layers: a re-export would be a way around the table.
fn check_lib(source: &Source) -> Vec<String> {
    let mut breaches = Vec::new();
    for at in 0..source.tokens.len() {
        match source.ident(at) {
            Some("use") => breaches.push(source.breach(at, "lib.rs declares layers and re-exports nothing")),
            Some("mod") if source.ident(at + 1).is_none_or(|name| rank(name).is_none()) => {
                breaches.push(source.breach(at, "this is no layer of the import table"));
            }
            _ => {}
        }
    }
    breaches
}

fn check_domain(source: &Source) -> Vec<String> {
    if source.module().first().is_none_or(|layer| layer != "domain") {
        return Vec::new();
    }
    let named = |at: usize| FORBIDDEN_IN_DOMAIN.iter().find(|path| source.is_path(at, path));
    (0..source.tokens.len())
        .filter_map(|at| {
            named(at).map(|path| source.breach(at, format_args!("the domain names `{}`", path.join("::"))))
        })
        .collect()
}

fn check_length(source: &Source) -> Vec<String> {
    let lines = source.text.lines().count();
    if lines <= MAX_LINES {
        return Vec::new();
    }
    vec![format!("src/{}: {lines} lines; split what has more than {MAX_LINES}", source.path.display())]
}

/// A log message starts in lower case, unless its first word is an abbreviation in capitals.
fn check_log_messages(source: &Source) -> Vec<String> {
    let mut breaches = Vec::new();
    for at in 0..source.tokens.len() {
        let level = matches!(source.ident(at), Some("error" | "warn" | "info" | "debug" | "trace" | "event"));
        if !(level && source.is(at + 1, '!') && source.is(at + 2, '(')) {
            continue;
        }
        let mut depth = 1;
        let mut next = at + 3;
        while depth > 0 && next < source.tokens.len() {
            match &source.tokens[next].kind {
                TokenKind::Punct('(' | '[' | '{') => depth += 1,
                TokenKind::Punct(')' | ']' | '}') => depth -= 1,
                // Only the message is an argument by itself: a field's value follows its `=`.
                TokenKind::Text(message) if depth == 1 && (source.is(next - 1, '(') || source.is(next - 1, ',')) => {
                    let word: String = message.chars().take_while(|c| c.is_alphanumeric()).collect();
                    let abbreviation = word.len() > 1 && !word.chars().any(char::is_lowercase);
                    if word.starts_with(char::is_uppercase) && !abbreviation {
                        breaches
                            .push(source.breach(next, format_args!("log message `{message}` starts in upper case")));
                    }
                }
                _ => {}
            }
            next += 1;
        }
    }
    breaches
}

/// `do_send` is for ticks to oneself, `ctx.address().do_send(Tick)`: to anyone else it ignores the mailbox's capacity.
fn check_do_send(source: &Source) -> Vec<String> {
    (0..source.tokens.len())
        .filter(|at| source.ident(*at) == Some("do_send"))
        .filter(|at| {
            let to_oneself = *at >= 4 && source.ident(at - 4) == Some("address") && source.is(at - 3, '(');
            !to_oneself
        })
        .map(|at| source.breach(at, "`do_send` to someone else than oneself: ask with a deadline"))
        .collect()
}

/// A profile says `panic = "unwind"`, or inherits from one that does. Without it the supervisor has nothing to catch.
fn check_profiles(manifest: &str) -> Vec<String> {
    let manifest: toml::Table = toml::from_str(manifest).expect("Cargo.toml is TOML");
    let profiles = manifest.get("profile").and_then(toml::Value::as_table).cloned().unwrap_or_default();
    let mut breaches = Vec::new();
    for needed in ["dev", "release"] {
        if !profiles.contains_key(needed) {
            breaches.push(format!("Cargo.toml: there is no [profile.{needed}]"));
        }
    }
    for (name, profile) in &profiles {
        let unwinds = match profile.get("panic").and_then(toml::Value::as_str) {
            Some(panic) => panic == "unwind",
            None => profile.get("inherits").is_some(),
        };
        if !unwinds {
            breaches.push(format!("Cargo.toml: [profile.{name}] does not say panic = \"unwind\""));
        }
    }
    breaches
}

fn sources() -> Vec<Source> {
    fn walk(folder: &Path, root: &Path, found: &mut Vec<Source>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, root, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(Source::new(path.strip_prefix(root).unwrap(), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    walk(&root, &root, &mut found);
    assert!(found.len() > 3, "the sources are not where this test looks");
    found
}

fn assert_kept(rule: fn(&Source) -> Vec<String>) {
    let breaches: Vec<String> = sources().iter().flat_map(rule).collect();
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

#[test]
fn imports_point_inward() {
    assert_kept(check_imports);
}

#[test]
fn the_domain_knows_no_runtime_no_io_and_no_clock() {
    assert_kept(check_domain);
}

#[test]
fn no_file_is_too_long() {
    assert_kept(check_length);
}

#[test]
fn log_messages_start_in_lower_case() {
    assert_kept(check_log_messages);
}

#[test]
fn nobody_sends_without_hearing_the_answer() {
    assert_kept(check_do_send);
}

#[test]
fn panics_unwind_in_every_profile() {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    assert_eq!(check_profiles(&manifest), Vec::<String>::new());
}

/// Runs a rule over planted files: each with how many breaches it has.
fn assert_finds(rule: fn(&Source) -> Vec<String>, planted: &[(&str, &str, usize)]) {
    for (path, text, expected) in planted {
        let found = rule(&Source::new(*path, *text));
        assert_eq!(found.len(), *expected, "{path}: {text}\nfound: {found:#?}");
    }
}

#[test]
fn a_planted_import_is_found() {
    assert_finds(
        check_imports,
        &[
            ("domain/orders.rs", "use crate::domain::money::Money;", 0),
            ("domain/orders.rs", "use crate::config::Config;", 1),
            ("config.rs", "use crate::telemetry::Metrics;", 1),
            ("telemetry.rs", "use crate::{config::Config, domain::ids};", 1),
            ("store/sqlite/orders.rs", "use crate::{domain::{ids::Id, money}, config, telemetry::Metrics};", 0),
            ("store/mod.rs", "use crate::mail::Mailer;", 1),
            ("mail.rs", "fn f() { crate::store::open() }", 1),
            ("actors/orders.rs", "use crate::store::Port; use crate::mail::Mailer; use crate::actors::live;", 0),
            ("actors/orders.rs", "use crate::{\n    domain,\n    gateway::schema,\n    kafka::{relay, topics},\n};", 2),
            ("kafka/relay.rs", "use crate::actors::live; use crate::gateway::http;", 1),
            ("gateway/http.rs", "use crate::kafka::{self, topics};", 1),
            ("gateway/http.rs", "use crate::app::App;", 1),
            ("app.rs", "use crate::{store, kafka, gateway};", 0),
            ("app.rs", "use crate::cli::Serve;", 1),
            ("cli/serve.rs", "use crate::app;", 0),
            ("main.rs", "use souk::cli; use souk::config::Config;", 0),
            ("cli/serve.rs", "souk::main::run()", 1),
            ("store/mod.rs", "use super::actors::live;", 1),
            ("store/sqlite/orders.rs", "use super::super::super::actors::live;", 1),
            ("store/sqlite/orders.rs", "use super::super::errors; use super::mail;", 0),
            ("store/mod.rs", "use crate::*;", 1),
            ("store/mod.rs", "use crate as souk_itself;", 1),
            (
                "store/mod.rs",
                "// crate::gateway\n/* crate::app /* crate::cli */ */ let s = \"crate::app\"; r#\"crate::app\"#;",
                0,
            ),
            ("store/mod.rs", "let c = '\"'; crate::app::x(); let d = '\"';", 1),
            ("store/mod.rs", "crate::some_macro!()", 0),
            ("helpers.rs", "", 1),
            ("lib.rs", "#![forbid(unsafe_code)]\npub mod config;\npub mod telemetry;", 0),
            ("lib.rs", "pub mod config;\npub use config::Config;", 1),
            ("lib.rs", "mod util;", 1),
        ],
    );
}

#[test]
fn a_planted_impurity_is_found() {
    assert_finds(
        check_domain,
        &[
            ("domain/orders.rs", "let at = Utc::now();", 1),
            (
                "domain/orders.rs",
                "use std::time::SystemTime; fn f() { SystemTime::now(); std::time::Instant::now(); }",
                2,
            ),
            ("domain/orders.rs", "use tokio::sync::mpsc; use actix::Actor;", 2),
            ("domain/orders.rs", "std::fs::read(path)", 1),
            ("domain/orders.rs", "use chrono::{DateTime, Utc}; fn now(at: DateTime<Utc>) {} // Utc::now()", 0),
            ("actors/orders.rs", "let at = Utc::now();", 0),
        ],
    );
}

#[test]
fn a_planted_long_file_is_found() {
    let (long, short) = ("\n".repeat(MAX_LINES + 1), "\n".repeat(MAX_LINES));
    assert_finds(check_length, &[("app.rs", long.as_str(), 1), ("app.rs", short.as_str(), 0)]);
}

#[test]
fn a_planted_log_message_is_found() {
    assert_finds(
        check_log_messages,
        &[
            ("app.rs", "info!(\"souk is ready\")", 0),
            ("app.rs", "info!(\"Souk is ready\")", 1),
            ("app.rs", "tracing::warn!(order.id = %id, attempt = 3, \"Could not send {}\", f(\"An argument\"))", 1),
            ("app.rs", "warn!(name = \"Capital\", kind = %kind(\"Other\"), \"could not send\")", 0),
            ("app.rs", "error!(\"SMTP is away\"); debug!(\"{id} is away\"); info(\"A function\");", 0),
        ],
    );
}

#[test]
fn a_planted_do_send_is_found() {
    assert_finds(
        check_do_send,
        &[
            ("actors/orders.rs", "self.products.do_send(Reserve)", 1),
            ("actors/orders.rs", "ctx.address().do_send(Tick)", 0),
            ("actors/orders.rs", "Addr::do_send(&addr, Tick)", 1),
        ],
    );
}

#[test]
fn a_planted_profile_is_found() {
    let unwind = "panic = \"unwind\"";
    for (manifest, breaches) in [
        (format!("[profile.dev]\n{unwind}\n[profile.release]\n{unwind}\n[profile.bench]\ninherits = \"release\""), 0),
        (format!("[profile.dev]\n{unwind}\n[profile.release]\npanic = \"abort\""), 1),
        (format!("[profile.dev]\n[profile.release]\n{unwind}"), 1),
        (format!("[profile.release]\n{unwind}"), 1),
    ] {
        assert_eq!(check_profiles(&manifest).len(), breaches, "{manifest}");
    }
}
