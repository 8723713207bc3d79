//! Checkpoints: all that a ledger knows at one position of `arrivals`, so that a replay can go on from there and what
//! came before can be given up.
//!
//! A checkpoint is rows of the table `snapshot`: a header and pieces of one deterministic encoding. The row `base` of
//! `meta` names the one from which a replay goes on; whatever of `arrivals` lies before it counts no more. Documents are
//! named and not copied: each is verified again as it is read. Passing a later checkpoint, a replay gives up what was
//! given up there, and so comes to the same bytes, which [`super::verify`] compares.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use muster_signing::{Digest, PublicKey, sha256};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::slots::Slots;
use super::snapshot::Traces;
use super::views::Subject;
use super::{Adopted, Batch, Derived, Feed, Ledger, Mirrored, Quarantine, RebuildError, Rows, Table, key};
use crate::coordination::log::{MemberId, Membership};
use crate::document::Documents;
use crate::id::{ChannelId, Closure, HostId, RolloutId};
use crate::rollout;
use crate::verify::{self, Roster};
use crate::wire::codec;
use crate::wire::{DecisionBody, DecisionId};

/// The version of a checkpoint's form.
const VERSION: u32 = 1;
/// The largest piece of a checkpoint, in bytes.
const PIECE_BYTES_MAX: usize = 1 << 20;
/// The most pieces of one.
const PIECES_MAX: u32 = 4096;

/// What heads the rows of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointHead {
    v: u32,
    /// The position in `arrivals` of the first thing that it does not know.
    pub position: u64,
    /// When it was made, by this host's clock.
    pub at: DateTime<Utc>,
    /// What was given up when it was made: whatever was over since before this.
    pub before: DateTime<Utc>,
    /// The entries of the log that were applied by then.
    pub applied: u64,
    /// How many pieces it has.
    pub pieces: u32,
    hash: Digest,
}

/// What a ledger knows, but for what follows from the documents alone.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    v: u32,
    position: u64,
    /// The keys of the documents' rows, in the order in which they were accepted.
    documents: Vec<ByteBuf>,
    /// The ref that made each plan.
    plans: BTreeMap<RolloutId, Digest>,
    adopted: Adopted,
    feeds: BTreeMap<HostId, Feed>,
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
    retired: BTreeSet<RolloutId>,
    ended: BTreeMap<ChannelId, u64>,
    proven: BTreeMap<HostId, BTreeMap<u64, Closure>>,
    follows_log: bool,
    rules: u32,
    applied: u64,
    base: u64,
    group: Option<Membership>,
    lives: BTreeMap<MemberId, PublicKey>,
    deciding: u64,
    last_entry_at: Option<DateTime<Utc>>,
    traces: Traces,
    /// The arrival that each row of the views follows from.
    stamps: Vec<(Subject, u64)>,
}

impl Ledger {
    /// Everything that is known, as the bytes that any replay comes to.
    pub fn state_bytes(&self) -> Vec<u8> {
        codec::encode(&self.state())
    }

    /// Gives up what is over since before a moment, and adds the rows of a checkpoint to what is to be written.
    ///
    /// It has to be the last thing that a step does with the ledger.
    pub(crate) fn checkpoint(&mut self, at: DateTime<Utc>, before: DateTime<Utc>) -> Option<CheckpointHead> {
        self.retire(before);
        self.checkpoint = self.position;
        let bytes = self.state_bytes();
        let pieces =
            u32::try_from(bytes.chunks(PIECE_BYTES_MAX).count()).ok().filter(|it| *it <= PIECES_MAX)?;
        let (position, applied, hash) = (self.position, self.applied, sha256(&bytes));
        let head = CheckpointHead { v: VERSION, position, at, before, applied, pieces, hash };
        self.batch.put(Table::Snapshot, key::checkpoint(self.position, 0), codec::encode(&head));
        for (number, piece) in (1..).zip(bytes.chunks(PIECE_BYTES_MAX)) {
            self.batch.put(Table::Snapshot, key::checkpoint(self.position, number), piece.to_vec());
        }
        Some(head)
    }

    fn state(&self) -> State {
        let keys = self.documents.in_order().map(|document| {
            let (kind, channel) = (document.kind(), document.channel());
            ByteBuf::from(key::document(kind, channel, document.serial(), &document.hash()))
        });
        let feeds = self.feeds.iter().filter(|(_, feed)| feed.says_something());
        State {
            v: VERSION,
            position: self.position,
            documents: keys.collect(),
            plans: self.plans.iter().map(|(id, plan)| (id.clone(), plan.ref_hash)).collect(),
            adopted: self.adopted.clone(),
            feeds: feeds.map(|(host, feed)| (host.clone(), feed.clone())).collect(),
            records: self.records.clone(),
            rollouts: self.rollouts.clone(),
            newest: self.newest.clone(),
            slots: self.slots.clone(),
            quarantines: self.quarantines.clone(),
            suspects: self.suspects.clone(),
            lifted: self.lifted.clone(),
            certified: self.certified.clone(),
            uncertified: self.uncertified.clone(),
            owed: self.owed.clone(),
            retired: self.retired.clone(),
            ended: self.ended.clone(),
            proven: self.proven.clone(),
            follows_log: self.follows_log,
            rules: self.rules,
            applied: self.applied,
            base: self.base,
            group: self.group.clone(),
            lives: self.lives.clone(),
            deciding: self.deciding,
            last_entry_at: self.last_entry_at,
            traces: self.traces.clone(),
            stamps: self.standing_stamps(),
        }
    }

    /// The ledger of the same host at a checkpoint of its store.
    pub(super) fn at_checkpoint(&self, rows: &impl Rows, position: u64) -> Result<Self, RebuildError> {
        let wrong = |detail: String| RebuildError::Checkpoint { position, detail };
        let state = read(rows, position)?;
        let documents =
            Documents::new(self.documents.pins().to_vec()).map_err(|error| wrong(error.to_string()))?;
        #[cfg(feature = "planted")]
        let documents = documents.with_planted(self.documents.planted());
        let mut ledger = Self::new(self.fleet.clone(), self.me.clone(), documents);
        for row in &state.documents {
            let value = rows.get(Table::Documents, row).map_err(RebuildError::Store)?;
            let value = value.ok_or_else(|| wrong("a document is missing".to_owned()))?;
            let document = verify::document(&value).map_err(|error| wrong(error.to_string()))?;
            let accepted = ledger.documents.stored(&document).map_err(|error| wrong(error.to_string()))?;
            ledger.documents.insert(accepted);
        }
        ledger.roster = std::sync::Arc::new(Roster::of(ledger.fleet.clone(), &ledger.documents));
        ledger.epoch = super::epoch_of(&ledger.fleet, &ledger.documents);
        for (id, hash) in &state.plans {
            let plan = ledger.documents.plan_by_ref(hash);
            let plan = plan.ok_or_else(|| wrong(format!("the ref of {id} makes no plan")))?;
            ledger.plans.insert(id.clone(), plan);
        }
        ledger.known_rules = self.known_rules;
        ledger.take_state(state);
        Ok(ledger)
    }

    fn take_state(&mut self, state: State) {
        self.adopted = state.adopted;
        self.feeds = state.feeds;
        self.records = state.records;
        self.rollouts = state.rollouts;
        self.newest = state.newest;
        self.slots = state.slots;
        self.quarantines = state.quarantines;
        self.suspects = state.suspects;
        self.lifted = state.lifted;
        self.certified = state.certified;
        self.uncertified = state.uncertified;
        self.owed = state.owed;
        self.retired = state.retired;
        self.ended = state.ended;
        self.proven = state.proven;
        self.follows_log = state.follows_log;
        self.rules = state.rules;
        self.applied = state.applied;
        self.base = state.base;
        self.group = state.group;
        self.lives = state.lives;
        self.deciding = state.deciding;
        self.last_entry_at = state.last_entry_at;
        self.traces = state.traces;
        self.position = state.position;
        self.checkpoint = state.position;
        self.stamps = state.stamps.into_iter().collect();
        self.touched.clone_from(&self.stamps);
        self.resolve_budgets();
    }
}

/// From where on a replay goes: the base of a store's `arrivals`.
pub fn base(rows: &impl Rows) -> Result<u64, RebuildError> {
    let row = rows.get(Table::Meta, &key::meta("base")).map_err(RebuildError::Store)?;
    let unreadable =
        |error: codec::DecodeError| RebuildError::Checkpoint { position: 0, detail: error.to_string() };
    row.map_or(Ok(0), |row| codec::decode("base", &row).map_err(unreadable))
}

/// Sets the base: what lies before it counts no more.
pub(crate) fn put_base(rows: &mut Batch, position: u64) {
    rows.put(Table::Meta, key::meta("base"), codec::encode(&position));
}

/// The checkpoints of a store, the oldest first.
pub fn checkpoints(rows: &impl Rows) -> Result<Vec<CheckpointHead>, RebuildError> {
    let mut heads = Vec::new();
    for row in rows.table(Table::Snapshot) {
        let (of, value) = row.map_err(RebuildError::Store)?;
        let Some(position) = key::head_of_checkpoint(&of) else { continue };
        heads.push(read_head(position, &value)?);
    }
    Ok(heads)
}

fn read_head(position: u64, value: &[u8]) -> Result<CheckpointHead, RebuildError> {
    let wrong = |detail: String| RebuildError::Checkpoint { position, detail };
    let head: CheckpointHead =
        codec::decode("checkpoint", value).map_err(|error| wrong(error.to_string()))?;
    if head.v != VERSION || head.position != position || head.pieces > PIECES_MAX {
        return Err(wrong(format!("version {}, position {}, {} pieces", head.v, head.position, head.pieces)));
    }
    Ok(head)
}

/// The bytes of a checkpoint, as they were written.
pub(super) fn bytes_of(rows: &impl Rows, position: u64) -> Result<Vec<u8>, RebuildError> {
    let wrong = |detail: &str| RebuildError::Checkpoint { position, detail: detail.to_owned() };
    let row =
        |number| rows.get(Table::Snapshot, &key::checkpoint(position, number)).map_err(RebuildError::Store);
    let head = read_head(position, &row(0)?.ok_or_else(|| wrong("it is missing"))?)?;
    let mut bytes = Vec::new();
    for number in 1..=head.pieces {
        bytes.extend(row(number)?.ok_or_else(|| wrong("a piece is missing"))?);
    }
    match sha256(&bytes) == head.hash {
        true => Ok(bytes),
        false => Err(wrong("its bytes are not those that were written")),
    }
}

fn read(rows: &impl Rows, position: u64) -> Result<State, RebuildError> {
    let wrong = |detail: String| RebuildError::Checkpoint { position, detail };
    let bytes = bytes_of(rows, position)?;
    let state: State = codec::decode("checkpoint", &bytes).map_err(|error| wrong(error.to_string()))?;
    if state.v != VERSION || state.position != position {
        return Err(wrong(format!("it is of version {} and position {}", state.v, state.position)));
    }
    Ok(state)
}
