//! `muster status`: the fleet at a glance.

use std::fmt::Write;

use clap::Args;

use super::asking::Agent;
use super::output::Tone;
use super::render::{
    Look, bar, closure, field, field_or_none, flat, grouped, hanging, host_tone, labelled, rollout_tone,
    tinted,
};
use super::{Exit, Failure, hook};
use crate::control::client::{Client, encoded, parse};
use crate::control::wire::{
    ChannelStatus, HookStatus, HostState, HostStatus, RolloutShow, RolloutState, Status as FleetStatus,
};

/// Where a line goes on that stands beside a wave's bar.
const BESIDE_BAR: usize = 33;

/// Shows the fleet at a glance: quorum, channels, waves, hosts, and who waits for what.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  muster status --watch      keep it on the screen while a rollout goes on
  muster status --json | jq '.hosts[] | select(.waits_for != null)'

When decisions cannot be made because too few coordinators are in reach, that is
said first.")]
pub(super) struct Status {
    #[command(flatten)]
    agent: Agent,
    /// Show it again whenever it changes.
    #[arg(long)]
    watch: bool,
}

impl Status {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let json = self.agent.json;
        let view = async |client: &Client| {
            let body = client.get("/v1/status").await?;
            if json {
                return Ok(String::from_utf8_lossy(&body).into_owned());
            }
            let status: FleetStatus = parse(&body)?;
            let rollouts = open_rollouts(client, &status).await;
            Ok(text(&status, &rollouts, &Look::of_stdout()))
        };
        if self.watch {
            return self.agent.watch(view);
        }
        let text = self.agent.ask(view)?;
        super::output::line(text.trim_end());
        Ok(Exit::Done)
    }
}

/// The waves of what is under way. What cannot be had is left out: the channel's own line says enough.
async fn open_rollouts(client: &Client, status: &FleetStatus) -> Vec<RolloutShow> {
    let mut found = Vec::new();
    for channel in &status.channels {
        let open = channel.state.is_some_and(|state| state.is_open());
        let Some(id) = channel.rollout.as_ref().filter(|_| open) else { continue };
        if let Ok(show) = client.read(&format!("/v1/rollouts/{}?timeline=0", encoded(id))).await {
            found.push(show);
        }
    }
    found
}

fn text(status: &FleetStatus, rollouts: &[RolloutShow], look: &Look) -> String {
    let mut text = String::new();
    quorum(&mut text, status, look);
    for alarm in &status.alarms {
        let _ = writeln!(text, "{}", labelled(look, Tone::Bad, "alarm:", alarm, 2));
    }
    if let Some(held) = &status.held {
        let _ = writeln!(text, "{}", labelled(look, Tone::Warn, "nothing moves:", held, 2));
    }
    text.push('\n');
    text.push_str(&body(&status.channels, &status.hosts, rollouts, look));
    if status.hooks.iter().any(ails) {
        let _ = write!(text, "\n\n{}", hook::table(&status.hooks, look).trim_end());
        let _ = write!(text, "\nmuster hook list says what was given up");
    }
    text
}

/// Whether a hook needs somebody to look at it.
fn ails(hook: &HookStatus) -> bool {
    hook.failed_last.is_some() || !hook.dead.is_empty()
}

/// The channels with what is under way on them, and the hosts.
pub(super) fn body(
    channels: &[ChannelStatus],
    hosts_of: &[HostStatus],
    rollouts: &[RolloutShow],
    look: &Look,
) -> String {
    let mut text = String::new();
    let width = channels.iter().map(|channel| channel.channel.len()).max().unwrap_or(0);
    for channel in channels {
        let show = rollouts.iter().find(|show| Some(&show.rollout.id) == channel.rollout.as_ref());
        describe_channel(&mut text, channel, show, width, look);
    }
    if !channels.is_empty() {
        text.push('\n');
    }
    text.push_str(&hosts(hosts_of, look));
    text
}

fn quorum(text: &mut String, status: &FleetStatus, look: &Look) {
    let quorum = &status.quorum;
    let name = look.tone(Tone::Strong, &status.fleet);
    let host = flat(&status.host);
    let Some(serial) = status.fleet_serial else {
        let _ = writeln!(text, "{name}, seen from {host}: no fleet document yet");
        return;
    };
    let (reachable, needed, of) = (quorum.reachable, quorum.needed, quorum.of);
    let missing = flat(&quorum.missing.join(", "));
    if reachable < needed {
        let trouble = look.tone(Tone::Bad, "NO QUORUM:");
        let _ = writeln!(text, "{trouble} {reachable} of {of} coordinators in reach, {needed} needed");
        let sentence = format!("Nothing new is dispatched until enough of these are back: {missing}");
        let _ = writeln!(text, "{}", hanging(&sentence, usize::from(look.width), 0, 2).join("\n"));
    }
    let _ = writeln!(text, "{name}, seen from {host}, fleet document {serial}");
    if reachable >= needed {
        // Only coordinators know which one leads.
        let leader = match &status.coordinator {
            Some(leader) => format!("; {} leads", flat(leader)),
            None => String::new(),
        };
        let absent = if missing.is_empty() { String::new() } else { format!("; missing: {missing}") };
        let _ = writeln!(
            text,
            "{reachable} of {of} coordinators in reach, {needed} needed{leader}{}",
            look.tone(Tone::Warn, &absent)
        );
    }
}

fn describe_channel(
    text: &mut String,
    channel: &ChannelStatus,
    show: Option<&RolloutShow>,
    width: usize,
    look: &Look,
) {
    let name = look.tone(Tone::Strong, &format!("{:width$}", channel.channel));
    let Some(state) = channel.state else {
        let what = channel.r#ref.as_deref().unwrap_or("nothing released yet");
        let _ = writeln!(text, "{name}  {}", flat(what));
        return;
    };
    let reference = flat(channel.r#ref.as_deref().unwrap_or_default());
    let _ = write!(text, "{name}  {reference}  {}", look.tone(rollout_tone(state), &state.to_string()));
    let wave = channel.wave.map_or(0, |wave| u64::from(wave) + 1);
    match (state, channel.waves) {
        (RolloutState::Terminal | RolloutState::Pruned, _) | (_, None) => {}
        (state, Some(waves)) if state.is_open() => {
            let _ = write!(text, ", wave {wave} of {waves}");
            if show.is_none() {
                let _ = write!(text, "  {}", bar(channel.wave.unwrap_or(0) as usize, waves as usize));
            }
        }
        (_, Some(waves)) => {
            let _ = write!(text, " in wave {wave} of {waves}");
        }
    }
    text.push('\n');
    if let Some(show) = show {
        text.push_str(&waves(show, look));
    }
}

/// One progress bar per wave.
pub(super) fn waves(show: &RolloutShow, look: &Look) -> String {
    let mut text = String::new();
    for wave in &show.waves {
        let hosts: Vec<_> = show.hosts.iter().filter(|host| host.wave == wave.wave).collect();
        let excused = hosts.iter().filter(|host| host.excused.is_some()).count();
        let count = |state: HostState| {
            hosts.iter().filter(|host| host.excused.is_none() && host.state == Some(state)).count()
        };
        let done = count(HostState::Converged) + excused;
        let total = wave.hosts.len().max(hosts.len());
        let tone = if done == total { Tone::Good } else { Tone::Warn };
        let bar = look.tone(tone, &bar(done, total));
        let mut parts = vec![format!("{done} of {total} done")];
        for (state, word) in [
            (HostState::Pending, "dispatched"),
            (HostState::Activating, "activating"),
            (HostState::Soaking, "soaking"),
            (HostState::Deferred, "waiting for a reboot"),
            (HostState::Failed, "failed"),
            (HostState::Reverted, "reverted"),
        ] {
            if count(state) > 0 {
                parts.push(format!("{} {word}", count(state)));
            }
        }
        if excused > 0 {
            parts.push(format!("{excused} excused"));
        }
        let said = hanging(&parts.join(", "), usize::from(look.width), BESIDE_BAR, BESIDE_BAR).join("\n");
        let _ = writeln!(text, "  wave {:<3} {bar}  {}", u64::from(wave.wave) + 1, said.trim_start());
    }
    text
}

fn hosts(hosts: &[HostStatus], look: &Look) -> String {
    if hosts.is_empty() {
        return String::new();
    }
    let rows = hosts.iter().map(|host| {
        let state = match (host.online, host.state) {
            (false, _) => tinted(Tone::Bad, "offline"),
            (true, Some(state)) => tinted(host_tone(state), state),
            (true, None) if host.waits_for.is_some() => tinted(Tone::Faint, "waiting"),
            (true, None) => tinted(Tone::Faint, "idle"),
        };
        let short = |value: &Option<String>| value.as_ref().map(|value| closure(value, &host.host));
        let target = match &host.target {
            Some(target) if host.current.as_ref() == Some(target) => tinted(Tone::Faint, "same"),
            target => field_or_none(short(target)),
        };
        vec![field(&host.host), state, field_or_none(short(&host.current)), target]
    });
    let table = look.table(&["HOST", "STATE", "CURRENT", "TARGET"], rows);
    let waits = waits(hosts, look);
    if waits.is_empty() { table } else { format!("{waits}\n{table}") }
}

/// What hosts wait for.
fn waits(hosts: &[HostStatus], look: &Look) -> String {
    let held = hosts.iter().flat_map(|host| {
        let pending = host.reboot_pending.then_some("a part of what runs takes effect at the next boot");
        let reasons = [host.waits_for.as_deref(), host.fetching.as_deref(), pending];
        reasons.into_iter().flatten().map(|reason| (host.host.as_str(), reason))
    });
    grouped(look, held)
}

#[cfg(test)]
mod tests {
    use super::super::render::tests::{check, look};
    use super::*;
    use crate::control::wire::{Quorum, fixtures};

    #[test]
    fn a_rollout_under_way_shows_its_waves_and_who_waits_for_what() {
        check(
            &text(&fixtures::status(), &[fixtures::rollout_show()], &look()),
            &[
                "home, seen from web-01, fleet document 4",
                "3 of 3 coordinators in reach, 2 needed; web-02 leads",
                "",
                "edge    nothing released yet",
                "stable  v2  Active, wave 2 of 3",
                "  wave 1   ████████████████████  1 of 1 done",
                "  wave 2   ░░░░░░░░░░░░░░░░░░░░  0 of 1 done, 1 soaking",
                "  wave 3   ░░░░░░░░░░░░░░░░░░░░  0 of 1 done",
                "",
                "db-01: web-02 to converge (wave 2 of 3)",
                "",
                "HOST     STATE      CURRENT         TARGET",
                "db-01    Pending    5rkbw3i8-26.05  0c0kbw3i-26.11",
                "edge-01  offline    -               dir:v2",
                "web-01   Converged  dir:v2          same",
                "web-02   Soaking    dir:v2          same",
            ],
        );
    }

    #[test]
    fn a_lost_quorum_is_said_first() {
        let mut status = fixtures::status();
        let missing = vec!["db-01".to_owned(), "web-02".to_owned()];
        status.quorum = Quorum { reachable: 1, needed: 2, of: 3, missing };
        status.coordinator = None;
        status.alarms = vec!["web-02 signed two decisions for entry 7".to_owned()];
        status.held = Some("no quorum of coordinators".to_owned());
        status.hosts.clear();
        status.channels.truncate(1);
        check(
            &text(&status, &[], &look()),
            &[
                "NO QUORUM: 1 of 3 coordinators in reach, 2 needed",
                "Nothing new is dispatched until enough of these are back: db-01, web-02",
                "home, seen from web-01, fleet document 4",
                "alarm: web-02 signed two decisions for entry 7",
                "nothing moves: no quorum of coordinators",
                "",
                "edge  nothing released yet",
            ],
        );
    }

    #[test]
    fn hooks_are_shown_when_one_of_them_fails() {
        let mut status = fixtures::status();
        status.hosts.clear();
        status.channels.clear();
        status.hooks = fixtures::hooks();
        check(
            &text(&status, &[], &look()),
            &[
                "home, seen from web-01, fleet document 4",
                "3 of 3 coordinators in reach, 2 needed; web-02 leads",
                "",
                "",
                "",
                "HOOK   WAITING  DELIVERED  GIVEN UP  LAST TRY FAILED",
                "chat   0        7          0         -",
                "pager  2        1          1         2 h ago: https://pager.example.org: status",
                "                                     503 Service Unavailable",
                "muster hook list says what was given up",
            ],
        );
        status.hooks.truncate(1);
        assert!(!text(&status, &[], &look()).contains("HOOK"));
    }

    #[test]
    fn a_fresh_agent_says_what_it_waits_for() {
        let mut status = fixtures::status();
        status.fleet_serial = None;
        status.hosts.clear();
        status.channels.clear();
        let found = text(&status, &[], &look());
        assert!(found.contains("no fleet document yet"), "{found}");
    }
}
