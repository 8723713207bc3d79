//! `muster simulate`: what would become of a channel ref, before it is published.

mod told;

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use clap::Args;
use data_encoding::BASE64;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use muster_core::document::{Fleet, Refusal};
use muster_core::id::{ChannelId, HostId};
use muster_signing::{Namespace, verify_document};
use muster_sim::forecast::{End, Forecast, ForecastError, Options, Progress};
use serde::Serialize;

use super::asking::Socket;
use super::document_files::{DocumentFiles, read_document};
use super::documents::{Kind, Parsed};
use super::output::{self, line, note};
use super::render::Look;
use super::{Exit, Failure, when};
use crate::control::client::{Client, ClientError};
use crate::control::wire::FleetDocument;

/// How far ahead is looked.
const AHEAD: Duration = Duration::from_secs(90 * 24 * 3600);
/// The longest switch that can be asked about, in seconds: a day.
const ACTIVATION_SECS_MAX: u64 = 24 * 3600;
/// How long a switch takes unless the command line says otherwise or the policy allows less than twice that, in seconds.
const ACTIVATION_SECS: u64 = 30;
/// What takes no longer shows no progress.
const PATIENCE: Duration = Duration::from_secs(1);

/// Plays a channel ref in virtual time, before it is published: which host moves when, how long it takes, how it ends.
///
/// FILE need not be signed yet. A copy of the fleet plays it, with the very code that the agents run: the same hosts,
/// waves, soak times, budgets, edges, windows and coordinators. Nothing is sent to anybody. All hosts are up, each switch
/// takes as long as --activation-seconds says and needs no reboot, and every health check passes, unless the options say
/// otherwise; other rollouts, pauses and quarantines of the real fleet are left out.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  muster simulate stable.json --fleet fleet.json                how long does it take?
  muster simulate stable.json --fleet fleet.json --fail web-01  and if it is sick there?
  muster simulate stable.json --lose-coordinator                of the agent's fleet
  muster simulate stable.json --json | jq .end                      for programs

Ends with 0 when every host would be on its target or excused, with 4 when the
rollout would fail or be reverted, with 5 when it would wait for a person, with
1 when a document breaks a rule.")]
pub(super) struct Simulate {
    /// The channel ref.
    file: PathBuf,
    /// The fleet document that it names; by default the one that the agent holds.
    #[arg(long, value_name = "FILE")]
    fleet: Option<PathBuf>,
    #[command(flatten)]
    agent: Socket,
    /// The health check of this host fails once it runs its target; may be given more than once.
    #[arg(long, value_name = "HOST")]
    fail: Vec<HostId>,
    /// This host is down; may be given more than once.
    #[arg(long, value_name = "HOST")]
    offline: Vec<HostId>,
    /// The leading coordinator dies once the first wave has begun and it is not under way itself, and stays down.
    #[arg(long)]
    lose_coordinator: bool,
    /// Operators promote at once every wave that waits for it.
    #[arg(long)]
    promote: bool,
    /// How long a switch takes; by default 30 s, or half of what the channel's policy allows if that is less.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=ACTIVATION_SECS_MAX))]
    activation_seconds: Option<u64>,
    /// When it is published, such as 2026-11-24T22:00:00Z; by default now.
    #[arg(long, value_name = "TIME", value_parser = time)]
    at: Option<DateTime<Utc>>,
    /// Another seed, another chance: who leads the coordinators, and in which order messages come.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Answer<'a> {
    schema: u32,
    seed: u64,
    activation_seconds: u64,
    takes_seconds: i64,
    #[serde(flatten)]
    forecast: &'a Forecast,
}

fn time(text: &str) -> Result<DateTime<Utc>, String> {
    let at = DateTime::parse_from_rfc3339(text);
    at.map(|at| at.to_utc()).map_err(|_| "a time is written 2026-11-24T06:00:00Z".to_owned())
}

impl Simulate {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let files = DocumentFiles::read(&self.file)?;
        let parsed = Parsed::read(&files.bytes).map_err(|refusal| Failure::file(&self.file, refusal))?;
        let Parsed::ChannelRef(document) = &parsed else {
            let (found, wanted) = (parsed.kind().words(), Kind::ChannelRef.words());
            return Err(Failure::file(&self.file, format_args!("it is a {found}, not a {wanted}")));
        };
        let fleet = self.fleet_bytes()?;
        let allowed = allowed(&fleet, &document.channel);
        let activation = self.activation_seconds.unwrap_or_else(|| default_activation(allowed));
        let options = self.options(activation);
        let mut progress = Shown::new();
        let forecast = Forecast::of(&fleet, &files.bytes, &options, &mut |at| progress.at(at));
        progress.end();
        let forecast = forecast.map_err(|error| self.refused(error))?;
        self.note_signatures(&files, &fleet);
        if let Some(allowed) = allowed.filter(|allowed| activation >= *allowed) {
            note(format_args!(
                "a switch of {activation} s fails: activationTimeoutSeconds of its policy is {allowed}"
            ));
        }
        if self.json {
            output::json(&Answer {
                schema: 1,
                seed: self.seed,
                activation_seconds: activation,
                takes_seconds: (forecast.ends_at - forecast.published_at).num_seconds(),
                forecast: &forecast,
            });
        } else {
            line(told::text(&forecast, &Look::of_stdout()).trim_end());
        }
        Ok(match forecast.end {
            End::Terminal => Exit::Done,
            End::Reverted | End::Failed => Exit::RolloutFailed,
            End::Held | End::Unfinished => Exit::TimedOut,
        })
    }

    fn options(&self, activation_secs: u64) -> Options {
        Options {
            at: self.at.unwrap_or_else(when::now),
            seed: self.seed,
            activation: Duration::from_secs(activation_secs),
            fail: self.fail.iter().cloned().collect::<BTreeSet<_>>(),
            offline: self.offline.iter().cloned().collect::<BTreeSet<_>>(),
            lose_coordinator: self.lose_coordinator,
            promote: self.promote,
            limit: AHEAD,
        }
    }

    fn fleet_bytes(&self) -> Result<Vec<u8>, Failure> {
        match &self.fleet {
            Some(path) => read_document(path),
            None => self.agent.ask(held_by_agent),
        }
    }

    fn refused(&self, error: ForecastError) -> Failure {
        let of_fleet = |problem: &dyn std::fmt::Display| match &self.fleet {
            Some(path) => Failure::file(path, problem),
            None => Failure::new(format_args!("the agent's fleet document: {problem}")),
        };
        match &error {
            ForecastError::Fleet(refusal @ Refusal::NotYet { .. }) => {
                of_fleet(refusal).hint("--at TIME says when the ref is published; by default it is now")
            }
            ForecastError::Fleet(refusal) => of_fleet(refusal),
            ForecastError::Ref(
                refusal @ (Refusal::Stale { .. } | Refusal::Expired { .. } | Refusal::NotYet { .. }),
            ) => Failure::file(&self.file, refusal)
                .hint("--at TIME plays it as if it were published then, such as when it was signed"),
            ForecastError::Ref(refusal) => Failure::file(&self.file, refusal),
            ForecastError::Plan(problem) => Failure::file(&self.file, problem),
            ForecastError::UnknownHost { .. } | ForecastError::NoTarget { .. } => Failure::usage(error),
            ForecastError::NoQuorum { .. } => Failure { exit: Exit::TimedOut, ..Failure::new(error) },
            ForecastError::Broken(_) => Failure::new(error),
        }
    }

    /// A ref that is not signed by enough operators can be played, and not published.
    fn note_signatures(&self, files: &DocumentFiles, fleet: &[u8]) {
        let Ok(fleet) = Fleet::parse(fleet) else { return };
        let signed = verify_document(Namespace::ChannelRef, files.bytes.clone(), files.raw_signatures());
        let (have, needed) = (signed.count(fleet.operators.values()), fleet.thresholds.channel_ref);
        if have < needed {
            let file = shown(&self.file);
            note(format_args!(
                "{have} of {needed} operators signed {file} so far: it cannot be published yet"
            ));
        }
    }
}

/// How long the policy of a channel lets a switch take, in seconds.
fn allowed(fleet: &[u8], channel: &ChannelId) -> Option<u64> {
    let fleet = Fleet::parse(fleet).ok()?;
    let of = fleet.channels.get(channel)?;
    Some(fleet.policies.get(&of.policy)?.policy.activation_timeout_secs)
}

fn default_activation(allowed: Option<u64>) -> u64 {
    allowed.map_or(ACTIVATION_SECS, |allowed| ACTIVATION_SECS.min(allowed / 2))
}

fn shown(path: &Path) -> String {
    output::plain(&path.display().to_string())
}

/// The fleet document that an agent holds; it has looked at the signatures.
async fn held_by_agent(client: &Client) -> Result<Vec<u8>, Failure> {
    const HINT: &str = "--fleet FILE names the fleet document, and then no agent is asked";
    let held: Result<FleetDocument, ClientError> = client.read("/v1/fleet").await;
    let held = held.map_err(|error| Failure::from(error).hint(HINT))?;
    BASE64.decode(held.document.as_bytes()).map_err(|error| ClientError::Protocol(error.to_string()).into())
}

/// Shows on a terminal how far a long forecast is.
struct Shown {
    began: Instant,
    bar: Option<ProgressBar>,
}

impl Shown {
    fn new() -> Self {
        Self { began: Instant::now(), bar: None }
    }

    fn at(&mut self, progress: Progress) {
        if self.began.elapsed() < PATIENCE {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let live = std::io::stderr().is_terminal();
            let target = if live { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
            let style = ProgressStyle::with_template("{spinner} {msg}  {bar:30} {pos} of {len} hosts");
            let bar = ProgressBar::with_draw_target(Some(progress.hosts as u64), target);
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        bar.set_message(format!("playing, {} of virtual time", told::clock(progress.elapsed.as_secs())));
        bar.set_position(progress.done as u64);
    }

    fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::control::wire::fixtures;
    use crate::control::{self, Answer, Code, Problem};

    fn check(answer: Result<Answer, Problem>, test: impl FnOnce(Result<Vec<u8>, Failure>)) {
        let answer = move |_: &control::Request| Some(answer.clone());
        control::tests::check(control::server::Limits::default(), answer, async |bench| {
            test(held_by_agent(&bench.client).await);
        });
    }

    #[test]
    fn a_switch_takes_no_longer_than_its_policy_allows_unless_asked_to() {
        for (allowed, expected) in [(None, 30), (Some(300), 30), (Some(60), 30), (Some(30), 15), (Some(1), 0)]
        {
            assert_eq!(default_activation(allowed), expected, "{allowed:?}");
        }
    }

    #[test]
    fn without_a_fleet_document_the_one_that_the_agent_holds_is_played() {
        check(Ok(Answer::Fleet(fixtures::fleet())), |bytes| {
            assert_eq!(bytes.unwrap(), fixtures::fleet_bytes());
        });
        check(Err(Problem::new(Code::NotFound, "this host holds no fleet document yet")), |bytes| {
            let failure = bytes.unwrap_err();
            assert!(failure.message.contains("holds no fleet document yet"), "{failure}");
            assert!(failure.hint.unwrap().contains("--fleet FILE"));
        });
        let senseless = FleetDocument { document: "?".to_owned(), ..fixtures::fleet() };
        check(Ok(Answer::Fleet(senseless)), |bytes| {
            assert!(bytes.unwrap_err().message.contains("makes no sense"));
        });
    }
}
