//! Values as bytes: a format byte, a checksum over key and body, the body in postcard. May not know
//! column families beyond their names.

use quorate_api::Stamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::StorageError;

/// Format of all values; raised when a stored type changes.
const FORMAT: u8 = 1;
/// Format byte and checksum.
const HEADER: usize = 5;

/// Bytes of a value. The key is part of the checksum, so a value under a wrong key is noticed too.
pub(crate) fn encode<T: Serialize>(
    family: &'static str,
    key: &[u8],
    value: &T,
) -> Result<Vec<u8>, StorageError> {
    let mut bytes = Vec::with_capacity(128);
    bytes.extend_from_slice(&[FORMAT, 0, 0, 0, 0]);
    let mut bytes = postcard::to_extend(value, bytes)
        .map_err(|source| StorageError::Encode { family, source })?;
    let sum = checksum(key, &bytes[HEADER..]);
    bytes[1..HEADER].copy_from_slice(&sum.to_le_bytes());
    Ok(bytes)
}

/// The value that was written under this key.
pub(crate) fn decode<T: DeserializeOwned>(
    family: &'static str,
    key: &[u8],
    bytes: &[u8],
) -> Result<T, StorageError> {
    let corrupt = |detail| StorageError::Corrupt { family, key: hex(key), detail };
    let Some((head, body)) = bytes.split_at_checked(HEADER) else {
        return Err(corrupt("too short"));
    };
    if head[0] != FORMAT {
        return Err(corrupt("unknown format byte"));
    }
    if head[1..] != checksum(key, body).to_le_bytes() {
        return Err(corrupt("checksum does not match"));
    }
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        Ok(_) => Err(corrupt("bytes left over")),
        Err(_) => Err(corrupt("body does not decode")),
    }
}

/// Whether a stored item says that it is a tombstone; its content is neither read nor checked.
pub(crate) fn is_tombstone(
    family: &'static str,
    key: &[u8],
    bytes: &[u8],
) -> Result<bool, StorageError> {
    let corrupt = |detail| StorageError::Corrupt { family, key: hex(key), detail };
    match bytes.split_at_checked(HEADER) {
        Some((head, body)) if head[0] == FORMAT => {
            // The first fields of `Committed`.
            let begin: Result<((Stamp, bool), _), _> = postcard::take_from_bytes(body);
            let ((_, live), _) = begin.map_err(|_| corrupt("body does not decode"))?;
            Ok(!live)
        }
        Some(_) => Err(corrupt("unknown format byte")),
        None => Err(corrupt("too short")),
    }
}

fn checksum(key: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(body);
    hasher.finalize()
}

/// Hexadecimal text of a key, for errors.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a string cannot fail.
        write!(text, "{byte:02x}").ok();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use quorate_api::{Committed, Image, TxId};

    proptest! {
        #[test]
        fn a_changed_byte_is_noticed(value: (u64, Vec<u8>), at: usize, flip in 1u8..) {
            let mut bytes = encode("items", b"key", &value).unwrap();
            let back: (u64, Vec<u8>) = decode("items", b"key", &bytes).unwrap();
            prop_assert_eq!(&back, &value);
            prop_assert!(decode::<(u64, Vec<u8>)>("items", b"yek", &bytes).is_err());
            let at = at % bytes.len();
            bytes[at] ^= flip;
            prop_assert!(decode::<(u64, Vec<u8>)>("items", b"key", &bytes).is_err());
        }
    }

    #[test]
    fn a_tombstone_is_told_by_its_beginning() {
        let stamp = Stamp { version: 300, tx: TxId { seq: 1 << 40, ..TxId::NONE } };
        for (live, image) in [(true, Some(vec![9; 1_000])), (true, None), (false, Some(vec![1]))] {
            let committed =
                Committed { stamp, live, image: image.map(Image::from), elsewhere: None };
            let bytes = encode("items", b"key", &committed).unwrap();
            assert_eq!(is_tombstone("items", b"key", &bytes).unwrap(), !live);
            assert!(is_tombstone("items", b"key", &bytes[..HEADER]).is_err());
        }
    }

    /// Data of before there were witnesses is read as it was written.
    #[test]
    fn content_is_written_like_an_optional_image_and_a_witness_keeps_a_digest() {
        let stamp = Stamp { version: 300, tx: TxId { seq: 7, ..TxId::NONE } };
        for image in [None, Some(Image::from(vec![9; 40]))] {
            let plain = encode("items", b"key", &(stamp, true, &image)).unwrap();
            let committed = Committed { stamp, live: true, image, elsewhere: None };
            assert_eq!(encode("items", b"key", &committed).unwrap(), plain);
            assert_eq!(decode::<Committed>("items", b"key", &plain).unwrap(), committed);
        }
        let kept = Committed::without_content(stamp, true, u128::MAX - 5);
        let bytes = encode("items", b"key", &kept).unwrap();
        assert_eq!(decode::<Committed>("items", b"key", &bytes).unwrap(), kept);
        assert!(!is_tombstone("items", b"key", &bytes).unwrap());
    }

    #[test]
    fn the_error_names_the_key() {
        let text = decode::<u64>("tx", &[0xab, 1], &[]).unwrap_err().to_string();
        assert_eq!(text, "corrupt value in tx, key ab01: too short");
    }
}
