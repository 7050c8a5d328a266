//! The manifest: which programs ran what, where. Written before anything is started.
//! May not change what is run.

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use super::choice::Choice;
use super::place::Cause;
use super::programs::Programs;
use super::{RunError, machine};
use crate::folder::{Manifest, RunFolder};

/// Version of `manifest.json` that this build writes.
pub const MANIFEST_FORMAT: u32 = 1;

/// Describes the run that is about to happen in `folder`.
pub(super) fn manifest(
    folder: &RunFolder,
    choice: &Choice,
    programs: &Programs,
    started: SystemTime,
    cause: &Cause,
    seed: u64,
) -> Result<Manifest, RunError> {
    let data = folder.root();
    let mut environment = machine::describe(data).map_err(RunError::file(data))?;
    if let Some(proxy) = &programs.proxy {
        environment.push(("proxy".to_owned(), proxy.version.clone()));
        environment.push(("proxy sha256".to_owned(), proxy.sha256.clone()));
    }
    if let Some(engine) = &programs.engine {
        environment.push(("container engine".to_owned(), engine.clone()));
    }
    Ok(Manifest {
        format: MANIFEST_FORMAT,
        harness: format!("quorate {}", crate::cli::VERSION),
        node: programs.node.version.clone(),
        node_sha256: programs.node.sha256.clone(),
        stage: choice.stage.to_string(),
        stage_reason: choice.reason.clone(),
        started: humantime::format_rfc3339_seconds(started).to_string(),
        repeat: cause.repeat(seed),
        workload: cause.workload.display().to_string(),
        environment,
    })
}

/// What `--version` prints.
pub(crate) fn version(program: &Path) -> Result<String, RunError> {
    let output = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .map_err(RunError::file(program))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let first = text.lines().next().unwrap_or_default().trim();
    Ok(if first.is_empty() { "unknown".to_owned() } else { first.to_owned() })
}

/// SHA-256 of a file, in hexadecimal.
pub(crate) fn sha256(path: &Path) -> Result<String, RunError> {
    let mut file = File::open(path).map_err(RunError::file(path))?;
    let mut hash = Sha256::new();
    io::copy(&mut file, &mut hash).map_err(RunError::file(path))?;
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_hash() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        std::fs::write(&path, "abc").unwrap();
        assert_eq!(
            sha256(&path).unwrap(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
