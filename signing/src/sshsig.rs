//! SSHSIG, the signature format of `ssh-keygen -Y sign` (OpenSSH's PROTOCOL.sshsig and PROTOCOL.u2f).

use data_encoding::BASE64;
use sha2::{Digest as _, Sha256, Sha512};
use thiserror::Error;

use crate::key::KeyError;
use crate::operator_key::OperatorKey;
use crate::ssh_wire::{Reader, put_string, shown};

/// The longest signature that is looked at, in bytes.
pub const SIGNATURE_BYTES_MAX: usize = 4096;

/// The longest armored text that is read: base64 and line ends of the longest signature.
const ARMOR_BYTES_MAX: usize = 2 * SIGNATURE_BYTES_MAX;

const MAGIC: &[u8; 6] = b"SSHSIG";
const VERSION: u32 = 1;
const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----";
const END: &str = "-----END SSH SIGNATURE-----";

/// How many characters `ssh-keygen` puts on a line of armor.
const ARMOR_WIDTH: usize = 70;

/// The bit of a token's flags that says a person touched it.
const USER_PRESENT: u8 = 0x01;

/// Why a signature was not counted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SignatureError {
    /// The signature is longer than any real one.
    #[error("a signature has at most {max} bytes, not {found}")]
    TooLong {
        /// Length of the signature in bytes.
        found: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// More signatures than are looked at; the last ones were dropped.
    #[error("a document has at most {max} signatures, not {found}")]
    TooMany {
        /// How many came with the document.
        found: usize,
        /// How many are looked at.
        max: usize,
    },
    /// The document is longer than any that is accepted.
    #[error("a document has at most {max} bytes, not {found}")]
    DocumentTooLong {
        /// Length of the document in bytes.
        found: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// The armor is not `BEGIN SSH SIGNATURE`, base64, `END SSH SIGNATURE`.
    #[error("a signature file holds base64 between \"{BEGIN}\" and \"{END}\"")]
    Armor,
    /// The bytes are not an SSHSIG.
    #[error("not an SSHSIG signature")]
    Form,
    /// The version of the format is unknown.
    #[error("SSHSIG version {0} is unknown, only 1 is known")]
    Version(u32),
    /// The key in the signature was refused.
    #[error("the signature's key was refused")]
    Key(#[from] KeyError),
    /// The signature was made for another purpose.
    #[error("the signature is for the namespace {found:?}, not {expected:?}")]
    Namespace {
        /// The namespace that the signature names.
        found: String,
        /// The namespace of the document.
        expected: &'static str,
    },
    /// The reserved field is not covered by the signature, so anybody could have filled it.
    #[error("the reserved field of an SSHSIG must be empty")]
    Reserved,
    /// The message was hashed with something else than SHA-256 or SHA-512.
    #[error("the hash algorithm {0:?} is unknown, only sha512 and sha256 are known")]
    HashAlgorithm(String),
    /// The algorithm of the signature is not that of its key.
    #[error("the signature's algorithm {found:?} is not that of its key, {expected:?}")]
    Algorithm {
        /// The algorithm that the signature names.
        found: String,
        /// The algorithm of the key.
        expected: &'static str,
    },
    /// The token signed without anybody touching it.
    #[error("the hardware token signed without a person being present")]
    NoPresence,
    /// The signature is not over these bytes by this key.
    #[error("the signature by {0} does not match the document")]
    Mismatch(OperatorKey),
}

/// The hashes with which SSHSIG shortens a message before it is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MessageHash {
    Sha256,
    Sha512,
}

impl MessageHash {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    fn from_name(name: &[u8]) -> Option<Self> {
        [Self::Sha256, Self::Sha512].into_iter().find(|hash| hash.as_str().as_bytes() == name)
    }
}

/// What a key signs: the namespace and the hash of a message.
pub(crate) fn signed_data(namespace: &str, hash: MessageHash, message: &[u8]) -> Vec<u8> {
    let mut data = MAGIC.to_vec();
    put_string(&mut data, namespace.as_bytes());
    put_string(&mut data, b"");
    put_string(&mut data, hash.as_str().as_bytes());
    match hash {
        MessageHash::Sha256 => put_string(&mut data, &Sha256::digest(message)),
        MessageHash::Sha512 => put_string(&mut data, &Sha512::digest(message)),
    }
    data
}

/// The signature proper, inside an SSHSIG or in an ssh-agent's answer.
#[derive(Debug)]
pub(crate) enum KeySignature {
    Ed25519([u8; 64]),
    SkEd25519 { signature: [u8; 64], flags: u8, counter: u32 },
}

impl KeySignature {
    /// Reads what `key` is said to have made.
    pub(crate) fn parse(key: &OperatorKey, blob: &[u8]) -> Result<Self, SignatureError> {
        let mut reader = Reader::new(blob);
        let algorithm = reader.string().ok_or(SignatureError::Form)?;
        if algorithm != key.algorithm().as_bytes() {
            return Err(SignatureError::Algorithm { found: shown(algorithm), expected: key.algorithm() });
        }
        let signature =
            reader.string().and_then(|bytes| bytes.try_into().ok()).ok_or(SignatureError::Form)?;
        let parsed = match key {
            OperatorKey::Ed25519(_) => Self::Ed25519(signature),
            OperatorKey::SkEd25519 { .. } => {
                let [flags] = reader.array().ok_or(SignatureError::Form)?;
                let counter = reader.number().ok_or(SignatureError::Form)?;
                Self::SkEd25519 { signature, flags, counter }
            }
        };
        if reader.finished() { Ok(parsed) } else { Err(SignatureError::Form) }
    }

    fn verify(&self, key: &OperatorKey, data: &[u8]) -> Result<(), SignatureError> {
        let valid = match (key, self) {
            (OperatorKey::Ed25519(key), Self::Ed25519(signature)) => key.verifies(data, signature),
            (OperatorKey::SkEd25519 { key, application }, Self::SkEd25519 { signature, flags, counter }) => {
                if flags & USER_PRESENT == 0 {
                    return Err(SignatureError::NoPresence);
                }
                let mut message = Sha256::digest(application.as_bytes()).to_vec();
                message.push(*flags);
                message.extend_from_slice(&counter.to_be_bytes());
                message.extend_from_slice(&Sha256::digest(data));
                key.verifies(&message, signature)
            }
            (OperatorKey::Ed25519(_), Self::SkEd25519 { .. })
            | (OperatorKey::SkEd25519 { .. }, Self::Ed25519(_)) => false,
        };
        if valid { Ok(()) } else { Err(SignatureError::Mismatch(key.clone())) }
    }
}

/// An SSHSIG that was read but not verified.
#[derive(Debug)]
pub(crate) struct SshSig {
    key: OperatorKey,
    hash: MessageHash,
    signature: KeySignature,
}

impl SshSig {
    pub(crate) fn parse(blob: &[u8], expected: &'static str) -> Result<Self, SignatureError> {
        if blob.len() > SIGNATURE_BYTES_MAX {
            return Err(SignatureError::TooLong { found: blob.len(), max: SIGNATURE_BYTES_MAX });
        }
        let form = || SignatureError::Form;
        let mut reader = Reader::new(blob.strip_prefix(MAGIC).ok_or_else(form)?);
        match reader.number().ok_or_else(form)? {
            VERSION => {}
            version => return Err(SignatureError::Version(version)),
        }
        let key = OperatorKey::from_ssh_blob(reader.string().ok_or_else(form)?)?;
        let namespace = reader.string().ok_or_else(form)?;
        if namespace != expected.as_bytes() {
            return Err(SignatureError::Namespace { found: shown(namespace), expected });
        }
        if !reader.string().ok_or_else(form)?.is_empty() {
            return Err(SignatureError::Reserved);
        }
        let hash = reader.string().ok_or_else(form)?;
        let hash = MessageHash::from_name(hash).ok_or_else(|| SignatureError::HashAlgorithm(shown(hash)))?;
        let signature = KeySignature::parse(&key, reader.string().ok_or_else(form)?)?;
        if reader.finished() { Ok(Self { key, hash, signature }) } else { Err(SignatureError::Form) }
    }

    pub(crate) const fn hash(&self) -> MessageHash {
        self.hash
    }

    /// Checks the signature over what [`signed_data`] made of the message, and says whose it is.
    pub(crate) fn verify(self, data: &[u8]) -> Result<OperatorKey, SignatureError> {
        self.signature.verify(&self.key, data)?;
        Ok(self.key)
    }
}

/// Writes an SSHSIG around a signature blob.
pub(crate) fn assemble(key: &OperatorKey, namespace: &str, hash: MessageHash, signature: &[u8]) -> Vec<u8> {
    let mut blob = MAGIC.to_vec();
    blob.extend_from_slice(&VERSION.to_be_bytes());
    put_string(&mut blob, &key.ssh_blob());
    put_string(&mut blob, namespace.as_bytes());
    put_string(&mut blob, b"");
    put_string(&mut blob, hash.as_str().as_bytes());
    put_string(&mut blob, signature);
    blob
}

/// Writes a signature as the text that `ssh-keygen` writes and reads.
pub fn armor(signature: &[u8]) -> String {
    let base64 = BASE64.encode(signature);
    let mut text = format!("{BEGIN}\n");
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(ARMOR_WIDTH));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str(END);
    text.push('\n');
    text
}

/// Reads the text that `ssh-keygen -Y sign` writes.
pub fn dearmor(text: &str) -> Result<Vec<u8>, SignatureError> {
    if text.len() > ARMOR_BYTES_MAX {
        return Err(SignatureError::TooLong { found: text.len(), max: ARMOR_BYTES_MAX });
    }
    let base64: String = text
        .trim()
        .strip_prefix(BEGIN)
        .and_then(|rest| rest.strip_suffix(END))
        .ok_or(SignatureError::Armor)?
        .split_ascii_whitespace()
        .collect();
    BASE64.decode(base64.as_bytes()).map_err(|_| SignatureError::Armor)
}
