//! Remembers the boots since a switch, by which the core finds out a machine that does not stay up.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use muster_core::host::Boots;
use serde::{Deserialize, Serialize};

use super::root::Dispatch;
use crate::activation::status::sync_folder;

/// The file's name in the folder of the agent's state.
const FILE: &str = "boots.json";
/// The most that is read of it.
const FILE_BYTES_MAX: u64 = 64 * 1024;

#[derive(Debug, Serialize, Deserialize)]
struct Known {
    dispatch: Dispatch,
    boots: Boots,
}

/// Takes note that the machine was found in this boot after the switch of a dispatch; all of them so far.
pub(super) fn note(folder: &Path, dispatch: &Dispatch, boot_id: &str) -> io::Result<Boots> {
    let known = read(folder)?.filter(|known| known.dispatch == *dispatch);
    let mut known = known.unwrap_or_else(|| Known { dispatch: dispatch.clone(), boots: Boots::default() });
    if known.boots.note(boot_id) {
        write(folder, &known)?;
    }
    Ok(known.boots)
}

fn read(folder: &Path) -> io::Result<Option<Known>> {
    let file = match File::open(folder.join(FILE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut text = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut text)?;
    // What a torn file counted is counted again.
    Ok(serde_json::from_slice(&text).ok())
}

fn write(folder: &Path, known: &Known) -> io::Result<()> {
    let fresh = folder.join(format!(".{FILE}.new"));
    let mut file = File::create(&fresh)?;
    file.write_all(&serde_json::to_vec(known)?)?;
    file.sync_all()?;
    fs::rename(&fresh, folder.join(FILE))?;
    sync_folder(folder)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn boots_are_remembered_per_dispatch_and_a_torn_file_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let dispatch = |log_index| Dispatch { rollout: "stable@r1".parse().unwrap(), log_index };
        let looping =
            |log_index, boot: &str| note(folder.path(), &dispatch(log_index), boot).unwrap().is_looping();
        for boot in ["a", "a", "b", "c", "d", "e"] {
            assert!(!looping(7, boot), "{boot}");
        }
        assert!(looping(7, "f"));
        assert!(!looping(8, "f"), "another switch is counted by itself");
        fs::write(folder.path().join(FILE), "{").unwrap();
        assert!(!looping(8, "h"));
    }
}
