//! Gives the crate the commit it is built from as `QUORATE_COMMIT`.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=QUORATE_BUILD_COMMIT");
    let commit = std::env::var("QUORATE_BUILD_COMMIT")
        .ok()
        .filter(|commit| !commit.is_empty())
        .or_else(|| git(&["rev-parse", "--short", "HEAD"]))
        .unwrap_or_else(|| "unknown".to_owned());
    // The log of HEAD grows with every commit and checkout, in worktrees as well.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo::rerun-if-changed={log}");
    }
    println!("cargo::rustc-env=QUORATE_COMMIT={commit}");
}

/// First line of a git command's output; `None` outside a checkout or without git.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
}
