//! Names the build: `SOUK_BUILD` where it is set (an image is built without the repository), else of a release the
//! commit of the working tree. Other builds are all called `dev`, so that no commit makes a developer build anew.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=SOUK_BUILD");
    let given = std::env::var("SOUK_BUILD").ok().filter(|build| is_name(build));
    let build = given.or_else(|| if is_release() { commit() } else { None });
    println!("cargo::rustc-env=SOUK_BUILD={}", build.as_deref().unwrap_or("dev"));
}

fn is_release() -> bool {
    std::env::var("PROFILE").is_ok_and(|profile| profile == "release")
}

/// `None` outside a repository, or without git.
fn commit() -> Option<String> {
    // Written with each commit and checkout.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo::rerun-if-changed={log}");
    }
    git(&["rev-parse", "--short=12", "HEAD"]).filter(|commit| is_name(commit))
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

/// Fit for a version line and a label.
fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_+".contains(&byte))
}
