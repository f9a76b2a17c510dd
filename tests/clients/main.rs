//! npm's audits and clients of GraphQL against the real binary: `graphql-http` judges the transport, `graphql-ws` uses it.
//!
//! The scripts beside this file start nothing themselves; `scripts/test` installs what they import.

#![expect(clippy::unwrap_used, reason = "test code: a failure here fails the test")]

#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::PASSWORD;
use support::process::{ShopProcess, run};

/// What a script of the installed folder printed, and whether it was content.
fn node(arguments: &[&str], settings: &[(&str, &str)]) -> (bool, String) {
    let folder =
        PathBuf::from(std::env::var_os("SOUK_TEST_NPM_CLIENTS").expect("SOUK_TEST_NPM_CLIENTS names a folder"));
    let output =
        Command::new("node").args(arguments).envs(settings.iter().copied()).current_dir(folder).output().unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (output.status.success(), text)
}

/// The lines about audits that are not ok, and the last one, with the count.
fn audit(shop: &ShopProcess) -> (Vec<String>, String) {
    let (finished, text) = node(&["audits.mjs", &format!("http://{}/graphql", shop.public)], &[]);
    assert!(finished, "{text}");
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let count = lines.pop().unwrap();
    (lines, count)
}

#[test]
#[ignore = "needs SOUK_TEST_NPM_CLIENTS, a folder with npm's clients; scripts/test gives it"]
fn every_audit_of_graphql_over_http_is_ok() {
    let dir = tempfile::tempdir().unwrap();
    let shop = ShopProcess::start(&dir.path().join("data"), &[]);
    let (not_ok, count) = audit(&shop);
    println!("graphql-http: {count}");
    assert!(not_ok.is_empty(), "{}", not_ok.join("\n"));
    assert_eq!(count, "60 of 60 audits ok");
}

/// The first cells of the table rows of a document, where they are a name in backticks.
fn names_in_tables(document: &str) -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(document);
    let text = std::fs::read_to_string(path).unwrap();
    let name = |line: &str| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned());
    text.lines().filter_map(name).collect()
}

#[test]
#[ignore = "needs SOUK_TEST_NPM_CLIENTS, a folder with npm's clients; scripts/test gives it"]
fn a_hardened_shop_misses_only_the_audits_that_the_documentation_explains() {
    let dir = tempfile::tempdir().unwrap();
    let shop = ShopProcess::start(&dir.path().join("data"), &[("SOUK__GATEWAY__HARDENED", "true")]);
    let (not_ok, count) = audit(&shop);
    println!("graphql-http, hardened: {count}");
    let missed: BTreeSet<_> = not_ok.iter().map(|line| line.split(' ').nth(1).unwrap().to_owned()).collect();
    assert_eq!(missed, names_in_tables("docs/gateway.md"), "{}", not_ok.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs SOUK_TEST_NPM_CLIENTS, a folder with npm's clients; scripts/test gives it"]
async fn the_client_graphql_ws_is_served_comes_back_and_hears_why_it_was_closed() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let shop = ShopProcess::start(&data, &[("SOUK__GATEWAY__CONNECTION_INIT_TIMEOUT_MS", "1000")]);
    let create = ["admin", "create", "--email", "admin@test.example", "--name", "Admin", "--password-stdin"];
    let (code, _, stderr) = run(&data, &create, &[("SOUK__AUTH__BCRYPT_COST", "4")], PASSWORD);
    assert_eq!(code, 0, "{stderr}");
    let admin = shop.client().sign_in("admin@test.example", PASSWORD).await;
    let address = shop.public.to_string();
    let settings = [("SOUK_ADDRESS", &*address), ("SOUK_ADMIN_TOKEN", &*admin.token)];
    let (passed, text) = node(&["--test", "--test-reporter", "spec", "sockets.test.mjs"], &settings);
    println!("{text}");
    assert!(passed, "a case of graphql-ws failed");
}
