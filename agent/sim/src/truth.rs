//! The true state of the world, kept beside the nodes, and the safety properties asked of it after every step.
//!
//! Nothing here asks a node what it believes. What hosts signed is read where it became durable, what machines run is
//! asked of the machines, and what operators signed is known from the operators.

mod decisions;
mod gates;
mod orders;
mod retention;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::TimeDelta;
use muster_core::document::{Acceptance, Documents, Electorate, Fleet as FleetDocument, Held, Plan, Verb};
use muster_core::id::{ChannelId, Closure, HostId, RolloutId};
use muster_core::ledger::{Batch, Table, key};
use muster_core::node::{Note, Topic};
use muster_core::wire::{Decision, DecisionId, DocumentKind, Envelope, HealthPolicy, HostState, codec};
use muster_signing::{Digest, Namespace, OperatorKey, Sealed, SignedDocument, Verified};

use crate::disk::fnv;
use crate::fleet::Fleet;
use crate::host::{Host, true_time};
use crate::machine::JobName;
use crate::property::Violation;
use retention::Kept;

/// What writing, waking and answering may take between an event and its row, in microseconds.
const LAG: u64 = 3_000_000;
/// A log has fewer entries than two to this in a second, so that one that a recovery begins is numbered from far above.
const ENTRIES_OF_A_SECOND: u32 = 20;

/// What one host truly is in one rollout, by its own durable words.
#[derive(Debug, Clone)]
pub(crate) struct Own {
    pub(crate) state: HostState,
    pub(crate) log_index: u64,
    pub(crate) acked: u64,
    pub(crate) completed: Option<u64>,
    pub(crate) failed: u64,
    pub(crate) prior: Option<Closure>,
    pub(crate) target: Closure,
    pub(crate) rollback: Option<i32>,
    pub(crate) policy: HealthPolicy,
    /// Whether it failed since something else than target and prior was found running.
    pub(crate) third: bool,
}

impl Own {
    fn in_flight(&self) -> bool {
        matches!(self.state, HostState::Activating | HostState::Soaking | HostState::Deferred)
    }
}

/// A recovery document that ended a log.
#[derive(Debug)]
struct Recovered {
    /// Its row on the disks of those who hold it.
    row: Vec<u8>,
    /// The entries of the log that it ended are below this one.
    behind: u64,
}

/// The true state of the world.
#[derive(Debug)]
pub(crate) struct Truth {
    documents: Documents,
    /// Who decides by each fleet document, also by those of before a recovery.
    electorates: BTreeMap<u64, Electorate>,
    recovered: Option<Recovered>,
    pub(crate) plans: BTreeMap<RolloutId, Arc<Plan>>,
    pub(crate) verbs: Vec<Verb>,
    /// The operators' keys of the newest fleet document.
    operators: Vec<OperatorKey>,
    /// The fleet documents that put other operators in the place of those before, oldest first.
    handovers: Vec<Vec<u8>>,
    /// How many of them there were when each rollout's ref was last signed.
    signed_under: BTreeMap<RolloutId, usize>,
    lifted: BTreeSet<(ChannelId, DecisionId)>,
    pub(crate) decisions: BTreeMap<DecisionId, (u64, Decision)>,
    log: BTreeMap<u64, u64>,
    /// How often a coordinator took a snapshot in place of entries.
    pub(crate) installed: u64,
    pub(crate) kept: Kept,
    feeds: BTreeMap<Vec<u8>, u64>,
    leaders: BTreeMap<u64, usize>,
    pub(crate) own: Vec<BTreeMap<RolloutId, Own>>,
    begun: BTreeSet<(usize, RolloutId, u64)>,
    /// Rollouts whose policy changed as their ref was signed anew.
    changed: BTreeSet<RolloutId>,
    /// At which log index each rollout opened, as far as that was certified.
    opened: BTreeMap<RolloutId, u64>,
    quarantines: Vec<BTreeSet<(ChannelId, Closure, DecisionId)>>,
    endorsed: BTreeMap<(usize, DecisionId), u64>,
    objections: BTreeSet<(usize, DecisionId)>,
    /// When a coordinator's word about a decision became durable.
    said_at: BTreeMap<(usize, Vec<u8>), u64>,
    /// When a host's documents became durable.
    known_at: BTreeMap<(usize, Vec<u8>), u64>,
    /// Hosts that some fleet document left out or moved.
    pub(crate) left_out: BTreeSet<HostId>,
    /// Hosts whose disk was put back in time.
    put_back: BTreeSet<HostId>,
    /// By which readmissions, or none, each host took part before it lost its disk.
    buried: BTreeMap<usize, BTreeSet<Option<Digest>>>,
    /// Hosts that went on since nobody answered when they asked where their feed ends.
    unheard: BTreeSet<HostId>,
    /// Hosts whose key a second machine has: what they say of themselves is nobody's word any more.
    twofold: BTreeSet<HostId>,
    /// Hosts that signed two histories, each of them with a disk of its own.
    forked: BTreeSet<HostId>,
    /// The first property that did not hold.
    pub(crate) violation: Option<Violation>,
    /// How far the operators' calendar is from where virtual time usually begins.
    pub(crate) calendar: TimeDelta,
    /// For how long a host may be silent and still be dispatched, in microseconds.
    patience: u64,
    now: u64,
}

impl Truth {
    pub(crate) fn new(fleet: &Fleet, hosts: usize, patience: u64) -> Self {
        let documents = Documents::new(vec![fleet.trust()]);
        Self {
            documents: documents.unwrap_or_else(|error| panic!("the pin is valid: {error}")),
            electorates: BTreeMap::new(),
            recovered: None,
            plans: BTreeMap::new(),
            verbs: Vec::new(),
            operators: Vec::new(),
            handovers: Vec::new(),
            signed_under: BTreeMap::new(),
            lifted: BTreeSet::new(),
            decisions: BTreeMap::new(),
            log: BTreeMap::new(),
            kept: Kept::default(),
            feeds: BTreeMap::new(),
            leaders: BTreeMap::new(),
            own: vec![BTreeMap::new(); hosts],
            begun: BTreeSet::new(),
            opened: BTreeMap::new(),
            changed: BTreeSet::new(),
            quarantines: vec![BTreeSet::new(); hosts],
            endorsed: BTreeMap::new(),
            objections: BTreeSet::new(),
            said_at: BTreeMap::new(),
            known_at: BTreeMap::new(),
            left_out: BTreeSet::new(),
            put_back: BTreeSet::new(),
            buried: BTreeMap::new(),
            unheard: BTreeSet::new(),
            twofold: BTreeSet::new(),
            forked: BTreeSet::new(),
            violation: None,
            installed: 0,
            calendar: TimeDelta::zero(),
            patience,
            now: 0,
        }
    }

    /// A property does not hold; the first time counts.
    pub(crate) fn broken(&mut self, property: u8, what: String) {
        let at = self.now;
        self.violation.get_or_insert(Violation { property, at, what });
    }

    /// Operators signed a document; whether it keeps the rules.
    pub(crate) fn signed(&mut self, document: &Verified<SignedDocument>, now: u64) -> Result<(), String> {
        self.now = now;
        match self.documents.check_publish(document, true_time(now) + self.calendar) {
            Ok(Acceptance::New(accepted)) => self.documents.insert(accepted),
            Ok(Acceptance::Duplicate | Acceptance::Waits { .. }) => return Ok(()),
            Err(refusal) => return Err(refusal.to_string()),
        }
        let hash = document.digest();
        if document.namespace() == Namespace::Fleet {
            self.note_operators(document);
            let recovery = self.documents.last_recovery();
            if let Some(fleet) = recovery.filter(|fleet| fleet.hash == hash).cloned() {
                self.log_begins_anew(&fleet);
            }
            if let Some(fleet) = self.documents.fleet() {
                self.electorates.insert(fleet.serial, fleet.electorate());
            }
        }
        if let Some(plan) = self.documents.plan_by_ref(&hash) {
            self.signed_under.insert(plan.rollout_id.clone(), self.handovers.len());
            let before = self.plans.insert(plan.rollout_id.clone(), Arc::clone(&plan));
            if before.is_some_and(|before| before.policy != plan.policy) {
                self.changed.insert(plan.rollout_id.clone());
            }
        }
        if let Some(command) = self.documents.command(&hash) {
            if let Verb::ClearClosure { channel, quarantines, .. } = &command.verb {
                self.lifted.extend(quarantines.iter().map(|id| (channel.clone(), *id)));
            }
            self.verbs.push(command.verb.clone());
        }
        Ok(())
    }

    /// A recovery document ends the log of before: another one begins, with terms and entries of its own.
    fn log_begins_anew(&mut self, recovery: &Held<FleetDocument>) {
        self.leaders.clear();
        self.opened.clear();
        // It begins with whoever it names, whatever their disks were.
        self.buried.clear();
        self.recovered = Some(Recovered {
            row: key::document(DocumentKind::Fleet, None, recovery.serial, &recovery.hash),
            behind: u64::try_from(recovery.signed_at.timestamp()).unwrap_or(0) << ENTRIES_OF_A_SECOND,
        });
    }

    /// The operators' own set of documents.
    pub(crate) fn documents(&self) -> &Documents {
        &self.documents
    }

    /// A host's write became durable.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the other tables say nothing that is checked")]
    pub(crate) fn durable(&mut self, now: u64, host: usize, batch: &Batch, hosts: &[Host]) {
        self.now = now;
        for change in &batch.0 {
            let Some(value) = &change.value else { continue };
            match change.table {
                Table::Feeds => self.feed_row(host, &change.key, value, hosts),
                Table::Decisions => self.decision_row(host, value, hosts),
                Table::Documents => self.document_row(host, &change.key),
                Table::Endorsed => self.said_row(host, &change.key),
                Table::Arrivals => self.arrival_row(host, value, &hosts[host]),
                Table::Snapshot if change.key.starts_with(b"installed") => self.installed += 1,
                _ => {}
            }
        }
    }

    fn feed_row(&mut self, host: usize, row: &[u8], value: &[u8], hosts: &[Host]) {
        let hash = fnv(value);
        let is_known = self.feeds.contains_key(row);
        if *self.feeds.entry(row.to_vec()).or_insert(hash) != hash {
            if self.note_fork(row, hosts) {
                return;
            }
            let row = String::from_utf8_lossy(row).into_owned();
            self.broken(10, format!("feed position {row:?} has two contents"));
        }
        let mut own = hosts[host].name.as_str().as_bytes().to_vec();
        own.push(0);
        // What comes back from the others after a disk was lost was said before.
        if row.starts_with(&own) && !is_known {
            let envelope = Sealed::parse(value)
                .ok()
                .and_then(|sealed| codec::decode::<Envelope>("envelope", sealed.payload()).ok());
            match envelope {
                Some(envelope) => self.own_event(host, &envelope, hosts),
                None => self.broken(10, "an own envelope on disk cannot be read".to_owned()),
            }
        }
    }

    /// Notes that a host signed two histories; false if it has had one disk all the time, so that it may not.
    fn note_fork(&mut self, row: &[u8], hosts: &[Host]) -> bool {
        let name = row.split(|byte| *byte == 0).next().unwrap_or_default();
        let host = hosts.iter().find(|host| host.name.as_str().as_bytes() == name);
        let unheard = |name| self.put_back.contains(name) && self.unheard.contains(name);
        let excused = host.filter(|host| unheard(&host.name) || self.twofold.contains(&host.name));
        self.forked.extend(excused.map(|host| host.name.clone()));
        excused.is_some()
    }

    /// A host has another disk than it had.
    pub(crate) fn disk_replaced(&mut self, host: usize, hosts: &[Host]) {
        self.put_back.insert(hosts[host].name.clone());
        self.quarantines[host].clear();
        self.known_at.retain(|(of, _), _| *of != host);
        self.said_at.retain(|(of, _), _| *of != host);
        self.objections.retain(|(of, _)| *of != host);
    }

    /// Whether a host has another disk than it began with.
    pub(crate) fn has_another_disk(&self, host: &HostId) -> bool {
        self.put_back.contains(host)
    }

    /// A host has lost the disk of a life among the coordinators.
    pub(crate) fn bury(&mut self, host: usize, life: Option<Digest>) {
        self.buried.entry(host).or_default().insert(life);
    }

    pub(crate) fn has_buried(&self, host: usize) -> bool {
        self.buried.contains_key(&host)
    }

    /// Whether a host took part in that life when it lost its disk.
    pub(crate) fn is_buried(&self, host: usize, life: Option<Digest>) -> bool {
        self.buried.get(&host).is_some_and(|lives| lives.contains(&life))
    }

    /// A second machine has the key of a host.
    pub(crate) fn cloned(&mut self, of: usize, name: &HostId, spare: usize) {
        self.twofold.insert(name.clone());
        self.own[spare] = self.own[of].clone();
    }

    /// A host lies about itself.
    pub(crate) fn lies(&mut self, host: &HostId) {
        self.twofold.insert(host.clone());
    }

    /// Whether a host has told two stories of itself, or may.
    pub(crate) fn is_twofold(&self, host: &HostId) -> bool {
        self.twofold.contains(host) || self.forked.contains(host)
    }

    fn note_operators(&mut self, document: &SignedDocument) {
        let Some(fleet) = self.documents.fleet().filter(|fleet| fleet.hash == document.digest()) else {
            return;
        };
        let named: Vec<_> = fleet.operators.values().cloned().collect();
        if !self.operators.is_empty() && named != self.operators {
            let row = key::document(DocumentKind::Fleet, None, fleet.serial, &fleet.hash);
            self.handovers.push(row);
        }
        self.operators = named;
    }

    /// Whether people decided that nobody counts or waits for the host.
    pub(crate) fn is_let_go(&self, host: &HostId, rollout: &RolloutId) -> bool {
        self.left_out.contains(host)
            || self.verbs.iter().any(|verb| {
                matches!(verb, Verb::Skip { host: skipped, rollout: only }
                    if skipped == host && only.as_ref().is_none_or(|only| only == rollout))
            })
    }

    /// The dispatch because of which a host truly counts against budgets.
    pub(crate) fn exposure(&self, host: usize) -> Option<(&RolloutId, &Own)> {
        let converged = self.own[host]
            .values()
            .filter(|own| own.state == HostState::Converged)
            .map(|own| own.log_index)
            .max()
            .unwrap_or(0);
        // Who went back since set its boot default back with it: what waited for a reboot before comes up no more.
        let back = self.own[host].values().filter(|own| own.state == HostState::Reverted);
        let back = back.map(|own| own.log_index).max().unwrap_or(0);
        let passed_over = |own: &Own| own.state == HostState::Deferred && own.log_index < back;
        self.own[host].iter().find(|(_, own)| {
            let is_on = own.in_flight() || own.state == HostState::Failed;
            own.log_index > converged && is_on && !passed_over(own)
        })
    }

    /// Property 3: in the order of their dispatches, each host's budgets had room for it.
    fn check_budgets(&mut self, newcomer: usize, hosts: &[Host]) {
        let exposed: BTreeMap<&HostId, (u64, &RolloutId)> = (0..hosts.len())
            .filter_map(|host| {
                let (rollout, own) = self.exposure(host)?;
                let name = &hosts[host].name;
                (!self.is_let_go(name, rollout) && !self.is_twofold(name))
                    .then_some((name, (own.log_index, rollout)))
            })
            .collect();
        let mut found = None;
        for (name, (log_index, rollout)) in &exposed {
            let Some(plan) = self.plans.get(*rollout) else { continue };
            for budget in plan.budgets_of(name) {
                let together: Vec<&&HostId> = exposed
                    .iter()
                    .filter(|(other, (theirs, _))| budget.hosts.contains(**other) && theirs <= log_index)
                    .map(|(other, _)| other)
                    .collect();
                if together.len() > budget.limit {
                    found = Some(format!(
                        "budget {} of {rollout} allows {} and {together:?} are in flight (newest: {})",
                        budget.index + 1,
                        budget.limit,
                        hosts[newcomer].name
                    ));
                }
            }
        }
        if let Some(what) = found {
            self.broken(3, what);
        }
    }

    /// A host gossips: of its own feed only what is on its disk.
    pub(crate) fn published(&mut self, now: u64, host: usize, topic: Topic, bytes: &[u8], hosts: &[Host]) {
        self.now = now;
        if topic != Topic::Events || hosts[host].lies() {
            return;
        }
        let sealed = Sealed::parse(bytes).ok();
        let envelope = sealed.and_then(|sealed| codec::decode::<Envelope>("envelope", sealed.payload()).ok());
        let Some(envelope) = envelope else { return };
        let row = key::feed(&envelope.host, envelope.incarnation, envelope.seq);
        if hosts[host].disk.row(Table::Feeds, &row).is_none_or(|stored| stored != bytes) {
            let what =
                format!("{} published feed position {} before it was durable", envelope.host, envelope.seq);
            self.broken(10, what);
        }
    }

    /// A machine begins a job.
    pub(crate) fn begins(&mut self, now: u64, host: usize, job: &JobName, target: &Closure, hosts: &[Host]) {
        self.now = now;
        let (rollout, log_index, rollback) = job;
        let name = &hosts[host].name;
        if *rollback {
            let prior = self.own[host].get(rollout).and_then(|own| own.prior.clone());
            if prior.as_ref() != Some(target) && !self.is_twofold(name) && !self.put_back.contains(name) {
                self.broken(9, format!("{name} rolls back to {target}, and {prior:?} ran before"));
            }
            return;
        }
        if self.plans.get(rollout).and_then(|plan| plan.targets.get(name)) != Some(target) {
            self.broken(1, format!("{name} activates {target} for {rollout}, which nobody signed for it"));
        }
        self.check_certificate(rollout, *log_index, &hosts[host]);
        let first = self.begun.insert((host, rollout.clone(), *log_index));
        if !first && !self.is_twofold(name) && !self.put_back.contains(name) {
            self.broken(6, format!("{name} begins twice to activate for entry {log_index} of {rollout}"));
        }
    }

    /// A machine comes up on what a switch had set for it.
    pub(crate) fn boots(&mut self, now: u64, host: usize, closure: &Closure, hosts: &[Host]) {
        self.now = now;
        if self.is_twofold(&hosts[host].name) {
            return;
        }
        let newest = self.own[host].iter().max_by_key(|(_, own)| own.log_index);
        let Some((rollout, own)) = newest.filter(|(_, own)| own.state == HostState::Deferred) else { return };
        let channel = rollout.channel();
        let barred = self.quarantines[host].iter().any(|(on, what, id)| {
            *on == channel && what == closure && !self.lifted.contains(&(on.clone(), *id))
        });
        if barred && own.target == *closure {
            let what = format!("{} boots into {closure}, which it knows to be quarantined", hosts[host].name);
            self.broken(5, what);
        }
    }

    /// A node tells people something.
    pub(crate) fn told(&mut self, now: u64, host: usize, note: &Note, name: &HostId) {
        self.now = now;
        if matches!(note, Note::FeedUnconfirmed) {
            self.unheard.insert(name.clone());
        }
        if let Note::Leading { leads: true, term } = note
            && *self.leaders.entry(*term).or_insert(host) != host
        {
            self.broken(7, format!("two coordinators lead in term {term}"));
        }
    }
}
