//! Properties over bytes that nobody meant well with.

use muster_signing::{
    Certificate, Digest, DocumentParts, Namespace, OperatorKey, PeerId, PublicKey, Purpose, Sealed,
    Signature, SigningKey, armor, assemble, assemble_signature, dearmor, seal, sign_decision, sign_document,
    verify_document,
};
use proptest::prelude::*;

use crate::key;

const PAYLOAD: &[u8] = b"{\"serial\": 7}";

/// Flips one bit of one byte.
fn flip(bytes: &mut [u8], at: usize, bit: u8) {
    let at = at % bytes.len();
    bytes[at] ^= 1 << bit;
}

/// Bytes that begin as the real thing does, so that decoders get past their first look.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let starts: Vec<Vec<u8>> = vec![
        vec![],
        sign_document(&key(1), Namespace::Fleet, PAYLOAD),
        DocumentParts { bytes: PAYLOAD.to_vec(), signatures: vec![vec![1; 9]] }.to_wire(),
        seal(&key(1), Purpose::Envelope, "home", PAYLOAD),
        assemble(PAYLOAD, &[(key(1).public(), Signature([1; 64]))].into()),
        key(1).public().to_openssh().into_bytes(),
        key(1).to_openssh("x").into_bytes(),
        key(1).public().peer_id().as_bytes().to_vec(),
        armor(&[1; 99]).into_bytes(),
    ];
    let start = proptest::sample::select(starts);
    (start, any::<proptest::sample::Index>(), proptest::collection::vec(any::<u8>(), 0..200)).prop_map(
        |(mut bytes, at, tail)| {
            let keep = at.index(bytes.len() + 1);
            let rest = bytes.split_off(keep);
            bytes.extend(&tail);
            bytes.extend(rest.iter().skip(tail.len()));
            bytes
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_decoder_panics(bytes in hostile()) {
        let text = String::from_utf8_lossy(&bytes);
        let electorate = [key(1).public()].into();
        let _ = PublicKey::from_openssh(&text);
        let _ = OperatorKey::from_openssh(&text);
        let _ = OperatorKey::from_ssh_blob(&bytes);
        let _ = SigningKey::from_openssh(&text);
        let _ = text.parse::<PeerId>();
        let _ = text.parse::<Digest>();
        let _ = PeerId::from_bytes(&bytes);
        let _ = dearmor(&text);
        let _ = assemble_signature(&key(1).public().into(), Namespace::Fleet, &bytes);
        let _ = verify_document(Namespace::Fleet, PAYLOAD.to_vec(), vec![bytes.clone()]);
        let _ = DocumentParts::from_wire(&bytes).map(|parts| parts.verify(Namespace::Fleet));
        let _ = Sealed::parse(&bytes).map(|sealed| sealed.verify(Purpose::Envelope, "home", &key(1).public()));
        let _ = Certificate::parse(&bytes).map(|certificate| certificate.verify("home", &electorate));
        let _ = ciborium::from_reader::<PublicKey, _>(bytes.as_slice());
        let _ = ciborium::from_reader::<PeerId, _>(bytes.as_slice());
        let _ = ciborium::from_reader::<Signature, _>(bytes.as_slice());
        let _ = serde_json::from_slice::<OperatorKey>(&bytes);
    }

    #[test]
    fn flipped_bit_of_a_documents_signature_is_refused(at in any::<usize>(), bit in 0..8u8) {
        let mut signature = sign_document(&key(1), Namespace::Fleet, PAYLOAD);
        flip(&mut signature, at, bit);
        let document = verify_document(Namespace::Fleet, PAYLOAD.to_vec(), vec![signature]);
        prop_assert!(document.signers().is_empty());
        prop_assert_eq!(document.rejected().len(), 1);
    }

    #[test]
    fn flipped_bit_of_a_document_is_refused(at in any::<usize>(), bit in 0..8u8) {
        let signature = sign_document(&key(1), Namespace::Fleet, PAYLOAD);
        let mut bytes = PAYLOAD.to_vec();
        flip(&mut bytes, at, bit);
        prop_assert!(verify_document(Namespace::Fleet, bytes, vec![signature]).signers().is_empty());
    }

    #[test]
    fn flipped_bit_of_an_envelope_is_refused(at in any::<usize>(), bit in 0..8u8) {
        let mut bytes = seal(&key(1), Purpose::Envelope, "home", PAYLOAD);
        flip(&mut bytes, at, bit);
        let opened = Sealed::parse(&bytes)
            .and_then(|sealed| sealed.verify(Purpose::Envelope, "home", &key(1).public()));
        prop_assert!(opened.is_err());
    }

    #[test]
    fn flipped_bit_of_a_certificate_adds_nobody(at in any::<usize>(), bit in 0..8u8) {
        let public = key(1).public();
        let signature = sign_decision(&key(1), "home", PAYLOAD);
        let mut bytes = assemble(PAYLOAD, &[(public, signature)].into());
        let hint = bytes.len() - 66 - 32..bytes.len() - 66;
        let at = at % bytes.len();
        flip(&mut bytes, at, bit);
        let counted = Certificate::parse(&bytes).map(|parsed| parsed.verify("home", &[public].into()));
        let signers = counted.map_or(0, |counted| counted.signers().len());
        prop_assert_eq!(signers, usize::from(hint.contains(&at)));
    }

    #[test]
    fn armor_and_wire_give_back_what_they_were_given(
        bytes in proptest::collection::vec(any::<u8>(), 0..3000),
        signatures in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..5),
    ) {
        prop_assert_eq!(&dearmor(&armor(&bytes)).unwrap(), &bytes);
        let parts = DocumentParts { bytes, signatures };
        prop_assert_eq!(DocumentParts::from_wire(&parts.to_wire()).unwrap(), parts);
    }
}
