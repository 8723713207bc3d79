//! `muster demo`: the whole story on one machine.

use std::path::PathBuf;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::output::{Tone, count, line, note, plain, toned_note};
use super::{Exit, Failure};
use crate::demo::agents::{Stopped, stop};
use crate::demo::fleet::{HOSTS_MAX, HOSTS_MIN};
use crate::demo::tell::{Teller, list};
use crate::demo::{Demo, DemoError};

/// Shows a whole fleet on this machine: a rollout in waves, a coordinator that is killed, and a release that goes back.
///
/// Real agents run as child processes with throw-away keys; no root and no Nix are needed. It takes less than a minute.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  muster demo                        watch it happen; nothing is left behind
  muster demo --keep /tmp/demo       leave it running, to look around in it
  muster demo --stop /tmp/demo       end it")]
pub struct DemoCommand {
    /// How many hosts take part.
    #[arg(long, default_value_t = 5, value_parser = hosts)]
    hosts: usize,
    /// Live in DIR, which must be empty or new, and leave the agents running there.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// End the agents that an earlier demo left running in DIR.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["keep", "hosts"])]
    stop: Option<PathBuf>,
    /// Print the figures as one line of JSON, and the story on stderr.
    #[arg(long)]
    json: bool,
}

fn hosts(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (HOSTS_MIN..=HOSTS_MAX).contains(number));
    number.ok_or_else(|| format!("a demo has {HOSTS_MIN} to {HOSTS_MAX} hosts"))
}

impl DemoCommand {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(Failure::new)?.block_on(async {
            match &self.stop {
                Some(dir) => self.end(stop(dir).await?, dir),
                None => self.play().await,
            }
        })
    }

    async fn play(&self) -> Result<Exit, Failure> {
        let mut interrupts = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()]
            .map(|kind| signal(kind).map_err(Failure::new));
        let mut demo = Demo::new(self.hosts, self.keep.as_deref())?;
        let mut tell = Teller::new(self.json);
        let outcome = tokio::select! {
            biased;
            () = any(&mut interrupts) => None,
            outcome = demo.run(&mut tell) => Some(outcome),
        };
        tell.end();
        match outcome {
            Some(Ok(report)) => {
                demo.finish().await?;
                if self.json {
                    line(serde_json::to_string(&report).map_err(Failure::new)?);
                }
                Ok(Exit::Done)
            }
            Some(Err(error)) => {
                for (host, tail) in demo.log_tails() {
                    note(toned_note(Tone::Strong, format_args!("the last words of {host}:")));
                    note(plain(&tail));
                }
                demo.end().await?;
                Err(with_hint(error, &demo))
            }
            None => {
                demo.end().await?;
                Err(Failure::new("interrupted; every agent has been ended"))
            }
        }
    }

    fn end(&self, stopped: Stopped, dir: &std::path::Path) -> Result<Exit, Failure> {
        let Stopped { ended, absent } = stopped;
        if self.json {
            line(serde_json::json!({ "schema": 1, "ended": ended, "absent": absent }));
            return Ok(Exit::Done);
        }
        line(format_args!("ended {}: {}", count(ended.len(), "agent"), list(&ended)));
        if !absent.is_empty() {
            line(format_args!("not running any more: {}", list(&absent)));
        }
        note(format_args!("their stores and logs are still in {0}; rm -r {0} removes them", dir.display()));
        Ok(Exit::Done)
    }
}

async fn any(interrupts: &mut [Result<tokio::signal::unix::Signal, Failure>]) {
    let waiting = interrupts.iter_mut().filter_map(|interrupt| interrupt.as_mut().ok());
    let waiting: Vec<_> = waiting.map(|interrupt| Box::pin(interrupt.recv())).collect();
    if waiting.is_empty() {
        return std::future::pending().await;
    }
    futures::future::select_all(waiting).await;
}

fn with_hint(error: DemoError, demo: &Demo) -> Failure {
    let failure = Failure::from(error);
    match demo.kept() {
        Some(dir) => failure.hint(format!("the agents' logs and stores are in {}", dir.display())),
        None => failure.hint("muster demo --keep DIR keeps the agents' logs and stores for a closer look"),
    }
}

impl From<DemoError> for Failure {
    fn from(error: DemoError) -> Self {
        let failure = Self::new(&error);
        match &error {
            DemoError::NotEmpty { .. } => failure.hint(
                "give a folder that is empty, or does not exist yet; muster demo --stop DIR ends what was left running in DIR",
            ),
            DemoError::TooLong { .. } => {
                failure.hint("give a folder with a shorter path, such as --keep /tmp/demo")
            }
            DemoError::NoDemo { .. } => failure.hint("give the folder that muster demo --keep was given"),
            DemoError::Io { .. }
            | DemoError::NotText { .. }
            | DemoError::Key(_)
            | DemoError::AgentEnded { .. }
            | DemoError::Agent { .. }
            | DemoError::Late { .. }
            | DemoError::Unexpected(_) => failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_demo_has_enough_hosts_and_not_too_many() {
        for (text, expected) in [
            ("3", None),
            ("4", Some(4)),
            ("5", Some(5)),
            ("16", Some(16)),
            ("17", None),
            ("-5", None),
            ("many", None),
        ] {
            assert_eq!(hosts(text).ok(), expected, "{text}");
        }
    }
}
