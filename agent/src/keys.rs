//! Key files, with the checks that keep secrets secret, and the system's randomness.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use muster_signing::{
    KeyError, Namespace, OperatorKey, PublicKey, SigningKey, sign_document, verify_document,
};

use crate::ssh_agent::{Agent, AgentError};

/// The most that is read of a key file.
const KEY_BYTES_MAX: u64 = 64 * 1024;
/// The system's source of randomness.
const RANDOM: &str = "/dev/urandom";
/// How a private key file begins.
const PRIVATE_BEGIN: &str = "-----BEGIN ";

/// Why a key cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is no key.
    #[error("{path}: {source}")]
    Key {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: KeyError,
    },
    /// The path names something else than a file of a key's size.
    #[error("{path}: not a file of at most {KEY_BYTES_MAX} bytes")]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// Others than its owner could have read the private key.
    #[error("{path}: its mode {mode:04o} lets others than its owner read the private key")]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The private key belongs to somebody else.
    #[error("{path}: the private key belongs to user {owner}, not to the one who runs this")]
    Owner {
        /// The file.
        path: PathBuf,
        /// Its owner's id.
        owner: u32,
    },
    /// There is a key already.
    #[error("{path} exists, and a key is never overwritten")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The ssh-agent does not serve.
    #[error(transparent)]
    Agent(#[from] AgentError),
}

/// Draws bytes that nobody can guess.
pub fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open(RANDOM)?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Makes a key that nobody else has.
pub fn generate() -> Result<SigningKey, KeyFileError> {
    let seed = random().map_err(|source| KeyFileError::Io { path: RANDOM.into(), source })?;
    Ok(SigningKey::from_seed(seed))
}

/// Writes an OpenSSH key pair, `path` and `path.pub`, where neither is yet; the private one is readable only by its owner.
pub fn write_pair(path: &Path, key: &SigningKey, comment: &str) -> Result<PathBuf, KeyFileError> {
    let public_path = public_of(path);
    if fs::symlink_metadata(&public_path).is_ok() {
        return Err(KeyFileError::Exists { path: public_path });
    }
    create(path, 0o600, &key.to_openssh(comment))?;
    let line = format!("{} {comment}", key.public().to_openssh());
    if let Err(error) = create(&public_path, 0o644, &format!("{}\n", line.trim_end())) {
        // Half a pair would stand in the way of the next try.
        let _ = fs::remove_file(path);
        return Err(error);
    }
    Ok(public_path)
}

/// Reads a private key that only its owner can read.
pub fn read_private(path: &Path) -> Result<SigningKey, KeyFileError> {
    let (text, file) = read(path)?;
    check_secrecy(path, &file)?;
    SigningKey::from_openssh(&text).map_err(|source| KeyFileError::Key { path: path.to_owned(), source })
}

/// Reads the public half of a host's key: of `path` itself, or else of `path.pub`.
pub fn read_public(path: &Path) -> Result<PublicKey, KeyFileError> {
    let beside = public_of(path);
    let from = match fs::metadata(&beside) {
        Ok(_) => beside.as_path(),
        Err(_) => path,
    };
    let (text, _) = read(from)?;
    let key = if text.starts_with(PRIVATE_BEGIN) {
        return Ok(read_private(path)?.public());
    } else {
        PublicKey::from_openssh(&text)
    };
    key.map_err(|source| KeyFileError::Key { path: from.to_owned(), source })
}

/// Something that can sign documents.
#[derive(Debug)]
pub enum Signer {
    /// A private key file.
    File(SigningKey),
    /// A key that the ssh-agent holds, perhaps for a hardware token.
    Agent {
        /// The key.
        key: OperatorKey,
        /// Who holds its secret.
        agent: Agent,
    },
}

impl Signer {
    /// Takes a private key file, or a public one whose secret the ssh-agent at `socket` holds.
    pub fn open(path: &Path, socket: Option<&Path>) -> Result<Self, KeyFileError> {
        let (text, file) = read(path)?;
        let bad = |source| KeyFileError::Key { path: path.to_owned(), source };
        if text.starts_with(PRIVATE_BEGIN) {
            check_secrecy(path, &file)?;
            return SigningKey::from_openssh(&text).map(Self::File).map_err(bad);
        }
        let key = OperatorKey::from_openssh(&text).map_err(bad)?;
        let agent = Agent::at(socket.ok_or(AgentError::NoSocket)?);
        if !agent.keys()?.contains(&key) {
            return Err(AgentError::NotHeld { key: key.to_openssh() }.into());
        }
        Ok(Self::Agent { key, agent })
    }

    /// The public half.
    pub fn public(&self) -> OperatorKey {
        match self {
            Self::File(key) => key.public().into(),
            Self::Agent { key, .. } => key.clone(),
        }
    }

    /// Signs a document: a raw SSHSIG, as [`muster_signing::armor`] takes it.
    pub fn sign(&self, namespace: Namespace, document: &[u8]) -> Result<Vec<u8>, KeyFileError> {
        match self {
            Self::File(key) => Ok(sign_document(key, namespace, document)),
            Self::Agent { key, agent } => {
                let data = muster_signing::signed_data(namespace, document);
                let answer = agent.sign(key, &data)?;
                let signature = muster_signing::assemble_signature(key, namespace, &answer)
                    .map_err(|error| AgentError::Answer(error.to_string()))?;
                let checked = verify_document(namespace, document.to_vec(), vec![signature.clone()]);
                if checked.signers().contains(key) {
                    Ok(signature)
                } else {
                    Err(AgentError::Answer("its signature does not hold".to_owned()).into())
                }
            }
        }
    }
}

/// Where the public half of a key file lies.
pub fn public_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}

fn create(path: &Path, mode: u32, text: &str) -> Result<(), KeyFileError> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let written = opened.and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.map_err(|source| {
        let path = path.to_owned();
        if source.kind() == io::ErrorKind::AlreadyExists {
            KeyFileError::Exists { path }
        } else {
            KeyFileError::Io { path, source }
        }
    })
}

fn read(path: &Path) -> Result<(String, fs::Metadata), KeyFileError> {
    let io = |source| KeyFileError::Io { path: path.to_owned(), source };
    // Opening a pipe would wait for somebody to write into it.
    if !fs::metadata(path).map_err(io)?.is_file() {
        return Err(KeyFileError::NotAFile { path: path.to_owned() });
    }
    let file = File::open(path).map_err(io)?;
    let metadata = file.metadata().map_err(io)?;
    if metadata.len() > KEY_BYTES_MAX {
        return Err(KeyFileError::NotAFile { path: path.to_owned() });
    }
    let mut text = String::new();
    file.take(KEY_BYTES_MAX).read_to_string(&mut text).map_err(io)?;
    Ok((text, metadata))
}

fn check_secrecy(path: &Path, file: &fs::Metadata) -> Result<(), KeyFileError> {
    let mode = file.mode() & 0o7777;
    // systemd lets the unit's user read a credential by an ACL, which shows as permissions of the group.
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY");
    let loaded = credentials.is_some_and(|folder| path.parent() == Some(Path::new(&folder)));
    let others = if loaded { 0o037 } else { 0o077 };
    if mode & others != 0 {
        return Err(KeyFileError::Mode { path: path.to_owned(), mode });
    }
    let owner = file.uid();
    if owner != 0 && owner != nix::unistd::geteuid().as_raw() {
        return Err(KeyFileError::Owner { path: path.to_owned(), owner });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_pair_is_written_once_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let key = generate().unwrap();
        let public_path = write_pair(&path, &key, "alice@home").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(read_private(&path).unwrap().public(), key.public());
        assert_eq!(read_public(&path).unwrap(), key.public());
        let line = fs::read_to_string(&public_path).unwrap();
        assert_eq!(line, format!("{} alice@home\n", key.public().to_openssh()));

        for there in [&path, &public_path] {
            let refused = write_pair(&path, &generate().unwrap(), "");
            assert!(matches!(refused, Err(KeyFileError::Exists { .. })), "{}", there.display());
            assert_eq!(fs::read_to_string(&public_path).unwrap_or(line.clone()), line);
            let _ = fs::remove_file(&public_path);
        }
        assert_eq!(read_private(&path).unwrap().public(), key.public());
        assert_eq!(
            read_public(&path).unwrap(),
            key.public(),
            "without the public file the private one tells"
        );
    }

    #[test]
    fn a_private_key_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        write_pair(&path, &generate().unwrap(), "").unwrap();
        for mode in [0o640, 0o604, 0o620, 0o602, 0o610] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert!(matches!(read_private(&path), Err(KeyFileError::Mode { mode: m, .. }) if m == mode));
            assert!(matches!(Signer::open(&path, None), Err(KeyFileError::Mode { .. })));
        }
    }

    #[test]
    fn what_is_no_key_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let large = folder.path().join("large");
        fs::write(&large, vec![b'x'; 64 * 1024 + 1]).unwrap();
        assert!(matches!(read_private(&large), Err(KeyFileError::NotAFile { .. })));
        assert!(matches!(read_private(folder.path()), Err(KeyFileError::NotAFile { .. })));
        assert!(matches!(read_private(Path::new("/nowhere/key")), Err(KeyFileError::Io { .. })));
        let text = folder.path().join("text");
        fs::write(&text, "no key").unwrap();
        fs::set_permissions(&text, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(read_private(&text), Err(KeyFileError::Key { .. })));
        assert!(matches!(Signer::open(&text, None), Err(KeyFileError::Key { .. })));
    }

    #[test]
    fn random_bytes_differ() {
        assert_ne!(random::<32>().unwrap(), random::<32>().unwrap());
    }
}
