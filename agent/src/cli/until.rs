//! Waits until a published document counts, and shows how far it is.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget};
use tokio::time::{Instant, sleep};

use super::Failure;
use super::asking::raw;
use super::output::line;
use super::render::flat;
use crate::control::client::{Client, encoded, parse};
use crate::control::wire::{DocumentInfo, Status};

/// How often it is asked how far the document is.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// How a wait ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The document counts.
    Counts,
    /// The time is over; how far it was, in words.
    Over(String),
}

/// What is waited for.
pub(super) struct Until<'a, C, T> {
    /// The document's hash.
    pub(super) hash: &'a str,
    /// How long is waited.
    pub(super) timeout: Duration,
    /// Whether the agent's last answer is printed, rather than words.
    pub(super) json: bool,
    /// Whether it counts.
    pub(super) counts: C,
    /// How far it is, in words, of so many coordinators.
    pub(super) told: T,
}

impl<C: Fn(&DocumentInfo) -> bool, T: Fn(&DocumentInfo, u32) -> String> Until<'_, C, T> {
    /// Waits, and prints how far the document is in the end.
    pub(super) async fn wait(self, client: &Client) -> Result<Ended, Failure> {
        let route = format!("/v1/documents/{}", encoded(self.hash));
        let live = !self.json && std::io::stderr().is_terminal();
        let target = if live { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let spinner = ProgressBar::with_draw_target(None, target);
        let deadline = Instant::now() + self.timeout;
        loop {
            let body = client.get(&route).await?;
            let info: DocumentInfo = parse(&body)?;
            let of = client.read::<Status>("/v1/status").await?.quorum.of;
            let told = (self.told)(&info, of);
            let counts = (self.counts)(&info);
            if counts || Instant::now() >= deadline {
                spinner.finish_and_clear();
                if self.json {
                    raw(&body);
                } else {
                    line(flat(&told));
                }
                return Ok(if counts { Ended::Counts } else { Ended::Over(told) });
            }
            spinner.set_message(told);
            spinner.tick();
            sleep(ASK_EVERY).await;
        }
    }
}
