//! Where runs go: the name of a folder, the link to the latest one, and the command line that
//! repeats a run. May not know what is in the folder.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Creates `out/<UTC time>-<label>`; numbered when two begin in the same second.
///
/// # Errors
/// When it cannot be created.
pub fn create(out: &Path, label: &str, started: SystemTime) -> io::Result<PathBuf> {
    std::fs::create_dir_all(out)?;
    let time = humantime::format_rfc3339_seconds(started).to_string().replace(':', "");
    let name = format!("{time}-{label}");
    let numbered = (2..).map(|number| format!("{name}-{number}"));
    for name in std::iter::once(name.clone()).chain(numbered) {
        let path = out.join(name);
        match std::fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Points `latest`, beside the target, at the target; a folder of that name is left alone.
///
/// # Errors
/// When the link cannot be made.
pub fn link_latest(target: &Path) -> io::Result<()> {
    let (Some(out), Some(name)) = (target.parent(), target.file_name()) else {
        return Ok(());
    };
    let link = out.join("latest");
    if link.exists() && !link.is_symlink() {
        return Ok(());
    }
    // Renamed into place, so that a reader never finds nothing.
    let fresh = out.join(format!(".latest-{}", std::process::id()));
    std::os::unix::fs::symlink(name, &fresh)?;
    std::fs::rename(&fresh, &link)
}

/// What a run was started with, as far as the plan depends on it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cause {
    /// The workload file.
    pub workload: PathBuf,
    /// The scenario file that replaced the workload's faults.
    pub scenario: Option<PathBuf>,
    /// `path=value` of every override.
    pub set: Vec<String>,
    /// The program that ran it, as it was called.
    pub program: PathBuf,
    /// Options and values that say where and with which programs it ran.
    pub options: Vec<(String, String)>,
}

impl Cause {
    /// The command that makes the same plan again and runs it.
    #[must_use]
    pub fn repeat(&self, seed: u64) -> String {
        let mut words = vec![shown(&self.program), "run".to_owned(), shown(&self.workload)];
        if let Some(scenario) = &self.scenario {
            words.extend(["--scenario".to_owned(), shown(scenario)]);
        }
        words.extend(["--seed".to_owned(), seed.to_string()]);
        for assignment in &self.set {
            words.extend(["--set".to_owned(), assignment.clone()]);
        }
        for (option, value) in &self.options {
            words.extend([option.clone(), value.clone()]);
        }
        words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// A word as a shell takes it.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_repeats_everything_that_made_the_plan() {
        let cause = Cause {
            workload: PathBuf::from("workloads/base line.yaml"),
            scenario: Some(PathBuf::from("chaos/pause.yaml")),
            set: vec!["name=\"it's\"".to_owned(), "load.rate=5".to_owned()],
            program: PathBuf::from("target/quorate"),
            options: vec![("--stage".to_owned(), "process".to_owned())],
        };
        assert_eq!(
            cause.repeat(7),
            "target/quorate run 'workloads/base line.yaml' --scenario chaos/pause.yaml --seed 7 \
             --set 'name=\"it'\\''s\"' --set load.rate=5 --stage process"
        );
    }

    #[test]
    fn what_begins_in_the_same_second_has_a_folder_of_its_own() {
        let out = tempfile::tempdir().unwrap();
        let below = out.path().join("results");
        let names = [1, 2, 3].map(|_| {
            let folder = create(&below, "x-1", SystemTime::UNIX_EPOCH).unwrap();
            folder.file_name().unwrap().to_str().unwrap().to_owned()
        });
        let first = "1970-01-01T000000Z-x-1";
        assert_eq!(names, [first.to_owned(), format!("{first}-2"), format!("{first}-3")]);
    }

    #[test]
    fn latest_follows_the_last_run_and_spares_a_folder() {
        let out = tempfile::tempdir().unwrap();
        for name in ["a", "b"] {
            let run = out.path().join(name);
            std::fs::create_dir(&run).unwrap();
            link_latest(&run).unwrap();
            assert_eq!(std::fs::read_link(out.path().join("latest")).unwrap(), Path::new(name));
        }
        std::fs::remove_file(out.path().join("latest")).unwrap();
        std::fs::create_dir(out.path().join("latest")).unwrap();
        link_latest(&out.path().join("a")).unwrap();
        assert!(out.path().join("latest").is_dir());
        assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 3);
    }
}
