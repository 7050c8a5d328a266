//! Where passwords come from: the environment, files that it names, and for `root` the one that an
//! earlier start made up. May not check anybody's password.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Random bytes of a password that is made up.
const RANDOM_BYTES: usize = 16;

/// A password that the environment names in a wrong way.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Which one counts would be chance.
    #[error("{0} and {0}_FILE are both set; set one of them")]
    Both(String),
    /// The file cannot be read, or is no text.
    #[error("{variable}: {}: {source}", path.display())]
    File {
        /// Name of the variable with the path.
        variable: String,
        /// The path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// An empty password would let everybody in.
    #[error("{variable}: {} holds no password", path.display())]
    Empty {
        /// Name of the variable with the path.
        variable: String,
        /// The path.
        path: PathBuf,
    },
}

/// The password in the variable `name`, or in the file that `name` with `_FILE` behind it names, as
/// engines of containers hand out secrets; the end of its last line is not part of it.
///
/// # Errors
/// Both are set, or the file cannot be read or is empty.
pub fn secret(
    name: &str,
    lookup: impl Fn(&str) -> Option<String>,
) -> Result<Option<String>, SecretError> {
    let variable = format!("{name}_FILE");
    let Some(path) = lookup(&variable).map(PathBuf::from) else {
        return Ok(lookup(name));
    };
    if lookup(name).is_some() {
        return Err(SecretError::Both(name.to_owned()));
    }
    match fs::read_to_string(&path) {
        Ok(text) => match text.trim_end_matches(['\r', '\n']) {
            "" => Err(SecretError::Empty { variable, path }),
            password => Ok(Some(password.to_owned())),
        },
        Err(source) => Err(SecretError::File { variable, path, source }),
    }
}

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

    #[test]
    fn a_password_stands_in_a_variable_or_in_the_file_that_it_names() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        fs::write(&path, "of the file\n").unwrap();
        let file = path.to_string_lossy().into_owned();
        let with = |variables: &[(&str, &str)]| {
            let found = |name: &str| variables.iter().find(|(n, _)| *n == name);
            secret("PASSWORD", |name| found(name).map(|(_, value)| (*value).to_owned()))
        };
        assert_eq!(with(&[]).unwrap(), None);
        assert_eq!(with(&[("PASSWORD", "given")]).unwrap().as_deref(), Some("given"));
        assert_eq!(with(&[("PASSWORD_FILE", &file)]).unwrap().as_deref(), Some("of the file"));
        let both = with(&[("PASSWORD", "given"), ("PASSWORD_FILE", &file)]).unwrap_err();
        assert_eq!(both.to_string(), "PASSWORD and PASSWORD_FILE are both set; set one of them");
        fs::write(&path, "\n").unwrap();
        let empty = with(&[("PASSWORD_FILE", &file)]).unwrap_err();
        assert!(empty.to_string().contains("holds no password"), "{empty}");
        fs::remove_file(&path).unwrap();
        let gone = with(&[("PASSWORD_FILE", &file)]).unwrap_err().to_string();
        assert!(gone.starts_with("PASSWORD_FILE: ") && gone.contains(&file), "{gone}");
    }
}
