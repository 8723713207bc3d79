//! A daemon on a NixOS machine that is killed, loses its power or is booted at every step of a rollout, over programs that
//! stand in for Nix and systemd.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod helped;

use std::sync::Arc;

use muster_core::id::{Closure, HostId, RolloutId};
use muster_core::wire::HostState;
use muster_signing::{DocumentParts, Namespace, sign_document};
use serde_json::{Value, json};

use super::*;
use crate::activation::Nixos;
use crate::activation::nixos::testing::{Bench, Held};
use crate::config::Component;
use crate::control::{Answer, Query, wire};

/// How long anything may take before a test gives up.
const LONG: Duration = Duration::from_secs(60);
/// How often a test looks at the daemon.
const LOOK: Duration = Duration::from_millis(10);

/// The only host of its fleet: a machine, and what its agent keeps.
struct Host {
    bench: Bench,
    old: Closure,
    soak_secs: u64,
}

/// What a test does with a daemon that runs.
struct Life<'a> {
    daemon: Daemon,
    host: &'a Host,
}

impl Host {
    /// A machine that runs its first system, and an agent that was never started.
    fn new(soak_secs: u64) -> Self {
        let bench = Bench::new();
        let old = bench.system("old", &[]);
        bench.boot(&old);
        bench.install(&old);
        keys::write_pair(&bench.path("host"), &testing::alpha(), "").unwrap();
        std::fs::write(bench.path("trust.json"), testing::trust()).unwrap();
        Self { bench, old, soak_secs }
    }

    fn config(&self) -> Config {
        let path = |name: &str| self.bench.path(name).display().to_string();
        let mut text = format!(
            "fleet = \"home\"\nhost = \"alpha\"\nstate_dir = {:?}\nidentity = {:?}\ntrust = {:?}\nsocket = {:?}\n\
             listen = [\"/ip4/127.0.0.1/udp/0/quic-v1\"]\nhealth_checks = {:?}\nheartbeat_seconds = 0.2\n",
            path("state"),
            path("host"),
            path("trust.json"),
            path("muster.sock"),
            path("health-checks.json")
        );
        if self.bench.path("muster.toml").exists() {
            text.push_str(&format!("[activation]\nhelper = {:?}\n", path("activate.sock")));
        }
        Config::from_text(Path::new("muster.toml"), &text, |_| None).unwrap()
    }

    /// One life of the agent: it is killed, not stopped, when the test is done with it.
    fn lives(&self, boot_id: &str, test: impl AsyncFnOnce(&mut Life<'_>)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let machine = self.bench.machine.clone();
            let root = Arc::new(machine.clone());
            let backend = Nixos::new(machine, root, vec![Component::Dbus], &self.bench.path("state"));
            let backend = Backend::Nixos(backend);
            let daemon = Daemon::start_on(self.config(), backend, boot_id.to_owned()).await.unwrap();
            let mut life = Life { daemon, host: self };
            test(&mut life).await;
        });
    }

    fn fleet(&self) -> DocumentParts {
        let [alice, alpha] = [testing::operator(), testing::alpha()].map(|key| key.public().to_openssh());
        let fleet = json!({
            "kind": "muster/fleet/1", "fleet": "home", "serial": 1, "signedAt": "2026-01-01T10:00:00Z",
            "operators": { "alice": alice },
            "thresholds": { "fleet": 1, "channelRef": 1, "command": 1 },
            "coordinators": { "selector": { "all": true }, "tolerate": "crash" },
            "hosts": { "alpha": { "key": alpha, "channel": "stable" } },
            "channels": { "stable": { "rolloutPolicy": "all", "freshnessWindowMinutes": 60 } },
            "rolloutPolicies": { "all": {
                "waves": [{ "selector": { "all": true }, "soakSeconds": self.soak_secs }],
                "onHealthFailure": "rollback-and-halt", "activationTimeoutSeconds": 60
            } }
        });
        signed(Namespace::Fleet, &fleet)
    }

    fn release(&self, target: &Closure) -> DocumentParts {
        let fleet_hash = muster_signing::sha256(&self.fleet().bytes);
        let release = json!({
            "kind": "muster/channel-ref/1", "fleet": "home", "channel": "stable", "ref": "r1", "serial": 1,
            "signedAt": Utc::now(), "fleetSerial": 1, "fleetHash": fleet_hash.to_string(),
            "targets": { "alpha": target }
        });
        signed(Namespace::ChannelRef, &release)
    }

    /// The switches so far, by the ends of the systems' names.
    fn switched(&self) -> Vec<String> {
        let short = |line: String| {
            let (action, path) = line.split_once(' ').unwrap();
            format!("{action} {}", path.rsplit('-').next().unwrap())
        };
        self.bench.switched().into_iter().map(short).collect()
    }
}

fn signed(namespace: Namespace, document: &Value) -> DocumentParts {
    let bytes = document.to_string().into_bytes();
    let signatures = vec![sign_document(&testing::operator(), namespace, &bytes)];
    DocumentParts { bytes, signatures }
}

fn alpha() -> HostId {
    "alpha".parse().unwrap()
}

fn rollout() -> RolloutId {
    "stable@r1".parse().unwrap()
}

impl Life<'_> {
    /// Runs the daemon until what is looked for is there.
    async fn until(&mut self, what: &str, seen: impl Fn(&Daemon) -> bool) {
        let begun = Instant::now();
        while !seen(&self.daemon) {
            assert!(
                begun.elapsed() < LONG,
                "{what} did not come; {:?}, {:?}",
                self.state(),
                self.host.bench.log()
            );
            if let Ok(ended) = tokio::time::timeout(LOOK, self.daemon.serve()).await {
                panic!("the loop ended: {ended:?}");
            }
        }
    }

    fn state(&self) -> Option<HostState> {
        state(&self.daemon)
    }

    async fn reaches(&mut self, wanted: HostState) {
        self.until(wanted.name(), |daemon| state(daemon) == Some(wanted)).await;
    }

    /// Publishes the fleet document and a release of one target.
    async fn releases(&mut self, target: &Closure) {
        for parts in [self.host.fleet(), self.host.release(target)] {
            let (reply, mut answer) = tokio::sync::oneshot::channel();
            self.daemon.request(Request { ask: Ask::Publish(parts), peer: None, reply });
            let begun = Instant::now();
            loop {
                if let Ok(answer) = answer.try_recv() {
                    answer.unwrap();
                    break;
                }
                assert!(begun.elapsed() < LONG);
                let _ = tokio::time::timeout(LOOK, self.daemon.serve()).await;
            }
        }
    }

    async fn status(&mut self) -> wire::HostStatus {
        let (reply, answer) = tokio::sync::oneshot::channel();
        self.daemon.request(Request { ask: Ask::Query(Query::Status), peer: None, reply });
        match answer.await.unwrap() {
            Ok(Answer::Status(status)) => status.hosts.into_iter().next().unwrap(),
            other => panic!("no status: {other:?}"),
        }
    }
}

fn state(daemon: &Daemon) -> Option<HostState> {
    daemon.node.ledger().record(&alpha(), &rollout()).map(|mirrored| mirrored.record.state)
}

#[test]
fn a_fresh_install_fetches_switches_and_converges() {
    let host = Host::new(0);
    let new = host.bench.cached("new", &[]);
    host.lives("boot-1", async |life| {
        life.releases(&new).await;
        life.reaches(HostState::Converged).await;
        let status = life.status().await;
        assert_eq!(
            (status.current.as_deref(), status.fetching, status.reboot_pending),
            (Some(new.as_str()), None, false)
        );
    });
    assert_eq!(host.switched(), ["switch new"]);
    // A later life owes nothing.
    host.lives("boot-1", async |life| life.reaches(HostState::Converged).await);
    assert_eq!(host.switched(), ["switch new"]);
}

#[test]
fn a_target_that_cannot_be_fetched_holds_the_dispatch_and_says_why() {
    let host = Host::new(0);
    let gone: Closure = format!("/nix/store/{}-gone", "1".repeat(32)).parse().unwrap();
    host.lives("boot-1", async |life| {
        life.releases(&gone).await;
        life.until("a reason", |daemon| {
            let fetching = daemon.node.fetching_of(&alpha());
            // It is fetched from the moment on in which the ref is accepted, which is before the rollout opens.
            daemon.node.ledger().rollouts().contains_key(&rollout())
                && fetching.is_some_and(|it| it.starts_with("cannot be fetched (try 1 of "))
        })
        .await;
        let status = life.status().await;
        assert!(status.fetching.unwrap().contains("does not exist"));
        assert!(status.waits_for.unwrap().contains("has not fetched its target yet"));
        assert_eq!(life.state(), None);
    });
    assert_eq!(host.switched(), [""; 0]);
}

#[test]
fn killed_before_its_switch_began_it_begins_it() {
    let host = Host::new(0);
    let new = host.bench.system("new", &[]);
    let hold = host.bench.hold(Held::Profile);
    host.lives("boot-1", async |life| {
        life.releases(&new).await;
        life.reaches(HostState::Activating).await;
    });
    assert_eq!(host.switched(), [""; 0]);
    hold.release();
    host.lives("boot-1", async |life| life.reaches(HostState::Converged).await);
    assert_eq!(host.switched(), ["switch new"]);
}

#[test]
fn killed_during_its_switch_it_waits_for_its_end_and_killed_after_it_reads_how_it_ended() {
    for ends_alone in [false, true] {
        let host = Host::new(0);
        let new = host.bench.system("new", &[]);
        let hold = host.bench.hold(Held::Switcher);
        host.lives("boot-1", async |life| {
            life.releases(&new).await;
            life.until("the switch", |_| host.bench.path("switcher.holds").exists()).await;
        });
        if ends_alone {
            hold.release();
            let released = Instant::now();
            while host.bench.machine.current() != Some(new.clone()) {
                assert!(released.elapsed() < LONG, "the switch does not end");
                std::thread::sleep(LOOK);
            }
        }
        host.lives("boot-1", async |life| {
            if !ends_alone {
                hold.release();
            }
            life.reaches(HostState::Converged).await;
        });
        assert_eq!(host.switched(), ["switch new"]);
    }
}

#[test]
fn a_power_cut_during_the_switch_is_a_failed_activation_whose_boot_loader_is_set_back() {
    let host = Host::new(0);
    let new = host.bench.system("new", &[]);
    let _hold = host.bench.hold(Held::Switcher);
    host.lives("boot-1", async |life| {
        life.releases(&new).await;
        life.until("the switch", |_| host.bench.path("switcher.holds").exists()).await;
    });
    host.bench.boot(&host.old);
    host.lives("boot-2", async |life| life.reaches(HostState::Reverted).await);
    assert_eq!(host.switched(), ["switch new", "boot old"]);
    assert_eq!(host.bench.machine.profile(), Some(host.old.clone()));
}

#[test]
fn a_power_cut_during_the_soak_begins_the_soak_again() {
    let host = Host::new(2);
    let new = host.bench.system("new", &[]);
    host.lives("boot-1", async |life| {
        life.releases(&new).await;
        life.reaches(HostState::Soaking).await;
    });
    host.bench.boot(&new);
    let begun = Instant::now();
    host.lives("boot-2", async |life| {
        life.reaches(HostState::Soaking).await;
        life.reaches(HostState::Converged).await;
    });
    assert!(begun.elapsed() >= Duration::from_secs(2));
    assert_eq!(host.switched(), ["switch new"]);
}

#[test]
fn a_reboot_into_the_target_ends_the_wait_and_one_into_the_old_system_fails_it() {
    for comes_up in [true, false] {
        let host = Host::new(0);
        let new = host.bench.system("new", &[("sw/bin/dbus-daemon", "another")]);
        host.lives("boot-1", async |life| {
            life.releases(&new).await;
            life.reaches(HostState::Deferred).await;
        });
        // A restart of the agent alone changes nothing.
        host.lives("boot-1", async |life| {
            life.until("an answer", |daemon| daemon.node.running().is_some()).await;
            life.reaches(HostState::Deferred).await;
        });
        host.bench.boot(if comes_up { &new } else { &host.old });
        let end = if comes_up { HostState::Converged } else { HostState::Reverted };
        host.lives("boot-2", async |life| life.reaches(end).await);
        let expected: &[&str] = if comes_up { &["boot new"] } else { &["boot new", "boot old"] };
        assert_eq!(host.switched(), expected);
        let system = if comes_up { new } else { host.old.clone() };
        assert_eq!(host.bench.machine.profile(), Some(system));
    }
}

#[test]
fn a_machine_that_is_booted_again_and_again_while_it_soaks_goes_back() {
    let host = Host::new(600);
    let new = host.bench.system("new", &[]);
    host.lives("boot-0", async |life| {
        life.releases(&new).await;
        life.reaches(HostState::Soaking).await;
    });
    for boot in 1..=6 {
        host.bench.boot(&new);
        host.lives(&format!("boot-{boot}"), async |life| {
            let wanted = if boot <= 5 { HostState::Soaking } else { HostState::Reverted };
            life.until("an answer", |daemon| daemon.node.running().is_some()).await;
            life.reaches(wanted).await;
        });
    }
    assert_eq!(host.switched(), ["switch new", "switch old"]);
    assert_eq!(host.bench.machine.current(), Some(host.old.clone()));
}

#[test]
fn a_switch_that_degrades_the_system_or_brings_broken_health_checks_goes_back() {
    let icmp = r#"{"a":{"kind":"icmp","mode":"enforce"}}"#;
    for (file, text, switches) in [
        ("degrades", "", &["switch new", "switch old"][..]),
        // What cannot be judged is not even switched to.
        ("etc/muster/health-checks.json", icmp, &[]),
    ] {
        let host = Host::new(0);
        let new = host.bench.system("new", &[(file, text)]);
        host.lives("boot-1", async |life| {
            life.releases(&new).await;
            life.reaches(HostState::Reverted).await;
            // The units are let go of once their results are stored and the probes begin.
            let units = host.bench.path("units");
            life.until("tidy units", |_| std::fs::read_dir(&units).unwrap().next().is_none()).await;
        });
        assert_eq!(host.switched(), switches);
        assert_eq!(host.bench.machine.profile(), Some(host.old.clone()));
    }
}
