//! Takes the power from a whole machine that writes, again and again: user-mode Linux with a disk of its own, killed with
//! everything that its kernel had not yet written to that disk.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::child::{say, store_path};
use super::{Numbers, batch, batches, identity};
use crate::store::Store;

/// The kernel that runs as a process.
const KERNEL: &str = "linux.uml";
/// How often the power is cut, unless [`CYCLES_VARIABLE`] says otherwise.
const CYCLES: u64 = 5;
/// A number of cycles for a campaign.
const CYCLES_VARIABLE: &str = "MUSTER_POWER_CYCLES";
/// Tells the machine which cycle this is.
const CYCLE_VARIABLE: &str = "MUSTER_POWER_CYCLE";
/// The most acknowledgements that are waited for before the power is cut.
const ACKNOWLEDGED_MAX: u64 = 400;
/// How long a machine may take to boot and to say something.
const PATIENCE: Duration = Duration::from_secs(120);
const DISK_BYTES: u64 = 96 * 1024 * 1024;
const VALUE_BYTES: usize = 700;
/// What the machine writes to a file without asking for it to be on the disk.
const UNSYNCED_BYTES: u64 = 10_000;
const GUEST: &str = "tests::power::machine_writes_until_its_power_is_cut";

/// The first program of the machine: its disk, then a test of this binary. A disk that has a file system must have a good one.
const INIT: &str = r#"#!/bin/sh
PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
[ "$cycle" = 0 ] && mkfs.ext4 -q /dev/ubda
mount -t ext4 /dev/ubda "$folder/disk" || exit 1
exec env -i RUST_BACKTRACE=1 MUSTER_POWER_CYCLE="$cycle" MUSTER_STORE_TEST_CHILD="$folder/disk/muster.redb" \
    "$program" --exact "$guest" --nocapture --test-threads=1
"#;

#[test]
fn machine_writes_until_its_power_is_cut() {
    let Some(path) = store_path().filter(|_| std::process::id() == 1) else { return };
    let cycle: u64 = std::env::var(CYCLE_VARIABLE).unwrap().parse().unwrap();
    // A file of its own each time: of one that is written anew ext4 itself sees to it that it is not lost.
    let unsynced = |cycle: u64| path.with_file_name(format!("unsynced-{cycle}"));
    say(fs::metadata(unsynced(cycle.saturating_sub(1))).map_or(0, |file| file.len()));
    let store = Store::open(&path, identity()).unwrap();
    let found = batches(&store, VALUE_BYTES);
    assert!(found.iter().copied().eq(0..found.len() as u64), "a batch is missing: {found:?}");
    fs::write(unsynced(cycle), vec![b'x'; usize::try_from(UNSYNCED_BYTES).unwrap()]).unwrap();
    let next = found.len() as u64;
    say(next);
    for n in next.. {
        if n % 3 == 0 {
            store.commit_wait(batch(n, VALUE_BYTES)).unwrap();
            say(n);
        } else {
            store.commit(batch(n, VALUE_BYTES), move |result| {
                result.unwrap();
                say(n);
            });
        }
    }
}

/// A machine that has power.
struct Machine {
    child: Child,
    said: Receiver<String>,
}

impl Machine {
    fn power_on(folder: &Path, cycle: u64) -> Self {
        let disk = folder.join("image");
        let program = std::env::current_exe().unwrap();
        let mut child = Command::new(KERNEL)
            .args(["mem=128M", "quiet", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro"])
            .args(["con=null", "con0=null,fd:1"])
            .arg(format!("ubd0={}", disk.display()))
            .arg(format!("uml_dir={}", folder.display()))
            .arg(format!("init={}", folder.join("init").display()))
            // What the kernel does not know becomes the environment of its first program.
            .arg(format!("folder={}", folder.display()))
            .arg(format!("program={}", program.display()))
            .arg(format!("guest={GUEST}"))
            .arg(format!("cycle={cycle}"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().unwrap();
        let (tell, said) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
                // Whoever listens no more has cut the power.
                let _ = tell.send(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
        });
        Self { child, said }
    }

    /// The next number that the machine says; everything else on its console is kept for a failure.
    fn next(&self, console: &mut Vec<String>) -> u64 {
        loop {
            match self.said.recv_timeout(PATIENCE) {
                Ok(line) => match number(&line) {
                    Some(number) => return number,
                    None => console.push(line),
                },
                Err(error) => panic!("the machine says nothing: {error}; before:\n{}", console.join("\n")),
            }
        }
    }

    /// The power goes: nothing that runs in it goes on. What it still had said.
    fn cut(mut self) -> Vec<u64> {
        killpg(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), Signal::SIGKILL).unwrap();
        self.child.wait().unwrap();
        let mut lines: Vec<String> = self.said.iter().collect();
        // The last line may have been cut off in the middle of a number; then it was not said.
        lines.pop();
        lines.iter().filter_map(|line| number(line)).collect()
    }
}

fn number(line: &str) -> Option<u64> {
    line.split_once("said ")?.1.parse().ok()
}

/// The kernel, if it is installed; it must be with `MUSTER_TEST_REQUIRE=all`.
fn has_kernel() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder| folder.join(KERNEL).is_file());
    let required = std::env::var("MUSTER_TEST_REQUIRE").is_ok_and(|value| value == "all");
    assert!(
        found || !required,
        "{KERNEL} (Debian: user-mode-linux) is not installed, and MUSTER_TEST_REQUIRE=all wants it"
    );
    if !found {
        let skipped = format!("skipped what needs {KERNEL} (Debian: user-mode-linux): it is not installed");
        // Past the test runner, which hides what a passing test prints.
        let _ = writeln!(std::io::stderr(), "{skipped}");
    }
    found
}

fn furnish(folder: &Path) -> PathBuf {
    fs::create_dir(folder.join("disk")).unwrap();
    File::create(folder.join("image")).unwrap().set_len(DISK_BYTES).unwrap();
    let init = folder.join("init");
    fs::write(&init, INIT).unwrap();
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755)).unwrap();
    init
}

#[test]
fn machine_that_loses_its_power_has_every_acknowledged_batch_when_it_comes_back() {
    if !has_kernel() {
        return;
    }
    let cycles = std::env::var(CYCLES_VARIABLE).ok().and_then(|cycles| cycles.parse().ok()).unwrap_or(CYCLES);
    let folder = tempfile::tempdir().unwrap();
    furnish(folder.path());
    let mut numbers = Numbers(7);
    let (mut acknowledged, mut cuts_that_lost) = (0, 0);
    for cycle in 0..cycles {
        let mut console = Vec::new();
        let machine = Machine::power_on(folder.path(), cycle);
        let unsynced = machine.next(&mut console);
        cuts_that_lost += u64::from(cycle > 0 && unsynced < UNSYNCED_BYTES);
        let held = machine.next(&mut console);
        assert!(
            held >= acknowledged,
            "cycle {cycle}: {acknowledged} batches were acknowledged, {held} are there"
        );
        for _ in 0..numbers.below(ACKNOWLEDGED_MAX) {
            acknowledged = acknowledged.max(machine.next(&mut console) + 1);
        }
        let last = machine.cut().into_iter().max().map_or(0, |n| n + 1);
        acknowledged = acknowledged.max(held).max(last);
    }
    assert!(acknowledged > 0);
    assert!(cuts_that_lost > 0, "a cut that loses nothing is none");
    if cycles > CYCLES {
        let _ = writeln!(
            std::io::stderr(),
            "{cycles} cuts, {cuts_that_lost} lost what was not synced; {acknowledged} batches, none lost"
        );
    }
}
