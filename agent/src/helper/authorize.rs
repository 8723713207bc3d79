//! The judgement: whether an order may be carried out, and what is remembered of it before it is.

use chrono::{DateTime, Utc};
use muster_core::document::plan::RefOrder;
use muster_core::document::{Acceptance, Document, Documents, Plan, Trust};
use muster_core::id::{Closure, HostId};
use muster_core::ledger;
use muster_core::verify::{self, Certified, Roster};
use muster_core::wire::{Decision, DecisionBody, DocumentKind};
use muster_signing::{Digest, SignedDocument, Verified};

use super::memory::{KnownFleet, LastSwitch, Memory, Phase, Ran, USED_MAX, Used};
use super::protocol::{CarryOut, Papers};
pub use super::refused::Refused;
use crate::activation::nixos::root::{Dispatch, Order};

/// What the helper knows of its own host, none of it from the daemon.
#[derive(Debug, Clone)]
pub struct Site {
    /// The host's name, of the root-owned configuration.
    pub host: HostId,
    /// The pinned root, of the root-owned trust file.
    pub trust: Trust,
    /// What runs now.
    pub running: Option<Closure>,
}

/// An order that every rule allows, not yet remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorized {
    order: Order,
    /// What the operators signed of the system's contents, if they did.
    contents: Option<Digest>,
    /// The memory once the order is begun; none if nothing is to be remembered of it.
    after: Option<Memory>,
}

/// An order that every rule allows and that is remembered: this, and nothing else, is carried out.
#[derive(Debug, PartialEq, Eq)]
pub struct Act {
    order: Order,
    after: Option<Memory>,
}

impl Authorized {
    /// The system that is to be switched to and the digest of its contents, where operators signed that too.
    pub fn contents(&self) -> Option<(&Closure, Digest)> {
        match &self.order {
            Order::Switch { to, .. } | Order::Boot { to, .. } => Some((to, self.contents?)),
            Order::RollBack { .. } | Order::Reset(_) => None,
        }
    }

    /// Hands the memory as it is from now on to `write`, which makes it durable; only then there is an act.
    pub fn remembered<E>(self, write: impl FnOnce(&Memory) -> Result<(), E>) -> Result<Act, E> {
        if let Some(memory) = &self.after {
            write(memory)?;
        }
        Ok(Act { order: self.order, after: self.after })
    }
}

impl Act {
    /// What is to be done.
    pub fn order(&self) -> &Order {
        &self.order
    }

    /// The memory once it was done; none if nothing is remembered of it.
    pub fn done(self) -> Option<Memory> {
        let mut memory = self.after?;
        let last = memory.last.as_mut()?;
        match &mut last.rollback {
            Some(rollback) => *rollback = Phase::Done,
            None => last.phase = Phase::Done,
        }
        Some(memory)
    }
}

/// Judges an order by what was handed over with it, what this host knows by itself, and what is remembered.
pub fn authorize(
    request: &CarryOut,
    site: &Site,
    memory: &Memory,
    now: DateTime<Utc>,
) -> Result<Authorized, Refused> {
    match &request.order {
        Order::Switch { dispatch, to, .. } | Order::Boot { dispatch, to, .. } => {
            a_system(to)?;
            let papers = request.papers.as_ref().ok_or(Refused::NoPapers)?;
            let case = Case::open(papers, site, memory, now)?;
            let timeout_secs = case.plan.policy.activation_timeout_secs;
            let contents = case.contents();
            let after = case.judge(dispatch, to)?;
            let (dispatch, to) = (dispatch.clone(), to.clone());
            let order = if matches!(request.order, Order::Boot { .. }) {
                Order::Boot { dispatch, to, timeout_secs }
            } else {
                Order::Switch { dispatch, to, timeout_secs }
            };
            Ok(Authorized { order, contents, after: Some(after) })
        }
        Order::RollBack { dispatch, to, live, .. } => {
            a_system(to)?;
            let (timeout_secs, after) = way_back(dispatch, to, memory)?;
            let (dispatch, to, live) = (dispatch.clone(), to.clone(), *live);
            let order = Order::RollBack { dispatch, to, timeout_secs, live };
            Ok(Authorized { order, contents: None, after: Some(after) })
        }
        // Only a unit that has ended is let go of, and its name is made of parsed words: nothing runs otherwise for it.
        Order::Reset(unit) => {
            Ok(Authorized { order: Order::Reset(unit.clone()), contents: None, after: None })
        }
    }
}

fn a_system(closure: &Closure) -> Result<(), Refused> {
    match closure.directory_release() {
        None => Ok(()),
        Some(_) => Err(Refused::NotAStorePath(closure.clone())),
    }
}

/// The way back from the last switch: only to what ran before it, and only once.
fn way_back(dispatch: &Dispatch, to: &Closure, memory: &Memory) -> Result<(u64, Memory), Refused> {
    let mut after = memory.clone();
    let last = after.last.as_mut().filter(|last| last.is_for(dispatch));
    let Some(last) = last else {
        let last = memory.last.as_ref().map(|last| name(&last.dispatch()));
        return Err(Refused::NothingToRollBack { asked: name(dispatch), last });
    };
    if last.rollback == Some(Phase::Done) {
        return Err(Refused::RolledBack);
    }
    if last.from.as_ref() != Some(to) {
        return Err(Refused::OtherWayBack { asked: to.clone(), from: last.from.clone() });
    }
    last.rollback = Some(Phase::Begun);
    Ok((last.timeout_secs, after))
}

impl LastSwitch {
    fn dispatch(&self) -> Dispatch {
        Dispatch { rollout: self.rollout.clone(), log_index: self.decision.id.log_index }
    }

    fn is_for(&self, dispatch: &Dispatch) -> bool {
        self.dispatch() == *dispatch
    }
}

fn name(dispatch: &Dispatch) -> String {
    format!("{} at log index {}", dispatch.rollout, dispatch.log_index)
}

/// The papers of one switch, the signatures on each of them verified.
struct Case<'a> {
    site: &'a Site,
    memory: &'a Memory,
    now: DateTime<Utc>,
    documents: Documents,
    /// Whether the documents begin with the remembered one, not with one that the pinned operators signed.
    anchored: bool,
    plan: std::sync::Arc<Plan>,
    certified: Certified,
}

impl<'a> Case<'a> {
    /// Accepts every document in order, as any node of the fleet does, and verifies the certificate under them.
    fn open(
        papers: &Papers,
        site: &'a Site,
        memory: &'a Memory,
        now: DateTime<Utc>,
    ) -> Result<Self, Refused> {
        let now = memory.not_before(now);
        let fleets = papers.fleets.iter().map(|wire| read("a fleet document", wire));
        let (mut documents, anchored) = accept(&fleets.collect::<Result<Vec<_>, _>>()?, site, memory, now)?;
        let channel_ref = read("the channel ref", &papers.channel_ref)?;
        let hash = match documents.check(&channel_ref, now) {
            Ok(Acceptance::New(accepted)) if accepted.document().kind() == DocumentKind::ChannelRef => {
                let hash = accepted.document().hash();
                documents.insert(accepted);
                hash
            }
            Ok(Acceptance::New(_) | Acceptance::Duplicate) => {
                return Err(Refused::Kind { what: "the channel ref" });
            }
            Ok(Acceptance::Waits { fleet_serial, .. }) => return Err(Refused::RefWithoutFleet(fleet_serial)),
            Err(refusal) => return Err(Refused::Ref(Box::new(refusal))),
        };
        // A ref that was let in has a plan: the document that it names is there, and it fits.
        let plan = documents.plan_by_ref(&hash).ok_or(Refused::Kind { what: "the channel ref" })?;
        let roster = Roster::of(site.trust.fleet.clone(), &documents);
        let certified = verify::certificate(&roster, &papers.certificate).map_err(Refused::Certificate)?;
        Ok(Self { site, memory, now, documents, anchored, plan, certified })
    }

    /// Asks every rule, and gives the memory as it is once the switch is begun.
    fn judge(&self, dispatch: &Dispatch, to: &Closure) -> Result<Memory, Refused> {
        let fleet = self.of_today()?;
        let decision = &self.certified.decision;
        let target = self.dispatched(decision)?;
        let decided = Dispatch { rollout: self.plan.rollout_id.clone(), log_index: decision.log_index };
        if (dispatch, to) != (&decided, target) {
            let asked = format!("{to} in {}", name(dispatch));
            return Err(Refused::OtherOrder { asked, decided: format!("{target} in {}", name(&decided)) });
        }
        if let Some(reason) = self.documents.forbid(&self.plan, &self.site.host, target, self.now) {
            let (host, target) = (self.site.host.clone(), target.clone());
            return Err(Refused::Forbidden { host, target, reason });
        }
        let anew = self.memory.fleet.as_ref().is_some_and(|known| known.recovery != fleet.recovery);
        if !anew {
            self.not_older_than_what_ran()?;
        }
        self.remember(fleet, anew, self.use_of(decision), target)
    }

    fn contents(&self) -> Option<Digest> {
        self.documents.ref_by_hash(&self.plan.ref_hash)?.contents.get(&self.site.host).copied()
    }

    /// The fleet document that everything is judged by, if it is today's as far as anybody here can know.
    fn of_today(&self) -> Result<KnownFleet, Refused> {
        let newest = self.documents.fleet().ok_or(Refused::NoFleet)?;
        if self.documents.fleet_is_expired(self.now) {
            return Err(Refused::FleetExpired { serial: newest.serial });
        }
        let fleet = match &self.memory.fleet {
            None => KnownFleet::first(&self.documents).ok_or(Refused::NoFleet)?,
            Some(known) => known
                .next(&self.documents, self.anchored)
                .ok_or(Refused::OlderFleet { found: newest.serial, known: known.serial })?,
        };
        if newest.hosts.contains_key(&self.site.host) {
            Ok(fleet)
        } else {
            Err(Refused::NotEnrolled(self.site.host.clone()))
        }
    }

    /// What the decision dispatches this host to.
    fn dispatched<'d>(&self, decision: &'d Decision) -> Result<&'d Closure, Refused> {
        if let Some(wanted) = ledger::epoch_of(&self.site.trust.fleet, &self.documents)
            && decision.epoch != wanted
        {
            return Err(Refused::OtherEpoch { found: decision.epoch, wanted });
        }
        let DecisionBody::Dispatch { host, rollout_id, target_closure, not_after, .. } = &decision.body
        else {
            return Err(Refused::NotADispatch(decision.body.name()));
        };
        if *host != self.site.host {
            return Err(Refused::OtherHost { found: host.clone(), this: self.site.host.clone() });
        }
        if *rollout_id != self.plan.rollout_id {
            let (decision, named) = (rollout_id.clone(), self.plan.rollout_id.clone());
            return Err(Refused::OtherRollout { decision, named });
        }
        if *not_after < self.now {
            return Err(Refused::TooLate { not_after: *not_after, now: self.now });
        }
        Ok(target_closure)
    }

    fn not_older_than_what_ran(&self) -> Result<(), Refused> {
        let Some(ran) = self.memory.ran.get(&self.plan.channel) else { return Ok(()) };
        let (channel, found) = (self.plan.channel.clone(), self.plan.order);
        if found < ran.order() {
            return Err(Refused::OlderRef { channel, found, ran: ran.order() });
        }
        if found == ran.order() && self.plan.ref_hash != ran.hash {
            return Err(Refused::RefContested { channel, place: found });
        }
        Ok(())
    }

    fn use_of(&self, decision: &Decision) -> Used {
        let not_after = match &decision.body {
            DecisionBody::Dispatch { not_after, .. } => *not_after,
            DecisionBody::Quarantine { .. }
            | DecisionBody::RolloutTransition { .. }
            | DecisionBody::Withdrawn { .. }
            | DecisionBody::LogSnapshot { .. } => self.now,
        };
        Used { epoch: decision.epoch, id: decision.id(), not_after }
    }

    /// The memory once the switch is begun; `anew` says that a recovery document has begun the order of refs anew.
    fn remember(
        &self,
        fleet: KnownFleet,
        anew: bool,
        decision: Used,
        target: &Closure,
    ) -> Result<Memory, Refused> {
        let mut after = self.memory.clone();
        after.prune(self.now);
        if after.used.iter().any(|used| (used.epoch, used.id) == (decision.epoch, decision.id)) {
            // It was written down and may never have begun: then, and only then, the same order is given again.
            return match &after.last {
                Some(last) if last.is_unfinished(&decision) => Ok(after),
                Some(_) | None => Err(Refused::Used { log_index: decision.id.log_index }),
            };
        }
        if after.used.len() >= USED_MAX {
            return Err(Refused::MemoryFull);
        }
        if anew {
            after.ran.clear();
        }
        let RefOrder { fleet_serial, serial } = self.plan.order;
        after.ran.insert(self.plan.channel.clone(), Ran { fleet_serial, serial, hash: self.plan.ref_hash });
        after.fleet = Some(fleet);
        after.clock = Some(self.now);
        after.used.push(decision.clone());
        after.last = Some(LastSwitch {
            decision,
            rollout: self.plan.rollout_id.clone(),
            timeout_secs: self.plan.policy.activation_timeout_secs,
            from: self.site.running.clone().filter(|running| running != target),
            to: target.clone(),
            phase: Phase::Begun,
            rollback: None,
        });
        Ok(after)
    }
}

impl LastSwitch {
    fn is_unfinished(&self, decision: &Used) -> bool {
        self.decision == *decision && self.phase == Phase::Begun && self.rollback.is_none()
    }
}

/// Accepts fleet documents, each after those before it, from one that the pinned operators signed or from the remembered
/// one on: a new pin, which came with a closure, need not have signed what was accepted before it.
fn accept(
    fleets: &[Verified<SignedDocument>],
    site: &Site,
    memory: &Memory,
    now: DateTime<Utc>,
) -> Result<(Documents, bool), Refused> {
    let mut documents = Documents::new(vec![site.trust.clone()]).map_err(Refused::Trust)?;
    let first = fleets.first().ok_or(Refused::NoFleet)?;
    let known = |document: &Verified<SignedDocument>| {
        memory.fleet.as_ref().is_some_and(|known| known.hash == document.digest())
    };
    let pinned = documents.check_named(first, now).is_ok();
    let anchor = fleets.iter().position(known).filter(|_| !pinned);
    if let Some(anchor) = anchor {
        let refused = |refusal| fleet_refused(anchor, &fleets[anchor], refusal);
        documents.insert(documents.stored(&fleets[anchor]).map_err(refused)?);
    }
    for (at, document) in fleets.iter().enumerate().skip(anchor.map_or(0, |anchor| anchor + 1)) {
        match documents.check_named(document, now) {
            Ok(Acceptance::New(accepted)) => match accepted.document() {
                Document::Fleet(_) => documents.insert(accepted),
                Document::ChannelRef(_) | Document::Command(_) => {
                    return Err(Refused::Kind { what: "a fleet document" });
                }
            },
            Ok(Acceptance::Duplicate) => {}
            Ok(Acceptance::Waits { .. }) => return Err(Refused::Kind { what: "a fleet document" }),
            Err(refusal) => return Err(fleet_refused(at, document, refusal)),
        }
    }
    Ok((documents, anchor.is_some()))
}

fn fleet_refused(
    at: usize,
    document: &Verified<SignedDocument>,
    refusal: muster_core::document::Refusal,
) -> Refused {
    let hash: Digest = document.digest();
    Refused::Fleet { number: at + 1, hash, refusal: Box::new(refusal) }
}

fn read(what: &'static str, wire: &[u8]) -> Result<Verified<SignedDocument>, Refused> {
    verify::document(wire).map_err(|error| Refused::Unreadable { what, error })
}
