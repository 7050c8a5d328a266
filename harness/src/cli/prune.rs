//! `quorate prune`: removes old results, and says what it kept and why.

use std::fs;
use std::time::SystemTime;

use serde_json::json;

use super::arguments::{PruneArguments, wrong};
use super::{Exit, Output};
use crate::prune::{Found, prune as decide};

pub(super) fn prune(arguments: &PruneArguments) -> anyhow::Result<Exit> {
    if !arguments.results.is_dir() {
        let folder = arguments.results.display().to_string();
        return Err(wrong(&folder, "is no folder of results").into());
    }
    let found = decide(&arguments.results, arguments.keep, SystemTime::now())?;
    let mut exit = Exit::Good;
    let mut rows = Vec::new();
    let mut freed = 0;
    for of in &found {
        let done = match done(of, arguments.dry_run) {
            Ok(done) => done,
            Err(error) => {
                exit = Exit::Harness;
                format!("failed: {error}")
            }
        };
        if of.kept.is_empty() && !done.starts_with("failed") {
            freed += of.bytes;
        }
        rows.push((of, done));
    }
    if arguments.json {
        let rows: Vec<_> = rows
            .iter()
            .map(|(of, done)| json!({ "folder": of.folder, "bytes": of.bytes, "done": done }))
            .collect();
        Output.json(&json!({ "freed_bytes": freed, "folders": rows }))?;
        return Ok(exit);
    }
    let rows = rows
        .into_iter()
        .map(|(of, done)| vec![of.folder.display().to_string(), size(of.bytes), done]);
    Output.table(&["folder", "size", ""], rows.collect())?;
    let word = if arguments.dry_run { "would be freed" } else { "freed" };
    Output.line(format!("{} {word}", size(freed)))?;
    Ok(exit)
}

fn done(of: &Found, dry_run: bool) -> std::io::Result<String> {
    if !of.kept.is_empty() {
        return Ok(format!("kept: {}", of.kept));
    }
    if dry_run {
        return Ok("would be removed".to_owned());
    }
    fs::remove_dir_all(&of.folder)?;
    Ok("removed".to_owned())
}

fn size(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
