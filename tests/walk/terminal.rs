//! `souk demo --walk`, the real binary against the real binary.

use std::path::Path;

use souk::app::walk::chapters;

use crate::collection::{ADMIN, ADMIN_PASSWORD, shop_with_an_admin};
use crate::support::process;

/// Exit code, stdout, stderr.
fn walk(folder: &Path, url: &str, password: &str) -> (i32, String, String) {
    let arguments = ["demo", "--walk", "--url", url, "--admin", ADMIN, "--password-stdin"];
    process::run(&folder.join("not-used"), &arguments, &[], password)
}

#[test]
fn the_walk_ticks_every_step_off_and_can_be_walked_again() {
    let dir = tempfile::tempdir().unwrap();
    let shop = shop_with_an_admin(&dir.path().join("data"));
    let url = format!("http://{}/graphql", shop.public);
    for _ in 0..2 {
        let (code, stdout, stderr) = walk(dir.path(), &url, &format!("{ADMIN_PASSWORD}\n"));
        assert_eq!(code, 0, "{stdout}\n{stderr}");
        for chapter in chapters() {
            assert!(stdout.contains(&chapter.title), "{stdout}");
            for step in chapter.steps {
                let ticked = |line: &str| line.trim_start().starts_with('✓') && line.ends_with(&step.name);
                assert!(stdout.lines().any(ticked), "{} is not ticked off:\n{stdout}", step.name);
            }
        }
    }
    assert!(!dir.path().join("not-used").exists(), "the walk makes no data folder of its own");
}

#[test]
fn the_walk_ends_with_1_at_the_first_answer_that_is_not_as_expected() {
    let dir = tempfile::tempdir().unwrap();
    let shop = shop_with_an_admin(&dir.path().join("data"));
    let (code, stdout, stderr) = walk(dir.path(), &format!("http://{}/graphql", shop.public), "another password");
    assert_eq!(code, 1, "{stdout}\n{stderr}");
    assert!(stdout.contains("✗") && !stdout.contains("✓"), "{stdout}");
    let told =
        r#"souk: "The administrator signs in": expected nothing refused, but it is [{"code":"INVALID_CREDENTIALS""#;
    assert!(stderr.starts_with(told), "{stderr}");
    assert!(!stderr.contains("another password"), "{stderr}");
}

#[test]
fn the_walk_says_when_there_is_no_shop() {
    let dir = tempfile::tempdir().unwrap();
    // A port that was free a moment ago, and that nothing listens on.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (code, _, stderr) = walk(dir.path(), &format!("http://{free}/graphql"), ADMIN_PASSWORD);
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("the shop did not answer"), "{stderr}");
}

#[test]
fn what_only_a_walk_takes_is_refused_without_it() {
    let dir = tempfile::tempdir().unwrap();
    let (code, _, stderr) = process::run(&dir.path().join("data"), &["demo", "--url", "http://x/graphql"], &[], "");
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("--walk"), "{stderr}");
}
