//! One machine: its disk, and the processes that a test starts, reboots and takes the power from.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use muster_signing::SigningKey;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::hub::{Hub, PREFIX, remove_group};
use super::means::control_groups;
use super::root::root;
use crate::cli::{Ran, run};
use crate::control::Control;
use crate::muster_binary;
use crate::wait::{poll, wait_for};

/// How long a machine may take to boot or to shut down.
const PATIENCE: Duration = Duration::from_secs(60);
/// The signal that the kernel ends an init with which asks for a reboot.
const REBOOTED: i32 = Signal::SIGHUP as i32;
/// How much of its journal is shown when a test fails, in lines.
const LOG_LINES: &str = "150";
/// Enters a control group, then becomes what is given.
const ENTER: &str = "echo 0 > \"$0/cgroup.procs\" && exec \"$@\"";
/// The first program of a machine that is to run as one.
const INIT: [&str; 2] = ["/lib/systemd/systemd", "--show-status=0"];

/// What the first processes of a machine are told; see `boot.sh`.
#[derive(Debug)]
pub(super) struct Boot<'a> {
    pub(super) name: &'a str,
    /// The layers above the root file system, topmost first.
    pub(super) layers: &'a [PathBuf],
    pub(super) share: Option<PathBuf>,
    pub(super) port: String,
    pub(super) address: String,
    pub(super) link: bool,
}

impl Boot<'_> {
    /// What starts it in a control group of its own and runs `init` as its first process.
    pub(super) fn command(&self, hub: &Hub, group: &Path, init: &[&str]) -> Command {
        fs::create_dir_all(group).expect("a control group can be made");
        let layers = self.layers.iter().map(PathBuf::as_path).chain([root()]);
        let layers: Vec<_> = layers.map(|layer| layer.to_string_lossy()).collect();
        let mut command = Command::new("sh");
        command.args(["-c", ENTER]).arg(group);
        // Whatever ends this process ends the machine.
        command.args(["setpriv", "--pdeathsig", "KILL", "nsenter", "-m", "-t", &hub.pid().to_string()]);
        command.args(["unshare", "--mount", "--net", "--pid", "--uts", "--ipc", "--cgroup"]);
        command.args(["--fork", "--kill-child", "sh"]).arg(hub.within("boot.sh")).args(init);
        command.env("NAME", self.name).env("LAYERS", layers.join(":")).env("DISK", hub.within(self.name));
        command.env("BINARY", muster_binary()).env("SHARE", self.share.clone().unwrap_or_default());
        command.env("PORT", &self.port).env("ADDRESS", &self.address).env("HUB", hub.pid().to_string());
        command.env("LINK", if self.link { "up" } else { "down" }).stdin(Stdio::null());
        command
    }
}

/// The control group of a machine.
pub(super) fn group(hub: &Hub, name: &str) -> PathBuf {
    let groups = control_groups().expect("machines run only where there are control groups");
    groups.join(format!("{PREFIX}{}-{}-{name}", std::process::id(), hub.pid()))
}

/// A machine of a site.
#[derive(Debug)]
pub struct Machine {
    /// Its host name, also in the fleet document.
    pub name: String,
    /// Its address.
    pub address: String,
    /// The key of its host.
    pub key: SigningKey,
    hub: Arc<Hub>,
    layers: Vec<PathBuf>,
    child: Mutex<Option<Child>>,
    boots: AtomicU32,
    cabled: AtomicBool,
}

impl Machine {
    /// A machine without power; `number` is its place in the network.
    pub(super) fn new(hub: &Arc<Hub>, layers: Vec<PathBuf>, number: usize) -> Self {
        Self {
            name: format!("node-{number}"),
            address: format!("10.77.0.{number}"),
            key: crate::fresh_key(),
            hub: Arc::clone(hub),
            layers,
            child: Mutex::new(None),
            boots: AtomicU32::new(0),
            cabled: AtomicBool::new(true),
        }
    }

    /// The address of its agent.
    pub fn multiaddr(&self) -> String {
        format!("/ip4/{}/udp/7946/quic-v1", self.address)
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_child(&self) -> Child {
        let child = self.child().take();
        child.unwrap_or_else(|| panic!("{} has no power", self.name))
    }

    fn port(&self) -> String {
        // The kernel takes its time to remove the cable of the last boot.
        format!("{}-{}", self.name.replace("node-", "n"), self.boots.load(Ordering::Relaxed))
    }

    /// Gives it power. The caller's thread must outlive it: the machine ends with the thread that started it.
    pub fn power_on(&self) {
        self.boots.fetch_add(1, Ordering::Relaxed);
        let boot = Boot {
            name: &self.name,
            layers: &self.layers,
            share: None,
            port: self.port(),
            address: format!("{}/24", self.address),
            link: self.cabled.load(Ordering::Relaxed),
        };
        let mut command = boot.command(&self.hub, &group(&self.hub, &self.name), &INIT);
        let log = fs::File::options().create(true).append(true).open(self.boot_log());
        let log = log.expect("a log can be opened");
        command.stdout(log.try_clone().expect("a log can be opened twice")).stderr(log);
        let child = command.spawn().expect("a machine can be started");
        let before = self.child().replace(child);
        assert!(before.is_none(), "{} is started while it runs", self.name);
    }

    fn boot_log(&self) -> PathBuf {
        self.hub.reach(&format!("{}.boot", self.name))
    }

    /// Its first process, as this process knows it, once that is its init.
    fn init(&self) -> Option<u32> {
        let child = self.child().as_ref()?.id();
        let init = first_child(child)?;
        // Before, the first process may still see the file system of this machine.
        let comm = fs::read_to_string(format!("/proc/{init}/comm")).ok()?;
        (comm.trim_end() == "systemd").then_some(init)
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.init().is_some()
    }

    /// Waits until its agent answers.
    pub fn wait_until_up(&self) {
        wait_for(&format!("{} is up", self.name), PATIENCE, || {
            let up = self.control().ask("/healthz").is_ok_and(|answer| answer.status == 200);
            up.then_some(())
        });
    }

    /// Its end of the power: the kernel ends everything in it at once.
    pub fn cut_power(&self) {
        end(self.take_child());
        remove_group(&group(&self.hub, &self.name));
    }

    /// Cuts its power and gives it power again.
    pub fn lose_power(&self) {
        self.cut_power();
        self.power_on();
    }

    /// Reboots it in good order.
    pub fn reboot(&self) {
        self.run(["systemctl", "reboot"]);
        let mut process = self.take_child();
        let status = poll(PATIENCE, || process.try_wait().expect("one's own child can be waited for"));
        let Some(status) = status else {
            end(process);
            panic!("{} did not shut down", self.name);
        };
        assert_eq!(status.signal(), Some(REBOOTED), "{} ended with {status}", self.name);
        remove_group(&group(&self.hub, &self.name));
        self.power_on();
    }

    /// Pulls its cable, or puts it back.
    pub fn set_cabled(&self, cabled: bool) {
        self.cabled.store(cabled, Ordering::Relaxed);
        self.hub.ip(["link", "set", &self.port(), if cabled { "up" } else { "down" }]);
    }

    /// A file of the running machine.
    ///
    /// # Panics
    ///
    /// If it does not run.
    pub fn path(&self, path: &str) -> PathBuf {
        let init = self.init().unwrap_or_else(|| panic!("{} does not run", self.name));
        PathBuf::from(format!("/proc/{init}/root{path}"))
    }

    /// A file that was written on its disk, whether it runs or not.
    pub fn disk(&self, path: &str) -> PathBuf {
        self.hub.reach(&format!("{}/upper{path}", self.name))
    }

    /// Writes a file to its disk before it has power.
    pub fn write(&self, path: &str, content: &str) {
        let file = self.disk(path);
        fs::create_dir_all(file.parent().expect("a file lies in a folder")).expect("a folder can be made");
        fs::write(file, content).expect("a file can be written");
    }

    /// Runs a command in it.
    pub fn run<const N: usize>(&self, arguments: [&str; N]) -> Ran {
        run(self.command(&arguments))
    }

    /// A command that runs in it.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let init = self.init().unwrap_or_else(|| panic!("{} does not run", self.name));
        let mut command = Command::new("nsenter");
        command.args(["-t", &init.to_string(), "-m", "-u", "-i", "-n", "-p", "-C", "--", "env", "-i"]);
        command.args(["HOME=/root", "PATH=/opt/muster/bin:/usr/sbin:/usr/bin"]).args(arguments);
        command
    }

    /// Its agent's control socket.
    pub fn control(&self) -> Control {
        let init = self.init().map_or_else(|| "none".to_owned(), |init| init.to_string());
        Control { socket: PathBuf::from(format!("/proc/{init}/root/run/muster/muster.sock")) }
    }

    /// The system that runs, as the machine names it.
    pub fn current(&self) -> String {
        let link = self.init().and_then(|_| fs::read_link(self.path("/run/current-system")).ok());
        link.unwrap_or_default().to_string_lossy().into_owned()
    }

    /// The system that its profile names.
    pub fn profile(&self) -> String {
        let profiles = self.path("/nix/var/nix/profiles");
        let generation = fs::read_link(profiles.join("system")).unwrap_or_default();
        let link = fs::read_link(profiles.join(generation)).unwrap_or_default();
        link.to_string_lossy().into_owned()
    }

    /// The system that the next boot would start.
    pub fn boot_default(&self) -> String {
        let link = fs::read_link(self.path("/boot/default")).unwrap_or_default();
        link.to_string_lossy().into_owned()
    }

    /// What its systems' `switch-to-configuration` wrote down: a word, the action and the system in each line.
    pub fn switches(&self) -> Vec<String> {
        let text = fs::read_to_string(self.disk("/var/log/switches")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// How often its systems wrote down one line.
    pub fn times(&self, word: &str, action: &str, closure: &str) -> usize {
        let line = format!("{word} {action} {closure}");
        self.switches().iter().filter(|found| **found == line).count()
    }

    /// Lets systems that wait go on.
    pub fn open_gate(&self) {
        fs::write(self.path("/run/gate"), "").expect("a file can be made");
    }

    /// The end of what it wrote down.
    pub fn log_tail(&self) -> String {
        let boot = fs::read_to_string(self.boot_log()).unwrap_or_default();
        let journal = if self.is_running() {
            let lines = ["journalctl", "--no-pager", "-o", "short-precise", "-n", LOG_LINES];
            let output = self.command(&lines).stdin(Stdio::null()).output();
            output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
        } else {
            "it does not run\n".to_owned()
        };
        let switches = self.switches().join("\n");
        format!("---- {} ----\n{boot}{journal}---- its switches ----\n{switches}", self.name)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Ok(Some(child)) = self.child.get_mut().map(Option::take) {
            end(child);
            remove_group(&group(&self.hub, &self.name));
        }
    }
}

/// The first child of a process.
fn first_child(process: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

/// Ends a machine at once, and waits until nothing of it runs.
fn end(mut child: Child) {
    // When its first process is gone the kernel has ended all others; without one, it never began.
    let process = first_child(child.id()).and_then(|init| i32::try_from(init).ok());
    match process {
        // It may have ended by itself, which is as good.
        Some(init) => drop(kill(Pid::from_raw(init), Signal::SIGKILL)),
        None => drop(child.kill()),
    }
    let ended = poll(PATIENCE, || child.try_wait().ok().flatten());
    if ended.is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
}
