//! The files under the store, behind a trait so that tests can let every operation fail.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use redb::StorageBackend;
use redb::backends::FileBackend;

use crate::lock::beside;

/// Size of the reserve file, which is given up when the disk is full.
pub const RESERVE_BYTES: u64 = 8 << 20;

/// Name of the reserve file, in the store's folder.
pub const RESERVE_NAME: &str = "muster.reserve";

/// Zeros written at a time where the file system cannot allocate.
const ZEROS_BYTES: usize = 64 << 10;

/// Where the database's bytes are.
pub(crate) trait Disk: Debug + Send + Sync + 'static {
    /// Whether there is a store.
    fn exists(&self) -> io::Result<bool>;
    /// Makes an empty file under another name, for [`Disk::publish`] to rename.
    fn create(&self) -> io::Result<Box<dyn StorageBackend>>;
    /// Gives the created file its name, durably: from then on there is a store.
    fn publish(&self) -> io::Result<()>;
    /// Opens the store's file.
    fn open(&self) -> io::Result<Box<dyn StorageBackend>>;
    /// Whether the checksum of every page is verified when the store is opened.
    fn checks_pages(&self) -> bool {
        true
    }
    /// Length of the store's file.
    fn file_bytes(&self) -> io::Result<u64>;
    /// Bytes that could still be written.
    fn free_bytes(&self) -> io::Result<u64>;
    /// Whether the reserve is there in full.
    fn has_reserve(&self) -> bool;
    /// Makes the reserve.
    fn make_reserve(&self) -> io::Result<()>;
    /// Gives the reserve up; whether there was one.
    fn release_reserve(&self) -> io::Result<bool>;
}

/// Files in a folder of the host.
#[derive(Debug)]
pub(crate) struct Files {
    path: PathBuf,
    folder: PathBuf,
    checks_pages: bool,
}

impl Files {
    pub(crate) fn new(path: &Path) -> Self {
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            Some(_) | None => PathBuf::from("."),
        };
        Self { path: path.to_owned(), folder, checks_pages: true }
    }

    /// Files whose damaged pages are read as they are.
    pub(crate) fn damaged(path: &Path) -> Self {
        Self { checks_pages: false, ..Self::new(path) }
    }

    fn fresh(&self) -> PathBuf {
        beside(&self.path, ".new")
    }

    fn reserve(&self) -> PathBuf {
        self.folder.join(RESERVE_NAME)
    }
}

impl Disk for Files {
    fn checks_pages(&self) -> bool {
        self.checks_pages
    }

    fn exists(&self) -> io::Result<bool> {
        self.path.try_exists()
    }

    fn create(&self) -> io::Result<Box<dyn StorageBackend>> {
        remove_if_there(&self.fresh())?;
        let file =
            OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(self.fresh())?;
        backend(file)
    }

    fn publish(&self) -> io::Result<()> {
        fs::rename(self.fresh(), &self.path)?;
        File::open(&self.folder)?.sync_all()
    }

    fn open(&self) -> io::Result<Box<dyn StorageBackend>> {
        backend(OpenOptions::new().read(true).write(true).open(&self.path)?)
    }

    fn file_bytes(&self) -> io::Result<u64> {
        Ok(fs::metadata(&self.path)?.len())
    }

    #[expect(clippy::useless_conversion, reason = "the widths of these counts differ between platforms")]
    fn free_bytes(&self) -> io::Result<u64> {
        let found = nix::sys::statvfs::statvfs(&self.folder)?;
        Ok(u64::from(found.blocks_available()).saturating_mul(u64::from(found.fragment_size())))
    }

    fn has_reserve(&self) -> bool {
        fs::metadata(self.reserve()).is_ok_and(|found| found.len() == RESERVE_BYTES)
    }

    fn make_reserve(&self) -> io::Result<()> {
        let made = fill(&self.reserve());
        if made.is_err() {
            remove_if_there(&self.reserve())?;
        }
        made
    }

    fn release_reserve(&self) -> io::Result<bool> {
        remove_if_there(&self.reserve())
    }
}

fn backend(file: File) -> io::Result<Box<dyn StorageBackend>> {
    let backend = FileBackend::new(file).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(Box::new(backend))
}

fn remove_if_there(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Allocates the blocks of the reserve; a sparse file would hold none.
fn fill(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    let length = nix::libc::off_t::try_from(RESERVE_BYTES).map_err(io::Error::other)?;
    match nix::fcntl::posix_fallocate(&file, 0, length) {
        Err(nix::errno::Errno::EOPNOTSUPP | nix::errno::Errno::EINVAL) => {
            let zeros = vec![0; ZEROS_BYTES];
            for _ in 0..RESERVE_BYTES / ZEROS_BYTES as u64 {
                file.write_all(&zeros)?;
            }
        }
        Err(errno) => return Err(errno.into()),
        Ok(()) => {}
    }
    file.sync_all()
}
