//! A coordinator's part of the node: the log, the decisions that follow from it, and what it says to them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use muster_signing::{Digest, PublicKey, Purpose, Signature, SigningKey, seal};

use super::approvals::{Approval, Said, Unpublished};
use super::door::CoordinatorMessage;
use super::early::Early;
use super::restore::StoredLog;
use super::turn::Turn;
use super::{Node, Note, Output};
use crate::coordination::approval::CLOCK_AHEAD_MAX;
use crate::coordination::log::{
    self, Config, Entry, Forwarded, Log, MemberId, ProposalId, Ready, Snapshot, Standing, Tolerance, WriteId,
};
use crate::document::fleet::{Fleet, Tolerate};
use crate::id::{FleetName, HostId};
use crate::ledger::{Derived, EntryError};
use crate::planner;
use crate::planted::Planted;
use crate::time::Mono;
use crate::view::View;
use crate::wire::codec;
use crate::wire::{DecisionId, LogPayload};

/// Between two plans, unless an own proposal was applied: many inputs make one plan.
const PLAN_DEBOUNCE: Duration = Duration::from_millis(50);
/// The longest time between two plans.
const PLAN_INTERVAL: Duration = Duration::from_secs(15);
/// The first pause before a host whose dispatch came to nothing is dispatched again.
const RETRY_FIRST: Duration = Duration::from_secs(15);
/// The longest such pause.
const RETRY_MAX: Duration = Duration::from_secs(600);
/// Why a coordinator whose log is of before a recovery stops.
const OTHER_EPOCH: &str = "this coordinator stops: its log is of an epoch that a recovery document has ended";

/// The state of a coordinator.
#[derive(Debug)]
pub(super) struct Coordinator {
    pub(super) log: Log,
    /// For which newest and adopted fleet documents, and how many readmissions, the log was told whom to hear and where to walk.
    pub(super) aimed: (Option<Digest>, Option<Digest>, (usize, usize)),
    pub(super) epoch: Digest,
    /// What the ledger adds to the log's indexes, which begin with 1.
    pub(super) base: u64,
    /// A snapshot that takes the place of all that was applied, once the documents that it names are held.
    pub(super) installing: Option<Box<Snapshot>>,
    /// The certified snapshots of which the log was told.
    pub(super) vouched: BTreeMap<u64, Digest>,
    pub(super) committed: VecDeque<(u64, Entry)>,
    pub(super) approvals: BTreeMap<DecisionId, Approval>,
    /// When evidence was last asked about all of them.
    pub(super) reviewed: Option<Mono>,
    pub(super) review_wanted: bool,
    pub(super) early: Early,
    pub(super) unpublished: BTreeMap<DecisionId, Unpublished>,
    pub(super) void: BTreeSet<DecisionId>,
    pub(super) stored_last: u64,
    pub(super) writes: VecDeque<(u64, Vec<WriteId>)>,
    pub(super) own_signatures: VecDeque<(u64, DecisionId, Signature)>,
    pub(super) said: BTreeMap<DecisionId, Said>,
    pub(super) led: bool,
    pub(super) plan_wanted: bool,
    /// Whether entries are on their way through the log, so that there is nothing to plan on yet.
    pub(super) plan_waits: bool,
    pub(super) planned: Option<Mono>,
    pub(super) retries: BTreeMap<HostId, (Mono, Duration)>,
    pub(super) stopped: Option<String>,
    /// Whether it says nothing yet: it is not known whether its store is what it was.
    pub(super) unproven: bool,
    /// By which command it takes part, if its store was lost once.
    pub(super) life: Option<Digest>,
    /// Whether it took that up since this process started.
    pub(super) life_is_new: bool,
    /// What it remembers of the others' stores, as it was last written.
    pub(super) remembered: BTreeMap<MemberId, log::Echo>,
    pub(super) awaits: Option<Digest>,
    pub(super) planted: Planted,
}

/// Which log a coordinator takes part in.
#[derive(Debug, Clone, Copy)]
pub(super) struct WhichLog {
    pub(super) epoch: Digest,
    /// The index behind which it begins.
    pub(super) base: u64,
}

impl Coordinator {
    pub(super) fn new(
        me: PublicKey,
        of: WhichLog,
        fleet: &Fleet,
        stored: StoredLog,
        seed: u64,
        now: Mono,
        planted: Planted,
    ) -> Self {
        let WhichLog { epoch, base } = of;
        let StoredLog { durable, said, life, memory } = stored;
        let of_log = life.map(|command| log::Life(command.0));
        let founders = fleet.founders().iter().map(member_of).collect();
        let mut config = Config::new(member_of(&me).in_life(of_log), founders, epoch.0, seed);
        config.life = of_log;
        config.vouched_snapshots = true;
        if fleet.coordinators.tolerate == Tolerate::Lies {
            config.tolerance = Tolerance::Lies;
        }
        #[cfg(feature = "planted")]
        {
            config.planted = log_bug(planted);
        }
        let first = durable.entries.first().map(|(_, entry)| entry);
        let of_other = durable.snapshot.is_none()
            && first.is_some_and(|entry| entry.chain_hash != entry.chain_hash_after(&epoch.0));
        let compacted = durable.snapshot.as_ref().map_or(0, |snapshot| snapshot.index);
        Self {
            stored_last: durable.entries.last().map_or(compacted, |(index, _)| *index),
            installing: durable.snapshot.clone().map(Box::new),
            vouched: BTreeMap::new(),
            log: {
                let mut log = Log::new(config, durable, now);
                log.remember(memory.into_iter().collect());
                log
            },
            aimed: (None, None, (0, 0)),
            epoch,
            base,
            committed: VecDeque::new(),
            approvals: BTreeMap::new(),
            review_wanted: false,
            early: Early::default(),
            unpublished: BTreeMap::new(),
            void: BTreeSet::new(),
            writes: VecDeque::new(),
            own_signatures: VecDeque::new(),
            said,
            led: false,
            plan_wanted: true,
            plan_waits: false,
            reviewed: None,
            planned: None,
            retries: BTreeMap::new(),
            stopped: of_other.then(|| OTHER_EPOCH.to_owned()),
            unproven: true,
            life,
            life_is_new: false,
            remembered: BTreeMap::new(),
            awaits: None,
            planted,
        }
    }

    pub(super) fn leads(&self) -> bool {
        self.takes_part() && self.log.standing() == Standing::Leader
    }

    /// The document without which the next entry cannot be applied.
    pub(super) fn awaits(&self) -> Option<Digest> {
        self.awaits
    }

    /// Who leads, as far as this coordinator knows.
    pub(super) fn leader(&self) -> Option<MemberId> {
        self.log.leader()
    }

    /// Whether it takes part: neither stopped, nor still to find out whether its store is what it was.
    pub(super) fn takes_part(&self) -> bool {
        self.stopped.is_none() && !self.unproven
    }

    /// Decisions that wait for signatures, and for what this coordinator waits before it signs.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (&Derived, Option<&str>, usize)> {
        self.approvals
            .values()
            .map(|approval| (&approval.derived, approval.waits_for.as_deref(), approval.signatures.len()))
    }

    /// Whether everything that was committed here has been applied.
    pub(super) fn has_applied_all(&self) -> bool {
        self.installing.is_none() && self.committed.is_empty()
    }

    pub(super) fn want_plan(&mut self) {
        self.plan_wanted = true;
    }

    /// When anything is due next; a leader that waits for its own entries plans again when they are applied.
    pub(super) fn wakes_at(&self) -> Option<Mono> {
        if !self.takes_part() {
            return None;
        }
        let plan = (self.leads() && !self.plan_waits).then(|| match self.planned {
            None => Mono::default(),
            Some(planned) if self.plan_wanted => planned.after(PLAN_DEBOUNCE),
            Some(planned) => planned.after(PLAN_INTERVAL),
        });
        let review = self.review_due();
        let publish = self.unpublished.values().map(|it| it.at).min();
        [self.log.wakes_at(), plan, review, publish].into_iter().flatten().min()
    }
}

/// A coordinator as the log knows it.
pub(super) fn member_of(key: &PublicKey) -> MemberId {
    MemberId(*key.as_bytes())
}

impl Node {
    /// Gives the log's clock a chance, and looks at everything that waits for time to pass.
    pub(super) fn tick_coordinator(&mut self, turn: &mut Turn) {
        let epoch = self.ledger.epoch();
        if let Some(coordinator) = self.coordinator.as_mut().filter(|it| it.takes_part()) {
            if epoch == Some(coordinator.epoch) {
                let ready = coordinator.log.tick(turn.now);
                self.absorb(turn, ready);
            } else {
                coordinator.stopped = Some(OTHER_EPOCH.to_owned());
                turn.tell(Note::Alarm { message: OTHER_EPOCH.to_owned() });
            }
        }
        self.aim(turn);
        self.compact_log(turn);
        self.publish_overdue(turn);
        self.review(turn);
        self.plan(turn);
    }

    /// Tells the log whom to hear, and to which voters to walk: those of the newest fleet document that was adopted.
    fn aim(&mut self, turn: &mut Turn) {
        let Some(coordinator) = self.coordinator.as_mut().filter(|it| it.takes_part()) else { return };
        let documents = self.ledger.documents();
        let (newest, adopted) = (documents.fleet(), self.ledger.adopted().fleet);
        let lives = (self.ledger.readmitted_members().count(), self.ledger.adopted().readmissions.len());
        let aimed = (newest.map(|fleet| fleet.hash), adopted, lives);
        if aimed == coordinator.aimed {
            return;
        }
        coordinator.aimed = aimed;
        let voters = |fleet: &Fleet| -> BTreeSet<MemberId> {
            let members = fleet.electorate().members;
            members.iter().map(|(key, host)| self.ledger.member_of(key, host)).collect()
        };
        let target = adopted.and_then(|hash| documents.fleet_by_hash(&hash)).map(|fleet| voters(fleet));
        let mut known = newest.map(|fleet| voters(fleet)).unwrap_or_default();
        known.extend(
            newest.iter().flat_map(|fleet| fleet.electorate().members.into_keys()).map(|it| member_of(&it)),
        );
        known.extend(self.ledger.readmitted_members());
        known.extend(newest.iter().flat_map(|fleet| fleet.founders()).map(|key| member_of(&key)));
        known.extend(target.iter().flatten());
        coordinator.log.acquaint(known);
        if let Some(target) = target {
            let ready = coordinator.log.aim_for(turn.now, target);
            self.absorb(turn, ready);
        }
        self.forget_readmitted();
    }

    pub(super) fn consensus(&mut self, turn: &mut Turn, from: PublicKey, message: log::Message) {
        // Only leaders propose here, so nothing is forwarded; what says otherwise is meant to harm.
        if matches!(message.body, log::Body::Forward(_)) {
            return;
        }
        if let Some(coordinator) = self.coordinator.as_mut().filter(|it| it.takes_part()) {
            let from = member_of(&from).in_life(message.life);
            let ready = coordinator.log.handle(turn.now, from, message);
            self.absorb(turn, ready);
        }
    }

    /// A batch is durable: what was written with it counts from now on.
    pub(super) fn coordinator_stored(&mut self, turn: &mut Turn, batch: u64) {
        let Some(coordinator) = &mut self.coordinator else { return };
        let me = self.signer.public();
        let mut durable = Vec::new();
        while coordinator.writes.front().is_some_and(|(of, _)| *of <= batch) {
            durable.extend(coordinator.writes.pop_front().into_iter().flat_map(|(_, writes)| writes));
        }
        while coordinator.own_signatures.front().is_some_and(|(of, ..)| *of <= batch) {
            let Some((_, id, signature)) = coordinator.own_signatures.pop_front() else { break };
            if let Some(approval) = coordinator.approvals.get_mut(&id) {
                approval.signatures.insert(me, signature);
            }
        }
        if let Some(last) = durable.into_iter().max() {
            let ready = coordinator.log.stored(turn.now, last);
            self.absorb(turn, ready);
        }
        self.certify(turn);
    }

    /// Does what a step of the log asks for.
    pub(super) fn absorb(&mut self, turn: &mut Turn, ready: Ready) {
        let Some(coordinator) = &mut self.coordinator else { return };
        // What the log says of itself waits for its own writes, and for no others.
        let at_once = ready.write.is_none() && turn.log_writes.is_empty() && coordinator.writes.is_empty();
        if let Some(write) = ready.write {
            let applied = self.ledger.applied().saturating_sub(coordinator.base);
            for operation in write.operations {
                coordinator.store(&mut turn.rows, operation, applied);
            }
            turn.log_writes.push(write.id);
            coordinator.keep_memory(&mut turn.rows);
        }
        for (to, mut message) in ready.messages {
            sign_append(&self.signer, &self.settings.fleet, &mut message);
            if let Some(to) = self.ledger.key_of_member(&to) {
                // Who is asked to take over is told nothing of what is stored here.
                let at_once = at_once || matches!(message.body, log::Body::TimeoutNow(_));
                let message = CoordinatorMessage::Log(message.encode());
                turn.outputs.push(Output::Send { to, message, at_once });
            }
        }
        self.log_alarms(turn, ready.alarms);
        let Some(coordinator) = &mut self.coordinator else { return };
        debug_assert!(
            ready.forwarded.iter().all(|(_, what): &(ProposalId, Forwarded)| matches!(
                what,
                Forwarded::Taken | Forwarded::GivenUp
            )),
            "only the leader proposes here, so nothing is forwarded"
        );
        if ready.installed.is_some() {
            coordinator.committed.clear();
            coordinator.installing = ready.installed;
        }
        coordinator.committed.extend(ready.committed);
        let leads = coordinator.leads();
        if leads != coordinator.led {
            coordinator.led = leads;
            coordinator.planned = None;
            let term = coordinator.log.term();
            turn.outputs.push(Output::Tell(Note::Leading { leads, term }));
        }
        self.apply_committed(turn);
    }

    /// Applies committed entries in order, as far as the documents that they adopt are held.
    pub(super) fn apply_committed(&mut self, turn: &mut Turn) {
        if !self.install_snapshot(turn) {
            return;
        }
        let Some(coordinator) = &mut self.coordinator else { return };
        let mut applied_any = false;
        while let Some((index, entry)) = coordinator.committed.front() {
            let index = coordinator.base + *index;
            if index <= self.ledger.applied() {
                coordinator.committed.pop_front();
                continue;
            }
            match self.ledger.entry(index, entry) {
                Ok(applied) => {
                    for derived in applied.decisions {
                        let of = derived.decision.fleet_serial;
                        let electorate = self.ledger.roster().electorate_or_none(of);
                        coordinator.admit(derived, electorate, turn.now.mono);
                    }
                    coordinator.committed.pop_front();
                    coordinator.awaits = None;
                    applied_any = true;
                }
                Err(error) => {
                    self.cannot_apply(turn, &error);
                    break;
                }
            }
        }
        if applied_any {
            if let Some(coordinator) = &mut self.coordinator {
                coordinator.planned = None;
            }
            self.forget_certified();
            turn.changed = true;
        }
    }

    /// What the log says cannot be applied: not yet, or never by this program.
    pub(super) fn cannot_apply(&mut self, turn: &mut Turn, error: &EntryError) {
        let Some(coordinator) = &mut self.coordinator else { return };
        let way = match error {
            EntryError::Waits { hash } => {
                coordinator.awaits = Some(*hash);
                let leader = coordinator.leader().and_then(|leader| self.ledger.key_of_member(&leader));
                return turn.outputs.push(Output::Fetch { from: leader });
            }
            EntryError::UnknownRules { .. } => "upgrade the agent",
            EntryError::Damaged { .. } => "run the same agent as the other coordinators",
        };
        let message = format!("this coordinator stops: {error}; {way}");
        coordinator.stopped = Some(message.clone());
        turn.outputs.push(Output::Tell(Note::Alarm { message }));
    }

    /// Proposes what the log lacks, if this coordinator leads and everything before has been applied.
    pub(super) fn plan(&mut self, turn: &mut Turn) {
        let (now, retention) = (turn.now, self.retention());
        let Some(coordinator) = &mut self.coordinator else { return };
        let due = match coordinator.planned {
            None => true,
            Some(planned) if coordinator.plan_wanted => now.mono >= planned.after(PLAN_DEBOUNCE),
            Some(planned) => now.mono >= planned.after(PLAN_INTERVAL),
        };
        // What is on its way through the log calls again when it has been applied.
        coordinator.plan_waits = !(coordinator.log.is_settled() && coordinator.has_applied_all());
        if !coordinator.leads() || !due || coordinator.plan_waits || self.ledger.awaited_dispatch().is_some()
        {
            return;
        }
        coordinator.planned = Some(now.mono);
        coordinator.plan_wanted = false;
        let off = self.presences.own_offset(now).filter(|offset| offset.abs() > CLOCK_AHEAD_MAX);
        if let Some(off) = off.filter(|_| coordinator.log.membership().voters.len() > 1) {
            let seconds = off.num_seconds();
            let message = format!(
                "this host's clock is {seconds} s behind the others': another coordinator is to lead"
            );
            turn.outputs.push(Output::Tell(Note::Warning { message }));
            return self.hand_over(turn);
        }
        let hold = coordinator.held_back(now.mono);
        let nobody = BTreeSet::new();
        let view = View::new(&self.ledger, &self.presences, &coordinator.void, &nobody, now.mono);
        // Time in the log does not go back with a leader's clock; but one clock that was far ahead must not pin it there.
        let fair = self.presences.own_offset(now).and_then(|offset| now.utc.checked_add_signed(offset));
        let fair =
            fair.and_then(|at| at.checked_add_signed(CLOCK_AHEAD_MAX)).unwrap_or(now.utc + CLOCK_AHEAD_MAX);
        let last = self.ledger.last_entry_at().filter(|last| *last <= fair);
        let at = now.utc.max(last.unwrap_or(now.utc));
        let mut statements = planner::propose_or_expire(&view, &hold, retention, at);
        if statements.is_empty() {
            statements.extend(self.raise_rules());
        }
        statements.extend(self.ask_for_snapshot());
        if statements.is_empty() {
            return;
        }
        let Some(coordinator) = &mut self.coordinator else { return };
        for statement in &statements {
            if let crate::wire::LogStatement::Withdrawn { log_index, ordinal } = statement {
                let id = DecisionId { log_index: *log_index, ordinal: *ordinal };
                if let Some(host) = host_of(&self.ledger, id) {
                    coordinator.retry_later(host, now.mono);
                }
            }
        }
        let rules = self.ledger.rules();
        let payloads =
            statements.into_iter().map(|what| codec::encode(&LogPayload { rules, what })).collect();
        match coordinator.log.propose(now, payloads) {
            Ok((_, ready)) => self.absorb(turn, ready),
            Err(error) => turn.outputs.push(Output::Tell(Note::Warning { message: error.to_string() })),
        }
    }
}

impl Coordinator {
    pub(super) fn held_back(&mut self, now: Mono) -> BTreeSet<HostId> {
        self.retries.retain(|_, (until, pause)| now < until.after(*pause * 2));
        self.retries.iter().filter(|(_, (until, _))| now < *until).map(|(host, _)| host.clone()).collect()
    }

    pub(super) fn retry_later(&mut self, host: HostId, now: Mono) {
        let pause = self.retries.get(&host).map_or(RETRY_FIRST, |(_, pause)| (*pause * 2).min(RETRY_MAX));
        self.retries.insert(host, (now.after(pause), pause));
    }
}

fn host_of(ledger: &crate::ledger::Ledger, id: DecisionId) -> Option<HostId> {
    let slots = ledger.slots();
    slots.hosts().find(|host| slots.of(host).any(|slot| slot.decision == id)).cloned()
}

fn sign_append(signer: &SigningKey, fleet: &FleetName, message: &mut log::Message) {
    if let Some(head) = message.head_bytes() {
        let signature = seal(signer, Purpose::Append, fleet.as_str(), &head);
        message.set_signature(signature);
    }
}

/// The planted bug that is the log's own.
#[cfg(feature = "planted")]
fn log_bug(planted: Planted) -> Option<log::Planted> {
    use crate::planted::Bug;

    let bugs =
        [(Bug::VoteTwice, log::Planted::VoteTwice), (Bug::SkipElectability, log::Planted::SkipElectability)];
    bugs.into_iter().find(|(bug, _)| planted.has(*bug)).map(|(_, in_log)| in_log)
}
