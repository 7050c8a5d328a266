//! The password of `root`: as configured, else the one that an earlier start made up. May not check
//! anybody's password.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Random bytes of a password that is made up.
const RANDOM_BYTES: usize = 16;

/// Returns the password, and whether it was made up just now and has to be shown to somebody.
///
/// # Errors
/// The file in the data folder cannot be read or written, or the system has no randomness.
pub fn root(configured: Option<String>, data: &Path) -> io::Result<(String, bool)> {
    if let Some(password) = configured {
        return Ok((password, false));
    }
    let path = data.join("root-password");
    match fs::read_to_string(&path) {
        Ok(text) => return Ok((text.trim_end().to_owned(), false)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut random = [0; RANDOM_BYTES];
    getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
    let password: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    fs::create_dir_all(data)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    writeln!(file, "{password}")?;
    file.sync_all()?;
    Ok((password, true))
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
}
