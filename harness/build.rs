//! Puts the commit into the binary, so that every report says what measured it.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-env-changed=QUORATE_BUILD_COMMIT");
    // The log of HEAD changes with every commit and checkout; HEAD itself often does not.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo:rerun-if-changed={log}");
    }
    let commit = std::env::var("QUORATE_BUILD_COMMIT").ok().filter(|commit| !commit.is_empty());
    let commit = commit.or_else(|| git(&["rev-parse", "--short", "HEAD"]));
    println!("cargo:rustc-env=QUORATE_COMMIT={}", commit.as_deref().unwrap_or("unknown"));
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
