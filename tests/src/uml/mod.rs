//! A whole machine with one host's agent, in user-mode Linux: a kernel that runs as a process, with a disk of its own, and
//! loses at a kill whatever it had not yet written to that disk.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::{Agent, has_program, muster_binary};

/// The kernel.
const KERNEL: &str = "linux.uml";
/// How long a machine may take to boot and to say something.
const PATIENCE: Duration = Duration::from_secs(120);
const DISK_BYTES: u64 = 192 * 1024 * 1024;
/// How many lines of its console are shown when a test fails.
const CONSOLE_LINES: usize = 60;
/// How the lines of the console begin that a machine tells.
const SAID: &str = "said ";

/// Whether the kernel is installed; if not, that is said.
pub fn has_kernel() -> bool {
    has_program(KERNEL)
}

/// A disk that outlives the machine.
#[derive(Debug)]
pub struct Disk {
    folder: PathBuf,
}

impl Disk {
    /// An empty one, and what is needed to boot with it, in a folder of its own.
    pub fn new(folder: PathBuf) -> Self {
        fs::create_dir(&folder).expect("a folder can be made");
        let image = File::create(folder.join("image")).expect("a file can be made");
        image.set_len(DISK_BYTES).expect("a file can be made longer");
        let init = folder.join("init");
        fs::write(&init, include_str!("init.sh")).expect("a file can be written");
        fs::set_permissions(&init, fs::Permissions::from_mode(0o755)).expect("a mode can be set");
        Self { folder }
    }
}

/// A machine that has power.
#[derive(Debug)]
pub struct Powered {
    child: Child,
    said: Receiver<String>,
    console: Vec<String>,
}

impl Powered {
    /// Boots a machine which is the host of an agent; releases before `first` have been published.
    pub fn on(disk: &Disk, agent: &Agent, first: usize) -> Self {
        let path = |name: &str, path: &Path| format!("{name}={}", path.display());
        let mut child = Command::new(KERNEL)
            .args(["mem=512M", "quiet", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro"])
            .args(["con=null", "con0=null,fd:1"])
            .arg(path("ubd0", &disk.folder.join("image")))
            .arg(path("uml_dir", &disk.folder))
            .arg(path("init", &disk.folder.join("init")))
            // What the kernel does not know becomes the environment of its first program.
            .arg(path("HOST", &agent.folder))
            .arg(path("PROGRAM", muster_binary()))
            .arg(format!("FIRST={first}"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("the kernel can be started");
        let stdout = child.stdout.take().expect("it is a pipe");
        let (tell, said) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
                // Whoever listens no more has cut the power.
                let _ = tell.send(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
        });
        Self { child, said, console: Vec::new() }
    }

    /// The next thing that it says: a word, and the rest.
    ///
    /// # Panics
    ///
    /// If it says nothing for long.
    pub fn hear(&mut self) -> (String, String) {
        loop {
            let Ok(line) = self.said.recv_timeout(PATIENCE) else {
                let from = self.console.len().saturating_sub(CONSOLE_LINES);
                panic!("the machine says nothing; before:\n{}", self.console[from..].join("\n"));
            };
            let parsed = parse(&line);
            self.console.push(line);
            if let Some(said) = parsed {
                return said;
            }
        }
    }

    /// The power goes: nothing that runs in it goes on. Gives what it still had said.
    pub fn cut(mut self) -> Vec<(String, String)> {
        self.end();
        let mut lines: Vec<String> = self.said.iter().collect();
        // The last line may have been cut off in the middle; then it was not said.
        lines.pop();
        lines.iter().filter_map(|line| parse(line)).collect()
    }

    fn end(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none())
            && let Ok(pid) = i32::try_from(self.child.id())
        {
            // Every process of the machine is one of this group.
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

impl Drop for Powered {
    fn drop(&mut self) {
        self.end();
    }
}

fn parse(line: &str) -> Option<(String, String)> {
    let (_, said) = line.split_once(SAID)?;
    let (word, rest) = said.split_once(' ').unwrap_or((said, ""));
    Some((word.to_owned(), rest.to_owned()))
}
