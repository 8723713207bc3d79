//! `muster publish`: hands a signed document to the fleet.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use data_encoding::BASE64;
use muster_signing::armor;

use super::asking::{Agent, raw};
use super::document_files::DocumentFiles;
use super::output::{count, line};
use super::render::flat;
use super::until::{Ended, Until};
use super::{Exit, Failure, when};
use crate::control::client::{Client, parse};
use crate::control::wire::{DocumentInfo, DocumentReceipt, SignedDocument};

/// Hands a signed document to the fleet, through this host's agent.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  muster sign channel-ref --channel stable --ref v2 --targets targets.json \\
      --fleet fleet.json --key ~/.ssh/id_ed25519
  muster publish stable.json --wait

Sends FILE with all signatures beside it: FILE.sig, as ssh-keygen -Y sign writes
it, and FILE.<operator>.sig. Any host will do: the document carries its own
proof and finds its way. With --wait, ends once a quorum of coordinators has
stored it, from when on it can no longer get lost; with 5 when the time is over.")]
pub(super) struct Publish {
    #[command(flatten)]
    agent: Agent,
    /// The document.
    file: PathBuf,
    /// Wait until a quorum of coordinators has stored it.
    #[arg(long)]
    wait: bool,
    /// How long to wait, such as 30s or 5m.
    #[arg(long, value_name = "SPAN", default_value = "30s", value_parser = when::span)]
    timeout: Duration,
}

impl Publish {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let document = self.document()?;
        self.agent.ask(async |client| {
            let body = client.publish(&document).await?;
            let receipt: DocumentReceipt = parse(&body)?;
            if !self.agent.json {
                let held = if receipt.duplicate { ", which the agent held already" } else { "" };
                line(format_args!("accepted {}{held}", flat(&receipt.hash)));
            } else if !self.wait {
                raw(&body);
            }
            if self.wait { self.until_stored(client, &receipt).await } else { Ok(Exit::Done) }
        })
    }

    fn document(&self) -> Result<SignedDocument, Failure> {
        let files = DocumentFiles::read(&self.file)?;
        let signatures = files.signatures.iter().map(|file| {
            let raw = file.signature.as_ref().map_err(|error| Failure::file(&file.path, error))?;
            Ok(armor(raw))
        });
        let signatures: Vec<String> = signatures.collect::<Result<_, Failure>>()?;
        if signatures.is_empty() {
            let name = self.file.display();
            return Err(Failure::new(format_args!("{name}: there is no signature beside it")).hint(format!(
                "muster sign makes {name}.<operator>.sig, ssh-keygen -Y sign makes {name}.sig"
            )));
        }
        Ok(SignedDocument { document: BASE64.encode(&files.bytes), signatures })
    }

    async fn until_stored(&self, client: &Client, receipt: &DocumentReceipt) -> Result<Exit, Failure> {
        let until = Until {
            hash: &receipt.hash,
            timeout: self.timeout,
            json: self.agent.json,
            counts: |info: &DocumentInfo| info.quorum,
            told: stored_by,
        };
        match until.wait(client).await? {
            Ended::Counts => Ok(Exit::Done),
            Ended::Over(stored) => {
                let message = format_args!("no quorum of coordinators has the document yet; it is {stored}");
                Err(Failure { exit: Exit::TimedOut, ..Failure::new(message) }
                    .hint("the agent holds it and goes on passing it on; muster status says who is missing"))
            }
        }
    }
}

fn stored_by(info: &DocumentInfo, of: u32) -> String {
    let who = if info.stored_by.is_empty() {
        String::new()
    } else {
        format!(": {}", flat(&info.stored_by.join(", ")))
    };
    let coordinators = count(usize::try_from(of).unwrap_or(usize::MAX), "coordinator");
    format!("stored by {} of {coordinators}{who}", info.stored_by.len())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::super::asking::Socket;
    use super::*;
    use crate::control::wire::fixtures;
    use crate::control::{self, Answer, Ask, Query};

    #[test]
    fn waiting_ends_with_the_quorum_or_with_the_time() {
        for (asked_until_quorum, timeout, exit) in [(2, 600, Exit::Done), (u32::MAX, 0, Exit::TimedOut)] {
            let asked = std::cell::Cell::new(0);
            let answer = move |request: &control::Request| match &request.ask {
                Ask::Query(Query::Status) => Some(Ok(Answer::Status(fixtures::status()))),
                Ask::Query(_) | Ask::VerifyStore | Ask::Publish(_) | Ask::Plan(_) | Ask::Hook { .. } => {
                    asked.set(asked.get() + 1);
                    let quorum = asked.get() >= asked_until_quorum;
                    Some(Ok(Answer::Document(DocumentInfo { quorum, ..fixtures::document() })))
                }
            };
            control::tests::check(control::server::Limits::default(), answer, async |bench| {
                let publish = Publish {
                    agent: Agent { socket: Socket { socket: bench.path.clone() }, json: false },
                    file: PathBuf::new(),
                    wait: true,
                    timeout: Duration::from_secs(timeout),
                };
                let receipt = DocumentReceipt { schema: 1, hash: "ab".repeat(32), duplicate: false };
                let end = publish.until_stored(&bench.client, &receipt).await;
                assert_eq!(end.unwrap_or_else(|failure| failure.exit), exit);
            });
        }
    }

    #[test]
    fn a_document_goes_with_all_signatures_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("stable.json");
        std::fs::write(&file, "{}").unwrap();
        let agent = Agent { socket: Socket { socket: PathBuf::new() }, json: false };
        let publish = Publish { agent, file: file.clone(), wait: false, timeout: Duration::ZERO };
        let failure = publish.document().unwrap_err();
        assert!(failure.hint.unwrap().contains("muster sign"));
        let key = muster_signing::SigningKey::from_seed([7; 32]);
        let signature =
            armor(&muster_signing::sign_document(&key, muster_signing::Namespace::ChannelRef, b"{}"));
        for name in ["stable.json.sig", "stable.json.alice.sig"] {
            std::fs::write(folder.path().join(name), &signature).unwrap();
        }
        let document = publish.document().unwrap();
        assert_eq!(document, SignedDocument { document: "e30=".to_owned(), signatures: vec![signature; 2] });
        std::fs::write(folder.path().join("stable.json.bob.sig"), "not a signature").unwrap();
        assert!(publish.document().unwrap_err().message.contains("stable.json.bob.sig"));
    }

    #[test]
    fn who_has_it_is_said_in_a_sentence() {
        let mut info = fixtures::document();
        assert_eq!(stored_by(&info, 3), "stored by 2 of 3 coordinators: db-01, web-01");
        info.stored_by.clear();
        assert_eq!(stored_by(&info, 1), "stored by 0 of 1 coordinator");
    }
}
