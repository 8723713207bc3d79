//! `muster sign`: makes and signs documents.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use chrono::{DateTime, TimeDelta, Utc};
use clap::{Args, Subcommand};
use muster_core::document::{ChannelRefDocument, Fleet, plan};
use muster_core::id::{ChannelId, ChannelRef, Closure, HostId, OperatorName};
use muster_signing::{Digest, OperatorKey, sha256, verify_document};
use serde::Serialize;

use super::asking::Socket;
use super::document_files::{DocumentFiles, read_document, write_document, write_signature};
use super::documents::{Kind, Parsed, rfc3339};
use super::output::{line, note};
use super::verify::Root;
use super::{Exit, Failure, when};
use crate::control::client::Client;
use crate::control::wire::Status;
use crate::keys::Signer;

/// Makes and signs a document; the signature goes beside it, as FILE.<operator>.sig.
#[derive(Debug, Args)]
pub struct Sign {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    ChannelRef(SignChannelRef),
    /// Signs a fleet document as it stands.
    #[command(after_help = "Example:\n  muster sign fleet fleet.json --key operator
      writes fleet.json.alice.sig")]
    Fleet(SignFile),
    /// Signs an operator's command as it stands.
    #[command(after_help = "Example:\n  muster sign command pause.json --key operator
      writes pause.json.alice.sig")]
    Command(SignFile),
}

/// Makes a channel ref and signs it.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  muster sign channel-ref --channel stable --ref v1 --targets targets.json \\
      --fleet fleet.json --key operator

Without --serial the agent behind the socket says what the channel's last one
is. Where no agent can be asked, as on an operator's own machine, give it.")]
struct SignChannelRef {
    /// The channel.
    #[arg(long)]
    channel: ChannelId,
    /// What is released, usually a git commit.
    #[arg(long = "ref", required_unless_present = "add")]
    target_ref: Option<ChannelRef>,
    /// What each host is to run: a JSON object {host: closure}.
    #[arg(long, value_name = "FILE", required_unless_present = "add")]
    targets: Option<PathBuf>,
    /// The fleet document that it builds on.
    #[arg(long, value_name = "FILE")]
    fleet: PathBuf,
    /// Its place among the channel's refs, greater than the last one's: by default one more than the agent knows of.
    #[arg(long)]
    serial: Option<u64>,
    #[command(flatten)]
    agent: Socket,
    /// When it stops to count: a time (RFC 3339), or a time from now (30m, 12h, 7d).
    #[arg(long)]
    expires: Option<String>,
    /// Opens the gates of waves and promotions for closures that already converged on a host.
    #[arg(long)]
    urgent: bool,
    /// Where the document goes; by default <channel>.json.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    signature: SignatureArgs,
}

#[derive(Debug, Args)]
struct SignFile {
    /// The document.
    file: PathBuf,
    /// The fleet document whose operator signs; a fleet document names its own.
    #[arg(long, value_name = "FILE")]
    fleet: Option<PathBuf>,
    #[command(flatten)]
    signature: SignatureArgs,
}

#[derive(Debug, Args)]
pub(super) struct SignatureArgs {
    /// The operator's private key, or a public one whose private half the ssh-agent holds.
    #[arg(long, value_name = "FILE")]
    pub(super) key: PathBuf,
    /// Add a signature to a document that others have signed already.
    #[arg(long)]
    pub(super) add: bool,
    /// The operator's name; by default the key's in the fleet document.
    #[arg(long)]
    pub(super) operator: Option<OperatorName>,
}

impl Sign {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        match self.what {
            What::ChannelRef(command) => command.run(),
            What::Fleet(command) => command.run(Kind::Fleet),
            What::Command(command) => command.run(Kind::Command),
        }
    }
}

impl SignChannelRef {
    fn run(self) -> Result<Exit, Failure> {
        let out = self.out.clone().unwrap_or_else(|| format!("{}.json", self.channel).into());
        let fleet_bytes = read_document(&self.fleet)?;
        let fleet = Fleet::parse(&fleet_bytes).map_err(|refusal| Failure::file(&self.fleet, refusal))?;
        let signer = self.signature.signer()?;
        // Nothing is written before it is clear that the signature will count.
        self.signature.operator_of(&signer, &fleet.operators, true)?;
        let (path, signature) = (out.as_path(), &self.signature);
        if signature.add {
            let bytes = read_document(path)?;
            let document =
                ChannelRefDocument::parse(&bytes).map_err(|refusal| Failure::file(path, refusal))?;
            resolve(&document, &bytes, &fleet, &fleet_bytes).map_err(|error| Failure::file(path, error))?;
        } else {
            let bytes = make_channel_ref(self.request(&fleet)?, &fleet, &fleet_bytes, when::now())?;
            write_document(path, &bytes)?;
        }
        signature.sign(path, Kind::ChannelRef, &signer, &fleet.operators, fleet.thresholds.channel_ref)
    }

    fn request(&self, fleet: &Fleet) -> Result<ChannelRefRequest, Failure> {
        let missing = |what| Failure::usage(format_args!("{what} is needed to make a channel ref"));
        let path = self.targets.as_ref().ok_or_else(|| missing("--targets"))?;
        let targets = serde_json::from_slice(&read_document(path)?).map_err(|error| {
            Failure::file(path, error).hint("targets are a JSON object: {\"web-01\": \"/nix/store/...\"}")
        })?;
        Ok(ChannelRefRequest {
            channel: self.channel.clone(),
            target_ref: self.target_ref.clone().ok_or_else(|| missing("--ref"))?,
            serial: self.serial.map_or_else(|| self.next_serial(fleet), Ok)?,
            targets,
            expires_at: self.expires.as_ref().map(|text| expiry(text, when::now())).transpose()?,
            urgent: self.urgent,
        })
    }

    fn next_serial(&self, fleet: &Fleet) -> Result<u64, Failure> {
        let found = self.agent.ask(async |client| Ok(next_serial(client, fleet, &self.channel).await))?;
        found.map_err(|problem| {
            Failure::usage(format_args!("--serial is needed to make a channel ref: {problem}")).hint(
                "give --serial, one more than the channel's last ref has, or name an agent of the fleet that runs \
                 with --socket or MUSTER_SOCKET",
            )
        })
    }
}

/// One more than the serial of the channel's newest ref.
async fn next_serial(client: &Client, fleet: &Fleet, channel: &ChannelId) -> Result<u64, String> {
    let status: Status = client.read("/v1/status").await.map_err(|error| error.to_string())?;
    let path = client.path().display();
    if status.fleet != fleet.name.as_str() {
        return Err(format!("the agent at {path} is of the fleet {}, not of {}", status.fleet, fleet.name));
    }
    if status.fleet_serial.is_none() {
        return Err(format!("the agent at {path} holds no fleet document yet, so it knows of no refs"));
    }
    let known = status.channels.iter().find(|known| known.channel == channel.as_str());
    let last = known.and_then(|known| known.ref_serial).unwrap_or(0);
    last.checked_add(1)
        .ok_or_else(|| format!("no serial is greater than {last}, which {channel}'s last ref has"))
}

impl SignFile {
    fn run(self, kind: Kind) -> Result<Exit, Failure> {
        let bytes = read_document(&self.file)?;
        let parsed = Parsed::read(&bytes).map_err(|refusal| {
            Failure::file(&self.file, refusal).hint("hosts would refuse it, so it is not signed")
        })?;
        if parsed.kind() != kind {
            let (found, wanted) = (parsed.kind().words(), kind.words());
            let failure = Failure::file(&self.file, format_args!("it is a {found}, not a {wanted}"));
            return Err(failure.hint(match parsed.kind() {
                Kind::Fleet => "muster sign fleet signs one",
                Kind::ChannelRef => "muster sign channel-ref --add adds a signature to one",
                Kind::Command => "muster sign command signs one",
            }));
        }
        let signer = self.signature.signer()?;
        let trusted = self.fleet.as_deref().map(Root::read).transpose()?;
        let mut operators = trusted.as_ref().map(|root| root.operators().clone()).unwrap_or_default();
        let mut needed = 0;
        match &parsed {
            Parsed::Fleet(fleet) => {
                // Operators who are replaced sign too, so both documents' names serve.
                operators.extend(fleet.operators.clone());
                needed = fleet.thresholds.fleet;
            }
            Parsed::Command(command) => {
                if let Some(Root::Fleet { fleet, .. }) = &trusted {
                    command.check(fleet).map_err(|error| Failure::file(&self.file, error))?;
                    needed = fleet.thresholds.command;
                }
            }
            Parsed::ChannelRef(_) => {}
        }
        self.signature.sign(&self.file, kind, &signer, &operators, needed)
    }
}

impl SignatureArgs {
    pub(super) fn signer(&self) -> Result<Signer, Failure> {
        let socket = std::env::var_os("SSH_AUTH_SOCK").filter(|path| !path.is_empty());
        Ok(Signer::open(&self.key, socket.as_deref().map(Path::new))?)
    }

    /// The name under which a signature is filed. Without `must_count` a key that no known operator has gets a name of its
    /// own.
    pub(super) fn operator_of(
        &self,
        signer: &Signer,
        operators: &BTreeMap<OperatorName, OperatorKey>,
        must_count: bool,
    ) -> Result<OperatorName, Failure> {
        let key = signer.public();
        if let Some(name) = &self.operator {
            return match operators.get(name) {
                Some(known) if *known != key => Err(Failure::new(format_args!("{name}'s key is not {key}"))),
                None if must_count => Err(Failure::new(format_args!("the fleet has no operator {name}"))),
                Some(_) | None => Ok(name.clone()),
            };
        }
        if let Some((name, _)) = operators.iter().find(|(_, known)| **known == key) {
            return Ok(name.clone());
        }
        if must_count {
            return Err(Failure::new(format_args!("no operator of the fleet has the key {key}")).hint(
                "its signature would not count; an operator's key is in `operators` of the fleet document",
            ));
        }
        let digest = sha256(&key.ssh_blob());
        let start: String = digest.as_bytes().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        format!("key-{start}").parse().map_err(Failure::new)
    }

    fn sign(
        &self,
        path: &Path,
        kind: Kind,
        signer: &Signer,
        operators: &BTreeMap<OperatorName, OperatorKey>,
        needed: usize,
    ) -> Result<Exit, Failure> {
        let files = DocumentFiles::read(path)?;
        let standing = verify_document(kind.namespace(), files.bytes.clone(), files.raw_signatures());
        if self.add && standing.signers().is_empty() {
            return Err(Failure::file(
                path,
                "nobody's signature of it holds, so there is none to add one to",
            )
            .hint("sign it without --add"));
        }
        let must_count = !operators.is_empty() && kind != Kind::Fleet;
        let operator = self.operator_of(signer, operators, must_count)?;
        let signature = signer.sign(kind.namespace(), &files.bytes)?;
        let written = write_signature(path, &operator, &signature)?;
        line(written.display());
        let now = DocumentFiles::read(path)?;
        let signed = verify_document(kind.namespace(), now.bytes.clone(), now.raw_signatures());
        for file in
            now.signatures.iter().filter(|file| !holds(&now.bytes, kind, file.signature.as_ref().ok()))
        {
            note(format_args!("{} is not a signature of what the document says now", file.path.display()));
        }
        let have = signed.count(operators.values());
        if have < needed {
            note(format_args!("{have} of {needed} signatures: another operator adds one with --add"));
        }
        Ok(Exit::Done)
    }
}

fn holds(bytes: &[u8], kind: Kind, signature: Option<&Vec<u8>>) -> bool {
    let one = signature.cloned().into_iter().collect();
    !verify_document(kind.namespace(), bytes.to_vec(), one).signers().is_empty()
}

/// What a channel ref is to say.
#[derive(Debug, Clone)]
pub struct ChannelRefRequest {
    /// The channel.
    pub channel: ChannelId,
    /// What is released.
    pub target_ref: ChannelRef,
    /// Its place among the channel's refs.
    pub serial: u64,
    /// What each host is to run.
    pub targets: BTreeMap<HostId, Closure>,
    /// Past this it counts no more.
    pub expires_at: Option<DateTime<Utc>>,
    /// Opens the `wave` and `promotion` gates for closures that already converged on a host.
    pub urgent: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Form {
    kind: &'static str,
    fleet: String,
    channel: ChannelId,
    #[serde(rename = "ref")]
    target_ref: ChannelRef,
    serial: u64,
    signed_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    fleet_serial: u64,
    fleet_hash: Digest,
    targets: BTreeMap<HostId, Closure>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    urgent: bool,
}

/// Makes the bytes of a channel ref, held against the fleet document that it names.
pub fn make_channel_ref(
    request: ChannelRefRequest,
    fleet: &Fleet,
    fleet_bytes: &[u8],
    now: DateTime<Utc>,
) -> Result<Vec<u8>, Failure> {
    let form = Form {
        kind: "muster/channel-ref/1",
        fleet: fleet.name.to_string(),
        channel: request.channel,
        target_ref: request.target_ref,
        serial: request.serial,
        signed_at: rfc3339(now),
        expires_at: request.expires_at.map(rfc3339),
        fleet_serial: fleet.serial,
        fleet_hash: sha256(fleet_bytes),
        targets: request.targets,
        urgent: request.urgent,
    };
    let mut bytes = serde_json::to_vec_pretty(&form).map_err(Failure::new)?;
    bytes.push(b'\n');
    let document = ChannelRefDocument::parse(&bytes).map_err(Failure::new)?;
    resolve(&document, &bytes, fleet, fleet_bytes).map_err(Failure::new)?;
    let on_channel = fleet.hosts.iter().filter(|(_, host)| host.channel == document.channel);
    let without: BTreeSet<&HostId> =
        on_channel.map(|(id, _)| id).filter(|id| !document.targets.contains_key(*id)).collect();
    if !without.is_empty() {
        let names: Vec<_> = without.iter().map(|id| id.as_str()).collect();
        note(format_args!("no target for {}: they stay as they are", names.join(", ")));
    }
    Ok(bytes)
}

/// What every coordinator will do with it too, so that its errors come before it is signed.
fn resolve(
    document: &ChannelRefDocument,
    bytes: &[u8],
    fleet: &Fleet,
    fleet_bytes: &[u8],
) -> Result<(), plan::PlanError> {
    plan::resolve(fleet, sha256(fleet_bytes), document, sha256(bytes)).map(drop)
}

/// Reads a point in time, given as such or as a distance from now.
pub(super) fn expiry(text: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>, Failure> {
    let bad = || {
        Failure::usage(format_args!("--expires {text:?} is no time"))
            .hint("2026-12-31T00:00:00Z, or from now on: 30m, 12h, 7d")
    };
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Ok(at.to_utc());
    }
    let unit = text.chars().next_back().ok_or_else(bad)?;
    let number: u32 = text[..text.len() - unit.len_utf8()].parse().map_err(|_| bad())?;
    let minutes = match unit {
        'm' => i64::from(number),
        'h' => i64::from(number) * 60,
        'd' => i64::from(number) * 60 * 24,
        _ => return Err(bad()),
    };
    now.checked_add_signed(TimeDelta::minutes(minutes)).filter(|_| number > 0).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::control::wire::fixtures;
    use crate::control::{self, Answer, Problem};

    #[test]
    fn the_next_serial_follows_the_last_one_that_the_agent_knows() {
        let changed = |change: &dyn Fn(&mut Status)| {
            let mut status = fixtures::status();
            change(&mut status);
            Ok::<_, Problem>(Answer::Status(status))
        };
        let cases = [
            (changed(&|_| ()), "stable", Ok(42)),
            (changed(&|_| ()), "edge", Ok(1)),
            (changed(&|_| ()), "of-tomorrow", Ok(1)),
            (
                changed(&|status| status.fleet = "away".to_owned()),
                "stable",
                Err("is of the fleet away, not of home"),
            ),
            (changed(&|status| status.fleet_serial = None), "stable", Err("holds no fleet document yet")),
            (
                changed(&|status| status.channels[1].ref_serial = Some(u64::MAX)),
                "stable",
                Err("no serial is greater"),
            ),
        ];
        let fleet = Fleet::parse(&fixtures::fleet_bytes()).unwrap();
        for (answer, channel, expected) in cases {
            let answer = move |_: &control::Request| Some(answer.clone());
            control::tests::check(control::server::Limits::default(), answer, async |bench| {
                match (next_serial(&bench.client, &fleet, &channel.parse().unwrap()).await, expected) {
                    (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{channel}"),
                    (Err(found), Err(expected)) => assert!(found.contains(expected), "{found}"),
                    (found, expected) => panic!("{channel}: {found:?} instead of {expected:?}"),
                }
            });
        }
    }

    #[test]
    fn an_expiry_is_a_time_or_a_distance() {
        let now = DateTime::parse_from_rfc3339("2026-11-21T10:00:00Z").unwrap().to_utc();
        for (text, expected) in [
            ("30m", Some("2026-11-21T10:30:00Z")),
            ("12h", Some("2026-11-21T22:00:00Z")),
            ("7d", Some("2026-11-28T10:00:00Z")),
            ("2026-12-01T00:00:00+01:00", Some("2026-11-30T23:00:00Z")),
            ("", None),
            ("0d", None),
            ("-1d", None),
            ("7", None),
            ("7é", None),
            ("7w", None),
            ("4294967295d", None),
            ("99999999999d", None),
        ] {
            assert_eq!(expiry(text, now).ok().map(rfc3339), expected.map(str::to_owned), "{text}");
        }
    }
}
