//! The file that says whose a data folder is, and of which format. May not know the store.

use std::fs;
use std::io;
use std::path::Path;

use quorate_api::NodeId;
use quorate_control::versions::Versions;
use serde::{Deserialize, Serialize};

use super::{DataError, io_error, replace, unreadable};

/// Format of a new data folder, and the oldest that can be used. Format 1 had the schema among the
/// records, not in a control log; formats 2 and 3 did not know there who is in the cluster.
pub(super) const FORMAT: u32 = 4;

/// Formats that came later, each with the version from which on servers write it. A folder becomes
/// one of them when its cluster has that level (`level`), and does not go back.
const LATER_FORMATS: [(u32, u16); 1] = [(5, 9)];

/// Name of the file that says whose folder it is, and of which format.
const IDENTITY: &str = "identity";

/// Who a server is, for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct IdentityFile {
    format: u32,
    pub(super) node_id: String,
    name: String,
}

/// The name of the server that a folder belongs to; `None` before its first start.
///
/// # Errors
/// The file that says so cannot be read, or is damaged.
pub fn saved_name(root: &Path) -> Result<Option<String>, DataError> {
    Ok(read_identity(root, Versions::ALL)?.map(|file| file.name))
}

/// Makes the folder one of a cluster of this level, if it is not; gives its former and its new
/// format. Programs that cannot read what is in it are told so from then on.
///
/// # Errors
/// The file that says the format cannot be read or written.
pub(crate) fn raise_format(root: &Path, level: u16) -> Result<Option<(u32, u32)>, DataError> {
    let (format, found) = (format_of(level), read_identity(root, Versions::ALL)?);
    let Some(before) = found.filter(|file| file.format < format) else { return Ok(None) };
    let former = before.format;
    write_identity(root, &IdentityFile { format, ..before })?;
    Ok(Some((former, format)))
}

/// The newest format that servers of this version write.
fn format_of(version: u16) -> u32 {
    let later = LATER_FORMATS.iter().rfind(|(_, since)| *since <= version);
    later.map_or(FORMAT, |(format, _)| *format)
}

/// Reads the identity, or makes it on the first start.
pub(super) fn identity(root: &Path, name: &str, versions: Versions) -> Result<NodeId, DataError> {
    let Some(file) = read_identity(root, versions)? else { return create_identity(root, name) };
    if file.name != name {
        let (found, wanted) = (file.name, name.to_owned());
        return Err(DataError::Name { path: root.to_path_buf(), found, wanted });
    }
    file.node_id(root)
}

impl IdentityFile {
    pub(super) fn node_id(&self, root: &Path) -> Result<NodeId, DataError> {
        let id = u64::from_str_radix(&self.node_id, 16).map(NodeId);
        id.map_err(|error| damaged_identity(root, error.to_string()))
    }
}

fn damaged_identity(root: &Path, detail: String) -> DataError {
    DataError::Damaged { path: root.join(IDENTITY), detail }
}

pub(super) fn read_identity(
    root: &Path,
    versions: Versions,
) -> Result<Option<IdentityFile>, DataError> {
    /// Read first: what else a newer file says is not known.
    #[derive(Deserialize)]
    struct Header {
        format: u32,
    }
    let path = root.join(IDENTITY);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(&path, error)),
    };
    let damaged = |error: serde_json::Error| damaged_identity(root, error.to_string());
    let (Header { format: found }, newest) =
        (serde_json::from_str(&text).map_err(damaged)?, format_of(versions.newest));
    if !(FORMAT..=newest).contains(&found) {
        return Err(DataError::Format { path, found, newest });
    }
    let file: IdentityFile = serde_json::from_str(&text).map_err(damaged)?;
    file.node_id(root)?;
    Ok(Some(file))
}

fn create_identity(root: &Path, name: &str) -> Result<NodeId, DataError> {
    if root.join(super::BOOT).exists() {
        let detail = "it is missing, but there is a boot counter".into();
        return Err(DataError::Damaged { path: root.join(IDENTITY), detail });
    }
    new_identity(root, name)
}

fn new_identity(root: &Path, name: &str) -> Result<NodeId, DataError> {
    let path = root.join(IDENTITY);
    let random = getrandom::u64()
        .map_err(|error| io_error("make", &path)(io::Error::other(error.to_string())))?;
    // 0 means nobody in stamps and ballots.
    let node = NodeId(random.max(1));
    let (node_id, name) = (node.to_string(), name.to_owned());
    write_identity(root, &IdentityFile { format: FORMAT, node_id, name })?;
    Ok(node)
}

/// Writes the identity of one folder into another one that has none.
///
/// # Errors
/// It cannot be read or written.
pub(in crate::runtime) fn copy_identity(from: &Path, to: &Path) -> Result<(), DataError> {
    if read_identity(to, Versions::ALL)?.is_some() {
        return Ok(());
    }
    let file = read_identity(from, Versions::ALL)?;
    file.map_or(Ok(()), |file| write_identity(to, &file))
}

/// Gives the folder of a server another identity under the same name, unless it is another than
/// `before` already.
///
/// # Errors
/// It cannot be read or written.
pub(in crate::runtime) fn renew_identity(root: &Path, before: NodeId) -> Result<(), DataError> {
    match read_identity(root, Versions::ALL)? {
        Some(file) if file.node_id(root)? == before => new_identity(root, &file.name).map(drop),
        Some(_) | None => Ok(()),
    }
}

fn write_identity(root: &Path, file: &IdentityFile) -> Result<(), DataError> {
    let text = serde_json::to_string(file)
        .map_err(|error| io_error("write", &root.join(IDENTITY))(error.into()))?;
    replace(root, IDENTITY, format!("{text}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use quorate_control::versions::OLDEST;

    use super::*;

    #[test]
    fn a_folder_is_raised_once_and_refused_by_older_and_much_newer_programs() {
        let dir = tempfile::tempdir().unwrap();
        let node = identity(dir.path(), "n1", Versions::ALL).unwrap();
        assert_eq!(raise_format(dir.path(), OLDEST).unwrap(), None);
        assert_eq!(raise_format(dir.path(), 9).unwrap(), Some((4, 5)));
        assert_eq!(raise_format(dir.path(), 9).unwrap(), None);
        assert_eq!(identity(dir.path(), "n1", Versions::ALL).unwrap(), node);
        let older = identity(dir.path(), "n1", Versions::up_to(8).unwrap()).unwrap_err();
        assert!(!older.is_damage());
        let text = older.to_string();
        assert!(
            text.contains("has format 5, this program reads formats 4 to 4: a newer"),
            "{text}"
        );
        for (format, why) in [(3, "it is too old"), (6, "a newer program has written it")] {
            // With something in it that this program does not know.
            let text = format!(r#"{{"format":{format},"new":1}}"#);
            replace(dir.path(), IDENTITY, text.as_bytes()).unwrap();
            let text = saved_name(dir.path()).unwrap_err().to_string();
            assert!(text.contains(why), "{text}");
        }
    }
}
