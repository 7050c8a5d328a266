//! Which folders of results may go, so that disks do not fill: only those that the harness named,
//! never one that something refers to or that may still be written to. Decides; removes nothing.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde_json::Value;

use crate::report::{compared_runs, folders};

/// Servers are looked at several times a second while they run: what nobody wrote to for so long is
/// no run under way.
const SILENT: Duration = Duration::from_secs(60);

/// A folder of results.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Found {
    /// The folder.
    pub folder: PathBuf,
    /// What it takes on the disk.
    pub bytes: u64,
    /// Why it stays; empty if it goes.
    pub kept: String,
}

/// Why nothing can be said of results.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    /// They can't be read.
    #[error("{folder}: {source}")]
    Io {
        /// The folder as it was named.
        folder: String,
        /// What the system said.
        source: io::Error,
    },
    /// What refers to runs can't be understood, so nothing is safe to remove.
    #[error("{file}: {cause}; remove or repair it first")]
    Unclear {
        /// Which file or folder.
        file: String,
        /// What is wrong with it; told in full above.
        cause: String,
    },
}

/// Every folder of `results` that the harness named, the newest first, with what becomes of it when
/// the newest `keep` are kept.
///
/// # Errors
/// See [`PruneError`].
pub fn prune(results: &Path, keep: usize, now: SystemTime) -> Result<Vec<Found>, PruneError> {
    let failed = |source| PruneError::Io { folder: results.display().to_string(), source };
    let referred = referred(results)?;
    decide(results, keep, now, &referred).map_err(failed)
}

fn decide(
    results: &Path,
    keep: usize,
    now: SystemTime,
    referred: &Referred,
) -> io::Result<Vec<Found>> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(results)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // A link is no folder: what it points to stays for it.
        if entry.file_type()?.is_dir() && is_named_by_us(&name) {
            folders.push((name, entry.path()));
        }
    }
    folders.sort_by(|a, b| b.cmp(a));
    let found = |(rank, (name, folder)): (usize, (String, PathBuf))| {
        let (bytes, written) = measure(&folder)?;
        let is_fresh = now.duration_since(written).is_ok_and(|since| since < SILENT);
        let kept = match referred.get(&name) {
            _ if rank < keep => "among the newest".to_owned(),
            Some(by) => format!("{by} refers to it"),
            None if is_fresh || written > now => "may still be written to".to_owned(),
            None => String::new(),
        };
        Ok(Found { folder, bytes, kept })
    };
    folders.into_iter().enumerate().map(found).collect()
}

/// True for a name that begins with a time, as in `2026-01-31T101112Z-`. Whoever gave a folder a
/// name of its own, as `baseline`, wants to keep it.
fn is_named_by_us(name: &str) -> bool {
    const FORM: &str = "0000-00-00T000000Z-";
    let fits = |(form, letter): (char, char)| match form {
        '0' => letter.is_ascii_digit(),
        other => letter == other,
    };
    name.is_char_boundary(FORM.len())
        && name.len() > FORM.len()
        && FORM.chars().zip(name.chars()).all(fits)
}

/// Names of folders of results, and what refers to each.
type Referred = BTreeMap<String, String>;

/// What links, comparisons and A/As refer to.
fn referred(results: &Path) -> Result<Referred, PruneError> {
    let failed = |source| PruneError::Io { folder: results.display().to_string(), source };
    let whole = fs::canonicalize(results).map_err(failed)?;
    let mut referred = Referred::new();
    // A run may stand in the folder of a suite: then that is what lies in the results. Nothing
    // keeps itself, as the page of an A/B would, whose runs lie beside it.
    let mut note = |place: &Path, by: &str| {
        // What is there no more needs not be kept.
        let Ok(place) = fs::canonicalize(place) else { return };
        let Ok(inside) = place.strip_prefix(&whole) else { return };
        if let Some(name) = inside.components().next() {
            let name = name.as_os_str().to_string_lossy().into_owned();
            if Path::new(by).components().next() != inside.components().next() {
                referred.entry(name).or_insert_with(|| by.to_owned());
            }
        }
    };
    for entry in fs::read_dir(&whole).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        let kind = entry.file_type().map_err(failed)?;
        if kind.is_symlink() {
            note(&path, &name);
        } else if kind.is_dir() {
            // The page of runs of suites lies in the suite of the first.
            let inner = folders(&path).map_err(|cause| unclear(&name, &cause))?;
            for page in std::iter::once(path).chain(inner) {
                let by = page.strip_prefix(&whole).unwrap_or(&page).display().to_string();
                let runs = compared_runs(&page).map_err(|cause| unclear(&by, &cause))?;
                runs.iter().for_each(|run| note(run, &by));
            }
        } else if name.starts_with("calibration-") {
            let text = fs::read(&path).map_err(failed)?;
            let json: Value =
                serde_json::from_slice(&text).map_err(|cause| unclear(&name, &cause))?;
            if let Some(folder) = json.get("folder").and_then(Value::as_str) {
                note(&whole.join(folder), &name);
            }
        }
    }
    Ok(referred)
}

fn unclear(file: &str, cause: &dyn std::fmt::Display) -> PruneError {
    PruneError::Unclear { file: file.to_owned(), cause: cause.to_string() }
}

/// What a folder takes, and when something in it was written last.
fn measure(folder: &Path) -> io::Result<(u64, SystemTime)> {
    let own = fs::symlink_metadata(folder)?;
    let (mut bytes, mut written) = (0, own.modified()?);
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let of = entry.metadata()?;
        let (more, last) =
            if of.is_dir() { measure(&entry.path())? } else { (of.len(), of.modified()?) };
        bytes += more;
        written = written.max(last);
    }
    Ok((bytes, written))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_begins_with_a_time_was_named_by_us() {
        for name in ["2026-01-31T101112Z-baseline-7", "2026-01-31T101112Z-suite-quick"] {
            assert!(is_named_by_us(name), "{name}");
        }
        for name in ["baseline", "latest", "2026-01-31T101112Z-", "2026-01-31-mine", "compare-a-b"]
        {
            assert!(!is_named_by_us(name), "{name}");
        }
    }

    fn compared(folder: &Path, runs: &str) {
        let text = format!(
            "{{\"format\":1,\"title\":\"x\",\"word\":\"same\",\"tone\":\"good\",\"refers\":{runs}}}"
        );
        fs::write(folder.join(crate::report::COMPARISON_FILE), text).unwrap();
    }

    /// FEATURES: H12
    #[test]
    fn the_newest_stay_with_what_is_referred_to_and_what_is_being_written() {
        let place = tempfile::tempdir().unwrap();
        let results = place.path();
        let named = |day: u32, what: &str| format!("2026-01-{day:02}T101112Z-{what}");
        let make = |name: &str| {
            fs::create_dir(results.join(name)).unwrap();
            fs::write(results.join(name).join("plan.json"), "{}").unwrap();
        };
        let old: Vec<String> =
            ["linked", "compared", "suite-x", "ab-y", "gone", "suite-v", "suite-w", "new"]
                .into_iter()
                .zip(1..)
                .map(|(what, day)| named(day, what))
                .collect();
        old.iter().for_each(|name| make(name));
        make("baseline");
        std::os::unix::fs::symlink(&old[0], results.join("latest")).unwrap();
        std::os::unix::fs::symlink("nowhere", results.join("broken")).unwrap();
        make("compare-a-b");
        fs::create_dir(results.join(&old[2]).join("one")).unwrap();
        let runs = format!("[\"../{}\",\"../{}/one\",\"../lost\"]", old[1], old[2]);
        compared(&results.join("compare-a-b"), &runs);
        // So does the page of two runs of suites, which lies in the suite of the first.
        fs::create_dir(results.join(&old[5]).join("compare-one-two")).unwrap();
        fs::create_dir(results.join(&old[6]).join("two")).unwrap();
        let runs = format!("[\"../one\",\"../../{}/two\"]", old[6]);
        compared(&results.join(&old[5]).join("compare-one-two"), &runs);
        // An A/B does not keep itself.
        compared(&results.join(&old[4]), "[\"plan.json\"]");
        let calibration = format!("{{\"folder\":\"{}\"}}", old[3]);
        fs::write(results.join("calibration-abc.json"), calibration).unwrap();
        let kept = |now: SystemTime| -> Vec<(String, String)> {
            let name = |of: &Found| of.folder.file_name().unwrap().to_string_lossy().into_owned();
            let found = prune(results, 1, now).unwrap();
            found.into_iter().map(|of| (name(&of), of.kept)).collect()
        };
        let now = SystemTime::now();
        let all = kept(now + SILENT * 2);
        assert_eq!(all.len(), old.len(), "nothing else is looked at");
        let why: BTreeMap<String, String> = all.into_iter().collect();
        assert_eq!(why[&old[7]], "among the newest");
        assert_eq!(why[&old[5]], "", "a page within does not keep the suite it lies in");
        assert_eq!(why[&old[6]], format!("{}/compare-one-two refers to it", old[5]));
        assert_eq!(why[&old[4]], "");
        for (at, by) in [(0, "latest"), (1, "compare-a-b"), (2, "compare-a-b")] {
            assert_eq!(why[&old[at]], format!("{by} refers to it"));
        }
        assert_eq!(why[&old[3]], "calibration-abc.json refers to it");
        let fresh = kept(now).into_iter().find(|(name, _)| *name == old[4]).unwrap();
        assert_eq!(fresh.1, "may still be written to");
        // Who cannot say what is referred to removes nothing.
        fs::write(results.join("compare-a-b").join(crate::report::COMPARISON_FILE), "{").unwrap();
        assert!(matches!(prune(results, 1, now), Err(PruneError::Unclear { .. })));
    }
}
