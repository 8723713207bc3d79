//! Counts the boots since a switch, so that a machine that does not stay up is found out.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::root::Dispatch;
use crate::activation::status::sync_folder;

/// A healthy system is booted at most so often while it soaks.
pub const BOOTS_MAX: usize = 5;
/// The file's name in the folder of the agent's state.
const FILE: &str = "boots.json";
/// The most that is read of it.
const FILE_BYTES_MAX: u64 = 64 * 1024;

#[derive(Debug, Serialize, Deserialize)]
struct Boots {
    dispatch: Dispatch,
    boots: Vec<String>,
}

/// Takes note that the machine was found in this boot after the switch of a dispatch; says whether there were more boots
/// than a healthy system has.
pub(super) fn is_looping(folder: &Path, dispatch: &Dispatch, boot_id: &str) -> io::Result<bool> {
    let known = read(folder)?.filter(|known| known.dispatch == *dispatch);
    let mut boots = known.map_or_else(Vec::new, |known| known.boots);
    if !boot_id.is_empty() && !boots.iter().any(|known| known == boot_id) && boots.len() <= BOOTS_MAX {
        boots.push(boot_id.to_owned());
        write(folder, &Boots { dispatch: dispatch.clone(), boots: boots.clone() })?;
    }
    Ok(boots.len() > BOOTS_MAX)
}

fn read(folder: &Path) -> io::Result<Option<Boots>> {
    let file = match File::open(folder.join(FILE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut text = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut text)?;
    // What a torn file counted is counted again.
    Ok(serde_json::from_slice(&text).ok())
}

fn write(folder: &Path, boots: &Boots) -> io::Result<()> {
    let fresh = folder.join(format!(".{FILE}.new"));
    let mut file = File::create(&fresh)?;
    file.write_all(&serde_json::to_vec(boots)?)?;
    file.sync_all()?;
    fs::rename(&fresh, folder.join(FILE))?;
    sync_folder(folder)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn boots_are_counted_per_dispatch_and_each_once() {
        let folder = tempfile::tempdir().unwrap();
        let dispatch = |log_index| Dispatch { rollout: "stable@r1".parse().unwrap(), log_index };
        let looping = |log_index, boot: &str| is_looping(folder.path(), &dispatch(log_index), boot).unwrap();
        for boot in ["a", "a", "b", "c", "d", "e", "e", ""] {
            assert!(!looping(7, boot), "{boot}");
        }
        assert!(looping(7, "f"));
        assert!(looping(7, "g"));
        assert!(!looping(8, "g"));
        std::fs::write(folder.path().join(FILE), "{").unwrap();
        assert!(!looping(8, "h"));
    }
}
