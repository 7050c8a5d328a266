//! Amounts of memory as people write them: `64MiB`, `1.5GiB`.
//! May not know where an amount is used.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// An amount of memory in a spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Size(u64);

impl Size {
    /// What a message calls a legal value.
    pub const LEGAL: &str = "an amount such as 512KiB, 64MiB or 1.5GiB";

    /// `mib` mebibytes.
    #[must_use]
    pub const fn mib(mib: u64) -> Self {
        Self(mib * MIB)
    }

    /// Bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

/// It is not an amount of memory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not {legal}", legal = Size::LEGAL)]
pub struct NoSize(String);

impl TryFrom<String> for Size {
    type Error = NoSize;

    fn try_from(text: String) -> Result<Self, NoSize> {
        let units = [("KiB", KIB), ("MiB", MIB), ("GiB", GIB)];
        let found = units.iter().find_map(|(unit, bytes)| {
            let number = text.strip_suffix(unit)?;
            let legal = |c: char| c.is_ascii_digit() || c == '.';
            let number = number.chars().all(legal).then(|| number.parse::<f64>().ok())??;
            #[allow(clippy::cast_precision_loss, reason = "units are powers of two")]
            let amount = number * *bytes as f64;
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "no sign is legal, and what is too large ends at the largest"
            )]
            let whole = amount.round() as u64;
            Some(Self(whole))
        });
        found.ok_or(NoSize(text))
    }
}

impl From<Size> for String {
    fn from(size: Size) -> Self {
        size.to_string()
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 > 0 && self.0.is_multiple_of(GIB) {
            write!(f, "{}GiB", self.0 / GIB)
        } else if self.0 > 0 && self.0.is_multiple_of(MIB) {
            write!(f, "{}MiB", self.0 / MIB)
        } else {
            write!(f, "{}KiB", self.0 / KIB)
        }
    }
}

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": r"^[0-9]+(\.[0-9]+)?(KiB|MiB|GiB)$",
            "x-legal": Self::LEGAL,
        })
    }

    fn inline_schema() -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_and_printed() {
        for (text, bytes, printed) in [
            ("512KiB", 512 * KIB, "512KiB"),
            ("64MiB", 64 * MIB, "64MiB"),
            ("1.5GiB", 1536 * MIB, "1536MiB"),
            ("2GiB", 2 * GIB, "2GiB"),
        ] {
            let size = Size::try_from(text.to_owned()).unwrap();
            assert_eq!((size.bytes(), size.to_string().as_str()), (bytes, printed));
        }
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in ["", "5", "MiB", "5 MiB", "-1MiB", "1MB", "1e3MiB", "1.2.3GiB"] {
            assert!(Size::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
