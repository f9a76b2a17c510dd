//! `postman/` is what the walk gives, and newman finds it good against the real binary.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::postman;
use crate::support::process::{self, ShopProcess};

pub const ADMIN: &str = "admin@walk.example";
pub const ADMIN_PASSWORD: &str = "a password for the walk";

/// A shop of the real binary with an administrator and nothing else.
pub fn shop_with_an_admin(data_dir: &Path) -> ShopProcess {
    let arguments = ["admin", "create", "--email", ADMIN, "--name", "Admin", "--password-stdin"];
    let (code, _, stderr) = process::run(data_dir, &arguments, &[("SOUK__AUTH__BCRYPT_COST", "4")], ADMIN_PASSWORD);
    assert_eq!(code, 0, "{stderr}");
    ShopProcess::start(data_dir, &[])
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("postman").join(format!("souk.postman_{name}.json"))
}

#[test]
fn the_postman_files_are_what_the_walk_gives() {
    let write = std::env::var_os("SOUK_WRITE_POSTMAN").is_some();
    for (name, value) in [("collection", postman::collection()), ("environment", postman::environment())] {
        let text = serde_json::to_string_pretty(&value).unwrap() + "\n";
        if write {
            std::fs::write(file(name), &text).unwrap();
        }
        let stored = std::fs::read_to_string(file(name)).unwrap_or_default();
        assert!(
            stored == text,
            "postman/ has another {name}; run: SOUK_WRITE_POSTMAN=1 cargo test --test walk the_postman"
        );
    }
}

#[test]
fn each_request_of_the_collection_has_tests_and_a_name_of_its_own() {
    let collection = postman::collection();
    let folders = collection["item"].as_array().unwrap();
    let requests: Vec<&Value> = folders.iter().flat_map(|folder| folder["item"].as_array().unwrap()).collect();
    let mut names: Vec<_> = requests.iter().map(|request| request["name"].as_str().unwrap()).collect();
    for request in &requests {
        let events = request["event"].as_array().unwrap();
        let script = &events.iter().find(|event| event["listen"] == "test").unwrap()["script"]["exec"];
        assert!(script.as_array().unwrap().iter().any(|line| line.as_str().unwrap().contains("pm.test(")), "{request}");
    }
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), requests.len(), "two requests have one name");
}

fn newman(shop: &ShopProcess, password: &str) -> Output {
    let newman = std::env::var_os("SOUK_TEST_NEWMAN").expect("SOUK_TEST_NEWMAN names newman's program");
    Command::new(newman)
        .arg("run")
        .arg(file("collection"))
        .arg("--environment")
        .arg(file("environment"))
        .args(["--env-var", &format!("url=http://{}/graphql", shop.public)])
        .args(["--env-var", &format!("adminEmail={ADMIN}"), "--env-var", &format!("adminPassword={password}")])
        .args(["--bail", "--color", "off", "--reporters", "cli", "--reporter-cli-no-banner"])
        .output()
        .expect("newman runs")
}

#[test]
#[ignore = "needs SOUK_TEST_NEWMAN; scripts/test gives it"]
fn newman_finds_every_answer_of_the_real_binary_good_twice_and_tells_a_wrong_one() {
    let dir = tempfile::tempdir().unwrap();
    let shop = shop_with_an_admin(&dir.path().join("data"));
    let report = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();
    for _ in 0..2 {
        let output = newman(&shop, ADMIN_PASSWORD);
        assert!(output.status.success(), "{}", report(&output));
    }
    let wrong = newman(&shop, "another password");
    assert_eq!(wrong.status.code(), Some(1), "{}", report(&wrong));
    assert!(report(&wrong).contains("The administrator signs in"), "{}", report(&wrong));
}
