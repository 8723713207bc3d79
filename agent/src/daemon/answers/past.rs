//! The same answers from a stopped agent's store, for whoever looks back.

use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use muster_core::ledger::{self, Happening, Ledger, Rows};
use muster_store::Store;
use serde::Serialize;

use super::chronicle::Chronicle;
use super::history::{self, Source};
use super::{fleet, rollouts};
use crate::control::{Problem, wire};
use crate::storage::{self, StorageError};

/// What a stopped agent's store comes to.
#[derive(Debug)]
pub struct Past {
    store: Arc<Store>,
    ledger: Ledger,
}

impl Past {
    /// Opens a stopped agent's store and learns all of it again, every signature checked.
    pub fn open(path: &Path) -> Result<Self, StorageError> {
        let store = Store::open_offline(path)?;
        let ledger = storage::ledger(path, &store.read()?)?;
        Ok(Self { store: Arc::new(store), ledger })
    }

    /// The fleet's name.
    pub fn fleet(&self) -> String {
        self.ledger.documents().fleet_name().to_string()
    }

    /// One rollout, as the running agent would tell it.
    pub fn rollout(&self, id: &str) -> Result<wire::RolloutShow, Problem> {
        let mut show = rollouts::show(&self.ledger, id)?;
        let source = Source::of(Arc::clone(&self.store), &self.ledger, Utc::now());
        show.timeline = Chronicle::default().timeline(source, &rollouts::parsed(id)?, show.timeline)?;
        Ok(show)
    }
}

/// The fleet as it was when some record had been learnt.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Then {
    /// The form's version.
    pub schema: u32,
    /// The fleet's name.
    pub fleet: String,
    /// The host that learnt it.
    pub host: String,
    /// When the last of it was signed.
    pub at: Option<DateTime<Utc>>,
    /// How many records were learnt by then.
    pub records: u64,
    /// The serial of the fleet document that was held.
    pub fleet_serial: Option<u64>,
    /// The channels by name.
    pub channels: Vec<wire::ChannelStatus>,
    /// The hosts by name.
    pub hosts: Vec<HostThen>,
    /// What was under way.
    pub rollouts: Vec<wire::RolloutShow>,
    /// How many closures were barred.
    pub quarantines: usize,
}

/// A host as it was; whether it was online nobody wrote down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostThen {
    /// The host.
    pub host: String,
    /// Its state in its channel's newest rollout.
    pub state: Option<wire::HostState>,
    /// What it last said it ran.
    pub current: Option<String>,
    /// What its channel's newest rollout named for it.
    pub target: Option<String>,
}

/// Something that moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Move {
    /// When the record was signed that says so.
    pub at: Option<DateTime<Utc>>,
    /// What, in words.
    pub what: String,
}

/// Learns everything again up to the first record that was signed later than `until`; tells what moves on the way.
pub fn replay(
    path: &Path,
    rows: &impl Rows,
    until: Option<DateTime<Utc>>,
    mut tell: impl FnMut(Move),
) -> Result<Then, StorageError> {
    let mut last = None;
    let mut told = |ledger: &mut Ledger, at| {
        for happening in ledger.take_happenings() {
            tell(Move { at, what: happened(&happening) });
        }
    };
    let ledger = ledger::rebuild_while(storage::beginning(path, rows)?, rows, |ledger, table, value| {
        let at = history::read(table, value.to_vec()).and_then(|learnt| learnt.at());
        if at.zip(until).is_some_and(|(at, until)| at > until) {
            return false;
        }
        told(ledger, last);
        last = at.or(last);
        true
    });
    let mut ledger = ledger?;
    told(&mut ledger, last);
    Ok(then(&ledger, last))
}

fn happened(happening: &Happening) -> String {
    match happening {
        Happening::HostMoved { rollout, host, from, to } => {
            format!("{rollout}: {host} {} to {}", from.name(), to.name())
        }
        Happening::RolloutMoved { rollout, from: Some(from), to } => {
            format!("{rollout}: {} to {}", from.name(), to.name())
        }
        Happening::RolloutMoved { rollout, from: None, to } => format!("{rollout}: {}", to.name()),
        Happening::Alarm { message } => format!("alarm: {message}"),
    }
}

fn then(ledger: &Ledger, at: Option<DateTime<Utc>>) -> Then {
    let fleet = ledger.documents().fleet();
    let channels = fleet.into_iter().flat_map(|fleet| fleet.channels.keys());
    let hosts = fleet.into_iter().flat_map(|fleet| &fleet.hosts).map(|(host, entry)| {
        let newest = ledger.newest_rollout(&entry.channel);
        let target = newest.and_then(|id| ledger.plan(id)?.targets.get(host));
        let said = ledger.records_of(host).map(|mirrored| &mirrored.record);
        let last = said.max_by_key(|record| record.dispatched_at);
        let runs = last.and_then(|record| {
            record.current_closure.as_ref().or(record.current_closure_at_dispatch.as_ref())
        });
        HostThen {
            host: host.to_string(),
            state: newest.and_then(|id| Some(wire::HostState::from(ledger.record(host, id)?.record.state))),
            current: runs.map(ToString::to_string),
            target: target.map(ToString::to_string),
        }
    });
    let open = ledger.rollouts().values().filter(|record| record.state.is_open());
    Then {
        schema: wire::SCHEMA,
        fleet: ledger.documents().fleet_name().to_string(),
        host: ledger.me().to_string(),
        at,
        records: ledger.position(),
        fleet_serial: fleet.map(|fleet| fleet.serial),
        channels: channels.map(|id| fleet::channel(ledger, id)).collect(),
        hosts: hosts.collect(),
        rollouts: open.filter_map(|record| rollouts::show(ledger, record.rollout_id.as_str()).ok()).collect(),
        quarantines: ledger.quarantines().count(),
    }
}
