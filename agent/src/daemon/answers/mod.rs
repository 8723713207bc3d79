//! Answers of the control socket, read from the node by the loop and from its store away from it.

pub(super) mod chronicle;
mod documents;
mod events;
mod explain;
mod fleet;
mod history;
mod orders;
pub mod past;
mod plan;
mod rollouts;
pub(super) mod words;

use std::path::Path;
use std::sync::Arc;

use muster_core::document::Refusal;
use muster_core::node::{Node, Receipt};
use muster_core::time::Now;
use muster_core::verbs::Misfit;
use muster_gossip::Roster;
use muster_signing::DocumentParts;

use self::history::Source;
use super::figures::Scene;
use super::hands::Hands;
use super::hooks::Hooks;
use crate::control::{Answer, Code, Problem, Query, wire};

/// What a question is answered from.
pub(super) struct Asked<'a> {
    pub(super) node: &'a Node,
    pub(super) hands: &'a Hands,
    pub(super) hooks: &'a Hooks,
    pub(super) store_path: &'a Path,
    /// Whether nothing can be written, so that the node knows no more than it did.
    pub(super) disk_full: bool,
    pub(super) now: Now,
}

/// An answer as far as the loop makes it.
pub(super) enum Prepared {
    /// There is nothing to add.
    Done(Box<Answer>),
    /// The rest comes from the store, which takes time: to be run on a thread that may wait.
    Job(Box<dyn FnOnce() -> Result<Answer, Problem> + Send>),
}

/// Answers one question as far as the node knows the answer.
pub(super) fn prepare(asked: &Asked<'_>, query: Query) -> Result<Prepared, Problem> {
    let source = || Source::new(asked);
    Ok(Prepared::Done(Box::new(match query {
        Query::Status => Answer::Status(fleet::status(asked)),
        Query::Fleet => Answer::Fleet(documents::fleet(asked)?),
        Query::Peers => Answer::Peers(fleet::peers(asked)),
        Query::Id => Answer::Id(fleet::id(asked)),
        Query::Rollouts => Answer::Rollouts(rollouts::list(asked.node.ledger())),
        Query::Quarantines => Answer::Quarantines(rollouts::quarantines(asked)),
        Query::Channel(channel) => Answer::Channel(plan::channel(asked, &channel)?),
        Query::Document(hash) => Answer::Document(documents::info(asked, &hash)?),
        Query::Metrics => {
            let store_bytes = std::fs::metadata(asked.store_path).ok().map(|file| file.len());
            let Asked { node, hands, hooks, now, .. } = *asked;
            let scene = Scene { node, network: &hands.network, store_bytes, hooks: hooks.statuses(), now };
            Answer::Metrics(hands.figures.render(&scene))
        }
        Query::Store => {
            let (store, path) = (Arc::clone(&asked.hands.store), asked.store_path.to_owned());
            let outbox = asked.node.outbox();
            return job(move || Ok(Answer::Store(fleet::store(&store, &path, outbox)?)));
        }
        Query::Rollout(id) => {
            let (source, mut show) = (source(), rollouts::show(asked.node.ledger(), &id)?);
            let (chronicle, id) = (Arc::clone(&asked.hands.chronicle), rollouts::parsed(&id)?);
            return job(move || {
                show.timeline = chronicle.timeline(source, &id, show.timeline)?;
                Ok(Answer::Rollout(show))
            });
        }
        Query::RolloutNow(id) => {
            let show = rollouts::show(asked.node.ledger(), &id)?;
            Answer::Rollout(wire::RolloutShow { timeline: Vec::new(), ..show })
        }
        Query::Explain(subject) => {
            let (source, mut explained) = (source(), explain::explain(asked, &subject)?);
            return job(move || {
                if let Some(host) = &explained.host {
                    explained.last_report = explain::last_report(source, host)?;
                }
                Ok(Answer::Explain(explained))
            });
        }
        Query::Events(filter) => {
            let source = source();
            return job(move || Ok(Answer::Events(events::list(source, &filter)?)));
        }
    })))
}

/// Foresees what publishing a channel ref would do, beside the loop.
pub(super) fn foresee(asked: &Asked<'_>, parts: DocumentParts) -> Result<Prepared, Problem> {
    let (known, told) = (asked.node.known(asked.now), plan::Told::of(asked));
    job(move || Ok(Answer::Plan(told.plan(known, parts)?)))
}

/// A command that would do nothing, and what to do instead.
pub(super) fn misfit(misfit: &Misfit) -> Problem {
    Problem::new(Code::Misfit, misfit).hint(misfit.way_out())
}

fn job(run: impl FnOnce() -> Result<Answer, Problem> + Send + 'static) -> Result<Prepared, Problem> {
    Ok(Prepared::Job(Box::new(run)))
}

/// What became of a published document.
pub(super) fn receipt(result: Result<Receipt, Box<Refusal>>) -> Result<Answer, Problem> {
    match result {
        Ok(Receipt { hash, duplicate }) => Ok(Answer::Receipt(wire::DocumentReceipt {
            schema: wire::SCHEMA,
            hash: hash.to_string(),
            duplicate,
        })),
        Err(refusal) => Err(refused(&refusal)),
    }
}

fn refused(refusal: &Refusal) -> Problem {
    let code = Code::ALL.iter().find(|code| code.name() == refusal.code());
    Problem::new(code.copied().unwrap_or(Code::Invalid), refusal)
}

/// Who may connect, and where they listen.
pub(super) fn roster(node: &Node) -> Roster {
    let Some(fleet) = node.ledger().documents().fleet() else { return Roster::default() };
    let addresses = |entry: &muster_core::document::fleet::Host| entry.addresses.clone();
    Roster {
        members: fleet.hosts.values().map(|entry| (*entry.key.as_bytes(), addresses(entry))).collect(),
        coordinators: node.log_peers().iter().map(|key| *key.as_bytes()).collect(),
        serial: fleet.serial,
    }
}

/// A question about something that is not there.
fn not_found(what: impl std::fmt::Display) -> Problem {
    Problem::new(Code::NotFound, what)
}

/// A failure of the store below a question.
pub(super) fn store_failed(error: impl std::fmt::Display) -> Problem {
    Problem::new(Code::Internal, format_args!("the store cannot be read: {error}"))
}
