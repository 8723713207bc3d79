//! Reading JSON that others wrote: nothing unknown, nothing twice.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use chrono::{DateTime, Datelike, Utc};
use muster_signing::{DOCUMENT_BYTES_MAX, Namespace};
use serde::de::{self, Deserialize, DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde_json::error::Category;

use super::refusal::Refusal;
use crate::wire::DocumentKind;

const FLEET: &str = "muster/fleet/1";
const CHANNEL_REF: &str = "muster/channel-ref/1";
const COMMAND: &str = "muster/command/1";

/// Reads what kind of document the bytes are, so that its signatures can be verified.
pub fn kind_of(bytes: &[u8]) -> Result<DocumentKind, Refusal> {
    #[derive(serde::Deserialize)]
    struct Head {
        kind: String,
    }
    let head: Head = read(bytes)?;
    match head.kind.as_str() {
        FLEET => Ok(DocumentKind::Fleet),
        CHANNEL_REF => Ok(DocumentKind::ChannelRef),
        COMMAND => Ok(DocumentKind::Command),
        _ => Err(Refusal::Kind {
            found: head.kind.chars().take(80).collect(),
            wanted: "muster/fleet/1, muster/channel-ref/1 or muster/command/1",
        }),
    }
}

/// Reads in which namespace a document has to be signed.
pub fn namespace_of(bytes: &[u8]) -> Result<Namespace, Refusal> {
    kind_of(bytes).map(namespace)
}

/// Reads a document of one kind.
pub(super) fn read_kind<T: DeserializeOwned>(bytes: &[u8], wanted: DocumentKind) -> Result<T, Refusal> {
    let found = kind_of(bytes)?;
    if found != wanted {
        return Err(Refusal::Kind { found: kind_name(found).to_owned(), wanted: kind_name(wanted) });
    }
    read(bytes)
}

/// A document's `kind`.
pub(super) fn kind_name(kind: DocumentKind) -> &'static str {
    match kind {
        DocumentKind::Fleet => FLEET,
        DocumentKind::ChannelRef => CHANNEL_REF,
        DocumentKind::Command => COMMAND,
    }
}

/// The namespace in which a kind of document is signed.
pub(super) fn namespace(kind: DocumentKind) -> Namespace {
    match kind {
        DocumentKind::Fleet => Namespace::Fleet,
        DocumentKind::ChannelRef => Namespace::ChannelRef,
        DocumentKind::Command => Namespace::Command,
    }
}

/// Reads one JSON value of at most [`DOCUMENT_BYTES_MAX`] bytes.
pub(super) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    if bytes.len() > DOCUMENT_BYTES_MAX {
        return Err(Refusal::TooLarge { found: bytes.len(), max: DOCUMENT_BYTES_MAX });
    }
    let text = str::from_utf8(bytes).map_err(|error| Refusal::NotJson(error.to_string()))?;
    serde_json::from_str(text).map_err(|error| {
        let message = error.to_string();
        match error.classify() {
            Category::Io | Category::Syntax | Category::Eof => Refusal::NotJson(message),
            // Serde tells unknown fields from other mismatches by this text alone.
            Category::Data if message.starts_with("unknown field") => Refusal::UnknownField(message),
            Category::Data => Refusal::Form(message),
        }
    })
}

/// A JSON object whose keys are data; a key given twice is refused.
#[derive(Debug)]
pub(super) struct UniqueMap<K, V>(pub(super) BTreeMap<K, V>);

impl<K, V> Default for UniqueMap<K, V> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<'de, K: Deserialize<'de> + Ord + fmt::Display, V: Deserialize<'de>> Deserialize<'de>
    for UniqueMap<K, V>
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys<K, V>(PhantomData<(K, V)>);

        impl<'de, K: Deserialize<'de> + Ord + fmt::Display, V: Deserialize<'de>> Visitor<'de> for Keys<K, V> {
            type Value = UniqueMap<K, V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut unique = BTreeMap::new();
                while let Some(key) = map.next_key::<K>()? {
                    if unique.contains_key(&key) {
                        return Err(de::Error::custom(format_args!("{key} is given twice")));
                    }
                    unique.insert(key, map.next_value()?);
                }
                Ok(UniqueMap(unique))
            }
        }

        deserializer.deserialize_map(Keys(PhantomData))
    }
}

/// Reads a time of the years 1970 to 9999: sums of such times and any limit cannot overflow.
pub(super) fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DateTime<Utc>, D::Error> {
    let time = DateTime::<Utc>::deserialize(deserializer)?;
    if (1970..=9999).contains(&time.year()) {
        Ok(time)
    } else {
        Err(de::Error::custom("a time is of the years 1970 to 9999"))
    }
}

/// As [`time`], for a field that may be absent.
pub(super) fn maybe_time<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<DateTime<Utc>>, D::Error> {
    #[derive(serde::Deserialize)]
    struct Time(#[serde(deserialize_with = "time")] DateTime<Utc>);
    Ok(Option::<Time>::deserialize(deserializer)?.map(|time| time.0))
}
