//! The demo's agents: child processes of this very program, each ended by its own process id and nothing else.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use super::DemoError;
use super::fleet::{Fleet, Host};
use crate::text::tail;

/// Where the agents' process ids are written down.
const RECORD: &str = "agents.json";
/// The most that is read of that file.
const RECORD_BYTES_MAX: u64 = 1024 * 1024;
/// How long an agent may take to end when it is asked to.
const END_MAX: Duration = Duration::from_secs(5);
/// How often it is looked whether a process that is no child has ended.
const END_LOOK: Duration = Duration::from_millis(50);
/// How much of the end of a log is shown when something goes wrong.
const LOG_TAIL_BYTES_MAX: usize = 2048;
/// What an agent must not inherit: it would override its configuration, or tell a service manager about it.
const FOREIGN: [&str; 4] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "CREDENTIALS_DIRECTORY"];

/// The running agents of one demo. Dropping them kills them, unless they were left running.
#[derive(Debug)]
pub struct Agents {
    program: PathBuf,
    record: PathBuf,
    running: BTreeMap<String, Running>,
    peak_kib: u64,
}

#[derive(Debug)]
struct Running {
    child: Child,
    config: PathBuf,
}

/// What is written down of the agents.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    schema: u32,
    program: PathBuf,
    agents: BTreeMap<String, Recorded>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Recorded {
    pid: u32,
    config: PathBuf,
}

impl Agents {
    /// Starts an agent for each host of a fleet.
    pub fn start(fleet: &Fleet) -> Result<Self, DemoError> {
        let program = std::env::current_exe().map_err(DemoError::io("/proc/self/exe"))?;
        let record = fleet.dir.join(RECORD);
        let mut agents = Self { program, record, running: BTreeMap::new(), peak_kib: 0 };
        for host in &fleet.hosts {
            agents.launch(host)?;
        }
        agents.write_down()?;
        Ok(agents)
    }

    /// Starts one agent again.
    pub fn restart(&mut self, host: &Host) -> Result<(), DemoError> {
        self.launch(host)?;
        self.write_down()
    }

    fn launch(&mut self, host: &Host) -> Result<(), DemoError> {
        let path = host.log();
        let open = || OpenOptions::new().create(true).append(true).open(&path);
        let log = open().and_then(|out| Ok((out.try_clone()?, out)));
        let (out, err) = log.map_err(DemoError::io(&path))?;
        let mut command = Command::new(&self.program);
        command.arg("agent").arg("--config").arg(host.config());
        command.stdin(Stdio::null()).stdout(out).stderr(err).current_dir(&host.dir).env("NO_COLOR", "1");
        for (name, _) in std::env::vars_os() {
            let own = name.to_string_lossy().starts_with("MUSTER_") && name != "MUSTER_LOG";
            if own || FOREIGN.iter().any(|foreign| name == *foreign) {
                command.env_remove(name);
            }
        }
        // In a group of its own it does not get the terminal's Ctrl-C, and is ended in good order instead.
        let child = command.process_group(0).spawn().map_err(DemoError::io(&self.program))?;
        self.running.insert(host.name.clone(), Running { child, config: host.config() });
        Ok(())
    }

    /// Sends SIGKILL to one agent and waits until it is gone; says when the signal was sent.
    pub async fn kill(&mut self, name: &str) -> Result<Instant, DemoError> {
        self.measure();
        let Some(mut running) = self.running.remove(name) else {
            return Err(DemoError::Unexpected(format!("{name} has no agent to be killed")));
        };
        let at = Instant::now();
        running.child.kill().await.map_err(DemoError::io(&self.program))?;
        Ok(at)
    }

    /// An error if an agent has ended by itself.
    pub fn check(&mut self) -> Result<(), DemoError> {
        for (host, running) in &mut self.running {
            if let Some(status) = running.child.try_wait().map_err(DemoError::io(&self.program))? {
                return Err(DemoError::AgentEnded { host: host.clone(), status: status.to_string() });
            }
        }
        Ok(())
    }

    /// Looks how much memory each agent has needed at most.
    pub fn measure(&mut self) {
        for running in self.running.values() {
            let status = running.child.id().map(|pid| fs::read_to_string(format!("/proc/{pid}/status")));
            let peak = status.and_then(Result::ok).and_then(|status| peak_kib(&status));
            self.peak_kib = self.peak_kib.max(peak.unwrap_or(0));
        }
    }

    /// The most memory that any agent was seen to have needed, in MiB.
    pub fn peak_mib(&self) -> f64 {
        // An agent's memory is far below what a double cannot count.
        f64::from(u32::try_from(self.peak_kib).unwrap_or(u32::MAX)) / 1024.0
    }

    /// Asks every agent to end, and kills those that do not.
    pub async fn end(&mut self) {
        for running in self.running.values() {
            signal(running.child.id(), Signal::SIGTERM);
        }
        while let Some((_, mut running)) = self.running.pop_first() {
            if timeout(END_MAX, running.child.wait()).await.is_err() {
                // Whatever it answers, there is nothing left to be done.
                let _ = running.child.kill().await;
            }
        }
        let _ = fs::remove_file(&self.record);
    }

    /// Lets them run on when this process ends.
    pub fn leave(&mut self) {
        self.running.clear();
    }

    fn write_down(&self) -> Result<(), DemoError> {
        let agents = self.running.iter().filter_map(|(host, running)| {
            Some((host.clone(), Recorded { pid: running.child.id()?, config: running.config.clone() }))
        });
        let record = Record { schema: 1, program: self.program.clone(), agents: agents.collect() };
        let text =
            serde_json::to_vec_pretty(&record).map_err(|error| DemoError::io(&self.record)(error.into()))?;
        fs::write(&self.record, text).map_err(DemoError::io(&self.record))
    }
}

impl Drop for Agents {
    fn drop(&mut self) {
        for running in self.running.values_mut() {
            // It fails only if the agent has ended already.
            let _ = running.child.start_kill();
        }
    }
}

/// The end of what an agent has said.
pub fn log_tail(host: &Host) -> String {
    let bytes = fs::read(host.log()).unwrap_or_default();
    tail(String::from_utf8_lossy(&bytes).trim_end(), LOG_TAIL_BYTES_MAX).to_owned()
}

/// What became of the agents of a kept demo.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Stopped {
    /// They were running, and are not any more.
    pub ended: Vec<String>,
    /// They were not running, or their process id is another program's by now.
    pub absent: Vec<String>,
}

/// Ends the agents of a demo that was kept in `dir`.
pub async fn stop(dir: &Path) -> Result<Stopped, DemoError> {
    let path = dir.join(RECORD);
    let record = match read_record(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(DemoError::NoDemo { path: dir.to_owned() });
        }
        read => read.map_err(DemoError::io(&path))?,
    };
    let mut stopped = Stopped::default();
    let mut asked = Vec::new();
    for (host, agent) in record.agents {
        if is_agent(&record.program, &agent) {
            signal(Some(agent.pid), Signal::SIGTERM);
            asked.push((host, agent));
        } else {
            stopped.absent.push(host);
        }
    }
    for (host, agent) in asked {
        let ended = async {
            while is_agent(&record.program, &agent) {
                sleep(END_LOOK).await;
            }
        };
        if timeout(END_MAX, ended).await.is_err() && is_agent(&record.program, &agent) {
            signal(Some(agent.pid), Signal::SIGKILL);
        }
        stopped.ended.push(host);
    }
    fs::remove_file(&path).map_err(DemoError::io(&path))?;
    Ok(stopped)
}

fn read_record(path: &Path) -> io::Result<Record> {
    let length = fs::metadata(path)?.len();
    if length > RECORD_BYTES_MAX {
        return Err(io::Error::other(format!("more than {RECORD_BYTES_MAX} bytes")));
    }
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

/// Whether a process still is the agent that was started: process ids are used again.
fn is_agent(program: &Path, agent: &Recorded) -> bool {
    let proc = PathBuf::from(format!("/proc/{}", agent.pid));
    let Ok(exe) = fs::read_link(proc.join("exe")) else { return false };
    let Ok(cmdline) = fs::read(proc.join("cmdline")) else { return false };
    // The kernel says so of a program whose file an upgrade has replaced.
    let same =
        exe == program || exe.to_str().and_then(|exe| exe.strip_suffix(" (deleted)")) == program.to_str();
    let config = agent.config.to_string_lossy();
    same && cmdline.ends_with(format!("\0agent\0--config\0{config}\0").as_bytes())
}

fn signal(pid: Option<u32>, signal: Signal) {
    let Some(pid) = pid.and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 1) else { return };
    match kill(Pid::from_raw(pid), signal) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => tracing::warn!(pid, %signal, %error, "an agent cannot be signalled"),
    }
}

fn peak_kib(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn the_peak_of_memory_is_read_from_what_the_kernel_says() {
        assert_eq!(
            peak_kib("Name:\tmuster\nVmPeak:\t 9000 kB\nVmHWM:\t   18432 kB\nVmRSS: 1 kB\n"),
            Some(18432)
        );
        assert_eq!(peak_kib("Name:\tmuster\n"), None);
        let own = fs::read_to_string("/proc/self/status").unwrap();
        assert!(peak_kib(&own).unwrap() > 0);
    }

    #[tokio::test]
    async fn only_a_process_that_still_is_the_agent_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(stop(folder.path()).await, Err(DemoError::NoDemo { .. })));

        let config = folder.path().join("muster.toml");
        // A shell stands in for the agent: what counts is which file runs, and the end of its command line.
        let script = folder.path().join("agent");
        fs::write(&script, "exec 2>&-; while :; do sleep 0.05; done").unwrap();
        let shell = fs::canonicalize("/bin/sh").unwrap();
        let spawn = |config: &Path| {
            let mut command = Command::new(&shell);
            command.current_dir(folder.path()).arg("agent").arg("--config").arg(config);
            command.kill_on_drop(true).spawn().unwrap()
        };
        let (mut agent, mut other) = (spawn(&config), spawn(Path::new("/elsewhere")));
        let recorded = |child: &Child| Recorded { pid: child.id().unwrap(), config: config.clone() };
        let agents = [
            ("agent".to_owned(), recorded(&agent)),
            ("other".to_owned(), recorded(&other)),
            ("gone".to_owned(), Recorded { pid: 0, config: config.clone() }),
        ];
        while !is_agent(&shell, &agents[0].1) {
            tokio::task::yield_now().await;
        }
        let record = Record { schema: 1, program: shell.clone(), agents: agents.into() };
        fs::write(folder.path().join(RECORD), serde_json::to_vec(&record).unwrap()).unwrap();

        let (stopped, ended) = tokio::join!(stop(folder.path()), agent.wait());
        assert_eq!(
            stopped.unwrap(),
            Stopped { ended: vec!["agent".to_owned()], absent: vec!["gone".to_owned(), "other".to_owned()] }
        );
        assert!(!ended.unwrap().success());
        assert_eq!(other.try_wait().unwrap(), None);
        other.kill().await.unwrap();
        assert!(!folder.path().join(RECORD).exists());
    }
}
