//! `muster explain`: why it does not move.

use std::fmt::Write;

use clap::Args;

use super::asking::Agent;
use super::output::Tone;
use super::render::{Look, flat, hanging, labelled, moment, relative, wrapped};
use super::{Exit, Failure};
use crate::control::client::encoded;
use crate::control::wire::{BlockedGate, Explain as Explanation};

/// Says why a host or a rollout does not move: each gate that is closed, and who or what would open it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  muster explain db-01
  muster explain stable@v2

The gates are the very ones that the coordinators ask before they dispatch.")]
pub(super) struct Explain {
    #[command(flatten)]
    agent: Agent,
    /// A host, or a rollout: CHANNEL@REF.
    subject: String,
}

impl Explain {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let route = format!("/v1/explain/{}", encoded(&self.subject));
        self.agent.show(&route, |explained| text(explained, &Look::of_stdout()))
    }
}

fn text(explained: &Explanation, look: &Look) -> String {
    let width = usize::from(look.width);
    let summary = wrapped(&flat(&explained.summary), width, 0);
    let summary: Vec<String> = summary.iter().map(|part| look.tone(Tone::Strong, part)).collect();
    let mut text = format!("{}\n", summary.join("\n"));
    for gate in &explained.gates {
        text.push('\n');
        describe(&mut text, gate, explained, look);
    }
    if let Some(report) = &explained.last_report {
        let host = explained.host.as_deref().unwrap_or("the host");
        let ago = relative(report.at, look.now);
        let _ = writeln!(text, "\n{} last reported {} {ago}", flat(host), flat(&report.name));
        if !report.detail.is_empty() {
            let _ = writeln!(text, "{}", wrapped(&flat(&report.detail), width, 2).join("\n"));
        }
    }
    text
}

fn describe(text: &mut String, gate: &BlockedGate, explained: &Explanation, look: &Look) {
    let whom = match &gate.host {
        Some(host) if explained.host.as_ref() != Some(host) => format!("holds {host}: "),
        Some(_) | None => String::new(),
    };
    let label = if whom.is_empty() { format!("{}:", gate.gate) } else { gate.gate.clone() };
    let reason = format!("{whom}{}", gate.reason);
    let _ = writeln!(text, "{}", labelled(look, Tone::Warn, &label, &reason, 2));
    let mut say = |sentence: String| {
        for part in hanging(&flat(&sentence), usize::from(look.width), 2, 4) {
            let _ = writeln!(text, "{part}");
        }
    };
    if let Some(waits_for) = &gate.waits_for {
        say(format!("waits for {waits_for}"));
    }
    if let Some(way_out) = &gate.way_out {
        say(format!("to open it: {way_out}"));
    }
    if let Some(opens_at) = gate.opens_at {
        let when = relative(opens_at, look.now);
        say(format!("opens {when} at the earliest, {}", moment(opens_at)));
    }
}

#[cfg(test)]
mod tests {
    use super::super::render::tests::{check, look};
    use super::*;
    use crate::control::wire::fixtures;

    #[test]
    fn each_closed_gate_says_what_would_open_it() {
        check(
            &text(&fixtures::explain(), &look()),
            &[
                "db-01 waits for web-02 to converge",
                "",
                "window: no maintenance window of stable is open",
                "  to open it: wait, or sign a fleet document with another window",
                "  opens in 90 min at the earliest, 2026-11-18T12:36:40Z",
                "",
                "wave: wave 2 is not done",
                "  waits for web-02",
                "",
                "db-01 last reported Converged 22 h ago",
                "  stable@v1, runs dir:v1",
            ],
        );
        let mut rollout = fixtures::explain();
        rollout.host = None;
        rollout.last_report = None;
        rollout.gates.remove(0);
        check(
            &text(&rollout, &look()),
            &[
                "db-01 waits for web-02 to converge",
                "",
                "wave holds db-01: wave 2 is not done",
                "  waits for web-02",
            ],
        );
    }
}
