//! The data folder: who this server is, how often it started, and whether the store inside is
//! really its own (PROTOCOL.md 3.1, trap A3). May not know the machine or the links.
//!
//! `identity`, `boot` and `synced` lie beside `databases/`, so that a copied or restored database
//! never carries an identity along. `databases/` holds the store of all of them and, for people to
//! read, a folder for each (`config_files`).

mod identity;
mod renounced;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use quorate_api::{Boot, NodeId};
use quorate_control::versions::Versions;

use super::storage::witness::{Claim, Witness};
use super::storage::{Durable, Owner, Share, Storage, StorageError};
pub(crate) use identity::raise_format;
pub use identity::saved_name;
use identity::{FORMAT, identity};
pub(super) use identity::{copy_identity, renew_identity};
pub use renounced::renounce;
pub(super) use renounced::seeds;

/// Name of the store's folder below `databases/`.
pub(crate) const STORE: &str = "store";

/// What an identity has written in its data folder: all that it has agreed on and voted, and how
/// often it started.
pub(super) const WRITTEN: [&str; 3] = [DATABASES, WITNESS, BOOT];

/// Name of the folder of everything that databases are.
const DATABASES: &str = "databases";

/// Name of the file that counts the starts.
const BOOT: &str = "boot";

/// Name of the file that says how far the store was synced.
const WITNESS: &str = "synced";

/// Why a server must not start on its folder.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The file system refused.
    #[error("cannot {action} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// A small file does not hold what it should.
    #[error("{} is damaged: {detail}; it cannot be rebuilt by guessing", .path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The folder is of another time.
    #[error(
        "{} has format {found}, this program reads formats {FORMAT} to {newest}: {}",
        .path.display(),
        if found > newest {
            "a newer program has written it, and it does not go back; start that one"
        } else {
            "it is too old to be taken over; start the program that came after the one that wrote \
             it first"
        }
    )]
    Format {
        /// Its identity file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest one that can be read.
        newest: u32,
    },
    /// The folder belongs to a server of another name.
    #[error(
        "{} belongs to server '{found}', not to '{wanted}': the other servers know its votes \
         under that name; start it as '{found}', or '{wanted}' with a data folder of its own",
        .path.display()
    )]
    Name {
        /// The folder.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Who wants it.
        wanted: String,
    },
    /// It would found a cluster with nothing, and what it had is beside that.
    #[error(
        "{} is that of a server that was to be one of several: what it had when it stood alone is \
         set aside and would not be seen; start it with --join or --masters as before, or alone on \
         what it had, with --data={}",
        .root.display(), .path.display()
    )]
    SetAside {
        /// The folder.
        root: PathBuf,
        /// The one that was set aside.
        path: PathBuf,
    },
    /// The store was opened by another identity.
    #[error(
        "{} was written by server {found}, this is server {own}: a copied database does not \
         carry votes along, and joining with one is not supported yet",
        .path.display()
    )]
    Foreign {
        /// The store.
        path: PathBuf,
        /// Who wrote it.
        found: NodeId,
        /// This server.
        own: NodeId,
    },
    /// The store is gone or older than the boot counter.
    #[error(
        "this server's data in {} is gone ({detail}); it must not rejoin under its old \
         identity {own}, because its votes are lost",
        .path.display()
    )]
    Gone {
        /// The store.
        path: PathBuf,
        /// How that was noticed.
        detail: String,
        /// This server.
        own: NodeId,
    },
    /// The store holds less than its disk confirmed once.
    #[error(
        "the store in {} has lost what was synced: {detail} (says {}): a file is damaged or \
         missing, or this is another store or an older copy; {REMEDY}",
        .path.display(), .witness.display()
    )]
    Lost {
        /// The store.
        path: PathBuf,
        /// The file that says how far it was synced.
        witness: PathBuf,
        /// What is less than it should be.
        detail: String,
    },
    /// The store itself.
    #[error("the store in {} cannot be used: {source}; {}", .path.display(), .source.remedy())]
    Storage {
        /// Its folder.
        path: PathBuf,
        /// What is wrong.
        source: StorageError,
    },
}

/// What to do about a store whose end is gone.
const REMEDY: &str = "check the disk; put the files back as they were if there is an exact copy; \
    otherwise this server's votes are lost, and it must not rejoin under its identity";

impl DataError {
    /// Whether the disk or what lies on it is to blame.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Io { .. }
            | Self::Damaged { .. }
            | Self::Foreign { .. }
            | Self::Gone { .. }
            | Self::Lost { .. } => true,
            Self::Storage { source, .. } => !matches!(source, StorageError::Locked { .. }),
            Self::Name { .. } | Self::Format { .. } | Self::SetAside { .. } => false,
        }
    }
}

/// An opened data folder; the boot is already durable.
pub struct DataDir {
    /// Identity of this server.
    pub node: NodeId,
    /// This start of it.
    pub boot: Boot,
    /// The last batch that the disk holds from earlier boots.
    pub started_with: Durable,
    /// Its store.
    pub storage: Storage,
    /// How far the store is synced, beside it.
    pub(crate) witness: Witness,
}

impl DataDir {
    /// Opens a folder, creating what a first start needs, and raises the boot counter durably.
    ///
    /// # Errors
    /// In use, damaged, another server's, of a format that none of these versions writes, or its
    /// data is gone.
    pub fn open(
        root: &Path,
        name: &str,
        versions: Versions,
        share: Share,
    ) -> Result<Self, DataError> {
        renounced::put_aside(root, versions)?;
        let databases = databases(root);
        fs::create_dir_all(&databases).map_err(io_error("create", &databases))?;
        let node = identity(root, name, versions)?;
        let previous = read_boot(root)?;
        let path = databases.join(STORE);
        if previous.0 > 0 && !path.join("CURRENT").exists() {
            let detail = format!("boot counter {}, but no store", previous.0);
            return Err(DataError::Gone { path, detail, own: node });
        }
        let claim = claim(root, previous)?;
        if let Some(claim) = &claim {
            check_manifest(root, &path, claim)?;
        }
        let failed = |source| DataError::Storage { path: path.clone(), source };
        let storage = match previous {
            Boot(0) => Storage::open(&path, share),
            _ => Storage::open_existing(&path, share),
        };
        let storage = storage.map_err(failed)?;
        let owner = storage.owner().map_err(failed)?;
        let boot = next_boot(node, previous, owner, &path)?;
        let started_with = storage.last_batch().map_err(failed)?;
        match &claim {
            Some(claim) => check_end(root, &path, claim, started_with)?,
            None => replace(root, WITNESS, &Claim::default().encode())?,
        }
        // The store first: a store that lags behind the counter is then always an older copy.
        storage.set_owner(Owner { node, boot }).map_err(failed)?;
        let witness = bear_witness(root, &path, started_with)?;
        replace(root, BOOT, format!("{}\n", boot.0).as_bytes())?;
        sync_dir(&databases)?;
        Ok(Self { node, boot, started_with, storage, witness })
    }
}

/// The folder of everything that databases are.
pub(crate) fn databases(root: &Path) -> PathBuf {
    root.join(DATABASES)
}

/// A folder below another one, made durably if it is not there.
pub(crate) fn folder(parent: &Path, name: &str) -> Result<PathBuf, DataError> {
    let path = parent.join(name);
    if !path.is_dir() {
        fs::create_dir(&path).map_err(io_error("create", &path))?;
        sync_dir(parent)?;
    }
    Ok(path)
}

/// What the note beside the store claims; `None` before the first start is over.
fn claim(root: &Path, previous: Boot) -> Result<Option<Claim>, DataError> {
    let path = root.join(WITNESS);
    let damaged = |detail: &str| DataError::Damaged { path: path.clone(), detail: detail.into() };
    match Claim::read(&path) {
        Ok(Some(claim)) => Ok(Some(claim)),
        Ok(None) => Err(damaged("it does not say how far the store was synced")),
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io_error("read", &path)(error))
        }
        Err(_) if previous == Boot(0) => Ok(None),
        Err(_) => Err(damaged("it is missing, but there is a boot counter")),
    }
}

/// Refuses a list of files that is less than, or differs from, what was synced. To be asked before
/// the engine opens the store, since it removes tables that are not listed.
fn check_manifest(root: &Path, store: &Path, claim: &Claim) -> Result<(), DataError> {
    let contradiction = claim.manifest.contradicted_by(store).map_err(io_error("read", store))?;
    contradiction.map_or(Ok(()), |detail| Err(lost(root, store, detail)))
}

/// Refuses a store that ends before what was synced.
fn check_end(root: &Path, store: &Path, claim: &Claim, found: Durable) -> Result<(), DataError> {
    let ((boot, batch), (found_boot, found_batch)) = (claim.durable, found);
    if found >= claim.durable {
        return Ok(());
    }
    let detail = format!(
        "it ends at batch {found_batch} of boot {}, and batch {batch} of boot {} was confirmed",
        found_boot.0, boot.0
    );
    Err(lost(root, store, detail))
}

/// Goes on with the note of how far the store is synced.
fn bear_witness(root: &Path, store: &Path, durable: Durable) -> Result<Witness, DataError> {
    let path = root.join(WITNESS);
    let open = || -> io::Result<Witness> {
        let witness = Witness::open(&path, store)?;
        witness.claim(durable)?;
        witness.sync()?;
        Ok(witness)
    };
    open().map_err(io_error("write", &path))
}

fn lost(root: &Path, store: &Path, detail: String) -> DataError {
    DataError::Lost { path: store.to_path_buf(), witness: root.join(WITNESS), detail }
}

/// The boot that follows, if the store fits the identity and the counter.
fn next_boot(
    node: NodeId,
    previous: Boot,
    owner: Option<Owner>,
    path: &Path,
) -> Result<Boot, DataError> {
    let gone = |detail| DataError::Gone { path: path.to_path_buf(), detail, own: node };
    let stored = match owner {
        None if previous.0 == 0 => Boot(0),
        None => return Err(gone("the store is empty".into())),
        Some(owner) if owner.node != node => {
            let path = path.to_path_buf();
            return Err(DataError::Foreign { path, found: owner.node, own: node });
        }
        Some(owner) => owner.boot,
    };
    if stored < previous {
        let (stored, previous) = (stored.0, previous.0);
        return Err(gone(format!("the store is of boot {stored}, the counter says {previous}")));
    }
    Ok(Boot(stored.0 + 1))
}

fn read_boot(root: &Path) -> Result<Boot, DataError> {
    let path = root.join(BOOT);
    match fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().map(Boot).map_err(|error| DataError::Damaged {
            path,
            detail: format!("no boot counter: {error}"),
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Boot(0)),
        Err(error) => Err(unreadable(&path, error)),
    }
}

/// Replaces a small file so that after a crash either the old or the new content is there, durably.
pub(crate) fn replace(root: &Path, name: &str, content: &[u8]) -> Result<(), DataError> {
    let (path, temporary) = (root.join(name), root.join(temporary(name)));
    let write = || {
        let mut file = File::create(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, &path)
    };
    write().map_err(io_error("write", &path))?;
    sync_dir(root)
}

/// Under what name the new content of a file is written.
pub(crate) fn temporary(name: &str) -> String {
    format!("{name}.new")
}

/// Makes durable what is in a folder under which name.
pub(crate) fn sync_dir(path: &Path) -> Result<(), DataError> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(io_error("sync", path))
}

/// A file that should be text and is not is damaged.
fn unreadable(path: &Path, error: io::Error) -> DataError {
    if error.kind() == io::ErrorKind::InvalidData {
        return DataError::Damaged { path: path.to_path_buf(), detail: error.to_string() };
    }
    io_error("read", path)(error)
}

pub(crate) fn io_error(action: &'static str, path: &Path) -> impl Fn(io::Error) -> DataError {
    let path = path.to_path_buf();
    move |source| DataError::Io { action, path: path.clone(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(root: &Path) -> Result<DataDir, DataError> {
        DataDir::open(root, "n1", Versions::ALL, Share::default())
    }

    #[test]
    fn identity_stays_and_every_start_is_a_new_boot() {
        let dir = tempfile::tempdir().unwrap();
        let first = open(dir.path()).unwrap();
        let (node, boot) = (first.node, first.boot);
        drop(first);
        let second = open(dir.path()).unwrap();
        assert_eq!((second.node, boot, second.boot), (node, Boot(1), Boot(2)));
    }

    #[test]
    fn a_second_process_is_told_that_the_folder_is_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let _first = open(dir.path()).unwrap();
        let text = open(dir.path()).err().unwrap().to_string();
        assert!(text.contains("is in use by another process"), "{text}");
    }

    #[test]
    fn a_server_whose_data_is_gone_does_not_start() {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path()).unwrap());
        fs::remove_dir_all(dir.path().join("databases")).unwrap();
        let text = open(dir.path()).err().unwrap().to_string();
        assert!(text.contains("must not rejoin under its old identity"), "{text}");
    }

    #[test]
    fn a_store_from_an_older_boot_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path()).unwrap());
        let (store, copy) = (dir.path().join("databases/store"), dir.path().join("copy"));
        copy_dir(&store, &copy);
        drop(open(dir.path()).unwrap());
        fs::remove_dir_all(&store).unwrap();
        fs::rename(&copy, &store).unwrap();
        let text = open(dir.path()).err().unwrap().to_string();
        assert!(text.contains("or this is another store or an older copy"), "{text}");
        // Whoever takes the note back too is found out by the boot.
        replace(dir.path(), WITNESS, &Claim::default().encode()).unwrap();
        let text = open(dir.path()).err().unwrap().to_string();
        assert!(text.contains("the store is of boot 1, the counter says 2"), "{text}");
    }

    #[test]
    fn another_servers_store_and_name_are_refused() {
        let (own, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        drop(open(own.path()).unwrap());
        drop(open(other.path()).unwrap());
        fs::remove_dir_all(own.path().join("databases")).unwrap();
        copy_dir(&other.path().join("databases/store"), &own.path().join("databases/store"));
        replace(own.path(), WITNESS, &Claim::default().encode()).unwrap();
        let text = open(own.path()).err().unwrap().to_string();
        assert!(text.contains("was written by server"), "{text}");
        let text = DataDir::open(other.path(), "n2", Versions::ALL, Share::default())
            .err()
            .unwrap()
            .to_string();
        assert!(text.contains("belongs to server 'n1', not to 'n2'"), "{text}");
        assert_eq!(saved_name(other.path()).unwrap().as_deref(), Some("n1"));
    }

    #[test]
    fn a_crash_between_store_and_counter_wastes_a_boot_at_most() {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path()).unwrap());
        drop(open(dir.path()).unwrap());
        replace(dir.path(), "boot", b"1\n").unwrap();
        assert_eq!(open(dir.path()).unwrap().boot, Boot(3));
    }

    #[test]
    fn damaged_small_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path()).unwrap());
        fs::write(dir.path().join("boot"), "x").unwrap();
        assert!(matches!(open(dir.path()), Err(DataError::Damaged { .. })));
        fs::write(dir.path().join("boot"), "1").unwrap();
        fs::remove_file(dir.path().join("identity")).unwrap();
        assert!(matches!(open(dir.path()), Err(DataError::Damaged { .. })));
    }

    fn copy_dir(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}
