//! Where the memory lies: one file in a folder of root's, locked by whoever judges, replaced in one step and durable
//! before anything follows from it.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use muster_core::wire::codec::DecodeError;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{Uid, UnlinkatFlags, unlinkat};

use super::memory::{MEMORY_BYTES_MAX, Memory};
use super::trusted::{self, TrustedError};

/// The name of the memory.
const MEMORY: &str = "memory.cbor";
/// The name under which a new memory is written.
const FRESH: &str = ".memory.new";

/// Why there is no memory to judge by, or none can be written.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The folder or the file is not root's alone.
    #[error(transparent)]
    Trusted(#[from] TrustedError),
    /// The file is damaged.
    #[error(
        "{path}: {error}; nothing is carried out until it is mended: take it away to begin anew, if you are sure that nobody wants old orders to count again"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: DecodeError,
    },
    /// The memory is longer than one can be.
    #[error("the memory has grown to {0} bytes, more than {MEMORY_BYTES_MAX}")]
    TooLong(usize),
}

/// The locked memory.
#[derive(Debug)]
pub struct Vault {
    folder: File,
    path: PathBuf,
    owner: Uid,
}

impl Vault {
    /// Opens the folder and waits until no other order is under way.
    pub fn open(folder: &Path, owner: Uid) -> Result<Self, VaultError> {
        let open = trusted::folder(folder, owner)?;
        open.lock().map_err(|source| TrustedError::io(folder, source))?;
        Ok(Self { folder: open, path: folder.join(MEMORY), owner })
    }

    /// Reads the memory; an empty one if nothing was ever remembered.
    pub fn load(&self) -> Result<Memory, VaultError> {
        let file = match self.open_at(MEMORY, OFlag::O_RDONLY | OFlag::O_NONBLOCK) {
            Err(Errno::ENOENT) => return Ok(Memory::default()),
            opened => opened.map_err(|error| TrustedError::io(&self.path, error))?,
        };
        trusted::is_private(&file, &self.path, self.owner)?;
        let bytes = trusted::read_bounded(file, &self.path, MEMORY_BYTES_MAX)?;
        Memory::decode(&bytes).map_err(|error| VaultError::Damaged { path: self.path.clone(), error })
    }

    /// Replaces the memory; after it returns the new one survives a power cut.
    pub fn store(&self, memory: &Memory) -> Result<(), VaultError> {
        let bytes = memory.encode();
        if bytes.len() > MEMORY_BYTES_MAX {
            return Err(VaultError::TooLong(bytes.len()));
        }
        self.replace(&bytes).map_err(|source| TrustedError::io(&self.path, source).into())
    }

    fn replace(&self, bytes: &[u8]) -> io::Result<()> {
        // What a helper left that was killed while it wrote.
        match unlinkat(&self.folder, FRESH, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let mut fresh = self.open_at(FRESH, OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL)?;
        fresh.write_all(bytes)?;
        fresh.sync_all()?;
        renameat(&self.folder, FRESH, &self.folder, MEMORY)?;
        self.folder.sync_all()
    }

    fn open_at(&self, name: &str, flags: OFlag) -> nix::Result<File> {
        let mode = if flags.contains(OFlag::O_CREAT) { Mode::S_IRUSR | Mode::S_IWUSR } else { Mode::empty() };
        let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW).mode(mode).resolve(
            ResolveFlag::RESOLVE_BENEATH
                | ResolveFlag::RESOLVE_NO_SYMLINKS
                | ResolveFlag::RESOLVE_NO_MAGICLINKS,
        );
        openat2(&self.folder, name, how).map(File::from)
    }
}
