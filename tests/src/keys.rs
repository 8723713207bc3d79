//! Keys of hosts and operators, as OpenSSH files.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use muster_signing::{Namespace, SigningKey, armor, sign_document};

/// A key that nobody has seen before.
pub fn fresh_key() -> SigningKey {
    let mut seed = [0; 32];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut seed))
        .expect("the system has randomness");
    SigningKey::from_seed(seed)
}

/// Writes a key's private file, readable by its owner only, and its public file beside it.
pub fn write_key(file: &Path, key: &SigningKey, comment: &str) {
    let mut private = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    private.write_all(key.to_openssh(comment).as_bytes()).expect("a key file can be written");
    let public = format!("{} {comment}\n", key.public().to_openssh());
    std::fs::write(format!("{}.pub", file.display()), public).expect("a key file can be written");
}

/// A person who signs documents.
#[derive(Debug)]
pub struct Operator {
    /// The name in the fleet document.
    pub name: String,
    /// The private key's file.
    pub file: PathBuf,
    /// The public key's line.
    pub line: String,
    /// The key.
    pub key: SigningKey,
}

impl Operator {
    /// Makes an operator with a key file in a folder.
    pub fn new(folder: &Path, name: &str) -> Self {
        let (key, file) = (fresh_key(), folder.join(name));
        write_key(&file, &key, name);
        Self { name: name.to_owned(), file, line: key.public().to_openssh(), key }
    }

    /// Signs bytes, for any use; the signature is armored.
    pub fn sign(&self, namespace: Namespace, bytes: &[u8]) -> String {
        armor(&sign_document(&self.key, namespace, bytes))
    }
}
