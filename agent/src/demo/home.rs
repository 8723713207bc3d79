//! The folder that a demo lives in: a temporary one that goes away with it, or one that is kept.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::DemoError;
use crate::keys;

/// The longest path that a Unix socket can have, in bytes.
const SOCKET_PATH_BYTES_MAX: usize = 107;
/// The longest `/<host>/muster.sock` below the folder.
const SOCKET_SUFFIX_BYTES_MAX: usize = "/web-99/muster.sock".len();
/// How often the removal of the folder is tried: an activation that is just ending may still write into it.
const REMOVAL_TRIES: u32 = 20;
const REMOVAL_WAIT: Duration = Duration::from_millis(100);

/// The folder of one demo.
#[derive(Debug)]
pub(super) struct Home {
    path: PathBuf,
    kept: bool,
}

impl Home {
    /// Makes a temporary folder, or takes `keep`, which must be empty or not exist.
    pub(super) fn make(keep: Option<&Path>) -> Result<Self, DemoError> {
        let Some(keep) = keep else {
            let number = u64::from_ne_bytes(keys::random().map_err(DemoError::io("/dev/urandom"))?);
            let path = std::env::temp_dir().join(format!("muster-demo-{number:016x}"));
            fits(&path)?;
            create(&path)?;
            return Ok(Self { path, kept: false });
        };
        let path = std::path::absolute(keep).map_err(DemoError::io(keep))?;
        fits(&path)?;
        match fs::read_dir(&path).map(|mut entries| entries.next().is_none()) {
            Ok(true) => {}
            Ok(false) => return Err(DemoError::NotEmpty { path }),
            Err(error) if error.kind() == ErrorKind::NotFound => create(&path)?,
            Err(error) => return Err(DemoError::io(&path)(error)),
        }
        Ok(Self { path, kept: true })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it stays after the demo.
    pub(super) fn is_kept(&self) -> bool {
        self.kept
    }

    /// Empties it, for another try.
    pub(super) fn clear(&self) -> Result<(), DemoError> {
        let cleared = fs::read_dir(&self.path).and_then(|entries| {
            for entry in entries {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    fs::remove_dir_all(entry.path())?;
                } else {
                    fs::remove_file(entry.path())?;
                }
            }
            Ok(())
        });
        cleared.map_err(DemoError::io(&self.path))
    }

    /// Removes it with all that is in it, unless it is kept.
    pub(super) async fn remove(&self) -> io::Result<()> {
        if self.kept {
            return Ok(());
        }
        let mut tries = 0;
        loop {
            match fs::remove_dir_all(&self.path) {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
                Err(_) if tries < REMOVAL_TRIES => {
                    tries += 1;
                    tokio::time::sleep(REMOVAL_WAIT).await;
                }
                done => return done,
            }
        }
    }
}

fn create(path: &Path) -> Result<(), DemoError> {
    // The private keys in it are nobody else's business.
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(DemoError::io(path))
}

fn fits(path: &Path) -> Result<(), DemoError> {
    let bytes = path.as_os_str().len() + SOCKET_SUFFIX_BYTES_MAX;
    if path.to_str().is_none() {
        return Err(DemoError::NotText { path: path.to_owned() });
    }
    if bytes > SOCKET_PATH_BYTES_MAX {
        return Err(DemoError::TooLong { path: path.to_owned(), bytes, bytes_max: SOCKET_PATH_BYTES_MAX });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[tokio::test]
    async fn a_temporary_folder_goes_away_and_a_kept_one_stays() {
        let home = Home::make(None).unwrap();
        let path = home.path().to_owned();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o700);
        fs::create_dir(path.join("web-1")).unwrap();
        fs::write(path.join("web-1").join("muster.toml"), "x").unwrap();
        home.clear().unwrap();
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
        home.remove().await.unwrap();
        assert!(!path.exists());

        let folder = tempfile::tempdir().unwrap();
        let kept = Home::make(Some(&folder.path().join("new"))).unwrap();
        kept.remove().await.unwrap();
        assert!(kept.is_kept() && kept.path().exists());
    }

    #[test]
    fn a_folder_that_is_not_empty_or_whose_sockets_would_not_fit_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("mine"), "precious").unwrap();
        assert!(matches!(Home::make(Some(folder.path())), Err(DemoError::NotEmpty { .. })));
        assert!(folder.path().join("mine").exists());

        let room = SOCKET_PATH_BYTES_MAX - SOCKET_SUFFIX_BYTES_MAX;
        assert!(fits(Path::new(&format!("/{}", "x".repeat(room - 1)))).is_ok());
        let error = Home::make(Some(Path::new(&format!("/{}", "x".repeat(room))))).unwrap_err();
        assert!(matches!(error, DemoError::TooLong { bytes: 108, .. }), "{error}");
    }
}
