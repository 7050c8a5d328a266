//! Values as keys: bytes that are equal exactly when the query language calls the values equal,
//! ordered like it orders them. May not know which fields are indexed.

use quorate_api::{ClusterKey, ItemId, ItemKey, Rid};
use serde_json::{Number, Value};
use sha2::{Digest, Sha256};

const TAG_BOOL: u8 = 1;
const TAG_NUMBER: u8 = 2;
const TAG_TEXT: u8 = 3;

/// Bytes of a text that a key holds as they are; behind them a longer one is told apart by its
/// hash.
const TEXT_BYTES_MAX: usize = 256;

/// The key of a value; `None` for what is in no index: null, lists and objects.
pub(crate) fn encode(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::Null | Value::Array(_) | Value::Object(_) => None,
        Value::Bool(is) => Some(vec![TAG_BOOL, u8::from(*is)]),
        Value::Number(number) => Some(encode_number(number)),
        Value::String(text) => Some(encode_text(text.as_bytes())),
    }
}

/// The nearest floating-point number orders all but neighbours of great whole numbers; those are
/// told apart by their whole part.
fn encode_number(number: &Number) -> Vec<u8> {
    let whole = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
    // JSON has no NaN; adding zero makes -0 the other one.
    let float = number.as_f64().unwrap_or(0.0) + 0.0;
    let whole = whole.unwrap_or(float.trunc() as i128);
    let bits = float.to_bits();
    let ordered = if bits >> 63 == 1 { !bits } else { bits | 1 << 63 };
    let mut key = vec![TAG_NUMBER];
    key.extend_from_slice(&ordered.to_be_bytes());
    key.extend_from_slice(&(whole as u128 ^ 1 << 127).to_be_bytes());
    key
}

/// Ends with two zero bytes, zeros inside escaped: no key is the beginning of another one.
fn encode_text(text: &[u8]) -> Vec<u8> {
    let (head, rest) = text.split_at(text.len().min(TEXT_BYTES_MAX));
    let mut key = vec![TAG_TEXT];
    for byte in head {
        key.push(*byte);
        if *byte == 0 {
            key.push(0xff);
        }
    }
    if !rest.is_empty() {
        // A marker that the end cannot be taken for.
        key.extend_from_slice(&[0, 1]);
        key.extend_from_slice(&Sha256::digest(text));
    }
    key.extend_from_slice(&[0, 0]);
    key
}

/// The item that a unique key is.
pub(crate) fn item(database: u32, cluster: u32, key: Vec<u8>) -> ItemId {
    ItemId { cluster: ClusterKey { database, cluster }, key: ItemKey::Key(key) }
}

/// What a claimed key's item holds: the record that has it.
pub(crate) fn owner_image(rid: Rid) -> quorate_api::Image {
    rid.to_string().into_bytes().into()
}

/// The record that has a key.
pub(crate) fn owner(image: Option<&quorate_api::Image>) -> Option<Rid> {
    std::str::from_utf8(&image?.0).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn key(value: &Value) -> Vec<u8> {
        encode(value).unwrap()
    }

    #[test]
    fn equal_values_have_one_key_and_others_another() {
        assert_eq!(key(&json!(1)), key(&json!(1.0)));
        assert_eq!(key(&json!(0.0)), key(&json!(-0.0)));
        let values = [
            json!(false),
            json!(true),
            json!(-1e300),
            json!(i64::MIN),
            json!(-1.5),
            json!(-1),
            json!(0),
            json!(0.5),
            json!(9_007_199_254_740_992_u64),
            json!(9_007_199_254_740_993_u64),
            json!(u64::MAX - 1),
            json!(u64::MAX),
            json!(1e300),
            json!(""),
            json!("\u{0}"),
            json!("a"),
            json!("a\u{0}"),
            json!("ab"),
        ];
        for pair in values.windows(2) {
            assert!(key(&pair[0]) < key(&pair[1]), "{} < {}", pair[0], pair[1]);
        }
        for value in [json!(null), json!([1]), json!({"a": 1})] {
            assert_eq!(encode(&value), None);
        }
    }

    #[test]
    fn long_texts_have_short_keys_of_their_own() {
        let texts = ["x".repeat(256), "x".repeat(257), "x".repeat(5000), "x".repeat(5001)];
        let keys: std::collections::BTreeSet<_> = texts.iter().map(|t| key(&json!(t))).collect();
        assert_eq!(keys.len(), texts.len());
        assert!(keys.iter().all(|k| k.len() < 2 * TEXT_BYTES_MAX));
    }

    #[test]
    fn owners_come_back() {
        let rid = Rid { cluster: 12, position: 7 };
        assert_eq!(owner(Some(&owner_image(rid))), Some(rid));
        assert_eq!(owner(None), None);
        assert_eq!(owner(Some(&b"\xff"[..].into())), None);
    }

    proptest! {
        #[test]
        fn whole_numbers_and_texts_keep_their_order(a: i64, b: i64, s: String, t: String) {
            prop_assert_eq!(a.cmp(&b), key(&json!(a)).cmp(&key(&json!(b))));
            prop_assert_eq!(s == t, key(&json!(s)) == key(&json!(t)));
            prop_assert_eq!(a as f64 == b as f64, key(&json!(a as f64)) == key(&json!(b as f64)));
            let (s, t) = (s.replace('\0', ""), t.replace('\0', ""));
            if s.len().max(t.len()) <= TEXT_BYTES_MAX {
                prop_assert_eq!(s.cmp(&t), key(&json!(s)).cmp(&key(&json!(t))));
            }
        }
    }
}
