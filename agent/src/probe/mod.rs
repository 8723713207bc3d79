//! Looks at a host's health: runs the probes that a closure declares, each in its own rhythm.

pub mod evidence;
pub mod exec;
pub mod health_checks;
pub mod http;
pub mod peers;
pub mod systemd;
pub mod tcp;

use std::sync::Arc;
use std::time::Duration;

use muster_core::id::ProbeName;
use muster_core::wire::{DeclaredProbe, FAILURE_REASON_BYTES_MAX, ProbeMode, ProbeStatus, SubResult};
use muster_gossip::PeerInfo;
use muster_signing::PublicKey;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::text::head;

/// One probe as its closure declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeSpec {
    /// Its name.
    pub name: ProbeName,
    /// Whether it gates.
    pub mode: ProbeMode,
    /// From one run's beginning to the next one's.
    pub interval: Duration,
    /// How long a run may take.
    pub timeout: Duration,
    /// What it does.
    pub check: Check,
}

/// What a probe does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// Asks a web server.
    Http(http::Http),
    /// Opens a connection.
    Tcp(tcp::Tcp),
    /// Runs a program.
    Exec(exec::Exec),
    /// Asks systemd of units.
    Systemd(systemd::Systemd),
    /// Counts the members that can be reached.
    Peers(peers::Peers),
    /// Reads what another program found out about controls.
    Evidence(evidence::Evidence),
}

/// What probes look at besides the machine.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The members of the fleet, and which of them are connected.
    pub peers: watch::Receiver<Arc<Vec<PeerInfo>>>,
    /// This host's key, which signs its evidence.
    pub key: PublicKey,
}

impl Check {
    /// The kind's name, as in the health checks.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Http(_) => "http",
            Self::Tcp(_) => "tcp",
            Self::Exec(_) => "exec",
            Self::Systemd(_) => "systemd",
            Self::Peers(_) => "peers",
            Self::Evidence(_) => "evidence",
        }
    }
}

impl ProbeSpec {
    /// What the host says of the probe before it runs it.
    pub fn declared(&self) -> DeclaredProbe {
        DeclaredProbe { probe_name: self.name.clone(), kind: self.check.kind().to_owned(), mode: self.mode }
    }

    /// Runs the probe once: why it fails, and one result per control of an evidence probe.
    pub async fn run(
        &self,
        around: &Surroundings,
        memory: &mut evidence::Memory,
    ) -> (Result<(), String>, Option<Vec<SubResult>>) {
        let mut sub_results = None;
        let run = async {
            match &self.check {
                Check::Http(check) => check.run().await,
                Check::Tcp(check) => check.run().await,
                Check::Exec(check) => check.run(self.timeout).await,
                Check::Systemd(check) => check.run(self.timeout).await,
                Check::Peers(check) => check.run(&around.peers),
                Check::Evidence(check) => {
                    let (result, results) = check.run(&around.key, memory);
                    sub_results = results;
                    result
                }
            }
        };
        // A program ends by its own deadline, which tells more of what it said; this one is for everything else.
        let patience = match &self.check {
            Check::Exec(_) | Check::Systemd(_) => self.timeout.saturating_mul(2),
            Check::Http(_) | Check::Tcp(_) | Check::Peers(_) | Check::Evidence(_) => self.timeout,
        };
        let result = timeout(patience, run).await;
        let result =
            result.unwrap_or_else(|_| Err(format!("no answer after {} s", self.timeout.as_secs_f64())));
        (result, sub_results)
    }
}

/// One run of one probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeRun {
    /// Which start of the runners it belongs to; what an earlier start still sends is over.
    pub generation: u64,
    /// The probe.
    pub probe: ProbeName,
    /// Its declared mode.
    pub mode: ProbeMode,
    /// How it went.
    pub status: ProbeStatus,
    /// Why it failed, at most [`FAILURE_REASON_BYTES_MAX`] bytes.
    pub failure_reason: Option<String>,
    /// One result per control of an evidence probe.
    pub sub_results: Option<Vec<SubResult>>,
}

/// The probes that run now, each in a task of its own.
#[derive(Debug)]
pub struct Runners {
    generation: u64,
    tasks: JoinSet<()>,
    results: mpsc::Sender<ProbeRun>,
    around: Surroundings,
}

impl Runners {
    /// No probes yet; every run's result will go to `results`.
    pub fn new(results: mpsc::Sender<ProbeRun>, around: Surroundings) -> Self {
        Self { generation: 0, tasks: JoinSet::new(), results, around }
    }

    /// What the probes look at besides the machine.
    pub fn around(&self) -> &Surroundings {
        &self.around
    }

    /// Stops what runs and starts every probe that is not disabled, at once; returns the generation of their results.
    pub fn start(&mut self, specs: &[ProbeSpec]) -> u64 {
        self.stop();
        self.generation += 1;
        for spec in specs.iter().filter(|spec| spec.mode != ProbeMode::Disabled) {
            let (results, around) = (self.results.clone(), self.around.clone());
            self.tasks.spawn(repeat(spec.clone(), self.generation, results, around));
        }
        self.generation
    }

    /// Stops every probe, also in the middle of a run.
    pub fn stop(&mut self) {
        self.tasks = JoinSet::new();
    }

    /// The generation of the last start; 0 before the first.
    pub fn generation(&self) -> u64 {
        self.generation
    }
}

async fn repeat(spec: ProbeSpec, generation: u64, results: mpsc::Sender<ProbeRun>, around: Surroundings) {
    let mut memory = evidence::Memory::default();
    let mut rhythm = interval(spec.interval);
    rhythm.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        rhythm.tick().await;
        let (result, sub_results) = spec.run(&around, &mut memory).await;
        let (status, failure_reason) = match result {
            Ok(()) => (ProbeStatus::Pass, None),
            Err(reason) => (ProbeStatus::Fail, Some(head(&reason, FAILURE_REASON_BYTES_MAX).to_owned())),
        };
        let (probe, mode) = (spec.name.clone(), spec.mode);
        let run = ProbeRun { generation, probe, mode, status, failure_reason, sub_results };
        if results.send(run).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    pub(super) fn around() -> Surroundings {
        let (_, peers) = watch::channel(Arc::default());
        Surroundings { peers, key: muster_signing::SigningKey::from_seed([7; 32]).public() }
    }

    fn exec(name: &str, mode: ProbeMode, command: &[&str]) -> ProbeSpec {
        ProbeSpec {
            name: name.parse().unwrap(),
            mode,
            interval: Duration::from_millis(1),
            timeout: Duration::from_secs(10),
            check: Check::Exec(exec::Exec {
                command: command.iter().map(|word| (*word).to_owned()).collect(),
                expect_exit_code: 0,
                dir: "/".into(),
            }),
        }
    }

    #[tokio::test]
    async fn every_enabled_probe_runs_at_once_and_again_and_a_restart_has_a_new_generation() {
        let (sender, mut receiver) = mpsc::channel(1);
        let mut runners = Runners::new(sender, around());
        let specs = [
            exec("good", ProbeMode::Enforce, &["true"]),
            exec("bad", ProbeMode::Observe, &["false"]),
            exec("off", ProbeMode::Disabled, &["true"]),
        ];
        assert_eq!(runners.start(&specs), 1);
        let (mut good, mut bad) = (0, 0);
        while good < 2 || bad < 2 {
            let run = receiver.recv().await.unwrap();
            assert_eq!(run.generation, 1);
            match run.probe.as_str() {
                "good" => {
                    assert_eq!((run.status, run.mode), (ProbeStatus::Pass, ProbeMode::Enforce));
                    good += 1;
                }
                "bad" => {
                    assert_eq!((run.status, run.mode), (ProbeStatus::Fail, ProbeMode::Observe));
                    assert_eq!(run.failure_reason.unwrap(), "exit code 1, expected 0");
                    bad += 1;
                }
                other => panic!("{other} is disabled"),
            }
        }
        assert_eq!(runners.start(&specs[..1]), 2);
        loop {
            let run = receiver.recv().await.unwrap();
            if run.generation == 2 {
                break;
            }
        }
    }

    #[tokio::test]
    async fn a_stopped_runner_kills_the_program_it_is_in_the_middle_of() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let (sender, _receiver) = mpsc::channel(1);
        let mut runners = Runners::new(sender, around());
        // The program holds the pipe open for writing until it is killed, so its end is the pipe's end.
        let script = format!("exec 3>{}; echo begun >&3; sleep 1000 & sleep 1000", fifo.display());
        runners.start(&[exec("stuck", ProbeMode::Enforce, &["sh", "-c", &script])]);
        let mut reader = tokio::net::unix::pipe::OpenOptions::new().open_receiver(&fifo).unwrap();
        let mut said = Vec::new();
        while said != b"begun\n" {
            reader.readable().await.unwrap();
            let mut buffer = [0; 16];
            if let Ok(count) = reader.try_read(&mut buffer) {
                said.extend_from_slice(&buffer[..count]);
            }
        }
        runners.stop();
        tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut said).await.unwrap();
        assert_eq!(said, b"begun\n");
    }

    #[tokio::test]
    async fn a_failure_reason_is_cut_to_what_an_event_carries() {
        let (sender, mut receiver) = mpsc::channel(1);
        let mut runners = Runners::new(sender, around());
        let loud = "head -c 2000 /dev/zero | tr '\\0' x >&2; exit 3";
        runners.start(&[exec("loud", ProbeMode::Enforce, &["sh", "-c", loud])]);
        let reason = receiver.recv().await.unwrap().failure_reason.unwrap();
        assert!(reason.starts_with("exit code 3, expected 0: x"), "{reason}");
        assert_eq!(reason.len(), FAILURE_REASON_BYTES_MAX);
    }
}
