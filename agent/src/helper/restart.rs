//! Renews the agent: after a switch the old program still runs, and the unit file names a new one.
//!
//! The agent's unit is left alone by a switch, since it is the agent that sees the switch to its end. Once the new system
//! has proven itself the agent asks for its own restart. An agent that was started anew meanwhile runs the new program already,
//! and asks in the same way when its host has gone back. systemd does it, so it does not matter who asked and is gone.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::activation::nixos::machine::Machine;

/// The agent's unit: the only one that is ever restarted.
pub const UNIT: &str = "muster.service";
/// How long systemd may take to answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
/// The most that is read of an answer.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// The most that is read of a command line.
const COMMAND_BYTES_MAX: usize = 64 * 1024;

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restarted {
    /// The unit file names what runs already.
    NotNeeded,
    /// systemd was told to.
    Begun,
}

impl fmt::Display for Restarted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotNeeded => "the agent is the one that its unit file names",
            Self::Begun => "the agent is restarted into the program that its unit file names",
        })
    }
}

/// Restarts the agent, if its unit file names another program or other arguments than those that run; `proc` is where
/// processes are told of.
pub async fn restart(machine: &Machine, proc: &Path) -> Result<Restarted, String> {
    let systemctl = &machine.programs.systemctl;
    let show = ["show", "--property=MainPID,ExecStart", "--", UNIT];
    let answer = machine.run(systemctl, &show, ANSWER_TIME_MAX, ANSWER_BYTES_MAX).await;
    let answer = answer.map_err(|error| error.to_string())?;
    let unit =
        read(&String::from_utf8_lossy(&answer)).ok_or(format!("systemd tells of no running {UNIT}"))?;
    if !differs(&unit, &running(&proc.join(unit.pid.to_string()))?) {
        return Ok(Restarted::NotNeeded);
    }
    let again = ["restart", "--no-block", "--quiet", "--", UNIT];
    let begun = machine.run(systemctl, &again, ANSWER_TIME_MAX, ANSWER_BYTES_MAX).await;
    begun.map(|_| Restarted::Begun).map_err(|error| error.to_string())
}

/// What systemd tells of the unit.
#[derive(Debug, PartialEq, Eq)]
struct Unit {
    pid: u32,
    /// The program of its unit file.
    program: PathBuf,
    /// The words of its unit file, the program's name first.
    words: String,
}

/// What runs.
#[derive(Debug, PartialEq, Eq)]
struct Running {
    program: PathBuf,
    words: String,
}

/// Reads `systemctl show`; none if the unit does not run or its unit file starts nothing.
fn read(answer: &str) -> Option<Unit> {
    let property = |name: &str| answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    let start = property("ExecStart")?.strip_prefix("{ path=")?;
    let (program, rest) = start.split_once(" ; argv[]=")?;
    let (words, _) = rest.split_once(" ; ")?;
    let pid = property("MainPID")?.parse().ok().filter(|pid| *pid != 0)?;
    Some(Unit { pid, program: program.into(), words: words.to_owned() })
}

fn running(process: &Path) -> Result<Running, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", process.display());
    let program = fs::read_link(process.join("exe")).map_err(failed)?;
    let mut words = fs::read(process.join("cmdline")).map_err(failed)?;
    words.truncate(COMMAND_BYTES_MAX);
    let words = String::from_utf8_lossy(&words).trim_end_matches('\0').replace('\0', " ");
    Ok(Running { program, words })
}

/// Whether the unit file names another program, or other arguments. A program that was replaced under its own name is
/// another one too: the kernel no longer calls it by that name alone.
fn differs(unit: &Unit, running: &Running) -> bool {
    let named = fs::canonicalize(&unit.program).unwrap_or_else(|_| unit.program.clone());
    named != running.program || unit.words != running.words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(pid: u32, program: &str, words: &str) -> Unit {
        Unit { pid, program: program.into(), words: words.to_owned() }
    }

    #[test]
    fn systemd_tells_of_the_program_and_its_words() {
        let start =
            "ExecStart={ path=/p/muster ; argv[]=/p/muster agent --config /c ; ignore_errors=no ; pid=7 }";
        for (answer, expected) in [
            (format!("MainPID=7\n{start}"), Some(unit(7, "/p/muster", "/p/muster agent --config /c"))),
            (format!("{start}\nMainPID=7"), Some(unit(7, "/p/muster", "/p/muster agent --config /c"))),
            (format!("MainPID=0\n{start}"), None),
            (format!("MainPID=x\n{start}"), None),
            ("MainPID=7\nExecStart=".to_owned(), None),
            (start.to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(read(&answer), expected, "{answer}");
        }
    }

    #[test]
    fn another_program_or_another_argument_is_a_reason_to_restart() {
        let running = Running { program: "/nix/1/muster".into(), words: "/nix/1/muster agent".to_owned() };
        for (program, words, expected) in [
            ("/nix/1/muster", "/nix/1/muster agent", false),
            ("/nix/2/muster", "/nix/2/muster agent", true),
            ("/nix/1/muster", "/nix/1/muster agent --config /x", true),
        ] {
            assert_eq!(differs(&unit(7, program, words), &running), expected, "{program} {words}");
        }
        let replaced = Running { program: "/nix/1/muster (deleted)".into(), ..running };
        assert!(differs(&unit(7, "/nix/1/muster", "/nix/1/muster agent"), &replaced));
    }
}
