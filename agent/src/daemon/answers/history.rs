//! What this host learnt, as its store holds it: read away from the loop, which would stand still meanwhile.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use muster_core::coordination::log::Entry;
use muster_core::id::{HostId, RolloutId};
use muster_core::ledger::{Ledger, Mirrored, Reference, Table, ViewRow, key};
use muster_core::verify::{self, Roster};
use muster_core::wire::{
    Decision, DecisionBody, DocumentKind, Envelope, FeedBody, HostEvent, HostEventKind, LogPayload,
    LogStatement, codec,
};
use muster_signing::{Certificate, DocumentParts, Sealed};
use muster_store::{Row, Snapshot, Store, StoreError};

use super::{Asked, store_failed};
use crate::control::Problem;
use crate::storage;

/// Everything that an answer about what was learnt needs; the loop hands it to whoever reads.
#[derive(Debug)]
pub(super) struct Source {
    store: Arc<Store>,
    roster: Arc<Roster>,
    now: DateTime<Utc>,
}

impl Source {
    pub(super) fn new(asked: &Asked<'_>) -> Self {
        Self::of(Arc::clone(&asked.hands.store), asked.node.ledger(), asked.now.utc)
    }

    /// The store of any ledger.
    pub(super) fn of(store: Arc<Store>, ledger: &Ledger, now: DateTime<Utc>) -> Self {
        Self { store, roster: Arc::clone(ledger.roster()), now }
    }

    /// Whose keys count.
    pub(super) fn roster(&self) -> Arc<Roster> {
        Arc::clone(&self.roster)
    }

    /// What is durable now.
    pub(super) fn read(self) -> Result<History, Problem> {
        let snapshot = self.store.read().map_err(store_failed)?;
        Ok(History { snapshot, roster: self.roster, now: self.now })
    }
}

/// What was learnt up to one moment.
#[derive(Debug)]
pub(super) struct History {
    snapshot: Snapshot,
    roster: Arc<Roster>,
    /// When it was asked for.
    pub(super) now: DateTime<Utc>,
}

/// Something that was learnt.
#[derive(Debug)]
pub(super) enum Learnt {
    /// A host's word.
    Envelope(Box<Said>),
    /// A certified decision.
    Decision(Box<Decided>),
    /// An entry of the coordinators' log.
    Entry {
        /// Its time.
        at: DateTime<Utc>,
        /// What it says; none if nothing.
        what: Option<LogStatement>,
    },
    /// A signed document.
    Document {
        /// Its kind.
        kind: DocumentKind,
        /// Its content, of which only a few fields are shown.
        content: serde_json::Value,
    },
}

/// An envelope as it was stored.
#[derive(Debug)]
pub(super) struct Said {
    content: Envelope,
    bytes: Vec<u8>,
}

impl std::ops::Deref for Said {
    type Target = Envelope;

    fn deref(&self) -> &Envelope {
        &self.content
    }
}

impl Said {
    fn read(bytes: Vec<u8>) -> Option<Self> {
        let sealed = Sealed::parse(&bytes).ok()?;
        let content = codec::decode("envelope", sealed.payload()).ok()?;
        Some(Self { content, bytes })
    }

    /// The event, if it is one of a rollout.
    pub(super) fn event(&self) -> Option<&HostEvent> {
        match &self.content.body {
            FeedBody::Rollout(event) => Some(event),
            FeedBody::Incarnation(_) => None,
        }
    }
}

/// A certified decision as it was stored.
#[derive(Debug)]
pub(super) struct Decided {
    content: Decision,
    bytes: Vec<u8>,
}

impl std::ops::Deref for Decided {
    type Target = Decision;

    fn deref(&self) -> &Decision {
        &self.content
    }
}

impl History {
    /// Calls `visit` with what was learnt from a position on, the oldest first, until it says no.
    pub(super) fn each_from(&self, from: u64, visit: impl FnMut(u64, Learnt) -> bool) -> Result<(), Problem> {
        let first = key::number(from);
        let rows =
            self.snapshot.range(muster_store::Table::Arrivals, first.as_slice()..).map_err(store_failed)?;
        self.walk(rows, visit)
    }

    /// The same with everything, the newest first.
    pub(super) fn each_backwards(&self, visit: impl FnMut(u64, Learnt) -> bool) -> Result<(), Problem> {
        let rows = self.snapshot.range(muster_store::Table::Arrivals, ..).map_err(store_failed)?;
        self.walk(rows.rev(), visit)
    }

    fn walk(
        &self,
        rows: impl Iterator<Item = Result<Row, StoreError>>,
        mut visit: impl FnMut(u64, Learnt) -> bool,
    ) -> Result<(), Problem> {
        for row in rows {
            let (key, value) = row.map_err(store_failed)?;
            let position = key.as_slice().try_into().map(u64::from_be_bytes).map_err(store_failed)?;
            let reference = Reference::read(&value).map_err(store_failed)?;
            let value = self.row(reference.table, &reference.key)?;
            if let Some(learnt) = value.and_then(|value| read(reference.table, value))
                && !visit(position, learnt)
            {
                break;
            }
        }
        Ok(())
    }

    /// The newest event of a host's feed.
    pub(super) fn last_event(&self, host: &HostId) -> Result<Option<Said>, Problem> {
        self.newest(host, |_| true)
    }

    /// The newest event in which a host said that it failed.
    pub(super) fn last_failure(&self, host: &HostId) -> Result<Option<Said>, Problem> {
        self.newest(host, |kind| {
            matches!(kind, HostEventKind::ActivationFailed { .. } | HostEventKind::Failed { .. })
        })
    }

    fn newest(
        &self,
        host: &HostId,
        wanted: impl Fn(&HostEventKind) -> bool,
    ) -> Result<Option<Said>, Problem> {
        let mut feed = host.as_str().as_bytes().to_vec();
        feed.push(0);
        let rows = self.snapshot.prefix(muster_store::Table::Feeds, &feed).map_err(store_failed)?;
        for row in rows.rev() {
            let said = Said::read(row.map_err(store_failed)?.1);
            if let Some(said) = said.filter(|said| said.event().is_some_and(|event| wanted(&event.kind))) {
                return Ok(Some(said));
            }
        }
        Ok(None)
    }

    /// Whether an envelope's signature holds under the present roster.
    pub(super) fn holds(&self, said: &Said) -> bool {
        verify::envelope(&self.roster, &said.bytes).is_ok()
    }

    /// The coordinators whose signatures under a decision hold.
    pub(super) fn signers(&self, decided: &Decided) -> Vec<String> {
        let Ok(certified) = verify::certificate(&self.roster, &decided.bytes) else { return Vec::new() };
        let keys = certified.certificate.signers().keys();
        let mut names: Vec<_> =
            keys.filter_map(|key| self.roster.host_of(key)).map(HostId::to_string).collect();
        names.sort();
        names
    }

    /// When a host failed, by its own clock: a quarantine carries no time of its own.
    pub(super) fn failed_at(&self, host: &HostId, rollout: &RolloutId) -> DateTime<Utc> {
        let row = self.row(Table::HostRecords, &key::host_record(rollout, host)).ok().flatten();
        let row = row.and_then(|row| codec::decode::<ViewRow<Mirrored>>("host record", &row).ok());
        row.and_then(|it| it.row.record.failed_at).unwrap_or(self.now)
    }

    /// When a log entry was written; when it was asked for, if this host holds no log.
    pub(super) fn entered_at(&self, log_index: u64) -> DateTime<Utc> {
        let row = self.row(Table::Log, &key::number(log_index)).ok().flatten();
        let entry = row.and_then(|row| codec::decode::<Entry>("log entry", &row).ok());
        entry.map_or(self.now, |entry| entry.at)
    }

    fn row(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, Problem> {
        self.snapshot.get(storage::table(table), key).map_err(store_failed)
    }
}

impl Learnt {
    /// When it was signed, as far as it says so itself.
    pub(super) fn at(&self) -> Option<DateTime<Utc>> {
        match self {
            Self::Envelope(said) => Some(said.at),
            Self::Decision(decided) => match &decided.body {
                DecisionBody::RolloutTransition { at, .. } => Some(*at),
                DecisionBody::Dispatch { soak_due_at, soak_secs, .. } => {
                    let soak = i64::try_from(*soak_secs).ok().and_then(TimeDelta::try_seconds)?;
                    Some(*soak_due_at - soak)
                }
                DecisionBody::Quarantine { .. }
                | DecisionBody::Withdrawn { .. }
                | DecisionBody::LogSnapshot { .. } => None,
            },
            Self::Entry { at, .. } => Some(*at),
            Self::Document { content, .. } => content["signedAt"].as_str()?.parse().ok(),
        }
    }
}

pub(super) fn read(table: Table, value: Vec<u8>) -> Option<Learnt> {
    match table {
        Table::Feeds => Some(Learnt::Envelope(Box::new(Said::read(value)?))),
        Table::Decisions => {
            let certificate = Certificate::parse(&value).ok()?;
            let content = codec::decode("decision", certificate.payload()).ok()?;
            Some(Learnt::Decision(Box::new(Decided { content, bytes: value })))
        }
        Table::Log => {
            let entry: Entry = codec::decode("log entry", &value).ok()?;
            let payload = codec::decode::<LogPayload>("log payload", &entry.payload);
            Some(Learnt::Entry { at: entry.at, what: payload.ok().map(|payload| payload.what) })
        }
        Table::Documents => {
            let parts = DocumentParts::from_wire(&value).ok()?;
            let kind = muster_core::document::kind_of(&parts.bytes).ok()?;
            Some(Learnt::Document { kind, content: serde_json::from_slice(&parts.bytes).ok()? })
        }
        Table::Meta
        | Table::FeedHeads
        | Table::HardState
        | Table::Snapshot
        | Table::Endorsed
        | Table::Proofs
        | Table::Arrivals
        | Table::Outbox
        | Table::Marks
        | Table::HostRecords
        | Table::Rollouts
        | Table::Quarantines
        | Table::ProbeFailures => None,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use muster_core::ledger::Batch;
    use muster_core::wire::{HealthPolicy, IncarnationStarted};
    use muster_signing::Digest;
    use muster_store::Identity;

    use super::*;
    use crate::control::EventFilter;
    use crate::daemon::answers::chronicle::Chronicle;
    use crate::daemon::answers::{events, explain};
    use crate::daemon::testing;

    fn at(secs: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_795_000_000 + secs, 0).unwrap()
    }

    /// Asks a store in which `beta` began, then failed in a rollout; the second envelope is signed by another host.
    fn check(test: impl Fn(&dyn Fn() -> Source)) {
        let failed = HostEvent {
            rollout_id: "stable@v1".parse().unwrap(),
            seq: 1,
            kind: HostEventKind::Failed {
                failing_probes: Vec::new(),
                failed_at: at(1),
                policy_applied: HealthPolicy::Halt,
                sustained_duration_secs: 9,
            },
        };
        let began = IncarnationStarted { current_closure: None, started_at: at(0) };
        let none = Digest([0; 32]);
        let (first, hash) =
            testing::envelope(&testing::beta(), 1, none, at(0), FeedBody::Incarnation(began.clone()));
        let (second, hash) = testing::envelope(&testing::alpha(), 2, hash, at(1), FeedBody::Rollout(failed));
        let (third, _) = testing::envelope(&testing::beta(), 3, hash, at(2), FeedBody::Incarnation(began));
        let mut rows = Batch::default();
        for (position, bytes) in (0..).zip([first, second, third]) {
            let row = key::feed(&"beta".parse().unwrap(), 7, position + 1);
            let reference = Reference { table: Table::Feeds, key: row.clone() };
            rows.put(Table::Feeds, row, bytes);
            rows.put(Table::Arrivals, key::number(position), codec::encode(&reference));
        }
        let folder = tempfile::tempdir().unwrap();
        let identity = Identity { fleet: "home".into(), host: "alpha".into() };
        let store = Arc::new(Store::open(folder.path().join(storage::STORE_FILE), identity).unwrap());
        store.commit_wait(storage::changes(rows)).unwrap();
        let roster = testing::roster();
        test(&|| Source { store: Arc::clone(&store), roster: Arc::clone(&roster), now: at(9) });
    }

    #[test]
    fn the_events_that_a_filter_lets_through_say_whether_their_signature_holds() {
        let newest = |limit| EventFilter { limit, ..EventFilter::default() };
        let (first, second, third) = ((0, true), (1, false), (2, true));
        let cases = [
            (newest(9), vec![first, second, third]),
            (newest(2), vec![second, third]),
            (EventFilter { after: Some(0), ..newest(1) }, vec![second]),
            (EventFilter { since: Some(at(1)), ..newest(9) }, vec![second, third]),
            (EventFilter { since: Some(DateTime::<Utc>::MIN_UTC), ..newest(1) }, vec![first]),
            (EventFilter { rollout: Some("stable@v1".into()), ..newest(9) }, vec![second]),
            (EventFilter { host: Some("alpha".into()), ..newest(9) }, vec![]),
        ];
        check(|source| {
            for (filter, expected) in &cases {
                let events = events::list(source(), filter).unwrap().events;
                let shown: Vec<_> = events.iter().map(|event| (event.position, event.verified)).collect();
                assert_eq!(shown, *expected, "{filter:?}");
            }
        });
    }

    #[test]
    fn a_host_is_explained_by_the_last_event_of_its_feed_and_a_rollout_by_all_of_its_own() {
        check(|source| {
            let last = explain::last_report(source(), "beta").unwrap().unwrap();
            assert_eq!((last.name.as_str(), last.at), ("Failed", at(1)));
            assert_eq!(explain::last_report(source(), "alpha").unwrap(), None);
            let (chronicle, id) = (Chronicle::default(), "stable@v1".parse().unwrap());
            // Asked again, nothing is said twice.
            for _ in 0..3 {
                let timeline = chronicle.timeline(source(), &id, Vec::new()).unwrap();
                assert_eq!(timeline.len(), 1);
                assert_eq!((timeline[0].at, timeline[0].what.as_str()), (at(1), "beta: Failed"));
            }
        });
    }
}
