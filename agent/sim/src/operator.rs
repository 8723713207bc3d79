//! What operators do while a run goes on: releases, other fleet documents, and commands.

mod recovery;

use std::time::Duration;

use muster_core::document::{ChannelRefDocument, Verb};
use muster_core::id::{Closure, RolloutId};
use muster_core::ledger::Ledger;
use muster_core::wire::RolloutState;
use muster_signing::{Namespace, SignedDocument, Verified};
use serde_json::{Value, json};

use crate::draw::Draft;
use crate::fault::Fault;
use crate::random::Random;
use crate::world::World;

/// What an operator may do beside releasing, as kinds of faults.
const ACTS: [Fault; 18] = [
    Fault::Refresh,
    Fault::Rollback,
    Fault::FleetChange,
    Fault::HostRemoved,
    Fault::HostMoved,
    Fault::PauseCommand,
    Fault::ResumeCommand,
    Fault::CancelCommand,
    Fault::PromoteCommand,
    Fault::ClearCommand,
    Fault::LiftCommand,
    Fault::SkipCommand,
    Fault::RepeatedDocument,
    Fault::OldDocument,
    Fault::ForgedDocument,
    Fault::OperatorChanged,
    Fault::RevokedSigner,
    Fault::ReadmitCommand,
];

/// How long operators wait for a readmission to have its effect, in microseconds.
const READMITS_EVERY: u64 = 30_000_000;

/// What was released under a name.
#[derive(Debug, Clone)]
struct Release {
    channel: usize,
    name: String,
    targets: serde_json::Map<String, Value>,
}

/// The people who run the fleet.
#[derive(Debug)]
pub(crate) struct Operator {
    pub(crate) draft: Draft,
    random: Random,
    releases: Vec<Release>,
    documents: Vec<Verified<SignedDocument>>,
    /// Signed, and not handed to any host yet: from when on it may be.
    waiting: Vec<(u64, Verified<SignedDocument>)>,
    paused: Vec<Value>,
    /// Before this nobody is readmitted again.
    readmits_at: u64,
}

impl Operator {
    pub(crate) fn new(draft: Draft, random: Random) -> Self {
        Self {
            draft,
            random,
            releases: Vec::new(),
            documents: Vec::new(),
            waiting: Vec::new(),
            paused: Vec::new(),
            readmits_at: 0,
        }
    }

    /// Does one thing.
    pub(crate) fn act(&mut self, world: &mut World) {
        self.hand_over(world);
        if world.recovers_at.is_some_and(|at| at <= world.now) {
            let _ = self.recover(world);
            return;
        }
        let acts: Vec<Fault> = ACTS.into_iter().filter(|act| world.faults.strength(*act) > 0).collect();
        if acts.is_empty() || self.random.percent(40) {
            return self.release(world);
        }
        let pressing = self.pressing(world, &acts).filter(|_| self.random.percent(50));
        let Some(act) = pressing.or_else(|| self.random.pick(&acts).copied()) else { return };
        if self.carry_out(world, act).is_some() {
            world.faults.hit(act);
        }
    }

    /// An act for which there is seldom an occasion, and is one now.
    fn pressing(&mut self, world: &World, acts: &[Fault]) -> Option<Fault> {
        let failed = self.rollout_in(world, has_failed).is_some();
        let open = self.random.percent(15) && self.rollout_in(world, RolloutState::is_open).is_some();
        let barred = self.some_ledger(world).is_some_and(|ledger| ledger.quarantines().next().is_some());
        let occasions = [
            (Fault::ResumeCommand, !self.paused.is_empty()),
            (Fault::RevokedSigner, world.fleet.generation() > 0),
            (Fault::LiftCommand, barred),
            (Fault::ClearCommand, failed),
            (Fault::SkipCommand, open),
            (Fault::PromoteCommand, open),
        ];
        let there: Vec<Fault> = occasions
            .into_iter()
            .filter(|(act, is_there)| *is_there && acts.contains(act))
            .map(|(act, _)| act)
            .collect();
        self.random.pick(&there).copied()
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the other kinds are not acts of operators")]
    fn carry_out(&mut self, world: &mut World, act: Fault) -> Option<()> {
        match act {
            Fault::Refresh => self.again(world, false),
            Fault::Rollback => self.again(world, true),
            Fault::FleetChange => {
                self.draft.change_limits(&mut self.random);
                self.publish_fleet(world)
            }
            Fault::HostRemoved => {
                let before = self.draft.clone();
                let host = self.draft.toggle(&mut self.random)?;
                self.publish_or_undo(world, before, host)
            }
            Fault::HostMoved => {
                let before = self.draft.clone();
                self.draft.have_two_channels(&mut self.random);
                let Some(host) = self.draft.switch_channel(&mut self.random) else {
                    self.draft = before;
                    return None;
                };
                self.publish_or_undo(world, before, host)
            }
            Fault::PauseCommand => {
                let scope = self.scope(world)?;
                self.paused.push(scope.clone());
                self.command(world, "pause", scope)
            }
            Fault::ResumeCommand => {
                // There has to be a pause first; the resumption follows another time.
                let Some(scope) = self.paused.pop() else {
                    self.carry_out(world, Fault::PauseCommand)?;
                    world.faults.hit(Fault::PauseCommand);
                    return None;
                };
                self.command(world, "resume", scope)
            }
            Fault::CancelCommand => {
                let rollout = self.rollout_in(world, RolloutState::is_open)?;
                self.command(world, "cancel", json!({ "rollout": rollout.as_str() }))
            }
            Fault::PromoteCommand => {
                let rollout = self.rollout_in(world, RolloutState::is_open)?;
                let wave = self.random.below(2);
                self.command(world, "promote", json!({ "rollout": rollout.as_str(), "wave": wave }))
            }
            Fault::ClearCommand => {
                let rollout = self.rollout_in(world, has_failed)?;
                self.command(world, "clear", json!({ "rollout": rollout.as_str() }))
            }
            Fault::LiftCommand => self.lift(world),
            Fault::SkipCommand => {
                let rollout = self.rollout_in(world, RolloutState::is_open)?;
                let host = self.random.pick(world.fleet.names())?.clone();
                self.command(world, "skip", json!({ "host": host.as_str(), "rollout": rollout.as_str() }))
            }
            Fault::RepeatedDocument | Fault::OldDocument => {
                let newest = self.documents.len();
                let at = if act == Fault::OldDocument {
                    self.random.index(newest)
                } else {
                    newest.checked_sub(1)?
                };
                let document = self.documents.get(at)?.clone();
                let host = self.some_host(world)?;
                world.inject(host, &document);
                Some(())
            }
            Fault::ReadmitCommand => self.readmit(world),
            Fault::ForgedDocument => {
                let document = self.random.pick(&self.documents)?;
                let forged = world.fleet.forge(document, false);
                let host = self.some_host(world)?;
                world.hand(host, forged);
                Some(())
            }
            Fault::OperatorChanged => self.change_operator(world),
            Fault::RevokedSigner => self.revoked(world),
            _ => None,
        }
    }

    /// Something that an operator signed who was replaced, at a host that knows of that; who has not heard yet may take it.
    fn revoked(&mut self, world: &mut World) -> Option<()> {
        if world.fleet.generation() == 0 {
            self.change_operator(world)?;
            world.faults.hit(Fault::OperatorChanged);
            return None;
        }
        let forged = world.fleet.forge(self.random.pick(&self.documents)?, true);
        let newest = world.truth.documents().fleet().map(|fleet| fleet.hash);
        let knows = |host: &usize| {
            let node = world.hosts[*host].node.as_ref();
            node.is_some_and(|node| node.ledger().documents().fleet().map(|fleet| fleet.hash) == newest)
        };
        let knowing: Vec<usize> = world.up().filter(knows).collect();
        let host = *self.random.pick(&knowing)?;
        world.hand(host, forged);
        Some(())
    }

    /// Another operator takes over; most of the time the newest release is signed anew at once.
    fn change_operator(&mut self, world: &mut World) -> Option<()> {
        world.fleet.change_operator();
        if self.publish_fleet(world).is_none() {
            world.fleet.keep_operator();
            return None;
        }
        if self.random.percent(60) {
            let _ = self.again(world, false);
        }
        Some(())
    }

    fn publish_or_undo(&mut self, world: &mut World, before: Draft, host: usize) -> Option<()> {
        let name = world.fleet.names()[host].clone();
        if self.publish_fleet(world).is_none() {
            self.draft = before;
            return None;
        }
        world.truth.left_out.insert(name);
        Some(())
    }

    /// Signs the draft as the newest fleet document.
    pub(crate) fn publish_fleet(&mut self, world: &mut World) -> Option<()> {
        let document = self.draft.document(&world.fleet);
        let signed = world.fleet.sign_fleet(world.utc(), document);
        self.publish(world, signed)
    }

    /// Releases something new.
    pub(crate) fn release(&mut self, world: &mut World) {
        let channel = self.random.index(self.draft.channels.len());
        let name = format!("r{}", self.releases.len() + 1);
        let Ok(closure) = world.release_named(&name).parse::<Closure>() else { return };
        let random = &mut self.random;
        if world.faults.strikes(random, Fault::BadRelease, 400) || is_to_roll_back(world, random) {
            world.health.unhealthy.insert(closure.clone());
        } else if world.faults.strikes(random, Fault::BrokenRelease, 300) {
            world.health.unswitchable.insert(closure.clone());
        } else if world.faults.strikes(random, Fault::LateFailure, 300) {
            world.health.fails_after.insert(closure.clone(), Duration::from_secs(random.between(2, 60)));
        }
        let partial = random.percent(15);
        let targets: serde_json::Map<String, Value> = self
            .draft
            .hosts
            .iter()
            .zip(world.fleet.names())
            .filter(|(host, _)| host.enrolled && host.channel == channel && !(partial && random.percent(40)))
            .map(|(_, name)| (name.to_string(), json!(closure.as_str())))
            .collect();
        if targets.is_empty() {
            return;
        }
        if self.rollout_in(world, RolloutState::is_open).is_some() {
            world.faults.hit(Fault::Supersede);
        }
        self.sign_release(world, Release { channel, name, targets });
    }

    fn sign_release(&mut self, world: &mut World, release: Release) -> Option<()> {
        let urgent = self.random.percent(10);
        let channel = self.draft.channels[release.channel].name;
        let (at, targets) = (world.utc(), release.targets.clone());
        let signed = world.fleet.sign_ref(at, channel, &release.name, targets, urgent);
        self.publish(world, signed)?;
        self.releases.push(release);
        Some(())
    }

    /// Signs the newest release of a channel anew, or an older one's closures under a new name.
    fn again(&mut self, world: &mut World, older: bool) -> Option<()> {
        let at = if older {
            self.random.index(self.releases.len())
        } else {
            self.releases.len().checked_sub(1)?
        };
        let mut release = self.releases.get(at)?.clone();
        if older {
            release.name = format!("back{}", self.releases.len() + 1);
        }
        let (draft, names) = (&self.draft, world.fleet.names());
        release.targets.retain(|host, _| {
            let number = names.iter().position(|name| name.as_str() == host);
            number.is_some_and(|number| {
                draft.hosts[number].enrolled && draft.hosts[number].channel == release.channel
            })
        });
        if release.targets.is_empty() {
            return None;
        }
        self.sign_release(world, release)
    }

    fn lift(&mut self, world: &mut World) -> Option<()> {
        let ledger = self.some_ledger(world)?;
        let (channel, closure, ..) = ledger.quarantines().next()?;
        let ids: Vec<Value> = ledger
            .quarantines()
            .filter(|(on, what, ..)| *on == channel && *what == closure)
            .map(|(_, _, id, _)| json!({ "logIndex": id.log_index, "ordinal": id.ordinal }))
            .collect();
        let what = json!({ "channel": channel.as_str(), "closure": closure.as_str(), "quarantines": ids });
        self.command(world, "clear", what)
    }

    /// Readmits the coordinators that say that they wait for it; none is there most of the time.
    fn readmit(&mut self, world: &mut World) -> Option<()> {
        let waits = world.awaiting_readmission();
        if self.needs_recovery(world, &waits) {
            return self.recover(world);
        }
        for host in &waits {
            self.command(world, "readmit", json!({ "host": host.as_str() }))?;
        }
        (!waits.is_empty()).then_some(())
    }

    fn command(&mut self, world: &mut World, verb: &str, mut what: Value) -> Option<()> {
        what["verb"] = json!(verb);
        let signed = world.fleet.sign_command(world.utc(), what);
        self.publish(world, signed)
    }

    fn scope(&mut self, world: &World) -> Option<Value> {
        Some(match self.random.below(3) {
            0 => json!({ "channel": self.random.pick(&self.draft.channels)?.name }),
            1 => json!({ "host": self.random.pick(world.fleet.names())?.as_str() }),
            _ => json!({ "rollout": self.rollout_in(world, RolloutState::is_open)?.as_str() }),
        })
    }

    /// Signs and hands over a document; none if it breaks a rule, as an operator's tools would have said.
    fn publish(&mut self, world: &mut World, document: Verified<SignedDocument>) -> Option<()> {
        if let Err(refusal) = world.truth.signed(&document, world.now) {
            world.trace.line(world.now, "ops", || format!("cannot sign: {refusal}"));
            return None;
        }
        let text = String::from_utf8_lossy(document.bytes()).into_owned();
        world.trace.line(world.now, "ops", || format!("sign {text}"));
        self.documents.push(document.clone());
        let late = world.faults.strikes(&mut self.random, Fault::LateDocument, 200);
        let after = if late { self.random.between(5, 90) * 1_000_000 } else { 0 };
        self.waiting.push((world.now + after, document));
        self.hand_over(world);
        Some(())
    }

    /// Hands what is signed to some host each, until one takes it.
    pub(crate) fn hand_over(&mut self, world: &mut World) {
        let now = world.now;
        let due: Vec<_> = self.waiting.extract_if(.., |(from, _)| *from <= now).collect();
        for (_, document) in due {
            let Some(host) = self.some_host(world) else {
                self.waiting.push((now + 2_000_000, document));
                continue;
            };
            world.replies.clear();
            let newest = world.documents_of(host);
            world.hand(host, document.clone());
            // Whoever does not hear the answer, or hears that the fleet document is not there yet, tries again.
            let outdated = self.is_outdated(&document, newest)
                || is_revoked(world, &document)
                || is_stale(world, &document);
            let done = outdated || world.is_held(host, &document);
            if !done {
                self.waiting.push((now + 2_000_000, document));
            }
        }
    }

    /// Whether the host is further than the document already, so that nobody needs it any more.
    fn is_outdated(&self, document: &SignedDocument, newest: u64) -> bool {
        let serial: Option<u64> = serde_json::from_slice::<Value>(document.bytes())
            .ok()
            .and_then(|document| document["serial"].as_u64().filter(|_| document["verb"].is_null()));
        serial.is_some_and(|serial| serial < newest)
    }

    /// Whether anything that was signed has not reached any host yet.
    pub(crate) fn is_done(&self) -> bool {
        self.waiting.is_empty()
    }

    fn some_host(&mut self, world: &World) -> Option<usize> {
        let up: Vec<usize> =
            world.up().filter(|host| self.draft.hosts.get(*host).is_some_and(|it| it.enrolled)).collect();
        self.random.pick(&up).copied()
    }

    fn some_ledger<'w>(&mut self, world: &'w World) -> Option<&'w Ledger> {
        let host = self.some_host(world)?;
        Some(world.hosts[host].node.as_ref()?.ledger())
    }

    fn rollout_in(&mut self, world: &World, wanted: impl Fn(RolloutState) -> bool) -> Option<RolloutId> {
        let ledger = self.some_ledger(world)?;
        let found: Vec<&RolloutId> =
            ledger.rollouts().iter().filter(|(_, record)| wanted(record.state)).map(|(id, _)| id).collect();
        self.random.pick(&found).map(|id| (*id).clone())
    }

    /// Once the faults have stopped: the fleet is recovered if need be, nothing stays paused, and what waits for a person gets its promotion.
    pub(crate) fn tidy(&mut self, world: &mut World) {
        if world.recovers_at.is_some() {
            let _ = self.recover(world);
        }
        while let Some(scope) = self.paused.pop() {
            let _ = self.command(world, "resume", scope);
        }
        let mut wanted = Vec::new();
        if let Some(leader) = world.leader_number()
            && let Some(node) = &world.hosts[leader].node
        {
            for (id, record) in node.ledger().rollouts().iter().filter(|(_, it)| it.state.is_open()) {
                let Some(plan) = node.ledger().plan(id) else { continue };
                for (number, wave) in (0..=record.current_wave).zip(&plan.waves) {
                    let promoted = |verb: &Verb| matches!(verb, Verb::Promote { rollout, wave } if rollout == id && *wave == number);
                    if wave.manual_promotion && !world.truth.verbs.iter().any(promoted) {
                        wanted.push(json!({ "rollout": id.as_str(), "wave": number }));
                    }
                }
            }
        }
        for what in wanted {
            let _ = self.command(world, "promote", what);
        }
        // One command at a time: the host has to hear of it first.
        if self.waiting.is_empty() && world.now >= self.readmits_at {
            self.readmits_at = world.now + READMITS_EVERY;
            if self.readmit(world).is_some() {
                world.faults.hit(Fault::ReadmitCommand);
            }
        }
        self.repeat_lost(world);
        self.hand_over(world);
    }

    /// A document that nobody holds any more, since the only disk with it was lost, is handed over again.
    fn repeat_lost(&mut self, world: &World) {
        for document in &self.documents {
            let known = self.waiting.iter().any(|(_, waiting)| waiting.digest() == document.digest());
            let held = (0..world.hosts.len()).any(|host| world.is_held(host, document));
            let newest = world.up().map(|host| world.documents_of(host)).max().unwrap_or(0);
            let wanted = !is_revoked(world, document) && !is_stale(world, document);
            if !known && !held && !self.is_outdated(document, newest) && wanted {
                self.waiting.push((world.now, document.clone()));
            }
        }
    }
}

fn has_failed(state: RolloutState) -> bool {
    matches!(state, RolloutState::Failed | RolloutState::Reverted)
}

/// Whether a release fails its probes, so that what befalls rollbacks can befall one.
fn is_to_roll_back(world: &mut World, random: &mut Random) -> bool {
    let fails = [Fault::RollbackFails, Fault::RollbackLies]
        .iter()
        .any(|fault| world.faults.looms(random, *fault, 250));
    if fails {
        world.faults.hit(Fault::BadRelease);
    }
    fails
}

/// Whether only operators signed it who were replaced since: nobody takes it any more.
fn is_revoked(world: &World, document: &SignedDocument) -> bool {
    let newest = world.truth.documents().fleet();
    document.namespace() != Namespace::Fleet
        && newest.is_some_and(|fleet| document.count(fleet.operators.values()) == 0)
}

/// Whether a ref was signed so long ago that nobody may publish it any more: it would have to be signed anew.
fn is_stale(world: &World, document: &SignedDocument) -> bool {
    let Ok(parsed) = ChannelRefDocument::parse(document.bytes()) else { return false };
    let named = world.truth.documents().fleet_by_hash(&parsed.fleet_hash);
    let channel = named.and_then(|fleet| fleet.channels.get(&parsed.channel));
    channel.is_some_and(|channel| !parsed.is_fresh(channel, world.utc()))
}
