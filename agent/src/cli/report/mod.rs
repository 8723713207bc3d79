//! `muster rollout report`: one page about one rollout, to be kept, printed or sent.

mod chart;
mod page;
mod scale;

use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use clap::Args;

use super::asking::Socket;
use super::output::{line, note, plain};
use super::{Exit, Failure, when};
use crate::control::client::{Client, encoded};
use crate::control::wire::{HostState, Quarantine, Quarantines, RolloutShow, Status};
use crate::daemon::past::Past;

pub(super) use chart::svg;
pub(super) use page::STYLE;

/// Where the page goes if it is not to be a file.
const STDOUT: &str = "-";

/// Writes one page about a rollout: every host's way through it on one time line, who decided what, and when.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  muster rollout report stable@v2 --html stable-v2.html
  muster rollout report stable@v2 --html - > report.html
  muster rollout report stable@v2 --html old.html \\
      --store /var/lib/muster/muster.redb                    of a stopped agent

The page is one file that asks nobody for anything: no scripts, no fonts, no
images from elsewhere. It can be read in light and dark, printed, and read
aloud.")]
pub(super) struct Report {
    #[command(flatten)]
    agent: Socket,
    /// The rollout: CHANNEL@REF.
    id: String,
    /// Where to write the page; - is standard output. A file that is there is replaced.
    #[arg(long, value_name = "FILE")]
    html: PathBuf,
    /// The store of a stopped agent; by default the running one is asked.
    #[arg(long, value_name = "FILE")]
    store: Option<PathBuf>,
}

/// What the page is made of.
#[derive(Debug)]
pub(super) struct Story {
    /// The fleet's name.
    fleet: String,
    /// Who tells it.
    told_by: String,
    show: RolloutShow,
    /// Closures that were barred because of it.
    quarantines: Vec<Quarantine>,
    /// When it was told.
    now: DateTime<Utc>,
}

impl Story {
    /// What the time line alone is made of.
    pub(super) fn of(show: RolloutShow, now: DateTime<Utc>) -> Self {
        Self { fleet: String::new(), told_by: String::new(), show, quarantines: Vec::new(), now }
    }
}

impl Report {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let story = match &self.store {
            Some(store) => of_store(store, &self.id)?,
            None => self.agent.ask(async |client| of_agent(client, &self.id).await)?,
        };
        let page = page::html(&story);
        if self.html == Path::new(STDOUT) {
            line(page.trim_end());
            return Ok(Exit::Done);
        }
        fs::write(&self.html, page).map_err(|error| Failure::file(&self.html, error))?;
        note(format_args!(
            "{}: {} of {} hosts",
            self.html.display(),
            plain(&self.id),
            story.show.hosts.len()
        ));
        Ok(Exit::Done)
    }
}

async fn of_agent(client: &Client, id: &str) -> Result<Story, Failure> {
    let show: RolloutShow = client.read(&format!("/v1/rollouts/{}", encoded(id))).await?;
    let status: Status = client.read("/v1/status").await?;
    let barred: Quarantines = client.read("/v1/quarantines").await?;
    let of_this = |quarantine: &Quarantine| quarantine.rollout.as_deref() == Some(&show.rollout.id);
    Ok(Story {
        fleet: status.fleet,
        told_by: format!("the agent of {}", status.host),
        quarantines: barred.quarantines.into_iter().filter(of_this).collect(),
        show,
        now: when::now(),
    })
}

fn of_store(path: &Path, id: &str) -> Result<Story, Failure> {
    let past = Past::open(path)?;
    let show = past.rollout(id).map_err(|problem| Failure::new(&problem.detail))?;
    Ok(Story {
        fleet: past.fleet(),
        told_by: format!("the store {}", path.display()),
        quarantines: Vec::new(),
        show,
        now: when::now(),
    })
}

/// Text as it can stand in a page: nothing in it is markup, nothing steers anything.
fn escaped(text: impl Display) -> String {
    let mut safe = String::new();
    for c in plain(&text.to_string()).chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

/// A host's state in a word, a sign that needs no colour, and the name of its colour.
fn sign(state: Option<HostState>, excused: bool) -> (&'static str, &'static str, &'static str) {
    match state {
        _ if excused => ("–", "excused", "waits"),
        None => ("·", "not dispatched", "waits"),
        Some(HostState::Pending) => ("·", "no answer yet", "waits"),
        Some(HostState::Activating) => ("»", "switches", "switch"),
        Some(HostState::Deferred) => ("◷", "waits for a reboot", "switch"),
        Some(HostState::Soaking) => ("◔", "soaks", "soak"),
        Some(HostState::Converged) => ("✓", "converged", "good"),
        Some(HostState::Failed) => ("✗", "failed", "bad"),
        Some(HostState::Reverted) => ("↶", "went back", "back"),
        Some(HostState::Unknown) => ("?", "unknown", "waits"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_is_no_markup() {
        assert_eq!(
            escaped("<script a='b\" onload=x>&\u{1b}[2J"),
            "&lt;script a=&#39;b&quot; onload=x&gt;&amp;\\u{1b}[2J"
        );
    }
}
