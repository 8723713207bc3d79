//! `/v1/fleet` and `/v1/documents/{hash}`.

use data_encoding::BASE64;
use muster_core::wire::DocumentKind;
use muster_signing::{Digest, armor};

use super::{Asked, not_found, orders};
use crate::control::{Code, Problem, wire};

/// The newest fleet document.
pub(super) fn fleet(asked: &Asked<'_>) -> Result<wire::FleetDocument, Problem> {
    let Some(held) = asked.node.ledger().documents().fleet() else {
        return Err(not_found("this host holds no fleet document yet"));
    };
    Ok(wire::FleetDocument {
        schema: wire::SCHEMA,
        serial: held.serial,
        hash: held.hash.to_string(),
        document: BASE64.encode(held.bytes()),
        signatures: held.signatures().iter().map(|signature| armor(signature)).collect(),
    })
}

/// What is known of one document.
pub(super) fn info(asked: &Asked<'_>, hash: &str) -> Result<wire::DocumentInfo, Problem> {
    let digest: Digest = hash.parse().map_err(|error| {
        Problem::new(Code::BadRequest, format_args!("{hash:?} is no document's hash: {error}"))
    })?;
    let documents = asked.node.ledger().documents();
    let Some(document) = documents.get(&digest) else {
        return Err(not_found(format_args!("no document {hash} is held")));
    };
    let stored_by = asked.node.stored_by(&digest);
    let needed = documents.fleet().map_or(usize::MAX, |fleet| fleet.electorate().quorum);
    Ok(wire::DocumentInfo {
        schema: wire::SCHEMA,
        hash: digest.to_string(),
        kind: kind(document.kind()).to_owned(),
        serial: Some(document.serial()),
        accepted: true,
        quorum: stored_by.len() >= needed,
        stored_by: stored_by.iter().map(ToString::to_string).collect(),
        effect: orders::effect(asked, &digest),
    })
}

/// The kind's name.
pub(super) fn kind(kind: DocumentKind) -> &'static str {
    match kind {
        DocumentKind::Fleet => "fleet",
        DocumentKind::ChannelRef => "channel-ref",
        DocumentKind::Command => "command",
    }
}
