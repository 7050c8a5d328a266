//! What goes on where a killed process had come to: a file in a folder says what is wanted and what
//! of it is done, and is written as a whole after each step. May not know what the steps are.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Why such a file, or its folder, could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    /// The system refused.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// It is no such file.
    #[error("{path}: {source}")]
    Json {
        /// Which file.
        path: PathBuf,
        /// Cause.
        source: serde_json::Error,
    },
    /// Somebody else runs it.
    #[error("{folder}: another quorate runs this; let it end, or begin anew with --fresh")]
    Taken {
        /// Its folder.
        folder: PathBuf,
    },
    /// Another version wrote it.
    #[error("{path}: format {found}, this program reads {reads}")]
    Version {
        /// Which file.
        path: PathBuf,
        /// The version found.
        found: u64,
        /// The version that this program reads.
        reads: u32,
    },
}

/// What is kept in such a file. Its JSON has a number `format`, which is [`Resumable::FORMAT`].
pub trait Resumable: Serialize + DeserializeOwned {
    /// Name of the file in its folder.
    const FILE: &'static str;
    /// Version of it that this build writes and reads.
    const FORMAT: u32;
    /// What is wanted: two with the same definition are the same.
    type Definition: PartialEq;

    /// What is wanted.
    fn definition(&self) -> &Self::Definition;

    /// True once nothing is left to do.
    fn is_finished(&self) -> bool;

    /// Reads that of a folder.
    ///
    /// # Errors
    /// When there is none, or it cannot be understood.
    fn read(folder: &Path) -> Result<Self, ResumeError> {
        let path = folder.join(Self::FILE);
        let json = |source| ResumeError::Json { path: path.clone(), source };
        let text = fs::read_to_string(&path)
            .map_err(|source| ResumeError::File { path: path.clone(), source })?;
        let value: serde_json::Value = serde_json::from_str(&text).map_err(json)?;
        let found = value.get("format").and_then(serde_json::Value::as_u64).unwrap_or(0);
        if found != u64::from(Self::FORMAT) {
            return Err(ResumeError::Version { path, found, reads: Self::FORMAT });
        }
        serde_json::from_value(value).map_err(json)
    }

    /// Writes it into a folder; whoever is killed meanwhile leaves the one before.
    ///
    /// # Errors
    /// When it cannot be written.
    fn write(&self, folder: &Path) -> Result<(), ResumeError> {
        let path = folder.join(Self::FILE);
        let mut text = serde_json::to_string_pretty(self)
            .map_err(|source| ResumeError::Json { path: path.clone(), source })?;
        text.push('\n');
        let fresh = folder.join(format!(".{}", Self::FILE));
        fs::write(&fresh, text)
            .and_then(|()| fs::rename(&fresh, &path))
            .map_err(|source| ResumeError::File { path, source })
    }

    /// The latest folder below `out` with one of this definition, if that did not get to its end.
    /// What cannot be read is somebody else's.
    #[must_use]
    fn unfinished(out: &Path, definition: &Self::Definition) -> Option<PathBuf> {
        let entries = fs::read_dir(out).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
        let mut folders: Vec<PathBuf> =
            entries.filter(|path| !path.is_symlink() && path.join(Self::FILE).is_file()).collect();
        folders.sort();
        let found = folders.into_iter().rev().find_map(|folder| {
            let kept = Self::read(&folder).ok()?;
            (kept.definition() == definition).then_some((folder, kept))
        });
        found.filter(|(_, kept)| !kept.is_finished()).map(|(folder, _)| folder)
    }
}

/// Keeps a folder to this process for as long as what is given back lives; the kernel lets go of it
/// when the process is killed.
///
/// # Errors
/// When another one has it.
pub fn hold(folder: &Path) -> Result<Flock<File>, ResumeError> {
    let refused = |source| ResumeError::File { path: folder.to_path_buf(), source };
    let file = File::open(folder).map_err(refused)?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| {
        if error == nix::errno::Errno::EWOULDBLOCK {
            return ResumeError::Taken { folder: folder.to_path_buf() };
        }
        refused(error.into())
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use serde::Deserialize;

    use super::*;

    /// Two steps in a direction.
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    pub(crate) struct Walk {
        format: u32,
        direction: String,
        pub(crate) steps: Vec<u32>,
    }

    impl Resumable for Walk {
        const FILE: &'static str = "walk.json";
        const FORMAT: u32 = 3;
        type Definition = String;

        fn definition(&self) -> &String {
            &self.direction
        }

        fn is_finished(&self) -> bool {
            self.steps.len() == 2
        }
    }

    pub(crate) fn walk(direction: &str, steps: &[u32]) -> Walk {
        Walk { format: Walk::FORMAT, direction: direction.to_owned(), steps: steps.to_vec() }
    }

    fn put(out: &Path, name: &str, walk: &Walk) -> PathBuf {
        let folder = out.join(name);
        fs::create_dir_all(&folder).unwrap();
        walk.write(&folder).unwrap();
        folder
    }

    fn unfinished(out: &Path, direction: &str) -> Option<PathBuf> {
        Walk::unfinished(out, &direction.to_owned())
    }

    #[test]
    fn the_latest_of_a_definition_is_found_unless_it_is_finished() {
        let out = tempfile::tempdir().unwrap();
        let out = out.path();
        assert_eq!(unfinished(&out.join("nowhere"), "north"), None);
        assert_eq!(unfinished(out, "north"), None);
        put(out, "2026-a", &walk("north", &[1]));
        let later = put(out, "2026-b", &walk("north", &[4]));
        put(out, "2026-c", &walk("south", &[5]));
        assert_eq!(unfinished(out, "north").as_ref(), Some(&later));
        assert_eq!(unfinished(out, "east"), None, "another definition is another walk");
        // It stands under its own name, not under that of a link.
        std::os::unix::fs::symlink(&later, out.join("latest")).unwrap();
        assert_eq!(unfinished(out, "north").as_ref(), Some(&later));
        put(out, "2026-b", &walk("north", &[4, 1]));
        assert_eq!(unfinished(out, "north"), None, "an older one is not gone back to");
    }

    #[test]
    fn what_was_written_is_read_and_half_a_write_leaves_the_one_before() {
        let out = tempfile::tempdir().unwrap();
        let folder = put(out.path(), "2026-a", &walk("north", &[1]));
        fs::write(folder.join(".walk.json"), "{\"format\": 3, \"dir").unwrap();
        assert_eq!(Walk::read(&folder).unwrap(), walk("north", &[1]));
        walk("north", &[1, 2]).write(&folder).unwrap();
        assert_eq!(Walk::read(&folder).unwrap(), walk("north", &[1, 2]));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_file_that_is_damaged_or_missing_is_named_and_passed_over() {
        let out = tempfile::tempdir().unwrap();
        let older = put(out.path(), "2026-a", &walk("north", &[1]));
        let folder = put(out.path(), "2026-b", &walk("north", &[1]));
        for damaged in ["", "{\"format\": 3", "{\"format\": 3}", "[]", "\u{0}"] {
            fs::write(folder.join("walk.json"), damaged).unwrap();
            let error = Walk::read(&folder).unwrap_err();
            let named = error.to_string().starts_with(folder.to_str().unwrap());
            assert!(named && !matches!(error, ResumeError::File { .. }), "{damaged}: {error}");
            assert_eq!(unfinished(out.path(), "north").as_ref(), Some(&older), "{damaged}");
        }
        fs::remove_file(folder.join("walk.json")).unwrap();
        let error = Walk::read(&folder).unwrap_err();
        assert!(matches!(error, ResumeError::File { .. }), "{error}");
    }

    #[test]
    fn a_file_of_another_version_is_refused_with_it() {
        let out = tempfile::tempdir().unwrap();
        let folder = put(out.path(), "2026-a", &Walk { format: 9, ..walk("north", &[]) });
        let error = Walk::read(&folder).unwrap_err().to_string();
        assert!(error.ends_with("walk.json: format 9, this program reads 3"), "{error}");
        assert_eq!(unfinished(out.path(), "north"), None);
        fs::write(folder.join("walk.json"), "{\"direction\": \"north\", \"steps\": []}").unwrap();
        let error = Walk::read(&folder).unwrap_err().to_string();
        assert!(error.ends_with("format 0, this program reads 3"), "{error}");
    }

    #[test]
    fn a_folder_is_held_by_one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let held = hold(folder.path()).unwrap();
        let error = hold(folder.path()).unwrap_err();
        assert!(matches!(error, ResumeError::Taken { .. }), "{error}");
        assert!(error.to_string().contains("another quorate runs this"), "{error}");
        drop(held);
        drop(hold(folder.path()).unwrap());
        assert!(matches!(hold(&folder.path().join("no")), Err(ResumeError::File { .. })));
    }
}
