//! Decisions: their exact bytes, and whose signatures count.

use std::collections::{BTreeMap, BTreeSet};

use coset::{CoseSign, TaggedCborSerializable as _};
use ed25519_dalek::Signer as _;
use muster_signing::{
    CERTIFICATE_BYTES_MAX, CborError, Certificate, DecisionError, PublicKey, SIGNERS_MAX, Signature,
    assemble, sign_decision, verify_signature,
};

use crate::{bstr, head, key, tstr};

const PAYLOAD: &[u8] = b"dispatch web-01";

fn sign(n: u8) -> (PublicKey, Signature) {
    (key(n).public(), sign_decision(&key(n), "home", PAYLOAD))
}

fn keys(range: impl IntoIterator<Item = u8>) -> BTreeSet<PublicKey> {
    range.into_iter().map(|n| key(n).public()).collect()
}

fn signers(certificate: &[u8], fleet: &str, electorate: &BTreeSet<PublicKey>) -> BTreeSet<PublicKey> {
    let counted = Certificate::parse(certificate).unwrap().verify(fleet, electorate);
    assert_eq!((counted.bytes(), counted.payload()), (certificate, PAYLOAD));
    counted.signers().keys().copied().collect()
}

/// One COSE_Signature, with any hint.
fn entry(hint: &[u8], signature: &[u8]) -> Vec<u8> {
    [head(4, 3), bstr(&[0xa1, 0x01, 0x27]), vec![0xa1, 0x04], bstr(hint), bstr(signature)].concat()
}

/// RFC 9052 section 4.1, written out.
fn by_hand(entries: &[Vec<u8>]) -> Vec<u8> {
    [vec![0xd8, 0x62, 0x84, 0x40, 0xa0], bstr(PAYLOAD), head(4, entries.len()), entries.concat()].concat()
}

#[test]
fn certificate_is_a_cose_sign_as_the_rfc_writes_it() {
    let signed = [
        head(4, 5),
        tstr("Signature"),
        bstr(b""),
        bstr(&[0xa1, 0x01, 0x27]),
        bstr(b"muster/decision/1home"),
        bstr(PAYLOAD),
    ]
    .concat();
    let mut expected = BTreeMap::new();
    for n in 1..6 {
        let signature = ed25519_dalek::SigningKey::from_bytes(&[n; 32]).sign(&signed).to_bytes();
        assert_eq!(sign(n).1, Signature(signature));
        expected.insert(key(n).public(), entry(key(n).public().as_bytes(), &signature));
    }
    let certificate = assemble(PAYLOAD, &(1..6).map(sign).collect());
    assert_eq!(certificate, by_hand(&expected.into_values().collect::<Vec<_>>()));
    assert_eq!(certificate, assemble(PAYLOAD, &(1..6).rev().map(sign).collect()));
    assert_eq!(signers(&certificate, "home", &keys(1..6)), keys(1..6));
}

#[test]
fn another_library_reads_the_certificate() {
    let cose = CoseSign::from_tagged_slice(&assemble(PAYLOAD, &[sign(1)].into())).unwrap();
    let verifying = ed25519_dalek::SigningKey::from_bytes(&[1; 32]).verifying_key();
    cose.verify_signature(0, b"muster/decision/1home", |signature, data| {
        verifying.verify_strict(data, &signature.try_into().unwrap())
    })
    .unwrap();
    assert_eq!(cose.signatures[0].unprotected.key_id, key(1).public().as_bytes());
}

#[test]
fn single_signature_holds_only_for_its_key_fleet_and_decision() {
    let (public, signature) = sign(1);
    let endorsed = verify_signature("home", PAYLOAD, &public, &signature).unwrap();
    assert_eq!((endorsed.payload(), endorsed.signer(), endorsed.signature()), (PAYLOAD, &public, &signature));
    for (fleet, payload, n) in [("away", PAYLOAD, 1), ("home", b"other", 1), ("home", PAYLOAD, 2)] {
        let refused = verify_signature(fleet, payload, &key(n).public(), &signature);
        assert_eq!(refused.map(|_| ()), Err(DecisionError::Mismatch));
    }
}

#[test]
fn only_the_electorate_counts() {
    let certificate = assemble(PAYLOAD, &(1..6).map(sign).collect());
    assert_eq!(signers(&certificate, "home", &keys([2, 3, 9])), keys([2, 3]));
    assert_eq!(signers(&certificate, "home", &keys([])), keys([]));
    assert_eq!(signers(&certificate, "away", &keys(1..6)), keys([]));
}

#[test]
fn hints_never_count() {
    let [one, two] = [sign(1), sign(2)];
    let swapped = by_hand(&[entry(two.0.as_bytes(), &one.1.0), entry(one.0.as_bytes(), &two.1.0)]);
    assert_eq!(signers(&swapped, "home", &keys(1..6)), keys([1, 2]));
    let claimed: Vec<_> = (1..6).map(|n| entry(key(n).public().as_bytes(), &one.1.0)).collect();
    assert_eq!(signers(&by_hand(&claimed), "home", &keys(1..6)), keys([1]));
    let forged: Vec<_> = (1..6).map(|n| entry(key(n).public().as_bytes(), &[n; 64])).collect();
    assert_eq!(signers(&by_hand(&forged), "home", &keys(1..6)), keys([]));
}

#[test]
fn junk_signature_does_not_hide_a_good_one() {
    let (public, signature) = sign(1);
    let certificate = by_hand(&[entry(public.as_bytes(), &[0; 64]), entry(public.as_bytes(), &signature.0)]);
    assert_eq!(signers(&certificate, "home", &keys([1])), keys([1]));
}

#[test]
fn limits_on_certificates_hold() {
    let (public, signature) = sign(1);
    let many = vec![entry(public.as_bytes(), &signature.0); SIGNERS_MAX + 1];
    assert!(Certificate::parse(&by_hand(&many[1..])).is_ok());
    let refused = Certificate::parse(&by_hand(&many));
    assert_eq!(refused, Err(DecisionError::TooMany { found: 17, max: SIGNERS_MAX }));
    let all: BTreeMap<_, _> = (0..30).map(sign).collect();
    assert_eq!(
        Certificate::parse(&assemble(PAYLOAD, &all)).unwrap().verify("home", &keys(0..30)).signers().len(),
        16
    );
    let long = assemble(&vec![0; CERTIFICATE_BYTES_MAX], &[sign(1)].into());
    assert!(matches!(Certificate::parse(&long), Err(DecisionError::TooLong { .. })));
}

#[test]
fn certificates_of_another_shape_are_refused() {
    let (public, signature) = sign(1);
    let good = by_hand(&[entry(public.as_bytes(), &signature.0)]);
    let replace = |at: usize, length: usize, with: &[u8]| [&good[..at], with, &good[at + length..]].concat();
    let es256 =
        [head(4, 3), bstr(&[0xa1, 0x01, 0x26]), vec![0xa1, 0x04], bstr(&[0; 32]), bstr(&[0; 64])].concat();
    let without_hint = [head(4, 3), bstr(&[0xa1, 0x01, 0x27]), vec![0xa0], bstr(&[0; 64])].concat();
    let table = [
        (good[2..].to_vec(), CborError::Kind.into()),
        (replace(2, 1, &[0x85]), CborError::Kind.into()),
        (replace(2, 1, &[0x98, 0x04]), CborError::NotShortest.into()),
        (replace(3, 1, &[0x43, 0xa1, 0x01, 0x27]), DecisionError::Header),
        (replace(3, 1, &[0x41, 0xa0]), DecisionError::Header),
        (replace(4, 1, &[0xa1, 0x01, 0x27]), DecisionError::Header),
        (replace(5, 16, &[0xf6]), DecisionError::Detached),
        (by_hand(&[es256]), DecisionError::Header),
        (by_hand(&[without_hint]), DecisionError::Header),
        (by_hand(&[entry(&[0; 31], &[0; 64])]), DecisionError::Header),
        (by_hand(&[entry(&[0; 32], &[0; 63])]), DecisionError::SignatureLength(63)),
        ([good.as_slice(), &[0]].concat(), CborError::Trailing.into()),
        (good[..good.len() - 1].to_vec(), CborError::Truncated.into()),
    ];
    for (bytes, expected) in table {
        assert_eq!(Certificate::parse(&bytes), Err(expected), "{bytes:02x?}");
    }
}
