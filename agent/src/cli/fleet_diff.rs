//! `muster fleet diff`: what a new fleet document changes.

use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;
use muster_core::document::diff::{self, About, Change, FleetDiff, Kind};
use serde::Serialize;

use super::fleet::read_fleet;
use super::output::{self, Tone, line};
use super::render::{Look, flat, wrapped};
use super::{Exit, Failure};

/// Says in words what a new fleet document changes, and what that means for rollouts that are open.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  muster fleet diff fleet.json fleet-new.json
  muster fleet diff fleet.json fleet-new.json --json |
      jq -r '.changes[] | select(.about == \"host\") | .text'

Ends with 1 if a fleet that runs under the first one cannot follow the second
one.")]
pub(super) struct FleetDiffer {
    /// The fleet document that is replaced; signatures are not looked at.
    old: PathBuf,
    /// The one that replaces it.
    new: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Answer<'a> {
    schema: u32,
    #[serde(flatten)]
    diff: &'a FleetDiff,
}

impl FleetDiffer {
    pub(super) fn run(&self) -> Result<Exit, Failure> {
        let ((old, _), (new, _)) = (read_fleet(&self.old)?, read_fleet(&self.new)?);
        let diff = diff::diff(&old, &new);
        if self.json {
            output::json(&Answer { schema: 1, diff: &diff });
        } else {
            line(text(&diff, &Look::of_stdout()).trim_end());
        }
        Ok(if diff.refused.is_some() { Exit::Refused } else { Exit::Done })
    }
}

fn text(diff: &FleetDiff, look: &Look) -> String {
    let mut text = String::new();
    let title = format!("fleet {}, serial {} -> {}", diff.fleet, diff.from, diff.to);
    let _ = writeln!(text, "{}", look.tone(Tone::Strong, &title));
    if diff.changes.is_empty() {
        let _ = writeln!(text, "nothing else changes");
    }
    let mut about = None;
    for change in &diff.changes {
        if about.replace(change.about) != Some(change.about) {
            let _ = writeln!(text, "\n{}", look.tone(Tone::Faint, heading(change.about)));
        }
        said(&mut text, change, look);
    }
    if !diff.means.is_empty() {
        let _ = writeln!(text, "\n{}", look.tone(Tone::Faint, "what it means"));
        for sentence in &diff.means {
            bullet(&mut text, "-", None, sentence, look);
        }
    }
    if let Some(refused) = &diff.refused {
        let _ = writeln!(text);
        bullet(&mut text, "✗", Some(Tone::Bad), &format!("a running fleet cannot follow: {refused}"), look);
    }
    text
}

fn said(text: &mut String, change: &Change, look: &Look) {
    let (mark, tone) = match change.kind {
        Kind::Added => ("+", Tone::Good),
        Kind::Removed => ("-", Tone::Bad),
        Kind::Rekeyed | Kind::Moved | Kind::Renamed | Kind::Changed => ("~", Tone::Warn),
    };
    bullet(text, mark, Some(tone), &change.text, look);
}

fn bullet(text: &mut String, mark: &str, tone: Option<Tone>, sentence: &str, look: &Look) {
    let mark = tone.map_or_else(|| mark.to_owned(), |tone| look.tone(tone, mark));
    for (at, part) in wrapped(&flat(sentence), usize::from(look.width), 4).into_iter().enumerate() {
        let part = if at == 0 { format!("  {mark} {}", part.trim_start()) } else { part };
        let _ = writeln!(text, "{part}");
    }
}

fn heading(about: About) -> &'static str {
    match about {
        About::Host => "hosts",
        About::Coordinators => "coordinators",
        About::Operator => "operators",
        About::Threshold => "how many operators sign",
        About::Channel => "channels",
        About::Policy => "policies",
        About::Budget => "budgets",
        About::Edge => "edges",
        About::Tag => "tags",
        About::Document => "the document",
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use muster_core::document::Fleet;
    use muster_signing::SigningKey;
    use serde_json::{Value, json};

    use super::super::render::tests::{check_at, look};
    use super::*;

    fn key(seed: u8) -> String {
        SigningKey::from_seed([seed; 32]).public().to_openssh()
    }

    fn old() -> Value {
        let host = |seed, tags: &[&str]| json!({ "key": key(seed), "channel": "stable", "tags": tags });
        json!({
            "kind": "muster/fleet/1", "fleet": "home", "serial": 3, "signedAt": "2026-11-21T10:00:00Z",
            "operators": { "alice": key(100) },
            "thresholds": { "fleet": 1, "channelRef": 1, "command": 1 },
            "coordinators": { "selector": { "hosts": ["db-01", "web-01", "web-02"] } },
            "hosts": { "db-01": host(1, &["db"]), "web-01": host(2, &["canary"]), "web-02": host(3, &[]),
                       "web-03": host(4, &[]) },
            "channels": { "stable": { "rolloutPolicy": "careful", "freshnessWindowMinutes": 60 } },
            "rolloutPolicies": { "careful": { "waves": [{ "selector": { "all": true }, "soakMinutes": 10 }] } },
            "disruptionBudgets": [{ "selector": { "all": true }, "maxInFlight": 1 }],
        })
    }

    fn compared(change: impl FnOnce(&mut Value)) -> FleetDiff {
        let (before, mut after) = (old(), old());
        after["serial"] = 4.into();
        change(&mut after);
        let fleet = |document: &Value| Fleet::parse(document.to_string().as_bytes()).unwrap();
        diff::diff(&fleet(&before), &fleet(&after))
    }

    #[test]
    fn what_changes_is_told_by_what_it_is_about_and_what_it_means() {
        let diff = compared(|new| {
            new["operators"]["bob"] = key(101).into();
            new["thresholds"]["channelRef"] = 2.into();
            new["hosts"]["db-02"] = json!({ "key": key(9), "channel": "stable", "tags": ["db"] });
            new["hosts"].as_object_mut().unwrap().remove("web-03");
            new["hosts"]["web-01"]["tags"] = json!(["early"]);
            new["disruptionBudgets"][0]["maxInFlight"] = 2.into();
            new["rolloutPolicies"]["careful"]["waves"][0]["soakMinutes"] = 20.into();
        });
        let narrow = [
            "fleet home, serial 3 -> 4",
            "",
            "hosts",
            "  + db-02 is added, on channel stable, tagged db",
            "  ~ web-01 is also tagged early, and no longer canary",
            "  - web-03 is removed; it was on channel stable",
            "",
            "operators",
            "  + operator bob is added",
            "",
            "how many operators sign",
            "  ~ 1 of 2 operators sign a fleet document; before, 1 of 1",
            "  ~ 2 of 2 operators sign a channel ref; before, 1 of 1",
            "  ~ 1 of 2 operators sign a command; before, 1 of 1",
            "",
            "policies",
            "  ~ wave 1 of policy careful is all hosts, each soaks 1200 s, it was all hosts,",
            "    each soaks 600 s",
            "",
            "budgets",
            "  ~ budget 1 lets 2 of 4 at once of all hosts; before, 1 of 4 of all hosts",
            "",
            "what it means",
            "  - from now on a rollout opens only for a ref that names serial 4: sign the",
            "    next ref of each channel with it",
            "  - db-02: nothing is dispatched there until a ref names a target for it",
            "  - web-03: no open rollout waits for it any more, its slots are free, and",
            "    nobody connects to it; what it runs stays",
            "  - open rollouts keep the waves, policies, edges and windows of the document",
            "    that their ref names; the changed ones count from the next ref on",
            "  - budgets count in both documents while a rollout of the older one is open:",
            "    the tighter one holds",
            "  - refs and commands that too few of the operators named here have signed count",
            "    no more: open rollouts stand still until their ref is signed anew, and such",
            "    pauses and skips lapse",
        ];
        check_at(80, &text(&diff, &look()), &narrow);
        let wide = text(&diff, &Look { width: 120, ..look() });
        assert!(wide.lines().all(|line| line.chars().count() <= 120), "{wide}");
        assert!(wide.lines().count() < narrow.len(), "{wide}");
    }

    #[test]
    fn a_document_that_a_running_fleet_cannot_follow_is_told_last() {
        let diff = compared(|new| {
            new["serial"] = 3.into();
            new["hosts"]["web-01"]["key"] = key(50).into();
        });
        let told = text(&diff, &look());
        assert!(told.contains("  ~ web-01 has another key\n"), "{told}");
        assert!(told.ends_with("its serial 3 is not greater than 3, which it\n    replaces\n"), "{told}");
        let same = compared(|_| ());
        assert_eq!((same.refused, same.changes.len()), (None, 0));
    }
}
