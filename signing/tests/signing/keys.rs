//! Keys and peer ids: their forms, and what is refused.

use std::collections::BTreeSet;

use muster_signing::{Digest, KeyError, OperatorKey, PeerId, PublicKey, Signature, sha256};
use serde::{Deserialize, Serialize};

use crate::key;

/// The public key of RFC 8032's first test vector, as OpenSSH writes it.
const RFC8032_LINE: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea rfc8032@test";
const RFC8032_HEX: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
const RFC8032_SEED: &str = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";

fn hex32(hex: &str) -> [u8; 32] {
    data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap().try_into().unwrap()
}

#[test]
fn openssh_line_holds_the_key_bytes() {
    let key = PublicKey::from_openssh(RFC8032_LINE).unwrap();
    assert_eq!(key.as_bytes(), &hex32(RFC8032_HEX));
    assert_eq!(format!("{} rfc8032@test", key.to_openssh()), RFC8032_LINE);
    assert_eq!(PublicKey::from_openssh(&format!("{RFC8032_LINE}\n")).unwrap(), key);
    assert_eq!(muster_signing::SigningKey::from_seed(hex32(RFC8032_SEED)).public(), key);
}

#[test]
fn peer_id_is_the_base58_of_the_multihash_of_the_key() {
    let key = PublicKey::from_openssh(RFC8032_LINE).unwrap();
    let bytes = [&[0x00, 0x24, 0x08, 0x01, 0x12, 0x20], key.as_bytes().as_slice()].concat();
    let text = base58(&bytes);
    assert!(text.starts_with("12D3Koo"), "{text}");
    assert_eq!(key.peer_id().as_bytes(), bytes);
    assert_eq!(key.peer_id().to_string(), text);
    assert_eq!(text.parse::<PeerId>().unwrap(), key.peer_id());
    for wrong in
        ["", "12D3Koo", &text[1..], &format!("{text}1"), &text.replace('K', "0"), &"1".repeat(10_000)]
    {
        assert_eq!(wrong.parse::<PeerId>(), Err(KeyError::PeerId), "{wrong}");
    }
}

/// Base58 by long division, independent of the library.
fn base58(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    let mut number = bytes.to_vec();
    let mut digits = Vec::new();
    while number.iter().any(|byte| *byte != 0) {
        let mut remainder = 0u32;
        for byte in &mut number {
            let value = remainder * 256 + u32::from(*byte);
            *byte = u8::try_from(value / 58).unwrap();
            remainder = value % 58;
        }
        digits.push(char::from(ALPHABET[usize::try_from(remainder).unwrap()]));
    }
    digits.extend(bytes.iter().take_while(|byte| **byte == 0).map(|_| '1'));
    digits.iter().rev().collect()
}

#[test]
fn weak_and_impossible_keys_are_refused() {
    let mut neutral = [0; 32];
    neutral[0] = 1;
    let mut neutral_again = [0xff; 32];
    (neutral_again[0], neutral_again[31]) = (0xee, 0x7f);
    let mut off_curve = [0; 32];
    off_curve[0] = 2;
    let table = [
        (neutral, KeyError::Weak),
        ([0; 32], KeyError::Weak),
        (hex32("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), KeyError::Weak),
        (neutral_again, KeyError::NotAPoint),
        (off_curve, KeyError::NotAPoint),
    ];
    for (bytes, expected) in table {
        assert_eq!(PublicKey::from_bytes(&bytes), Err(expected), "{bytes:02x?}");
        let peer = [&[0x00, 0x24, 0x08, 0x01, 0x12, 0x20], bytes.as_slice()].concat();
        assert!(PeerId::from_bytes(&peer).is_err());
        let mut cbor = vec![0x58, 0x20];
        cbor.extend(bytes);
        assert!(ciborium::from_reader::<PublicKey, _>(cbor.as_slice()).is_err());
    }
}

#[test]
fn lines_that_are_not_one_supported_key_are_refused() {
    let rsa = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQ== me";
    let base64 = RFC8032_LINE.split(' ').nth(1).unwrap();
    let table = [
        String::new(),
        "ssh-ed25519".to_owned(),
        format!("host {base64}"),
        format!("ssh-ed25519 {}", &base64[4..]),
        format!("ssh-ed25519 {}", &base64[..base64.len() - 4]),
        format!("ssh-ed25519 {base64}AAAA"),
        format!("sk-ssh-ed25519@openssh.com {base64}"),
        format!("{RFC8032_LINE}\n{RFC8032_LINE}"),
        format!("restrict {RFC8032_LINE}"),
        format!("{RFC8032_LINE}{}", " comment".repeat(1000)),
        rsa.to_owned(),
    ];
    for line in table {
        assert!(OperatorKey::from_openssh(&line).is_err(), "{line}");
        assert!(PublicKey::from_openssh(&line).is_err(), "{line}");
    }
    let error = PublicKey::from_openssh(rsa).unwrap_err().to_string();
    assert_eq!(error, r#"keys of algorithm "ssh-rsa" are not supported, only ssh-ed25519"#);
}

#[test]
fn hardware_key_keeps_its_application() {
    let sk = OperatorKey::SkEd25519 { key: key(1).public(), application: "ssh:fleet".to_owned() };
    let read = OperatorKey::from_openssh(&format!("{} alice@token", sk.to_openssh())).unwrap();
    assert_eq!(read, sk);
    assert!(
        sk.to_openssh()
            .starts_with("sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAI")
    );
    assert!(PublicKey::from_openssh(&sk.to_openssh()).is_err());
    assert_eq!(sk.bytes(), OperatorKey::from(key(1).public()).bytes());
}

#[test]
fn secret_key_survives_its_file_and_is_never_shown() {
    let secret = key(42);
    let file = secret.to_openssh("host");
    let read = muster_signing::SigningKey::from_openssh(&file).unwrap();
    assert_eq!(read.seed(), secret.seed());
    let shown = format!("{secret:?}");
    assert!(shown.contains(&secret.public().to_openssh()) && !shown.contains("42"), "{shown}");
    assert!(matches!(muster_signing::SigningKey::from_openssh("junk"), Err(KeyError::Private(_))));
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
enum Body {
    Tagged { key: PublicKey, peer: PeerId, digest: Digest, signature: Signature },
}

#[test]
fn values_are_bytes_in_cbor_and_text_in_json_even_inside_tagged_enums() {
    let public = key(3).public();
    let body = Body::Tagged {
        key: public,
        peer: public.peer_id(),
        digest: sha256(b"x"),
        signature: Signature([5; 64]),
    };

    let mut cbor = Vec::new();
    ciborium::into_writer(&body, &mut cbor).unwrap();
    assert_eq!(ciborium::from_reader::<Body, _>(cbor.as_slice()).unwrap(), body);
    let value: ciborium::Value = ciborium::from_reader(cbor.as_slice()).unwrap();
    let fields = value.as_map().unwrap();
    assert_eq!(fields.iter().filter(|(_, field)| field.is_bytes()).count(), 4);
    assert_eq!(value.deserialized::<Body>().unwrap(), body);

    let json = serde_json::to_string(&body).unwrap();
    assert!(
        json.contains(&public.to_openssh()) && json.contains("12D3Koo") && json.contains("sha256-2d71"),
        "{json}"
    );
    assert_eq!(serde_json::from_str::<Body>(&json).unwrap(), body);
}

#[test]
fn text_is_not_read_where_bytes_are_due() {
    let mut cbor = Vec::new();
    ciborium::into_writer(&key(3).public().to_openssh(), &mut cbor).unwrap();
    assert!(ciborium::from_reader::<PublicKey, _>(cbor.as_slice()).is_err());
}

#[test]
fn digest_is_written_in_one_way() {
    let digest = sha256(b"abc");
    let text = "sha256-ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(digest.to_string(), text);
    assert_eq!(text.parse::<Digest>().unwrap(), digest);
    for wrong in
        ["", "sha256-", &text[7..], &text.to_uppercase(), &format!("{text}00"), &text.replace('b', "B")]
    {
        assert!(wrong.parse::<Digest>().is_err(), "{wrong}");
    }
}

#[test]
fn keys_order_by_their_bytes() {
    let keys: BTreeSet<PublicKey> = (0..20).map(|n| key(n).public()).collect();
    assert!(keys.iter().map(PublicKey::as_bytes).is_sorted());
    assert!(keys.iter().map(PublicKey::peer_id).is_sorted());
}
