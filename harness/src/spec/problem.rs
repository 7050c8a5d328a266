//! What is wrong with a spec, and where: file, line, key, and what would be right.
//! May not know how a problem was found.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// Where a key or value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The file as it was named, or the option (`--set load.rate=5`).
    pub source: Arc<str>,
    /// Line, from 1; 0 where there are no lines.
    pub line: u64,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}", self.source),
            line => write!(f, "{}:{line}", self.source),
        }
    }
}

/// One thing wrong with a spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub origin: Origin,
    /// Dotted path of the key; empty for the file as a whole.
    pub key: String,
    /// What is wrong and, where there is one, the hint how to right it.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.origin)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.what)
    }
}

/// Why there is no spec. Exit code 3.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// The file could not be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// As it was named.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// It was read and is wrong; all problems that could be found, one a line.
    #[error("{}", lines(.0))]
    Invalid(Vec<Problem>),
}

impl From<Problem> for SpecError {
    fn from(problem: Problem) -> Self {
        Self::Invalid(vec![problem])
    }
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// The word of `legal` that `word` is probably meant to be.
#[must_use]
pub fn nearest<'a>(word: &str, legal: &[&'a str]) -> Option<&'a str> {
    let begun = legal.iter().find(|known| word.len() >= 3 && known.starts_with(word));
    if let Some(known) = begun {
        return Some(known);
    }
    let near = legal.iter().map(|known| (strsim::damerau_levenshtein(word, known), *known));
    let (distance, known) = near.min()?;
    // A third of the letters may be wrong, and one of a short word.
    (distance <= (known.len() / 3).max(1)).then_some(known)
}

/// `a, b, c`, preceded by a guess when `word` is nearly one of them.
#[must_use]
pub fn hint(word: &str, legal: &[&str]) -> String {
    let guess = nearest(word, legal);
    let guess = guess.map_or(String::new(), |known| format!("did you mean `{known}`? "));
    format!("{guess}legal: {}", legal.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_guessed_and_a_different_word_is_not() {
        let legal = ["rate", "arrivals", "clients", "timeout"];
        assert_eq!(nearest("rte", &legal), Some("rate"));
        assert_eq!(nearest("time_out", &legal), Some("timeout"));
        assert_eq!(nearest("client", &legal), Some("clients"));
        assert_eq!(nearest("banana", &legal), None);
        assert_eq!(nearest("x", &[]), None);
    }
}
