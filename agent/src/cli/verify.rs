//! `muster verify`: who signed a document, do enough operators stand behind it, is it fresh.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use clap::Args;
use data_encoding::BASE64;
use muster_core::document::refusal::CLOCK_AHEAD_MAX;
use muster_core::document::{Fleet, Trust};
use muster_core::id::OperatorName;
use muster_signing::{Digest, OperatorKey, sha256, verify_document};
use serde::Serialize;

use super::asking::Socket;
use super::document_files::{DocumentFiles, read_document};
use super::documents::{Kind, Parsed, rfc3339};
use super::output::{self, Tone, line, plain};
use super::render::{Look, flat, hanging, labelled};
use super::{Exit, Failure, when};
use crate::control::Code;
use crate::control::client::{Client, ClientError};
use crate::control::wire::FleetDocument;

/// Says who signed FILE, whether enough of the trusted operators did, and whether it is fresh.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  muster verify stable.json          the agent's fleet document says who counts
  muster verify fleet.json --trust /etc/muster/trust.json    asks no agent")]
pub struct Verify {
    /// The document; its signatures lie beside it, as FILE.sig and FILE.<operator>.sig.
    file: PathBuf,
    /// Whose signatures count: a trust.json, or a fleet document; by default the one that the agent holds.
    #[arg(long, value_name = "FILE")]
    trust: Option<PathBuf>,
    #[command(flatten)]
    agent: Socket,
    /// The kind that it must be of.
    #[arg(long)]
    kind: Option<Kind>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Whose signatures count.
#[derive(Debug)]
pub enum Root {
    /// A host's own pinned operators.
    Pinned(Trust),
    /// The operators of a fleet document.
    Fleet {
        /// The document.
        fleet: Box<Fleet>,
        /// Its hash, by which channel refs name it.
        hash: Digest,
    },
}

/// What `verify` has to say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The form of this report.
    pub schema: u32,
    /// Whether everything holds.
    pub valid: bool,
    /// What the document is about.
    pub title: String,
    /// Its fleet.
    pub fleet: String,
    /// Its serial.
    pub serial: u64,
    /// Its hash.
    pub hash: Digest,
    /// When it says it was signed.
    pub signed_at: String,
    /// Past this it counts no more.
    pub expires_at: Option<String>,
    /// What was found beside it.
    pub signatures: Vec<SignatureReport>,
    /// Which operators have to sign, and how many of them did.
    pub thresholds: Vec<ThresholdReport>,
    /// Why it is not valid.
    pub problems: Vec<String>,
}

/// One file beside a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SignatureReport {
    /// The file.
    pub file: PathBuf,
    /// The trusted operator whose signature it is.
    pub operator: Option<OperatorName>,
    /// The key that made it.
    pub key: Option<OperatorKey>,
    /// Why it does not hold.
    pub problem: Option<String>,
}

/// How many of some operators signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ThresholdReport {
    /// Which operators.
    pub of: &'static str,
    /// How many of them signed.
    pub signed: usize,
    /// How many have to.
    pub needed: usize,
}

impl Verify {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let files = DocumentFiles::read(&self.file)?;
        let parsed = Parsed::read(&files.bytes).map_err(|refusal| Failure::file(&self.file, refusal))?;
        let root = match &self.trust {
            Some(trust) => Root::read(trust)?,
            None => self.agent.ask(Root::of_agent)?,
        };
        let mut report = judge(&files, &parsed, &root, when::now());
        if let Some(wanted) = self.kind.filter(|wanted| *wanted != parsed.kind()) {
            report.valid = false;
            report.problems.push(format!("it is a {}, not a {}", parsed.kind().words(), wanted.words()));
        }
        if self.json {
            output::json(&report);
        } else {
            line(report.text(&self.file, &Look::of_stdout()).trim_end());
        }
        Ok(if report.valid { Exit::Done } else { Exit::Refused })
    }
}

impl Root {
    /// Reads a trust.json or a fleet document; the latter's own signatures are not asked for.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let bytes = read_document(path)?;
        if Kind::of(&bytes).is_ok_and(|kind| kind == Kind::Fleet) {
            let fleet = Fleet::parse(&bytes).map_err(|refusal| Failure::file(path, refusal))?;
            return Ok(Self::Fleet { fleet: Box::new(fleet), hash: sha256(&bytes) });
        }
        Trust::parse(&bytes).map(Self::Pinned).map_err(|error| {
            Failure::file(path, error).hint("--trust takes a trust.json or a fleet document")
        })
    }

    /// The fleet document that an agent holds; it has looked at the signatures.
    async fn of_agent(client: &Client) -> Result<Self, Failure> {
        const HINT: &str = "--trust takes a trust.json or a fleet document, and then no agent is asked";
        let held: FleetDocument = client.read("/v1/fleet").await.map_err(|error| match &error {
            ClientError::Unreachable { .. } => {
                let Failure { exit, message, .. } = Failure::from(error);
                Failure { exit, message, hint: Some(HINT.to_owned()) }
            }
            ClientError::Refused(problem) if problem.code == Code::NotFound => {
                Failure::new(&problem.detail).hint(HINT)
            }
            ClientError::Refused(_) | ClientError::Silent { .. } | ClientError::Protocol(_) => error.into(),
        })?;
        let senseless = |problem: String| Failure::from(ClientError::Protocol(problem));
        let bytes = BASE64.decode(held.document.as_bytes()).map_err(|error| senseless(error.to_string()))?;
        let fleet = Fleet::parse(&bytes).map_err(|refusal| senseless(refusal.to_string()))?;
        Ok(Self::Fleet { fleet: Box::new(fleet), hash: sha256(&bytes) })
    }

    /// Who signs.
    pub fn operators(&self) -> &BTreeMap<OperatorName, OperatorKey> {
        match self {
            Self::Pinned(trust) => &trust.operators,
            Self::Fleet { fleet, .. } => &fleet.operators,
        }
    }

    fn threshold(&self, kind: Kind) -> (&'static str, usize) {
        match self {
            Self::Pinned(trust) => ("the pinned operators", trust.threshold),
            Self::Fleet { fleet, .. } => {
                let needed = match kind {
                    Kind::Fleet => fleet.thresholds.fleet,
                    Kind::ChannelRef => fleet.thresholds.channel_ref,
                    Kind::Command => fleet.thresholds.command,
                };
                ("the trusted fleet document's operators", needed)
            }
        }
    }
}

/// Looks at a document with its signatures, as a host that trusts `root` would at the time `now`.
pub fn judge(files: &DocumentFiles, parsed: &Parsed, root: &Root, now: DateTime<Utc>) -> Report {
    let namespace = parsed.kind().namespace();
    let all = verify_document(namespace, files.bytes.clone(), files.raw_signatures());
    let (of, needed) = root.threshold(parsed.kind());
    let mut thresholds = vec![ThresholdReport { of, signed: all.count(root.operators().values()), needed }];
    if let Parsed::Fleet(fleet) = parsed {
        thresholds.push(ThresholdReport {
            of: "the operators that it names",
            signed: all.count(fleet.operators.values()),
            needed: fleet.thresholds.fleet,
        });
    }
    let mut problems = Vec::new();
    for threshold in thresholds.iter().filter(|threshold| threshold.signed < threshold.needed) {
        let ThresholdReport { of, signed, needed } = threshold;
        problems.push(format!("{signed} of {of} signed it, {needed} have to"));
    }
    problems.extend(freshness(parsed, root, now));
    problems.extend(names(parsed, root));
    Report {
        schema: 1,
        valid: problems.is_empty(),
        title: parsed.title(),
        fleet: parsed.fleet().to_string(),
        serial: parsed.serial(),
        hash: all.digest(),
        signed_at: rfc3339(parsed.signed_at()),
        expires_at: parsed.expires_at().map(rfc3339),
        signatures: signatures(files, parsed, root),
        thresholds,
        problems,
    }
}

fn signatures(files: &DocumentFiles, parsed: &Parsed, root: &Root) -> Vec<SignatureReport> {
    let report = |file: &super::document_files::SignatureFile| {
        let (key, problem) = match &file.signature {
            Err(error) => (None, Some(error.to_string())),
            Ok(raw) => {
                let alone =
                    verify_document(parsed.kind().namespace(), files.bytes.clone(), vec![raw.clone()]);
                (alone.signers().first().cloned(), alone.rejected().first().map(ToString::to_string))
            }
        };
        let named = |operators: &BTreeMap<OperatorName, OperatorKey>| {
            operators.iter().find(|(_, known)| Some(*known) == key.as_ref()).map(|(name, _)| name.clone())
        };
        let operator = match parsed {
            Parsed::Fleet(fleet) => named(root.operators()).or_else(|| named(&fleet.operators)),
            Parsed::ChannelRef(_) | Parsed::Command(_) => named(root.operators()),
        };
        SignatureReport { file: file.path.clone(), operator, key, problem }
    };
    files.signatures.iter().map(report).collect()
}

fn freshness(parsed: &Parsed, root: &Root, now: DateTime<Utc>) -> Vec<String> {
    let mut problems = Vec::new();
    let signed_at = parsed.signed_at();
    if signed_at.signed_duration_since(now) > CLOCK_AHEAD_MAX {
        problems.push(format!("it says it was signed at {}, which is yet to come", rfc3339(signed_at)));
    }
    if let Some(expires_at) = parsed.expires_at().filter(|expires_at| *expires_at <= now) {
        problems.push(format!("it expired at {}", rfc3339(expires_at)));
    } else if let (Parsed::ChannelRef(document), Root::Fleet { fleet, .. }) = (parsed, root) {
        let channel = fleet.channels.get(&document.channel);
        if let Some(channel) = channel.filter(|channel| !document.is_fresh(channel, now)) {
            let minutes = channel.freshness_window_minutes;
            problems.push(format!(
                "it was signed at {}, and channel {} takes refs of the last {minutes} minutes: sign it anew",
                rfc3339(signed_at),
                document.channel
            ));
        }
    }
    problems
}

fn names(parsed: &Parsed, root: &Root) -> Vec<String> {
    let trusted = match root {
        Root::Pinned(trust) => &trust.fleet,
        Root::Fleet { fleet, .. } => &fleet.name,
    };
    if parsed.fleet() != trusted {
        return vec![format!("it is for the fleet {}, not for {trusted}", parsed.fleet())];
    }
    let problem = match (parsed, root) {
        (Parsed::ChannelRef(document), Root::Fleet { fleet, hash }) => {
            if document.fleet_hash == *hash {
                document.check(fleet).err().map(|error| error.to_string())
            } else {
                Some(format!(
                    "it names the fleet document {} with serial {}, and the trusted one is {hash} with serial {}",
                    document.fleet_hash, document.fleet_serial, fleet.serial
                ))
            }
        }
        (Parsed::Command(command), Root::Fleet { fleet, .. }) => {
            command.check(fleet).err().map(|error| error.to_string())
        }
        (Parsed::Fleet(_) | Parsed::ChannelRef(_) | Parsed::Command(_), _) => None,
    };
    problem.into_iter().collect()
}

impl Report {
    fn text(&self, file: &Path, look: &Look) -> String {
        let mut text = String::new();
        let title = look.tone(Tone::Strong, &self.title);
        let _ = writeln!(text, "{title}, serial {}, of fleet {}", self.serial, self.fleet);
        let until = self.expires_at.as_ref().map_or_else(String::new, |at| format!(", expires {at}"));
        let _ = writeln!(text, "signed {}{until}", self.signed_at);
        let _ = writeln!(text, "{}\n", look.tone(Tone::Faint, &self.hash.to_string()));
        for signature in &self.signatures {
            let name = signature.file.file_name().unwrap_or_default().to_string_lossy();
            let key = signature.key.as_ref().map(OperatorKey::to_openssh).unwrap_or_default();
            let (tone, word, says) = match (&signature.problem, &signature.operator) {
                (Some(problem), _) => (Tone::Bad, "bad ", plain(problem)),
                (None, Some(operator)) => (Tone::Good, "good", operator.to_string()),
                (None, None) => (Tone::Warn, "who?", format!("nobody's who counts: {key}")),
            };
            let says = format!("{name}: {says}");
            let _ = writeln!(text, "{}", labelled(look, tone, word, &says, 5));
        }
        let mut say = |sentence: String| {
            let _ = writeln!(text, "{}", hanging(&flat(&sentence), usize::from(look.width), 0, 2).join("\n"));
        };
        if self.signatures.is_empty() {
            say(format!(
                "no signature: there is no {0}.sig and no {0}.<operator>.sig",
                file.to_string_lossy()
            ));
        }
        let met = self.thresholds.iter().filter(|threshold| threshold.signed >= threshold.needed);
        for ThresholdReport { of, signed, needed } in met {
            say(format!("{signed} of {of} signed it, {needed} needed"));
        }
        for problem in &self.problems {
            let _ = writeln!(text, "{}", labelled(look, Tone::Bad, "problem:", problem, 2));
        }
        if self.valid {
            let _ = writeln!(text, "{}", look.tone(Tone::Good, "valid"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::control::wire::fixtures;
    use crate::control::{self, Answer, Problem};

    fn check(answer: Result<Answer, Problem>, test: impl FnOnce(Result<Root, Failure>)) {
        let answer = move |_: &control::Request| Some(answer.clone());
        control::tests::check(control::server::Limits::default(), answer, async |bench| {
            test(Root::of_agent(&bench.client).await);
        });
    }

    #[test]
    fn the_operators_of_the_agents_fleet_document_count() {
        check(Ok(Answer::Fleet(fixtures::fleet())), |root| {
            let root = root.unwrap();
            assert_eq!(root.operators().values().collect::<Vec<_>>().len(), 1);
            assert_eq!(root.threshold(Kind::Command), ("the trusted fleet document's operators", 1));
            assert!(matches!(root, Root::Fleet { hash, .. } if hash == sha256(&fixtures::fleet_bytes())));
        });
    }

    #[test]
    fn an_agent_without_a_fleet_document_is_told_apart_from_one_that_makes_no_sense() {
        check(Err(Problem::new(Code::NotFound, "this host holds no fleet document yet")), |root| {
            let failure = root.unwrap_err();
            assert_eq!(failure.message, "this host holds no fleet document yet");
            assert!(failure.hint.unwrap().contains("--trust"));
        });
        for document in ["?", "e30="] {
            let fleet = FleetDocument { document: document.to_owned(), ..fixtures::fleet() };
            check(Ok(Answer::Fleet(fleet)), |root| {
                assert!(root.unwrap_err().message.contains("makes no sense"), "{document}");
            });
        }
    }
}
