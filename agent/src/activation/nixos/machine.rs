//! Where a NixOS machine keeps what a switch touches, and the programs that touch it.

use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use muster_core::id::Closure;

use crate::process::{Captured, Ending, Program, capture};

/// The folder of the store, as store paths spell it.
const STORE: &str = "/nix/store";
/// The most symlinks that are followed to find where a file of a system lies.
const LINKS_MAX: u32 = 40;
/// Variables that decide how Nix finds its store and its substituters; programs get these and no others.
const NIX_VARIABLES: [&str; 7] = [
    "NIX_REMOTE",
    "NIX_CONFIG",
    "NIX_CONF_DIR",
    "NIX_USER_CONF_FILES",
    "NIX_STATE_DIR",
    "NIX_SSL_CERT_FILE",
    "SSL_CERT_FILE",
];

/// A NixOS machine; tests point every part of it into a folder of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// The folder below which `/nix/store` really lies.
    pub store_root: PathBuf,
    /// The system's profile.
    pub profile: PathBuf,
    /// The symlink to the system that runs.
    pub current_system: PathBuf,
    /// The symlink to the system that was booted.
    pub booted_system: PathBuf,
    /// The programs.
    pub programs: Programs,
    /// What the programs find in their environment besides `PATH`.
    pub env: Vec<(&'static str, OsString)>,
}

/// The programs that a switch runs: paths, or names that are looked up in `PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Programs {
    /// Sets profiles.
    pub nix_env: PathBuf,
    /// Realises and checks store paths.
    pub nix_store: PathBuf,
    /// Tells what store paths hold.
    pub nix: PathBuf,
    /// Starts transient units.
    pub systemd_run: PathBuf,
    /// Tells of units, and ends them.
    pub systemctl: PathBuf,
    /// Tells what units said.
    pub journalctl: PathBuf,
    /// Lowers the priority of the processor.
    pub nice: PathBuf,
    /// Lowers the priority of the disk.
    pub ionice: PathBuf,
}

impl Default for Machine {
    fn default() -> Self {
        let variable = |name: &'static str| std::env::var_os(name).map(|value| (name, value));
        Self {
            store_root: "/".into(),
            profile: "/nix/var/nix/profiles/system".into(),
            current_system: "/run/current-system".into(),
            booted_system: "/run/booted-system".into(),
            programs: Programs::default(),
            env: NIX_VARIABLES.into_iter().filter_map(variable).collect(),
        }
    }
}

impl Default for Programs {
    fn default() -> Self {
        Self {
            nix_env: "nix-env".into(),
            nix_store: "nix-store".into(),
            nix: "nix".into(),
            systemd_run: "systemd-run".into(),
            systemctl: "systemctl".into(),
            journalctl: "journalctl".into(),
            nice: "nice".into(),
            ionice: "ionice".into(),
        }
    }
}

/// A program that did not do what it was run for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{program}: {how}{}{said}", if .said.is_empty() { "" } else { ": " })]
pub struct ProgramFailed {
    /// The program, with the arguments that say what it was to do.
    pub program: String,
    /// How it ended.
    pub how: String,
    /// The end of what it wrote to stderr.
    pub said: String,
}

impl Machine {
    /// The system that runs; none if `/run/current-system` names no store path.
    pub fn current(&self) -> Option<Closure> {
        named(&self.current_system)
    }

    /// The system that was booted.
    pub fn booted(&self) -> Option<Closure> {
        named(&self.booted_system)
    }

    /// The system that the profile names: what a boot loader was last told, and what the next generation follows.
    pub fn profile(&self) -> Option<Closure> {
        let generation = fs::read_link(&self.profile).ok()?;
        named(&self.profile.parent()?.join(generation))
    }

    /// Where a path that begins with the store really lies.
    pub fn real(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        match path.strip_prefix("/") {
            Ok(inside) if path.starts_with(STORE) => self.store_root.join(inside),
            Ok(_) | Err(_) => path.to_owned(),
        }
    }

    /// Whether a path that begins with the store exists.
    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        fs::symlink_metadata(self.real(path)).is_ok()
    }

    /// Follows every symlink of a path; none if it leads nowhere. The answer spells the store as store paths do.
    pub fn resolve(&self, path: impl AsRef<Path>) -> Option<PathBuf> {
        let mut rest = parts(path.as_ref());
        let (mut done, mut links) = (PathBuf::from("/"), 0);
        while let Some(part) = rest.pop() {
            if part == ".." {
                done.pop();
                continue;
            }
            let next = done.join(&part);
            match fs::read_link(self.real(&next)) {
                Ok(link) => {
                    links += 1;
                    if links > LINKS_MAX {
                        return None;
                    }
                    if link.is_absolute() {
                        done = PathBuf::from("/");
                    }
                    rest.extend(parts(&link));
                }
                Err(_) if self.exists(&next) => done = next,
                Err(_) => return None,
            }
        }
        Some(done)
    }

    /// The store path that a file of a system belongs to once every symlink is followed, or the file itself if it lies
    /// elsewhere; none if there is no such file.
    pub fn component(&self, path: impl AsRef<Path>) -> Option<PathBuf> {
        let found = self.resolve(path)?;
        let inside = found.strip_prefix(STORE).ok().and_then(|inside| inside.components().next());
        let of_store = inside.map(|first| Path::new(STORE).join(first));
        Some(of_store.unwrap_or(found))
    }

    /// The same machine with the programs that a system brings, as far as it does: what leads back to a system must not
    /// depend on the one that failed.
    #[must_use]
    pub fn with_programs_of(&self, system: &Closure) -> Self {
        let mut machine = self.clone();
        let programs = &mut machine.programs;
        for program in [
            &mut programs.nix_env,
            &mut programs.nix_store,
            &mut programs.nix,
            &mut programs.systemd_run,
            &mut programs.systemctl,
            &mut programs.journalctl,
        ] {
            let brought = Path::new(system.as_str()).join("sw/bin").join(&program);
            // A path is where the operator wants the program from; a name is looked up.
            if program.is_relative() && program.components().count() == 1 && self.resolve(&brought).is_some()
            {
                *program = self.real(brought);
            }
        }
        machine
    }

    /// Runs a program to its end; gives what it wrote to stdout if it exits with 0.
    pub async fn run(
        &self,
        program: &Path,
        args: &[&str],
        timeout: Duration,
        stdout_bytes_max: usize,
    ) -> Result<Vec<u8>, ProgramFailed> {
        let asked = self.asked(program, args, timeout);
        let Captured { ended, stdout } = capture(&asked, stdout_bytes_max).await;
        let how = match ended.ending {
            Ending::Exited(0) => return Ok(stdout),
            Ending::Exited(code) => format!("exit code {code}"),
            Ending::Signalled(signal) => format!("ended by signal {signal}"),
            Ending::TimedOut => format!("killed after {} s", timeout.as_secs()),
            Ending::Lost(reason) => reason,
        };
        let name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
        let program = args.first().map_or(name.clone(), |first| format!("{name} {first}"));
        Err(ProgramFailed { program, how, said: ended.tail.trim().to_owned() })
    }

    fn asked(&self, program: &Path, args: &[&str], timeout: Duration) -> Program {
        Program {
            program: program.to_owned(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            dir: "/".into(),
            env: self.env.clone(),
            timeout,
            tail_bytes_max: muster_core::wire::STDERR_TAIL_BYTES_MAX,
        }
    }
}

/// The parts of a path, the last one first, as a stack of what is still to be walked.
fn parts(path: &Path) -> Vec<OsString> {
    let parts = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
    });
    parts.collect::<Vec<_>>().into_iter().rev().collect()
}

/// The store path that a symlink names.
fn named(link: &Path) -> Option<Closure> {
    let closure: Closure = fs::read_link(link).ok()?.to_str()?.parse().ok()?;
    closure.directory_release().is_none().then_some(closure)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::os::unix::fs::symlink;

    use super::*;

    const HASH: &str = "0123456789abcdfghijklmnpqrsvwxyz";

    /// A machine with a system whose kernel and shell lie in other store paths.
    fn machine() -> (tempfile::TempDir, Machine, Closure) {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("nix/store");
        let system = format!("{HASH}-nixos-system");
        for dir in [format!("{system}/sw"), format!("{HASH}-linux"), format!("{HASH}-bash/bin")] {
            fs::create_dir_all(store.join(dir)).unwrap();
        }
        fs::write(store.join(format!("{HASH}-linux/bzImage")), "").unwrap();
        fs::write(store.join(format!("{HASH}-bash/bin/nix-env")), "").unwrap();
        symlink(format!("{STORE}/{HASH}-linux/bzImage"), store.join(&system).join("kernel")).unwrap();
        symlink(format!("../../{HASH}-bash/bin"), store.join(&system).join("sw/bin")).unwrap();
        symlink("loop", store.join(&system).join("loop")).unwrap();
        let machine = Machine {
            store_root: folder.path().to_owned(),
            current_system: folder.path().join("current-system"),
            ..Machine::default()
        };
        let closure = format!("{STORE}/{system}").parse().unwrap();
        (folder, machine, closure)
    }

    #[test]
    fn what_runs_is_a_store_path_and_nothing_else() {
        let (_folder, machine, system) = machine();
        assert_eq!(machine.current(), None);
        for (link, expected) in [
            (system.as_str(), Some(system.clone())),
            ("dir:v1", None),
            ("/etc/passwd", None),
            ("/nix/store/../../etc", None),
        ] {
            let _ = fs::remove_file(&machine.current_system);
            symlink(link, &machine.current_system).unwrap();
            assert_eq!(machine.current(), expected, "{link}");
        }
    }

    #[test]
    fn symlinks_are_followed_as_the_machine_itself_would() {
        let (_folder, machine, system) = machine();
        let component = |path: &str| machine.component(Path::new(system.as_str()).join(path));
        let part = |name: &str| Some(PathBuf::from(format!("{STORE}/{HASH}-{name}")));
        assert_eq!(component("kernel"), part("linux"));
        assert_eq!(component("sw/bin/nix-env"), part("bash"));
        assert_eq!(component("sw/bin/nix-store"), None);
        assert_eq!(component("loop"), None);
        assert_eq!(machine.component("/dev/null"), Some("/dev/null".into()));
    }

    #[test]
    fn a_system_brings_its_own_programs() {
        let (_folder, mut machine, system) = machine();
        machine.programs.systemctl = "/usr/bin/nix-env".into();
        let brought = machine.with_programs_of(&system).programs;
        // The symlink leads through the store as it is spelt, so it is what the kernel resolves on a real machine.
        assert_eq!(brought.nix_env, machine.real(format!("{system}/sw/bin/nix-env")));
        assert_eq!(brought.nix_store, machine.programs.nix_store);
        assert_eq!(brought.systemctl, machine.programs.systemctl);
    }
}
