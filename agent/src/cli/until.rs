//! Waits until a published document counts, and shows how far it is.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget};
use tokio::time::{Instant, sleep_until};

use super::Failure;
use super::asking::{raw, rest};
use super::output::line;
use super::render::flat;
use crate::control::client::{Client, encoded, parse};
use crate::control::wire::{DocumentInfo, Status};

/// How often it is asked how far the document is, at most.
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
        let mut of = coordinators(client).await?;
        loop {
            let asked = Instant::now();
            let body = client.get(&route).await?;
            let pause = rest(ASK_EVERY, asked.elapsed());
            let info: DocumentInfo = parse(&body)?;
            let counts = (self.counts)(&info);
            if counts || Instant::now() >= deadline {
                // A fleet document that counts by now may name others than there were before.
                of = coordinators(client).await?;
                let told = (self.told)(&info, of);
                spinner.finish_and_clear();
                if self.json {
                    raw(&body);
                } else {
                    line(flat(&told));
                }
                return Ok(if counts { Ended::Counts } else { Ended::Over(told) });
            }
            spinner.set_message((self.told)(&info, of));
            spinner.tick();
            sleep_until(deadline.min(Instant::now() + pause)).await;
        }
    }
}

/// How many coordinators there are. It is not asked along with the document each time: of a large fleet that costs much.
async fn coordinators(client: &Client) -> Result<u32, Failure> {
    Ok(client.read::<Status>("/v1/status").await?.quorum.of)
}
