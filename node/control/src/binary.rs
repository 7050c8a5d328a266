//! Values whose maps have keys that are no strings, kept as bytes inside of JSON. May not know what
//! they are.

use alloc::vec::Vec;

use serde::de::{DeserializeOwned, Error as _};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// For `#[serde(with)]`.
///
/// # Errors
/// It cannot be encoded.
pub fn serialize<T: Serialize, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    postcard::to_allocvec(value).map_err(S::Error::custom)?.serialize(serializer)
}

/// For `#[serde(with)]`.
///
/// # Errors
/// The bytes are those of something else.
pub fn deserialize<'de, T: DeserializeOwned, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    let bytes: Vec<u8> = Deserialize::deserialize(deserializer)?;
    postcard::from_bytes(&bytes).map_err(D::Error::custom)
}
