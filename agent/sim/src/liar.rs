//! Those who do not follow the protocol: what lies there are, and what a liar remembers of its own.
//!
//! The node inside a liar is the shipped one and honest. The lie is what the world makes of its outputs on their way out,
//! with the host's own key: nothing that a node could refuse to sign protects anybody.

use std::collections::{BTreeMap, BTreeSet};

use muster_core::host::Record;
use muster_core::id::RolloutId;
use muster_core::ledger::{NO_HASH, key};
use muster_core::wire::{DecisionId, Envelope, FeedBody, HostEvent, HostEventKind, RejectReason, codec};
use muster_signing::{Digest, Purpose, SigningKey, seal, sha256};

use crate::disk::Disk;
use crate::fleet::FLEET;

/// Events of one flood.
const FLOOD: u64 = 150;
/// Floods of one liar: together three times what a host may say at once, and more would only cost time.
const FLOODS_MAX: u32 = 20;

/// One way in which a coordinator or a host lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// A coordinator signs two decisions of one id.
    Twice,
    /// A coordinator tells the others nothing.
    Silent,
    /// A coordinator dispatches and signs whatever its evidence says.
    Early,
    /// A coordinator claims that hosts converged which did not, and signs whatever its evidence says.
    Forge,
    /// A leading coordinator says that its entries are of rules that nobody knows.
    Rules,
    /// A host says that it converged, whatever came of its switch.
    Healthy,
    /// A host fills its feed with events of rollouts that nobody knows.
    Flood,
    /// A host's heartbeats say what is not so.
    Presence,
    /// A host tells two histories of itself.
    Fork,
}

impl Lie {
    /// Whether the feed that others see is not the one on the host's own disk.
    pub(crate) fn is_of_feed(self) -> bool {
        matches!(self, Self::Healthy | Self::Flood)
    }
}

/// What a liar remembers of its own.
#[derive(Debug, Default)]
pub(crate) struct Liar {
    /// How it lies; none once it has stopped.
    pub(crate) lie: Option<Lie>,
    /// The feed that it shows instead of its own.
    pub(crate) tale: Option<Tale>,
    /// Decisions that it has signed.
    pub(crate) signed: BTreeSet<DecisionId>,
    /// Before this it enters nothing into the log.
    #[cfg(feature = "planted")]
    pub(crate) rests_until: u64,
}

impl Liar {
    /// Begins to lie; what it shows from now on are these rows.
    pub(crate) fn new(lie: Lie, disk: &Disk) -> Self {
        let tale = lie.is_of_feed().then(|| Tale::beside(disk));
        Self { lie: Some(lie), tale, ..Self::default() }
    }
}

/// A feed that a host shows instead of its own: a chain of its own, signed with the host's key.
#[derive(Debug, Default)]
pub(crate) struct Tale {
    incarnation: u64,
    seq: u64,
    hash: Option<Digest>,
    /// By how much the events that are shown of a rollout count ahead of the true ones.
    ahead: BTreeMap<RolloutId, i64>,
    /// Rollouts of which nothing is left to say.
    over: BTreeSet<RolloutId>,
    /// How often it has flooded the others.
    floods: u32,
    /// What others may pull from it.
    pub(crate) shown: Disk,
}

impl Tale {
    fn beside(disk: &Disk) -> Self {
        Self { shown: disk.durable(), ..Self::default() }
    }

    /// Where it ends, as a heartbeat says it.
    pub(crate) fn head(&self) -> (u64, Digest) {
        (self.seq, self.hash.unwrap_or(NO_HASH))
    }

    /// Goes on from where the true feed ends, if it has not begun yet.
    pub(crate) fn join(&mut self, incarnation: u64, (seq, hash): (u64, Digest)) {
        if self.seq == 0 && seq > 0 {
            (self.incarnation, self.seq, self.hash) = (incarnation, seq, Some(hash));
        }
    }

    /// Whether it has begun.
    pub(crate) fn has_begun(&self) -> bool {
        self.seq > 0
    }

    /// Signs what comes next in it, said like the envelope of another one.
    fn say(&mut self, signer: &SigningKey, like: &Envelope, body: FeedBody) -> Vec<u8> {
        self.seq += 1;
        let prev = self.hash.unwrap_or(NO_HASH);
        let envelope = Envelope { seq: self.seq, prev, body, ..like.clone() };
        let bytes = seal(signer, Purpose::Envelope, FLEET, &codec::encode(&envelope));
        self.hash = Some(sha256(&bytes));
        self.shown.show(key::feed(&like.host, like.incarnation, self.seq), bytes.clone());
        bytes
    }

    /// What is said instead of a true envelope. Who claims to be healthy gives the record of its rollout.
    pub(crate) fn instead(
        &mut self,
        signer: &SigningKey,
        envelope: &Envelope,
        healthy: Option<&Record>,
    ) -> Vec<Vec<u8>> {
        if envelope.incarnation != self.incarnation {
            let (shown, floods) = (std::mem::take(&mut self.shown), self.floods);
            *self = Self { incarnation: envelope.incarnation, shown, floods, ..Self::default() };
            if envelope.seq > 1 {
                // It began to lie in the middle of its history.
                (self.seq, self.hash) = (envelope.seq - 1, Some(envelope.prev));
            }
        }
        let FeedBody::Rollout(event) = &envelope.body else {
            return vec![self.say(signer, envelope, envelope.body.clone())];
        };
        let rollout = event.rollout_id.clone();
        if matches!(event.kind, HostEventKind::DispatchAck { .. }) {
            self.over.remove(&rollout);
        }
        let ahead = self.ahead.entry(rollout.clone()).or_default();
        if self.over.contains(&rollout) {
            *ahead -= 1;
            return Vec::new();
        }
        let first = event.seq.saturating_add_signed(*ahead);
        let ended = matches!(
            event.kind,
            HostEventKind::ActivationCompleted { .. } | HostEventKind::ActivationFailed { .. }
        );
        let kinds = match healthy.filter(|_| ended) {
            Some(record) => health(envelope, record),
            None => vec![event.kind.clone()],
        };
        *ahead += i64::try_from(kinds.len()).unwrap_or(i64::MAX) - 1;
        if kinds.len() > 1 {
            self.over.insert(rollout.clone());
        }
        let events = (first..).zip(kinds);
        let events = events.map(|(seq, kind)| HostEvent { rollout_id: rollout.clone(), seq, kind });
        events.map(|event| self.say(signer, envelope, FeedBody::Rollout(event))).collect()
    }

    /// Many events of a rollout that nobody knows, said like this envelope.
    pub(crate) fn flood(&mut self, signer: &SigningKey, like: &Envelope) -> Vec<Vec<u8>> {
        let Ok(rollout_id) = "stable@nowhere".parse::<RolloutId>() else { return Vec::new() };
        if self.floods == FLOODS_MAX {
            return Vec::new();
        }
        self.floods += 1;
        let event = |seq| {
            let reason = RejectReason::Busy;
            let kind = HostEventKind::DispatchRejected { reason, rejected_at: like.at, log_index: seq };
            FeedBody::Rollout(HostEvent { rollout_id: rollout_id.clone(), seq, kind })
        };
        (1..=FLOOD).map(|seq| self.say(signer, like, event(seq))).collect()
    }
}

/// The words of a host that soaked and is healthy.
fn health(envelope: &Envelope, record: &Record) -> Vec<HostEventKind> {
    let (at, target) = (envelope.at, record.target_closure.clone());
    let soak = chrono::TimeDelta::try_seconds(i64::try_from(record.soak_secs).unwrap_or(0));
    let soaked = (at + soak.unwrap_or_default()).max(record.soak_due_at);
    vec![
        HostEventKind::ActivationCompleted {
            observed_current_closure: target.clone(),
            exit_code: 0,
            completed_at: at,
        },
        HostEventKind::ProbeTopologyDeclared { probes: Vec::new(), declared_at: at },
        HostEventKind::Converged { converged_at: soaked, current_closure: target },
    ]
}
