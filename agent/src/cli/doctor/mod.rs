//! `muster doctor`: whether this host has all that its agent needs, and how to mend what it lacks.

mod agent;
mod files;
mod hooks;
mod ports;

use std::fmt::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::output::{self, Tone, line};
use super::render::{Look, flat, hanging, labelled};
use super::{Exit, Failure};
use crate::config::{CONFIG_DEFAULT, Config};

/// How wide the column of verdicts is.
const VERDICT_CHARS: usize = 7;
/// The form's version of `--json`.
const SCHEMA: u32 = 1;

/// Looks whether this host has all that its agent needs, and says how to mend what it lacks.
///
/// It reads the configuration as the agent would, looks at the key, the trust file, the state directory, the store, the
/// activation backend and the ports, and asks the agent, if it runs, for its peers, their clocks and the quorum. It
/// changes nothing. Run it as the user who runs the agent.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  muster doctor          before the first start, and whenever something is odd
  muster doctor --config /etc/muster/muster.toml --json |
      jq '.checks[] | select(.verdict != \"ok\")'

Each line is ok, warning or wrong. Ends with 1 when anything is wrong.")]
pub(super) struct Doctor {
    /// The configuration file of the agent.
    #[arg(long, value_name = "FILE", default_value = CONFIG_DEFAULT)]
    config: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// How something was found to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    /// As it should be.
    Ok,
    /// The agent can do with it; look at it.
    Warning,
    /// The agent does not start with it, or cannot do its part.
    Wrong,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    /// What was looked at.
    check: &'static str,
    verdict: Verdict,
    /// What was found.
    what: String,
    /// What to do about it.
    mend: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, what: impl ToString) -> Self {
        Self { check, verdict: Verdict::Ok, what: what.to_string(), mend: None }
    }

    fn warning(check: &'static str, what: impl ToString, mend: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Warning, what: what.to_string(), mend: Some(mend.into()) }
    }

    fn wrong(check: &'static str, what: impl ToString, mend: impl Into<String>) -> Self {
        Self { verdict: Verdict::Wrong, ..Self::warning(check, what, mend) }
    }

    /// What a command would fail with.
    fn failed(check: &'static str, failure: Failure) -> Self {
        Self { check, verdict: Verdict::Wrong, what: failure.message, mend: failure.hint }
    }
}

/// Everything that was looked at.
#[derive(Debug, Serialize)]
struct Report {
    schema: u32,
    /// The configuration file.
    config: PathBuf,
    /// Whether nothing is wrong; there may be warnings.
    ok: bool,
    checks: Vec<Finding>,
}

impl Doctor {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let checks = examine(&self.config)?;
        let ok = checks.iter().all(|finding| finding.verdict != Verdict::Wrong);
        let report = Report { schema: SCHEMA, config: self.config, ok, checks };
        if self.json {
            output::json(&report);
        } else {
            line(text(&report, &Look::of_stdout()).trim_end());
        }
        Ok(if ok { Exit::Done } else { Exit::Refused })
    }
}

fn examine(path: &Path) -> Result<Vec<Finding>, Failure> {
    let mut found = Vec::new();
    let config = match Config::load(path) {
        Ok(config) => config,
        Err(error) => {
            let mend = "muster agent --help shows what it has to say, --config FILE names another; nothing else was looked at";
            found.push(Finding::wrong("config", error.to_string().trim_end(), mend));
            return Ok(found);
        }
    };
    files::config(path, &config, &mut found);
    let key = files::key(&config, &mut found);
    files::trust(&config, &mut found);
    files::state(&config, &mut found);
    files::backend(&config, &mut found);
    files::helper(&config, &mut found);
    hooks::programs(&config, &mut found);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::new)?;
    let told = runtime.block_on(agent::ask(&config, &mut found));
    files::store(&config, told.is_some(), &mut found);
    ports::look(&config, told.is_some(), &mut found);
    if let Some(told) = told {
        agent::judge(&told, &config, key.as_ref(), &mut found);
    }
    Ok(found)
}

fn text(report: &Report, look: &Look) -> String {
    let mut text = String::new();
    let width = report.checks.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
    for finding in &report.checks {
        let (word, tone) = match finding.verdict {
            Verdict::Ok => ("ok", Tone::Good),
            Verdict::Warning => ("warning", Tone::Warn),
            Verdict::Wrong => ("wrong", Tone::Bad),
        };
        // The texts are in a column of their own, as wide as the terminal leaves it.
        let indent = VERDICT_CHARS + 2 + width + 2;
        let what = hanging(&flat(&finding.what), usize::from(look.width), indent, indent).join("\n");
        let word = look.tone(tone, &format!("{word:VERDICT_CHARS$}"));
        let _ = writeln!(text, "{word}  {:width$}  {}", finding.check, what.trim_start());
        if let Some(mend) = &finding.mend {
            let column =
                Look { width: look.width.saturating_sub(u16::try_from(indent).unwrap_or(0)), ..*look };
            for part in labelled(&column, Tone::Strong, "mend:", mend, 2).lines() {
                let _ = writeln!(text, "{:indent$}{part}", "");
            }
        }
    }
    let count = |verdict| report.checks.iter().filter(|finding| finding.verdict == verdict).count();
    let (wrong, warnings) = (count(Verdict::Wrong), count(Verdict::Warning));
    let ending = match (wrong, warnings) {
        (0, 0) => look.tone(Tone::Good, "everything is as it should be"),
        (0, _) => format!("nothing is wrong; {} to look at", output::count(warnings, "warning")),
        _ => look.tone(Tone::Bad, &format!("{wrong} wrong, {}", output::count(warnings, "warning"))),
    };
    let _ = write!(text, "\n{ending}");
    text
}

#[cfg(test)]
mod tests {
    use super::super::render::tests::{check, look};
    use super::*;

    #[test]
    fn each_line_says_how_it_is_and_how_to_mend_it() {
        let checks = vec![
            Finding::ok("config", "/etc/muster/muster.toml: host alpha of the fleet home"),
            Finding::warning("agent", "no agent answers", "systemctl start muster"),
            Finding::wrong("key", "its mode 0644 lets others read it", "chmod 600 key"),
        ];
        let report = Report { schema: SCHEMA, config: "muster.toml".into(), ok: false, checks };
        check(
            &text(&report, &look()),
            &[
                "ok       config  /etc/muster/muster.toml: host alpha of the fleet home",
                "warning  agent   no agent answers",
                "                 mend: systemctl start muster",
                "wrong    key     its mode 0644 lets others read it",
                "                 mend: chmod 600 key",
                "",
                "1 wrong, 1 warning",
            ],
        );
    }
}
