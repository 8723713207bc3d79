//! One real agent over a store that was made for it.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use crate::fleet::{FLEET, Fleet, ME};

/// How long an agent may take to learn again what its store holds.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often is looked whether it has.
const PACE: Duration = Duration::from_millis(20);

/// The agent; it ends when this is dropped, and all it had is removed.
#[derive(Debug)]
pub(crate) struct Served {
    folder: TempDir,
    muster: PathBuf,
    child: Child,
    /// How long it took until it answered.
    pub(crate) began_in: Duration,
}

impl Served {
    /// Starts the agent of the fleet's one coordinator.
    pub(crate) fn start(muster: &Path, fleet: &Fleet) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("muster-bench-").tempdir_in("/tmp")?;
        let top = folder.path();
        fs::create_dir_all(top.join("root/releases"))?;
        fs::create_dir_all(top.join("state"))?;
        let mut key = OpenOptions::new().write(true).create_new(true).mode(0o600).open(top.join("key"))?;
        key.write_all(fleet.key().to_openssh(ME).as_bytes())?;
        fs::write(top.join("trust.json"), fleet.trust_text())?;
        fs::write(top.join("next.json"), fleet.next_ref())?;
        let at = top.display();
        let config = format!(
            "fleet = \"{FLEET}\"\nhost = \"{ME}\"\nstate_dir = \"{at}/state\"\nidentity = \"{at}/key\"\n\
             trust = \"{at}/trust.json\"\nlisten = [\"/ip4/127.0.0.1/udp/0/quic-v1\"]\nsocket = \"{at}/muster.sock\"\n\
             [activation]\nbackend = \"directory\"\nroot = \"{at}/root\"\n"
        );
        fs::write(top.join("muster.toml"), config)?;
        fleet.store(&top.join("state").join(muster::storage::STORE_FILE))?;
        let log = fs::File::create(top.join("log"))?;
        let begun = Instant::now();
        let mut command = clean(muster);
        command.arg("agent").arg("--config").arg(top.join("muster.toml"));
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
        let child = child.with_context(|| format!("{} cannot be started", muster.display()))?;
        let mut served = Self { folder, muster: muster.to_owned(), child, began_in: Duration::ZERO };
        while !served.muster(&["status"]).output()?.status.success() {
            if begun.elapsed() > PATIENCE || served.child.try_wait()?.is_some() {
                let said = fs::read_to_string(served.folder.path().join("log")).unwrap_or_default();
                bail!("the agent does not answer; it said:\n{said}");
            }
            std::thread::sleep(PACE);
        }
        served.began_in = begun.elapsed();
        Ok(served)
    }

    /// The process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The file of a ref that was not published yet.
    pub(crate) fn next_ref(&self) -> String {
        self.folder.path().join("next.json").to_string_lossy().into_owned()
    }

    /// A command line that asks it.
    pub(crate) fn muster(&self, arguments: &[&str]) -> Command {
        let mut command = clean(&self.muster);
        command.args(arguments).env("MUSTER_SOCKET", self.folder.path().join("muster.sock"));
        command
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended by itself, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program without this one's own `MUSTER_*` variables.
fn clean(muster: &Path) -> Command {
    let mut command = Command::new(muster);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("MUSTER_")) {
        command.env_remove(name);
    }
    command
}
