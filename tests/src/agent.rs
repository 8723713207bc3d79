//! One host: its folder, and the `muster agent` process that a test starts, kills and starts again.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use muster_signing::SigningKey;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::cli::Muster;
use crate::control::{Answer, Control};
use crate::release::{Release, Run, runs};
use crate::wait::poll;
use crate::{muster_binary, write_key};

/// How long an agent may take to stop when asked to.
const STOP_PATIENCE: Duration = Duration::from_secs(20);
/// How much of each log is shown when a test fails, in bytes.
const LOG_TAIL_BYTES: usize = 6_000;

/// A host of a test's fleet.
#[derive(Debug)]
pub struct Agent {
    /// Its name in the fleet document.
    pub name: String,
    /// The folder that holds all it has.
    pub folder: PathBuf,
    /// Its key.
    pub key: SigningKey,
    /// The UDP port of its address.
    pub port: u16,
    child: Mutex<Option<Child>>,
}

impl Agent {
    /// Makes a host's folder with its key, and a first release that runs already.
    pub(crate) fn new(top: &Path, name: &str, port: u16) -> Self {
        let folder = top.join(name);
        fs::create_dir_all(folder.join("root/releases")).expect("a host's folder can be made");
        let key = crate::fresh_key();
        write_key(&folder.join("key"), &key, name);
        let agent = Self { name: name.to_owned(), folder, key, port, child: Mutex::new(None) };
        agent.install("v0", Release::GOOD);
        crate::release::make_current(&agent.root(), "v0");
        agent
    }

    /// The address in the fleet document.
    pub fn address(&self) -> String {
        format!("/ip4/127.0.0.1/udp/{}/quic-v1", self.port)
    }

    /// The address with the peer id, as in a configuration's `bootstrap`.
    pub fn bootstrap(&self) -> String {
        format!("{}/p2p/{}", self.address(), self.key.public().peer_id())
    }

    /// The root of the directory backend.
    pub fn root(&self) -> PathBuf {
        self.folder.join("root")
    }

    /// The control socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("muster.sock")
    }

    /// The store's file.
    pub fn store(&self) -> PathBuf {
        self.folder.join("state/muster.redb")
    }

    /// The configuration's file.
    pub fn config(&self) -> PathBuf {
        self.folder.join("muster.toml")
    }

    /// A TCP address on which nobody listens: the UDP port of the same number is this agent's own, and no other agent of
    /// these tests takes it.
    pub fn free_address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Adds tables to the configuration, for the next start.
    pub fn configure(&self, tables: &str) {
        let config = fs::read_to_string(self.config()).expect("a configuration can be read");
        fs::write(self.config(), format!("{config}\n{tables}\n")).expect("a configuration can be written");
    }

    /// Sets a key of the configuration that stands in no table, for the next start.
    pub fn set(&self, key: &str, value: impl Into<toml::Value>) {
        let config = fs::read_to_string(self.config()).expect("a configuration can be read");
        let mut config: toml::Table = config.parse().expect("it is a configuration");
        config.insert(key.to_owned(), value.into());
        fs::write(self.config(), config.to_string()).expect("a configuration can be written");
    }

    /// Has it serve its metrics over TCP too once it is started; where.
    pub fn serve_metrics(&self) -> String {
        let address = self.free_address();
        self.configure(&format!("[metrics]\nlisten = \"{address}\""));
        address
    }

    /// Puts a release there to be switched to.
    pub fn install(&self, name: &str, release: Release) {
        release.install(&self.root(), name);
    }

    /// The closure that the `current` link names.
    pub fn current(&self) -> String {
        let link = fs::read_link(self.root().join("current")).unwrap_or_default();
        let name = link.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        format!("dir:{name}")
    }

    /// What the releases' programs wrote down.
    pub fn runs(&self) -> Vec<Run> {
        runs(&self.root())
    }

    /// How often a release's program began.
    pub fn times_begun(&self, name: &str) -> usize {
        let closure = format!("dir:{name}");
        self.runs().iter().filter(|run| run.word == "began" && run.closure == closure).count()
    }

    /// Lets releases that wait at the gate go on, or makes them wait again.
    pub fn open_gate(&self, open: bool) {
        set_file(&self.root().join("gate"), open);
    }

    /// Says whether releases that ask the test are healthy.
    pub fn set_healthy(&self, healthy: bool) {
        set_file(&self.root().join("healthy"), healthy);
    }

    /// Starts the process; the one before must have ended.
    pub fn start(&self) {
        let log = self.log();
        let mut command = Command::new(muster_binary());
        command.arg("agent").arg("--config").arg(self.config());
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a log can be opened twice")).stderr(log);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("MUSTER_"))
        {
            command.env_remove(name);
        }
        command.env(
            "RUST_LOG",
            std::env::var("MUSTER_TEST_LOG").unwrap_or_else(|_| "muster=debug,info".to_owned()),
        );
        let child = command.spawn().expect("the agent's process can be started");
        let before = self.child.lock().expect("no test panicked here").replace(child);
        assert!(before.is_none(), "{} is started while it runs", self.name);
    }

    fn log(&self) -> File {
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.join("log"))
            .expect("a log can be opened")
    }

    /// Kills the process in the middle of whatever it does.
    pub fn kill(&self) {
        let status = self.end(Signal::SIGKILL);
        assert_eq!(
            status.and_then(|status| status.code()),
            None,
            "{} had ended before it was killed",
            self.name
        );
    }

    /// Asks the process to stop, and says how it ended.
    ///
    /// # Panics
    ///
    /// If it does not run, or does not stop in time.
    pub fn stop(&self) -> ExitStatus {
        self.end(Signal::SIGTERM).unwrap_or_else(|| panic!("{} does not run", self.name))
    }

    fn end(&self, signal: Signal) -> Option<ExitStatus> {
        let mut child = self.child.lock().expect("no test panicked here").take()?;
        // Until it is waited for, its id cannot become another process's.
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("process ids are small"));
        if child.try_wait().expect("one's own child can be waited for").is_none() {
            kill(pid, signal).expect("one's own child can be signalled");
        }
        let ended = poll(STOP_PATIENCE, || child.try_wait().expect("one's own child can be waited for"));
        if ended.is_none() {
            child.kill().expect("one's own child can be killed");
            child.wait().expect("one's own child can be waited for");
        }
        Some(ended.unwrap_or_else(|| {
            panic!("{} did not stop in {STOP_PATIENCE:?}\n{}", self.name, self.log_tail())
        }))
    }

    /// Whether the process runs.
    pub fn is_running(&self) -> bool {
        let mut child = self.child.lock().expect("no test panicked here");
        child.as_mut().is_some_and(|child| child.try_wait().is_ok_and(|ended| ended.is_none()))
    }

    fn control(&self) -> Control {
        Control { socket: self.socket() }
    }

    /// Asks the control socket something.
    pub fn ask(&self, path: &str) -> io::Result<Answer> {
        self.control().ask(path)
    }

    /// The JSON that the control socket gives; null while it cannot be reached or answers with a problem.
    pub fn look(&self, path: &str) -> Value {
        self.control().look(path)
    }

    /// Hands the control socket a document with armored signatures.
    pub fn post(&self, document: &[u8], signatures: &[String]) -> Answer {
        self.control().post(document, signatures)
    }

    /// Everything that this agent knows has happened, oldest first.
    pub fn events(&self) -> Vec<Value> {
        self.control().events()
    }

    /// A rollout as this agent knows it; null if it does not.
    pub fn rollout(&self, id: &str) -> Value {
        self.look(&format!("/v1/rollouts/{id}"))
    }

    /// The state of a rollout as this agent knows it; empty if it does not.
    pub fn rollout_state(&self, id: &str) -> String {
        self.rollout(id)["rollout"]["state"].as_str().unwrap_or_default().to_owned()
    }

    /// A command line that talks to this agent.
    pub fn muster<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Muster {
        Muster::new(arguments).socket(&self.socket())
    }

    /// The end of what the process wrote.
    pub fn log_tail(&self) -> String {
        let text = fs::read(self.folder.join("log")).unwrap_or_default();
        let tail = &text[text.len().saturating_sub(LOG_TAIL_BYTES)..];
        format!("---- {} ----\n{}", self.name, String::from_utf8_lossy(tail))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Ok(Some(child)) = self.child.get_mut().map(Option::as_mut) {
            // It may have ended by itself, which is as good.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn set_file(path: &Path, present: bool) {
    if present {
        fs::write(path, "").expect("a file can be made");
    } else if path.exists() {
        fs::remove_file(path).expect("a file can be removed");
    }
}
