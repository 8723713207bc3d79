//! Hands a document over, and waits until it counts.

use std::time::Duration;

use clap::Args;

use crate::cli::asking::raw;
use crate::cli::output::{count, line};
use crate::cli::render::flat;
use crate::cli::until::{Ended, Until};
use crate::cli::{Exit, Failure, when};
use crate::control::client::{Client, parse};
use crate::control::wire::{DocumentInfo, DocumentReceipt, SignedDocument};

/// How long is waited.
#[derive(Debug, Args)]
pub(super) struct Waiting {
    /// Do not wait until a quorum of coordinators has it.
    #[arg(long)]
    no_wait: bool,
    /// Wait until a quorum of coordinators has it and it counts; the default.
    #[arg(long, overrides_with = "no_wait")]
    wait: bool,
    /// How long to wait, such as 30s or 5m.
    #[arg(long, value_name = "SPAN", default_value = "30s", value_parser = when::span)]
    timeout: Duration,
}

impl Waiting {
    /// Publishes a document, and says what it comes to.
    pub(super) async fn publish(
        &self,
        client: &Client,
        document: &SignedDocument,
        json: bool,
    ) -> Result<Exit, Failure> {
        let body = client.publish(document).await?;
        let receipt: DocumentReceipt = parse(&body)?;
        if self.no_wait {
            if json {
                raw(&body);
            } else {
                line(format_args!("accepted {}", flat(&receipt.hash)));
            }
            return Ok(Exit::Done);
        }
        let until = Until {
            hash: &receipt.hash,
            timeout: self.timeout,
            json,
            counts: |info: &DocumentInfo| {
                info.quorum && info.effect.as_ref().is_none_or(|effect| effect.in_effect)
            },
            told,
        };
        match until.wait(client).await? {
            Ended::Counts => Ok(Exit::Done),
            Ended::Over(_) => {
                let message = format_args!("it does not count yet after {} s", self.timeout.as_secs());
                Err(Failure { exit: Exit::TimedOut, ..Failure::new(message) }.hint(
                    "the agent holds it and goes on passing it on; muster status says which coordinators are missing",
                ))
            }
        }
    }
}

/// What a document came to: `stable is paused: 2 of 3 coordinators have it; 3 hosts not dispatched wait`.
fn told(info: &DocumentInfo, of: u32) -> String {
    let coordinators = count(usize::try_from(of).unwrap_or(usize::MAX), "coordinator");
    let have = if info.stored_by.len() == 1 { "has" } else { "have" };
    let stored = format!("{} of {coordinators} {have} it", info.stored_by.len());
    match &info.effect {
        None => format!("it is published: {stored}"),
        Some(effect) => {
            let detail = effect.detail.as_ref().map(|detail| format!("; {detail}")).unwrap_or_default();
            format!("{}: {stored}{detail}", effect.summary)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::wire::{CommandEffect, fixtures};

    #[test]
    fn what_a_command_came_to_is_one_sentence() {
        let effect = CommandEffect {
            in_effect: true,
            summary: "stable is paused".to_owned(),
            detail: Some("3 hosts not dispatched wait".to_owned()),
            held: Vec::new(),
            free: Vec::new(),
            in_flight: Vec::new(),
        };
        let mut info = DocumentInfo { effect: Some(effect), ..fixtures::document() };
        let text = "stable is paused: 2 of 3 coordinators have it; 3 hosts not dispatched wait";
        assert_eq!(told(&info, 3), text);
        info.effect = None;
        info.stored_by.truncate(1);
        assert_eq!(told(&info, 1), "it is published: 1 of 1 coordinator has it");
    }
}
