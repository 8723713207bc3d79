//! What envelopes and decisions share: COSE's header, and the words that bind a signature to its use.

use coset::{HeaderBuilder, ProtectedHeader, iana};

/// The encoded [`protected`] header: a map of label 1, `alg`, to -8, EdDSA.
pub(crate) const PROTECTED: &[u8] = &[0xa1, 0x01, 0x27];

/// An empty map.
pub(crate) const EMPTY_MAP: &[u8] = &[0xa0];

/// What stands for a payload that is sent elsewhere.
pub(crate) const NULL: &[u8] = &[0xf6];

/// The only protected header there is: `alg` EdDSA and nothing else.
pub(crate) fn protected() -> ProtectedHeader {
    let header = HeaderBuilder::new().algorithm(iana::Algorithm::EdDSA).build();
    ProtectedHeader { original_data: None, header }
}

/// COSE's `external_aad`: signed with the payload, never sent.
pub(crate) fn external_aad(purpose: &str, fleet: &str) -> Vec<u8> {
    [purpose.as_bytes(), fleet.as_bytes()].concat()
}
