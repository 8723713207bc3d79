//! `muster plan`: what publishing a channel ref would do to the running fleet, now.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;
use data_encoding::BASE64;
use muster_signing::armor;

use super::asking::{Agent, raw};
use super::document_files::{DocumentFiles, read_stdin};
use super::documents::{Kind, Parsed};
use super::output::{Tone, count, line};
use super::render::{Look, flat, moment, relative, span, wrapped};
use super::{Exit, Failure};
use crate::control::client::parse;
use crate::control::wire::{
    BlockedGate, HostState, Plan as Planned, PlannedHost, PlannedWave, SignedDocument,
};

/// The most hosts that are named in one line.
const NAMED_MAX: usize = 12;
/// The gate of hosts that cannot be reached.
const ONLINE: &str = "online";
/// The gate of the waves before.
const WAVE: &str = "wave";

/// Says what publishing a channel ref would do to the running fleet now; nothing is sent to anybody.
///
/// FILE need not be signed yet. The agent asks the very gates that the coordinators ask, of the fleet as it knows it: who
/// would be dispatched first, which gate would hold whom, who is offline, who runs its target already.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  muster plan stable.json
  muster rollback stable --dry-run | muster plan -
  muster plan stable.json --json |
      jq '.waves[].hosts[] | select(.first) | .host'

muster simulate plays the same ref to its end, on a copy of the fleet in which
all is well.")]
pub(super) struct Plan {
    /// The channel ref, - for what comes on stdin.
    file: PathBuf,
    #[command(flatten)]
    agent: Agent,
}

impl Plan {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let files = match self.file.to_str() {
            Some("-") => DocumentFiles { bytes: read_stdin()?, signatures: Vec::new() },
            Some(_) | None => DocumentFiles::read(&self.file)?,
        };
        let parsed = Parsed::read(&files.bytes).map_err(|refusal| Failure::file(&self.file, refusal))?;
        if parsed.kind() != Kind::ChannelRef {
            let (found, wanted) = (parsed.kind().words(), Kind::ChannelRef.words());
            return Err(Failure::file(&self.file, format_args!("it is a {found}, not a {wanted}")).hint(
                "muster fleet diff says what a fleet document changes; a verb's --dry-run prints its command",
            ));
        }
        let signatures = files.raw_signatures().iter().map(|signature| armor(signature)).collect();
        let document = SignedDocument { document: BASE64.encode(&files.bytes), signatures };
        let body = self.agent.ask(async |client| Ok(client.plan(&document).await?))?;
        if self.agent.json {
            raw(&body);
        } else {
            line(text(&parse(&body)?, &Look::of_stdout()).trim_end());
        }
        Ok(Exit::Done)
    }
}

fn text(plan: &Planned, look: &Look) -> String {
    let mut text = String::new();
    let title = look.tone(Tone::Strong, &plan.rollout);
    let _ = writeln!(text, "{title} on fleet {}, if it were published now", flat(&plan.fleet));
    let mut say = |tone: Option<Tone>, sentence: &str| say(&mut text, sentence, 0, tone, look);
    if plan.refreshes {
        say(None, "the rollout is there already: the ref refreshes it, and it goes on where it stands");
    }
    for superseded in &plan.supersedes {
        say(None, &format!("takes the place of {}, which is {}", superseded.id, superseded.state));
    }
    if plan.signed < plan.needed {
        let sentence =
            format!("{} of {} operators signed it: it cannot be published yet", plan.signed, plan.needed);
        say(Some(Tone::Warn), &sentence);
    }
    let quorum = &plan.quorum;
    if quorum.reachable < quorum.needed {
        let (reachable, of, needed) = (quorum.reachable, quorum.of, quorum.needed);
        let missing = quorum.missing.join(", ");
        let sentence = format!(
            "{reachable} of {of} coordinators can be reached and {needed} have to agree: nothing would move before \
             {missing} can"
        );
        say(Some(Tone::Bad), &sentence);
    }
    if !plan.left_out.is_empty() {
        say(None, &format!("no target for {}: they stay as they are", names(&plan.left_out)));
    }
    for wave in &plan.waves {
        describe(&mut text, wave, plan.waves.len(), look);
    }
    let all = || plan.waves.iter().flat_map(|wave| &wave.hosts);
    let first = all().filter(|host| host.first).count();
    let (hosts, offline) = (all().count(), all().filter(|host| host.online == Some(false)).count());
    let offline = if offline == 0 { String::new() } else { format!(", {offline} offline") };
    let end = format!("{first} of {} would be dispatched at once{offline}", count(hosts, "host"));
    let _ = writeln!(text, "\n{}", look.tone(Tone::Strong, &end));
    text
}

fn describe(text: &mut String, wave: &PlannedWave, waves: usize, look: &Look) {
    let number = wave.wave.saturating_add(1);
    let hosts = count(wave.hosts.len(), "host");
    let then = if wave.manual_promotion { ", then a person promotes" } else { "" };
    let title = format!("wave {number} of {waves}: {hosts}, soak {}{then}", span(wave.soak_secs));
    let _ = writeln!(text, "\n{}", look.tone(Tone::Strong, &title));
    let mut group = |label: &str, tone: Option<Tone>, is_of: &dyn Fn(&PlannedHost) -> bool| {
        let found: Vec<&String> = wave.hosts.iter().filter(|it| is_of(it)).map(|it| &it.host).collect();
        if !found.is_empty() {
            say(text, &format!("{label}: {}", names(&found)), 2, tone, look);
        }
    };
    group("at once", Some(Tone::Good), &|host| host.first);
    let states: BTreeMap<String, HostState> =
        wave.hosts.iter().filter_map(|host| host.state).map(|state| (state.to_string(), state)).collect();
    for (label, state) in states {
        group(&label, None, &|host| host.state == Some(state));
    }
    group("on its target already, nothing is switched", None, &|host| host.on_target && host.state.is_none());
    group("offline, dispatched when it is back", Some(Tone::Warn), &|host| host.online == Some(false));
    for (gate, held) in held(wave) {
        closed(text, gate, &held, look);
    }
}

/// The gates that hold hosts of the wave, each with whom it holds; what is said of a host being offline is said already.
fn held(wave: &PlannedWave) -> Vec<(&BlockedGate, Vec<&String>)> {
    let mut found: Vec<(&BlockedGate, Vec<&String>)> = Vec::new();
    for host in &wave.hosts {
        for gate in host.gates.iter().filter(|gate| !(gate.gate == ONLINE && host.online == Some(false))) {
            match found
                .iter_mut()
                .find(|(known, _)| (&known.gate, &known.reason) == (&gate.gate, &gate.reason))
            {
                Some((_, hosts)) => hosts.push(&host.host),
                None => found.push((gate, vec![&host.host])),
            }
        }
    }
    found
}

fn closed(text: &mut String, gate: &BlockedGate, held: &[&String], look: &Look) {
    say(text, &format!("{} holds {}: {}", gate.gate, names(held), gate.reason), 2, None, look);
    if let Some(opens_at) = gate.opens_at {
        let sentence =
            format!("opens {} at the earliest, {}", relative(opens_at, look.now), moment(opens_at));
        say(text, &sentence, 4, None, look);
    }
    // Of the waves before every rollout waits, and time alone opens them.
    if let Some(way_out) = gate.way_out.as_ref().filter(|_| gate.gate != WAVE) {
        say(text, &format!("to open it: {way_out}"), 4, None, look);
    }
}

/// A sentence, indented, in as many lines as it takes.
fn say(text: &mut String, sentence: &str, indent: usize, tone: Option<Tone>, look: &Look) {
    for part in wrapped(&flat(sentence), usize::from(look.width), indent) {
        let part = tone.map_or_else(|| part.clone(), |tone| look.tone(tone, &part));
        let _ = writeln!(text, "{part}");
    }
}

/// The hosts' names, the first few of many.
fn names(hosts: &[impl AsRef<str>]) -> String {
    let mut text = hosts.iter().take(NAMED_MAX).map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
    if hosts.len() > NAMED_MAX {
        let _ = write!(text, " and {} more", hosts.len() - NAMED_MAX);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::render::tests::{check_at, look};
    use super::*;
    use crate::control::wire::fixtures;

    #[test]
    fn a_plan_says_who_goes_first_and_which_gate_holds_whom() {
        let narrow = [
            "stable@v3 on fleet home, if it were published now",
            "takes the place of stable@v2, which is Active",
            "0 of 1 operators signed it: it cannot be published yet",
            "no target for db-02: they stay as they are",
            "",
            "wave 1 of 2: 2 hosts, soak 10 min, then a person promotes",
            "  at once: web-01",
            "  on its target already, nothing is switched: web-02",
            "  budget holds web-02: budget 1 is full: 1 of 1 in flight (web-01)",
            "    to open it: wait for one of them; of one that failed, muster skip web-01",
            "    frees the slot",
            "",
            "wave 2 of 2: 1 host, soak 0 s",
            "  offline, dispatched when it is back: db-01",
            "  window holds db-01: no maintenance window is open",
            "    opens in 90 min at the earliest, 2026-11-18T12:36:40Z",
            "    to open it: wait, or sign a fleet document with another window",
            "  wave holds db-01: wave 1 is not done: waits for web-01, web-02",
            "",
            "1 of 3 hosts would be dispatched at once, 1 offline",
        ];
        check_at(80, &text(&fixtures::plan(), &look()), &narrow);
        let mut wide = narrow.to_vec();
        wide[9] =
            "    to open it: wait for one of them; of one that failed, muster skip web-01 frees the slot";
        wide.remove(10);
        check_at(120, &text(&fixtures::plan(), &Look { width: 120, ..look() }), &wide);
    }

    #[test]
    fn a_fleet_without_a_quorum_and_a_refresh_are_told_first() {
        let mut plan = fixtures::plan();
        plan.refreshes = true;
        plan.supersedes.clear();
        plan.left_out.clear();
        plan.signed = 1;
        plan.waves.truncate(1);
        plan.waves[0].hosts[0].first = false;
        plan.waves[0].hosts[0].state = Some(HostState::Converged);
        plan.waves[0].hosts.truncate(1);
        plan.quorum.reachable = 1;
        plan.quorum.missing = vec!["db-01".to_owned(), "web-02".to_owned()];
        let narrow = [
            "stable@v3 on fleet home, if it were published now",
            "the rollout is there already: the ref refreshes it, and it goes on where it",
            "stands",
            "1 of 3 coordinators can be reached and 2 have to agree: nothing would move",
            "before db-01, web-02 can",
            "",
            "wave 1 of 1: 1 host, soak 10 min, then a person promotes",
            "  Converged: web-01",
            "",
            "0 of 1 host would be dispatched at once",
        ];
        check_at(80, &text(&plan, &look()), &narrow);
    }
}
