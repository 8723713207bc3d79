//! A forecast as text: the timeline, the waves, who never moves and why, and how it ends.

use std::collections::BTreeMap;
use std::fmt::Write;

use chrono::{DateTime, Utc};
use muster_core::id::HostId;
use muster_core::wire::{HostState, RolloutState};
use muster_sim::forecast::{End, Forecast, Happening, HostForecast, WaveForecast, What};

use super::super::output::{Tone, count};
use super::super::render::{Look, NONE, closure, field, flat, moment, span, tinted};

/// The most names in a sentence, and of more so many are named.
const NAMES_MAX: usize = 6;
const NAMED_OF_MORE: usize = 3;
/// In a larger wave only the first and the last host are told of, beside those that fail.
const WAVE_TOLD_MAX: usize = 12;

/// The whole of it.
pub(super) fn text(forecast: &Forecast, look: &Look) -> String {
    let mut text = String::new();
    head(&mut text, forecast, look);
    timeline(&mut text, forecast, look);
    text.push('\n');
    text.push_str(&waves(forecast, look));
    unmoved(&mut text, forecast, look);
    text.push('\n');
    end(&mut text, forecast, look);
    text
}

fn head(text: &mut String, forecast: &Forecast, look: &Look) {
    let rollout = look.tone(Tone::Strong, forecast.rollout.as_str());
    let _ =
        writeln!(text, "{rollout} on fleet {}, published {}", forecast.fleet, moment(forecast.published_at));
    let (up, of) = (forecast.coordinators.len(), forecast.coordinators_total);
    let _ = writeln!(text, "{up} of {} up, {} have to agree", count(of, "coordinator"), forecast.quorum);
}

fn timeline(text: &mut String, forecast: &Forecast, look: &Look) {
    let chars = forecast.clock(forecast.ends_at).len();
    let mut begun: Option<u32> = None;
    let mut rest = told(forecast);
    while let Some(first) = rest.first() {
        let (clock, kind) = (forecast.clock(first.at), kind(&first.what));
        // What happens to several hosts in one second is one line.
        let same = |it: &&Happening| self::kind(&it.what) == kind && forecast.clock(it.at) == clock;
        let second = rest.iter().take_while(|it| forecast.clock(it.at) == clock).count();
        let (now, mut later): (Vec<&Happening>, Vec<&Happening>) =
            rest[..second].iter().partition(|it| same(it));
        later.extend(&rest[second..]);
        let wave = wave_of(&first.what);
        if let Some(wave) = wave.filter(|wave| begun.is_none_or(|begun| *wave > begun)) {
            text.push('\n');
            let title = title(&forecast.waves, wave);
            let _ = writeln!(text, "{:chars$}  {}", "", look.tone(Tone::Strong, &title));
            begun = Some(wave);
        } else if begun.is_none() && text.lines().count() == 2 {
            text.push('\n');
        }
        let (tone, says) = sentence(&now, forecast);
        let clock = look.tone(Tone::Faint, &format!("{clock:>chars$}"));
        let says = tone.map_or_else(|| flat(&says), |tone| look.tone(tone, &says));
        let _ = writeln!(text, "{clock}  {says}");
        rest = later;
    }
}

/// The happenings that are told of one by one.
fn told(forecast: &Forecast) -> Vec<&Happening> {
    let of = |host: &HostId| forecast.hosts.iter().find(|it| it.host == *host);
    let is_told = |it: &&Happening| {
        let Some(wave) = wave_of(&it.what) else { return true };
        let large = forecast.waves.get(wave as usize).filter(|it| it.hosts > WAVE_TOLD_MAX);
        match (&it.what, large) {
            // Who need not soak is healthy as soon as it runs its target.
            (What::Activated { host, .. }, None) => of(host).is_none_or(|host| {
                host.converged_at.is_none_or(|at| forecast.clock(at) != forecast.clock(it.at))
            }),
            (What::Activated { .. }, Some(_)) => false,
            (What::Dispatched { .. }, Some(wave)) => Some(it.at) == wave.began_at,
            (What::Converged { .. }, Some(wave)) => Some(it.at) == wave.ended_at,
            _ => true,
        }
    };
    forecast.happenings.iter().filter(is_told).collect()
}

/// What is told together if it happens together.
fn kind(what: &What) -> (u8, Option<u32>, String) {
    let wave = wave_of(what);
    match what {
        What::Published => (0, wave, String::new()),
        What::Leads { host } => (1, wave, host.to_string()),
        What::CoordinatorLost { host } => (2, wave, host.to_string()),
        What::Dispatched { .. } => (3, wave, String::new()),
        What::Activated { .. } => (4, wave, String::new()),
        What::Converged { .. } => (5, wave, String::new()),
        What::Failed { because, .. } => (6, wave, because.clone()),
        What::Reverted { .. } => (7, wave, String::new()),
        What::WaveDone { wave } => (8, None, wave.to_string()),
        What::Promoted { wave } => (9, None, wave.to_string()),
        What::Quarantined { closure, .. } => (10, wave, closure.to_string()),
        What::Rollout { state } => (11, wave, state.name().to_owned()),
        What::Waits { reason, .. } => (12, wave, reason.clone()),
    }
}

fn wave_of(what: &What) -> Option<u32> {
    match what {
        What::Dispatched { wave, .. }
        | What::Activated { wave, .. }
        | What::Converged { wave, .. }
        | What::Failed { wave, .. }
        | What::Reverted { wave, .. } => Some(*wave),
        What::Published
        | What::Leads { .. }
        | What::CoordinatorLost { .. }
        | What::WaveDone { .. }
        | What::Promoted { .. }
        | What::Quarantined { .. }
        | What::Waits { .. }
        | What::Rollout { .. } => None,
    }
}

fn host_of(what: &What) -> Option<&HostId> {
    match what {
        What::Leads { host }
        | What::CoordinatorLost { host }
        | What::Dispatched { host, .. }
        | What::Activated { host, .. }
        | What::Converged { host, .. }
        | What::Failed { host, .. }
        | What::Reverted { host, .. }
        | What::Quarantined { host, .. } => Some(host),
        What::Published
        | What::WaveDone { .. }
        | What::Promoted { .. }
        | What::Waits { .. }
        | What::Rollout { .. } => None,
    }
}

fn title(waves: &[WaveForecast], wave: u32) -> String {
    let number = u64::from(wave) + 1;
    let Some(of) = waves.get(wave as usize) else { return format!("wave {number}") };
    let soaks = match of.soak_secs {
        0 => String::new(),
        secs => format!(", each soaks {}", span(secs)),
    };
    let at_once =
        if of.at_once < of.hosts { format!(", at most {} at once", of.at_once) } else { String::new() };
    format!("wave {number} of {}: {}{at_once}{soaks}", waves.len(), count(of.hosts, "host"))
}

fn sentence(together: &[&Happening], forecast: &Forecast) -> (Option<Tone>, String) {
    let hosts: Vec<&HostId> = together.iter().filter_map(|it| host_of(&it.what)).collect();
    let (who, are) = (list(&hosts), are(&hosts));
    let has = if hosts.len() == 1 { "has" } else { "have" };
    let Some(first) = together.first() else { return (None, String::new()) };
    let number = |wave: u32| u64::from(wave) + 1;
    match &first.what {
        What::Published => (None, "the ref is published".to_owned()),
        What::Leads { .. } => (None, format!("{who} leads the coordinators")),
        What::CoordinatorLost { .. } => {
            (Some(Tone::Warn), format!("{who}, which leads the coordinators, dies and stays down"))
        }
        What::Dispatched { .. } => (None, format!("{who} {are} told to switch")),
        What::Activated { .. } => {
            let target = target(&hosts, forecast);
            (None, format!("{who} {are} on {target}, the soak begins"))
        }
        What::Converged { .. } => (Some(Tone::Good), format!("{who} {has} converged")),
        What::Failed { because, .. } => (Some(Tone::Bad), format!("{who} failed: {because}")),
        What::Reverted { .. } => (Some(Tone::Warn), format!("{who} {are} back on what ran before")),
        What::WaveDone { wave } => (None, format!("wave {} is done", number(*wave))),
        What::Promoted { wave } => (None, format!("an operator promotes wave {}", number(*wave))),
        What::Quarantined { closure: bad, host } => {
            let bad = closure(bad.as_str(), host.as_str());
            (Some(Tone::Bad), format!("{bad} is quarantined, since it failed on {who}"))
        }
        What::Waits { reason, until } => {
            (Some(Tone::Warn), format!("nobody moves before {}: {reason}", moment(*until)))
        }
        What::Rollout { state } => (Some(tone(*state)), format!("the rollout is {}", state.name())),
    }
}

/// What hosts run, if it is the same for all.
fn target(hosts: &[&HostId], forecast: &Forecast) -> String {
    let targets = forecast.hosts.iter().filter(|it| hosts.contains(&&it.host));
    let mut targets: Vec<String> = targets.map(|it| closure(it.target.as_str(), it.host.as_str())).collect();
    targets.dedup();
    match targets.as_slice() {
        [one] => one.clone(),
        _ => "what they are to run".to_owned(),
    }
}

fn tone(state: RolloutState) -> Tone {
    match state {
        RolloutState::Terminal => Tone::Good,
        RolloutState::Failed | RolloutState::Reverted => Tone::Bad,
        RolloutState::Opening
        | RolloutState::Active
        | RolloutState::Converging
        | RolloutState::Superseded
        | RolloutState::Pruned => Tone::Faint,
    }
}

fn waves(forecast: &Forecast, look: &Look) -> String {
    let time = |at: Option<DateTime<Utc>>| match at {
        Some(at) => field(forecast.clock(at)),
        None => tinted(Tone::Faint, NONE),
    };
    let rows = forecast.waves.iter().map(|wave| {
        let failed = match wave.failed {
            0 => field(0),
            failed => tinted(Tone::Bad, failed),
        };
        vec![
            field(u64::from(wave.wave) + 1),
            field(wave.hosts),
            field(span(wave.soak_secs)),
            time(wave.began_at),
            time(wave.ended_at),
            field(wave.at_once),
            field(wave.converged),
            failed,
        ]
    });
    look.table(&["WAVE", "HOSTS", "SOAK", "BEGINS", "ENDS", "AT ONCE", "CONVERGED", "FAILED"], rows) + "\n"
}

/// Who never moves, and what holds them in the end: each reason once.
fn unmoved(text: &mut String, forecast: &Forecast, look: &Look) {
    let mut reasons: BTreeMap<(String, String), Vec<&HostId>> = BTreeMap::new();
    for host in forecast.hosts.iter().filter(|host| host.state.is_none()) {
        let held = host.held_by.as_ref();
        let gate = held.and_then(|held| held.gate).map_or("coordinators", |gate| gate.name());
        let reason = held.map(|held| held.reason.clone()).unwrap_or_default();
        reasons.entry((gate.to_owned(), reason)).or_default().push(&host.host);
    }
    for ((gate, reason), hosts) in reasons {
        let whom = format!("{} {} never told to switch", list(&hosts), are(&hosts));
        let _ = writeln!(text, "\n{}\n  {}: {}", flat(&whom), look.tone(Tone::Warn, &gate), flat(&reason));
    }
}

fn end(text: &mut String, forecast: &Forecast, look: &Look) {
    let took = u64::try_from((forecast.ends_at - forecast.published_at).num_seconds()).unwrap_or(0);
    let (clock, of) = (clock(took), forecast.hosts.len());
    let in_state = |states: &[HostState]| {
        let is = |host: &&HostForecast| host.state.is_some_and(|state| states.contains(&state));
        forecast.hosts.iter().filter(is).count()
    };
    let (converged, failed) =
        (in_state(&[HostState::Converged]), in_state(&[HostState::Failed, HostState::Reverted]));
    let reached = format!("{converged} of {} converged", count(of, "host"));
    let (tone, says) = match forecast.end {
        End::Terminal => (Tone::Good, format!("✓ Terminal after {clock}: {reached}")),
        End::Reverted => (Tone::Bad, format!("✗ Reverted after {clock}: {failed} failed, {reached}")),
        End::Failed => (Tone::Bad, format!("✗ Failed after {clock}: {failed} failed, {reached}")),
        End::Held if converged + failed == 0 => (Tone::Warn, format!("! nothing moves at all: {reached}")),
        End::Held => (Tone::Warn, format!("! nothing moves any more after {clock}: {reached}")),
        End::Unfinished => (Tone::Warn, format!("! still under way after {clock}: {reached}")),
    };
    let _ = writeln!(text, "{}", look.tone(tone, &says));
}

fn are(hosts: &[&HostId]) -> &'static str {
    if hosts.len() == 1 { "is" } else { "are" }
}

fn list(hosts: &[&HostId]) -> String {
    let names = |most| hosts.iter().take(most).map(|host| host.as_str()).collect::<Vec<_>>();
    if hosts.len() <= NAMES_MAX {
        return crate::demo::tell::list(&names(NAMES_MAX));
    }
    format!("{} and {} more", names(NAMED_OF_MORE).join(", "), hosts.len() - NAMED_OF_MORE)
}

/// Hours, minutes and seconds.
pub(super) fn clock(secs: u64) -> String {
    format!("{}:{:02}:{:02}", secs / 3600, secs / 60 % 60, secs % 60)
}

trait Clock {
    fn clock(&self, at: DateTime<Utc>) -> String;
}

impl Clock for Forecast {
    /// A time as the span since the ref was published.
    fn clock(&self, at: DateTime<Utc>) -> String {
        clock(u64::try_from((at - self.published_at).num_seconds()).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use muster_core::gate::Gate;
    use muster_sim::forecast::Held;

    use super::super::super::render::tests::{check, look};
    use super::*;
    use crate::control::wire::fixtures::at;

    fn id<T: std::str::FromStr>(text: &str) -> T {
        text.parse().unwrap_or_else(|_| panic!("{text}"))
    }

    fn host(name: &str, wave: u32, began: i64, ended: i64) -> HostForecast {
        HostForecast {
            host: id(name),
            wave,
            target: id("dir:v2"),
            state: Some(HostState::Converged),
            dispatched_at: Some(at(began)),
            activated_at: Some(at(began + 30)),
            converged_at: Some(at(ended)),
            failed_at: None,
            reverted_at: None,
            excused: None,
            held_by: None,
        }
    }

    /// A forecast whose happenings follow from its hosts.
    fn forecast(end: End, soaks: &[u64], hosts: Vec<HostForecast>, more: Vec<(i64, What)>) -> Forecast {
        let mut happenings: Vec<_> =
            more.into_iter().map(|(secs, what)| Happening { at: at(secs), what }).collect();
        for of in &hosts {
            let (host, wave) = (of.host.clone(), of.wave);
            let because = "its health check failed".to_owned();
            let mut push =
                |at: Option<DateTime<Utc>>, what| happenings.extend(at.map(|at| Happening { at, what }));
            push(of.dispatched_at, What::Dispatched { host: host.clone(), wave });
            push(of.activated_at, What::Activated { host: host.clone(), wave });
            push(of.converged_at, What::Converged { host: host.clone(), wave });
            push(of.failed_at, What::Failed { host: host.clone(), wave, because });
            push(of.reverted_at, What::Reverted { host, wave });
        }
        happenings.sort_by_key(|happening| happening.at);
        let waves = (0..).zip(soaks).map(|(wave, soak_secs)| {
            let of: Vec<_> = hosts.iter().filter(|host| host.wave == wave).collect();
            WaveForecast {
                wave,
                soak_secs: *soak_secs,
                hosts: of.len(),
                converged: of.iter().filter(|host| host.converged_at.is_some()).count(),
                failed: of.iter().filter(|host| host.failed_at.is_some()).count(),
                at_once: of.iter().filter(|host| host.state.is_some()).count().min(20),
                began_at: of.iter().filter_map(|host| host.dispatched_at).min(),
                ended_at: of.iter().filter_map(|host| host.ended_at()).max(),
            }
        });
        Forecast {
            fleet: id("home"),
            rollout: id("stable@v2"),
            published_at: at(0),
            end,
            ends_at: happenings.last().map_or(at(0), |last| last.at),
            coordinators: [id("a"), id("b")].into(),
            coordinators_total: 3,
            quorum: 2,
            waves: waves.collect(),
            hosts,
            happenings,
        }
    }

    #[test]
    fn a_failing_canary_is_told_with_what_holds_the_others() {
        let mut canary = host("web-01", 0, 0, 0);
        canary.state = Some(HostState::Reverted);
        canary.converged_at = None;
        (canary.failed_at, canary.reverted_at) = (Some(at(90)), Some(at(120)));
        let held = |name| HostForecast {
            state: None,
            dispatched_at: None,
            activated_at: None,
            converged_at: None,
            held_by: Some(Held { gate: Some(Gate::Wave), reason: "1 host failed, 0 may".to_owned() }),
            ..host(name, 1, 0, 0)
        };
        let more = vec![
            (0, What::Published),
            (0, What::Leads { host: id("a") }),
            (90, What::Rollout { state: RolloutState::Failed }),
            (91, What::Quarantined { closure: id("dir:v2"), host: id("web-01") }),
            (120, What::Rollout { state: RolloutState::Reverted }),
        ];
        let forecast = forecast(End::Reverted, &[600, 0], vec![canary, held("db-01"), held("db-02")], more);
        check(
            &text(&forecast, &look()),
            &[
                "stable@v2 on fleet home, published 2026-11-18T11:06:40Z",
                "2 of 3 coordinators up, 2 have to agree",
                "",
                "0:00:00  the ref is published",
                "0:00:00  a leads the coordinators",
                "",
                "         wave 1 of 2: 1 host, each soaks 10 min",
                "0:00:00  web-01 is told to switch",
                "0:00:30  web-01 is on dir:v2, the soak begins",
                "0:01:30  the rollout is Failed",
                "0:01:30  web-01 failed: its health check failed",
                "0:01:31  dir:v2 is quarantined, since it failed on web-01",
                "0:02:00  the rollout is Reverted",
                "0:02:00  web-01 is back on what ran before",
                "",
                "WAVE  HOSTS  SOAK    BEGINS   ENDS     AT ONCE  CONVERGED  FAILED",
                "1     1      10 min  0:00:00  0:02:00  1        0          1",
                "2     2      0 s     -        -        0        0          0",
                "",
                "db-01 and db-02 are never told to switch",
                "  wave: 1 host failed, 0 may",
                "",
                "✗ Reverted after 0:02:00: 1 failed, 0 of 3 hosts converged",
            ],
        );
    }

    #[test]
    fn of_a_large_wave_its_beginning_and_its_end_are_told() {
        let hosts = (0..40).map(|n| {
            let turn = i64::from(n / 20) * 30;
            host(&format!("web-{n:02}"), 0, 7200 + turn, 7200 + turn + 30)
        });
        let more = vec![(7260, What::Rollout { state: RolloutState::Terminal })];
        check(
            &text(&forecast(End::Terminal, &[0], hosts.collect(), more), &look()),
            &[
                "stable@v2 on fleet home, published 2026-11-18T11:06:40Z",
                "2 of 3 coordinators up, 2 have to agree",
                "",
                "         wave 1 of 1: 40 hosts, at most 20 at once",
                "2:00:00  web-00, web-01, web-02 and 17 more are told to switch",
                "2:01:00  the rollout is Terminal",
                "2:01:00  web-20, web-21, web-22 and 17 more have converged",
                "",
                "WAVE  HOSTS  SOAK  BEGINS   ENDS     AT ONCE  CONVERGED  FAILED",
                "1     40     0 s   2:00:00  2:01:00  20       40         0",
                "",
                "✓ Terminal after 2:01:00: 40 of 40 hosts converged",
            ],
        );
    }

    #[test]
    fn a_leader_that_dies_and_a_wave_that_waits_are_told() {
        let more = vec![
            (0, What::Published),
            (40, What::CoordinatorLost { host: id("a") }),
            (41, What::Leads { host: id("b") }),
            (630, What::WaveDone { wave: 0 }),
            (640, What::Promoted { wave: 0 }),
        ];
        let hosts = vec![host("a", 0, 0, 630), host("b", 0, 0, 630)];
        let text = text(&forecast(End::Held, &[600], hosts, more), &look());
        for line in [
            "0:00:00  a and b are told to switch",
            "0:00:30  a and b are on dir:v2, the soak begins",
            "0:00:40  a, which leads the coordinators, dies and stays down",
            "0:10:30  a and b have converged",
            "0:10:30  wave 1 is done",
            "0:10:40  an operator promotes wave 1",
            "! nothing moves any more after 0:10:40: 2 of 2 hosts converged",
        ] {
            assert!(text.lines().any(|told| told == line), "{line}\n{text}");
        }
    }
}
