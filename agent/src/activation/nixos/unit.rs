//! What systemd tells of a unit that switches, which needs no root.

use std::time::Duration;

use tokio::time::sleep;

use super::machine::{Machine, ProgramFailed};
use super::root::Unit;

/// How long systemd may take to answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
/// The most that is read of an answer.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// How many lines of what a unit said are asked for.
const LINES_MAX: &str = "40";
/// The most that is read of what a unit said.
const SAID_BYTES_MAX: usize = 256 * 1024;
/// The shortest and the longest time between two looks at a unit that runs.
///
/// systemd would tell of the end by a signal on the bus, and nothing here listens for it: a switch restarts the bus and
/// executes systemd itself anew, both of which end a subscription without a word, so that looks would be needed all the
/// same. What a signal would save is the last pause, a tenth of a second after a short switch and two after a long one.
const LOOK_AGAIN: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(2)];
/// How many looks in a row may fail: a switch may restart what answers them.
const FAILED_LOOKS_MAX: u32 = 60;
/// The exit code of a unit that has none.
const NO_EXIT_CODE: i32 = -1;

/// What became of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnitTrace {
    /// systemd knows of no such unit.
    Absent,
    /// It waits for its turn, or runs.
    Running,
    /// It is over.
    Ended {
        /// Its exit code; 128 and more for a signal, -1 where there is none.
        exit_code: i32,
        /// How it ended, where that is not by an exit code alone.
        how: Option<String>,
    },
}

impl Machine {
    /// What became of a unit.
    pub async fn trace(&self, unit: &Unit) -> Result<UnitTrace, ProgramFailed> {
        let properties = "--property=LoadState,ActiveState,Job,Result,ExecMainCode,ExecMainStatus,ExecMainStartTimestampMonotonic";
        let args = ["show", properties, "--", &unit.name()];
        let answer = self.run(&self.programs.systemctl, &args, ANSWER_TIME_MAX, ANSWER_BYTES_MAX).await?;
        Ok(read(&String::from_utf8_lossy(&answer)))
    }

    /// Waits until a unit does not run any more. systemd itself may be replaced meanwhile, so a few failures are borne.
    pub async fn wait(&self, unit: &Unit) -> Result<UnitTrace, ProgramFailed> {
        let [mut pause, longest] = LOOK_AGAIN;
        let mut failures = 0;
        loop {
            match self.trace(unit).await {
                Ok(UnitTrace::Running) => failures = 0,
                Ok(ended) => return Ok(ended),
                Err(error) if failures == FAILED_LOOKS_MAX => return Err(error),
                Err(_) => failures += 1,
            }
            sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }

    /// The end of what a unit's programs said, else of what systemd said of it; nothing where the journal cannot be read.
    pub async fn said(&self, unit: &Unit) -> String {
        let name = unit.name();
        for of in [format!("_SYSTEMD_UNIT={name}"), format!("--unit={name}")] {
            let args = ["--quiet", "--no-pager", "--boot", "--output=cat", "--lines", LINES_MAX, &of];
            let answer = self.run(&self.programs.journalctl, &args, ANSWER_TIME_MAX, SAID_BYTES_MAX).await;
            let said = answer.map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default();
            if !said.trim().is_empty() {
                return said;
            }
        }
        String::new()
    }
}

/// Reads `systemctl show`. What is missing counts as zero or empty, as systemd leaves out what it does not know.
fn read(answer: &str) -> UnitTrace {
    let property = |name: &str| {
        let mut lines = answer.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap_or_default()
    };
    let number = |name: &str| property(name).parse::<i32>().unwrap_or(0);
    if property("LoadState") == "not-found" || property("LoadState").is_empty() {
        return UnitTrace::Absent;
    }
    let waits = !matches!(property("Job"), "" | "0");
    let began = !matches!(property("ExecMainStartTimestampMonotonic"), "" | "0");
    match property("ActiveState") {
        "activating" | "reloading" | "deactivating" => return UnitTrace::Running,
        "inactive" if waits => return UnitTrace::Running,
        "inactive" if !began => return UnitTrace::Absent,
        _ => {}
    }
    let result = property("Result");
    let status = number("ExecMainStatus");
    // CLD_EXITED, CLD_KILLED, CLD_DUMPED of <signal.h>.
    let (exit_code, how) = match (number("ExecMainCode"), result) {
        (1, "success" | "exit-code") => (status, None),
        (1, "timeout") | (2 | 3, "timeout") => {
            (NO_EXIT_CODE, Some("it was killed since it took too long".to_owned()))
        }
        (1, _) if status != 0 => (status, Some(format!("it ended with the result {result}"))),
        (2 | 3, _) => (128 + status, Some(format!("it was ended by signal {status}"))),
        _ => (NO_EXIT_CODE, Some(format!("it ended with the result {result}"))),
    };
    UnitTrace::Ended { exit_code, how }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_of_systemd_is_one_of_three() {
        let ended = |exit_code, how: &str| UnitTrace::Ended {
            exit_code,
            how: (!how.is_empty()).then(|| how.to_owned()),
        };
        let began = "ExecMainStartTimestampMonotonic=5";
        for (answer, expected) in [
            ("", UnitTrace::Absent),
            ("LoadState=not-found\nActiveState=inactive", UnitTrace::Absent),
            ("LoadState=loaded\nActiveState=inactive\nJob=17", UnitTrace::Running),
            ("LoadState=loaded\nActiveState=inactive\nExecMainStartTimestampMonotonic=0", UnitTrace::Absent),
            ("LoadState=loaded\nActiveState=activating", UnitTrace::Running),
            ("LoadState=loaded\nActiveState=deactivating", UnitTrace::Running),
            (
                "LoadState=loaded\nActiveState=active\nResult=success\nExecMainCode=1\nExecMainStatus=0",
                ended(0, ""),
            ),
            (
                "LoadState=loaded\nActiveState=failed\nResult=exit-code\nExecMainCode=1\nExecMainStatus=4",
                ended(4, ""),
            ),
            (
                "LoadState=loaded\nActiveState=failed\nResult=signal\nExecMainCode=2\nExecMainStatus=9",
                ended(137, "it was ended by signal 9"),
            ),
            (
                "LoadState=loaded\nActiveState=failed\nResult=timeout\nExecMainCode=2\nExecMainStatus=15",
                ended(-1, "it was killed since it took too long"),
            ),
            (
                "LoadState=loaded\nActiveState=failed\nResult=resources\nExecMainCode=0\nExecMainStatus=0",
                ended(-1, "it ended with the result resources"),
            ),
        ] {
            assert_eq!(read(answer), expected, "{answer}");
        }
        let stopped = format!(
            "LoadState=loaded\nActiveState=inactive\n{began}\nResult=success\nExecMainCode=1\nExecMainStatus=0"
        );
        assert_eq!(read(&stopped), ended(0, ""));
    }
}
