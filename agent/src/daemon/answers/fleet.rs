//! `/v1/status`, `/v1/peers`, `/v1/id` and `/v1/store`.

use std::path::Path;

use chrono::TimeDelta;
use muster_core::gate;
use muster_core::id::{ChannelId, HostId};
use muster_core::ledger::Ledger;
use muster_core::presence::Reach;
use muster_core::view::View;
use muster_store::Store;

use super::{Asked, store_failed};
use crate::control::{Problem, wire};

/// The fleet at a glance.
pub(super) fn status(asked: &Asked<'_>) -> wire::Status {
    let node = asked.node;
    let documents = node.ledger().documents();
    let fleet = documents.fleet();
    wire::Status {
        schema: wire::SCHEMA,
        fleet: node.settings().fleet.to_string(),
        host: node.settings().host.to_string(),
        fleet_serial: fleet.map(|fleet| fleet.serial),
        held: held(asked),
        quorum: quorum(asked),
        coordinator: node.leader().map(ToString::to_string),
        alarms: node.alarms().collect(),
        command_serial: documents.commands().map(|command| command.serial).max(),
        channels: fleet
            .into_iter()
            .flat_map(|fleet| fleet.channels.keys())
            .map(|id| channel(node.ledger(), id))
            .collect(),
        hosts: node.with_view(asked.now, |view| {
            fleet.into_iter().flat_map(|fleet| fleet.hosts.keys()).map(|id| host(asked, view, id)).collect()
        }),
        hooks: asked.hooks.statuses(),
    }
}

/// Whether decisions can be made.
pub(super) fn quorum(asked: &Asked<'_>) -> wire::Quorum {
    let quorum = asked.node.quorum(asked.now.mono);
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    wire::Quorum {
        reachable: number(quorum.reachable),
        needed: number(quorum.needed),
        of: number(quorum.of),
        missing: quorum.missing.iter().map(ToString::to_string).collect(),
    }
}

/// Why nothing moves, if nothing can.
fn held(asked: &Asked<'_>) -> Option<String> {
    if asked.disk_full {
        let path = asked.store_path.display();
        return Some(format!("this host's disk is full; free some space where {path} lies"));
    }
    let quorum = asked.node.quorum(asked.now.mono);
    if quorum.of == 0 {
        return Some(
            "this host holds no fleet document yet; publish one, or name a bootstrap peer".to_owned(),
        );
    }
    if quorum.reachable < quorum.needed {
        let missing: Vec<&str> = quorum.missing.iter().map(HostId::as_str).collect();
        return Some(format!(
            "{} of {} coordinators can be reached and {} are needed; missing: {}",
            quorum.reachable,
            quorum.of,
            quorum.needed,
            missing.join(", ")
        ));
    }
    None
}

/// A channel and its newest rollout.
pub(super) fn channel(ledger: &Ledger, id: &ChannelId) -> wire::ChannelStatus {
    let newest = ledger.newest_rollout(id);
    let record = newest.and_then(|rollout| ledger.rollouts().get(rollout));
    let plan = newest.and_then(|rollout| ledger.plan(rollout));
    let reference = ledger.documents().channel_ref(id);
    wire::ChannelStatus {
        channel: id.to_string(),
        r#ref: reference.map(|held| held.target_ref.to_string()),
        ref_serial: reference.map(|held| held.serial),
        rollout: newest.map(ToString::to_string),
        state: record.map(|record| wire::RolloutState::from(record.state)),
        wave: record.map(|record| record.current_wave),
        waves: plan.map(|plan| u32::try_from(plan.waves.len()).unwrap_or(u32::MAX)),
    }
}

fn host(asked: &Asked<'_>, view: &View<'_>, id: &HostId) -> wire::HostStatus {
    let node = asked.node;
    let ledger = node.ledger();
    let channel = ledger.documents().fleet().and_then(|fleet| Some(fleet.hosts.get(id)?.channel.clone()));
    let rollout = channel.as_ref().and_then(|channel| ledger.newest_rollout(channel));
    let record = rollout.and_then(|rollout| ledger.record(id, rollout)).map(|mirrored| &mirrored.record);
    let plan = rollout.and_then(|rollout| ledger.plan(rollout));
    let online = node.presences().reach(id, asked.now.mono) == Reach::Online;
    let said = node.presences().of(id).map(|seen| &seen.presence);
    // Of itself a host knows more than it last said.
    let (current, reboot_pending) = if *id == node.settings().host {
        (node.running().cloned(), node.reboot_is_pending())
    } else {
        let reboot_pending = said.is_some_and(|said| said.reboot_pending);
        (said.and_then(|said| said.current_closure.clone()), reboot_pending)
    };
    let open =
        rollout.and_then(|rollout| ledger.rollouts().get(rollout)).is_some_and(|it| it.state.is_open());
    let waits = plan.filter(|plan| {
        open && plan.targets.contains_key(id) && super::explain::waits(view.standing(plan, id, asked.now.utc))
    });
    wire::HostStatus {
        host: id.to_string(),
        state: record.map(|record| wire::HostState::from(record.state)),
        current: current.map(|closure| closure.to_string()),
        target: plan.and_then(|plan| plan.targets.get(id)).map(ToString::to_string),
        online,
        waits_for: waits
            .and_then(|plan| gate::admit(view, plan, id, asked.now.utc).err())
            .map(|blocked| blocked.to_string()),
        fetching: node.fetching_of(id),
        reboot_pending,
    }
}

/// Every member, and how it is connected.
pub(super) fn peers(asked: &Asked<'_>) -> wire::Peers {
    let node = asked.node;
    let connections = asked.hands.network.peers();
    let me = node.settings().host.clone();
    let members = node.ledger().roster().members().clone();
    let peers = members.iter().filter(|(host, _)| **host != me).map(|(host, key)| {
        let connection = connections.iter().find(|peer| peer.key == *key.as_bytes());
        let seen = node.presences().of(host);
        let feed = node.ledger().feed(host);
        let held = feed.and_then(muster_core::ledger::Feed::head).map(|head| head.seq);
        let silent = node.presences().last_heard(host).map(|heard| asked.now.mono.since(heard));
        wire::Peer {
            host: host.to_string(),
            peer_id: key.peer_id().to_string(),
            connected: connection.is_some_and(|peer| peer.connected),
            transport: connection.and_then(|peer| peer.transport).map(str::to_owned),
            address: connection.and_then(|peer| peer.address.clone()),
            round_trip_ms: connection
                .and_then(|peer| peer.round_trip)
                .map(|round_trip| (round_trip.as_secs_f64() * 100_000.0).round() / 100.0),
            clock_offset_ms: node
                .presences()
                .offset_of(host, asked.now)
                .map(|offset| offset.num_milliseconds()),
            agent_version: seen.map(|seen| seen.presence.agent_version.clone()),
            last_heard: silent.and_then(|silent| Some(asked.now.utc - TimeDelta::from_std(silent).ok()?)),
            feed_incarnation: feed.map(muster_core::ledger::Feed::incarnation),
            feed_seq: held,
            feed_behind: seen.map(|seen| seen.presence.head_seq.saturating_sub(held.unwrap_or(0))),
            fleet_serial: seen.map(|seen| seen.presence.fleet_serial),
            outbox: seen.map(|seen| seen.presence.outbox),
        }
    });
    wire::Peers { schema: wire::SCHEMA, peers: peers.collect() }
}

/// Who this host is.
pub(super) fn id(asked: &Asked<'_>) -> wire::Id {
    let node = asked.node;
    wire::Id {
        schema: wire::SCHEMA,
        fleet: node.settings().fleet.to_string(),
        host: node.settings().host.to_string(),
        peer_id: node.key().peer_id().to_string(),
        public_key: node.key().to_openssh(),
        incarnation: node.incarnation(),
    }
}

/// How large the store is, and how it is; reads all of it.
pub(super) fn store(store: &Store, path: &Path, outbox: usize) -> Result<wire::StoreInfo, Problem> {
    let stats = store.stats().map_err(store_failed)?;
    let tables = stats.tables.iter().map(|table| wire::StoreTable {
        table: table.table.name().to_owned(),
        rows: table.rows,
        bytes: table.bytes,
        class: class(table.table.class()).to_owned(),
    });
    Ok(wire::StoreInfo {
        schema: wire::SCHEMA,
        path: path.display().to_string(),
        bytes: stats.file_bytes,
        tables: tables.collect(),
        outbox: outbox as u64,
        health: match store.health() {
            muster_store::Health::Ok => "ok",
            muster_store::Health::Full => "full",
            muster_store::Health::Failed => "failed",
        }
        .to_owned(),
    })
}

fn class(class: muster_store::Class) -> &'static str {
    match class {
        muster_store::Class::Canonical => "canonical",
        muster_store::Class::Derived => "derived",
        muster_store::Class::Local => "local",
    }
}
