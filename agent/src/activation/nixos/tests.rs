//! Tests of the backend's ways, over programs that stand in for Nix and systemd.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::time::Duration;

use super::*;
use crate::activation::nixos::testing::{Bench, Held};
use crate::activation::{Outcome, Switched, Trace};

const LONG: Duration = Duration::from_secs(60);

/// A machine that runs one system, with a backend that defers every component.
struct Host {
    bench: Bench,
    backend: Nixos,
    old: Closure,
}

impl Host {
    fn new() -> Self {
        let bench = Bench::new();
        let old = bench.system("old", &[("kernel", "1")]);
        bench.boot(&old);
        bench.install(&old);
        let root = Arc::new(bench.machine.clone());
        let backend = Nixos::new(bench.machine.clone(), root, vec![Component::Dbus], &bench.path("state"));
        Self { bench, backend, old }
    }

    fn job(&self, task: Task, target: &Closure) -> Job {
        Job {
            rollout: "stable@r1".parse().unwrap(),
            task,
            target: target.clone(),
            previous: Some(self.old.clone()),
            log_index: 7,
        }
    }

    async fn switch(&self, target: &Closure) -> Switched {
        self.backend.switch(self.job(Task::Switch, target), None, LONG).await
    }

    async fn roll_back(&self) -> Switched {
        self.backend.switch(self.job(Task::RollBack, &self.old), None, LONG).await
    }

    async fn trace(&self, target: &Closure) -> Trace {
        self.backend.trace(&self.job(Task::Switch, target)).await
    }

    fn is_back(&self) -> bool {
        let old = Some(self.old.clone());
        self.bench.machine.current() == old && self.bench.machine.profile() == old
    }
}

fn ended(switched: Switched) -> Outcome {
    match switched {
        Switched::Ended(outcome) => outcome,
        Switched::Deferred { component } => panic!("waits for {component}"),
    }
}

#[tokio::test]
async fn a_switch_ends_on_its_target_and_its_unit_is_kept_until_the_result_is_stored() {
    let host = Host::new();
    let new = host.bench.system("new", &[("kernel", "2")]);
    let outcome = ended(host.switch(&new).await);
    assert_eq!((outcome.exit_code, &outcome.observed), (0, &Some(new.clone())), "{outcome:?}");
    assert!(host.backend.reboot_is_pending(), "its kernel is another one");
    assert_eq!(host.trace(&new).await, Trace::Ended(outcome));
    host.backend.settle().await;
    assert_eq!(host.trace(&new).await, Trace::None);
    let root = |part: &str| fs::read_link(host.bench.path(&format!("state/roots/{part}"))).unwrap();
    let back = format!("back-{}", host.old.as_str().trim_start_matches("/nix/store/"));
    assert_eq!((root("target"), root(&back)), (new.as_str().into(), host.old.as_str().into()));
}

#[tokio::test]
async fn exit_codes_and_what_runs_are_both_looked_at() {
    for (file, exit_code, said, moved) in [
        ("breaks", 1, "it breaks at once", false),
        ("degrades", 4, "the system was switched to, and units of it failed", true),
        ("elsewhere", -1, "it exited with 0, but /run/current-system is /nix/store/0000", true),
    ] {
        let host = Host::new();
        let bad = host.bench.system("bad", &[(file, "")]);
        let outcome = ended(host.switch(&bad).await);
        assert_eq!(outcome.exit_code, exit_code, "{outcome:?}");
        assert!(outcome.stderr_tail.contains(said), "{outcome:?}");
        assert_eq!(outcome.observed != Some(host.old.clone()), moved, "{outcome:?}");
        assert_eq!(host.bench.machine.profile(), Some(bad));
        // The way back is right whatever the failed switch left: also where what runs did not move, it may be half done.
        let back = ended(host.roll_back().await);
        assert_eq!((back.exit_code, &back.observed), (0, &Some(host.old.clone())), "{back:?}");
        assert!(host.is_back());
        assert_eq!(host.bench.switched().last().unwrap(), &format!("switch {}", host.old));
        // It may be done twice.
        assert_eq!(ended(host.roll_back().await).exit_code, 0);
        assert!(host.is_back());
    }
}

#[tokio::test]
async fn a_component_that_cannot_be_swapped_waits_for_the_reboot_and_is_taken_back_at_the_boot_loader() {
    let host = Host::new();
    let new = host.bench.system("new", &[("sw/bin/dbus-daemon", "another")]);
    let waits = Switched::Deferred { component: "dbus".to_owned() };
    assert_eq!(host.switch(&new).await, waits);
    assert_eq!(host.bench.machine.current(), Some(host.old.clone()));
    assert_eq!(host.bench.machine.profile(), Some(new.clone()));
    assert_eq!(host.trace(&new).await, Trace::Deferred { component: "dbus".to_owned() });
    assert_eq!(ended(host.roll_back().await).exit_code, 0);
    assert!(host.is_back());
    assert_eq!(host.bench.switched(), [format!("boot {new}"), format!("boot {}", host.old)]);
}

#[tokio::test]
async fn a_rollback_that_left_the_profile_where_it_was_has_not_worked() {
    let host = Host::new();
    let new = host.bench.system("new", &[("sw/bin/dbus-daemon", "another")]);
    host.switch(&new).await;
    // Between the order and its end somebody sets the profile to the bad system again.
    let hold = host.bench.hold(Held::Switcher);
    let job = host.job(Task::RollBack, &host.old);
    let back = host.backend.switch(job, None, LONG);
    let meddle = async {
        hold.begun().await;
        fs::remove_file(&host.bench.machine.profile).unwrap();
        std::os::unix::fs::symlink("system-9-link", &host.bench.machine.profile).unwrap();
        std::os::unix::fs::symlink(new.as_str(), host.bench.path("profiles/system-9-link")).unwrap();
        hold.release();
    };
    let (back, ()) = tokio::join!(back, meddle);
    let back = ended(back);
    assert_eq!(back.exit_code, -1, "{back:?}");
    assert!(back.stderr_tail.contains(&format!("but the profile is {new}")), "{back:?}");
}

#[tokio::test]
async fn a_boot_loader_that_fails_is_a_failed_activation() {
    let host = Host::new();
    let new = host.bench.system("new", &[("sw/bin/dbus-daemon", "another"), ("no-boot-loader", "")]);
    let outcome = ended(host.switch(&new).await);
    assert_eq!((outcome.exit_code, &outcome.observed), (1, &Some(host.old.clone())), "{outcome:?}");
    assert!(outcome.stderr_tail.contains("no boot loader"), "{outcome:?}");
    assert_eq!(ended(host.roll_back().await).exit_code, 0);
    assert!(host.is_back());
}

#[tokio::test]
async fn nothing_is_touched_before_everything_is_known_to_be_in_place() {
    let host = Host::new();
    let gone: Closure = format!("/nix/store/{}-gone", "1".repeat(32)).parse().unwrap();
    let torn = host.bench.system("torn", &[("switch-inhibitors", "{")]);
    let icmp = r#"{"a":{"kind":"icmp","mode":"enforce"}}"#;
    let ill = host.bench.system("ill", &[("etc/muster/health-checks.json", icmp)]);
    let unsigned = host.bench.system("unsigned", &[]);
    for (target, contents, problem) in [
        ("dir:v1".parse().unwrap(), None, "is not a store path"),
        (gone, None, "does not exist"),
        (torn, None, "switch-inhibitors: EOF"),
        (ill, None, "kind \"icmp\" is not one of"),
        (unsigned, Some(muster_signing::sha256(b"signed")), "No such file"),
    ] {
        let job = host.job(Task::Switch, &target);
        let outcome = ended(host.backend.switch(job, contents, LONG).await);
        assert_eq!((outcome.exit_code, &outcome.observed), (-1, &Some(host.old.clone())));
        assert!(outcome.stderr_tail.contains(problem), "{outcome:?}");
    }
    // Nothing is to be taken back, either.
    assert_eq!(ended(host.roll_back().await).exit_code, 0);
    assert!(host.is_back());
    assert_eq!(host.bench.switched(), [""; 0]);
}

#[tokio::test]
async fn a_switch_to_what_was_fetched_ahead_finds_it_and_the_way_back_in_place() {
    let host = Host::new();
    let [new, newer] = ["new", "newer"].map(|name| host.bench.cached(name, &[]));
    let realised = || host.bench.log().iter().filter(|line| line.contains("--realise --add-root")).count();
    let roots = || fs::read_dir(host.bench.path("state/roots")).unwrap().count();
    for (log_index, target, known) in [(7, &new, 2), (8, &newer, 3)] {
        let goods = Goods { closure: target.clone(), contents: None };
        host.backend.prefetch(&goods, &mut |_| {}).await;
        let before = realised();
        let previous = host.backend.current();
        let job = Job { log_index, previous, ..host.job(Task::Switch, target) };
        assert_eq!(ended(host.backend.switch(job, None, LONG).await).exit_code, 0);
        assert_eq!((realised(), roots()), (before, known), "two were fetched ahead, one is the way back");
    }
    // One that is gone although it was fetched ahead is fetched again.
    fs::remove_dir_all(host.bench.machine.real(new.as_str())).unwrap();
    let job = Job { log_index: 9, previous: Some(newer), ..host.job(Task::Switch, &new) };
    assert_eq!(ended(host.backend.switch(job, None, LONG).await).exit_code, 0);
}

#[tokio::test]
async fn a_switch_is_found_again_by_an_agent_that_was_restarted() {
    let host = Host::new();
    let new = host.bench.system("new", &[]);
    assert_eq!(host.trace(&new).await, Trace::None);
    let hold = host.bench.hold(Held::Switcher);
    let job = host.job(Task::Switch, &new);
    let first = tokio::spawn({
        let (backend, job) = (host.backend.clone(), job.clone());
        async move { backend.switch(job, None, LONG).await }
    });
    hold.begun().await;
    // The agent is killed: what waited for the end is gone, and the unit is not.
    first.abort();
    assert_eq!(host.trace(&new).await, Trace::Running);
    hold.release();
    let outcome = ended(host.backend.wait(&job).await);
    assert_eq!((outcome.exit_code, &outcome.observed), (0, &Some(new.clone())));
    assert_eq!(host.bench.switched(), [format!("switch {new}")]);
    // A boot ends every transient unit: what runs then is all that is known.
    host.bench.boot(&new);
    assert_eq!(host.trace(&new).await, Trace::None);
}

#[tokio::test]
async fn a_rollback_overtakes_a_switch_that_does_not_end() {
    let host = Host::new();
    let new = host.bench.system("new", &[]);
    let hold = host.bench.hold(Held::Switcher);
    let (backend, job) = (host.backend.clone(), host.job(Task::Switch, &new));
    let stuck = tokio::spawn(async move { backend.switch(job, None, LONG).await });
    hold.begun().await;
    assert_eq!(ended(host.roll_back().await).exit_code, 0);
    assert!(host.is_back());
    let outcome = ended(stuck.await.unwrap());
    assert!(outcome.exit_code != 0, "{outcome:?}");
    assert_eq!(host.bench.switched(), [format!("switch {new}"), format!("switch {}", host.old)]);
}

#[tokio::test]
async fn a_switch_that_was_given_up_before_it_began_does_not_begin() {
    let host = Host::new();
    let new = host.bench.system("new", &[]);
    let hold = host.bench.hold(Held::Store);
    let (backend, job) = (host.backend.clone(), host.job(Task::Switch, &new));
    let late = tokio::spawn(async move { backend.switch(job, None, LONG).await });
    hold.begun().await;
    assert_eq!(ended(host.roll_back().await).exit_code, 0);
    hold.release();
    let outcome = ended(late.await.unwrap());
    assert!(outcome.stderr_tail.contains("nothing was switched"), "{outcome:?}");
    assert!(host.is_back());
    assert_eq!(host.bench.switched(), [""; 0]);
}

#[test]
fn health_checks_are_those_of_the_system_through_all_its_symlinks() {
    let host = Host::new();
    let etc = host.bench.system("etc", &[("muster/health-checks.json", "{}")]);
    let top = host.bench.machine.real(host.old.as_str());
    assert!(!host.backend.health_checks(&host.old).exists());
    std::os::unix::fs::symlink(etc.as_str(), top.join("etc")).unwrap();
    assert_eq!(fs::read_to_string(host.backend.health_checks(&host.old)).unwrap(), "{}");
}
