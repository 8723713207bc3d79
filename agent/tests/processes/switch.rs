//! Switches of the directory backend, which end well when the agent does not.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use muster::activation::{Directory, Job, Outcome, Task, Trace};
use muster_core::id::Closure;
use nix::sys::stat::Mode;

const LONG: Duration = Duration::from_secs(60);
/// Set where this test program plays an agent that will be killed.
const PLAY_AGENT: &str = "MUSTER_TEST_PLAYS_AGENT_IN";

struct Releases {
    folder: tempfile::TempDir,
    backend: Directory,
}

impl Releases {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("releases")).unwrap();
        let backend = backend(folder.path());
        Self { folder, backend }
    }

    fn root(&self) -> &Path {
        self.folder.path()
    }

    fn release(&self, name: &str, script: Option<&str>) -> PathBuf {
        let release = self.root().join("releases").join(name);
        fs::create_dir(&release).unwrap();
        if let Some(script) = script {
            program(&release.join("activate"), script);
        }
        release
    }

    fn fifo(&self, name: &str) -> PathBuf {
        let path = self.root().join(name);
        nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
        path
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.root().join(name)).unwrap()
    }
}

fn backend(root: &Path) -> Directory {
    Directory::with_program(root, env!("CARGO_BIN_EXE_muster"))
}

/// Writes a script through another process: one that this process holds open for writing, or its forks do, cannot be run.
fn program(path: &Path, script: &str) {
    let mut writer = Command::new("sh")
        .args(["-c", "cat > \"$0\" && chmod 755 \"$0\""])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    writer.stdin.take().unwrap().write_all(format!("#!/bin/sh\n{script}\n").as_bytes()).unwrap();
    assert!(writer.wait().unwrap().success());
}

fn closure(name: &str) -> Closure {
    format!("dir:{name}").parse().unwrap()
}

fn job(target: &str, log_index: u64) -> Job {
    Job {
        rollout: "stable@v1".parse().unwrap(),
        task: Task::Switch,
        target: closure(target),
        previous: Some(closure("v0")),
        log_index,
    }
}

fn outcome(exit_code: i32, stderr_tail: &str, observed: Option<&str>) -> Outcome {
    Outcome { exit_code, stderr_tail: stderr_tail.to_owned(), observed: observed.map(closure) }
}

#[tokio::test]
async fn a_switch_runs_the_program_in_its_release_and_moves_the_symlink() {
    let releases = Releases::new();
    releases.release("v0", None);
    let told =
        "printf '%s|' \"$MUSTER_CLOSURE\" \"$MUSTER_PREVIOUS\" \"$MUSTER_ROOT\" \"$PWD\" \"$#\" > ../../told
        env | cut -d= -f1 | grep -v -e ^PWD -e ^SHLVL -e ^_ | sort | tr '\\n' ' ' > ../../names
        readlink ../../current > ../../during; echo done >&2";
    releases.release("v1", Some(told));
    assert_eq!(releases.backend.switch(job("v0", 1), LONG).await, outcome(0, "", Some("v0")));

    let ended = releases.backend.switch(job("v1", 2), LONG).await;
    assert_eq!(ended, outcome(0, "done\n", Some("v1")));
    assert_eq!(releases.backend.current(), Some(closure("v1")));
    let root = fs::canonicalize(releases.root()).unwrap();
    let root = root.display();
    assert_eq!(releases.read("told"), format!("dir:v1|dir:v0|{root}|{root}/releases/v1|0|"));
    assert_eq!(releases.read("names"), "MUSTER_CLOSURE MUSTER_PREVIOUS MUSTER_ROOT PATH ");
    assert_eq!(releases.read("during"), "releases/v0\n");
    assert_eq!(releases.backend.trace(&job("v1", 2)), Trace::Ended(ended));
    assert_eq!(releases.backend.trace(&job("v1", 3)), Trace::None);
    let back = Job { task: Task::RollBack, ..job("v0", 2) };
    assert_eq!(releases.backend.trace(&back), Trace::None);
    assert_eq!(releases.backend.switch(back.clone(), LONG).await, outcome(0, "", Some("v0")));
    assert_eq!(releases.backend.switch(back, LONG).await, outcome(0, "", Some("v0")), "it can be done twice");
}

#[tokio::test]
async fn a_failed_program_leaves_the_symlink_and_tells_the_end_of_its_stderr() {
    let releases = Releases::new();
    releases.release("v0", None);
    releases.release("code", Some("echo no space >&2; exit 3"));
    releases.release("signal", Some("kill -TERM $$"));
    releases.release("loud", Some("head -c 100000 /dev/zero | tr '\\0' x >&2; printf é >&2; exit 1"));
    let program = releases.release("dull", None).join("activate");
    fs::write(&program, "not executable").unwrap();
    releases.backend.switch(job("v0", 1), LONG).await;

    let ended = releases.backend.switch(job("code", 2), LONG).await;
    assert_eq!(ended, outcome(3, "no space\n", Some("v0")));
    let ended = releases.backend.switch(job("signal", 3), LONG).await;
    assert_eq!(ended.exit_code, 143);
    assert!(ended.stderr_tail.ends_with("was ended by signal 15"), "{}", ended.stderr_tail);
    let ended = releases.backend.switch(job("loud", 4), LONG).await;
    assert_eq!((ended.exit_code, ended.stderr_tail.len()), (1, 4096));
    assert!(ended.stderr_tail.ends_with("xxé"));
    let ended = releases.backend.switch(job("dull", 5), LONG).await;
    assert_eq!((ended.exit_code, ended.observed), (-1, Some(closure("v0"))));
    assert!(ended.stderr_tail.contains("Permission denied"), "{}", ended.stderr_tail);
}

#[tokio::test]
async fn a_program_that_does_not_end_is_killed_with_its_children() {
    let releases = Releases::new();
    let alive = releases.fifo("alive");
    releases.release("v1", Some("exec 3> ../../alive; echo waiting >&2; sleep 1000 & wait"));
    // Both hold the pipe open for writing, so its end is theirs.
    let reader = std::thread::spawn(move || fs::read(alive).unwrap());
    let ended = releases.backend.switch(job("v1", 1), Duration::from_secs(3)).await;
    assert_eq!((ended.exit_code, ended.observed), (-1, None));
    assert!(ended.stderr_tail.starts_with("waiting\n"), "{}", ended.stderr_tail);
    assert!(ended.stderr_tail.ends_with("was killed after 3 s"), "{}", ended.stderr_tail);
    assert_eq!(reader.join().unwrap(), b"");
}

#[tokio::test]
async fn only_a_folder_directly_under_releases_is_accepted() {
    let releases = Releases::new();
    let release = releases.release("good", Some("true"));
    let outside = tempfile::tempdir().unwrap();
    program(&outside.path().join("activate"), "true");
    symlink(outside.path(), releases.root().join("releases/linked")).unwrap();
    symlink(&release, releases.root().join("releases/twin")).unwrap();
    fs::write(releases.root().join("releases/file"), "").unwrap();
    let leads_out = releases.release("leads-out", None);
    symlink(outside.path().join("activate"), leads_out.join("activate")).unwrap();
    let dangling = releases.release("dangling", None);
    symlink("nowhere", dangling.join("health-checks.json")).unwrap();
    let own_link = releases.release("own-link", None);
    program(&own_link.join("real"), "true");
    symlink("real", own_link.join("activate")).unwrap();

    for (name, problem) in [
        ("good", None),
        ("own-link", None),
        ("missing", Some("No such file")),
        ("linked", Some("not a folder, or is a symlink")),
        ("twin", Some("not a folder, or is a symlink")),
        ("file", Some("not a folder, or is a symlink")),
        ("leads-out", Some("leads out of its release")),
        ("dangling", Some("No such file")),
    ] {
        let accepted = releases.backend.accepts(&closure(name));
        match problem {
            None => assert_eq!(accepted, Ok(()), "{name}"),
            Some(problem) => {
                assert!(accepted.unwrap_err().contains(problem), "{name}");
                let ended = releases.backend.switch(job(name, 1), LONG).await;
                assert_eq!((ended.exit_code, ended.observed), (-1, None), "{name}");
            }
        }
    }
    let store: Closure = "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-nixos".parse().unwrap();
    assert!(releases.backend.accepts(&store).is_err());
    for link in ["/etc", "releases/missing", "releases/good/x", "../releases/good", "good"] {
        let _ = fs::remove_file(releases.root().join("current"));
        symlink(link, releases.root().join("current")).unwrap();
        assert_eq!(releases.backend.current(), None, "{link}");
    }
}

#[tokio::test]
async fn a_second_request_for_a_running_switch_waits_for_it_and_another_switch_comes_after() {
    let releases = Releases::new();
    let (begun, go) = (releases.fifo("begun"), releases.fifo("go"));
    releases.release("v1", Some("echo x > ../../begun; read line < ../../go; echo v1 >> ../../ran"));
    releases.release("v2", Some("echo v2 >> ../../ran"));
    let first = {
        let backend = releases.backend.clone();
        tokio::spawn(async move { backend.switch(job("v1", 1), LONG).await })
    };
    tokio::task::spawn_blocking(move || fs::read(begun).unwrap()).await.unwrap();
    assert_eq!(releases.backend.trace(&job("v1", 1)), Trace::Running);
    assert_eq!(releases.backend.trace(&job("v2", 2)), Trace::None);
    let same = job("v1", 1);
    let (second, waited, _) = tokio::join!(
        releases.backend.switch(same.clone(), LONG),
        releases.backend.wait(&same),
        tokio::task::spawn_blocking(move || fs::write(go, "go\n").unwrap()),
    );
    let expected = outcome(0, "", Some("v1"));
    assert_eq!((first.await.unwrap(), second, waited), (expected.clone(), expected.clone(), expected));
    assert_eq!(releases.backend.switch(job("v2", 2), LONG).await, outcome(0, "", Some("v2")));
    assert_eq!(releases.read("ran"), "v1\nv2\n");
}

/// Plays the agent of the test below: begins a switch and waits for its end, which it does not live to see.
#[tokio::test]
async fn plays_the_agent_that_is_killed() {
    let Some(root) = std::env::var_os(PLAY_AGENT) else { return };
    backend(Path::new(&root)).switch(job("v1", 7), LONG).await;
}

#[tokio::test]
async fn a_switch_survives_the_agent_and_tells_the_next_one_how_it_ended() {
    for (last, exit_code, observed) in [("true", 0, Some("v1")), ("echo sorry >&2; exit 5", 5, None)] {
        let releases = Releases::new();
        let (begun, go) = (releases.fifo("begun"), releases.fifo("go"));
        let script = format!("echo x > ../../begun; read line < ../../go; echo ran >> ../../ran; {last}");
        releases.release("v1", Some(&script));
        assert_eq!(releases.backend.trace(&job("v1", 7)), Trace::None);

        let mut agent = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "switch::plays_the_agent_that_is_killed"])
            .env(PLAY_AGENT, releases.root())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut said = String::new();
        fs::File::open(begun).unwrap().read_to_string(&mut said).unwrap();
        agent.kill().unwrap();
        agent.wait().unwrap();

        assert_eq!(releases.backend.trace(&job("v1", 7)), Trace::Running);
        let (same, goes_on) = (job("v1", 7), move || fs::write(go, "go\n").unwrap());
        let (ended, _) = tokio::join!(releases.backend.wait(&same), tokio::task::spawn_blocking(goes_on));
        assert_eq!((ended.exit_code, ended.observed.clone()), (exit_code, observed.map(closure)));
        assert_eq!(releases.backend.trace(&job("v1", 7)), Trace::Ended(ended));
        assert_eq!(releases.read("ran"), "ran\n", "it ran once");
    }
}

#[tokio::test]
async fn a_switch_whose_own_process_died_has_failed_unless_the_symlink_had_moved() {
    let status = |root: &Path, before: &str, phase: &str| {
        let text = format!(
            r#"{{"schema":1,"job":{{"rollout":"stable@v1","task":"switch","target":"dir:v1","previous":null,"log_index":4}},
                "before":{before},"timeout_ms":1,"phase":"{phase}"}}"#
        );
        fs::write(root.join("switch.status"), text).unwrap();
    };
    let releases = Releases::new();
    releases.release("v1", None);
    let trace = || releases.backend.trace(&job("v1", 4));
    status(releases.root(), "null", "starting");
    assert_eq!(trace(), Trace::None, "nothing was touched yet, so it is still owed");
    status(releases.root(), "null", "running");
    assert!(matches!(trace(), Trace::Ended(ended) if ended.exit_code == -1 && ended.observed.is_none()));
    symlink("releases/v1", releases.root().join("current")).unwrap();
    assert_eq!(trace(), Trace::Ended(outcome(0, "", Some("v1"))));
    status(releases.root(), "\"dir:v1\"", "running");
    assert!(matches!(trace(), Trace::Ended(ended) if ended.exit_code == -1), "it was there before");
    fs::write(releases.root().join("switch.status"), "{").unwrap();
    assert_eq!(trace(), Trace::None);
    assert_eq!(releases.backend.switch(job("v1", 4), LONG).await, outcome(0, "", Some("v1")));
}

#[test]
fn the_hidden_command_does_nothing_for_people() {
    let releases = Releases::new();
    fs::write(releases.root().join("switch.lock"), "").unwrap();
    let said = Command::new(env!("CARGO_BIN_EXE_muster"))
        .arg("internal-switch")
        .arg(releases.root())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(said.status.code(), Some(1));
    let said = String::from_utf8(said.stderr).unwrap();
    assert!(said.contains("people do not"), "{said}");
}
