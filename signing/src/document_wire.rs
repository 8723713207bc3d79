//! A document and its signatures in one message: `{document: bytes, signatures: [bytes]}` in CBOR.

use std::fmt;

use ciborium::Value;
use ciborium::de::Error as CiboriumError;
use serde::de::{Deserialize, Deserializer, Error as _, SeqAccess, Visitor};
use thiserror::Error;

use crate::document::{DOCUMENT_BYTES_MAX, Namespace, SIGNATURES_MAX, SignedDocument, verify_document};
use crate::sshsig::SIGNATURE_BYTES_MAX;
use crate::verified::Verified;

/// The longest wire form of a document: its bytes, all signatures, and what CBOR puts around them.
pub const DOCUMENT_WIRE_BYTES_MAX: usize =
    DOCUMENT_BYTES_MAX + SIGNATURES_MAX * (SIGNATURE_BYTES_MAX + 16) + 64;

/// A document and signatures as they came; [`verify_document`] says what they are worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentParts {
    /// The document's bytes.
    pub bytes: Vec<u8>,
    /// Raw SSHSIG blobs.
    pub signatures: Vec<Vec<u8>>,
}

impl DocumentParts {
    /// Reads `{document: bytes, signatures: [bytes]}` in CBOR, within the limits of a document.
    pub fn from_wire(wire: &[u8]) -> Result<Self, DocumentError> {
        if wire.len() > DOCUMENT_WIRE_BYTES_MAX {
            return Err(DocumentError::TooLong { found: wire.len(), max: DOCUMENT_WIRE_BYTES_MAX });
        }
        let mut rest = wire;
        let parts: Wire = ciborium::from_reader(&mut rest).map_err(|error| DocumentError::form(&error))?;
        if !rest.is_empty() {
            return Err(DocumentError::Trailing(rest.len()));
        }
        if parts.document.0.len() > DOCUMENT_BYTES_MAX {
            return Err(DocumentError::TooLong { found: parts.document.0.len(), max: DOCUMENT_BYTES_MAX });
        }
        Ok(Self { bytes: parts.document.0, signatures: parts.signatures.0 })
    }

    /// Writes what [`Self::from_wire`] reads.
    pub fn to_wire(&self) -> Vec<u8> {
        encode(&self.bytes, &self.signatures)
    }

    /// Verifies the signatures, see [`verify_document`].
    pub fn verify(self, namespace: Namespace) -> Verified<SignedDocument> {
        verify_document(namespace, self.bytes, self.signatures)
    }
}

/// Why a document's wire form could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DocumentError {
    /// More bytes than a document can have.
    #[error("a document has at most {max} bytes, not {found}")]
    TooLong {
        /// Length in bytes.
        found: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// The bytes are not `{document: bytes, signatures: [bytes]}`.
    #[error("not a CBOR map of a document and its signatures: {0}")]
    Form(String),
    /// Something stands behind the document.
    #[error("{0} bytes stand behind the document")]
    Trailing(usize),
}

impl DocumentError {
    fn form(error: &CiboriumError<std::io::Error>) -> Self {
        Self::Form(match error {
            CiboriumError::Io(_) => "it ends too early".to_owned(),
            CiboriumError::Syntax(offset) => format!("no CBOR at byte {offset}"),
            CiboriumError::Semantic(_, message) => message.clone(),
            CiboriumError::RecursionLimitExceeded => "it is nested too deeply".to_owned(),
        })
    }
}

pub(crate) fn encode(document: &[u8], signatures: &[Vec<u8>]) -> Vec<u8> {
    let signatures = signatures.iter().cloned().map(Value::Bytes).collect();
    let map = Value::Map(vec![
        ("document".into(), Value::Bytes(document.to_vec())),
        ("signatures".into(), Value::Array(signatures)),
    ]);
    let mut out = Vec::with_capacity(document.len() + 64);
    // A vector takes whatever is written to it.
    let written = ciborium::into_writer(&map, &mut out);
    debug_assert!(written.is_ok(), "byte strings always encode");
    out
}

/// The wire form; byte strings are not what serde makes of a vector, hence the types below.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    document: Bytes,
    signatures: Signatures,
}

struct Bytes(Vec<u8>);

struct Signatures(Vec<Vec<u8>>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ByteString;

        impl Visitor<'_> for ByteString {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a byte string")
            }

            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.to_vec()))
            }

            fn visit_byte_buf<E: serde::de::Error>(self, bytes: Vec<u8>) -> Result<Bytes, E> {
                Ok(Bytes(bytes))
            }
        }

        deserializer.deserialize_byte_buf(ByteString)
    }
}

impl<'de> Deserialize<'de> for Signatures {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;

        impl<'de> Visitor<'de> for List {
            type Value = Signatures;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "at most {SIGNATURES_MAX} signatures of at most {SIGNATURE_BYTES_MAX} bytes")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Signatures, A::Error> {
                let mut signatures = Vec::new();
                while let Some(Bytes(signature)) = list.next_element()? {
                    if signatures.len() == SIGNATURES_MAX || signature.len() > SIGNATURE_BYTES_MAX {
                        return Err(A::Error::custom(format_args!(
                            "a document has at most {SIGNATURES_MAX} signatures of at most {SIGNATURE_BYTES_MAX} bytes"
                        )));
                    }
                    signatures.push(signature);
                }
                Ok(Signatures(signatures))
            }
        }

        deserializer.deserialize_seq(List)
    }
}
