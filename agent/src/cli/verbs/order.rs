//! From a verb to a signed command: what its options say, and what the agent knows.

use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;

use chrono::{DateTime, Utc};
use clap::Args;
use data_encoding::BASE64;
use muster_core::document::{Command, Fleet};
use muster_core::id::OperatorName;
use muster_signing::{Namespace, armor};
use serde_json::{Map, Value, json};

use super::sending::Waiting;
use crate::cli::asking::Agent;
use crate::cli::document_files::{write_document, write_signature};
use crate::cli::documents::rfc3339;
use crate::cli::output::{line, note};
use crate::cli::sign::{SignatureArgs, expiry};
use crate::cli::{Exit, Failure, when};
use crate::control::client::{Client, ClientError};
use crate::control::wire::{FleetDocument, SignedDocument, Status};

/// What every verb takes.
#[derive(Debug, Args)]
pub(super) struct Order {
    /// Why; it is part of the command, and shown to whoever is held by it. Asked for on a terminal.
    #[arg(long)]
    reason: Option<String>,
    /// When it stops to count: a time (RFC 3339), or a time from now (30m, 12h, 7d); by default never.
    #[arg(long, value_name = "TIME")]
    expires: Option<String>,
    /// Its place among the commands: by default one more than the agent knows of.
    #[arg(long, value_name = "N")]
    serial: Option<u64>,
    #[command(flatten)]
    signed: Signed,
}

/// How a document is signed and sent.
#[derive(Debug, Args)]
pub(super) struct Signed {
    /// The operator's private key, or a public one whose private half the ssh-agent holds.
    #[arg(long, value_name = "FILE", env = "MUSTER_KEY", required_unless_present = "dry_run")]
    key: Option<PathBuf>,
    /// The operator's name; by default the key's in the fleet document.
    #[arg(long)]
    operator: Option<OperatorName>,
    /// Write the document and the signature beside it, and publish nothing: where several operators have to sign.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print the document, and neither sign nor publish it.
    #[arg(long, conflicts_with_all = ["out", "no_wait"])]
    dry_run: bool,
    #[command(flatten)]
    waiting: Waiting,
    #[command(flatten)]
    agent: Agent,
}

impl Order {
    /// Makes, signs and publishes a command; `fields` says what it is about.
    pub(super) fn run(
        &self,
        verb: &'static str,
        fields: impl AsyncFnOnce(&Client) -> Result<Value, Failure>,
    ) -> Result<Exit, Failure> {
        let reason = self.reason(verb)?;
        self.signed.agent.ask(async |client| {
            let known = Known::ask(client).await?;
            let mut fields = fields(client).await?;
            let serial = match self.serial {
                Some(serial) => serial,
                None => known.command_serial.checked_add(1).ok_or_else(|| {
                    Failure::new("no serial is greater than the last command's").hint("give --serial")
                })?,
            };
            let head = json!({
                "kind": "muster/command/1", "fleet": known.fleet.name.to_string(), "serial": serial,
                "signedAt": rfc3339(when::now()), "expiresAt": self.expires_at()?.map(rfc3339),
                "verb": verb, "reason": reason,
            });
            let bytes = document(&head, fields.as_object_mut())?;
            let command = Command::parse(&bytes).map_err(Failure::usage)?;
            command.check(&known.fleet).map_err(|error| {
                Failure::new(error).hint("muster status names the channels and hosts of the fleet")
            })?;
            let needed = known.fleet.thresholds.command;
            self.signed.send(client, &known.fleet, Namespace::Command, bytes, needed).await
        })
    }

    fn expires_at(&self) -> Result<Option<DateTime<Utc>>, Failure> {
        self.expires.as_ref().map(|text| expiry(text, when::now())).transpose()
    }

    fn reason(&self, verb: &str) -> Result<String, Failure> {
        if let Some(reason) = &self.reason {
            return Ok(reason.clone());
        }
        let missing = || Failure::usage("--reason is needed: it is shown to whoever wonders later");
        if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
            return Err(missing().hint(format!("muster {verb} ... --reason 'the database moves tonight'")));
        }
        let _ = write!(std::io::stderr(), "reason: ");
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer).map_err(Failure::new)?;
        match answer.trim() {
            "" => Err(missing()),
            reason => Ok(reason.to_owned()),
        }
    }
}

/// One document of the head's fields and those of the verb; what is null is left out.
fn document(head: &Value, fields: Option<&mut Map<String, Value>>) -> Result<Vec<u8>, Failure> {
    let mut whole = head.as_object().cloned().unwrap_or_default();
    if let Some(fields) = fields {
        whole.append(fields);
    }
    whole.retain(|_, value| !value.is_null());
    let mut bytes = serde_json::to_vec_pretty(&whole).map_err(Failure::new)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// What the agent knows that a new document builds on.
#[derive(Debug)]
pub(super) struct Known {
    /// The newest fleet document.
    pub(super) fleet: Fleet,
    /// Its bytes.
    pub(super) fleet_bytes: Vec<u8>,
    /// The greatest serial of a command.
    command_serial: u64,
}

impl Known {
    pub(super) async fn ask(client: &Client) -> Result<Self, Failure> {
        let status: Status = client.read("/v1/status").await?;
        let held: FleetDocument = client.read("/v1/fleet").await?;
        let senseless = |error: &dyn std::fmt::Display| ClientError::Protocol(error.to_string());
        let fleet_bytes = BASE64.decode(held.document.as_bytes()).map_err(|error| senseless(&error))?;
        let fleet = Fleet::parse(&fleet_bytes).map_err(|refusal| senseless(&refusal))?;
        Ok(Self { fleet, fleet_bytes, command_serial: status.command_serial.unwrap_or(0) })
    }
}

impl Signed {
    /// Asks the agent.
    pub(super) fn ask<T>(&self, work: impl AsyncFnOnce(&Client) -> Result<T, Failure>) -> Result<T, Failure> {
        self.agent.ask(work)
    }

    /// Signs a document and does with it what the options say.
    pub(super) async fn send(
        &self,
        client: &Client,
        fleet: &Fleet,
        namespace: Namespace,
        bytes: Vec<u8>,
        needed: usize,
    ) -> Result<Exit, Failure> {
        if self.dry_run {
            line(String::from_utf8_lossy(&bytes).trim_end());
            return Ok(Exit::Done);
        }
        let key = self.key.clone().ok_or_else(|| Failure::usage("--key is needed to sign"))?;
        let signature = SignatureArgs { key, add: false, operator: self.operator.clone() };
        let signer = signature.signer()?;
        let operator = signature.operator_of(&signer, &fleet.operators, true)?;
        if let Some(path) = &self.out {
            let raw = signer.sign(namespace, &bytes)?;
            write_document(path, &bytes)?;
            line(path.display());
            line(write_signature(path, &operator, &raw)?.display());
            if needed > 1 {
                note(format_args!(
                    "1 of {needed} signatures: another operator adds one with muster sign --add"
                ));
            }
            return Ok(Exit::Done);
        }
        if needed > 1 {
            let message = format!("{needed} operators have to sign it, and one can do so here");
            return Err(Failure::new(message).hint(
                "--out FILE writes it with your signature; another operator adds theirs with muster sign ... --add, \
                 and muster publish FILE sends it",
            ));
        }
        let raw = signer.sign(namespace, &bytes)?;
        let document = SignedDocument { document: BASE64.encode(&bytes), signatures: vec![armor(&raw)] };
        self.waiting.publish(client, &document, self.agent.json).await
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_command_is_made_of_its_head_and_of_what_it_is_about() {
        let head = json!({
            "kind": "muster/command/1", "fleet": "home", "serial": 7, "signedAt": "2026-11-24T10:20:00Z",
            "expiresAt": null, "verb": "skip", "reason": "it is in repair",
        });
        let mut fields = json!({ "host": "web-03", "rollout": null });
        let bytes = document(&head, fields.as_object_mut()).unwrap();
        let command = Command::parse(&bytes).unwrap();
        assert_eq!((command.serial, command.verb.name(), command.expires_at), (7, "skip", None));
        let text = String::from_utf8(bytes).unwrap();
        assert!(!text.contains("null") && text.ends_with("}\n"), "{text}");
    }
}
