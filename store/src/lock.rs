//! The lock beside the file, which tells a second opener who holds it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::error::StoreError;

/// Longest content of a lock file that is read: a process id and a line end.
const LOCK_BYTES_MAX: u64 = 32;

/// Holds `<file>.lock`, by `flock`, for as long as it lives.
///
/// The lock file stays when the lock goes: deleting it would let two openers hold two files of one name.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
}

impl Drop for Lock {
    /// Unlocks by name: closing alone leaves the lock to a child that was forked and has not begun its program yet.
    fn drop(&mut self) {
        if let Err(error) = self.file.unlock() {
            tracing::error!(%error, "the store's lock was not released");
        }
    }
}

impl Lock {
    /// Takes the lock of the store at `path`.
    pub(crate) fn acquire(path: &Path) -> Result<Self, StoreError> {
        let lock_path = beside(path, ".lock");
        let fail = |source| StoreError::io(&lock_path, "lock", source);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(fail)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::InUse { path: path.to_owned(), pid: read_pid(&mut file) });
            }
            Err(TryLockError::Error(source)) => return Err(fail(source)),
        }
        match write_pid(&mut file) {
            // A full disk must not keep the store from being opened; the pid is only a courtesy.
            Err(source) if !crate::error::is_full(&source) => Err(fail(source)),
            Ok(()) | Err(_) => Ok(Self { file }),
        }
    }
}

/// `path` with `suffix` added to its last part.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(LOCK_BYTES_MAX).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn the_lock_goes_although_a_forked_child_still_has_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("muster.redb");
        let lock = Lock::acquire(&path).unwrap();
        let of_a_child = lock.file.try_clone().unwrap();
        assert!(matches!(Lock::acquire(&path), Err(StoreError::InUse { .. })));
        drop(lock);
        Lock::acquire(&path).unwrap();
        drop(of_a_child);
    }
}
