//! What a node knows for good: everything that follows from what it learnt, in the order in which it learnt it.
//!
//! Documents, envelopes, certified decisions and log entries go in; each is written to its table and to
//! `arrivals`, and the views that change by it are written in the same batch. Feeding the same arrivals to an
//! empty ledger gives the same views, byte for byte: that is how a node starts, and how a store is verified. Of long
//! histories a checkpoint takes the place of the beginning.

mod batch;
mod checkpoint;
mod entries;
mod feed;
mod forks;
mod learn;
mod let_go;
mod lives;
mod mirror;
mod recovery;
mod replay;
mod retention;
mod rules;
mod slots;
mod snapshot;
mod suppose;
mod views;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use muster_signing::{Digest, PublicKey};
use serde::{Deserialize, Serialize};

pub use batch::{Batch, Change, ROW_VERSION, Reference, Table, ViewRow, key};
pub(crate) use checkpoint::put_base;
pub use checkpoint::{CheckpointHead, base, checkpoints};
pub use entries::{Applied, Because, Derived, EntryError};
pub use feed::{Answer, Feed, FeedError, Head};
pub use learn::epoch_of;
pub use replay::{Fault, RebuildError, ReplayError, Rows, Views, rebuild, rebuild_while, verify};
pub use slots::{Slot, Slots};

use crate::coordination::log::{MemberId, Membership, Snapshot};
use crate::document::plan::Budget;
use crate::document::{Command, Documents, Fleet, Held, Plan};
use crate::host::{self};
use crate::id::{ChannelId, Closure, FleetName, HostId, RolloutId};
use crate::planted::Planted;
use crate::rollout;
use crate::verify::Roster;
use crate::wire::{DecisionBody, DecisionId, EnvelopeRef, ForkProof, HostState, RolloutState};

/// The hash of nothing: what the first envelope of a feed names as its predecessor.
pub const NO_HASH: Digest = Digest([0; 32]);

/// The version of the reducer that every log begins with.
const FIRST_RULES: u32 = 1;

/// A host's record together with the envelope that last moved it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mirrored {
    /// The record.
    pub record: host::Record,
    /// The envelope in which the host reported its present state.
    pub evidence: Option<EnvelopeRef>,
    /// The host's clock when it did.
    pub reported_at: Option<DateTime<Utc>>,
}

/// Why a closure is barred from a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantine {
    /// The rollout in which it failed.
    pub rollout_id: RolloutId,
    /// The host on which it failed.
    pub host: HostId,
    /// The envelope in which the host said so.
    pub evidence: EnvelopeRef,
    /// When that host failed, by its own clock; none if its feed is not held.
    pub since: Option<DateTime<Utc>>,
}

/// The documents that count for the log.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Adopted {
    /// The newest fleet document.
    pub fleet: Option<Digest>,
    /// The newest ref of each channel.
    pub refs: BTreeMap<ChannelId, Digest>,
    /// Every command.
    pub commands: BTreeSet<Digest>,
    /// Commands whose event is in the log.
    pub handled: BTreeSet<Digest>,
    /// Commands that readmit a coordinator, and the entries that adopted them.
    pub readmissions: BTreeMap<Digest, u64>,
}

/// Something that people should hear of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happening {
    /// A host moved.
    HostMoved {
        /// The rollout.
        rollout: RolloutId,
        /// The host.
        host: HostId,
        /// The state before.
        from: HostState,
        /// The state after.
        to: HostState,
    },
    /// A rollout moved.
    RolloutMoved {
        /// The rollout.
        rollout: RolloutId,
        /// The state before; none when it opens.
        from: Option<RolloutState>,
        /// The state after.
        to: RolloutState,
    },
    /// Something that only a compromised key, a bug or a broken disk can cause.
    Alarm {
        /// What, in words.
        message: String,
    },
}

/// What a node knows for good.
#[derive(Debug, Clone)]
pub struct Ledger {
    fleet: FleetName,
    me: HostId,
    documents: Documents,
    epoch: Option<Digest>,
    budgets: Vec<Budget>,
    roster: Arc<Roster>,
    plans: BTreeMap<RolloutId, Arc<Plan>>,
    adopted: Adopted,
    feeds: BTreeMap<HostId, Feed>,
    forks: BTreeMap<HostId, ForkProof>,
    records: BTreeMap<HostId, BTreeMap<RolloutId, Mirrored>>,
    rollouts: BTreeMap<RolloutId, rollout::Record>,
    newest: BTreeMap<ChannelId, RolloutId>,
    slots: Slots,
    quarantines: BTreeMap<(ChannelId, Closure), BTreeMap<DecisionId, Quarantine>>,
    suspects: BTreeMap<(ChannelId, Closure), (RolloutId, HostId)>,
    lifted: BTreeSet<(ChannelId, DecisionId)>,
    certified: BTreeMap<DecisionId, Digest>,
    uncertified: BTreeMap<DecisionId, Derived>,
    owed: BTreeMap<DecisionId, DecisionBody>,
    /// Rollouts that were given up: what still comes of them means nothing.
    retired: BTreeSet<RolloutId>,
    /// Behind which entry each channel's rollouts lie that no rollout that was given up has ended.
    ended: BTreeMap<ChannelId, u64>,
    /// The closures on which hosts converged in rollouts that were given up, by the entry that dispatched them.
    proven: BTreeMap<HostId, BTreeMap<u64, Closure>>,
    follows_log: bool,
    rules: u32,
    known_rules: u32,
    applied: u64,
    /// Behind which index the log begins.
    base: u64,
    /// Who belongs to the log's group by what was applied.
    group: Option<Membership>,
    /// Whose key is behind the ids of readmitted members.
    lives: BTreeMap<MemberId, PublicKey>,
    /// The serial of the fleet document whose coordinators decide.
    deciding: u64,
    last_entry_at: Option<DateTime<Utc>>,
    traces: snapshot::Traces,
    /// The snapshot for which the log asked last, until it takes the place of entries.
    taken: Option<Snapshot>,
    position: u64,
    /// The position of the last checkpoint that was made or passed.
    checkpoint: u64,
    batch: Batch,
    touched: BTreeMap<views::Subject, u64>,
    /// The arrival that each row of the views follows from.
    stamps: BTreeMap<views::Subject, u64>,
    happenings: Vec<Happening>,
}

impl Ledger {
    /// A ledger that has learnt nothing yet, over documents of which none is accepted yet.
    pub fn new(fleet: FleetName, me: HostId, documents: Documents) -> Self {
        Self {
            roster: Arc::new(Roster::of(fleet.clone(), &documents)),
            epoch: epoch_of(&fleet, &documents),
            fleet,
            me,
            documents,
            budgets: Vec::new(),
            plans: BTreeMap::new(),
            adopted: Adopted::default(),
            feeds: BTreeMap::new(),
            forks: BTreeMap::new(),
            records: BTreeMap::new(),
            rollouts: BTreeMap::new(),
            newest: BTreeMap::new(),
            slots: Slots::default(),
            quarantines: BTreeMap::new(),
            suspects: BTreeMap::new(),
            lifted: BTreeSet::new(),
            certified: BTreeMap::new(),
            uncertified: BTreeMap::new(),
            owed: BTreeMap::new(),
            retired: BTreeSet::new(),
            ended: BTreeMap::new(),
            proven: BTreeMap::new(),
            follows_log: false,
            rules: FIRST_RULES,
            known_rules: u32::MAX,
            applied: 0,
            base: 0,
            group: None,
            lives: BTreeMap::new(),
            deciding: 0,
            last_entry_at: None,
            traces: snapshot::Traces::default(),
            taken: None,
            position: 0,
            checkpoint: 0,
            batch: Batch::default(),
            touched: BTreeMap::new(),
            stamps: BTreeMap::new(),
            happenings: Vec::new(),
        }
    }

    /// The host that learns.
    pub fn me(&self) -> &HostId {
        &self.me
    }

    /// The rows to write since this was last asked.
    pub fn take_batch(&mut self) -> Batch {
        self.write_views();
        std::mem::take(&mut self.batch)
    }

    /// What happened since this was last asked.
    pub fn take_happenings(&mut self) -> Vec<Happening> {
        std::mem::take(&mut self.happenings)
    }

    /// The bug that was planted, in the simulator.
    pub(crate) fn planted(&self) -> Planted {
        self.documents.planted()
    }

    /// The accepted documents.
    pub fn documents(&self) -> &Documents {
        &self.documents
    }

    /// Who belongs to the fleet, as far as the accepted documents say.
    pub fn roster(&self) -> &Arc<Roster> {
        &self.roster
    }

    /// The documents that count for the log.
    pub fn adopted(&self) -> &Adopted {
        &self.adopted
    }

    /// A rollout's plan, if its ref and fleet document are held.
    pub fn plan(&self, rollout: &RolloutId) -> Option<&Arc<Plan>> {
        self.plans.get(rollout)
    }

    /// Every rollout.
    pub fn rollouts(&self) -> &BTreeMap<RolloutId, rollout::Record> {
        &self.rollouts
    }

    /// The newest rollout of a channel.
    pub fn newest_rollout(&self, channel: &ChannelId) -> Option<&RolloutId> {
        self.newest.get(channel)
    }

    /// Every host's feed.
    pub fn feeds(&self) -> &BTreeMap<HostId, Feed> {
        &self.feeds
    }

    /// A host's feed.
    pub fn feed(&self, host: &HostId) -> Option<&Feed> {
        self.feeds.get(host)
    }

    /// Whether a host's feed is held less far than to this position.
    pub fn lacks_up_to(&self, host: &HostId, incarnation: u64, seq: u64) -> bool {
        let held = self
            .feeds
            .get(host)
            .map_or((0, 0), |feed| (feed.incarnation(), feed.head().map_or(0, |head| head.seq)));
        seq > 0 && (incarnation, seq) > held && !self.feeds.get(host).is_some_and(Feed::is_forked)
    }

    /// The records of one host, by rollout.
    pub fn records_of(&self, host: &HostId) -> impl Iterator<Item = &Mirrored> {
        self.records.get(host).into_iter().flat_map(BTreeMap::values)
    }

    /// The record of a host in a rollout.
    pub fn record(&self, host: &HostId, rollout: &RolloutId) -> Option<&Mirrored> {
        self.records.get(host)?.get(rollout)
    }

    /// Every record of every host.
    pub fn records(&self) -> impl Iterator<Item = &Mirrored> {
        self.records.values().flat_map(BTreeMap::values)
    }

    /// The slots that dispatches took.
    pub fn slots(&self) -> &Slots {
        &self.slots
    }

    /// The log entries that were applied.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// The time of the newest entry that was applied.
    pub fn last_entry_at(&self) -> Option<DateTime<Utc>> {
        self.last_entry_at
    }

    /// The log index at which the oldest of a chain of successors opened that ends with this rollout.
    pub fn chain_opened_at(&self, rollout: &RolloutId) -> u64 {
        let channel = rollout.channel();
        let newest = self.rollouts.get(rollout).map_or(0, |record| record.opened_log_index);
        let ended = self
            .rollouts
            .values()
            .filter(|record| record.channel == channel && record.came_to_its_end())
            .map(|record| record.opened_log_index)
            .chain(self.ended.get(&channel).copied())
            .max()
            .unwrap_or(0);
        let chain = self.rollouts.values().filter(|record| record.channel == channel);
        chain.map(|record| record.opened_log_index).filter(|index| *index > ended).min().unwrap_or(newest)
    }

    /// Whether rollouts are derived from the log, rather than from certified decisions.
    pub fn follows_log(&self) -> bool {
        self.follows_log
    }

    /// The position that the next arrival gets.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The certified decisions that are held: id -> digest of the decision.
    pub fn certified(&self) -> &BTreeMap<DecisionId, Digest> {
        &self.certified
    }

    /// Decisions that the log led to and that are not known to be certified.
    pub fn uncertified(&self) -> impl Iterator<Item = &Derived> {
        self.uncertified.values()
    }

    /// Whether the log led to a decision that is not known to be certified.
    pub(crate) fn is_uncertified(&self, id: &DecisionId) -> bool {
        self.uncertified.contains_key(id)
    }

    /// Certified dispatches to this host that it has not answered yet.
    pub fn owed_dispatches(&self) -> impl Iterator<Item = (DecisionId, &DecisionBody)> {
        self.owed.iter().map(|(id, body)| (*id, body))
    }

    /// The epoch of the log: which history it is.
    pub fn epoch(&self) -> Option<Digest> {
        self.epoch
    }

    /// Closures barred from channels by certified decisions that no operator lifted.
    pub fn quarantines(&self) -> impl Iterator<Item = (&ChannelId, &Closure, DecisionId, &Quarantine)> {
        self.quarantines.iter().flat_map(move |((channel, closure), decisions)| {
            decisions
                .iter()
                .filter(move |(id, _)| !self.lifted.contains(&(channel.clone(), **id)))
                .map(move |(id, quarantine)| (channel, closure, *id, quarantine))
        })
    }

    /// Whether a certified quarantine bars the closure from the channel.
    pub fn is_quarantined(&self, channel: &ChannelId, closure: &Closure) -> bool {
        self.quarantines.get(&(channel.clone(), closure.clone())).is_some_and(|decisions| {
            decisions.keys().any(|id| !self.lifted.contains(&(channel.clone(), *id)))
        })
    }

    /// The rollout and host by which this node itself suspects a closure on a channel.
    pub fn suspicion(&self, channel: &ChannelId, closure: &Closure) -> Option<&(RolloutId, HostId)> {
        self.suspects.get(&(channel.clone(), closure.clone()))
    }

    /// The commands that count here: adopted ones for who follows the log, else every accepted one.
    pub fn commands(&self) -> impl Iterator<Item = &Arc<Held<Command>>> {
        self.documents
            .commands()
            .filter(|command| !self.follows_log || self.adopted.commands.contains(&command.hash))
    }

    /// The commands that count here and now: not expired, and signed by enough of the newest operators.
    pub fn commands_in_force(&self, now: DateTime<Utc>) -> impl Iterator<Item = &Arc<Held<Command>>> {
        self.documents
            .commands_in_force(now)
            .filter(|command| !self.follows_log || self.adopted.commands.contains(&command.hash))
    }

    /// The disruption budgets of the fleet document that counts.
    pub fn budgets(&self) -> &[Budget] {
        &self.budgets
    }

    /// The fleet document that counts: the newest adopted one for who follows the log, else the newest.
    pub fn counting_fleet(&self) -> Option<&Arc<Held<Fleet>>> {
        match self.adopted.fleet {
            Some(hash) => self.documents.fleet_by_hash(&hash),
            None => self.documents.fleet(),
        }
    }
}
