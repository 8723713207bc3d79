//! One seeded run: a drawn fleet, faults for a while, then calm in which everything has to come to its end.

mod certified;
mod held;

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::DateTime;
use muster_core::gate;
use muster_core::id::RolloutId;
use muster_core::ledger::{Table, key};
use muster_core::node::{INCARNATION_AHEAD_MAX, Node};
use muster_core::wire::{HealthPolicy, HostState};

use crate::draw::{Draft, Size};
use crate::fault::{Fault, Faults};
use crate::host::Bug;
use crate::operator::Operator;
use crate::property::Violation;
use crate::random::Random;
use crate::strike::Striker;
use crate::world::{Habits, World, micros};

/// Between two looks at whether a run has come to its end.
const LOOK: Duration = Duration::from_secs(5);
/// Looks in a row at which everything that is open was held by something nameable.
const HELD_LOOKS: u32 = 12;
/// What the calm may take beyond the fleet's own limits: a retry is put off for up to ten minutes.
const SLACK: Duration = Duration::from_secs(600 + 120);
/// More steps than these are a storm: something asks and is answered without end.
const STEPS_PER_HOST_AND_SECOND_MAX: u64 = 400;
/// Steps that a run may take beyond them.
const STEPS_AT_ONCE_MAX: u64 = 20_000;
/// How long a host may wait for a reboot by every policy that is drawn.
const DEFERRED: Duration = Duration::from_secs(3600);
/// How far ahead the jumps of one run may have brought a clock.
const AHEAD: Duration = Duration::from_secs(3600);
/// How long a rollback may take.
const ROLLBACK: Duration = Duration::from_secs(120);
/// How soon everybody holds the same.
const SAME: Duration = Duration::from_secs(60);
/// How long the same may go on to differ in ever new ways.
const MOVING: Duration = Duration::from_secs(600);

/// What a run is made of, where that is not left to the seed.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// How large the fleet is.
    pub size: Size,
    /// The kinds of faults; none: the seed's own mix.
    pub faults: Option<Vec<Fault>>,
    /// Whether keys are real.
    pub real_signatures: bool,
    /// Whether a story for people is kept.
    pub trace: bool,
    /// A bug that every node has.
    pub bug: Option<Bug>,
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// How many hosts it had.
    pub hosts: usize,
    /// How many of them coordinated.
    pub coordinators: usize,
    /// The first property that did not hold.
    pub violation: Option<Violation>,
    /// Steps that nodes took.
    pub steps: u64,
    /// What they were taken for.
    pub inputs: BTreeMap<&'static str, u64>,
    /// Virtual time.
    pub took: Duration,
    /// The hash of everything that happened.
    pub hash: u64,
    /// How often each kind of fault struck.
    pub hits: BTreeMap<Fault, u64>,
    /// Certified decisions.
    pub decisions: usize,
    /// How rollouts ended.
    pub ended: BTreeMap<&'static str, usize>,
    /// The story, if it was wanted.
    pub lines: Vec<String>,
}

/// Runs a seed from its beginning to its end.
pub fn run(seed: u64, options: &Options) -> Outcome {
    let mut run = Run::new(seed, options);
    run.play();
    run.outcome(seed)
}

struct Run {
    world: World,
    operator: Operator,
    striker: Striker,
    random: Random,
}

impl Run {
    fn new(seed: u64, options: &Options) -> Self {
        let root = Random::new(seed);
        let mut random = root.fork("run");
        let draft = Draft::draw(&mut root.fork("fleet"), options.size);
        let habits = Habits {
            heartbeat: Duration::from_secs(random.between(5, 30)),
            sync_interval: Duration::from_secs(random.between(5, 20)),
            probe_interval: Duration::from_secs(random.between(1, 10)),
            real_signatures: options.real_signatures || random.percent(3),
            retention: Habits::draw_retention(&mut root.fork("retention")),
            snapshot_entries: Habits::draw_snapshot_entries(&mut root.fork("snapshots")),
        };
        let mut world = World::asleep(root.fork("world").next(), draft.hosts.len(), habits);
        world.trace.wanted = options.trace;
        world.faults = Faults::draw(&mut root.fork("faults"), options.faults.as_deref());
        if [Fault::FetchNever, Fault::FetchLate].iter().any(|fault| world.faults.strength(*fault) > 0) {
            world.fetch_ahead();
        }
        world.coordinators.clone_from(&draft.coordinators);
        let striker = Striker::new(root.fork("strikes"));
        for host in &mut world.hosts {
            host.bug = options.bug;
        }
        if options.size.lies {
            world.choose_liars(draft.coordinators.len(), &mut root.fork("liars"));
        }
        world.choose_lying_hosts(draft.coordinators.len(), &mut root.fork("lying hosts"));
        let operator = Operator::new(draft, root.fork("operators"));
        Self { world, operator, striker, random }
    }

    fn play(&mut self) {
        self.world.wake();
        self.pass(Duration::from_secs(2));
        if self.operator.publish_fleet(&mut self.world).is_none() {
            self.world.truth.broken(0, "the drawn fleet document breaks a rule".to_owned());
        }
        self.trouble();
        self.calm();
        self.await_certificates();
        self.settle();
    }

    /// Lets time pass; false once a property is broken.
    fn pass(&mut self, time: Duration) -> bool {
        let end = self.world.now + micros(time);
        while self.world.truth.violation.is_none() && self.world.advance(end) {
            let (steps, hosts) = (self.world.steps(), self.world.hosts.len() as u64);
            let virtual_secs = self.world.now / 1_000_000;
            if steps > STEPS_AT_ONCE_MAX + virtual_secs * hosts * STEPS_PER_HOST_AND_SECOND_MAX {
                let what = format!("{steps} steps in {virtual_secs} s: {:?}", self.world.inputs);
                self.world.truth.broken(12, what);
            }
        }
        self.world.truth.violation.is_none()
    }

    /// The time of faults.
    fn trouble(&mut self) {
        let end = self.world.now + self.random.between(60, 600) * 1_000_000;
        let pace = self.random.between(2, 40) * 1_000_000;
        let acts = self.random.between(10, 150) * 1_000_000;
        let mut strike = self.world.now + self.random.between(5, 30) * 1_000_000;
        let mut act = self.world.now + self.random.between(3, 15) * 1_000_000;
        while self.world.now < end {
            let due = self.striker.next_due().unwrap_or(end);
            let next = due.min(strike).min(act).min(end);
            let wait = Duration::from_micros(next.saturating_sub(self.world.now));
            if !self.pass(wait) {
                return;
            }
            self.striker.go_on(&mut self.world);
            if self.world.now >= strike {
                self.striker.strike(&mut self.world);
                strike = self.world.now + self.random.between(1, pace * 2);
            }
            if self.world.now >= act {
                self.operator.act(&mut self.world);
                act = self.world.now + self.random.between(1, acts * 2);
            }
        }
    }

    /// Everything is repaired, and what is open has to end.
    fn calm(&mut self) {
        self.world.trace.line(self.world.now, "****", || "calm from here on".to_owned());
        self.world.draw_rebooting(&mut self.random);
        self.striker.calm(&mut self.world);
        self.world.end_lies();
        let paused = self.world.hosts.iter().map(|host| host.paused_until).max().unwrap_or(0);
        let wait = Duration::from_micros(paused.saturating_sub(self.world.now));
        if !self.pass(wait) {
            return;
        }
        let end = self.world.now + micros(self.bound());
        let mut held = 0;
        loop {
            self.operator.tidy(&mut self.world);
            self.world.reboot_waiting(&mut self.random);
            if !self.pass(LOOK) {
                return;
            }
            let out = self.world.awaiting_readmission();
            let open = self.open();
            let stuck: Vec<&(RolloutId, Option<String>)> =
                open.iter().filter(|(_, why)| why.is_none()).collect();
            held = if stuck.is_empty() && out.is_empty() && self.operator.is_done() { held + 1 } else { 0 };
            if held >= HELD_LOOKS || (open.is_empty() && held > 1 && self.all_vote()) {
                return;
            }
            if self.world.now > end {
                let what = match (self.world.leader_number(), stuck.first()) {
                    (Some(_), None) if !out.is_empty() => format!("{out:?} still wait to be readmitted"),
                    (None, _) => "nobody leads the coordinators".to_owned(),
                    (Some(_), Some((id, _))) => self.why_open(id),
                    (Some(_), None) => "a document reaches no host".to_owned(),
                };
                return self.world.truth.broken(12, what);
            }
        }
    }

    /// Every open rollout by the leader's view, with what nameable holds it.
    fn open(&self) -> Vec<(RolloutId, Option<String>)> {
        let Some(node) = self.leader() else {
            return vec![("none@none".parse().unwrap_or_else(|error| panic!("{error}")), None)];
        };
        let open = node.ledger().rollouts().iter().filter(|(_, record)| record.state.is_open());
        open.map(|(id, _)| (id.clone(), self.held_by(node, id))).collect()
    }

    /// Whether every coordinator votes that can: a readmitted one has to learn first.
    fn all_vote(&self) -> bool {
        let voters = self.leader().and_then(|node| node.ledger().group()).map(|group| &group.voters);
        let names = self.world.fleet.names();
        let members = self.operator.draft.coordinators.iter().filter_map(|number| {
            let host = &names[*number];
            let key = self.world.fleet.hosts().get(host)?.public();
            Some(self.leader()?.ledger().member_of(&key, host))
        });
        let members: std::collections::BTreeSet<_> = members.collect();
        voters == Some(&members)
    }

    fn leader(&self) -> Option<&Node> {
        self.world.hosts[self.world.leader_number()?].node.as_ref()
    }

    fn why_open(&self, id: &RolloutId) -> String {
        let (Some(leader), Some(node)) = (self.world.leader_number(), self.leader()) else {
            return "nobody leads the coordinators".to_owned();
        };
        let now = self.world.hosts[leader].now(self.world.now);
        let Some(plan) = node.ledger().plan(id) else {
            return format!("{id} is open, and its plan is not held");
        };
        let record = node.ledger().rollouts().get(id);
        let state = record.map_or("gone", |record| record.state.name());
        let blocked: Vec<String> = node.with_view(now, |view| {
            let hosts = plan.hosts().map(|host| {
                let standing = view.standing(plan, host, now.utc);
                let gate = gate::admit(view, plan, host, now.utc).err().map(|blocked| blocked.to_string());
                format!("{host} {standing:?} {}", gate.unwrap_or_default())
            });
            let wave = record.map_or(0, |record| record.current_wave);
            let wave = format!("wave {wave}: {:?}", gate::wave_state(view, plan, wave, now.utc));
            hosts.chain([wave]).collect()
        });
        let nodes =
            self.world.hosts.iter().filter_map(|host| Some((host.name.as_str(), host.node.as_ref()?)));
        let waiting: Vec<String> = nodes
            .flat_map(|(host, node)| {
                let newest = node.waiting_decisions().collect::<Vec<_>>().into_iter().rev().take(4);
                newest.map(move |it| format!("{host}: {} ({:?}, {})", it.about, it.waits_for, it.signatures))
            })
            .collect();
        let awaits =
            node.awaits().map_or(String::new(), |hash| format!("; the log waits for document {hash}"));
        let blocked = blocked.join("; ");
        format!("{id} is still {state}: {blocked}; decisions that wait: {waiting:?}{awaits}")
    }

    /// How long everything may take by the policies of what is open.
    fn bound(&self) -> Duration {
        let plans = self.world.truth.plans.values().map(|plan| {
            let policy = &plan.policy;
            let host = policy.activation_timeout_secs
                + 2 * policy.sustained_failure_secs
                + policy.dispatch_timeout_secs;
            let waves = plan.waves.iter().map(|wave| wave.hosts.len() as u64 * (wave.soak_secs + host));
            let fetches = policy.fetch_timeout_secs * plan.waves.len() as u64;
            Duration::from_secs(waves.sum::<u64>() + policy.lost_after_secs + fetches)
        });
        let deferred = if self.world.is_never_rebooted() { DEFERRED } else { Duration::ZERO };
        plans.max().unwrap_or_default() * 2 + SLACK + deferred
    }

    /// Nobody takes a feed in that began while its host's clock was far ahead, before that time comes near: what is in it
    /// is on its way until then.
    fn await_feeds(&mut self) {
        let begun_at = |world: &World| {
            let feeds = world.hosts.iter().filter_map(|host| host.node.as_ref()?.ledger().feed(&host.name));
            let latest = feeds.map(|feed| feed.incarnation()).max().unwrap_or(0);
            DateTime::from_timestamp_millis(i64::try_from(latest).unwrap_or(i64::MAX)).unwrap_or_default()
        };
        let end = self.world.now + micros(AHEAD);
        let is_ahead = |world: &World| world.utc() + INCARNATION_AHEAD_MAX < begun_at(world);
        while self.world.now < end && is_ahead(&self.world) && self.pass(LOOK) {}
    }

    /// After all has ended: everybody holds the same, nothing is owed, and every view is what its arrivals derive.
    fn settle(&mut self) {
        self.await_feeds();
        let begun = self.world.now;
        let mut differs: Option<(String, u64)> = None;
        while self.world.truth.violation.is_none() {
            let now = self.world.now;
            differs = self.difference().map(|what| match differs.take() {
                Some((known, since)) if known == what => (what, since),
                // What was said a moment ago may still be on its way; what is stuck stays the same.
                Some(_) | None => (what, now),
            });
            let Some((_, since)) = &differs else { break };
            if now >= since + micros(SAME) || now >= begun + micros(MOVING) {
                break;
            }
            let _ = self.pass(LOOK);
        }
        if let Some((what, _)) = differs {
            self.world.truth.broken(13, what);
        }
        if self.world.truth.violation.is_some() {
            return;
        }
        // A rollback that has just begun may take its time.
        let end = self.world.now + micros(ROLLBACK);
        while self.world.now < end && self.owed().is_some() && self.pass(LOOK) {}
        if let Some(what) = self.owed() {
            self.world.truth.broken(9, what);
        }
        // What was issued and is not durable yet belongs to the state of the node, not to its disk.
        let _ = self.pass(Duration::from_millis(50));
        if let Err(what) = self.world.check_views() {
            self.world.truth.broken(11, what);
        }
        if let Some(what) = self.world.logs_differ() {
            self.world.truth.broken(17, what);
        }
    }

    fn difference(&self) -> Option<String> {
        let fleet = self.world.truth.documents().fleet()?;
        let of: Vec<(usize, &Node)> = self
            .world
            .hosts
            .iter()
            .enumerate()
            .filter(|(_, host)| fleet.hosts.contains_key(&host.name) && !host.lies())
            .filter(|(number, host)| {
                *number < self.world.fleet.names().len() && !self.world.truth.is_twofold(&host.name)
            })
            .filter_map(|(number, host)| Some((number, host.node.as_ref()?)))
            .collect();
        let (first, node) = of.first()?;
        for (other, with) in &of {
            let (a, b) = (&self.world.hosts[*first].name, &self.world.hosts[*other].name);
            let documents = |node: &Node| {
                let documents = node.ledger().documents();
                // What only operators signed who were replaced since, a host that comes late takes from nobody.
                let signed =
                    documents.channel_refs().filter(|(_, held)| documents.is_still_signed(&held.hash));
                let refs: Vec<_> = signed.map(|(channel, held)| (channel.clone(), held.hash)).collect();
                let commands: Vec<_> =
                    documents.commands_in_force(self.world.utc()).map(|it| it.hash).collect();
                (documents.fleet().map(|held| held.hash), refs, commands)
            };
            if documents(node) != documents(with) {
                let (mine, theirs) = (documents(node), documents(with));
                return Some(format!("{a} and {b} hold other documents: {mine:?} and {theirs:?}"));
            }
            let base = node.ledger().log_begins_behind();
            for table in [Table::Decisions, Table::Feeds] {
                let (mine, theirs) = (self.world.disk(*first), self.world.disk(*other));
                // Of a host that was left out nothing more is taken in, so what is held of it may differ.
                let counts = |row: &[u8]| {
                    // What was certified before a recovery, who holds that takes from nobody.
                    if table == Table::Decisions {
                        let of_now = log_index(row).is_none_or(|index| index > base);
                        return of_now && self.is_verifiable(row, &[*node, *with]);
                    }
                    let host = row.split(|byte| *byte == 0).next().unwrap_or_default();
                    let mut names = fleet.hosts.keys().filter(|name| !self.world.truth.is_twofold(name));
                    names.any(|name| name.as_str().as_bytes() == host)
                };
                for (who, whom, keys) in
                    [(a, b, mine.lacking(theirs, table, counts)), (b, a, theirs.lacking(mine, table, counts))]
                {
                    let Some(first) = keys.first() else { continue };
                    let first = key::read_feed(first).filter(|_| table == Table::Feeds).map_or_else(
                        || format!("{first:?}"),
                        |(host, incarnation, seq)| format!("position {seq} of {host}'s feed {incarnation}"),
                    );
                    return Some(format!("{who} lacks rows of {table:?} that {whom} has, from {first} on"));
                }
            }
        }
        None
    }

    /// Whether these nodes can verify a decision: all of them hold the fleet document under which it was made, or can still
    /// take it. From operators who were replaced since nobody takes a document that he missed.
    fn is_verifiable(&self, row: &[u8], nodes: &[&Node]) -> bool {
        let Some(serial) = row.first_chunk().map(|serial| u64::from_be_bytes(*serial)) else { return true };
        let all = self.world.truth.documents();
        let (made_under, newest) = (all.fleet_by_serial(serial), all.fleet());
        let replaced = made_under.zip(newest).is_some_and(|(then, now)| !then.same_operators(now));
        !replaced || nodes.iter().all(|node| node.ledger().documents().fleet_by_serial(serial).is_some())
    }

    fn owed(&self) -> Option<String> {
        for (number, host) in self.world.hosts.iter().enumerate() {
            // Of what is lost for good nobody owes anything.
            if host.is_gone || self.world.truth.is_twofold(&host.name) {
                continue;
            }
            for (rollout, own) in &self.world.truth.own[number] {
                let prior = own.prior.as_ref().filter(|prior| **prior != own.target);
                let rolls_back = own.policy == HealthPolicy::RollbackAndHalt && !own.third && prior.is_some();
                if own.state == HostState::Failed && rolls_back && own.rollback.is_none() {
                    return Some(format!("{} failed in {rollout} and never rolled back", host.name));
                }
            }
        }
        None
    }

    fn outcome(mut self, seed: u64) -> Outcome {
        let mut ended = BTreeMap::new();
        if let Some(node) = self.leader() {
            for record in node.ledger().rollouts().values() {
                *ended.entry(record.state.name()).or_default() += 1;
            }
        }
        self.world.inputs.insert("snapshots installed", self.world.truth.installed);
        let inputs = format!("{:?}", self.world.inputs);
        self.world.trace.line(self.world.now, "all", || inputs);
        Outcome {
            seed,
            hosts: self.world.fleet.names().len(),
            coordinators: self.operator.draft.coordinators.len(),
            violation: self.world.truth.violation.clone(),
            steps: self.world.steps(),
            inputs: self.world.inputs.clone(),
            took: Duration::from_micros(self.world.now),
            hash: self.world.trace.hash(),
            hits: self.world.faults.hits().clone(),
            decisions: self.world.truth.decisions.len(),
            ended,
            lines: std::mem::take(&mut self.world.trace.lines),
        }
    }
}

/// Of the key of a certified decision.
fn log_index(row: &[u8]) -> Option<u64> {
    row.get(8..).and_then(|row| row.first_chunk()).map(|index| u64::from_be_bytes(*index))
}
