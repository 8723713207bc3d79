//! A probe that asks systemd whether units are active, and how many have failed.

use std::path::PathBuf;
use std::time::Duration;

use muster_core::wire::FAILURE_REASON_BYTES_MAX;
use serde::Deserialize;

use crate::process::{Captured, Ending, Program, capture};

/// The most units that one probe names.
const UNITS_MAX: usize = 128;
/// The longest name of a unit, in bytes.
const UNIT_BYTES_MAX: usize = 255;
/// The most that is read of an answer.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// How many failed units are named.
const NAMED_MAX: usize = 5;

/// Units and how they must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Systemd {
    /// Units that must be active.
    units: Vec<String>,
    /// How many units of the whole system may have failed.
    max_failed_units: Option<u32>,
    program: PathBuf,
}

/// One line of `systemctl list-units --output=json`.
#[derive(Deserialize)]
struct Listed {
    unit: String,
}

impl Systemd {
    /// Reads a probe's parts; the error is why they do not serve.
    pub fn new(units: Vec<String>, max_failed_units: Option<u32>) -> Result<Self, String> {
        if units.is_empty() && max_failed_units.is_none() {
            return Err(
                "neither `units` nor `maxFailedUnits` is given, so there is nothing to look at".to_owned()
            );
        }
        if units.len() > UNITS_MAX {
            return Err(format!("{} units are more than {UNITS_MAX}", units.len()));
        }
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b":-_.\\@".contains(&b);
        let is_name = |unit: &&String| {
            (1..=UNIT_BYTES_MAX).contains(&unit.len())
                && !unit.starts_with('-')
                && unit.bytes().all(allowed)
                && unit.contains('.')
        };
        match units.iter().find(|unit| !is_name(unit)) {
            Some(unit) => Err(format!("{unit:?} is no unit's full name, such as \"nginx.service\"")),
            None => Ok(Self { units, max_failed_units, program: "systemctl".into() }),
        }
    }

    /// The same with another program that speaks for systemd.
    #[cfg(test)]
    fn asking(self, program: PathBuf) -> Self {
        Self { program, ..self }
    }

    /// Runs the probe; the error is why it fails.
    pub async fn run(&self, timeout: Duration) -> Result<(), String> {
        if !self.units.is_empty() {
            let mut args = vec!["show", "--property=ActiveState", "--"];
            args.extend(self.units.iter().map(String::as_str));
            let answer = self.ask(&args, timeout).await?;
            judge_units(&self.units, &answer)?;
        }
        let Some(max) = self.max_failed_units else { return Ok(()) };
        let args = ["list-units", "--state=failed", "--all", "--full", "--no-pager", "--output=json"];
        judge_failed(max, &self.ask(&args, timeout).await?)
    }

    async fn ask(&self, args: &[&str], timeout: Duration) -> Result<String, String> {
        let program = Program {
            program: self.program.clone(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            dir: "/".into(),
            env: Vec::new(),
            timeout,
            tail_bytes_max: FAILURE_REASON_BYTES_MAX,
        };
        let Captured { ended, stdout } = capture(&program, ANSWER_BYTES_MAX).await;
        let how = match ended.ending {
            Ending::Exited(0) => return Ok(String::from_utf8_lossy(&stdout).into_owned()),
            Ending::Exited(code) => format!("exit code {code}"),
            Ending::Signalled(signal) => format!("ended by signal {signal}"),
            Ending::TimedOut => format!("killed after {} s", timeout.as_secs_f64()),
            Ending::Lost(reason) => reason,
        };
        Err(format!("systemctl {}: {how}: {}", args.first().unwrap_or(&""), ended.tail.trim()))
    }
}

/// One block of properties per unit, in the order in which they were asked for.
fn judge_units(units: &[String], answer: &str) -> Result<(), String> {
    let states: Vec<&str> = answer.lines().filter_map(|line| line.strip_prefix("ActiveState=")).collect();
    if states.len() != units.len() {
        return Err(format!("systemctl tells of {} units, not of {}", states.len(), units.len()));
    }
    let bad: Vec<String> = units
        .iter()
        .zip(states)
        .filter(|(_, state)| !matches!(*state, "active" | "reloading"))
        .map(|(unit, state)| format!("{unit} is {state}"))
        .collect();
    if bad.is_empty() { Ok(()) } else { Err(bad.join(", ")) }
}

fn judge_failed(max: u32, answer: &str) -> Result<(), String> {
    let failed: Vec<Listed> =
        serde_json::from_str(answer).map_err(|error| format!("systemctl list-units: {error}"))?;
    if u32::try_from(failed.len()).is_ok_and(|count| count <= max) {
        return Ok(());
    }
    let names: Vec<&str> = failed.iter().take(NAMED_MAX).map(|listed| listed.unit.as_str()).collect();
    let more = if failed.len() > NAMED_MAX { ", ..." } else { "" };
    Err(format!("{} units have failed, at most {max} may: {}{more}", failed.len(), names.join(", ")))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const SYSTEMCTL: &str = r#"#!/bin/sh
case $1 in
  show)
    shift 3
    for unit; do
      case $unit in
        web.service) echo ActiveState=active;;
        reloads.service) echo ActiveState=reloading;;
        broken.service) echo ActiveState=failed;;
        lost.service) echo 'Failed to connect to bus' >&2; exit 1;;
        *) echo ActiveState=inactive;;
      esac
      echo
    done;;
  list-units) echo '[{"unit":"broken.service","load":"loaded","active":"failed"},{"unit":"old.mount"}]';;
esac
"#;

    async fn check(units: &[&str], max_failed_units: Option<u32>) -> Result<(), String> {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("systemctl");
        std::fs::write(&program, SYSTEMCTL).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let units = units.iter().map(|unit| (*unit).to_owned()).collect();
        Systemd::new(units, max_failed_units)?.asking(program).run(Duration::from_secs(60)).await
    }

    #[tokio::test]
    async fn every_named_unit_is_active_and_no_more_have_failed_than_may() {
        let cases: [(&[&str], Option<u32>, Result<(), &str>); 11] = [
            (&["web.service"], None, Ok(())),
            (&["web.service", "reloads.service"], Some(2), Ok(())),
            (&[], Some(2), Ok(())),
            (&[], Some(1), Err("2 units have failed, at most 1 may: broken.service, old.mount")),
            (
                &["web.service", "broken.service", "gone.service"],
                None,
                Err("broken.service is failed, gone.service is inactive"),
            ),
            (&["lost.service"], None, Err("systemctl show: exit code 1: Failed to connect to bus")),
            (&[], None, Err("neither `units` nor `maxFailedUnits`")),
            (&["web"], None, Err("\"web\" is no unit's full name")),
            (&["--all.service"], None, Err("is no unit's full name")),
            (&["a b.service"], None, Err("is no unit's full name")),
            (&[""], Some(0), Err("is no unit's full name")),
        ];
        for (units, max, expected) in cases {
            let found = check(units, max).await;
            match (&found, expected) {
                (Ok(()), Ok(())) => {}
                (Err(reason), Err(start)) if reason.contains(start) => {}
                _ => panic!("{units:?} {max:?}: {found:?} instead of {expected:?}"),
            }
        }
    }

    #[test]
    fn an_answer_that_is_not_understood_is_no_health() {
        let units = ["a.service".to_owned(), "b.service".to_owned()];
        assert!(judge_units(&units, "ActiveState=active\n").unwrap_err().contains("1 units, not of 2"));
        assert!(judge_failed(9, "").unwrap_err().contains("EOF"));
        assert!(judge_failed(0, "[]").is_ok());
        let many: Vec<_> = (0..9).map(|n| serde_json::json!({ "unit": format!("u{n}.service") })).collect();
        let reason = judge_failed(0, &serde_json::to_string(&many).unwrap()).unwrap_err();
        assert!(reason.starts_with("9 units have failed") && reason.ends_with("u4.service, ..."), "{reason}");
    }
}
