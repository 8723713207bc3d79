//! What envelopes and decisions share: COSE's header, and the words that bind a signature to its use.

use coset::{Header, HeaderBuilder, ProtectedHeader, iana};

/// The only protected header there is: `alg` EdDSA and nothing else.
pub(crate) fn header() -> Header {
    HeaderBuilder::new().algorithm(iana::Algorithm::EdDSA).build()
}

pub(crate) fn protected() -> ProtectedHeader {
    ProtectedHeader { original_data: None, header: header() }
}

/// COSE's `external_aad`: signed with the payload, never sent.
pub(crate) fn external_aad(purpose: &str, fleet: &str) -> Vec<u8> {
    [purpose.as_bytes(), fleet.as_bytes()].concat()
}
