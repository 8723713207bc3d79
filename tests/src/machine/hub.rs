//! The middle of a site: a network with a bridge, and a file system in memory for its machines' disks.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use tempfile::TempDir;

use super::means::control_groups;
use crate::cli::run;
use crate::wait::{poll, wait_for};

/// The hub's address, which machines reach the cache at.
pub(super) const ADDRESS: &str = "10.77.0.254";
/// What folders and control groups of these tests begin with; the id of the process follows.
pub(super) const PREFIX: &str = "muster-machines-";
/// How long a hub may take to be there.
const PATIENCE: Duration = Duration::from_secs(20);

const SET_UP: &str = r#"set -e
mount -t tmpfs -o mode=755 tmpfs "$1"
ip link set lo up
ip link add hub type bridge
ip addr add "$2" dev hub
ip link set hub up
touch "$1/ready"
exec sleep infinity"#;

/// A process that holds the network and the file system.
#[derive(Debug)]
pub(super) struct Hub {
    child: Mutex<Child>,
    pid: u32,
    folder: TempDir,
}

impl Hub {
    pub(super) fn open() -> Self {
        remove_leftovers();
        let prefix = format!("{PREFIX}{}-", std::process::id());
        let folder =
            tempfile::Builder::new().prefix(&prefix).tempdir_in("/tmp").expect("a folder can be made");
        let child = Command::new("setpriv")
            // The hub ends with the test, in whatever way that ends, and with the hub its network and file system.
            .args(["--pdeathsig", "KILL", "unshare", "--mount", "--net", "sh", "-c", SET_UP, "sh"])
            .arg(folder.path())
            .arg(format!("{ADDRESS}/24"))
            .stdin(Stdio::null())
            .spawn()
            .expect("setpriv can be started");
        let hub = Self { pid: child.id(), child: Mutex::new(child), folder };
        wait_for("the hub is there", PATIENCE, || hub.reach("ready").exists().then_some(()));
        hub
    }

    /// The process whose network has the bridge.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Something in the file system, as the hub and its machines' first processes see it.
    pub(super) fn within(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The same, as this process reaches it.
    pub(super) fn reach(&self, name: &str) -> PathBuf {
        let inside = self.within(name);
        let inside = inside.strip_prefix("/").expect("the folder's path is absolute");
        Path::new("/proc").join(self.pid.to_string()).join("root").join(inside)
    }

    /// A command that runs in the hub's network.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.pid.to_string(), "-n", program]);
        command
    }

    /// Runs `ip` in the hub's network.
    pub(super) fn ip<const N: usize>(&self, arguments: [&str; N]) {
        let mut command = self.command("ip");
        command.args(arguments);
        run(command).ok();
    }

    /// Listens on a port of the hub's address.
    pub(super) fn listen(&self, port: u16) -> TcpListener {
        let network = fs::File::open(format!("/proc/{}/ns/net", self.pid)).expect("the hub lives");
        // A thread that has gone to another network cannot be used for anything else.
        let listening = std::thread::spawn(move || {
            setns(network, CloneFlags::CLONE_NEWNET).map_err(io::Error::from)?;
            TcpListener::bind((ADDRESS, port))
        });
        listening.join().expect("a thread ends").expect("nobody else listens in the hub's network")
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        if let Ok(child) = self.child.get_mut() {
            // It may have ended by itself, which is as good.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Removes a control group and those below it once nothing runs in them.
pub(super) fn remove_group(group: &Path) {
    fn remove(group: &Path) {
        let below = fs::read_dir(group).into_iter().flatten().flatten();
        below.filter(|entry| entry.path().is_dir()).for_each(|entry| remove(&entry.path()));
        // A group whose last process is still ending is tried again.
        let _ = fs::remove_dir(group);
    }
    poll(PATIENCE, || {
        remove(group);
        (!group.exists()).then_some(())
    });
}

/// Removes what tests that were killed could not.
fn remove_leftovers() {
    let left = |folder: &Path| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let dead = |name: &str| {
            let pid = name.strip_prefix(PREFIX)?.split('-').next()?.parse::<u32>().ok()?;
            (!Path::new(&format!("/proc/{pid}")).exists()).then_some(())
        };
        let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
        paths.retain(|path| path.file_name().and_then(|name| dead(&name.to_string_lossy())).is_some());
        paths
    };
    for folder in left(Path::new("/tmp")) {
        // Nothing is mounted on it any more.
        let _ = fs::remove_dir_all(folder);
    }
    for group in control_groups().into_iter().flat_map(left) {
        remove_group(&group);
    }
}
