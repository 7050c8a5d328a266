//! Takes up what goes on where a killed process had come to: its folder is found again or created,
//! and kept to this process. May not know what is done in it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::fcntl::Flock;

use crate::resume::{Resumable, hold};
use crate::run::place::{create, link_latest};

/// What goes on, or begins.
pub(super) struct TakenUp<T> {
    /// Its folder.
    pub(super) folder: PathBuf,
    /// What is wanted and what is done.
    pub(super) state: T,
    /// True if it was begun by an earlier process.
    pub(super) went_on: bool,
    /// The folder is this process's as long as this lives.
    pub(super) held: Flock<File>,
}

/// Takes up the latest below `out` that has the definition of `new` and did not get to its end.
/// Where there is none, or with `fresh`, `new` begins in `out/<UTC time>-<label>`.
pub(super) fn take_up<T: Resumable>(
    out: &Path,
    fresh: bool,
    new: T,
    label: &str,
) -> anyhow::Result<TakenUp<T>> {
    let earlier = if fresh { None } else { T::unfinished(out, new.definition()) };
    let went_on = earlier.is_some();
    let folder = match earlier {
        Some(folder) => folder,
        None => create(out, label, SystemTime::now())?,
    };
    let held = hold(&folder)?;
    // Read again where it goes on: whoever had it until now may have written more.
    let state = if went_on { T::read(&folder)? } else { new };
    link_latest(&folder)?;
    state.write(&folder)?;
    Ok(TakenUp { folder, state, went_on, held })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resume::tests::walk;

    #[test]
    fn what_was_left_is_taken_up_and_fresh_begins_beside_it() {
        let out = tempfile::tempdir().unwrap();
        let out = out.path();
        let latest = || std::fs::canonicalize(out.join("latest")).unwrap();
        let mut begun = take_up(out, false, walk("north", &[]), "walk").unwrap();
        assert!(!begun.went_on && begun.state.steps.is_empty());
        assert!(begun.folder.to_str().unwrap().ends_with("-walk"), "{}", begun.folder.display());
        assert_eq!(latest(), std::fs::canonicalize(&begun.folder).unwrap());
        begun.state.steps.push(7);
        begun.state.write(&begun.folder).unwrap();
        let (first, held) = (begun.folder, begun.held);
        let error = take_up(out, false, walk("north", &[]), "walk").err().unwrap();
        assert!(error.to_string().contains("another quorate runs this"), "{error}");
        let fresh = take_up(out, true, walk("north", &[]), "walk").unwrap();
        assert!(fresh.folder != first && !fresh.went_on && fresh.state.steps.is_empty());
        assert_eq!(latest(), std::fs::canonicalize(&fresh.folder).unwrap());
        drop((held, fresh.held));
        std::fs::remove_dir_all(&fresh.folder).unwrap();
        let again = take_up(out, false, walk("north", &[]), "walk").unwrap();
        assert_eq!((again.folder, again.state, again.went_on), (first, walk("north", &[7]), true));
        assert!(!take_up(out, false, walk("south", &[]), "walk").unwrap().went_on);
    }
}
