//! Runs `muster` as a person at a terminal does, with a deadline.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::muster_binary;
use crate::wait::poll;

/// The longest that any command may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// A command line that is being put together.
#[derive(Debug)]
pub struct Muster(Command);

/// A command that runs in the background; it ends when this is dropped.
#[derive(Debug)]
pub struct Following(Child);

impl Drop for Following {
    fn drop(&mut self) {
        // It may have ended by itself, which is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a command did.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code; -1 if a signal ended it.
    pub code: i32,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
    line: String,
}

impl Muster {
    /// `muster` with arguments; of the test's own environment it sees no `MUSTER_*` variable.
    pub fn new<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Self {
        let mut command = Command::new(muster_binary());
        command.args(arguments);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("MUSTER_"))
        {
            command.env_remove(name);
        }
        Self(command)
    }

    /// Talks to the agent behind a socket.
    #[must_use]
    pub fn socket(mut self, socket: &Path) -> Self {
        self.0.env("MUSTER_SOCKET", socket);
        self
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.0.arg(argument);
        self
    }

    /// More arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.0.args(arguments);
        self
    }

    /// Runs it in a folder.
    #[must_use]
    pub fn within(mut self, folder: &Path) -> Self {
        self.0.current_dir(folder);
        self
    }

    /// Lets it run in the background, and write to a file, until what is returned is dropped.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    pub fn follow(mut self, out: &Path) -> Following {
        let file = File::create(out).expect("a file can be made");
        self.0.stdin(Stdio::null()).stdout(file).stderr(Stdio::null());
        Following(self.0.spawn().expect("muster can be started"))
    }

    /// Runs it to its end.
    ///
    /// # Panics
    ///
    /// If it does not end within three minutes.
    pub fn run(self) -> Ran {
        run(self.0)
    }

    /// Runs it in front of a reader who goes away when it has read enough.
    ///
    /// # Panics
    ///
    /// If it does not end within three minutes of that.
    pub fn read(mut self, reader: impl FnOnce(ChildStdout)) -> ExitStatus {
        self.0.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = self.0.spawn().expect("muster can be started");
        reader(child.stdout.take().expect("stdout is a pipe"));
        let status = poll(PATIENCE, || child.try_wait().expect("one's own child can be waited for"));
        status.unwrap_or_else(|| {
            drop(Following(child));
            panic!("{:?} goes on though nobody reads it", self.0)
        })
    }

    /// Runs it with stdout going to a file: its exit code and what it wrote to stderr.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    pub fn into_file(mut self, file: File) -> Ran {
        let line = format!("{:?}", self.0);
        let output = self.0.stdin(Stdio::null()).stdout(file).output().expect("muster can be started");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Ran { code: output.status.code().unwrap_or(-1), stdout: String::new(), stderr, line }
    }
}

/// Runs any command to its end.
///
/// # Panics
///
/// If it cannot be started or does not end within three minutes.
pub(crate) fn run(mut command: Command) -> Ran {
    let line = format!("{command:?}");
    let (mut out, mut err) = (scratch(), scratch());
    let copy = |file: &File| Stdio::from(file.try_clone().expect("a file can be opened twice"));
    command.stdin(Stdio::null()).stdout(copy(&out)).stderr(copy(&err));
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{line}: {error}"));
    let status = poll(PATIENCE, || child.try_wait().expect("one's own child can be waited for"));
    if status.is_none() {
        child.kill().expect("one's own child can be killed");
        child.wait().expect("one's own child can be waited for");
    }
    let (stdout, stderr) = (text(&mut out), text(&mut err));
    let Some(status) = status else {
        panic!("{line} did not end within {PATIENCE:?}; it said:\n{stdout}\n{stderr}");
    };
    Ran { code: status.code().unwrap_or(-1), stdout, stderr, line }
}

fn scratch() -> File {
    tempfile::tempfile().expect("there is room for a scratch file")
}

fn text(file: &mut File) -> String {
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).expect("a scratch file can be read");
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Ran {
    /// What it wrote to stdout, if all went well.
    ///
    /// # Panics
    ///
    /// If it did not exit with 0.
    pub fn ok(self) -> String {
        self.expect_code(0).stdout
    }

    /// The same as JSON.
    ///
    /// # Panics
    ///
    /// If it did not exit with 0 or wrote something else.
    pub fn json(self) -> Value {
        let line = self.line.clone();
        let text = self.ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{line}: {error} in\n{text}"))
    }

    /// Itself, if it exited as expected.
    ///
    /// # Panics
    ///
    /// If it exited with another code.
    pub fn expect_code(self, code: i32) -> Self {
        let Self { code: found, stdout, stderr, line } = &self;
        assert_eq!(
            *found, code,
            "{line} exited with {found}, not {code}\nstdout: {stdout}\nstderr: {stderr}"
        );
        self
    }
}
