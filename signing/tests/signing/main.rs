//! What the crate promises, checked from outside.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod decisions;
mod documents;
mod envelopes;
mod hostile;
mod keys;
mod ssh_keygen;

use muster_signing::SigningKey;

/// A key that differs with `n`, and is the same in every run.
fn key(n: u8) -> SigningKey {
    SigningKey::from_seed([n; 32])
}

/// The head of a CBOR item, written from RFC 8949 section 3.
fn head(major: u8, argument: usize) -> Vec<u8> {
    match argument {
        0..24 => vec![major << 5 | u8::try_from(argument).unwrap()],
        24..256 => vec![major << 5 | 24, u8::try_from(argument).unwrap()],
        256..65536 => {
            let [high, low] = u16::try_from(argument).unwrap().to_be_bytes();
            vec![major << 5 | 25, high, low]
        }
        _ => {
            let mut head = vec![major << 5 | 26];
            head.extend(u32::try_from(argument).unwrap().to_be_bytes());
            head
        }
    }
}

/// A CBOR byte string.
fn bstr(bytes: &[u8]) -> Vec<u8> {
    [head(2, bytes.len()), bytes.to_vec()].concat()
}

/// A CBOR text string.
fn tstr(text: &str) -> Vec<u8> {
    [head(3, text.len()), text.as_bytes().to_vec()].concat()
}
