//! Sizes of memory as people write them: the original's letters behind a whole number.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, de};

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// A text that is no size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no size; legal are whole numbers with k, m or g behind them, as 512m")]
pub struct SizeError(String);

/// A text that does not say what the heap is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// A word that means nothing here.
    #[error("'{0}' is not legal; -Xmx with a size is, as -Xmx512m, and -Xms, which does nothing")]
    Word(String),
    /// A size.
    #[error(transparent)]
    Size(#[from] SizeError),
}

const UNITS: [(char, u32); 3] = [('g', 30), ('m', 20), ('k', 10)];

impl FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let refused = || SizeError(text.to_owned());
        let lower = text.trim().to_ascii_lowercase();
        let unit = UNITS.iter().find_map(|(unit, bits)| Some((lower.strip_suffix(*unit)?, *bits)));
        let (digits, bits) = unit.unwrap_or((&lower, 0));
        // `parse` would take a sign.
        if !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(refused());
        }
        let number: u64 = digits.parse().map_err(|_| refused())?;
        number.checked_mul(1 << bits).map(Self).ok_or_else(refused)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |bits: u32| self.0 > 0 && self.0.is_multiple_of(1 << bits);
        match UNITS.iter().find(|(_, bits)| fits(*bits)) {
            Some((unit, bits)) => write!(f, "{}{unit}", self.0 >> bits),
            None => write!(f, "{} bytes", self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Bytes(u64),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Bytes(bytes) => Ok(Self(bytes)),
            Written::Text(text) => text.parse().map_err(de::Error::custom),
        }
    }
}

/// What the original's variable for a server's memory says, in the words of its virtual machine.
///
/// # Errors
/// It says something else.
pub fn of_options(text: &str) -> Result<Option<Size>, OptionsError> {
    let mut heap = None;
    for word in text.split_whitespace() {
        if let Some(size) = word.strip_prefix("-Xmx") {
            heap = Some(size.parse()?);
        } else if let Some(size) = word.strip_prefix("-Xms") {
            size.parse::<Size>()?;
        } else {
            return Err(OptionsError::Word(word.to_owned()));
        }
    }
    Ok(heap)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_they_are_shown() {
        for (text, bytes, shown) in [
            ("64m", 64 << 20, "64m"),
            ("2G", 2 << 30, "2g"),
            ("1536M", 1536 << 20, "1536m"),
            ("65536k", 65536 << 10, "64m"),
            ("1025", 1025, "1025 bytes"),
            ("0", 0, "0 bytes"),
        ] {
            let size: Size = text.parse().unwrap();
            assert_eq!((size.0, size.to_string().as_str()), (bytes, shown));
        }
        for bad in ["", "m", "64mb", "1.5g", "-1m", "+1m", "64 m", "20000000000000g", "∞"] {
            let refused = bad.parse::<Size>().unwrap_err().to_string();
            assert!(refused.starts_with(&format!("'{bad}' is no size; legal are")), "{refused}");
        }
    }

    #[test]
    fn the_originals_variable_is_understood() {
        assert_eq!(of_options("-Xms2G -Xmx4G"), Ok(Some(Size(4 << 30))));
        assert_eq!(of_options("-Xms2G "), Ok(None));
        assert_eq!(of_options(""), Ok(None));
        assert!(of_options("-Xmx4X").unwrap_err().to_string().contains("'4X' is no size"));
        let refused = of_options("-Xmx1g -server").unwrap_err().to_string();
        assert!(refused.contains("'-server' is not legal; -Xmx"), "{refused}");
    }
}
