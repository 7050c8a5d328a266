//! The task of every server that keeps `databases/<db>/distributed-config.json` as the agreed
//! schema says: the same bytes everywhere. May not decide what is in them, and nothing may depend
//! on them: the schema counts, they are for people to read.
//!
//! A file that this server has not written in this life may have been edited. Another version in
//! this server's writing is what an earlier life left, and replaced; what differs otherwise is set
//! aside first.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use quorate_control::distributed::{DistributedConfig, WriteError, document};
use quorate_control::schema::{Database, Schema};

use super::data_dir::{self, DataError, STORE, io_error};
use crate::http::backend::Backend;

/// Name of the file in a database's folder, as in the original.
const FILE: &str = "distributed-config.json";
/// Where one that was edited is put.
const EDITED: &str = "distributed-config.json.edited";
/// Before what did not work is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// Between two looks at what is to be written.
const REST: Duration = Duration::from_secs(1);

/// Why a file is not as it should be.
#[derive(Debug, thiserror::Error)]
enum FileError {
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Follows the schema, for ever.
pub(super) async fn run<B: Backend>(backend: B, databases: PathBuf) {
    let mut changes = backend.changes();
    let mut files = Files::new(databases);
    let mut told = String::new();
    loop {
        changes.mark_unchanged();
        let schema = backend.schema();
        let following = tokio::task::spawn_blocking(move || {
            let followed = files.follow(&schema);
            (files, followed)
        });
        // Only when the process ends.
        let Ok((back, followed)) = following.await else { return };
        files = back;
        let changed = match followed {
            Ok(()) => {
                told.clear();
                // People need no version that another one takes the place of at once.
                tokio::time::sleep(REST).await;
                changes.changed().await.is_ok()
            }
            Err(error) => {
                let error = error.to_string();
                if told != error {
                    tracing::warn!(error, "a distributed configuration is not written yet");
                    told = error;
                }
                let waited = tokio::time::timeout(PAUSE, changes.changed()).await;
                !matches!(waited, Ok(Err(_)))
            }
        };
        if !changed {
            return;
        }
    }
}

/// The files, and what this server knows to be in them.
struct Files {
    databases: PathBuf,
    /// By folder.
    written: BTreeMap<String, Vec<u8>>,
    /// What earlier lives left behind was looked at.
    swept: bool,
}

impl Files {
    fn new(databases: PathBuf) -> Self {
        Self { databases, written: BTreeMap::new(), swept: false }
    }

    /// Makes the files what the schema says; goes through all of them, and gives the last error.
    fn follow(&mut self, schema: &Schema) -> Result<(), FileError> {
        // Nothing is agreed on, or not known here yet.
        if schema.revision == 0 {
            return Ok(());
        }
        let mut outcome = Ok(());
        let there = || schema.databases.iter().filter(|d| d.brought_by().is_none());
        let folders: BTreeSet<String> = there().map(|d| folder_of(&d.name)).collect();
        let gone: Vec<String> =
            self.written.keys().filter(|folder| !folders.contains(*folder)).cloned().collect();
        for folder in gone {
            match remove(&self.databases, &folder) {
                Ok(()) => drop(self.written.remove(&folder)),
                Err(error) => outcome = Err(error.into()),
            }
        }
        if !self.swept {
            match sweep(&self.databases, &folders) {
                Ok(()) => self.swept = true,
                Err(error) => outcome = Err(error.into()),
            }
        }
        for database in there() {
            if let Err(error) = self.keep(schema, database) {
                outcome = Err(error);
            }
        }
        outcome
    }

    fn keep(&mut self, schema: &Schema, database: &Database) -> Result<(), FileError> {
        let folder = folder_of(&database.name);
        let config = document(schema, database);
        let text = config.write()?;
        let known = self.written.get(&folder);
        if known == Some(&text) {
            return Ok(());
        }
        let path = data_dir::folder(&self.databases, &folder)?;
        let found = if known.is_some() { None } else { read(&path.join(FILE))? };
        if found.as_ref() != Some(&text) {
            let before = found.as_deref().and_then(own_version);
            if found.is_some() && before.is_none_or(|version| version == config.version) {
                set_aside(&path)?;
            }
            data_dir::replace(&path, FILE, &text)?;
            let (database, version) = (&database.name, config.version);
            tracing::info!(database, version, before, "updated distributed configuration");
        }
        self.written.insert(folder, text);
        Ok(())
    }
}

/// Where a database's file is. The one name that is taken has a letter more that names cannot have.
fn folder_of(database: &str) -> String {
    if database == STORE { format!("{STORE}.database") } else { database.to_owned() }
}

/// What is in a file, if it is there.
fn read(path: &Path) -> Result<Option<Vec<u8>>, DataError> {
    match fs::read(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error("read", path)(error)),
    }
}

/// The version of a configuration in this server's writing; `None` for what somebody else wrote.
fn own_version(text: &[u8]) -> Option<u64> {
    let config = DistributedConfig::parse(text).ok()?.config;
    let own = config.write().ok()?;
    (own == text).then_some(config.version)
}

fn set_aside(folder: &Path) -> Result<(), DataError> {
    let (file, aside) = (folder.join(FILE), folder.join(EDITED));
    tracing::warn!(
        file = %file.display(), aside = %aside.display(),
        "the file is not what the servers agreed on, and was changed by somebody else: set aside; \
         changing it has no effect"
    );
    fs::rename(&file, &aside).map_err(io_error("rename", &file))
}

/// Removes a file, and the folder when nothing else is in it.
fn remove(databases: &Path, folder: &str) -> Result<(), DataError> {
    let path = databases.join(folder);
    for name in [FILE.to_owned(), data_dir::temporary(FILE)] {
        let file = path.join(name);
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error("remove", &file)(error));
            }
            Ok(()) | Err(_) => {}
        }
    }
    match fs::remove_dir(&path) {
        Ok(()) => tracing::info!(folder, "removed distributed configuration"),
        // Somebody else's files are in it, or somebody removed it.
        Err(error) => tracing::info!(folder, %error, "the folder stays"),
    }
    data_dir::sync_dir(databases)
}

/// Removes what this server wrote for databases that were dropped since. What is not in its
/// writing may be somebody's own, and stays.
fn sweep(databases: &Path, folders: &BTreeSet<String>) -> Result<(), DataError> {
    let entries = fs::read_dir(databases).map_err(io_error("read", databases))?;
    for entry in entries {
        let entry = entry.map_err(io_error("read", databases))?;
        let Ok(folder) = entry.file_name().into_string() else { continue };
        if folder == STORE || folders.contains(&folder) || !entry.path().is_dir() {
            continue;
        }
        let file = entry.path().join(FILE);
        let Some(text) = read(&file)? else { continue };
        if own_version(&text).is_some() {
            remove(databases, &folder)?;
        } else {
            tracing::warn!(file = %file.display(), "left alone: there is no such database");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use quorate_api::NodeId;
    use quorate_control::members::WriteQuorum;
    use quorate_control::schema::DatabaseKind;
    use quorate_control::settings::NewDatabase;

    use super::*;

    fn create(schema: &Schema, name: &str) -> Schema {
        let new = NewDatabase::new(name, DatabaseKind::Plocal, WriteQuorum::Majority);
        schema.create_database(&new).unwrap()
    }

    fn bench() -> Schema {
        let masters = [("n1", 1), ("n2", 2)].map(|(name, id)| (name.to_owned(), NodeId(id)));
        create(&Schema::founded_by(&masters), "bench")
    }

    fn text(schema: &Schema, name: &str) -> Vec<u8> {
        document(schema, schema.database(name).unwrap()).write().unwrap()
    }

    fn follow(dir: &tempfile::TempDir, schema: &Schema) {
        Files::new(dir.path().to_path_buf()).follow(schema).unwrap();
    }

    fn names(dir: &Path) -> Vec<String> {
        let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string();
        let mut names: Vec<String> =
            fs::read_dir(dir).unwrap().map(|entry| name(entry).unwrap()).collect();
        names.sort_unstable();
        names
    }

    /// FEATURES: S6
    #[test]
    fn files_follow_the_schema_and_go_with_their_databases() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = Files::new(dir.path().to_path_buf());
        files.follow(&Schema::default()).unwrap();
        assert!(names(dir.path()).is_empty());
        let first = create(&bench(), "other");
        files.follow(&first).unwrap();
        let file = dir.path().join("bench/distributed-config.json");
        assert_eq!(fs::read(&file).unwrap(), text(&first, "bench"));
        let second = first.create_class("bench", "Item", &[]).unwrap();
        files.follow(&second).unwrap();
        assert_eq!(fs::read(&file).unwrap(), text(&second, "bench"));
        assert_ne!(text(&first, "bench"), text(&second, "bench"));
        assert_eq!(names(&dir.path().join("bench")), [FILE]);
        fs::write(dir.path().join("other/notes"), "mine").unwrap();
        let third = second.drop_database("bench").unwrap().drop_database("other").unwrap();
        files.follow(&third).unwrap();
        assert_eq!(
            (names(dir.path()), names(&dir.path().join("other"))),
            (vec!["other".to_owned()], vec!["notes".to_owned()])
        );
    }

    /// FEATURES: S5
    #[test]
    fn a_start_replaces_what_is_missing_old_or_edited_and_keeps_the_edited_one_aside() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("bench");
        let (file, edited) = (folder.join(FILE), folder.join(EDITED));
        let first = bench();
        let second = first.create_class("bench", "Item", &[]).unwrap();
        follow(&dir, &first);
        follow(&dir, &second);
        assert_eq!(fs::read(&file).unwrap(), text(&second, "bench"));
        fs::remove_file(&file).unwrap();
        follow(&dir, &second);
        assert_eq!(fs::read(&file).unwrap(), text(&second, "bench"));
        assert!(!edited.exists());
        fs::write(&file, text(&second.create_class("bench", "More", &[]).unwrap(), "bench"))
            .unwrap();
        follow(&dir, &second);
        assert_eq!(fs::read(&file).unwrap(), text(&second, "bench"));
        assert!(!edited.exists());
        let written = String::from_utf8(text(&second, "bench")).unwrap();
        let older = written.replace("\"version\": 2", "\"version\":1");
        for by_hand in [&written.replace("majority", "all"), "{", &older] {
            fs::write(&file, by_hand).unwrap();
            follow(&dir, &second);
            assert_eq!(fs::read(&file).unwrap(), text(&second, "bench"));
            assert_eq!(fs::read_to_string(&edited).unwrap(), by_hand);
        }
    }

    /// FEATURES: S6
    #[test]
    fn what_was_dropped_in_an_earlier_life_is_swept_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let schema = create(&bench(), "gone");
        follow(&dir, &schema);
        fs::create_dir_all(dir.path().join("store")).unwrap();
        fs::create_dir_all(dir.path().join("mine")).unwrap();
        fs::write(dir.path().join("mine").join(FILE), r#"{"clusters":{}}"#).unwrap();
        fs::write(dir.path().join("gone").join(data_dir::temporary(FILE)), "half").unwrap();
        follow(&dir, &Schema::default());
        assert_eq!(names(dir.path()), ["bench", "gone", "mine", "store"]);
        follow(&dir, &schema.drop_database("gone").unwrap());
        assert_eq!(names(dir.path()), ["bench", "mine", "store"]);
        assert_eq!(names(&dir.path().join("mine")), [FILE]);
    }

    #[test]
    fn a_database_named_like_the_store_keeps_out_of_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("store")).unwrap();
        let founded = Schema::founded_by(&[("n1".to_owned(), NodeId(1))]);
        let schema = create(&founded, "store");
        let mut files = Files::new(dir.path().to_path_buf());
        files.follow(&schema).unwrap();
        assert_eq!(names(dir.path()), ["store", "store.database"]);
        files.follow(&schema.drop_database("store").unwrap()).unwrap();
        assert_eq!(names(dir.path()), ["store"]);
    }

    #[test]
    fn what_cannot_be_written_does_not_keep_others_from_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("bench"), "in the way").unwrap();
        let schema = create(&bench(), "other");
        let mut files = Files::new(dir.path().to_path_buf());
        let error = files.follow(&schema).unwrap_err().to_string();
        assert!(error.contains("bench"), "{error}");
        assert_eq!(names(dir.path()), ["bench", "other"]);
        fs::remove_file(dir.path().join("bench")).unwrap();
        files.follow(&schema).unwrap();
        assert_eq!(names(&dir.path().join("bench")), [FILE]);
    }
}
