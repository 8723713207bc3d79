//! A probe that runs a program and looks at its exit code.

use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_core::wire::FAILURE_REASON_BYTES_MAX;

use crate::process::{Ending, Program, run};

/// A program and the code that it must exit with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exec {
    /// The program and its arguments; no shell reads them.
    pub command: Vec<String>,
    /// The exit code of health.
    pub expect_exit_code: i32,
    /// The folder that it runs in: that of the health checks.
    pub dir: PathBuf,
}

impl Exec {
    /// Runs the probe; the error is why it fails.
    pub async fn run(&self, timeout: Duration) -> Result<(), String> {
        let Some((program, args)) = self.command.split_first() else {
            return Err("the command is empty".to_owned());
        };
        let ended = run(&Program {
            program: self.program(program),
            args: args.to_vec(),
            dir: self.dir.clone(),
            env: Vec::new(),
            timeout,
            tail_bytes_max: FAILURE_REASON_BYTES_MAX,
        })
        .await;
        let what = match ended.ending {
            Ending::Exited(code) if code == self.expect_exit_code => return Ok(()),
            Ending::Exited(code) => format!("exit code {code}, expected {}", self.expect_exit_code),
            Ending::Signalled(signal) => format!("ended by signal {signal}"),
            Ending::TimedOut => format!("killed after {} s", timeout.as_secs_f64()),
            Ending::Lost(reason) => format!("{program}: {reason}"),
        };
        let said = ended.tail.trim();
        Err(if said.is_empty() { what } else { format!("{what}: {said}") })
    }

    /// A name is looked up in `PATH`, a relative path in the folder of the health checks.
    fn program(&self, program: &str) -> PathBuf {
        if program.contains('/') { self.dir.join(program) } else { Path::new(program).to_owned() }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    async fn check(command: &[&str], expect_exit_code: i32, timeout: Duration) -> Result<(), String> {
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        Exec { command, expect_exit_code, dir: "/bin".into() }.run(timeout).await
    }

    #[tokio::test]
    async fn the_exit_code_decides_and_the_reason_says_what_happened() {
        let long = Duration::from_secs(60);
        let cases: [(&[&str], i32, Result<(), &str>); 8] = [
            (&["true"], 0, Ok(())),
            (&["/bin/true"], 0, Ok(())),
            (&["./true"], 0, Ok(())),
            (&["false"], 1, Ok(())),
            (&["true"], 1, Err("exit code 0, expected 1")),
            (&["sh", "-c", "echo no space >&2; exit 7"], 0, Err("exit code 7, expected 0: no space")),
            (&["sh", "-c", "kill -9 $$"], 0, Err("ended by signal 9")),
            (&["/nowhere/x"], 0, Err("/nowhere/x: No such file or directory (os error 2)")),
        ];
        for (command, code, expected) in cases {
            assert_eq!(check(command, code, long).await, expected.map_err(str::to_owned), "{command:?}");
        }
    }

    #[tokio::test]
    async fn a_program_that_does_not_end_is_killed_with_its_children() {
        let script = "echo waiting >&2; sleep 1000 & wait";
        let reason = check(&["sh", "-c", script], 0, Duration::from_secs(3)).await.unwrap_err();
        // The pipe ends only when the child in the background is gone too.
        assert_eq!(reason, "killed after 3 s: waiting");
    }

    #[tokio::test]
    async fn the_environment_is_only_the_search_path() {
        let script = "test \"$(env | grep -v -e ^PATH= -e ^PWD= -e ^SHLVL= -e ^_=)\" = ''";
        assert_eq!(check(&["sh", "-c", script], 0, Duration::from_secs(60)).await, Ok(()));
    }
}
