//! Reading spec files: a workload with its scenario put in and its overrides applied.
//! The only file of this module that reads from disk.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::problem::{Origin, Problem, SpecError};
use super::raw::{RawScenarioFile, RawWorkloadFile};
use super::schema::FileKind;
use super::tree::{Content, Node};
use super::{Scenario, Spec, validate};

/// Longest spec file in bytes: a thousand times the longest that is shipped.
const BYTES_MAX: u64 = 4 << 20;

/// What is to be different from the file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Overrides {
    /// A scenario file whose faults replace those of the workload.
    pub scenario: Option<PathBuf>,
    /// Replaces the seed.
    pub seed: Option<u64>,
    /// Dotted path and value, in order.
    pub set: Vec<(String, Node)>,
}

impl Overrides {
    /// Adds a `path=value`, the value being YAML, as the command line has it.
    ///
    /// # Errors
    /// When there is no `=`, or the value is no YAML.
    pub fn add(&mut self, assignment: &str) -> Result<(), SpecError> {
        let source = format!("--set {assignment}");
        let Some((path, value)) = assignment.split_once('=') else {
            let origin = Origin { source: source.into(), line: 0 };
            let what = "must be path=value, as in load.rate=500".to_owned();
            return Err(Problem { origin, key: String::new(), what }.into());
        };
        let mut node = Node::parse(&source, value)?;
        node.origin.line = 0;
        self.set.push((path.to_owned(), node));
        Ok(())
    }
}

/// Reads and checks a workload file.
///
/// # Errors
/// Everything wrong with it, its scenario and the overrides.
pub fn workload(path: &Path, overrides: &Overrides) -> Result<Spec, SpecError> {
    let tree = workload_tree(path, overrides)?;
    let mut spec = validate::workload(&tree, typed::<RawWorkloadFile>(&tree)?)?;
    spec.seed = overrides.seed.unwrap_or(spec.seed);
    Ok(spec)
}

/// The tree of a workload file, its scenario put in and its overrides applied; fits the schema.
pub(super) fn workload_tree(path: &Path, overrides: &Overrides) -> Result<Node, SpecError> {
    let mut tree = read(path)?;
    let mut problems = Vec::new();
    for (key, value) in &overrides.set {
        problems.extend(tree.set(key, value.clone()).err());
    }
    problems.extend(FileKind::Workload.problems(&tree));
    match put_in_scenario(&mut tree, path, overrides) {
        Ok(()) => {}
        Err(SpecError::Invalid(found)) => problems.extend(found),
        Err(error @ SpecError::Read { .. }) if problems.is_empty() => return Err(error),
        Err(SpecError::Read { .. }) => {}
    }
    if !problems.is_empty() {
        return Err(SpecError::Invalid(problems));
    }
    Ok(tree)
}

/// Reads and checks a scenario file by itself.
///
/// # Errors
/// Everything wrong with it that shows without a workload.
pub fn scenario(path: &Path) -> Result<Scenario, SpecError> {
    let raw: RawScenarioFile = typed(&scenario_tree(path)?)?;
    Ok(Scenario { name: raw.name, description: raw.description })
}

/// Replaces `scenario` by the faults of the file it names, which keep their own lines.
fn put_in_scenario(tree: &mut Node, path: &Path, overrides: &Overrides) -> Result<(), SpecError> {
    let named = tree.entry("scenario").cloned();
    let written = named.as_ref().and_then(|entry| entry.node.as_str());
    let file = match (&overrides.scenario, written) {
        (Some(file), _) => file.clone(),
        (None, Some(file)) => beside(path, file),
        (None, None) => return Ok(()),
    };
    let faults = tree.get("faults").is_some_and(|node| node.content != Content::List(Vec::new()));
    if let (None, Some(entry), true) = (&overrides.scenario, &named, faults) {
        let what = "`faults` and `scenario` exclude each other; keep one".to_owned();
        let origin = entry.origin.clone();
        return Err(Problem { origin, key: "scenario".to_owned(), what }.into());
    }
    let scenario = match (scenario_tree(&file), &named) {
        (Err(SpecError::Read { path, source }), Some(entry)) if overrides.scenario.is_none() => {
            let what = format!("{}: {source}", path.display());
            let origin = entry.origin.clone();
            return Err(Problem { origin, key: "scenario".to_owned(), what }.into());
        }
        (scenario, _) => scenario?,
    };
    tree.remove("scenario");
    tree.remove("faults");
    if let (Some(faults), Content::Map(entries)) = (scenario.entry("faults"), &mut tree.content) {
        entries.push(faults.clone());
    }
    Ok(())
}

fn scenario_tree(path: &Path) -> Result<Node, SpecError> {
    checked(path, FileKind::Scenario)
}

/// Reads a file and checks it against the schema of its kind.
pub(super) fn checked(path: &Path, kind: FileKind) -> Result<Node, SpecError> {
    let tree = read(path)?;
    let problems = kind.problems(&tree);
    if problems.is_empty() { Ok(tree) } else { Err(SpecError::Invalid(problems)) }
}

/// The typed form of a tree that fits its schema.
pub(super) fn typed<T: DeserializeOwned>(tree: &Node) -> Result<T, SpecError> {
    serde_json::from_value(tree.to_json()).map_err(|error| {
        // The schema admits everything that the types admit, up to durations of millennia.
        let what = error.to_string();
        Problem { origin: tree.origin.clone(), key: String::new(), what }.into()
    })
}

fn read(path: &Path) -> Result<Node, SpecError> {
    let text = text(path).map_err(|source| SpecError::Read { path: path.to_owned(), source })?;
    Node::parse(&path.display().to_string(), &text)
}

/// The text of a file. Devices and pipes, which may have no end, are refused unopened; a file is
/// read no further than it may be long, also if it grows meanwhile.
fn text(path: &Path) -> io::Result<String> {
    let refused = |why: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    if !std::fs::metadata(path)?.is_file() {
        return refused("not a regular file");
    }
    let mut text = String::new();
    let read = std::fs::File::open(path)?.take(BYTES_MAX + 1).read_to_string(&mut text);
    // A cut through a letter is no reason to call a long file anything but long.
    let cut = std::fs::metadata(path)?.len() > BYTES_MAX || text.len() as u64 > BYTES_MAX;
    if cut { refused("longer than 4 MiB, which no spec is") } else { read.map(|_| text) }
}

/// `file` as named in the file at `path`: relative to its folder.
pub(super) fn beside(path: &Path, file: &str) -> PathBuf {
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut joined = PathBuf::new();
    for part in folder.join(file).components() {
        // Messages are easier to read without `workloads/../`.
        let last = joined.components().next_back();
        let named = matches!(last, Some(std::path::Component::Normal(_)));
        if part == std::path::Component::ParentDir && named {
            joined.pop();
        } else {
            joined.push(part);
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_end_or_a_late_one_is_refused() {
        let message = |path: &Path| workload(path, &Overrides::default()).unwrap_err().to_string();
        let zero = Path::new("/dev/zero");
        assert_eq!(message(zero), "/dev/zero: not a regular file");
        let folder = tempfile::tempdir().unwrap();
        let wrong = format!("{}: not a regular file", folder.path().display());
        assert_eq!(message(folder.path()), wrong);
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(message(&pipe).ends_with("not a regular file"));
        let long = folder.path().join("long.yaml");
        let comment = "# é\n".repeat(1_000_000);
        std::fs::write(&long, format!("{comment}name: long\n")).unwrap();
        assert!(message(&long).ends_with("longer than 4 MiB, which no spec is"));
        std::fs::write(&long, "name: short\n").unwrap();
        assert_eq!(workload(&long, &Overrides::default()).unwrap().name, "short");
    }

    #[test]
    fn files_are_named_relative_to_the_file_that_names_them() {
        let path = Path::new("workloads/suites/quick.yaml");
        assert_eq!(beside(path, "../cut.yaml"), Path::new("workloads/cut.yaml"));
        assert_eq!(beside(path, "../../chaos/x.yaml"), Path::new("chaos/x.yaml"));
        assert_eq!(beside(Path::new("w.yaml"), "../c.yaml"), Path::new("../c.yaml"));
    }
}
