//! The tables of the file, and a change to one row.

use redb::TableDefinition;

/// What a table's rows are to the rest of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Signed records; nothing else on this host could give them back.
    Canonical,
    /// Views that follow from the canonical rows, in the order that `arrivals` holds.
    Derived,
    /// What only this host knows: its identity, its queue, the order in which it learned things.
    Local,
}

/// A table of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// Names and their values: incarnation, boot counter, accepted serials; the format version, fleet and host.
    Meta,
    /// Signed documents: fleet documents, channel refs, operator commands.
    Documents,
    /// Signed envelopes of every host's feed.
    Feeds,
    /// The last position of each feed.
    FeedHeads,
    /// Entries of the replicated log.
    Log,
    /// Term, vote and commit index of the replicated log.
    HardState,
    /// The snapshot that the log starts from.
    Snapshot,
    /// Certified decisions.
    Decisions,
    /// Hashes that this host has endorsed.
    Endorsed,
    /// Proofs of objections and of lies.
    Proofs,
    /// The order in which this host learned of canonical rows.
    Arrivals,
    /// Own envelopes that a quorum has not yet said it stored.
    Outbox,
    /// Feed positions that other hosts have said they stored.
    Marks,
    /// One record per host and rollout.
    HostRecords,
    /// One record per rollout.
    Rollouts,
    /// Closures and hosts in quarantine.
    Quarantines,
    /// Failing probes.
    ProbeFailures,
}

impl Table {
    /// Every table, in the order of the declaration.
    pub const ALL: [Self; 17] = [
        Self::Meta,
        Self::Documents,
        Self::Feeds,
        Self::FeedHeads,
        Self::Log,
        Self::HardState,
        Self::Snapshot,
        Self::Decisions,
        Self::Endorsed,
        Self::Proofs,
        Self::Arrivals,
        Self::Outbox,
        Self::Marks,
        Self::HostRecords,
        Self::Rollouts,
        Self::Quarantines,
        Self::ProbeFailures,
    ];

    /// The table's name in the file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Documents => "documents",
            Self::Feeds => "feeds",
            Self::FeedHeads => "feed_heads",
            Self::Log => "log",
            Self::HardState => "hard_state",
            Self::Snapshot => "snapshot",
            Self::Decisions => "decisions",
            Self::Endorsed => "endorsed",
            Self::Proofs => "proofs",
            Self::Arrivals => "arrivals",
            Self::Outbox => "outbox",
            Self::Marks => "marks",
            Self::HostRecords => "host_records",
            Self::Rollouts => "rollouts",
            Self::Quarantines => "quarantines",
            Self::ProbeFailures => "probe_failures",
        }
    }

    /// Whether the rows can be made again from others, and by whom.
    pub const fn class(self) -> Class {
        match self {
            Self::Documents
            | Self::Feeds
            | Self::Log
            | Self::HardState
            | Self::Snapshot
            | Self::Decisions
            | Self::Endorsed
            | Self::Proofs => Class::Canonical,
            Self::FeedHeads
            | Self::Marks
            | Self::HostRecords
            | Self::Rollouts
            | Self::Quarantines
            | Self::ProbeFailures => Class::Derived,
            Self::Meta | Self::Arrivals | Self::Outbox => Class::Local,
        }
    }

    pub(crate) const fn definition(self) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
        TableDefinition::new(self.name())
    }
}

/// One row put or deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The table of the row.
    pub table: Table,
    /// The key, at most [`KEY_BYTES_MAX`](crate::KEY_BYTES_MAX) bytes; rows are ordered by it, byte by byte.
    pub key: Vec<u8>,
    /// The new value, at most [`VALUE_BYTES_MAX`](crate::VALUE_BYTES_MAX) bytes; `None` deletes the row.
    pub value: Option<Vec<u8>>,
}

impl Change {
    /// Puts a row, over one that may be there.
    pub fn put(table: Table, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        Self { table, key: key.into(), value: Some(value.into()) }
    }

    /// Deletes a row that may be there.
    pub fn delete(table: Table, key: impl Into<Vec<u8>>) -> Self {
        Self { table, key: key.into(), value: None }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, Vec::len)
    }
}
