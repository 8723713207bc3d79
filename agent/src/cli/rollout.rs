//! `muster rollout`: what is and was rolled out.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::io::IsTerminal;
use std::time::Duration;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::{Instant, sleep};

use super::asking::{Agent, REFRESH, raw, rest};
use super::output::{Tone, columns, line};
use super::render::{
    Field, Look, closure, field, field_or_none, flat, grouped, host_tone, moment, relative, rollout_tone,
    span, tinted,
};
use super::report::Report;
use super::status::waves;
use super::{Exit, Failure, when};
use crate::control::Code;
use crate::control::client::{Client, ClientError, encoded, parse};
use crate::control::wire::{HostState, Moment, Rollout, RolloutHost, RolloutShow, RolloutState, Rollouts};

/// How long a rollout that was just published is waited for until it opens.
const OPENING_TIME: Duration = Duration::from_secs(60);

/// Shows what is and was rolled out, and follows it live.
#[derive(Debug, Args)]
pub(super) struct RolloutCommand {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Lists the rollouts, the newest first.
    #[command(after_help = "Example:\n  muster rollout list")]
    List {
        #[command(flatten)]
        agent: Agent,
    },
    /// Shows one rollout: its waves, its hosts, and what happened when and why.
    #[command(after_help = "Example:\n  muster rollout show stable@v2")]
    Show {
        #[command(flatten)]
        agent: Agent,
        /// The rollout: CHANNEL@REF.
        id: String,
    },
    /// Follows a rollout to its end.
    #[command(after_help = "Example:
  muster publish stable.json && muster rollout watch stable@v2 --timeout 1h

Ends with 0 when every host is on its target or excused, with 4 when the rollout
failed, was reverted or was overtaken by a newer one, with 5 when the time is
over.")]
    Watch {
        #[command(flatten)]
        agent: Agent,
        /// The rollout: CHANNEL@REF.
        id: String,
        /// Give up after this long, such as 90s, 10m or 2h.
        #[arg(long, value_name = "SPAN", value_parser = when::span)]
        timeout: Option<Duration>,
    },
    Report(Report),
}

impl RolloutCommand {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        match self.verb {
            Verb::List { agent } => agent.show("/v1/rollouts", |rollouts| list(rollouts, &Look::of_stdout())),
            Verb::Show { agent, id } => agent.show(&route(&id), |show| text(show, &Look::of_stdout())),
            Verb::Watch { agent, id, timeout } => {
                agent.ask(async |client| Watch::new(client, &id, agent.json).run(timeout).await)
            }
            Verb::Report(report) => report.run(),
        }
    }
}

fn route(id: &str) -> String {
    format!("/v1/rollouts/{}", encoded(id))
}

fn list(rollouts: &Rollouts, look: &Look) -> String {
    if rollouts.rollouts.is_empty() {
        return "nothing was rolled out yet; muster publish FILE starts with a signed channel ref".to_owned();
    }
    let rows = rollouts.rollouts.iter().map(|rollout| {
        let wave = format!("{} of {}", u64::from(rollout.wave) + 1, rollout.waves);
        let failed = match rollout.hosts_failed {
            0 => field(0),
            failed => tinted(Tone::Bad, failed),
        };
        vec![
            field(&rollout.id),
            tinted(rollout_tone(rollout.state), rollout.state),
            field(wave),
            field(format_args!("{} of {}", rollout.hosts_converged, rollout.hosts_total)),
            failed,
            field(relative(rollout.opened_at, look.now)),
            field_or_none(rollout.ended_at.map(|ended| span_between(rollout, ended))),
        ]
    });
    look.table(&["ROLLOUT", "STATE", "WAVE", "CONVERGED", "FAILED", "OPENED", "TOOK"], rows)
}

fn span_between(rollout: &Rollout, ended: chrono::DateTime<chrono::Utc>) -> String {
    span(u64::try_from((ended - rollout.opened_at).num_seconds()).unwrap_or(0))
}

fn text(show: &RolloutShow, look: &Look) -> String {
    let rollout = &show.rollout;
    let mut text = String::new();
    let id = look.tone(Tone::Strong, &rollout.id);
    let state = look.tone(rollout_tone(rollout.state), &rollout.state.to_string());
    let opened = relative(rollout.opened_at, look.now);
    let _ = write!(text, "{id}  {state}, opened {opened}");
    if let Some(ended) = rollout.ended_at {
        let _ = write!(text, ", took {}", span_between(rollout, ended));
    }
    let _ = writeln!(text, "\n{}", waves(show, look));
    let excused = show.hosts.iter().filter_map(|host| {
        let why = host.excused.as_ref()?;
        Some((host.host.as_str(), format!("excused: {why}")))
    });
    let excused: Vec<(&str, String)> = excused.collect();
    if !excused.is_empty() {
        let _ = writeln!(text, "{}", grouped(look, excused.iter().map(|(host, why)| (*host, why.as_str()))));
    }
    let rows = show.hosts.iter().map(|host| host_row(host, look));
    text.push_str(&look.table(&["WAVE", "HOST", "STATE", "TARGET", "BEGAN", "SINCE"], rows));
    text.push_str("\n\n");
    let rows = show.timeline.iter().map(|entry| {
        vec![
            tinted(Tone::Faint, moment(entry.at)),
            field(&entry.what),
            field(entry.cause.as_deref().unwrap_or_default()),
        ]
    });
    text.push_str(&look.table(&["AT", "WHAT", "BECAUSE"], rows));
    text
}

fn host_row(host: &RolloutHost, look: &Look) -> Vec<Field> {
    let state = match (&host.excused, host.state) {
        (Some(_), Some(state)) => tinted(Tone::Faint, state),
        (Some(_), None) => tinted(Tone::Faint, "excused"),
        (None, Some(state)) => tinted(host_tone(state), state),
        (None, None) => tinted(Tone::Faint, "waiting"),
    };
    let since = match host.state {
        None => None,
        Some(HostState::Converged) => host.converged_at,
        Some(HostState::Failed) => host.failed_at,
        Some(HostState::Reverted) => host.reverted_at,
        Some(HostState::Soaking) => host.activated_at,
        Some(HostState::Activating | HostState::Deferred) => host.acknowledged_at,
        Some(HostState::Pending | HostState::Unknown) => host.dispatched_at,
    };
    vec![
        field(u64::from(host.wave) + 1),
        field(&host.host),
        state,
        field(closure(&host.target, &host.host)),
        field_or_none(host.dispatched_at.map(|at| relative(at, look.now))),
        field_or_none(since.map(|at| relative(at, look.now))),
    ]
}

/// One line of a timeline, where it is followed.
fn timeline_line(entry: &Moment) -> String {
    let cause = entry.cause.as_deref().map(|cause| format!(" ({cause})")).unwrap_or_default();
    flat(&format!("{}  {}{cause}", moment(entry.at), entry.what))
}

/// The same as it suits where it is read: a terminal has so many columns, and the day is today.
fn followed(entry: &Moment, width: Option<u16>) -> String {
    let Some(width) = width else { return timeline_line(entry) };
    let whole = timeline_line(entry);
    let day = "2026-11-24T".len();
    let short = whole.get(day..).map(|rest| rest.replacen('Z', "", 1)).unwrap_or(whole);
    console::truncate_str(&short, usize::from(width), "…").into_owned()
}

struct Watch<'a> {
    client: &'a Client,
    id: &'a str,
    json: bool,
    bar: ProgressBar,
    /// The moments that were told: one that is learnt late takes its place ahead of others.
    told: BTreeSet<String>,
    /// How it stood when it was last looked at.
    stood: Vec<u8>,
    /// The last answer, unchanged.
    body: Vec<u8>,
}

impl<'a> Watch<'a> {
    fn new(client: &'a Client, id: &'a str, json: bool) -> Self {
        let live = !json && std::io::stderr().is_terminal();
        let target = if live { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let style = ProgressStyle::with_template("{spinner} {msg}  {bar:30} {pos} of {len} hosts");
        let bar = ProgressBar::with_draw_target(Some(0), target);
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { client, id, json, bar, told: BTreeSet::new(), stood: Vec::new(), body: Vec::new() }
    }

    async fn run(mut self, patience: Option<Duration>) -> Result<Exit, Failure> {
        let begun = Instant::now();
        let ended = loop {
            let looked = Instant::now();
            match self.look().await {
                Ok(state) if !state.is_open() => break Some(state),
                Ok(_) => {}
                Err(ClientError::Refused(problem))
                    if problem.code == Code::NotFound
                        && self.body.is_empty()
                        && begun.elapsed() < OPENING_TIME =>
                {
                    self.bar.set_message(format!("waits for {} to open", flat(self.id)));
                }
                // An agent that restarts in the middle comes back.
                Err(ClientError::Unreachable { .. } | ClientError::Silent { .. })
                    if !self.body.is_empty() =>
                {
                    self.bar.set_message("waits for the agent to come back");
                }
                Err(error) => return Err(error.into()),
            }
            self.bar.tick();
            let left = patience.map(|patience| patience.saturating_sub(begun.elapsed()));
            if left.is_some_and(|left| left.is_zero()) {
                break None;
            }
            let pause = rest(REFRESH, looked.elapsed());
            sleep(left.unwrap_or(pause).min(pause)).await;
        };
        self.bar.finish_and_clear();
        if self.json && !self.body.is_empty() {
            raw(&self.body);
        }
        self.conclude(ended)
    }

    async fn look(&mut self) -> Result<RolloutState, ClientError> {
        let stands = self.client.get(&format!("{}?timeline=0", route(self.id))).await?;
        // What happened is asked for only where something did: of a large fleet it is long.
        if self.body.is_empty() || stands != self.stood {
            let body = self.client.get(&route(self.id)).await?;
            self.tell(&parse(&body)?);
            (self.stood, self.body) = (stands.to_vec(), body.to_vec());
        }
        let show: RolloutShow = parse(&stands)?;
        let Rollout { state, wave, waves, hosts_total, hosts_converged, .. } = show.rollout;
        self.bar.set_length(hosts_total.into());
        self.bar.set_position(hosts_converged.into());
        self.bar.set_message(format!("{state}, wave {} of {waves}", u64::from(wave) + 1));
        Ok(state)
    }

    /// Says what was not said yet.
    fn tell(&mut self, show: &RolloutShow) {
        if self.json {
            return;
        }
        let width = columns();
        for entry in &show.timeline {
            if self.told.insert(timeline_line(entry)) {
                self.bar.suspend(|| line(followed(entry, width)));
            }
        }
    }

    fn conclude(&self, ended: Option<RolloutState>) -> Result<Exit, Failure> {
        let id = flat(self.id);
        let failed = |what: &str| {
            Err(Failure { exit: Exit::RolloutFailed, ..Failure::new(format_args!("{id} {what}")) }.hint(
                format!("muster rollout show {id} says what happened; muster quarantine list what is barred"),
            ))
        };
        match ended {
            Some(RolloutState::Terminal) => {
                if !self.json {
                    line(format_args!("{id} is done: every host is on its target or excused"));
                }
                Ok(Exit::Done)
            }
            Some(RolloutState::Failed) => failed("failed"),
            Some(RolloutState::Reverted) => failed("was reverted"),
            Some(RolloutState::Superseded) => failed("was overtaken by a newer rollout"),
            Some(state) => failed(&format!("ended as {state}")),
            None if self.body.is_empty() => Err(Failure {
                exit: Exit::TimedOut,
                ..Failure::new(format_args!("no rollout {id} has opened yet"))
            }
            .hint("muster rollout list names those that have; muster publish FILE --wait says whether the ref has come through")),
            None => Err(Failure {
                exit: Exit::TimedOut,
                ..Failure::new(format_args!("{id} is not over yet and goes on by itself"))
            }
            .hint(format!("muster explain {id} says what it waits for"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::render::tests::{check, look};
    use super::*;
    use crate::control::wire::fixtures;
    use crate::control::{self, Answer, Problem, Request};

    #[test]
    fn the_list_shows_how_far_each_one_came() {
        check(
            &list(&fixtures::rollouts(), &look()),
            &[
                "ROLLOUT    STATE     WAVE    CONVERGED  FAILED  OPENED     TOOK",
                "stable@v2  Active    2 of 3  1 of 3     0       5 min ago  -",
                "stable@v1  Terminal  3 of 3  3 of 3     0       25 h ago   16 min",
            ],
        );
    }

    #[test]
    fn a_rollout_shows_waves_hosts_and_its_timeline() {
        check(
            &text(&fixtures::rollout_show(), &look()),
            &[
                "stable@v2  Active, opened 5 min ago",
                "  wave 1   ████████████████████  1 of 1 done",
                "  wave 2   ░░░░░░░░░░░░░░░░░░░░  0 of 1 done, 1 soaking",
                "  wave 3   ░░░░░░░░░░░░░░░░░░░░  0 of 1 done",
                "",
                "WAVE  HOST    STATE      TARGET  BEGAN      SINCE",
                "1     web-01  Converged  dir:v2  4 min ago  70 s ago",
                "2     web-02  Soaking    dir:v2  60 s ago   40 s ago",
                "3     db-01   waiting    dir:v2  -          -",
                "",
                "AT                    WHAT                         BECAUSE",
                "2026-11-18T11:01:40Z  opened                       channel ref stable 7 signed",
                "                                                   by alice",
                "2026-11-18T11:01:50Z  web-01 dispatched in wave 1",
                "2026-11-18T11:05:30Z  wave 2 begins                web-01 converged",
            ],
        );
    }

    #[test]
    fn a_timeline_followed_has_a_line_per_moment() {
        let lines: Vec<String> = fixtures::rollout_show().timeline.iter().map(timeline_line).collect();
        check(
            &lines.join("\n"),
            &[
                "2026-11-18T11:01:40Z  opened (channel ref stable 7 signed by alice)",
                "2026-11-18T11:01:50Z  web-01 dispatched in wave 1",
                "2026-11-18T11:05:30Z  wave 2 begins (web-01 converged)",
            ],
        );
    }

    #[test]
    fn a_followed_line_fits_the_terminal_and_is_whole_elsewhere() {
        let entry = &fixtures::rollout_show().timeline[0];
        assert_eq!(
            followed(entry, None),
            "2026-11-18T11:01:40Z  opened (channel ref stable 7 signed by alice)"
        );
        assert_eq!(followed(entry, Some(80)), "11:01:40  opened (channel ref stable 7 signed by alice)");
        assert_eq!(followed(entry, Some(24)), "11:01:40  opened (chann…");
    }

    /// Watches a rollout of which the agent says one thing after the other, then the last for ever.
    fn watch(said: Vec<Option<RolloutState>>, patience: Option<Duration>) -> Result<Exit, Failure> {
        let said = std::cell::RefCell::new(std::collections::VecDeque::from(said));
        let answer = move |_: &Request| {
            let mut said = said.borrow_mut();
            let state = if said.len() > 1 { said.pop_front() } else { said.front().copied() };
            Some(match state.flatten() {
                None => Err(Problem::new(Code::NotFound, "no such rollout")),
                Some(state) => {
                    let mut show = fixtures::rollout_show();
                    show.rollout.state = state;
                    show.timeline.clear();
                    Ok(Answer::Rollout(show))
                }
            })
        };
        let end = std::cell::RefCell::new(None);
        control::tests::check(control::server::Limits::default(), answer, async |bench| {
            let watched = Watch::new(&bench.client, "stable@v2", false).run(patience).await;
            end.replace(Some(watched));
        });
        end.into_inner().unwrap_or(Ok(Exit::Usage))
    }

    #[test]
    fn watching_ends_as_the_rollout_does() {
        use RolloutState::{Active, Failed, Reverted, Superseded, Terminal};
        let code = |end: Result<Exit, Failure>| end.unwrap_or_else(|failure| failure.exit);
        assert_eq!(code(watch(vec![None, Some(Active), Some(Terminal)], None)), Exit::Done);
        for state in [Failed, Reverted, Superseded] {
            assert_eq!(code(watch(vec![Some(state)], None)), Exit::RolloutFailed, "{state}");
        }
        assert_eq!(code(watch(vec![Some(Active)], Some(Duration::from_millis(1)))), Exit::TimedOut);
    }
}
