//! Runs one program with a deadline, in a process group of its own, and keeps the end of what it says on stderr.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::{sleep, timeout};

use crate::text::Tail;

/// The search path of programs where the agent itself was given none.
const PATH_DEFAULT: &str = "/run/current-system/sw/bin:/usr/local/bin:/usr/bin:/bin";
/// How long a pipe is read on after its program has ended: a daemon that inherited it may keep it open for ever.
const DRAIN_MAX: Duration = Duration::from_millis(200);
/// How often a program that somebody still holds open for writing is tried again, and how long between two tries.
const BUSY_RETRIES: u32 = 10;
const BUSY_WAIT: Duration = Duration::from_millis(20);

/// One program to run: never through a shell, and in an environment of only `PATH` and what is named here.
#[derive(Debug, Clone)]
pub struct Program {
    /// The program's path, or its name to be found in `PATH`.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// The folder that it runs in.
    pub dir: PathBuf,
    /// Its environment, besides `PATH`.
    pub env: Vec<(&'static str, OsString)>,
    /// When its process group is killed.
    pub timeout: Duration,
    /// How much of the end of its stderr is kept.
    pub tail_bytes_max: usize,
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// It exited with this code.
    Exited(i32),
    /// This signal ended it.
    Signalled(i32),
    /// It was killed at its deadline.
    TimedOut,
    /// It could not be started, or not be waited for.
    Lost(String),
}

/// A program that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// How.
    pub ending: Ending,
    /// The end of what it wrote to stderr.
    pub tail: String,
}

/// A program that ended, with what it wrote to stdout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// How it ended; [`Ending::Lost`] if it wrote more than was asked for.
    pub ended: Ended,
    /// What it wrote to stdout.
    pub stdout: Vec<u8>,
}

/// The `PATH` that programs get.
pub fn search_path() -> OsString {
    std::env::var_os("PATH").unwrap_or_else(|| PATH_DEFAULT.into())
}

/// Runs a program to its end or its deadline; dropping the future kills its process group.
pub async fn run(program: &Program) -> Ended {
    match spawn(program, Stdio::null(), Stdio::null()).await {
        Ok(child) => watch(child, program).await,
        Err(error) => lost(error.to_string()),
    }
}

/// Runs a program like [`run`], and gives it something to read on stdin, which it may leave unread.
pub async fn feed(program: &Program, stdin: &[u8]) -> Ended {
    let mut child = match spawn(program, Stdio::piped(), Stdio::null()).await {
        Ok(child) => child,
        Err(error) => return lost(error.to_string()),
    };
    let pipe = child.stdin.take();
    let write = async move {
        if let Some(mut pipe) = pipe {
            // A program that ends without reading has said by its exit code what it thinks of it.
            let _ = pipe.write_all(stdin).await;
        }
    };
    let watched = watch(child, program);
    tokio::pin!(watched);
    tokio::select! {
        ended = &mut watched => ended,
        () = write => watched.await,
    }
}

/// Runs a program like [`run`], and keeps what it writes to stdout; one that writes more than `stdout_bytes_max` is killed.
pub async fn capture(program: &Program, stdout_bytes_max: usize) -> Captured {
    let mut child = match spawn(program, Stdio::null(), Stdio::piped()).await {
        Ok(child) => child,
        Err(error) => return Captured { ended: lost(error.to_string()), stdout: Vec::new() },
    };
    let pipe = child.stdout.take();
    let read = async move {
        let mut stdout = Vec::new();
        let Some(pipe) = pipe else { return Ok(stdout) };
        let limit = u64::try_from(stdout_bytes_max).unwrap_or(u64::MAX).saturating_add(1);
        match pipe.take(limit).read_to_end(&mut stdout).await {
            Ok(_) if stdout.len() > stdout_bytes_max => {
                Err(format!("it wrote more than {stdout_bytes_max} bytes to stdout"))
            }
            Ok(_) => Ok(stdout),
            Err(error) => Err(error.to_string()),
        }
    };
    let both = async {
        tokio::pin!(read);
        let watched = watch(child, program);
        tokio::pin!(watched);
        tokio::select! {
            stdout = &mut read => match stdout {
                Ok(stdout) => Captured { ended: watched.await, stdout },
                Err(reason) => Captured { ended: lost(reason), stdout: Vec::new() },
            },
            ended = &mut watched => match timeout(DRAIN_MAX, read).await {
                Ok(Ok(stdout)) => Captured { ended, stdout },
                Ok(Err(reason)) => Captured { ended: lost(reason), stdout: Vec::new() },
                Err(_) => Captured { ended: lost("its stdout was still open after its end".to_owned()), stdout: Vec::new() },
            },
        }
    };
    both.await
}

fn lost(reason: String) -> Ended {
    Ended { ending: Ending::Lost(reason), tail: String::new() }
}

async fn spawn(program: &Program, stdin: Stdio, stdout: Stdio) -> std::io::Result<Child> {
    let mut command = Command::new(&program.program);
    command
        .args(&program.args)
        .current_dir(&program.dir)
        .env_clear()
        .env("PATH", search_path())
        .envs(program.env.iter().map(|(name, value)| (name, value)))
        .stdin(stdin)
        .stdout(stdout)
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let mut tries = 0;
    loop {
        match command.spawn() {
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy && tries < BUSY_RETRIES => {
                tries += 1;
                sleep(BUSY_WAIT).await;
            }
            done => return done,
        }
    }
}

async fn watch(mut child: Child, program: &Program) -> Ended {
    let mut group = Group::of(&child);
    let mut stderr = child.stderr.take();
    let mut tail = Tail::new(program.tail_bytes_max);
    let deadline = sleep(program.timeout);
    tokio::pin!(deadline);
    let ending = loop {
        tokio::select! {
            biased;
            status = child.wait() => break ending_of(status),
            () = &mut deadline => {
                group.kill();
                // What is killed ends; waiting for it leaves no zombie.
                let _ = child.wait().await;
                break Ending::TimedOut;
            }
            more = read_some(stderr.as_mut(), &mut tail), if stderr.is_some() => {
                if !more {
                    stderr = None;
                }
            }
        }
    };
    group.disarm();
    if stderr.is_some() {
        let rest = async { while read_some(stderr.as_mut(), &mut tail).await {} };
        // A pipe that stays open is somebody else's; what this program wrote is in it by now.
        let _ = timeout(DRAIN_MAX, rest).await;
    }
    Ended { ending, tail: tail.text() }
}

async fn read_some(stderr: Option<&mut ChildStderr>, tail: &mut Tail) -> bool {
    let Some(stderr) = stderr else { return false };
    let mut buffer = [0; 4096];
    match stderr.read(&mut buffer).await {
        Ok(0) | Err(_) => false,
        Ok(count) => {
            tail.push(&buffer[..count]);
            true
        }
    }
}

fn ending_of(status: std::io::Result<ExitStatus>) -> Ending {
    use std::os::unix::process::ExitStatusExt;
    match status {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => Ending::Exited(code),
            (None, Some(signal)) => Ending::Signalled(signal),
            (None, None) => Ending::Lost("it ended neither by an exit nor by a signal".to_owned()),
        },
        Err(error) => Ending::Lost(error.to_string()),
    }
}

/// Kills a process group when it is dropped before its leader has ended.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw))
    }

    fn kill(&mut self) {
        if let Some(group) = self.0.take() {
            // An error means that the group is gone already.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }

    fn disarm(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_program_writes_is_kept_up_to_a_bound() {
        let exited = |code| Ending::Exited(code);
        let too_much = Ending::Lost("it wrote more than 8 bytes to stdout".to_owned());
        for (script, ending, stdout, tail) in [
            ("echo out; echo err >&2", exited(0), "out\n", "err\n"),
            ("printf 12345678; exit 3", exited(3), "12345678", ""),
            ("printf 123456789", too_much.clone(), "", ""),
            ("yes", too_much, "", ""),
            ("exec >&-; exit 4", exited(4), "", ""),
        ] {
            let program = Program {
                program: "sh".into(),
                args: vec!["-c".to_owned(), script.to_owned()],
                dir: "/".into(),
                env: Vec::new(),
                timeout: Duration::from_secs(60),
                tail_bytes_max: 64,
            };
            let expected = Captured { ended: Ended { ending, tail: tail.to_owned() }, stdout: stdout.into() };
            assert_eq!(capture(&program, 8).await, expected, "{script}");
        }
    }
}
