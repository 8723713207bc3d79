//! `muster events`: what this host learned, in the order in which it did.

use chrono::{DateTime, SecondsFormat, Utc};
use clap::Args;
use muster_core::id::{HostId, RolloutId};

use super::asking::{Agent, raw};
use super::output::{Tone, line, reader_gone};
use super::render::{Look, NONE, flat, moment, wrapped};
use super::{Exit, Failure, when};
use crate::control::EVENTS_MAX;
use crate::control::client::{Client, ClientError, encoded};
use crate::control::wire::{Event, EventKind, Events as List};

/// How many events are shown before the new ones are followed.
const BEFORE_FOLLOWING: u32 = 20;
/// How wide the column of hosts is at most.
const HOST_CHARS: usize = 12;

/// Shows what this host learned, in the order in which it did: events of hosts, decisions, documents.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  muster events --since 1h --host web-02     what web-02 said in the last hour
  muster events --rollout stable@v2 --follow what happens in it, as it does
  muster events --follow --json              one JSON object a line

Every signature is looked at again while it is read; what does not hold is
marked UNVERIFIED.")]
pub(super) struct Events {
    #[command(flatten)]
    agent: Agent,
    /// Only those of this host.
    #[arg(long)]
    host: Option<HostId>,
    /// Only those of this rollout: CHANNEL@REF.
    #[arg(long, value_name = "ID")]
    rollout: Option<RolloutId>,
    /// Only those since then: a time, or how long ago, such as 2h.
    #[arg(long, value_name = "TIME", value_parser = when::since)]
    since: Option<DateTime<Utc>>,
    /// At most so many, the newest; 1000 at most.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=i64::from(EVENTS_MAX)))]
    limit: Option<u32>,
    /// Stay, and show new ones as they come.
    #[arg(long)]
    follow: bool,
}

impl Events {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let look = Look::of_stdout();
        if !self.follow {
            return self.agent.show(&self.route(None), |list: &List| {
                if list.events.is_empty() {
                    return "no such events".to_owned();
                }
                let lines: Vec<String> = list.events.iter().map(|event| text(event, &look)).collect();
                lines.join("\n")
            });
        }
        self.agent.ask(async |client| {
            tokio::select! {
                ended = self.follow(client, &look) => ended,
                () = reader_gone() => Ok(Exit::Done),
            }
        })
    }

    /// Shows what comes, as it comes.
    async fn follow(&self, client: &Client, look: &Look) -> Result<Exit, Failure> {
        let mut last = None;
        loop {
            let followed = async {
                let mut stream = client.follow(&self.route(last)).await?;
                while let Some(event) = stream.next().await? {
                    last = Some(event.position);
                    self.print(&event, look)?;
                }
                Ok(())
            };
            match followed.await {
                // An agent that restarts comes back, and goes on where it was.
                Ok(()) | Err(ClientError::Unreachable { .. } | ClientError::Protocol(_))
                    if last.is_some() =>
                {
                    tokio::time::sleep(super::asking::REFRESH).await;
                }
                Ok(()) => return Ok(Exit::Done),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn print(&self, event: &Event, look: &Look) -> Result<(), ClientError> {
        if self.agent.json {
            let body = serde_json::to_vec(event).map_err(|error| ClientError::Protocol(error.to_string()))?;
            raw(&body);
        } else {
            line(text(event, look));
        }
        Ok(())
    }

    fn route(&self, after: Option<u64>) -> String {
        let mut route = "/v1/events?".to_owned();
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                route.push_str(&format!("{name}={}&", encoded(&value)));
            }
        };
        add("host", self.host.as_ref().map(ToString::to_string));
        add("rollout", self.rollout.as_ref().map(ToString::to_string));
        add("since", self.since.map(|since| since.to_rfc3339_opts(SecondsFormat::AutoSi, true)));
        add("after", after.map(|after| after.to_string()));
        let bounded = self.follow && self.since.is_none() && after.is_none();
        let limit = self.limit.or(bounded.then_some(BEFORE_FOLLOWING));
        add("limit", limit.map(|limit| limit.to_string()));
        add("follow", self.follow.then(|| "1".to_owned()));
        route.pop();
        route
    }
}

fn text(event: &Event, look: &Look) -> String {
    let tone = match (event.name.as_str(), event.kind) {
        ("Converged" | "RolloutTerminal", _) => Tone::Good,
        ("Failed" | "ActivationFailed" | "ProbeFailureFirst" | "Quarantine" | "DispatchRejected", _) => {
            Tone::Bad
        }
        (_, EventKind::Document) => Tone::Strong,
        (_, EventKind::Event | EventKind::Decision | EventKind::Log | EventKind::Unknown) => Tone::Warn,
    };
    let (at, host) = (moment(event.at), flat(event.host.as_deref().unwrap_or(NONE)));
    let indent = at.len() + 2;
    let mut text =
        format!("{}  {host:HOST_CHARS$}  {}", look.tone(Tone::Faint, &at), look.tone(tone, &event.name));
    let mut behind = indent + host.chars().count().max(HOST_CHARS) + 2 + event.name.chars().count();
    if let Some(rollout) = &event.rollout {
        text.push_str(&format!("  {}", look.tone(Tone::Faint, rollout)));
        behind += 2 + rollout.chars().count();
    }
    if !event.verified {
        text.push_str(&format!("  {}", look.tone(Tone::Bad, "UNVERIFIED")));
        behind += "  UNVERIFIED".len();
    }
    let detail = flat(&event.detail);
    if detail.is_empty() {
        return text;
    }
    // What does not fit behind the rest goes below it, so that the times stay the only thing in their column.
    let width = usize::from(look.width);
    if behind + 2 + detail.chars().count() <= width {
        return format!("{text}  {detail}");
    }
    format!("{text}\n{}", wrapped(&detail, width, indent).join("\n"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use clap::Parser;

    use super::super::render::tests::{check, look};
    use super::*;
    use crate::control::wire::fixtures;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        events: Events,
    }

    #[test]
    fn an_event_is_a_line() {
        let mut document = fixtures::event(9);
        document.host = None;
        document.rollout = None;
        document.kind = EventKind::Document;
        document.name = "fleet".to_owned();
        document.detail = "serial 4\nsigned by alice".to_owned();
        document.verified = false;
        let lines: Vec<String> =
            [fixtures::event(1), document].iter().map(|event| text(event, &look())).collect();
        check(
            &lines.join("\n"),
            &[
                "2026-11-18T11:06:41Z  web-01        Converged  stable@v2  runs dir:v2",
                "2026-11-18T11:06:49Z  -             fleet  UNVERIFIED  serial 4 signed by alice",
            ],
        );
    }

    #[test]
    fn filters_become_a_query() {
        for (arguments, after, route) in [
            (vec![], None, "/v1/events"),
            (vec!["--follow"], None, "/v1/events?limit=20&follow=1"),
            (vec!["--follow"], Some(7), "/v1/events?after=7&follow=1"),
            (
                vec![
                    "--host",
                    "db-01",
                    "--rollout",
                    "stable@v2",
                    "--since",
                    "2026-11-24T07:00:00+01:00",
                    "--limit",
                    "3",
                ],
                None,
                "/v1/events?host=db-01&rollout=stable@v2&since=2026-11-24T06:00:00Z&limit=3",
            ),
        ] {
            let line = Line::try_parse_from([vec!["events"], arguments].concat()).unwrap();
            assert_eq!(line.events.route(after), route);
        }
    }
}
