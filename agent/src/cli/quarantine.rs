//! `muster quarantine`: which closures must not be activated.

use clap::{Args, Subcommand};

use super::asking::Agent;
use super::output::Tone;
use super::render::{Look, field, field_or_none, relative, tinted};
use super::{Exit, Failure};
use crate::control::wire::Quarantines;

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

DECISION is what an operator's signed clearance names to lift one. A quarantine never stands in the
way of going back to what ran before.")]
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
    let rows = found.quarantines.iter().map(|quarantine| {
        vec![
            tinted(Tone::Bad, &quarantine.closure),
            field(&quarantine.channel),
            field(relative(quarantine.since, look.now)),
            field_or_none(quarantine.host.as_ref()),
            field_or_none(quarantine.rollout.as_ref()),
            field(format_args!("{}/{}", quarantine.decision.log_index, quarantine.decision.ordinal)),
        ]
    });
    look.table(&["CLOSURE", "CHANNEL", "SINCE", "FAILED ON", "ROLLOUT", "DECISION"], rows)
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
                "CLOSURE        CHANNEL  SINCE    FAILED ON  ROLLOUT    DECISION",
                "dir:v3-broken  stable   2 h ago  web-02     stable@v3  41/0",
            ],
        );
        let none = Quarantines { schema: SCHEMA, quarantines: Vec::new() };
        check(&text(&none, &look()), &["nothing is in quarantine"]);
    }
}
