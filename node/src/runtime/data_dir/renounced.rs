//! A server that gives its identity up because the cluster goes on without it, and comes back as
//! another one of the same name: its votes are nobody's from then on, so all of it is put aside.
//! May not know why a cluster lets a server go.
//!
//! The note says whose folder it was and where the cluster is. While the identity is still that
//! one, what it had has to be put aside, at the next start if not at once; the new identity is
//! written last. Behind that, the note says whom to ask to be taken in.

use std::fs;
use std::io;
use std::path::Path;

use quorate_api::NodeId;
use quorate_control::versions::Versions;
use serde::{Deserialize, Serialize};

use super::identity::{copy_identity, read_identity, renew_identity};
use super::{DataError, WRITTEN, folder, io_error, replace, sync_dir, unreadable};

/// Name of the note.
const NOTE: &str = "renounced";
/// Where it all goes: a folder beside it, named by this and the identity, with the identity's file
/// in it. People may remove it.
const ASIDE: &str = "renounced-";

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    /// Whose folder it was.
    node_id: String,
    /// Servers of the cluster, as `HOST:PORT`.
    seeds: Vec<String>,
}

/// Gives an identity up, durably: at the next start, this folder is another server's.
///
/// # Errors
/// It cannot be written.
pub fn renounce(root: &Path, node: NodeId, seeds: &[String]) -> Result<(), DataError> {
    let note = Note { node_id: node.to_string(), seeds: seeds.to_vec() };
    let text = serde_json::to_string(&note)
        .map_err(|error| io_error("write", &root.join(NOTE))(error.into()))?;
    replace(root, NOTE, format!("{text}\n").as_bytes())
}

/// Whom to ask to be taken in. Whatever its server founded once, a folder whose first identity was
/// given up is that of one which joined; nobody, where it was not.
pub(in crate::runtime) fn seeds(root: &Path) -> Result<Vec<String>, DataError> {
    Ok(read(root)?.map_or_else(Vec::new, |note| note.seeds))
}

/// Puts what is left of an identity aside that was given up, if it is not done yet. The folder has
/// another one then, which has never started. Of what was put aside, the last one is kept.
pub(super) fn put_aside(root: &Path, versions: Versions) -> Result<(), DataError> {
    let Some(note) = read(root)? else { return Ok(()) };
    let identity = read_identity(root, versions)?.filter(|file| file.node_id == note.node_id);
    if let Some(identity) = identity {
        let aside = folder(root, &format!("{ASIDE}{}", note.node_id))?;
        // Its mark: whose it was.
        copy_identity(root, &aside)?;
        for name in WRITTEN {
            let from = root.join(name);
            match fs::rename(&from, aside.join(name)) {
                Ok(()) => {}
                // It was moved before this process began.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(io_error("move", &from)(error)),
            }
        }
        sync_dir(&aside)?;
        sync_dir(root)?;
        renew_identity(root, identity.node_id(root)?)?;
        tracing::info!(
            former = note.node_id, aside = %aside.display(),
            "this server's former identity and its data are put aside"
        );
    }
    remove_older(root, &note.node_id)
}

/// Removes what was put aside before the last time. What cannot be removed takes up space, and
/// hinders nobody.
fn remove_older(root: &Path, last: &str) -> Result<(), DataError> {
    for entry in fs::read_dir(root).map_err(io_error("read", root))? {
        let path = entry.map_err(io_error("read", root))?.path();
        if former(&path).is_none_or(|former| former == last) {
            continue;
        }
        if let Err(error) = fs::remove_dir_all(&path) {
            tracing::warn!(path = %path.display(), %error, "what was put aside cannot be removed");
        }
    }
    Ok(())
}

/// Whose data a folder is that this server has put aside; `None` for anything else.
fn former(path: &Path) -> Option<&str> {
    let id = path.file_name()?.to_str()?.strip_prefix(ASIDE)?;
    let is_id = id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_id || !fs::symlink_metadata(path).ok()?.is_dir() {
        return None;
    }
    let mark = read_identity(path, Versions::ALL).ok()??;
    (mark.node_id == id).then_some(id)
}

fn read(root: &Path) -> Result<Option<Note>, DataError> {
    let path = root.join(NOTE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(&path, error)),
    };
    let note = serde_json::from_str(&text);
    note.map(Some).map_err(|error| DataError::Damaged { path, detail: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::super::{DATABASES, DataDir, Share};
    use super::*;

    fn open(root: &Path) -> DataDir {
        DataDir::open(root, "n1", Versions::ALL, Share::default()).unwrap()
    }

    /// FEATURES: S9
    #[test]
    fn an_identity_that_is_given_up_is_put_aside_whole_and_never_used_again() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        assert!(seeds(root).unwrap().is_empty());
        let mut identities = Vec::new();
        for round in 0..2 {
            let node = open(root).node;
            assert_eq!(open(root).boot.0, 2, "a new identity, and what it has, is kept");
            renounce(root, node, &[format!("127.0.0.1:{round}")]).unwrap();
            assert_eq!(seeds(root).unwrap(), [format!("127.0.0.1:{round}")]);
            identities.push(node);
        }
        let last = open(root);
        assert_eq!(last.boot.0, 1);
        identities.push(last.node);
        identities.sort_unstable();
        identities.dedup();
        assert_eq!(identities.len(), 3, "never one of before");
        let mut kept: Vec<_> = fs::read_dir(root).unwrap().map(|e| e.unwrap().path()).collect();
        kept.retain(|path| former(path).is_some());
        assert_eq!(kept.len(), 1, "the last one");
        for name in WRITTEN {
            assert!(kept[0].join(name).exists(), "{name}");
        }
    }

    /// FEATURES: S9
    #[test]
    fn nothing_but_what_was_put_aside_is_ever_removed() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let node = open(root).node;
        let (own, other) = ("renounced-00000000000000aa", "renounced-00000000000000bb");
        // Folders of people, one of them with a name like ours, and one with another one's mark.
        for name in ["backup", "renounced-mine", "renounced-00000000000000cc", own, other] {
            fs::create_dir(root.join(name)).unwrap();
            fs::write(root.join(name).join("kept"), name).unwrap();
        }
        fs::write(root.join("renounced-00000000000000dd"), "a file").unwrap();
        let mark = |id| format!(r#"{{"format":4,"node_id":"{id}","name":"n1"}}"#);
        for name in [own, other] {
            fs::write(root.join(name).join("identity"), mark("00000000000000aa")).unwrap();
        }
        drop(open(root));
        assert!(root.join(own).exists(), "nothing was given up");
        renounce(root, node, &[]).unwrap();
        let next = open(root).node;
        assert_ne!(next, node);
        assert!(!root.join(own).exists(), "it was put aside once, before the last one");
        for name in ["backup", "renounced-mine", "renounced-00000000000000cc", other] {
            assert_eq!(fs::read_to_string(root.join(name).join("kept")).unwrap(), name);
        }
        assert!(root.join("renounced-00000000000000dd").is_file());
        assert!(root.join(format!("{ASIDE}{node}")).join(DATABASES).is_dir());
        // A crash before the older one was removed: the next start does it.
        fs::create_dir(root.join(own)).unwrap();
        fs::write(root.join(own).join("identity"), mark("00000000000000aa")).unwrap();
        assert_eq!(open(root).node, next);
        assert!(!root.join(own).exists() && root.join(format!("{ASIDE}{node}")).exists());
    }

    #[test]
    fn what_a_crash_left_half_done_is_done_at_the_next_start() {
        let steps: [fn(&Path, &Path); 3] = [
            |_, _| {},
            |root, aside| fs::rename(root.join("databases"), aside.join("databases")).unwrap(),
            |root, aside| {
                fs::rename(root.join("databases"), aside.join("databases")).unwrap();
                fs::rename(root.join("boot"), aside.join("boot")).unwrap();
            },
        ];
        for (at, step) in steps.into_iter().enumerate() {
            let dir = tempfile::tempdir().unwrap();
            let node = open(dir.path()).node;
            renounce(dir.path(), node, &[]).unwrap();
            let aside = dir.path().join(format!("{ASIDE}{node}"));
            fs::create_dir_all(&aside).unwrap();
            step(dir.path(), &aside);
            let next = open(dir.path());
            assert!(next.node != node && next.boot.0 == 1, "step {at}");
            for name in WRITTEN {
                assert!(aside.join(name).exists(), "step {at}: {name}");
            }
        }
    }

    #[test]
    fn a_damaged_note_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path()));
        fs::write(dir.path().join(NOTE), "{").unwrap();
        let text = DataDir::open(dir.path(), "n1", Versions::ALL, Share::default())
            .err()
            .unwrap()
            .to_string();
        assert!(text.contains("renounced is damaged"), "{text}");
    }
}
