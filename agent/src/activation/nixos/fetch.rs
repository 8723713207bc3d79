//! Fetches a system into the store: what it needs is rooted, so that no clean-up takes it away before it is switched to.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use muster_core::id::Closure;
use muster_core::wire::FAILURE_REASON_BYTES_MAX;
use muster_signing::Digest;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

use super::contents::ContentsError;
use super::machine::Machine;
use crate::process::search_path;
use crate::text::Tail;

/// The folder of the roots, in the folder of the agent's state.
const ROOTS: &str = "roots";
/// How the roots begin that hold what is fetched ahead.
const AHEAD: &str = "ahead-";
/// What the names of roots begin with that keep a way back.
const BACK: &str = "back-";
/// How long Nix may take to say what it would fetch.
const PLAN_TIME_MAX: Duration = Duration::from_secs(120);
/// The most that is read of one line of what Nix says.
const LINE_BYTES_MAX: u64 = 16 * 1024;
/// The shortest time between two words about progress.
const TELL_GAP: Duration = Duration::from_secs(1);

/// How often a fetch is tried, and how long between two tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// How often.
    pub tries: u32,
    /// The first pause; each further one is twice as long.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
    /// How long one try may take.
    pub each: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            tries: 20,
            first: Duration::from_secs(5),
            longest: Duration::from_secs(600),
            each: Duration::from_secs(6 * 3600),
        }
    }
}

impl Patience {
    /// The pause after a try that failed, counted from 1; none after the last.
    pub fn pause(&self, failed: u32) -> Option<Duration> {
        let doubled = self.first.saturating_mul(2_u32.saturating_pow(failed.saturating_sub(1)));
        (failed < self.tries).then(|| doubled.min(self.longest))
    }
}

/// Why a system is not in the store.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The folder of the roots does not take one.
    #[error("{path}: {source}")]
    Roots {
        /// The folder or the root.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The program could not be run.
    #[error("{program}: {source}")]
    Run {
        /// The program.
        program: String,
        /// Why not.
        source: io::Error,
    },
    /// Nix did not get it.
    #[error("nix-store --realise: {how}: {said}")]
    NotFetched {
        /// How Nix ended.
        how: String,
        /// The end of what it said.
        said: String,
    },
    /// What was fetched is not what was signed, or cannot be told.
    #[error(transparent)]
    Contents(#[from] ContentsError),
    /// What was fetched is no system.
    #[error("{0} brings no bin/switch-to-configuration: it is not a NixOS system")]
    NotASystem(Closure),
}

impl FetchError {
    /// Whether another try may have another end.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Roots { .. } | Self::Run { .. } | Self::NotFetched { .. } => true,
            Self::Contents(error) => !matches!(error, ContentsError::Other { .. }),
            Self::NotASystem(_) => false,
        }
    }
}

/// Who hears how a fetching goes.
pub(super) type Tell<'a> = &'a mut (dyn FnMut(String) + Send);

/// The roots that the agent keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Roots(PathBuf);

impl Roots {
    /// Those of an agent whose state is in this folder.
    pub(super) fn of(state_dir: &Path) -> Self {
        Self(state_dir.join(ROOTS))
    }

    /// The root of what is fetched ahead.
    pub(super) fn ahead(&self, closure: &Closure) -> PathBuf {
        self.0.join(format!("{AHEAD}{}", closure.as_str().trim_start_matches("/nix/store/")))
    }

    /// The root of the newest switch's target, where that was not fetched ahead.
    pub(super) fn target(&self) -> PathBuf {
        self.0.join("target")
    }

    /// The root of a system that may have to be gone back to.
    pub(super) fn back(&self, closure: &Closure) -> PathBuf {
        self.0.join(format!("{BACK}{}", closure.as_str().trim_start_matches("/nix/store/")))
    }

    /// Lets go of everything that was fetched ahead but these.
    pub(super) fn keep_ahead(&self, wanted: &[Closure]) -> io::Result<()> {
        self.keep(AHEAD, &wanted.iter().map(|closure| self.ahead(closure)).collect::<Vec<_>>())
    }

    /// Lets go of every way back but this one.
    pub(super) fn keep_back(&self, to: &Closure) -> io::Result<()> {
        self.keep(BACK, &[self.back(to)])
    }

    fn keep(&self, kind: &str, kept: &[PathBuf]) -> io::Result<()> {
        let entries = match fs::read_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let path = entry?.path();
            let is_of_kind = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(kind));
            if is_of_kind && !kept.contains(&path) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

impl Machine {
    /// Fetches a system, keeps it by a root, and checks what came. `tell` hears of the progress of what is fetched ahead, at
    /// low priority; a switch waits for what is fetched without it.
    pub(super) async fn fetch(
        &self,
        closure: &Closure,
        contents: Option<Digest>,
        root: &Path,
        limit: Duration,
        tell: Option<Tell<'_>>,
    ) -> Result<(), FetchError> {
        let folder = root.parent().unwrap_or(root);
        fs::create_dir_all(folder).map_err(|source| FetchError::Roots { path: folder.to_owned(), source })?;
        let total = if tell.is_some() { self.to_fetch(closure).await } else { None };
        self.realise(closure, root, limit, total, tell).await?;
        self.check(closure, contents).await
    }

    /// Whether a system is in the store and kept there by this root. One that is named by the system was made by Nix itself,
    /// which knows of it for as long as it is there; to ask Nix again would take most of the time that a switch needs to begin.
    pub(super) fn is_rooted(&self, closure: &Closure, root: &Path) -> bool {
        fs::read_link(root).is_ok_and(|link| link == Path::new(closure.as_str())) && self.exists(closure.as_str())
    }

    /// Checks what is in the store.
    pub(super) async fn check(&self, closure: &Closure, contents: Option<Digest>) -> Result<(), FetchError> {
        if let Some(signed) = contents {
            self.check_contents(closure, signed).await?;
        }
        if self.resolve(format!("{closure}/bin/switch-to-configuration")).is_none() {
            return Err(FetchError::NotASystem(closure.clone()));
        }
        Ok(())
    }

    /// How many paths Nix says that it would fetch; none if it does not say.
    async fn to_fetch(&self, closure: &Closure) -> Option<u32> {
        let mut command = Command::new(&self.programs.nix_store);
        command.args(["--realise", "--dry-run", "--", closure.as_str()]);
        let output = timeout(PLAN_TIME_MAX, self.prepared(&mut command).output()).await.ok()?.ok()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let line = said.lines().find(|line| line.contains("will be fetched"))?;
        // "this path will be fetched", and "these 12 paths will be fetched".
        if line.starts_with("this ") {
            Some(1)
        } else {
            line.split_whitespace().find_map(|word| word.parse().ok())
        }
    }

    async fn realise(
        &self,
        closure: &Closure,
        root: &Path,
        limit: Duration,
        total: Option<u32>,
        tell: Option<Tell<'_>>,
    ) -> Result<(), FetchError> {
        let nix_store = &self.programs.nix_store;
        let polite =
            [(&self.programs.nice, &["-n", "19"][..]), (&self.programs.ionice, &["-t", "-c", "3"][..])];
        let polite = polite.into_iter().filter(|(program, _)| tell.is_some() && is_there(program));
        let mut words: Vec<std::ffi::OsString> = Vec::new();
        for (program, args) in polite {
            words.push(program.into());
            words.extend(args.iter().map(Into::into));
        }
        words.push(nix_store.into());
        words.extend(["--realise", "--add-root"].map(Into::into));
        words.push(root.into());
        words.extend(["--indirect", "--", closure.as_str()].map(Into::into));
        let run = |source| FetchError::Run { program: nix_store.display().to_string(), source };
        let Some((program, args)) = words.split_first() else { return Ok(()) };
        let mut child = self.prepared(Command::new(program).args(args)).spawn().map_err(run)?;
        let mut said = Tail::new(FAILURE_REASON_BYTES_MAX);
        let stderr = child.stderr.take();
        let ended = timeout(limit, async {
            if let Some(stderr) = stderr {
                follow(stderr, total, &mut said, tell).await;
            }
            child.wait().await
        });
        let how = match ended.await {
            Ok(Ok(status)) if status.success() => return Ok(()),
            Ok(Ok(status)) => status.to_string(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("not done after {} s", limit.as_secs()),
        };
        Err(FetchError::NotFetched { how, said: said.text().trim().to_owned() })
    }

    fn prepared<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .current_dir("/")
            .env_clear()
            .env("PATH", search_path())
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
    }
}

/// Whether a line only says what Nix is about to do, which would push the reason of a failure out of what is told of it.
fn is_plan(line: &[u8]) -> bool {
    let line = String::from_utf8_lossy(line);
    line.starts_with("  /nix/store/")
        || ["will be fetched", "will be built"].iter().any(|plan| line.contains(plan))
}

/// Reads what Nix says while it fetches; each path that it copies is one step.
async fn follow(
    stderr: tokio::process::ChildStderr,
    total: Option<u32>,
    said: &mut Tail,
    mut tell: Option<Tell<'_>>,
) {
    let mut reader = BufReader::new(stderr);
    let (mut copied, mut told) = (0_u32, None::<Instant>);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut reader).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        if !line.starts_with(b"copying path ") {
            if !is_plan(&line) {
                said.push(&line);
            }
            continue;
        }
        copied += 1;
        let Some(tell) = &mut tell else { continue };
        if told.is_none_or(|told| told.elapsed() >= TELL_GAP) {
            told = Some(Instant::now());
            tell(match total {
                Some(total) => format!("fetches path {copied} of {}", total.max(copied)),
                None => format!("fetches path {copied}"),
            });
        }
    }
}

/// Whether a program can be found, as a path or by its name.
fn is_there(program: &Path) -> bool {
    let is_name = program.is_relative() && program.components().count() == 1;
    if is_name {
        std::env::split_paths(&search_path()).any(|folder| folder.join(program).is_file())
    } else {
        program.is_file()
    }
}

/// Waits as long as a failed try asks for; false if it was the last one.
pub(super) async fn pause(patience: &Patience, failed: u32) -> bool {
    match patience.pause(failed) {
        Some(pause) => {
            sleep(pause).await;
            true
        }
        None => false,
    }
}

#[cfg(test)]
mod tests;
