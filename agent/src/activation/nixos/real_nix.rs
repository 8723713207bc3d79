//! Tests of the backend over the real Nix, with a store of its own in a temporary folder; systemd is a stand-in.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::Write;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use muster_core::node::{Fetch, Goods};

use super::fetch::Patience;
use super::testing::Bench;
use super::*;
use crate::activation::{Switched, Task};

const NIX_CONFIG: &str = "experimental-features = nix-command\nsubstitute = true\nbuild-users-group =\n";

/// A machine whose Nix is the real one, beside a binary cache; none if there is no Nix here, which is said.
fn bench(more: &str) -> Option<Bench> {
    if Command::new("nix-store").arg("--version").output().is_err() {
        let required = std::env::var("MUSTER_TEST_REQUIRE").is_ok_and(|value| value == "all");
        assert!(!required, "with MUSTER_TEST_REQUIRE=all nothing may be skipped, and nix-store is not here");
        // Past the harness, which shows nothing that a passing test prints.
        std::io::stderr()
            .write_all(b"skipped: the backend over the real Nix, for nix-store is not here\n")
            .unwrap();
        return None;
    }
    let mut bench = Bench::new();
    let (store, cache) =
        (bench.folder.path().display().to_string(), bench.path("cache").display().to_string());
    fs::remove_dir_all(&cache).unwrap();
    let programs = &mut bench.machine.programs;
    (programs.nix_env, programs.nix_store, programs.nix) =
        ("nix-env".into(), "nix-store".into(), "nix".into());
    let config = format!("{NIX_CONFIG}substituters = file://{cache}\n{more}");
    bench.machine.env = vec![
        ("NIX_REMOTE", format!("local?root={store}").into()),
        ("NIX_CONFIG", config.into()),
        ("HOME", bench.path("state").into()),
        ("XDG_CACHE_HOME", bench.path("state/cache").into()),
    ];
    Some(bench)
}

impl Bench {
    /// Runs one of Nix's programs over the machine's store, or over another one.
    fn nix(&self, store: Option<&str>, program: &str, args: &[&str]) -> String {
        let mut command = Command::new(program);
        command.args(args).envs(self.machine.env.iter().map(|(name, value)| (name, value)));
        if let Some(store) = store {
            command.env("NIX_REMOTE", format!("local?root={}", self.path(store).display()));
        }
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{program} {args:?}: {said}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// A system in a store, with the stand-in for its switcher.
    fn added(&self, store: Option<&str>, name: &str, files: &[(&str, &str)]) -> Closure {
        let drafts = self.path("drafts");
        let draft = drafts.join(format!("nixos-system-{name}"));
        self.draft(&draft, files);
        self.nix(store, "nix-store", &["--add", &draft.display().to_string()]).parse().unwrap()
    }

    /// Copies a system out of the builder's store into the binary cache.
    fn publish(&self, closure: &Closure, key: Option<&str>) {
        let secret = key.map(|key| format!("&secret-key={}", self.path(key).display())).unwrap_or_default();
        let cache = format!("file://{}?compression=none{secret}", self.path("cache").display());
        self.nix(Some("builder"), "nix", &["copy", "--to", &cache, closure.as_str()]);
    }
}

fn backend(bench: &Bench) -> Nixos {
    let once = Patience { tries: 1, ..Patience::default() };
    let root = Arc::new(bench.machine.clone());
    Nixos::new(bench.machine.clone(), root, vec![Component::Dbus], &bench.path("state")).with_patience(once)
}

async fn prefetched(backend: &Nixos, goods: &Goods) -> Vec<Fetch> {
    let mut told = Vec::new();
    backend.prefetch(goods, &mut |fetch| told.push(fetch)).await;
    told
}

fn job(task: Task, target: &Closure, previous: &Closure) -> Job {
    let (target, previous) = (target.clone(), Some(previous.clone()));
    Job { rollout: "stable@r1".parse().unwrap(), task, target, previous, log_index: 7 }
}

async fn done(backend: &Nixos, job: Job) -> i32 {
    match backend.switch(job, None, Duration::from_secs(120)).await {
        Switched::Ended(outcome) => {
            assert!(outcome.exit_code != -1, "{outcome:?}");
            outcome.exit_code
        }
        Switched::Deferred { component } => panic!("waits for {component}"),
    }
}

#[tokio::test]
async fn generations_follow_each_other_through_a_failed_switch_and_back() {
    let Some(bench) = bench("") else { return };
    let backend = backend(&bench);
    let old = bench.added(None, "old", &[]);
    let bad = bench.added(None, "bad", &[("degrades", "")]);
    bench.boot(&old);
    let profile = bench.machine.profile.display().to_string();
    bench.nix(None, "nix-env", &["--profile", &profile, "--set", old.as_str()]);
    assert_eq!(done(&backend, job(Task::Switch, &bad, &old)).await, 4);
    assert_eq!((bench.machine.current(), bench.machine.profile()), (Some(bad.clone()), Some(bad.clone())));
    // The roots hold both ways open whoever cleans up.
    fs::remove_file(bench.path("profiles/system-1-link")).unwrap();
    bench.nix(None, "nix-store", &["--gc"]);
    assert!(bench.machine.exists(old.as_str()));
    assert_eq!(done(&backend, job(Task::RollBack, &old, &old)).await, 0);
    assert_eq!((bench.machine.current(), bench.machine.profile()), (Some(old.clone()), Some(old.clone())));
    assert_eq!(fs::read_link(&bench.machine.profile).unwrap().to_str(), Some("system-3-link"));
}

#[tokio::test]
async fn a_system_comes_from_a_substituter_whole_and_is_rooted() {
    let Some(bench) = bench("require-sigs = false\n") else { return };
    let backend = backend(&bench);
    let new = bench.added(Some("builder"), "new", &[]);
    bench.publish(&new, None);
    let contents = {
        let mut builder = bench.machine.clone();
        builder.env[0].1 = format!("local?root={}", bench.path("builder").display()).into();
        builder.contents(&new).await.unwrap()
    };
    let goods = Goods { closure: new.clone(), contents: Some(contents) };
    let told = prefetched(&backend, &goods).await;
    assert_eq!(told, [Fetch::Goes("fetches path 1 of 1".to_owned()), Fetch::Done]);
    bench.nix(None, "nix-store", &["--gc"]);
    assert!(bench.machine.exists(new.as_str()));
    let other = Goods { contents: Some(muster_signing::sha256(b"other")), ..goods };
    let told = prefetched(&backend, &other).await;
    assert!(matches!(&told[..], [Fetch::Fails(why)] if why.contains("but the operators signed")), "{told:?}");
    backend.keep_ahead(&[]);
    bench.nix(None, "nix-store", &["--gc"]);
    assert!(!bench.machine.exists(new.as_str()));
}

#[tokio::test]
async fn what_no_trusted_key_signed_is_not_fetched() {
    let Some(mut bench) = bench("require-sigs = true\ntrusted-public-keys =\n") else { return };
    let (secret, public) = (bench.path("secret"), bench.path("public"));
    let keys = [secret.display().to_string(), public.display().to_string()];
    bench.nix(None, "nix-store", &["--generate-binary-cache-key", "stranger-1", &keys[0], &keys[1]]);
    // What is addressed by its content needs no signature, so the system is registered as somebody's build.
    let made = bench.added(Some("builder"), "made", &[]);
    let name = format!("/nix/store/{}-nixos-system-built", "1".repeat(32));
    let [real, copy] = [made.as_str(), &name].map(|path| bench.path("builder").join(&path[1..]));
    assert!(Command::new("cp").arg("-r").args([real, copy]).status().unwrap().success());
    let record = bench.nix(Some("builder"), "nix-store", &["--dump-db", made.as_str()]);
    let mut load = Command::new("nix-store")
        .arg("--load-db")
        .envs(bench.machine.env.iter().map(|(name, value)| (name, value)))
        .env("NIX_REMOTE", format!("local?root={}", bench.path("builder").display()))
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let record = format!("{}\n", record.replace(made.as_str(), &name));
    load.stdin.take().unwrap().write_all(record.as_bytes()).unwrap();
    assert!(load.wait().unwrap().success());
    let closure: Closure = name.parse().unwrap();
    bench.publish(&closure, Some("secret"));
    let goods = Goods { closure: closure.clone(), contents: None };
    let told = prefetched(&backend(&bench), &goods).await;
    assert!(matches!(&told[..], [.., Fetch::Fails(why)] if why.contains("not signed")), "{told:?}");
    assert!(!bench.machine.exists(closure.as_str()));
    let trusted = format!("\ntrusted-public-keys = {}\n", fs::read_to_string(&public).unwrap());
    bench.machine.env[1].1.push(trusted);
    assert_eq!(prefetched(&backend(&bench), &goods).await.last(), Some(&Fetch::Done));
}
