//! The name of a server that is given none: the one that its data folder was first opened with,
//! else asked for at the terminal, else made up. May not save it: the folder does that, once it is
//! known that the server may have it.

use std::io::{self, BufRead, Read as _, Write};
use std::path::Path;

use crate::clock::Clock;
use crate::runtime::data_dir::{self, DataError};

/// Name of a server that stands alone and was given none.
const DEFAULT_NAME: &str = "n1";
/// Longest answer that is read, in bytes; far longer than a legal name.
const ANSWER_BYTES_MAX: u64 = 1024;

/// Where somebody sits who can be asked.
pub struct Terminal<'a> {
    /// What is typed.
    pub input: &'a mut dyn BufRead,
    /// What is shown.
    pub output: &'a mut dyn Write,
}

/// Why there is no name.
#[derive(Debug, thiserror::Error)]
pub enum NameError {
    /// The data folder does not say whose it is.
    #[error("node name: {0}")]
    Saved(#[from] DataError),
    /// Nobody could be asked.
    #[error(
        "node name: cannot be asked for at the terminal: {0}; give --name NAME, or set \
         ORIENTDB_NODE_NAME"
    )]
    Terminal(#[from] io::Error),
}

/// A name that was not configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) name: String,
    /// The data folder belongs to a server of this name.
    pub(super) is_saved: bool,
}

/// Finds a name. `masters` is the configured list, `None` for a server that stands alone, which is
/// not asked.
///
/// # Errors
/// The identity in the data folder is damaged, or the terminal fails.
pub(super) fn name(
    data: &Path,
    masters: Option<&[String]>,
    terminal: Option<Terminal<'_>>,
) -> Result<Found, NameError> {
    if let Some(name) = data_dir::saved_name(data)? {
        return Ok(Found { name, is_saved: true });
    }
    let new = |name: String| Ok(Found { name, is_saved: false });
    let Some(masters) = masters else { return new(DEFAULT_NAME.to_owned()) };
    let answer = match terminal {
        Some(terminal) => ask(terminal, masters)?,
        None => String::new(),
    };
    if !answer.is_empty() {
        return new(answer);
    }
    let name = format!("node{}", Clock::start().wall_us() / 1_000);
    tracing::info!(name, "first distributed run without a node name: generated one");
    new(name)
}

/// Asks once; empty for an answer that leaves the name to the server.
fn ask(terminal: Terminal<'_>, masters: &[String]) -> io::Result<String> {
    let Terminal { input, output } = terminal;
    let lines = [
        "        WARNING: FIRST DISTRIBUTED RUN CONFIGURATION",
        "",
        "This server has not been part of a cluster yet and needs a name",
        "that no other server has. It is kept in the data folder and not",
        "asked for again. The environment variable ORIENTDB_NODE_NAME or",
        "the option --name gives it without this question.",
    ];
    let rule = format!("+{}+", "-".repeat(67));
    writeln!(output, "\n{rule}")?;
    for line in lines {
        writeln!(output, "| {line:<65} |")?;
    }
    writeln!(output, "{rule}\n")?;
    if !masters.is_empty() {
        writeln!(output, "Configured MASTERs: {}", masters.join(", "))?;
    }
    write!(output, "Node name [BLANK=auto generate it]: ")?;
    output.flush()?;
    let mut answer = String::new();
    input.take(ANSWER_BYTES_MAX).read_line(&mut answer)?;
    Ok(answer.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use quorate_control::versions::Versions;

    use super::*;
    use crate::runtime::data_dir::DataDir;
    use crate::runtime::storage::Share;

    /// What is found when somebody types this, and what they are shown.
    fn typed(data: &Path, answer: &str) -> (Found, String) {
        let (mut input, mut output) = (answer.as_bytes(), Vec::new());
        let terminal = Terminal { input: &mut input, output: &mut output };
        let found = name(data, Some(&["n1".to_owned(), "n2".to_owned()]), Some(terminal)).unwrap();
        (found, String::from_utf8(output).unwrap())
    }

    /// FEATURES: S4
    #[test]
    fn a_name_is_asked_for_until_the_folder_has_one() {
        let dir = tempfile::tempdir().unwrap();
        let (found, shown) = typed(dir.path(), "  n2 \nmore");
        assert_eq!(found, Found { name: "n2".into(), is_saved: false });
        for part in ["WARNING: FIRST DISTRIBUTED RUN CONFIGURATION", "n1, n2", "[BLANK=auto"] {
            assert!(shown.contains(part), "{part} in {shown}");
        }
        let frame = shown.lines().filter(|line| line.starts_with(['|', '+']));
        assert!(frame.clone().count() == 8 && frame.clone().all(|line| line.len() == 69));
        drop(DataDir::open(dir.path(), "n2", Versions::ALL, Share::default()).unwrap());
        let (found, shown) = typed(dir.path(), "n1\n");
        assert_eq!((found.name.as_str(), found.is_saved, shown.as_str()), ("n2", true, ""));
        let alone = name(dir.path(), None, None).unwrap();
        assert_eq!(alone.name, "n2");
    }

    /// FEATURES: S4
    #[test]
    fn a_blank_answer_no_answer_and_no_terminal_generate_a_name() {
        let dir = tempfile::tempdir().unwrap();
        let masters = ["n1".to_owned()];
        let unasked = name(dir.path(), Some(&masters), None).unwrap();
        for found in [typed(dir.path(), " \n").0, typed(dir.path(), "").0, unasked] {
            let millis = found.name.strip_prefix("node").unwrap();
            assert!(millis.len() >= 13 && millis.chars().all(|c| c.is_ascii_digit()), "{millis}");
        }
        assert_eq!(name(dir.path(), None, None).unwrap().name, DEFAULT_NAME);
    }

    #[test]
    fn a_damaged_identity_is_no_first_run() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("identity"), "{").unwrap();
        let error = name(dir.path(), None, None).unwrap_err().to_string();
        assert!(error.starts_with("node name: ") && error.contains("is damaged"), "{error}");
        let (mut input, mut output) = (&b"\xff\n"[..], Vec::new());
        let terminal = Terminal { input: &mut input, output: &mut output };
        let other = tempfile::tempdir().unwrap();
        let error = name(other.path(), Some(&[]), Some(terminal)).unwrap_err().to_string();
        assert!(error.contains("give --name NAME"), "{error}");
    }
}
