//! The hooks of this agent: one task for each, so that a slow one holds up neither the loop nor another one.
//!
//! A task reads what was learnt from the store, keeps its queue there, and calls. The loop only tells it that there is
//! more, and how its quorum is.

mod keeper;
mod reading;

use std::sync::Arc;
use std::time::{Duration, Instant};

use muster_core::hook::{Event, Line, Occurrence};
use muster_core::id::HostId;
use muster_core::wire::codec;
use muster_signing::SigningKey;
use muster_store::{Change, Snapshot, Store, Table};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::now;
use crate::config::Config;
use crate::control::wire::{HookDone, HookStatus, SCHEMA};
use crate::control::{Answer, Code, HookVerb, Problem};
use crate::hooks::Hook;
use crate::hooks::message::Sender;
use keeper::{Keeper, Order};

/// What the rows of `meta` begin with in which the queues lie.
const ROWS: &[u8] = b"hook/";
/// Requests that wait for one hook.
const ORDERS_MAX: usize = 8;
/// How often is looked whether the quorum is there.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A quorum counts as lost after so many heartbeats without it, and not before this time.
const GRACE_HEARTBEATS: u32 = 2;
const GRACE_MIN: Duration = Duration::from_secs(5);

/// How the quorum is, as the loop sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Quorum {
    /// Whether too few coordinators are in reach.
    pub(super) lacks: bool,
    /// How many are, in words.
    pub(super) words: String,
}

impl Quorum {
    /// The quorum as the node sees it; without a fleet document there is none to lose.
    pub(super) fn of(quorum: &muster_core::node::Quorum) -> Self {
        let missing: Vec<&str> = quorum.missing.iter().map(HostId::as_str).collect();
        let missing =
            if missing.is_empty() { String::new() } else { format!("; missing: {}", missing.join(", ")) };
        let (reachable, of, needed) = (quorum.reachable, quorum.of, quorum.needed);
        let words = format!("{reachable} of {of} coordinators in reach, {needed} needed{missing}");
        Self { lacks: reachable < needed, words }
    }
}

/// The loop's end of its hooks.
#[derive(Debug)]
pub(super) struct Hooks {
    handles: Vec<Handle>,
    quorum: watch::Sender<Option<Quorum>>,
    looked: Option<Instant>,
}

#[derive(Debug)]
struct Handle {
    hook: Arc<Hook>,
    sender: Arc<Sender>,
    clock: Instant,
    status: watch::Receiver<HookStatus>,
    orders: mpsc::Sender<Order>,
    /// One test at a time.
    testing: Arc<Semaphore>,
}

impl Hooks {
    /// Begins with every hook of the configuration; `learnt` tells whenever there is more in the store.
    pub(super) fn start(
        config: &Config,
        store: &Arc<Store>,
        key: &SigningKey,
        clock: Instant,
        learnt: &watch::Sender<u64>,
    ) -> anyhow::Result<Self> {
        let (quorum, seen) = watch::channel(None);
        let sender =
            Arc::new(Sender { fleet: config.fleet.clone(), host: config.host.clone(), key: key.clone() });
        let snapshot = store.read()?;
        forget_others(config, store, &snapshot)?;
        let grace = config.heartbeat.saturating_mul(GRACE_HEARTBEATS).max(GRACE_MIN);
        let mut handles = Vec::new();
        for hook in &config.hooks {
            let hook = Arc::new(hook.clone());
            let (orders, inbox) = mpsc::channel(ORDERS_MAX);
            let line = stored(&snapshot, &hook.name, clock)?;
            let (board, status) = watch::channel(shown(&hook, &line));
            let keeper = Keeper {
                hook: Arc::clone(&hook),
                sender: Arc::clone(&sender),
                store: Arc::clone(store),
                clock,
                saved: line.position(),
                line,
                watch: muster_core::hook::QuorumWatch::new(grace),
                learnt: learnt.subscribe(),
                quorum: seen.clone(),
                orders: inbox,
                board,
            };
            tokio::spawn(keeper.run());
            let testing = Arc::new(Semaphore::new(1));
            handles.push(Handle { hook, sender: Arc::clone(&sender), clock, status, orders, testing });
        }
        Ok(Self { handles, quorum, looked: None })
    }

    /// Tells the hooks how the quorum is, if it is time to look again.
    pub(super) fn look(&mut self, how: impl FnOnce() -> Quorum) {
        if self.handles.is_empty() || self.looked.is_some_and(|at| at.elapsed() < LOOK_EVERY) {
            return;
        }
        self.looked = Some(Instant::now());
        self.quorum.send_if_modified(|known| {
            let seen = Some(how());
            let new = *known != seen;
            *known = seen;
            new
        });
    }

    /// How each of them fares.
    pub(super) fn statuses(&self) -> Vec<HookStatus> {
        self.handles.iter().map(|handle| handle.status.borrow().clone()).collect()
    }

    /// Does what somebody asks of a hook, beside the loop.
    pub(super) fn obey(&self, name: &str, verb: HookVerb, reply: oneshot::Sender<Result<Answer, Problem>>) {
        let Some(handle) = self.handles.iter().find(|handle| handle.hook.name == name) else {
            let names: Vec<&str> = self.handles.iter().map(|handle| handle.hook.name.as_str()).collect();
            let problem = Problem::new(Code::NotFound, format_args!("this agent has no hook {name}"));
            let hint = match names.is_empty() {
                true => {
                    "a [[hook]] in its configuration makes one; the agent reads it when it starts".to_owned()
                }
                false => format!("it has {}", names.join(", ")),
            };
            return drop(reply.send(Err(problem.hint(hint))));
        };
        match verb {
            HookVerb::Test => handle.test(reply),
            HookVerb::Retry => handle.order(Order::Retry(reply)),
            HookVerb::Forget => handle.order(Order::Forget(reply)),
        }
    }
}

impl Handle {
    fn order(&self, order: Order) {
        if let Err(refused) = self.orders.try_send(order) {
            let (Order::Retry(reply) | Order::Forget(reply)) = refused.into_inner();
            let detail = format_args!("{ORDERS_MAX} requests wait for this hook already");
            drop(reply.send(Err(Problem::new(Code::Unavailable, detail))));
        }
    }

    /// Calls it once, whatever waits; nothing of it is kept.
    fn test(&self, reply: oneshot::Sender<Result<Answer, Problem>>) {
        let Ok(place) = Arc::clone(&self.testing).try_acquire_owned() else {
            let problem = Problem::new(Code::Unavailable, "this hook is being tested already");
            return drop(reply.send(Err(problem)));
        };
        let (hook, sender, at) = (Arc::clone(&self.hook), Arc::clone(&self.sender), now(self.clock).utc);
        tokio::spawn(async move {
            let occurrence = trial(&sender.host, at);
            let result = hook.call(&sender.message(&occurrence)).await;
            drop(place);
            drop(reply.send(Ok(done(&hook.name, 1, result))));
        });
    }
}

fn trial(me: &HostId, at: chrono::DateTime<chrono::Utc>) -> Occurrence {
    Occurrence {
        id: format!("{}:{me}:{}", Event::Test, at.timestamp_millis()),
        event: Event::Test,
        at,
        rollout: None,
        host: None,
        closure: None,
        reason: Some("somebody tries this hook; nothing has happened".to_owned()),
    }
}

fn done(hook: &str, calls: usize, result: Result<(), String>) -> Answer {
    Answer::Hook(HookDone {
        schema: SCHEMA,
        hook: hook.to_owned(),
        ok: result.is_ok(),
        reason: result.err(),
        calls: calls as u64,
    })
}

fn row(name: &str) -> Vec<u8> {
    [ROWS, name.as_bytes()].concat()
}

/// A hook's queue as it was stored; a new one for a hook that is new.
fn stored(snapshot: &Snapshot, name: &str, clock: Instant) -> anyhow::Result<Line> {
    let position = reading::position(snapshot)?;
    let new = || Line::new(now(clock).utc, position);
    let Some(value) = snapshot.get(Table::Meta, &row(name))? else { return Ok(new()) };
    Ok(codec::decode("hook", &value).unwrap_or_else(|error| {
        tracing::warn!(hook = name, %error, "what waited for a hook cannot be read: it begins anew");
        new()
    }))
}

/// Deletes the queues of hooks that the configuration has no more: whoever comes back later begins at that moment.
fn forget_others(config: &Config, store: &Store, snapshot: &Snapshot) -> anyhow::Result<()> {
    let mut gone = Vec::new();
    for stored in snapshot.prefix(Table::Meta, ROWS)? {
        let (key, _) = stored?;
        if !config.hooks.iter().any(|hook| row(&hook.name) == key) {
            gone.push(Change::delete(Table::Meta, key));
        }
    }
    if !gone.is_empty() {
        // On a full disk they stay until a later start.
        if let Err(error) = store.commit_wait(gone) {
            tracing::warn!(%error, "hooks that are gone are not forgotten yet");
        }
    }
    Ok(())
}

fn shown(hook: &Hook, line: &Line) -> HookStatus {
    let dead = line.dead().map(|dead| crate::control::wire::DeadCall {
        id: dead.occurrence.id.clone(),
        event: dead.occurrence.event.to_string(),
        at: dead.occurrence.at,
        rollout: dead.occurrence.rollout.as_ref().map(ToString::to_string),
        host: dead.occurrence.host.as_ref().map(ToString::to_string),
        given_up_at: dead.at,
        tries: dead.tries,
        reason: dead.reason.clone(),
    });
    HookStatus {
        name: hook.name.clone(),
        calls: hook.place(),
        events: hook.policy.events.iter().map(ToString::to_string).collect(),
        pending: line.pending().len() as u64,
        delivered: line.delivered(),
        failed: line.failures(),
        given_up: line.given_up(),
        failed_last: line.failing().map(|failing| failing.reason.clone()),
        failed_last_at: line.failing().map(|failing| failing.at),
        dead: dead.collect(),
    }
}

#[cfg(test)]
mod tests;
