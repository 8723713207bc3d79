//! How fixed-size values travel: as a byte string in CBOR, as text in JSON.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserializer, Error, Visitor};
use serde::ser::Serializer;

/// A value with one binary and one textual form.
pub(crate) trait TextOrBytes: Sized {
    /// What a decoder says it wanted.
    const EXPECTING: &'static str;

    fn to_bytes(&self) -> &[u8];
    fn to_text(&self) -> String;
    fn try_from_bytes(bytes: &[u8]) -> Result<Self, String>;
    fn try_from_text(text: &str) -> Result<Self, String>;
}

pub(crate) fn serialize<T: TextOrBytes, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    if serializer.is_human_readable() {
        serializer.serialize_str(&value.to_text())
    } else {
        serializer.serialize_bytes(value.to_bytes())
    }
}

/// Accepts either form where the format claims to be textual, and only bytes elsewhere.
///
/// Serde buffers the content of tagged enums and then claims that any format is textual, so the claim alone
/// cannot choose the form.
pub(crate) fn deserialize<'de, T: TextOrBytes, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    let text_allowed = deserializer.is_human_readable();
    deserializer.deserialize_any(Either { text_allowed, value: PhantomData })
}

struct Either<T> {
    text_allowed: bool,
    value: PhantomData<T>,
}

impl<T: TextOrBytes> Visitor<'_> for Either<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTING)
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<T, E> {
        T::try_from_bytes(bytes).map_err(E::custom)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        if !self.text_allowed {
            return Err(E::custom(format_args!("text where {} should be bytes", T::EXPECTING)));
        }
        T::try_from_text(text).map_err(E::custom)
    }
}

/// Implements serde's traits through [`TextOrBytes`].
macro_rules! serde_text_or_bytes {
    ($type:ty) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                crate::text_or_bytes::serialize(self, serializer)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                crate::text_or_bytes::deserialize(deserializer)
            }
        }
    };
}
pub(crate) use serde_text_or_bytes;
