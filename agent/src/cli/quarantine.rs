//! `muster quarantine`: which closures must not be activated.

use std::fmt::Write;

use clap::{Args, Subcommand};

use super::asking::Agent;
use super::output::Tone;
use super::render::{Look, flat, hanging, relative};
use super::{Exit, Failure};
use crate::control::wire::{DecisionId, Quarantines};

/// Shows which closures are barred from which channel.
#[derive(Debug, Args)]
pub(super) struct QuarantineCommand {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Lists what is barred: closure, channel, since when, by which host's evidence.
    #[command(after_help = "Example:
  muster quarantine list

muster clear CHANNEL CLOSURE lifts one. The decision is what its signed
clearance names. A quarantine never stands in the way of going back to what ran
before.")]
    List {
        #[command(flatten)]
        agent: Agent,
    },
}

impl QuarantineCommand {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        match self.verb {
            Verb::List { agent } => agent.show("/v1/quarantines", |found| text(found, &Look::of_stdout())),
        }
    }
}

fn text(found: &Quarantines, look: &Look) -> String {
    if found.quarantines.is_empty() {
        return "nothing is in quarantine".to_owned();
    }
    // Closures are shown whole, as a clearance takes them.
    let mut text = String::new();
    for quarantine in &found.quarantines {
        let _ = writeln!(text, "{}", look.tone(Tone::Bad, &quarantine.closure));
        let mut sentence =
            format!("barred from {} {}", quarantine.channel, relative(quarantine.since, look.now));
        if let Some(host) = &quarantine.host {
            sentence.push_str(&format!(": it failed on {host}"));
        }
        if let Some(rollout) = &quarantine.rollout {
            sentence.push_str(&format!(" in {rollout}"));
        }
        let DecisionId { log_index, ordinal } = quarantine.decision;
        sentence.push_str(&format!(", decision {log_index}/{ordinal}"));
        for part in hanging(&flat(&sentence), usize::from(look.width), 2, 4) {
            let _ = writeln!(text, "{part}");
        }
    }
    text.push_str("\nmuster clear CHANNEL CLOSURE lifts one");
    text
}

#[cfg(test)]
mod tests {
    use super::super::render::tests::{check, look};
    use super::*;
    use crate::control::wire::{SCHEMA, fixtures};

    #[test]
    fn each_quarantine_names_its_evidence_and_its_decision() {
        check(
            &text(&fixtures::quarantines(), &look()),
            &[
                "dir:v3-broken",
                "  barred from stable 2 h ago: it failed on web-02 in stable@v3, decision 41/0",
                "",
                "muster clear CHANNEL CLOSURE lifts one",
            ],
        );
        let none = Quarantines { schema: SCHEMA, quarantines: Vec::new() };
        check(&text(&none, &look()), &["nothing is in quarantine"]);
    }
}
