//! Deterministic CBOR (RFC 8949 section 4.2): one value has one encoding, so equal decisions are equal bytes.

use std::cmp::Ordering;

use ciborium::Value;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The deepest nesting that is read. What muster writes nests less than ten deep.
const DEPTH_MAX: usize = 32;

/// Bytes that are not the value they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a valid {what}: {detail}")]
pub struct DecodeError {
    what: &'static str,
    detail: String,
}

impl DecodeError {
    /// Says what was wrong with bytes that should have been a `what`.
    pub fn new(what: &'static str, detail: impl ToString) -> Self {
        Self { what, detail: detail.to_string() }
    }
}

/// Encodes a value with the keys of every map in the order of their encodings.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let value =
        Value::serialized(value).expect("wire types have only text keys, integers, text, bytes and lists");
    encoded(&sorted(value))
}

/// Encodes a row that stays on this host, its fields in the order in which they are declared: nobody signs it, so all
/// that counts is that one value has one encoding here.
pub(crate) fn encode_row<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).expect("a vector takes every byte");
    bytes
}

/// Decodes one value that must fill all of `bytes`.
pub fn decode<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, DecodeError> {
    let mut rest = bytes;
    let value = ciborium::de::from_reader_with_recursion_limit(&mut rest, DEPTH_MAX)
        .map_err(|error| DecodeError::new(what, error))?;
    if rest.is_empty() {
        Ok(value)
    } else {
        Err(DecodeError::new(what, format!("{} bytes follow it", rest.len())))
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the library's type may grow, and only containers have keys"
)]
fn sorted(value: Value) -> Value {
    match value {
        Value::Map(entries) => {
            let mut entries: Vec<(Value, Value)> =
                entries.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            entries.sort_by(|(a, _), (b, _)| by_encoding(a, b));
            Value::Map(entries)
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        Value::Tag(tag, inner) => Value::Tag(tag, Box::new(sorted(*inner))),
        other => other,
    }
}

/// The order of two keys' encodings: a text's begins with its length.
fn by_encoding(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Text(a), Value::Text(b)) => a.len().cmp(&b.len()).then_with(|| a.cmp(b)),
        (a, b) => encoded(a).cmp(&encoded(b)),
    }
}

fn encoded(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).expect("a vector takes every byte");
    bytes
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn keys_are_ordered_by_their_encoding_so_short_ones_come_first() {
        let map: BTreeMap<&str, u8> = [("aa", 1), ("b", 2)].into();
        assert_eq!(encode(&map), [0xa2, 0x61, b'b', 2, 0x62, b'a', b'a', 1]);
    }

    #[test]
    fn bytes_after_the_value_are_refused() {
        assert!(decode::<u8>("number", &[1, 2]).unwrap_err().to_string().contains("1 bytes follow"));
    }

    #[test]
    fn deep_nesting_is_refused() {
        assert!(decode::<Value>("value", &[0x81; 1000]).is_err());
    }
}
