//! Envelopes: their exact bytes, and all that does not open.

use coset::{CoseSign1, TaggedCborSerializable as _};
use ed25519_dalek::Signer as _;
use muster_signing::{
    CborError, ENVELOPE_BYTES_MAX, EnvelopeError, PAYLOAD_BYTES_MAX, Purpose, Sealed, seal,
};

use crate::{bstr, head, key, tstr};

const PURPOSES: [Purpose; 3] = [Purpose::Envelope, Purpose::Notice, Purpose::Append];

/// RFC 9052 section 4.4, written out; `aad` as it is signed.
fn by_hand(n: u8, protected: &[u8], unprotected: &[u8], aad: &str, payload: &[u8]) -> Vec<u8> {
    let signed =
        [head(4, 4), tstr("Signature1"), bstr(protected), bstr(aad.as_bytes()), bstr(payload)].concat();
    let signature = ed25519_dalek::SigningKey::from_bytes(&[n; 32]).sign(&signed).to_bytes();
    [vec![0xd2, 0x84], bstr(protected), unprotected.to_vec(), bstr(payload), bstr(&signature)].concat()
}

#[test]
fn envelope_is_a_cose_sign1_as_the_rfc_writes_it() {
    for (purpose, aad) in
        PURPOSES.into_iter().zip(["muster/envelope/1home", "muster/notice/1home", "muster/append/1home"])
    {
        for payload in [&b""[..], b"switched", &[7; 300], &[9; 60_000]] {
            let sealed = seal(&key(1), purpose, "home", payload);
            assert_eq!(sealed, by_hand(1, &[0xa1, 0x01, 0x27], &[0xa0], aad, payload));
            let opened = Sealed::parse(&sealed).unwrap().verify(purpose, "home", &key(1).public()).unwrap();
            assert_eq!((opened.bytes(), opened.payload()), (sealed.as_slice(), payload));
            assert_eq!(opened.signer(), &key(1).public());
        }
    }
}

#[test]
fn another_library_reads_the_envelope() {
    let sealed = seal(&key(1), Purpose::Envelope, "home", b"switched");
    let cose = CoseSign1::from_tagged_slice(&sealed).unwrap();
    assert_eq!(cose.payload.as_deref(), Some(&b"switched"[..]));
    let verifying = ed25519_dalek::SigningKey::from_bytes(&[1; 32]).verifying_key();
    cose.verify_signature(b"muster/envelope/1home", |signature, data| {
        verifying.verify_strict(data, &signature.try_into().unwrap())
    })
    .unwrap();
}

#[test]
fn envelope_holds_only_for_its_key_purpose_and_fleet() {
    let sealed = Sealed::parse(&seal(&key(1), Purpose::Envelope, "home", b"x")).unwrap();
    for purpose in PURPOSES {
        for fleet in ["home", "home2", "", "Home"] {
            for n in [1, 2] {
                let expected = purpose == Purpose::Envelope && fleet == "home" && n == 1;
                let verified = sealed.verify(purpose, fleet, &key(n).public());
                assert_eq!(verified.is_ok(), expected, "{purpose:?} {fleet} {n}");
            }
        }
    }
}

#[track_caller]
fn check_refused(bytes: &[u8], expected: EnvelopeError) {
    assert_eq!(Sealed::parse(bytes), Err(expected), "{:02x?}", &bytes[..bytes.len().min(40)]);
}

#[test]
fn headers_with_anything_more_or_less_than_eddsa_are_refused() {
    let aad = "muster/envelope/1home";
    let es256: &[u8] = &[0xa1, 0x01, 0x26];
    let with_kid: &[u8] = &[0xa2, 0x01, 0x27, 0x04, 0x41, 0x01];
    for protected in [es256, with_kid, &[0xa0], &[], &[0xa1, 0x01, 0x38, 0x07]] {
        check_refused(&by_hand(1, protected, &[0xa0], aad, b"x"), EnvelopeError::Header);
    }
    for unprotected in
        [&[0xa1, 0x04, 0x41, 0x01][..], &[0xa1, 0x01, 0x27], &[0xf6], &[0xb8, 0x00], &[0xbf, 0xff]]
    {
        check_refused(&by_hand(1, &[0xa1, 0x01, 0x27], unprotected, aad, b"x"), EnvelopeError::Header);
    }
}

#[test]
fn second_encoding_of_the_same_envelope_is_refused() {
    let sealed = seal(&key(1), Purpose::Envelope, "home", b"x");
    let replace =
        |at: usize, length: usize, with: &[u8]| [&sealed[..at], with, &sealed[at + length..]].concat();
    check_refused(&sealed[1..], CborError::Kind.into());
    check_refused(&replace(0, 1, &[0xd8, 0x12]), CborError::NotShortest.into());
    check_refused(&replace(1, 1, &[0x98, 0x04]), CborError::NotShortest.into());
    check_refused(&replace(2, 1, &[0x58, 0x03]), CborError::NotShortest.into());
    check_refused(&replace(7, 1, &[0x58, 0x01]), CborError::NotShortest.into());
    check_refused(&replace(7, 1, &[0x5b, 0, 0, 0, 0, 0, 0, 0, 1]), CborError::NotShortest.into());
    check_refused(&replace(7, 2, &[0x5f, 0x41, b'x', 0xff]), CborError::NotShortest.into());
    check_refused(&[sealed.as_slice(), &[0]].concat(), CborError::Trailing.into());
    check_refused(&sealed[..sealed.len() - 1], CborError::Truncated.into());
    check_refused(&replace(7, 2, &[0xf6]), EnvelopeError::Detached);
    check_refused(&replace(9, 66, &[0x41, 0x00]), EnvelopeError::SignatureLength(1));
}

#[test]
fn oversized_envelope_is_refused() {
    let fits = seal(&key(1), Purpose::Notice, "home", &vec![0; PAYLOAD_BYTES_MAX]);
    assert!(Sealed::parse(&fits).is_ok());
    let long = seal(&key(1), Purpose::Notice, "home", &vec![0; ENVELOPE_BYTES_MAX]);
    check_refused(&long, EnvelopeError::TooLong { found: long.len(), max: ENVELOPE_BYTES_MAX });
}

#[test]
fn headers_nested_thousands_deep_are_refused_without_following_them() {
    let mut protected = vec![0xa0];
    while protected.len() < 60_000 {
        protected = [&[0xa1, 0x07, 0x83][..], &bstr(&protected), &[0xa0, 0x40]].concat();
    }
    check_refused(
        &[vec![0xd2, 0x84], bstr(&protected), vec![0xa0, 0x40, 0x40]].concat(),
        EnvelopeError::Header,
    );
}

#[test]
fn what_is_read_from_verified_content_stays_verified() {
    let sealed = Sealed::parse(&seal(&key(1), Purpose::Notice, "home", b"42")).unwrap();
    let opened = sealed.verify(Purpose::Notice, "home", &key(1).public()).unwrap();
    let number = opened.parse(|opened| str::from_utf8(opened.payload()).unwrap().parse::<u8>()).unwrap();
    assert_eq!(*number, 42);
}
