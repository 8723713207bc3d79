//! Answers of the control socket, read from the node and its store.

mod documents;
mod events;
mod explain;
mod fleet;
mod rollouts;
mod words;

use std::path::Path;

use muster_core::document::Refusal;
use muster_core::node::{Node, Receipt};
use muster_core::time::Now;
use muster_gossip::Roster;

use super::hands::Hands;
use crate::control::{Answer, Code, Problem, Query, wire};

/// What a question is answered from.
pub(super) struct Asked<'a> {
    pub(super) node: &'a Node,
    pub(super) hands: &'a Hands,
    pub(super) store_path: &'a Path,
    pub(super) now: Now,
}

/// Answers one question.
pub(super) fn answer(asked: &Asked<'_>, query: Query) -> Result<Answer, Problem> {
    Ok(match query {
        Query::Status => Answer::Status(fleet::status(asked)),
        Query::Fleet => Answer::Fleet(documents::fleet(asked)?),
        Query::Peers => Answer::Peers(fleet::peers(asked)),
        Query::Id => Answer::Id(fleet::id(asked)),
        Query::Store => Answer::Store(fleet::store(asked)?),
        Query::Rollouts => Answer::Rollouts(rollouts::list(asked)),
        Query::Rollout(id) => Answer::Rollout(rollouts::show(asked, &id)?),
        Query::Explain(subject) => Answer::Explain(explain::explain(asked, &subject)?),
        Query::Events(filter) => Answer::Events(events::list(asked, &filter)?),
        Query::Quarantines => Answer::Quarantines(rollouts::quarantines(asked)),
        Query::Document(hash) => Answer::Document(documents::info(asked, &hash)?),
        Query::Metrics => {
            Answer::Metrics(asked.hands.figures.render(asked.node, &asked.hands.network, asked.now))
        }
    })
}

/// What became of a published document.
pub(super) fn receipt(result: Result<Receipt, Box<Refusal>>) -> Result<Answer, Problem> {
    match result {
        Ok(Receipt { hash, duplicate }) => Ok(Answer::Receipt(wire::DocumentReceipt {
            schema: wire::SCHEMA,
            hash: hash.to_string(),
            duplicate,
        })),
        Err(refusal) => {
            let code = Code::ALL.iter().find(|code| code.name() == refusal.code());
            Err(Problem::new(code.copied().unwrap_or(Code::Invalid), refusal))
        }
    }
}

/// Who may connect, and where they listen.
pub(super) fn roster(node: &Node) -> Roster {
    let Some(fleet) = node.ledger().documents().fleet() else { return Roster::default() };
    let addresses = |entry: &muster_core::document::fleet::Host| entry.addresses.clone();
    Roster {
        members: fleet.hosts.values().map(|entry| (*entry.key.as_bytes(), addresses(entry))).collect(),
        coordinators: fleet.electorate().members.keys().map(|key| *key.as_bytes()).collect(),
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
