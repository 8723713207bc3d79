//! Takes what proves a dispatch out of the agent's own store and documents.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use muster_core::document::{Document, Documents, Fleet, Held};
use muster_core::id::HostId;
use muster_core::ledger::key;
use muster_core::wire::codec;
use muster_core::wire::{Decision, DecisionBody, DecisionId};
use muster_signing::Certificate;
use muster_store::{Store, StoreError, Table};
use serde_bytes::ByteBuf;

use super::protocol::{FLEETS_MAX, Papers};
use crate::activation::nixos::root::Dispatch;

/// How much fleet documents that nothing asks for may take of a request, in bytes.
const FLEETS_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Why a dispatch cannot be proven.
#[derive(Debug, thiserror::Error)]
pub enum PapersError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is not held.
    #[error("{what} of {rollout} at log index {log_index} is not held")]
    Missing {
        /// What.
        what: &'static str,
        /// The rollout.
        rollout: String,
        /// The log index.
        log_index: u64,
    },
    /// The task that reads it ended.
    #[error("the proofs were not read: {0}")]
    Lost(String),
}

/// Where the proofs are: certificates in the store, documents as the node last had them.
#[derive(Debug)]
pub struct Archive {
    host: HostId,
    store: Arc<Store>,
    documents: Mutex<Option<Documents>>,
}

impl Archive {
    /// The archive of a host.
    pub fn new(host: HostId, store: Arc<Store>) -> Self {
        Self { host, store, documents: Mutex::new(None) }
    }

    /// Follows the node.
    pub fn follow(&self, documents: &Documents) {
        *self.documents.lock().unwrap_or_else(PoisonError::into_inner) = Some(documents.clone());
    }

    /// Everything that proves a dispatch, read beside the loop.
    pub async fn papers(self: Arc<Self>, dispatch: Dispatch) -> Result<Papers, PapersError> {
        let read = tokio::task::spawn_blocking(move || self.read(&dispatch));
        read.await.map_err(|error| PapersError::Lost(error.to_string()))?
    }

    fn read(&self, dispatch: &Dispatch) -> Result<Papers, PapersError> {
        let missing = |what| {
            let (rollout, log_index) = (dispatch.rollout.to_string(), dispatch.log_index);
            PapersError::Missing { what, rollout, log_index }
        };
        let documents = self.documents.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let documents = documents.ok_or(missing("any document"))?;
        let channel_ref = documents.ref_of_rollout(&dispatch.rollout).ok_or(missing("the channel ref"))?;
        let (certificate, decision) =
            self.certificate(&documents, dispatch)?.ok_or(missing("the certificate"))?;
        let needed = |fleet: &Held<Fleet>| {
            documents.fleet().is_some_and(|newest| newest.hash == fleet.hash)
                || documents.chain().iter().any(|link| link.hash == fleet.hash)
                || channel_ref.fleet_hash == fleet.hash
                || decision.fleet_serial == fleet.serial
                || documents.chain().iter().any(|link| link.replaces == Some(fleet.serial))
        };
        Ok(Papers {
            fleets: fleets(&documents, needed),
            channel_ref: ByteBuf::from(channel_ref.signed.to_wire()),
            certificate: ByteBuf::from(certificate),
        })
    }

    fn certificate(
        &self,
        documents: &Documents,
        dispatch: &Dispatch,
    ) -> Result<Option<(Vec<u8>, Decision)>, StoreError> {
        let snapshot = self.store.read()?;
        for fleet in documents.fleets().rev() {
            let row = |ordinal| {
                let id = DecisionId { log_index: dispatch.log_index, ordinal };
                key::decision(fleet.serial, id)
            };
            let (first, last) = (row(0), row(u32::MAX));
            for row in snapshot.range(Table::Decisions, first.as_slice()..=last.as_slice())? {
                let (_, bytes) = row?;
                if let Some(decision) = self.is_of(&bytes, dispatch) {
                    return Ok(Some((bytes, decision)));
                }
            }
        }
        Ok(None)
    }

    /// The decision in a certificate, if it dispatches this host into the rollout.
    fn is_of(&self, certificate: &[u8], dispatch: &Dispatch) -> Option<Decision> {
        let certificate = Certificate::parse(certificate).ok()?;
        let decision: Decision = codec::decode("decision", certificate.payload()).ok()?;
        match &decision.body {
            DecisionBody::Dispatch { host, rollout_id, .. }
                if *host == self.host && *rollout_id == dispatch.rollout =>
            {
                Some(decision)
            }
            DecisionBody::Dispatch { .. }
            | DecisionBody::Quarantine { .. }
            | DecisionBody::RolloutTransition { .. }
            | DecisionBody::Withdrawn { .. }
            | DecisionBody::LogSnapshot { .. } => None,
        }
    }
}

/// The fleet documents in the order of acceptance: all of them where that is little, since the helper may remember any of
/// them; else those that are needed.
fn fleets(documents: &Documents, needed: impl Fn(&Held<Fleet>) -> bool) -> Vec<ByteBuf> {
    let all: BTreeMap<u64, &Arc<Held<Fleet>>> = documents
        .all()
        .filter_map(|document| match document {
            Document::Fleet(held) => Some((held.position, held)),
            Document::ChannelRef(_) | Document::Command(_) => None,
        })
        .collect();
    let bytes: usize = all.values().map(|fleet| fleet.bytes().len()).sum();
    let takes_all = all.len() <= FLEETS_MAX && bytes <= FLEETS_BYTES_MAX;
    let taken = all.values().filter(|fleet| takes_all || needed(fleet));
    taken.map(|fleet| ByteBuf::from(fleet.signed.to_wire())).collect()
}
