//! How a node starts: it learns again what its store holds, and finds out what it still owes.

use std::collections::{BTreeMap, BTreeSet};

use muster_signing::{Digest, SigningKey};

use super::approvals::Said;
use super::beacon::Marks;
use super::compaction::StoredSnapshot;
use super::head::FeedEnd;
use super::own::Own;
use super::quota::Quotas;
use super::random::Random;
use super::turn::Turn;
use super::upkeep::House;
use super::{Node, Output, Settings};
use crate::coordination::log::{Durable, Echo, Entry, HardState, MemberId};
use crate::document::{Documents, Trust, TrustError};
use crate::ledger::{Ledger, RebuildError, Rows, Table, key, rebuild};
use crate::presence::Presences;
use crate::time::Now;
use crate::wire::DecisionId;
use crate::wire::codec::{self, DecodeError};

/// Why a node cannot start from its store.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The pinned operators are not usable.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// A record is not what was written.
    #[error(transparent)]
    Rebuild(#[from] RebuildError),
    /// A record of this node's own state cannot be read.
    #[error("the store's table {table:?}: {error}")]
    Record {
        /// The table.
        table: Table,
        /// What is wrong.
        error: DecodeError,
    },
    /// The store could not be read.
    #[error("the store cannot be read: {0}")]
    Store(String),
}

/// What a coordinator's store holds beside the arrivals; used once a fleet document names this host.
#[derive(Debug, Default)]
pub(super) struct StoredLog {
    pub(super) durable: Durable,
    pub(super) said: BTreeMap<DecisionId, Said>,
    pub(super) life: Option<Digest>,
    pub(super) memory: Vec<(MemberId, Echo)>,
}

impl Node {
    /// Starts a node from what its store holds; an empty store makes a new incarnation.
    pub fn start(
        settings: Settings,
        signer: SigningKey,
        pins: Vec<Trust>,
        rows: &impl Rows,
        now: Now,
    ) -> Result<(Self, Vec<Output>), StartError> {
        let empty = Ledger::new(settings.fleet.clone(), settings.host.clone(), Documents::new(pins)?);
        let (ledger, _) = rebuild(empty, rows)?;
        Self::start_rebuilt(settings, signer, ledger, rows, now)
    }

    /// The same with the ledger that was rebuilt from the rows.
    pub fn start_rebuilt(
        settings: Settings,
        signer: SigningKey,
        mut ledger: Ledger,
        rows: &impl Rows,
        now: Now,
    ) -> Result<(Self, Vec<Output>), StartError> {
        for row in rows.table(Table::Proofs) {
            ledger.restore_proof(&row.map_err(StartError::Store)?.1);
        }
        ledger.know_rules(settings.rules);
        let _ = (ledger.take_batch(), ledger.take_happenings());
        let new_incarnation = u64::try_from(now.utc.timestamp_millis()).unwrap_or_default();
        let incarnation = meta(rows, "incarnation")?.unwrap_or(new_incarnation);
        let boot = meta::<u64>(rows, "boot")?.unwrap_or_default() + 1;
        let presences = Presences::new(settings.host.clone(), settings.heartbeat, now.mono);
        let feed_at = ledger.feed(&settings.host).and_then(crate::ledger::Feed::greatest_at);
        let mut node = Self {
            random: Random::new(settings.seed),
            started: now.mono,
            presences,
            incarnation,
            boot,
            notices: 0,
            greatest_at: meta(rows, "greatest_at")?.max(feed_at),
            outbox: outbox(rows)?,
            marks: Marks::default(),
            own: Own::default(),
            quotas: Quotas::default(),
            end: FeedEnd::default(),
            presence_sent: None,
            presence_wanted: true,
            own_presence: None,
            notices_held: BTreeMap::new(),
            jitter: 1.0,
            reach_change: None,
            coordinator: None,
            distrusted: meta(rows, "distrusted")?.unwrap_or_default(),
            doubted: false,
            stored_log: Some(stored_log(rows, ledger.log_begins_behind())?),
            alarms: Vec::new(),
            batch: 0,
            house: House::read(rows)?,
            settings,
            signer,
            ledger,
        };
        let mut turn = Turn::new(now);
        turn.rows.put(Table::Meta, key::meta("incarnation"), codec::encode(&incarnation));
        turn.rows.put(Table::Meta, key::meta("boot"), codec::encode(&boot));
        turn.outputs.push(Output::Enrol(node.ledger.roster().clone()));
        node.begin_coordinating(now);
        node.observe(&mut turn);
        node.follow_up(&mut turn);
        let outputs = node.finish(turn);
        Ok((node, outputs))
    }
}

fn meta<T: serde::de::DeserializeOwned>(rows: &impl Rows, name: &str) -> Result<Option<T>, StartError> {
    let value = rows.get(Table::Meta, &key::meta(name)).map_err(StartError::Store)?;
    value.map(|value| read(Table::Meta, &value)).transpose()
}

fn outbox(rows: &impl Rows) -> Result<BTreeSet<u64>, StartError> {
    let mut seqs = BTreeSet::new();
    for row in rows.table(Table::Outbox) {
        let (key, _) = row.map_err(StartError::Store)?;
        seqs.insert(read_number(Table::Outbox, &key)?);
    }
    Ok(seqs)
}

fn stored_log(rows: &impl Rows, base: u64) -> Result<StoredLog, StartError> {
    let mut stored = StoredLog {
        life: meta(rows, "life")?,
        memory: meta(rows, "coordinators")?.unwrap_or_default(),
        ..StoredLog::default()
    };
    if let Some(value) = rows.get(Table::HardState, &key::meta("hard_state")).map_err(StartError::Store)? {
        stored.durable.hard_state = read::<HardState>(Table::HardState, &value)?;
    }
    if let Some(value) = rows.get(Table::Snapshot, &key::log_snapshot()).map_err(StartError::Store)? {
        let snapshot: StoredSnapshot = read(Table::Snapshot, &value)?;
        let bytes = Some(&snapshot).filter(|it| it.base == base).map(StoredSnapshot::read);
        let damaged = || DecodeError::new("stored row", "it is no snapshot of the log");
        stored.durable.snapshot = bytes
            .map(|read| read.ok_or_else(damaged))
            .transpose()
            .map_err(|error| StartError::Record { table: Table::Snapshot, error })?;
    }
    let compacted = stored.durable.snapshot.as_ref().map_or(0, |snapshot| snapshot.index);
    for row in rows.since(Table::Log, &key::number(base + compacted + 1)) {
        let (key, value) = row.map_err(StartError::Store)?;
        // Entries of a log that a recovery has ended have lower numbers.
        if let Some(index) =
            read_number(Table::Log, &key)?.checked_sub(base).filter(|index| *index > compacted)
        {
            stored.durable.entries.push((index, read::<Entry>(Table::Log, &value)?));
        }
    }
    for row in rows.table(Table::Endorsed) {
        let (key, value) = row.map_err(StartError::Store)?;
        let (index, ordinal) = key.split_at_checked(8).unwrap_or_default();
        let log_index = read_number(Table::Endorsed, index)?;
        let ordinal =
            ordinal.try_into().map(u32::from_be_bytes).map_err(|_| malformed_key(Table::Endorsed))?;
        stored.said.insert(DecisionId { log_index, ordinal }, read(Table::Endorsed, &value)?);
    }
    Ok(stored)
}

fn read<T: serde::de::DeserializeOwned>(table: Table, value: &[u8]) -> Result<T, StartError> {
    codec::decode("stored row", value).map_err(|error| StartError::Record { table, error })
}

fn read_number(table: Table, key: &[u8]) -> Result<u64, StartError> {
    key.try_into().map(u64::from_be_bytes).map_err(|_| malformed_key(table))
}

fn malformed_key(table: Table) -> StartError {
    StartError::Record { table, error: DecodeError::new("key", "its length is wrong") }
}
