//! Documents: who counts as a signer, and who does not.

use data_encoding::BASE64;
use ed25519_dalek::Signer as _;
use muster_signing::{
    DOCUMENT_BYTES_MAX, DocumentError, DocumentParts, Namespace, OperatorKey, SIGNATURES_MAX, SignatureError,
    SignedDocument, armor, assemble_signature, dearmor, sign_document, signed_data, verify_document,
};
use sha2::{Digest as _, Sha256};

use crate::{bstr, head, key, tstr};

const TEXT: &[u8] = br#"{"kind":"muster/fleet/1"}"#;

fn string(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

fn verify(signatures: Vec<Vec<u8>>) -> SignedDocument {
    verify_document(Namespace::Fleet, TEXT.to_vec(), signatures).into_inner()
}

#[track_caller]
fn check_rejected(signature: Vec<u8>, expected: impl FnOnce(&SignatureError) -> bool) {
    let document = verify(vec![signature]);
    assert!(document.signers().is_empty() && document.signatures().is_empty());
    assert_eq!(document.rejected().len(), 1);
    assert!(expected(&document.rejected()[0]), "{:?}", document.rejected());
}

#[test]
fn every_signer_is_found_and_the_bytes_stay() {
    let signatures: Vec<_> = (1..4).map(|n| sign_document(&key(n), Namespace::Fleet, TEXT)).collect();
    let document = verify(signatures.clone());
    let expected = (1..4).map(|n| OperatorKey::from(key(n).public())).collect();
    assert_eq!(document.signers(), &expected);
    assert_eq!(document.bytes(), TEXT);
    assert_eq!(document.signatures(), signatures);
    assert!(document.rejected().is_empty());
}

#[test]
fn document_without_signatures_has_no_signers() {
    assert!(verify(Vec::new()).signers().is_empty());
}

#[test]
fn signature_for_one_namespace_says_nothing_in_another() {
    let all = [Namespace::Fleet, Namespace::ChannelRef, Namespace::Command];
    for made in all {
        for asked in all {
            let signature = sign_document(&key(1), made, TEXT);
            let document = verify_document(asked, TEXT.to_vec(), vec![signature]);
            assert_eq!(document.signers().len(), usize::from(made == asked), "{made} {asked}");
        }
    }
    check_rejected(
        sign_document(&key(1), Namespace::Command, TEXT),
        |reason| matches!(reason, SignatureError::Namespace { found, expected: "muster-fleet" } if found == "muster-command"),
    );
}

#[test]
fn one_key_counts_once_however_often_it_signed() {
    let signature = sign_document(&key(1), Namespace::Fleet, TEXT);
    let with_sha256 = plain_signature(1, "sha256", &Sha256::digest(TEXT));
    let document = verify(vec![signature.clone(), signature.clone(), with_sha256]);
    assert_eq!(document.signers().len(), 1);
    assert_eq!(document.signatures(), [signature]);
    let operators = [OperatorKey::from(key(1).public()), OperatorKey::from(key(2).public())];
    assert_eq!(document.count(&operators), 1);
}

#[test]
fn one_key_under_two_names_or_kinds_counts_once() {
    let plain = OperatorKey::from(key(1).public());
    let token = token_key(1, "ssh:");
    let document =
        verify(vec![sign_document(&key(1), Namespace::Fleet, TEXT), token_signature(1, "ssh:", 1)]);
    assert_eq!(document.signers().len(), 2);
    assert_eq!(document.count([&plain, &plain, &token]), 1);
}

#[test]
fn signers_who_are_no_operators_do_not_count() {
    let document = verify((1..5).map(|n| sign_document(&key(n), Namespace::Fleet, TEXT)).collect());
    assert_eq!(document.count([&key(2).public().into(), &key(9).public().into()]), 1);
    assert_eq!(document.count([]), 0);
}

#[test]
fn signature_over_other_bytes_is_rejected() {
    check_rejected(
        sign_document(&key(1), Namespace::Fleet, b"{}"),
        |reason| matches!(reason, SignatureError::Mismatch(signer) if *signer == key(1).public().into()),
    );
}

/// An SSHSIG written field by field from PROTOCOL.sshsig.
fn plain_signature(n: u8, hash_name: &str, hash: &[u8]) -> Vec<u8> {
    let secret = ed25519_dalek::SigningKey::from_bytes(&[n; 32]);
    let fields =
        |reserved: &[u8]| [string(b"muster-fleet"), string(reserved), string(hash_name.as_bytes())].concat();
    let data = [b"SSHSIG".to_vec(), fields(b""), string(hash)].concat();
    let blob = [string(b"ssh-ed25519"), string(&secret.sign(&data).to_bytes())].concat();
    let public = [string(b"ssh-ed25519"), string(secret.verifying_key().as_bytes())].concat();
    [b"SSHSIG".to_vec(), vec![0, 0, 0, 1], string(&public), fields(b""), string(&blob)].concat()
}

#[test]
fn signature_with_sha256_is_accepted_and_an_unknown_hash_is_not() {
    assert_eq!(verify(vec![plain_signature(1, "sha256", &Sha256::digest(TEXT))]).signers().len(), 1);
    check_rejected(
        plain_signature(1, "md5", &[0; 16]),
        |reason| matches!(reason, SignatureError::HashAlgorithm(name) if name == "md5"),
    );
}

fn token_key(n: u8, application: &str) -> OperatorKey {
    OperatorKey::SkEd25519 { key: key(n).public(), application: application.to_owned() }
}

/// What a token answers, written from PROTOCOL.u2f.
fn token_blob(n: u8, application: &str, flags: u8) -> Vec<u8> {
    let tail = [flags, 0, 0, 1, 2];
    let message = [
        Sha256::digest(application.as_bytes()).to_vec(),
        tail.to_vec(),
        Sha256::digest(signed_data(Namespace::Fleet, TEXT)).to_vec(),
    ];
    let signature = ed25519_dalek::SigningKey::from_bytes(&[n; 32]).sign(&message.concat());
    [string(b"sk-ssh-ed25519@openssh.com"), string(&signature.to_bytes()), tail.to_vec()].concat()
}

fn token_signature(n: u8, application: &str, flags: u8) -> Vec<u8> {
    let blob = token_blob(n, application, flags);
    assemble_signature(&token_key(n, application), Namespace::Fleet, &blob).unwrap()
}

#[test]
fn hardware_token_signs_when_a_person_is_present() {
    for flags in [0x01, 0x05] {
        let document = verify(vec![token_signature(1, "ssh:", flags)]);
        assert_eq!(document.signers(), &[token_key(1, "ssh:")].into());
    }
    for flags in [0x00, 0x04] {
        check_rejected(token_signature(1, "ssh:", flags), |reason| *reason == SignatureError::NoPresence);
    }
}

#[test]
fn hardware_signature_does_not_hold_for_another_application_or_kind() {
    let blob = token_blob(1, "ssh:", 1);
    let other = assemble_signature(&token_key(1, "ssh:other"), Namespace::Fleet, &blob).unwrap();
    check_rejected(other, |reason| matches!(reason, SignatureError::Mismatch(_)));
    let plain = assemble_signature(&key(1).public().into(), Namespace::Fleet, &blob);
    assert!(matches!(plain, Err(SignatureError::Algorithm { .. })));
}

#[test]
fn agents_answer_becomes_the_same_signature() {
    let data = signed_data(Namespace::Command, TEXT);
    let signature = ed25519_dalek::SigningKey::from_bytes(&[1; 32]).sign(&data).to_bytes();
    let blob = [string(b"ssh-ed25519"), string(&signature)].concat();
    let operator = OperatorKey::from(key(1).public());
    let assembled = assemble_signature(&operator, Namespace::Command, &blob).unwrap();
    assert_eq!(assembled, sign_document(&key(1), Namespace::Command, TEXT));
    assert_eq!(assemble_signature(&operator, Namespace::Command, &blob[1..]), Err(SignatureError::Form));
}

#[test]
fn unsigned_parts_of_a_signature_must_be_plain() {
    let signature = sign_document(&key(1), Namespace::Fleet, TEXT);
    check_rejected([signature.clone(), vec![0]].concat(), |reason| *reason == SignatureError::Form);
    let mut version = signature.clone();
    version[9] = 2;
    check_rejected(version, |reason| *reason == SignatureError::Version(2));
    let at = 6 + 4 + 4 + 51 + 4 + 12;
    let reserved = [&signature[..at], &string(b"x"), &signature[at + 4..]].concat();
    check_rejected(reserved, |reason| *reason == SignatureError::Reserved);
    check_rejected(vec![0; 5000], |reason| matches!(reason, SignatureError::TooLong { found: 5000, .. }));
}

#[test]
fn junk_does_not_hide_a_good_signature_and_is_not_passed_on() {
    let good = sign_document(&key(1), Namespace::Fleet, TEXT);
    let document = verify(vec![vec![], b"SSHSIG".to_vec(), good.clone()]);
    assert_eq!((document.signers().len(), document.rejected().len()), (1, 2));
    let parts = SignedDocument::from_wire(&document.to_wire()).unwrap();
    assert_eq!(parts, DocumentParts { bytes: TEXT.to_vec(), signatures: vec![good] });
    assert_eq!(parts.verify(Namespace::Fleet).signers(), document.signers());
}

#[test]
fn limits_on_documents_and_signatures_hold() {
    let mut signatures = vec![Vec::new(); SIGNATURES_MAX];
    signatures.push(sign_document(&key(1), Namespace::Fleet, TEXT));
    let document = verify(signatures.clone());
    assert!(document.signers().is_empty());
    assert!(matches!(document.rejected()[0], SignatureError::TooMany { found: 65, max: 64 }));
    let too_many = DocumentParts { bytes: TEXT.to_vec(), signatures }.to_wire();
    assert!(matches!(DocumentParts::from_wire(&too_many), Err(DocumentError::Form(_))));

    for (length, accepted) in [(DOCUMENT_BYTES_MAX, true), (DOCUMENT_BYTES_MAX + 1, false)] {
        let bytes = vec![b' '; length];
        let signature = sign_document(&key(1), Namespace::Fleet, &bytes);
        let wire = DocumentParts { bytes: bytes.clone(), signatures: vec![signature.clone()] }.to_wire();
        assert_eq!(DocumentParts::from_wire(&wire).is_ok(), accepted);
        let document = verify_document(Namespace::Fleet, bytes, vec![signature]);
        assert_eq!(document.signers().len(), usize::from(accepted));
    }
    assert!(matches!(DocumentParts::from_wire(&vec![0; 8 << 20]), Err(DocumentError::TooLong { .. })));
}

#[test]
fn wire_form_is_a_map_of_byte_strings() {
    let wire = |document: Vec<u8>, signatures: Vec<u8>| {
        [head(5, 2), tstr("document"), document, tstr("signatures"), signatures].concat()
    };
    let good = wire(bstr(TEXT), [head(4, 1), bstr(b"sig")].concat());
    let parts = DocumentParts { bytes: TEXT.to_vec(), signatures: vec![b"sig".to_vec()] };
    assert_eq!(parts.to_wire(), good);
    assert_eq!(DocumentParts::from_wire(&good).unwrap(), parts);

    let table = [
        wire(tstr("text"), head(4, 0)),
        wire(bstr(TEXT), bstr(b"sig")),
        wire(bstr(TEXT), [head(4, 1), bstr(&[0; 4097])].concat()),
        [head(5, 1), tstr("document"), bstr(TEXT)].concat(),
        [head(5, 3), good[1..].to_vec(), tstr("more"), bstr(b"")].concat(),
        [head(5, 3), good[1..].to_vec(), tstr("document"), bstr(b"")].concat(),
        [good.clone(), vec![0]].concat(),
        good[..good.len() - 1].to_vec(),
        vec![0x81; 100_000],
    ];
    for bytes in table {
        assert!(DocumentParts::from_wire(&bytes).is_err(), "{:02x?}", &bytes[..bytes.len().min(80)]);
    }
}

#[test]
fn armor_is_what_ssh_keygen_writes() {
    let signature = sign_document(&key(1), Namespace::Fleet, TEXT);
    let text = armor(&signature);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.first(), Some(&"-----BEGIN SSH SIGNATURE-----"));
    assert_eq!(lines.last(), Some(&"-----END SSH SIGNATURE-----"));
    assert!(lines[1..lines.len() - 2].iter().all(|line| line.len() == 70));
    assert_eq!(BASE64.decode(lines[1..lines.len() - 1].concat().as_bytes()).unwrap(), signature);
    assert_eq!(dearmor(&text).unwrap(), signature);
    assert_eq!(dearmor(&text.replace('\n', "\r\n")).unwrap(), signature);
    for wrong in ["", "-----BEGIN SSH SIGNATURE-----", &text.replace("SSH", "PGP"), &text.replace('\n', "!")]
    {
        assert_eq!(dearmor(wrong), Err(SignatureError::Armor));
    }
    assert!(matches!(dearmor(&"A".repeat(10_000)), Err(SignatureError::TooLong { .. })));
}
