//! Every command's screens against golden files: text for 80 and for 120 columns, JSON, and its help.
//!
//! A screen that changed fails with what it shows now. `MUSTER_UPDATE_SCREENS=1 cargo test -p muster screens` writes all of
//! `golden/` anew; the difference is then a matter of review.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod desk;
mod scenes;
mod schema;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{OnceLock, mpsc};
use std::thread::{self, JoinHandle};

use clap::{Command as Clap, CommandFactory, Parser};
use tokio::sync::oneshot;

use super::{Cli, stage};
use crate::control::server::Limits;
use crate::control::tests::check;
use crate::control::wire::fixtures::at;
use desk::Desk;
use scenes::Scene;

/// Where the golden files are.
const GOLDEN: &str = "src/cli/screens/golden";
/// Writes them anew.
const UPDATE: &str = "MUSTER_UPDATE_SCREENS";
/// The widths at which text is shown.
const WIDTHS: [u16; 2] = [80, 120];
/// Which words may be longer than a line has room for: keys, hashes, paths, what is to be copied as it stands.
const UNCUT_CHARS: usize = 48;
/// What stands for the socket of the agent that is asked.
const SOCKET: &str = "/run/muster/muster.sock";

/// What is run, and what its agent sees.
struct Screen {
    /// The name of its golden files.
    name: &'static str,
    scene: Scene,
    /// The command line behind `muster`; what begins with `desk/` lies on a [`Desk`].
    line: &'static str,
    /// When it is run, in seconds after the fleets are as they are.
    at: i64,
}

const fn screen(name: &'static str, scene: Scene, line: &'static str) -> Screen {
    Screen { name, scene, line, at: 0 }
}

/// The same once the documents are signed that lie beside the core's tests.
const fn later(name: &'static str, scene: Scene, line: &'static str) -> Screen {
    Screen { name, scene, line, at: 262_400 }
}

const SCREENS: &[Screen] = &[
    screen("status-busy", Scene::Busy, "status"),
    screen("status-calm", Scene::Calm, "status"),
    screen("status-no-quorum", Scene::NoQuorum, "status"),
    screen("status-fresh", Scene::Fresh, "status"),
    screen("peers", Scene::Busy, "peers"),
    screen("peers-alone", Scene::Fresh, "peers"),
    screen("rollout-list", Scene::Busy, "rollout list"),
    screen("rollout-list-none", Scene::Fresh, "rollout list"),
    screen("rollout-show-opening", Scene::Busy, "rollout show ops@v1"),
    screen("rollout-show-active", Scene::Busy, "rollout show stable@v2"),
    screen("rollout-show-converging", Scene::Busy, "rollout show web@v3"),
    screen("rollout-show-failed", Scene::Busy, "rollout show edge@v4"),
    screen("rollout-show-reverted", Scene::Busy, "rollout show canary@v9"),
    screen("rollout-show-terminal", Scene::Busy, "rollout show stable@v1"),
    screen("rollout-show-superseded", Scene::Busy, "rollout show archive@v7"),
    screen("rollout-show-unknown", Scene::Busy, "rollout show stable@v99"),
    screen("rollout-watch-terminal", Scene::Busy, "rollout watch stable@v1"),
    screen("rollout-watch-failed", Scene::Busy, "rollout watch edge@v4"),
    screen("rollout-watch-timeout", Scene::Busy, "rollout watch stable@v2 --timeout 0"),
    screen("rollout-watch-unknown", Scene::Busy, "rollout watch stable@v99 --timeout 0"),
    screen("explain-host", Scene::Busy, "explain db-02"),
    screen("explain-rollout", Scene::Busy, "explain stable@v2"),
    screen("events", Scene::Busy, "events"),
    screen("events-none", Scene::Fresh, "events --host web-01"),
    // The agent says after some events that it stops; otherwise they would be followed for ever.
    screen("events-follow", Scene::Busy, "events --follow --since 2026-11-18T00:00:00Z --limit 6"),
    screen("quarantine-list", Scene::Busy, "quarantine list"),
    screen("quarantine-list-none", Scene::Calm, "quarantine list"),
    screen("hook-list", Scene::Busy, "hook list"),
    screen("hook-list-none", Scene::Calm, "hook list"),
    screen("hook-test", Scene::Busy, "hook test chat"),
    screen("hook-test-failed", Scene::Busy, "hook test pager"),
    screen("hook-retry", Scene::Busy, "hook retry chat"),
    screen("hook-forget", Scene::Busy, "hook forget chat"),
    screen("publish", Scene::Busy, "publish core/tests/documents/pause.json"),
    screen("publish-wait", Scene::Busy, "publish core/tests/documents/pause.json --wait"),
    screen("publish-unsigned", Scene::Busy, "publish core/tests/documents/trust.json"),
    screen("plan", Scene::Busy, "plan core/tests/documents/stable.json"),
    screen("plan-of-a-command", Scene::Busy, "plan core/tests/documents/pause.json"),
    screen("store-stats", Scene::Busy, "store stats"),
    screen("store-verify", Scene::Busy, "store verify"),
    screen("store-stats-stopped", Scene::Busy, "store stats --store desk/muster.redb"),
    screen("store-verify-stopped", Scene::Busy, "store verify --store desk/muster.redb"),
    screen("store-rebuild", Scene::Busy, "store rebuild --store desk/muster.redb"),
    screen("store-compact", Scene::Busy, "store compact --store desk/muster.redb"),
    screen("store-export", Scene::Busy, "store export --store desk/muster.redb --out desk/demo-2.cbor"),
    Screen {
        at: 600_000,
        ..screen("store-import", Scene::Busy, "store import desk/demo.cbor --store desk/new.redb")
    },
    // At a time before any of it was signed.
    screen("store-import-early", Scene::Busy, "store import desk/demo.cbor --store desk/new.redb"),
    screen("store-import-again", Scene::Busy, "store import desk/demo.cbor --store desk/muster.redb"),
    screen("store-import-none", Scene::Busy, "store import desk/demo.cbor --store desk/none.redb"),
    screen("store-export-over", Scene::Busy, "store export --store desk/muster.redb --out desk/demo.cbor"),
    later(
        "verify-ref",
        Scene::Busy,
        "verify core/tests/documents/stable.json --trust core/tests/documents/fleet.json",
    ),
    later(
        "verify-fleet",
        Scene::Busy,
        "verify core/tests/documents/fleet.json --trust core/tests/documents/trust.json",
    ),
    later("verify-stranger", Scene::Busy, "verify core/tests/documents/clear.json"),
    screen("verify-without-fleet", Scene::Fresh, "verify core/tests/documents/clear.json"),
    screen("fleet-check", Scene::Busy, "fleet check core/tests/documents/fleet.json"),
    screen("fleet-check-bad", Scene::Busy, "fleet check core/tests/documents/stable.json"),
    screen(
        "fleet-diff-none",
        Scene::Busy,
        "fleet diff core/tests/documents/fleet.json core/tests/documents/fleet.json",
    ),
    screen(
        "fleet-check-replaces",
        Scene::Busy,
        "fleet check desk/fleet.json --replaces desk/fleet-next.json",
    ),
    screen("fleet-diff", Scene::Busy, "fleet diff desk/fleet.json desk/fleet-next.json"),
    screen("fleet-diff-refused", Scene::Busy, "fleet diff desk/fleet.json desk/fleet-mistaken.json"),
    screen("id", Scene::Busy, "id --identity desk/host.pub --host web-01"),
    screen("id-no-key", Scene::Busy, "id --identity desk/none --host web-01"),
    screen("keygen-over", Scene::Busy, "keygen desk/alice --comment alice"),
    screen("sign-fleet", Scene::Busy, "sign fleet desk/fleet.json --key desk/alice"),
    screen("sign-fleet-add", Scene::Busy, "sign fleet desk/fleet.json --key desk/bob --add"),
    screen(
        "sign-channel-ref",
        Scene::Busy,
        "sign channel-ref --channel stable --ref v3 --targets desk/targets.json --fleet desk/fleet.json --key desk/bob --out \
         desk/stable.json",
    ),
    screen(
        "sign-channel-ref-stranger",
        Scene::Busy,
        "sign channel-ref --channel stable --ref v3 --targets desk/targets.json --fleet desk/fleet.json --key desk/mallory \
         --out desk/stable.json",
    ),
    screen(
        "sign-command",
        Scene::Busy,
        "sign command desk/pause.json --fleet desk/fleet.json --key desk/alice",
    ),
    screen("sign-command-bare", Scene::Busy, "sign command desk/pause.json --key desk/mallory"),
    screen("sign-wrong-kind", Scene::Busy, "sign command desk/fleet.json --key desk/alice"),
    screen(
        "simulate",
        Scene::Busy,
        "simulate core/tests/documents/stable.json --fleet core/tests/documents/fleet.json --at 2026-11-21T10:05:00Z",
    ),
    screen(
        "simulate-fail",
        Scene::Busy,
        "simulate core/tests/documents/stable.json --fleet core/tests/documents/fleet.json --at 2026-11-21T10:05:00Z \
         --fail web-01 --offline db-01",
    ),
    screen(
        "simulate-slow",
        Scene::Busy,
        "simulate core/tests/documents/stable.json --fleet core/tests/documents/fleet.json --at 2026-11-21T10:05:00Z \
         --activation-seconds 7200",
    ),
    screen("pause-dry-run", Scene::Busy, "pause stable --reason why --dry-run"),
    screen("resume-dry-run", Scene::Busy, "resume --host db-01 --reason why --dry-run"),
    screen("cancel-dry-run", Scene::Busy, "cancel stable@v2 --reason why --dry-run"),
    screen("promote-dry-run", Scene::Busy, "promote stable@v2 --reason why --dry-run"),
    screen("clear-dry-run", Scene::Busy, "clear stable dir:v3-broken --reason why --dry-run"),
    screen("skip-dry-run", Scene::Busy, "skip db-01 --reason why --dry-run"),
    screen("readmit-dry-run", Scene::Busy, "readmit db-01 --reason why --dry-run"),
    screen("rollback-dry-run", Scene::Busy, "rollback stable --dry-run"),
    screen("doctor-no-config", Scene::Busy, "doctor --config core/tests/documents/none.toml"),
    screen("doctor", Scene::Busy, "doctor --config desk/muster.toml"),
    screen("doctor-calm", Scene::Calm, "doctor --config desk/muster.toml"),
    screen("doctor-stopped", Scene::Busy, "doctor --config desk/muster-stopped.toml"),
    screen("replay", Scene::Busy, "replay --store desk/demo.cbor"),
    screen("replay-until", Scene::Busy, "replay --store desk/muster.redb --until 2026-11-24T19:39:02Z"),
    screen(
        "replay-follow",
        Scene::Busy,
        "replay --store desk/demo.cbor --until 2026-11-24T19:38:43Z --follow",
    ),
    screen("replay-early", Scene::Busy, "replay --store desk/demo.cbor --until 2026-11-24T00:00:00Z"),
    screen("replay-no-export", Scene::Busy, "replay --store desk/fleet.json"),
    screen("rollout-report", Scene::Busy, "rollout report stable@v2 --html desk/stable-v2.html"),
    screen(
        "rollout-report-stopped",
        Scene::Busy,
        "rollout report stable@v3 --html desk/v3.html --store desk/muster.redb",
    ),
    screen("rollout-report-unknown", Scene::Busy, "rollout report stable@v99 --html desk/v99.html"),
    screen("man", Scene::Busy, "man desk/man"),
    screen("web-remote", Scene::Busy, "web --listen 0.0.0.0:9747"),
    screen("demo-stop-none", Scene::Busy, "demo --stop desk/man"),
    screen("replay-no-store", Scene::Busy, "replay --store core/tests/documents/none.redb"),
];

/// Commands without a screen of their own.
const NO_SCREEN: [(&str, &str); 4] = [
    ("agent", "it runs for ever and prints nothing"),
    ("activate", "systemd starts it"),
    ("internal-switch", "the agent starts it"),
    ("completions", "a shell reads it"),
];

/// An agent of a scene, until this is dropped.
struct Agent {
    socket: PathBuf,
    done: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Agent {
    fn of(scene: Scene) -> Self {
        let (tell, told) = mpsc::channel();
        let (done, ends) = oneshot::channel::<()>();
        let thread = thread::spawn(move || {
            let answer = move |request: &_| Some(scenes::answer(scene, request));
            check(Limits::default(), answer, async move |bench| {
                tell.send(bench.path.clone()).unwrap();
                // The other end is dropped once nobody asks any more.
                let _ = ends.await;
            });
        });
        Self { socket: told.recv().unwrap(), done: Some(done), thread: Some(thread) }
    }

    /// What a command line prints, and how it ends.
    fn run(&self, line: &str, width: u16, secs: i64) -> (String, String, i32) {
        let desk = line.contains(desk::CALLED).then(|| Desk::new(&self.socket));
        let spoken = desk.as_ref().map_or_else(|| line.to_owned(), |desk| desk.spoken(line));
        let words = ["muster"].into_iter().chain(spoken.split_ascii_whitespace());
        let socket = ["--socket", self.socket.to_str().unwrap()];
        let cli = Cli::try_parse_from(words.chain(socket)).unwrap_or_else(|error| panic!("{line}: {error}"));
        let mut code = 0;
        let (out, notes) = stage::play(width, at(secs), || {
            code = match cli.command.run() {
                Ok(exit) => exit as i32,
                Err(failure) => {
                    failure.report();
                    failure.exit as i32
                }
            };
        });
        let plain = |text: String| {
            let text = text.replace(self.socket.to_str().unwrap(), SOCKET);
            desk.as_ref().map_or_else(|| text.clone(), |desk| desk.shown(&text))
        };
        (plain(out), plain(notes), code)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.done.take());
        if let Some(thread) = self.thread.take() {
            // A server that failed has said so.
            let _ = thread.join();
        }
    }
}

/// The command that a line means, and its name.
fn meant<'a>(cli: &'a Clap, line: &str) -> (&'a Clap, String) {
    let (mut command, mut name) = (cli, Vec::new());
    for word in line.split_ascii_whitespace() {
        let Some(found) = command.find_subcommand(word) else { break };
        command = found;
        name.push(word);
    }
    (command, name.join(" "))
}

/// Every command that has none below it, with its name.
fn leaves(command: &Clap, name: &str, found: &mut Vec<(String, Clap)>) {
    let below: Vec<&Clap> = command.get_subcommands().collect();
    if below.is_empty() {
        found.push((name.to_owned(), command.clone()));
    }
    for it in below {
        leaves(it, format!("{name} {}", it.get_name()).trim_start(), found);
    }
}

/// Every screen as it is now, by the name of its golden file.
fn shown() -> BTreeMap<String, String> {
    let mut cli = Cli::command();
    cli.build();
    let mut files = BTreeMap::new();
    let mut agents: Vec<(Scene, Agent)> = Vec::new();
    for Screen { name, scene, line, at } in SCREENS {
        if !agents.iter().any(|(known, _)| known == scene) {
            agents.push((*scene, Agent::of(*scene)));
        }
        let (_, agent) = agents.iter().find(|(known, _)| known == scene).unwrap();
        for width in WIDTHS {
            let (out, notes, code) = agent.run(line, width, *at);
            let mut text = format!("$ muster {line}\n{out}");
            if !notes.is_empty() {
                text.push_str(&format!("-- on stderr --\n{notes}"));
            }
            if code != 0 {
                text.push_str(&format!("-- exit code {code} --\n"));
            }
            files.insert(format!("{name}.{width}.txt"), text);
        }
        let (command, _) = meant(&cli, line);
        if command.get_arguments().any(|argument| argument.get_long() == Some("json")) {
            let (out, _, _) = agent.run(&format!("{line} --json"), WIDTHS[0], *at);
            if let Some((ending, text)) = json_of(line, &out) {
                files.insert(format!("{name}.{ending}"), text);
            }
        }
    }
    files
}

/// JSON as it is easiest to review, with the ending of its file: one body, or an object a line.
fn json_of(line: &str, out: &str) -> Option<(&'static str, String)> {
    let bodies = serde_json::Deserializer::from_str(out).into_iter::<serde_json::Value>();
    let bodies: Result<Vec<_>, _> = bodies.collect();
    match bodies.unwrap_or_else(|error| panic!("{line} --json: {error}\n{out}")).as_slice() {
        [] => None,
        [body] => Some(("json", format!("{body:#}\n"))),
        bodies => Some(("jsonl", bodies.iter().map(|body| format!("{body}\n")).collect())),
    }
}

/// Every help text, by the name of its golden file.
fn helps() -> BTreeMap<String, String> {
    fn add(command: &Clap, name: &str, files: &mut BTreeMap<String, String>) {
        let mut shown = command.clone().term_width(WIDTHS[0].into());
        let text = shown.render_long_help().to_string();
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        files.insert(format!("help{}.txt", name.replace(' ', "-")), lines.join("\n") + "\n");
        for it in command.get_subcommands().filter(|it| !it.is_hide_set()) {
            add(it, &format!("{name} {}", it.get_name()), files);
        }
    }
    let mut cli = Cli::command().term_width(WIDTHS[0].into());
    cli.build();
    let mut files = BTreeMap::new();
    add(&cli, "", &mut files);
    files
}

/// Every screen and every help as they are now; written to the golden files if that is asked for.
fn current() -> &'static BTreeMap<String, String> {
    static CURRENT: OnceLock<BTreeMap<String, String>> = OnceLock::new();
    CURRENT.get_or_init(|| {
        let mut now = shown();
        now.extend(helps());
        if std::env::var_os(UPDATE).is_some() {
            for entry in std::fs::read_dir(GOLDEN).unwrap() {
                std::fs::remove_file(entry.unwrap().path()).unwrap();
            }
            for (name, text) in &now {
                std::fs::write(Path::new(GOLDEN).join(name), text).unwrap();
            }
        }
        now
    })
}

fn golden() -> BTreeMap<String, String> {
    if std::env::var_os(UPDATE).is_some() {
        current();
    }
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(GOLDEN).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        files.insert(name, std::fs::read_to_string(&path).unwrap());
    }
    files
}

/// The lines of a text that do not fit, but for those that hold a word that nobody may cut.
fn too_long(name: &str, text: &str, width: usize) -> Vec<String> {
    let uncut = |line: &str| line.split_ascii_whitespace().any(|word| word.chars().count() >= UNCUT_CHARS);
    // The command line itself is the test's, and how usage is written clap's.
    let lines = text.lines().filter(|line| !line.starts_with("$ ") && !line.starts_with("Usage: "));
    let long = lines.filter(|line| line.chars().count() > width && !uncut(line));
    long.map(|line| format!("{name}: {line}")).collect()
}

#[test]
fn every_screen_is_the_golden_one() {
    let now = current();
    let golden = golden();
    let mut wrong = Vec::new();
    for (name, text) in now {
        match golden.get(name) {
            None => wrong.push(format!("{name} has no golden file; it shows:\n{text}")),
            Some(known) if known != text => {
                wrong.push(format!("{name} shows:\n{text}\nand not:\n{known}"));
            }
            Some(_) => {}
        }
    }
    let stray = golden.keys().filter(|name| !now.contains_key(*name));
    wrong.extend(stray.map(|name| format!("{name} is no screen's")));
    assert!(wrong.is_empty(), "{}\n\n{UPDATE}=1 writes them anew", wrong.join("\n\n"));
}

#[test]
fn every_screen_fits_its_terminal() {
    let mut wrong = Vec::new();
    for (name, text) in golden() {
        let width = if name.ends_with(".120.txt") { WIDTHS[1] } else { WIDTHS[0] };
        if name.ends_with(".txt") {
            wrong.extend(too_long(&name, &text, width.into()));
        }
    }
    assert!(wrong.is_empty(), "{} lines are too long:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_command_has_a_screen_or_a_reason_to_have_none() {
    let mut cli = Cli::command();
    cli.build();
    let mut commands = Vec::new();
    leaves(&cli, "", &mut commands);
    let shown: BTreeSet<String> = SCREENS.iter().map(|screen| meant(&cli, screen.line).1).collect();
    let excused: BTreeSet<&str> = NO_SCREEN.iter().map(|(name, _)| *name).collect();
    let names: Vec<&str> = commands.iter().map(|(name, _)| name.as_str()).collect();
    let without: Vec<&&str> =
        names.iter().filter(|name| !shown.contains(**name) && !excused.contains(**name)).collect();
    assert!(without.is_empty(), "no screen shows {without:?}");
    let idle: Vec<&&str> =
        excused.iter().filter(|name| shown.contains(**name) || !names.contains(name)).collect();
    assert!(idle.is_empty(), "these need no excuse: {idle:?}");
}
