//! The node's two doors: what comes in, stated as facts, and what goes out, given as orders.

use std::sync::Arc;
use std::time::Duration;

use muster_signing::{Digest, PublicKey, SignedDocument, Verified};
use serde::{Deserialize, Serialize};

use crate::coordination::log;
use crate::document::Refusal;
use crate::host::{Found, ProbeRun};
use crate::id::{Closure, FleetName, HostId, RolloutId};
use crate::ledger::Batch;
use crate::verify::{Certified, Endorsement, EndorsementMessage, Roster};
use crate::wire::{DeclaredProbe, Envelope, Notice, Received};

/// What a node is built with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The fleet.
    pub fleet: FleetName,
    /// This host.
    pub host: HostId,
    /// How often this host says that it is there.
    pub heartbeat: Duration,
    /// The agent's version, for the others.
    pub agent_version: String,
    /// The machine's boot id.
    pub boot_id: String,
    /// The activation backend.
    pub backend: BackendKind,
    /// The newest version of the log's reducer that this program knows.
    pub rules: u32,
    /// How long what is over is kept.
    pub retention: Duration,
    /// After how many entries the log asks for a snapshot, see [`super::SNAPSHOT_ENTRIES`].
    pub snapshot_entries: u64,
    /// A 64-bit seed for everything that is drawn at random.
    pub seed: u64,
}

/// Which closures the activation backend takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendKind {
    /// Store paths.
    Nixos,
    /// `dir:<name>`.
    Directory,
}

impl BackendKind {
    /// Whether the backend takes the closure at all.
    pub fn accepts(self, closure: &Closure) -> bool {
        match self {
            Self::Nixos => closure.directory_release().is_none(),
            Self::Directory => closure.directory_release().is_some(),
        }
    }

    /// Whether the backend fetches closures ahead of their switch.
    pub fn prefetches(self) -> bool {
        match self {
            Self::Nixos => true,
            Self::Directory => false,
        }
    }

    /// How it switches, in the words of `ActivationStarted`.
    pub fn switch_method(self) -> &'static str {
        match self {
            Self::Nixos => "switch-to-configuration",
            Self::Directory => "directory",
        }
    }
}

/// A gossip message that waits for a verdict; the shell's own number for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageRef(pub u64);

/// A request of the control socket; the shell's own number for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestId(pub u64);

/// Where a document came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// An operator published it here and waits for an answer.
    Operator(RequestId),
    /// Gossip brought it.
    Gossip(MessageRef),
    /// Sync brought it.
    Sync,
}

/// A fact that the node is told.
#[derive(Debug, Clone)]
pub enum Input {
    /// The moment that [`super::Node::wakes_at`] named has come.
    Tick,
    /// A document came; whose signatures are on it is known.
    Document {
        /// The document.
        document: Verified<SignedDocument>,
        /// From where.
        origin: Origin,
    },
    /// A host's envelope came.
    Envelope {
        /// The envelope.
        envelope: Verified<Received<Envelope>>,
        /// The gossip message that it came in; none if sync brought it.
        message: Option<MessageRef>,
    },
    /// A host's notice came.
    Notice {
        /// The notice.
        notice: Verified<Received<Notice>>,
        /// The gossip message that it came in.
        message: Option<MessageRef>,
    },
    /// A certified decision came.
    Decision {
        /// The decision with its proof.
        certified: Certified,
        /// The gossip message that it came in; none if sync brought it.
        message: Option<MessageRef>,
    },
    /// A coordinator's message about the log came.
    Consensus {
        /// Who sent it.
        from: PublicKey,
        /// The message.
        message: Box<log::Message>,
    },
    /// A coordinator's signature of a decision came.
    Endorsement(Endorsement),
    /// This host's own workers report.
    Host(HostReport),
    /// A peer was connected.
    PeerUp(PublicKey),
    /// A peer's connection closed.
    PeerDown(PublicKey),
    /// A batch is durable.
    Stored {
        /// Its number.
        batch: u64,
    },
    /// The agent is about to stop: a leader hands over.
    Stopping,
    /// The disk takes no more writes: a leader hands over. Only what may leave at once is to be carried out, and the node
    /// is then started again from what is durable.
    DiskFull,
}

/// What this host's own workers saw.
#[derive(Debug, Clone)]
pub enum HostReport {
    /// What the backend says runs now.
    Running(Option<Closure>),
    /// The switch has ended.
    SwitchEnded {
        /// The rollout.
        rollout: RolloutId,
        /// Its exit code.
        exit_code: i32,
        /// The end of what it wrote to standard error.
        stderr_tail: String,
        /// What runs now.
        observed: Option<Closure>,
    },
    /// The switch set the target for the next boot and left what runs alone.
    SwitchDeferred {
        /// The rollout.
        rollout: RolloutId,
        /// The component that cannot be swapped on a running system.
        component: String,
    },
    /// The rollback has ended.
    RollbackEnded {
        /// The rollout.
        rollout: RolloutId,
        /// Its exit code.
        exit_code: i32,
        /// What runs now.
        observed: Option<Closure>,
    },
    /// The probes were started: these are declared.
    ProbesDeclared {
        /// Which start.
        generation: u64,
        /// The probes, or why they cannot be known.
        probes: Result<Vec<DeclaredProbe>, String>,
    },
    /// A probe ran.
    ProbeRan {
        /// Which start.
        generation: u64,
        /// The result.
        run: ProbeRun,
    },
    /// How the fetching of a closure goes that the host was told to fetch ahead.
    Fetching {
        /// The closure.
        closure: Closure,
        /// How it goes.
        fetch: Fetch,
    },
    /// Whether a part of what runs takes effect at the next boot only.
    RebootPending(bool),
    /// What was found of a job that an earlier life of the agent left.
    Inspected {
        /// The rollout.
        rollout: RolloutId,
        /// What was found.
        found: Found,
    },
}

/// How the fetching of a closure goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetch {
    /// It is under way: how far, in words.
    Goes(String),
    /// It does not work, or not yet: why, in words.
    Fails(String),
    /// The closure is held.
    Done,
}

/// A closure to be fetched ahead.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Goods {
    /// The closure.
    pub closure: Closure,
    /// SHA-256 over the sorted `path narHash` lines of the whole of it, if the operators signed that.
    pub contents: Option<Digest>,
}

/// The topics of gossip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    /// Documents.
    Documents,
    /// Certified decisions.
    Decisions,
    /// Hosts' feeds.
    Events,
    /// Heartbeats and marks.
    Presence,
}

/// What becomes of a gossip message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is passed on.
    Accept,
    /// It is not passed on, and nobody is to blame.
    Ignore,
    /// Its sender is to blame.
    Reject,
}

/// An order that the shell carries out.
#[derive(Debug, Clone)]
pub enum Output {
    /// Writes a batch in one transaction; nothing after it happens before it is durable.
    Persist {
        /// The batch's number, which [`Input::Stored`] gives back.
        batch: u64,
        /// The rows.
        rows: Batch,
    },
    /// Gossips.
    Publish {
        /// On which topic.
        topic: Topic,
        /// What.
        bytes: Vec<u8>,
    },
    /// Sends to one coordinator.
    Send {
        /// To whom.
        to: PublicKey,
        /// What.
        message: CoordinatorMessage,
        /// Whether it says nothing that is still being written: a slow disk must not look like a dead coordinator.
        at_once: bool,
    },
    /// Says what becomes of a gossip message.
    Verdict {
        /// The message.
        message: MessageRef,
        /// What becomes of it.
        verdict: Verdict,
    },
    /// Has this host's workers do something.
    Order(HostOrder),
    /// Asks a peer, or any, for what is missing here.
    Fetch {
        /// The peer that has it.
        from: Option<PublicKey>,
    },
    /// Lets these, and nobody else, connect.
    Enrol(Arc<Roster>),
    /// Answers who published a document.
    Reply {
        /// The request.
        request: RequestId,
        /// What became of it.
        result: Result<Receipt, Box<Refusal>>,
    },
    /// Tells people.
    Tell(Note),
}

/// What became of a published document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// SHA-256 of the document's bytes.
    pub hash: Digest,
    /// Whether it was held already.
    pub duplicate: bool,
}

/// What coordinators send each other directly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CoordinatorMessage {
    /// About the log.
    Log(#[serde(with = "serde_bytes")] Vec<u8>),
    /// A signature of a decision.
    Endorsement(EndorsementMessage),
    /// A notice that says that a decision will never be signed by its sender.
    Objection(#[serde(with = "serde_bytes")] Vec<u8>),
}

/// What this host's workers are to do; each can be done twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostOrder {
    /// Switches to the target.
    Switch(Job),
    /// Goes back.
    RollBack(Job),
    /// Says what an earlier life of the agent left of a job.
    Inspect {
        /// The job.
        job: Job,
        /// Whether it was a rollback.
        rollback: bool,
        /// The boot id under which it was started.
        boot_id: Option<String>,
    },
    /// Waits for a running job of an earlier life, and reports its end.
    Await {
        /// The job.
        job: Job,
        /// Whether it is a rollback.
        rollback: bool,
    },
    /// Stops all probes, reads what the running release declares, reports it and starts them.
    StartProbes {
        /// Counts the starts; reports carry it.
        generation: u64,
    },
    /// Stops all probes.
    StopProbes,
    /// Says what the backend runs now.
    Observe,
    /// Fetches these ahead of their switch, and no others any more.
    Fetch(Vec<Goods>),
}

/// One switch or rollback; the rollout and the log index of its dispatch name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The rollout.
    pub rollout: RolloutId,
    /// The log index of the dispatch.
    pub log_index: u64,
    /// What is to run.
    pub target: Closure,
    /// What ran when the dispatch was acknowledged.
    pub previous: Option<Closure>,
    /// SHA-256 over the sorted `path narHash` lines of the whole of it, if the operators signed that.
    pub contents: Option<Digest>,
    /// How long it may take.
    pub timeout: Duration,
}

/// Something that people should hear of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// A host moved.
    HostMoved {
        /// The rollout.
        rollout: RolloutId,
        /// The host.
        host: HostId,
        /// Before.
        from: crate::wire::HostState,
        /// After.
        to: crate::wire::HostState,
    },
    /// A rollout moved.
    RolloutMoved {
        /// The rollout.
        rollout: RolloutId,
        /// Before.
        from: Option<crate::wire::RolloutState>,
        /// After.
        to: crate::wire::RolloutState,
    },
    /// A document was accepted.
    DocumentAccepted {
        /// What it is.
        kind: crate::wire::DocumentKind,
        /// Its serial.
        serial: u64,
    },
    /// A dispatch was refused by this host.
    DispatchRejected {
        /// The rollout.
        rollout: RolloutId,
        /// Why.
        reason: crate::wire::RejectReason,
    },
    /// This coordinator leads now, or no longer.
    Leading {
        /// Whether it does.
        leads: bool,
        /// In which term.
        term: u64,
    },
    /// A person must act.
    Alarm {
        /// Why, in words.
        message: String,
    },
    /// It heals itself but should not be.
    Warning {
        /// What, in words.
        message: String,
    },
    /// Nobody said how far they hold this host's feed: it goes on from its own store, which may be an old one.
    FeedUnconfirmed,
    /// How long a decision took from its entry to its certificate here.
    DecisionLatency {
        /// The time.
        took: Duration,
    },
}
