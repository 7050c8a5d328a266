//! Data folders: opens a server's own, and sets it aside first where the server stood alone and is
//! now to be one of several. It gets a new identity then: nobody else knows the old one. May not
//! know what becomes of what was set aside.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use quorate_api::NodeId;
use quorate_control::agreement::Agreement;
use quorate_control::plane::{ENTRIES_MAX, Plane, PlaneConfig, RecoveredLog};

use crate::runtime::data_dir::{
    DataDir, DataError, WRITTEN, copy_identity, io_error, renew_identity, replace, sync_dir,
};
use crate::runtime::{Settings, StartError};

/// Where folders are set aside, each under its identity.
const FOUND: &str = "found";
/// Beside the own data while it is being moved: under which identity.
const MOVING: &str = "moving";
/// In a folder that is being opened: how many lives in a row began that and did not get to its end.
const OPENING: &str = "opening";
/// How many of them there may be. Whoever is killed just then is no reason to give a folder up.
const OPENINGS_MAX: u32 = 3;
/// In a folder of which nothing is left to be brought in.
const DONE: &str = "done";

/// A folder that was set aside.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    /// The identity that wrote it.
    pub(super) node: NodeId,
}

impl Place {
    /// It is about to be opened. A store that is damaged may end the process, and is not to do so
    /// at every start.
    ///
    /// # Errors
    /// That ended several lives in a row, or cannot be noted.
    pub(super) fn begin(&self) -> Result<(), DataError> {
        let path = self.path.join(OPENING);
        let lives = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
        let lives: u32 = lives.unwrap_or(0);
        if lives >= OPENINGS_MAX {
            let detail = format!(
                "this server ended {lives} times in a row while it opened what is beside it; see \
                 why in its log, and remove this file to have it tried again"
            );
            return Err(DataError::Damaged { path, detail });
        }
        replace(&self.path, OPENING, format!("{}\n", lives + 1).as_bytes())
    }

    /// It is open, or was found to be none that can be opened: nothing ended meanwhile.
    ///
    /// # Errors
    /// That cannot be noted.
    pub(super) fn is_opened(&self) -> Result<(), DataError> {
        let path = self.path.join(OPENING);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(io_error("remove", &path)(error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Nothing of it is to be brought in any more, in any life of this server.
    ///
    /// # Errors
    /// The file that says so cannot be written.
    pub(super) fn is_done(&self) -> Result<(), DataError> {
        replace(&self.path, DONE, b"")
    }
}

/// Opens the data folder of a server, with what its control plane had agreed on.
///
/// # Errors
/// The folder cannot be used, or what is in it cannot be set aside.
pub(in crate::runtime) fn open(settings: &Settings) -> Result<(DataDir, RecoveredLog), StartError> {
    let root = &settings.data;
    move_on(root)?;
    let opened = open_as_it_is(settings)?;
    let is_among_others = !settings.join.is_empty() || settings.members.count() > 1;
    let agreed = agreed(&opened.0, &opened.1);
    // One that was to join and was never taken in has agreed with nobody either.
    if !is_among_others && agreed.as_ref().is_none_or(|agreed| agreed.schema.servers.is_empty()) {
        forgets_nothing(root)?;
    }
    if !is_among_others || !agreed.is_some_and(|agreed| is_alone(&opened.0, &agreed)) {
        return Ok(opened);
    }
    let node = opened.0.node;
    // Its files are moved: nobody may have them open.
    drop(opened);
    replace(root, MOVING, node.to_string().as_bytes())?;
    move_on(root)?;
    let place = root.join(FOUND).join(node.to_string());
    tracing::info!(
        place = %place.display(),
        "this server stood alone: its databases are set aside, and brought into the cluster if it \
         has no others of their names"
    );
    open_as_it_is(settings)
}

/// Who would found a cluster alone has nothing set aside, which nobody would see there.
fn forgets_nothing(root: &Path) -> Result<(), DataError> {
    match places(root)?.into_iter().next() {
        Some(Place { path, .. }) => Err(DataError::SetAside { root: root.to_path_buf(), path }),
        None => Ok(()),
    }
}

fn open_as_it_is(settings: &Settings) -> Result<(DataDir, RecoveredLog), StartError> {
    let data =
        DataDir::open(&settings.data, &settings.name, settings.versions, settings.heap.into())?;
    let control = data.storage.recover_control()?;
    Ok((data, control))
}

/// What a server has agreed on with itself, if it founded its cluster alone and nobody was ever in
/// it besides.
pub(super) fn alone(data: &DataDir, control: &RecoveredLog) -> Option<Agreement> {
    agreed(data, control).filter(|agreed| is_alone(data, agreed))
}

/// Whoever was told to be in has been told so behind the disk of this server, so what it had
/// applied is enough to know.
fn is_alone(data: &DataDir, agreed: &Agreement) -> bool {
    agreed.schema.is_founded_alone() && agreed.schema.server(data.node).is_some()
}

/// What a server had applied of what was agreed on; `None` while it never heard of anything.
fn agreed(data: &DataDir, control: &RecoveredLog) -> Option<Agreement> {
    control.snapshot.as_ref()?;
    let (node, boot) = (data.node, data.boot);
    let config = PlaneConfig { node, boot, seed: 0, entries_max: ENTRIES_MAX };
    // What cannot be read is for the one to say who is to use it.
    let plane: Plane = Plane::new(config, control, &[], &mut Vec::new()).ok()?;
    Some(plane.state().agreement.clone())
}

/// Moves what an identity has written out of the way, and renews that; or goes on with it. Until
/// the mark is gone nothing new is written, so whatever is still here is what was to be moved. The
/// name stays in the folder at every moment.
fn move_on(root: &Path) -> Result<(), DataError> {
    let mark = root.join(MOVING);
    let node = match fs::read_to_string(&mark) {
        Ok(node) => node,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error("read", &mark)(error)),
    };
    let number = u64::from_str_radix(node.trim(), 16);
    let number = number.map_err(|error| DataError::Damaged {
        path: mark.clone(),
        detail: format!("no identity: {error}"),
    })?;
    let found = root.join(FOUND);
    let place = found.join(node.trim());
    fs::create_dir_all(&place).map_err(io_error("create", &place))?;
    copy_identity(root, &place)?;
    for name in WRITTEN {
        let (from, to) = (root.join(name), place.join(name));
        match fs::rename(&from, &to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error("move", &from)(error));
            }
            Ok(()) | Err(_) => {}
        }
    }
    for folder in [&place, &found, root] {
        sync_dir(folder)?;
    }
    renew_identity(root, NodeId(number))?;
    fs::remove_file(&mark).map_err(io_error("remove", &mark))?;
    sync_dir(root)
}

/// Folders that were set aside and have something left to be brought in, in order of their names.
///
/// # Errors
/// The folder that they are in cannot be read.
pub(super) fn places(root: &Path) -> Result<Vec<Place>, DataError> {
    let found = root.join(FOUND);
    let entries = match fs::read_dir(&found) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io_error("read", &found)(error)),
    };
    let mut places = Vec::new();
    for entry in entries {
        let path = entry.map_err(io_error("read", &found))?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let node = name.and_then(|name| u64::from_str_radix(name, 16).ok()).map(NodeId);
        // What people put there is theirs.
        let Some(node) = node.filter(|_| path.is_dir() && !path.join(DONE).exists()) else {
            continue;
        };
        places.push(Place { path, node });
    }
    places.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(places)
}

#[cfg(test)]
mod tests {
    use quorate_control::versions::Versions;

    use super::*;
    use crate::runtime::data_dir::saved_name;
    use crate::runtime::storage::Share;

    fn file(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn a_folder_is_moved_as_a_whole_however_often_that_is_broken_off() {
        let name = |root: &Path| saved_name(root).unwrap().unwrap();
        for moved in 0..=WRITTEN.len() {
            let dir = tempfile::tempdir().unwrap();
            let root = dir.path();
            let node = DataDir::open(root, "n1", Versions::ALL, Share::default()).unwrap().node;
            file(&root.join("root-password"), "kept");
            let place = root.join(FOUND).join(node.to_string());
            // Killed behind so many of them.
            replace(root, MOVING, node.to_string().as_bytes()).unwrap();
            fs::create_dir_all(&place).unwrap();
            if moved > 0 {
                copy_identity(root, &place).unwrap();
            }
            for name in &WRITTEN[..moved] {
                fs::rename(root.join(name), place.join(name)).unwrap();
            }
            assert_eq!(name(root), "n1", "asked for before anything is opened");
            if moved == WRITTEN.len() {
                renew_identity(root, node).unwrap();
            }
            move_on(root).unwrap();
            move_on(root).unwrap();
            assert!(WRITTEN.iter().all(|name| !root.join(name).exists()), "{moved}");
            assert!(!root.join(MOVING).exists() && root.join("root-password").exists());
            assert_eq!(name(root), "n1");
            let new = DataDir::open(root, "n1", Versions::ALL, Share::default()).unwrap();
            let old = DataDir::open(&place, "n1", Versions::ALL, Share::default()).unwrap();
            assert_eq!((old.node, old.boot.0, new.boot.0), (node, 2, 1));
            assert_ne!(new.node, node);
            let places = places(root).unwrap();
            assert_eq!((places.len(), places[0].node), (1, node));
            let refused = forgets_nothing(root).unwrap_err().to_string();
            assert!(refused.contains(&format!("--data={}", place.display())), "{refused}");
            places[0].is_done().unwrap();
            assert!(super::places(root).unwrap().is_empty());
            forgets_nothing(root).unwrap();
        }
    }

    #[test]
    fn what_ends_the_server_each_time_it_is_opened_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place { path: dir.path().to_path_buf(), node: NodeId(1) };
        let fails = || place.begin().is_err();
        assert!((0..OPENINGS_MAX).all(|_| !fails()) && fails() && fails());
        place.is_opened().unwrap();
        place.is_opened().unwrap();
        for _ in 0..=OPENINGS_MAX {
            assert!(!fails(), "each got to its end");
            place.is_opened().unwrap();
        }
    }

    #[test]
    fn without_anything_set_aside_there_is_nothing_to_bring() {
        let dir = tempfile::tempdir().unwrap();
        assert!(places(dir.path()).unwrap().is_empty());
        file(&dir.path().join("found/notes.txt"), "people's");
        file(&dir.path().join("found/backup/x"), "people's");
        assert!(places(dir.path()).unwrap().is_empty());
    }
}
