//! Child processes that run one test function of this binary.

use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// Names the store that a child opens; without it the functions meant for children do nothing.
const STORE_VARIABLE: &str = "MUSTER_STORE_TEST_CHILD";

pub(crate) struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Running {
    /// Runs the test `name` of this binary in a child.
    pub(crate) fn start(name: &str, store: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture", "--test-threads=1"])
            .env(STORE_VARIABLE, store)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().unwrap());
        Self { child, stdin, stdout: BufReader::new(stdout) }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The number in the child's next whole line `"said <number>"`; `None` once it has ended.
    pub(crate) fn said(&mut self) -> Option<u64> {
        loop {
            let mut line = String::new();
            self.stdout.read_line(&mut line).unwrap();
            let line = line.strip_suffix('\n')?;
            if let Some((_, number)) = line.split_once("said ") {
                return Some(number.parse().unwrap());
            }
        }
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
    }

    /// Lets a child that waits with [`wait_for_parent`] go on, and waits for its end.
    pub(crate) fn finish(mut self) {
        drop(self.stdin.take());
        while self.said().is_some() {}
        self.child.wait().unwrap();
    }
}

/// In a child: the store to open.
pub(crate) fn store_path() -> Option<PathBuf> {
    std::env::var_os(STORE_VARIABLE).map(PathBuf::from)
}

/// In a child: tells the parent a number.
pub(crate) fn say(number: u64) {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "said {number}").unwrap();
    stdout.flush().unwrap();
}

/// In a child: waits until the parent lets it go on.
pub(crate) fn wait_for_parent() {
    io::copy(&mut io::stdin().lock(), &mut io::sink()).unwrap();
}
