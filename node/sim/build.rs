//! Passes the commit the binary was built from to `--version`.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-env-changed=QUORATE_BUILD_COMMIT");
    println!("cargo:rerun-if-changed=../../.git/HEAD");
    let given = std::env::var("QUORATE_BUILD_COMMIT").ok();
    let commit = given.or_else(from_git).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo:rustc-env=QUORATE_COMMIT={commit}");
}

fn from_git() -> Option<String> {
    let output = Command::new("git").args(["rev-parse", "--short", "HEAD"]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
