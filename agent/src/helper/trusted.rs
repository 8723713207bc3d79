//! Opens what only root can have written, and says who could have written it otherwise.
//!
//! A name proves nothing, and a symlink on the way may lead into a stranger's folder. So a path is walked part by part over
//! descriptors, links are followed only where their owner may be believed, and the owner and mode that count are those of
//! the open file.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use nix::fcntl::{OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use nix::unistd::Uid;

/// The most symlinks that are followed on one way.
const LINKS_MAX: u32 = 40;
/// Everybody but the owner may write.
const OTHERS_WRITE: u32 = 0o022;
/// Everybody but the owner may do anything.
const OTHERS: u32 = 0o077;
/// In a folder with this bit only an entry's owner may replace it.
const STICKY: u32 = 0o1000;

/// Why a file is not believed.
#[derive(Debug, thiserror::Error)]
pub enum TrustedError {
    /// It cannot be opened or read.
    #[error("{path}: {source}")]
    Io {
        /// What.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Somebody else owns it.
    #[error("{path} belongs to user {found}; only {owner} is believed")]
    Owner {
        /// What.
        path: PathBuf,
        /// Its owner.
        found: u32,
        /// Who may own it.
        owner: u32,
    },
    /// Somebody else may write it, or read what nobody else should.
    #[error("{path} has the mode {found:03o}, which lets others in")]
    Mode {
        /// What.
        path: PathBuf,
        /// Its mode.
        found: u32,
    },
    /// It is something else than it should be.
    #[error("{path} is not a {wanted}")]
    Kind {
        /// What.
        path: PathBuf,
        /// What it should be.
        wanted: &'static str,
    },
    /// It has a second name, under which somebody else may reach it.
    #[error("{path} has {found} names in its file system")]
    Names {
        /// What.
        path: PathBuf,
        /// How many.
        found: u64,
    },
    /// Its links lead in a circle.
    #[error("{0}: more than {LINKS_MAX} symlinks")]
    Links(PathBuf),
    /// It is longer than it can be.
    #[error("{path} has more than {max} bytes")]
    TooLong {
        /// What.
        path: PathBuf,
        /// The limit.
        max: usize,
    },
}

impl TrustedError {
    pub(super) fn io(path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Io { path: path.to_owned(), source: source.into() }
    }
}

/// Reads a file that nobody but root or `owner` can have written or replaced.
pub fn read(path: &Path, owner: Uid, bytes_max: usize) -> Result<Vec<u8>, TrustedError> {
    let file = walk(path, owner, Wanted::File)?;
    read_bounded(file, path, bytes_max)
}

/// Opens a folder whose entries nobody but root or `owner` can replace.
pub fn folder(path: &Path, owner: Uid) -> Result<File, TrustedError> {
    walk(path, owner, Wanted::Folder)
}

/// Reads an open file that has at most `bytes_max` bytes.
pub(super) fn read_bounded(file: File, path: &Path, bytes_max: usize) -> Result<Vec<u8>, TrustedError> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    file.take(limit).read_to_end(&mut bytes).map_err(|source| TrustedError::io(path, source))?;
    if bytes.len() > bytes_max {
        return Err(TrustedError::TooLong { path: path.to_owned(), max: bytes_max });
    }
    Ok(bytes)
}

/// Checks that an open file is `owner`'s alone, under one name.
pub(super) fn is_private(file: &File, path: &Path, owner: Uid) -> Result<(), TrustedError> {
    let found = file.metadata().map_err(|source| TrustedError::io(path, source))?;
    let path = path.to_owned();
    if !found.is_file() {
        return Err(TrustedError::Kind { path, wanted: "file" });
    }
    if found.uid() != owner.as_raw() {
        return Err(TrustedError::Owner { path, found: found.uid(), owner: owner.as_raw() });
    }
    if found.mode() & OTHERS != 0 {
        return Err(TrustedError::Mode { path, found: found.mode() & 0o7777 });
    }
    if found.nlink() != 1 {
        return Err(TrustedError::Names { path, found: found.nlink() });
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    File,
    Folder,
}

fn walk(path: &Path, owner: Uid, wanted: Wanted) -> Result<File, TrustedError> {
    let failed = |source: nix::Error| TrustedError::io(path, source);
    let root = || -> Result<(OwnedFd, PathBuf), TrustedError> {
        let root = File::open("/").map_err(|source| TrustedError::io(path, source))?;
        Ok((root.into(), PathBuf::from("/")))
    };
    if !path.is_absolute() {
        return Err(TrustedError::Kind { path: path.to_owned(), wanted: "path from the root" });
    }
    let (mut folder, mut at) = root()?;
    let (mut rest, mut links) = (parts(path), 0);
    while let Some(part) = rest.pop() {
        let here = at.join(&part);
        let entry = openat(
            &folder,
            part.as_os_str(),
            OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
            Mode::empty(),
        )
        .map_err(failed)?;
        let found = fstat(&entry).map_err(failed)?;
        let kind = SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits());
        believe(&here, &found, kind, owner)?;
        match kind {
            SFlag::S_IFLNK => {
                links += 1;
                if links > LINKS_MAX {
                    return Err(TrustedError::Links(path.to_owned()));
                }
                // Of the very link that was looked at, not of what has its name by now.
                let link = PathBuf::from(readlinkat(&entry, "").map_err(failed)?);
                if link.is_absolute() {
                    (folder, at) = root()?;
                }
                rest.extend(parts(&link));
            }
            SFlag::S_IFDIR => {
                if part == ".." {
                    at.pop();
                } else {
                    at = here;
                }
                folder = entry;
            }
            SFlag::S_IFREG if rest.is_empty() && wanted == Wanted::File => {
                let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                let file =
                    File::from(openat(&folder, part.as_os_str(), flags, Mode::empty()).map_err(failed)?);
                return still(file, &found, &here);
            }
            _ => return Err(TrustedError::Kind { path: here, wanted: "file or folder" }),
        }
    }
    if wanted == Wanted::File {
        return Err(TrustedError::Kind { path: path.to_owned(), wanted: "file" });
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    Ok(File::from(openat(&folder, ".", flags, Mode::empty()).map_err(failed)?))
}

/// The open file, if it is the one whose owner and mode were looked at.
fn still(file: File, looked_at: &FileStat, path: &Path) -> Result<File, TrustedError> {
    let found = file.metadata().map_err(|source| TrustedError::io(path, source))?;
    if (found.dev(), found.ino()) == (looked_at.st_dev, looked_at.st_ino) {
        Ok(file)
    } else {
        Err(TrustedError::Kind { path: path.to_owned(), wanted: "file that stays in place" })
    }
}

/// Whether nobody but root and `owner` can have put it there.
fn believe(path: &Path, found: &FileStat, kind: SFlag, owner: Uid) -> Result<(), TrustedError> {
    let path = path.to_owned();
    if found.st_uid != 0 && found.st_uid != owner.as_raw() {
        return Err(TrustedError::Owner { path, found: found.st_uid, owner: owner.as_raw() });
    }
    let shared = found.st_mode & OTHERS_WRITE != 0;
    let held = kind == SFlag::S_IFDIR && found.st_mode & STICKY != 0;
    if kind != SFlag::S_IFLNK && shared && !held {
        return Err(TrustedError::Mode { path, found: found.st_mode & 0o7777 });
    }
    Ok(())
}

/// The parts of a path, the last one first, as a stack of what is still to be walked.
fn parts(path: &Path) -> Vec<OsString> {
    let parts = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
    });
    parts.collect::<Vec<_>>().into_iter().rev().collect()
}
