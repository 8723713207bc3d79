//! What this machine must have for machines to run in it.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use super::root;
use crate::{has_program, note};

/// The programs that run machines, beside what makes their root file system.
const PROGRAMS: [&str; 5] = ["ip", "mount", "nsenter", "setpriv", "unshare"];

/// Whether machines can run here; if not, that is said, and with `MUSTER_TEST_REQUIRE=all` it is a failure.
pub fn can_run_machines() -> bool {
    static ABLE: OnceLock<bool> = OnceLock::new();
    *ABLE.get_or_init(|| {
        if !PROGRAMS.iter().all(|program| has_program(program)) {
            return false;
        }
        if root::cached().is_none() && !has_program("mmdebstrap") {
            return false;
        }
        let Some(lack) = lack() else { return true };
        let required = std::env::var("MUSTER_TEST_REQUIRE").is_ok_and(|value| value == "all");
        assert!(!required, "machines with their own systemd cannot run here: {lack}");
        note(&format!("skipped what needs machines with their own systemd: {lack}"));
        false
    })
}

fn lack() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("not root".to_owned());
    }
    if control_groups().is_none() {
        return Some("no cgroup2 file system is mounted".to_owned());
    }
    let tried = Command::new("unshare")
        .args(["--mount", "--net", "--pid", "--uts", "--ipc", "--cgroup", "--fork", "mount", "-t", "tmpfs"])
        .args(["tmpfs", "/tmp"])
        .output();
    match tried {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(format!("no namespaces: {}", String::from_utf8_lossy(&output.stderr).trim_end())),
        Err(error) => Some(format!("unshare: {error}")),
    }
}

/// Where the unified hierarchy of control groups is mounted.
pub(super) fn control_groups() -> Option<&'static Path> {
    let places = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new);
    places
        .into_iter()
        .find(|place| place.join("cgroup.procs").is_file() && place.join("cgroup.controllers").is_file())
}
