//! A machine in a temporary folder for tests: a store, a profile, and programs that stand in for Nix and systemd.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_core::id::Closure;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

use super::machine::{Machine, Programs};

/// How long a program may take to begin.
const PATIENCE: Duration = Duration::from_secs(60);
/// Starts a unit: a folder of that name under `units`, a process group, and a file when it is over.
const SYSTEMD_RUN: &str = r#"#!/bin/sh
here=$(dirname "$(dirname "$0")")
echo "systemd-run $*" >> "$here/log"
[ -e "$here/no-systemd" ] && { echo 'Failed to connect to bus' >&2; exit 1; }
while [ "$1" != -- ]; do case $1 in --unit=*) unit=${1#--unit=};; esac; shift; done
shift
dir="$here/units/$unit"
mkdir "$dir" || { echo "Unit $unit was already loaded" >&2; exit 1; }
setsid sh -c 'echo $$ > "$0/pid"; "$@" > "$0/said" 2>&1; echo $? > "$0/code.new"; mv "$0/code.new" "$0/code"' \
    "$dir" "$@" < /dev/null > /dev/null 2>&1 &
"#;
const SYSTEMCTL: &str = r#"#!/bin/sh
here=$(dirname "$(dirname "$0")")
[ -e "$here/no-systemd" ] && { echo 'Failed to connect to bus' >&2; exit 1; }
for unit; do :; done
dir="$here/units/$unit"
case $1 in
  show)
    [ -e "$here/$unit" ] && { cat "$here/$unit"; exit 0; }
    [ -d "$dir" ] || { printf 'LoadState=not-found\nActiveState=inactive\n'; exit 0; }
    if [ ! -e "$dir/code" ]; then printf 'LoadState=loaded\nActiveState=activating\n'; exit 0; fi
    code=$(cat "$dir/code")
    if [ "$code" = 0 ]; then printf 'LoadState=loaded\nActiveState=active\nResult=success\nExecMainCode=1\nExecMainStatus=0\n'
    else printf 'LoadState=loaded\nActiveState=failed\nResult=exit-code\nExecMainCode=1\nExecMainStatus=%s\n' "$code"; fi;;
  restart) echo "systemctl restart $unit" >> "$here/log";;
  stop)
    echo "systemctl stop $unit" >> "$here/log"
    [ -d "$dir" ] || exit 5
    if [ ! -e "$dir/code" ]; then
      while [ ! -s "$dir/pid" ]; do sleep 0.01; done
      kill -9 "-$(cat "$dir/pid")"; echo 137 > "$dir/code"
    fi
    [ "$(cat "$dir/code")" = 0 ] && rm -r "$dir"; exit 0;;
  reset-failed)
    [ -d "$dir" ] || exit 1
    rm -r "$dir";;
esac
"#;
const JOURNALCTL: &str = r#"#!/bin/sh
here=$(dirname "$(dirname "$0")")
for unit; do :; done
case $unit in
  _SYSTEMD_UNIT=*) cat "$here/units/${unit#_SYSTEMD_UNIT=}/said" 2> /dev/null;;
  *) echo "systemd speaks of ${unit#--unit=}";;
esac
"#;
const NIX_ENV: &str = r#"#!/bin/sh
here=$(dirname "$(dirname "$0")")
echo "nix-env $*" >> "$here/log"
mv "$here/profile.hold" "$here/profile.holds" 2> /dev/null && {
  echo > "$here/profile.held"; read -r go < "$here/profile.goes-on"; }
[ -e "$here/no-profile" ] && { echo 'error: no space left' >&2; exit 1; }
n=$(($(ls "$here/profiles" | wc -l) + 1))
ln -s "$5" "$here/profiles/system-$n-link"; ln -sfn "system-$n-link" "$here/profiles/system"
"#;
const NIX_STORE: &str = r#"#!/bin/sh
here=$(dirname "$(dirname "$0")")
echo "nix-store $*" >> "$here/log"
for path; do :; done
case $1 in
  --check-validity) [ -e "$here$path" ] || { echo "error: path '$path' is not valid" >&2; exit 1; };;
  --realise)
    [ -e "$here/cache$path" ] || [ -e "$here$path" ] || { echo "error: path '$path' does not exist" >&2; exit 1; }
    case " $* " in
      *' --dry-run '*) printf 'this path will be fetched (0.01 MiB download, 0.02 MiB unpacked):\n  %s\n' "$path" >&2;;
      *) case " $* " in *'/roots/target '*)
           mv "$here/store.hold" "$here/store.holds" 2> /dev/null && {
             echo > "$here/store.held"; read -r go < "$here/store.goes-on"; };;
         esac
         [ -e "$here$path" ] || { echo "copying path '$path' from 'file:///cache'..." >&2
           cp -r "$here/cache$path" "$here$path"; }
         while [ "$1" != --add-root ]; do shift; done; ln -sfn "$path" "$2"; echo "$path";;
    esac;;
esac
"#;
const NIX: &str = r#"#!/bin/sh
here=$(dirname "$(dirname "$0")")
for path; do :; done
cat "$here$path.info"
"#;
/// The switcher of a system: it does what the files beside it say, and waits where it is held.
const SWITCHER: &str = r#"#!/bin/sh
top=$(dirname "$(dirname "$0")"); here=${top%/nix/store/*}; path=/nix/store/$(basename "$top")
echo "$1 $path" >> "$here/log"
echo "activating $(basename "$top")" >&2
mv "$here/switcher.hold" "$here/switcher.holds" 2> /dev/null && {
  echo > "$here/switcher.held"; read -r go < "$here/switcher.goes-on"; }
case $1 in
  switch)
    [ -e "$top/breaks" ] && { echo 'it breaks at once' >&2; exit 1; }
    ln -sfn "$path" "$here/current-system"
    [ -e "$top/elsewhere" ] && ln -sfn /nix/store/00000000000000000000000000000000-elsewhere "$here/current-system"
    [ -e "$top/degrades" ] && { echo 'web.service failed' >&2; exit 4; };;
  boot) [ -e "$top/no-boot-loader" ] && { echo 'no boot loader' >&2; exit 1; };;
esac
exit 0
"#;

/// A machine in a folder.
#[derive(Debug)]
pub(crate) struct Bench {
    /// The folder; gone with the bench.
    pub(crate) folder: tempfile::TempDir,
    /// The machine.
    pub(crate) machine: Machine,
}

impl Bench {
    /// A machine whose Nix and systemd are stand-ins, with nothing in its store.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for dir in ["nix/store", "cache/nix/store", "programs", "profiles", "units", "state"] {
            fs::create_dir_all(root.join(dir)).unwrap();
        }
        let program = |name: &str, text: &str| {
            let path = root.join("programs").join(name);
            executable(&path, text);
            path
        };
        let machine = Machine {
            store_root: root.to_owned(),
            profile: root.join("profiles/system"),
            current_system: root.join("current-system"),
            booted_system: root.join("booted-system"),
            programs: Programs {
                nix_env: program("nix-env", NIX_ENV),
                nix_store: program("nix-store", NIX_STORE),
                nix: program("nix", NIX),
                systemd_run: program("systemd-run", SYSTEMD_RUN),
                systemctl: program("systemctl", SYSTEMCTL),
                journalctl: program("journalctl", JOURNALCTL),
                ..Programs::default()
            },
            env: Vec::new(),
        };
        Self { folder, machine }
    }

    /// A path in the machine's folder.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// A system in the store, with these files in it besides its switcher.
    pub(crate) fn system(&self, name: &str, files: &[(&str, &str)]) -> Closure {
        self.system_below(self.folder.path(), name, files)
    }

    /// A system that only the binary cache holds.
    pub(crate) fn cached(&self, name: &str, files: &[(&str, &str)]) -> Closure {
        self.system_below(&self.path("cache"), name, files)
    }

    fn system_below(&self, root: &Path, name: &str, files: &[(&str, &str)]) -> Closure {
        let path = format!("/nix/store/{}-nixos-system-{name}", "0".repeat(32));
        self.draft(&root.join(&path[1..]), files);
        path.parse().unwrap()
    }

    /// Writes a system's files into a folder.
    pub(crate) fn draft(&self, top: &Path, files: &[(&str, &str)]) {
        fs::create_dir_all(top.join("bin")).unwrap();
        executable(&top.join("bin/switch-to-configuration"), SWITCHER);
        for (file, text) in files {
            let file = top.join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
    }

    /// Has the machine run a system, as after a boot into it.
    pub(crate) fn boot(&self, system: &Closure) {
        for link in [&self.machine.current_system, &self.machine.booted_system] {
            let _ = fs::remove_file(link);
            symlink(system.as_str(), link).unwrap();
        }
        // Transient units end with the boot that they were started in.
        for unit in fs::read_dir(self.path("units")).unwrap() {
            fs::remove_dir_all(unit.unwrap().path()).unwrap();
        }
    }

    /// Has the profile name a system, as an installer leaves it.
    pub(crate) fn install(&self, system: &Closure) {
        symlink(system.as_str(), self.path("profiles/system-0-link")).unwrap();
        symlink("system-0-link", &self.machine.profile).unwrap();
    }

    /// What the stand-ins were asked for, one line each.
    pub(crate) fn log(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("log")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// What the switchers of systems were asked for.
    pub(crate) fn switched(&self) -> Vec<String> {
        let switches = |line: &String| line.starts_with("switch ") || line.starts_with("boot ");
        self.log().into_iter().filter(switches).collect()
    }

    /// Lets the next program of a kind wait once it has begun.
    pub(crate) fn hold(&self, held: Held) -> Hold {
        let [begun, goes_on] = ["held", "goes-on"].map(|end| {
            let pipe = self.path(&format!("{}.{end}", held.name()));
            mkfifo(&pipe, Mode::S_IRWXU).unwrap();
            // Open at both ends, so that neither the program nor the test waits for the other only to open it.
            OpenOptions::new().read(true).write(true).open(&pipe).unwrap()
        });
        fs::write(self.path(&format!("{}.hold", held.name())), "").unwrap();
        Hold { begun, goes_on }
    }
}

/// What can be held.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Held {
    /// The switcher of a system.
    Switcher,
    /// What realises the target of a switch that was not fetched ahead.
    Store,
    /// What sets the profile.
    Profile,
}

impl Held {
    fn name(self) -> &'static str {
        match self {
            Self::Switcher => "switcher",
            Self::Store => "store",
            Self::Profile => "profile",
        }
    }
}

/// A program that waits, or will; it goes on when this is dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    begun: File,
    goes_on: File,
}

impl Hold {
    /// Waits until the program waits.
    pub(crate) async fn begun(&self) {
        let mut begun = pipe::Receiver::from_file(self.begun.try_clone().unwrap()).unwrap();
        let word = begun.read_u8();
        tokio::time::timeout(PATIENCE, word).await.expect("the program begins").unwrap();
    }

    /// Lets it go on.
    pub(crate) fn release(&self) {
        (&self.goes_on).write_all(b"\n").unwrap();
    }
}

fn executable(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}
