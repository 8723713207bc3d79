//! What can go wrong, with the values that explain it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::table::Table;

/// Why a store could not be opened, read or looked after.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process, or another handle of this one, has the file open.
    #[error("{} is in use by {}", path.display(), holder(*pid))]
    InUse {
        /// The file.
        path: PathBuf,
        /// The process that holds it; `None` if it has not said so.
        pid: Option<u32>,
    },
    /// There is no such file.
    #[error("there is no store at {}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file is not what this crate wrote; it is left as it is.
    #[error("{} is corrupt and was left as it is: {detail}; move it away and let peers bring the records back", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// A newer version of muster wrote the file.
    #[error("{} has format {found}, this version knows up to {known}; install the version that wrote it", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// The file's format.
        found: u32,
        /// The newest format that this version knows.
        known: u32,
    },
    /// The format is too old to be migrated.
    #[error("{} has format {found}, this version migrates from {oldest} on; open it once with a version in between", path.display())]
    Older {
        /// The file.
        path: PathBuf,
        /// The file's format.
        found: u32,
        /// The oldest format that this version migrates.
        oldest: u32,
    },
    /// The file belongs to another fleet.
    #[error("{} belongs to the fleet {found:?}, not {expected:?}", path.display())]
    OtherFleet {
        /// The file.
        path: PathBuf,
        /// The file's fleet.
        found: String,
        /// The fleet asked for.
        expected: String,
    },
    /// The file belongs to another host.
    #[error("{} belongs to the host {found:?}, not {expected:?}", path.display())]
    OtherHost {
        /// The file.
        path: PathBuf,
        /// The file's host.
        found: String,
        /// The host asked for.
        expected: String,
    },
    /// The disk is full.
    #[error("no space left for {}", path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// The disk or the operating system failed.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried, as a verb.
        doing: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// An earlier write failed in a way that only reopening the file recovers from.
    #[error("the store has stopped and must be reopened: {reason}")]
    Failed {
        /// What failed.
        reason: Arc<str>,
    },
    /// Snapshots are open, and compaction would move what they read.
    #[error("{} cannot be compacted while snapshots of it are open", path.display())]
    SnapshotsOpen {
        /// The file.
        path: PathBuf,
    },
    /// A rebuild may write derived tables only.
    #[error("the table {} is not derived and cannot be rebuilt", table.name())]
    NotDerived {
        /// The table.
        table: Table,
    },
    /// The batch was refused or not written.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

/// Why a batch is not known to be durable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// The queue is full; nothing was written. The batch can be submitted again later.
    #[error("{batches} batches of {bytes} bytes wait for the disk, no more are taken")]
    Busy {
        /// Batches that wait.
        batches: usize,
        /// Their bytes.
        bytes: usize,
    },
    /// The disk is full and the reserve is used up; nothing was written.
    #[error("the disk is full")]
    Full,
    /// The store has stopped; the batch may or may not be there once the file is reopened.
    #[error("the store has stopped and must be reopened: {reason}")]
    Failed {
        /// What failed.
        reason: Arc<str>,
    },
    /// A key or value is longer than any table takes; nothing was written.
    #[error("a {part} of {bytes} bytes for the table {} exceeds {max} bytes", table.name())]
    TooLarge {
        /// The table.
        table: Table,
        /// `key` or `value`.
        part: &'static str,
        /// Its length.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The row is the store's own (its format, fleet or host); nothing was written.
    #[error("the row {name:?} of meta is the store's own")]
    Reserved {
        /// The row's key.
        name: String,
    },
    /// The store was closed; nothing was written.
    #[error("the store is closed")]
    Closed,
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("pid {pid}"))
}

/// Tells errors of a full disk from others.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl StoreError {
    pub(crate) fn io(path: &Path, doing: &'static str, source: io::Error) -> Self {
        if is_full(&source) {
            return Self::Full { path: path.to_owned() };
        }
        Self::Io { path: path.to_owned(), doing, source }
    }

    pub(crate) fn corrupt(path: &Path, detail: impl Into<String>) -> Self {
        Self::Corrupt { path: path.to_owned(), detail: detail.into() }
    }

    /// Maps what redb says. A file that ends early or begins otherwise comes as an I/O error, and is a corrupt file.
    pub(crate) fn redb(path: &Path, doing: &'static str, error: impl Into<redb::Error>) -> Self {
        let error = error.into();
        if let redb::Error::Io(source) = error {
            let corrupt = matches!(source.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof);
            return if corrupt {
                Self::corrupt(path, source.to_string())
            } else {
                Self::io(path, doing, source)
            };
        }
        if matches!(error, redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch) {
            return Self::InUse { path: path.to_owned(), pid: None };
        }
        if matches!(error, redb::Error::DatabaseClosed) {
            return Self::Closed;
        }
        if matches!(error, redb::Error::PreviousIo | redb::Error::Backend(_) | redb::Error::Unsupported) {
            return Self::io(path, doing, io::Error::other(error.to_string()));
        }
        Self::corrupt(path, error.to_string())
    }
}
