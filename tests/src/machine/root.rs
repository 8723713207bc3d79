//! The root file system of all machines: Debian with systemd, D-Bus and Nix, made once and never written to again.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use nix::fcntl::{Flock, FlockArg};

use crate::note;

/// Where root file systems are kept; removing it costs the minute that making one takes.
pub const FOLDER: &str = "/var/cache/muster-tests";
/// Changes with everything that says how one is made, so that an old one is not taken for it.
const VERSION: &str = "root-1";
/// How the folders begin in which one is made.
const UNFINISHED: &str = "unfinished-";
/// Debian's release: systemd 257, Nix 2.26.
const SUITE: &str = "trixie";
/// What is in it beside what every Debian has.
const PACKAGES: &str = "systemd,systemd-sysv,dbus,iproute2,nix-bin,procps,nftables,openssh-client";
/// Where packages come from unless apt is set up to use another place.
const MIRROR: &str = "http://deb.debian.org/debian";

/// The root file system, if it has been made.
pub(super) fn cached() -> Option<PathBuf> {
    Some(Path::new(FOLDER).join(VERSION)).filter(|path| path.is_dir())
}

/// The root file system, made if there is none.
///
/// # Panics
///
/// If it cannot be made.
pub(super) fn root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| cached().unwrap_or_else(make))
}

fn make() -> PathBuf {
    fs::create_dir_all(FOLDER).expect("a folder for root file systems can be made");
    let lock = File::create(Path::new(FOLDER).join("lock")).expect("a lock can be made");
    // Another run of the tests may be at it already, and then its result will do.
    let _lock =
        Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, error)| error).expect("a file can be locked");
    if let Some(path) = cached() {
        return path;
    }
    for entry in fs::read_dir(FOLDER).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            // Left by a run that was killed: whoever holds the lock is alone.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    note(&format!("making the root file system of the test machines in {FOLDER}, which takes a minute"));
    let scratch = tempfile::Builder::new().prefix(UNFINISHED).tempdir_in(FOLDER).expect("there is room");
    let made = scratch.path().join("root");
    let output = Command::new("mmdebstrap")
        .args(["--quiet", "--variant=minbase", "--skip=output/mknod"])
        .arg(format!("--include={PACKAGES}"))
        .args(["doc", "man", "locale"].map(|part| format!("--dpkgopt=path-exclude=/usr/share/{part}/*")))
        .arg("--aptopt=Acquire::Check-Valid-Until \"false\"")
        .arg("--keyring=/usr/share/keyrings/debian-archive-keyring.gpg")
        .arg(SUITE)
        .arg(&made)
        .arg(format!("deb {} {SUITE} main", mirror()))
        .output()
        .expect("mmdebstrap can be started");
    assert!(output.status.success(), "mmdebstrap: {}", String::from_utf8_lossy(&output.stderr));
    let path = Path::new(FOLDER).join(VERSION);
    fs::rename(made, &path).expect("a folder can be renamed");
    path
}

/// Where this machine gets its own packages from, if it is a Debian.
fn mirror() -> String {
    let output = Command::new("apt-get")
        .args(["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"])
        .output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let places = text.lines().find(|place| place.contains("debian") && !place.contains("security"));
    places.unwrap_or(MIRROR).to_owned()
}
