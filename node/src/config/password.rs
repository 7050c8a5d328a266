//! The password of `root`: as configured, else the one that an earlier start made up. May not check
//! anybody's password.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Random bytes of a password that is made up.
const RANDOM_BYTES: usize = 16;

/// Returns the password, and whether it was made up just now and has to be shown to somebody. To be
/// called by the owner of the folder alone.
///
/// # Errors
/// The file in the data folder cannot be read or written, or holds no password, or the system has
/// no randomness.
pub fn root(configured: Option<String>, data: &Path) -> io::Result<(String, bool)> {
    if let Some(password) = configured {
        return Ok((password, false));
    }
    let path = data.join("root-password");
    match fs::read_to_string(&path) {
        Ok(text) => return kept(&path, text.trim_end()).map(|password| (password, false)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(about(&path, &error)),
    }
    let mut random = [0; RANDOM_BYTES];
    getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
    let password: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    write(data, &path, &password).map_err(|error| about(&path, &error))?;
    Ok((password, true))
}

/// An empty password would let everybody in.
fn kept(path: &Path, password: &str) -> io::Result<String> {
    if password.is_empty() {
        let message = format!(
            "{} holds no password; write one into it, or remove it and the next start makes one up",
            path.display()
        );
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    Ok(password.to_owned())
}

/// Writes the file whole or not at all, whenever the machine stops.
fn write(data: &Path, path: &Path, password: &str) -> io::Result<()> {
    let temporary = data.join("root-password.new");
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    writeln!(file, "{password}")?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    fs::File::open(data)?.sync_all()
}

fn about(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_made_up_password_is_shown_once_and_kept_from_others() {
        let dir = tempfile::tempdir().unwrap();
        let (first, shown) = root(None, dir.path()).unwrap();
        assert!(shown && first.len() == 2 * RANDOM_BYTES);
        assert_eq!(root(None, dir.path()).unwrap(), (first, false));
        let mode = fs::metadata(dir.path().join("root-password")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let configured = root(Some("given".into()), dir.path()).unwrap();
        assert_eq!(configured, ("given".into(), false));
    }

    #[test]
    fn a_file_without_a_password_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("root-password"), "\n").unwrap();
        let error = root(None, dir.path()).unwrap_err().to_string();
        assert!(error.contains("root-password holds no password"), "{error}");
    }
}
