//! Takes what an export holds into a stopped agent's store, as if a peer had sent it: nothing is believed unverified.

#[cfg(test)]
pub(crate) mod tests;

use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use muster_core::document::{Acceptance, ChannelRefDocument, Refusal};
use muster_core::ledger::{FeedError, Ledger, Rows, Table};
use muster_core::verify;
use muster_store::{Store, StoreError};

use super::{Export, StorageError, changes, ledger};

/// How many different reasons are told why records were refused.
const REASONS_MAX: usize = 5;
/// How many records are learnt before they are written.
const BATCH_RECORDS: u64 = 1000;

/// What became of an export's records.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Records that the store has now and had not before.
    pub taken: u64,
    /// Records that it had already.
    pub known: u64,
    /// The host's own events, which only its agent brings back: it has to know that it lost them.
    pub own: u64,
    /// Records that do not prove what they have to.
    pub refused: u64,
    /// Why, the first few reasons.
    pub reasons: Vec<String>,
}

/// Takes what it can of an export into the store of a stopped agent of the same fleet.
///
/// Documents, decisions and events come as from a peer. Entries of the log do not: coordinators get them from each other.
pub fn import(path: &Path, from: &Path, now: DateTime<Utc>) -> Result<Imported, StorageError> {
    let export = Export::read(from)?;
    let store = Store::open_offline(path)?;
    let snapshot = store.read()?;
    let bad = |detail: String| StorageError::NotAnExport { path: from.into(), detail };
    let theirs = export.get(Table::Meta, b"fleet").map_err(bad)?.unwrap_or_default();
    let ours = snapshot.get(muster_store::Table::Meta, b"fleet")?.unwrap_or_default();
    if theirs != ours {
        let [theirs, ours] = [theirs, ours].map(|name| String::from_utf8_lossy(&name).into_owned());
        return Err(bad(format!("it is of the fleet {theirs:?}, and the store of {ours:?}")));
    }
    let ledger = ledger(path, &snapshot)?;
    drop(snapshot);
    let mut learner = Learner { store: &store, ledger, now, unwritten: 0, imported: Imported::default() };
    // First who may sign what, then what was decided, and last what hosts say about it.
    let later = learner.documents(&export)?;
    for value in export.values(Table::Decisions) {
        learner.decision(value)?;
    }
    for (value, refusal) in later {
        learner.history(value, &refusal)?;
    }
    for value in export.values(Table::Feeds) {
        learner.envelope(value)?;
    }
    learner.write()?;
    store.close()?;
    Ok(learner.imported)
}

/// A store that learns.
struct Learner<'a> {
    store: &'a Store,
    ledger: Ledger,
    now: DateTime<Utc>,
    /// Records that were learnt and are not on the disk.
    unwritten: u64,
    imported: Imported,
}

impl Learner<'_> {
    /// Learns the documents that can be judged by themselves; the others, with the reason.
    fn documents<'e>(&mut self, export: &'e Export) -> Result<Vec<(&'e [u8], Refusal)>, StorageError> {
        let mut later = Vec::new();
        for value in export.values(Table::Documents) {
            let document = match verify::document(value) {
                Ok(document) => document,
                Err(error) => {
                    self.refuse(error);
                    continue;
                }
            };
            match self.ledger.documents().check(&document, self.now) {
                Ok(Acceptance::New(accepted)) => {
                    self.ledger.document(accepted);
                    self.learnt()?;
                }
                Ok(Acceptance::Duplicate) => self.imported.known += 1,
                Ok(Acceptance::Waits { fleet_serial, .. }) => {
                    self.refuse(format_args!(
                        "a channel ref names fleet document {fleet_serial}, which is not there"
                    ));
                }
                Err(refusal) if ChannelRefDocument::parse(document.bytes()).is_ok() => {
                    later.push((value, refusal));
                }
                Err(refusal) => self.refuse(refusal),
            }
        }
        Ok(later)
    }

    /// Learns a channel ref that came too late to count by itself, if a quorum decided about its rollout.
    fn history(&mut self, value: &[u8], refusal: &Refusal) -> Result<(), StorageError> {
        let Ok(document) = verify::document(value) else { return Ok(()) };
        let decided = ChannelRefDocument::parse(document.bytes())
            .is_ok_and(|document| self.ledger.rollouts().contains_key(&document.rollout_id()));
        match self.ledger.documents().check_named(&document, self.now) {
            Ok(Acceptance::New(accepted)) if decided => {
                self.ledger.document(accepted);
                self.learnt()?;
            }
            Ok(_) | Err(_) => self.refuse(refusal),
        }
        Ok(())
    }

    fn decision(&mut self, value: &[u8]) -> Result<(), StorageError> {
        match verify::certificate(&Arc::clone(self.ledger.roster()), value) {
            Err(error) => self.refuse(error),
            Ok(certified) if self.ledger.decision(&certified.certificate, &certified.decision) => {
                self.learnt()?;
            }
            Ok(_) => self.imported.known += 1,
        }
        Ok(())
    }

    fn envelope(&mut self, value: &[u8]) -> Result<(), StorageError> {
        let envelope = match verify::envelope(self.ledger.roster(), value) {
            Ok(envelope) => envelope,
            Err(error) => {
                self.refuse(error);
                return Ok(());
            }
        };
        if envelope.content.host == *self.ledger.me() {
            self.imported.own += 1;
            return Ok(());
        }
        match self.ledger.envelope(&envelope) {
            Ok(()) => self.learnt()?,
            Err(FeedError::Duplicate { .. }) => self.imported.known += 1,
            Err(error) => self.refuse(format_args!("an event of {}: {error}", envelope.content.host)),
        }
        Ok(())
    }

    fn learnt(&mut self) -> Result<(), StorageError> {
        self.imported.taken += 1;
        self.unwritten += 1;
        if self.unwritten < BATCH_RECORDS { Ok(()) } else { self.write() }
    }

    fn write(&mut self) -> Result<(), StorageError> {
        self.unwritten = 0;
        let rows = changes(self.ledger.take_batch());
        Ok(self.store.commit_wait(rows).map_err(StoreError::from)?)
    }

    fn refuse(&mut self, why: impl ToString) {
        let Imported { refused, reasons, .. } = &mut self.imported;
        *refused += 1;
        let why = why.to_string();
        if reasons.len() < REASONS_MAX && !reasons.contains(&why) {
            reasons.push(why);
        }
    }
}
