//! One fleet in the middle of a rollout, as tests of the socket and of the text output see it.

use chrono::{DateTime, TimeDelta, Utc};
use data_encoding::BASE64;
use muster_signing::{Namespace, SigningKey, armor, sha256, sign_document};

use super::*;

/// Seconds after a fixed moment.
pub(crate) fn at(secs: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_795_000_000, 0).unwrap_or_default() + TimeDelta::seconds(secs)
}

fn host(host: &str, state: Option<HostState>, current: &str, target: &str) -> HostStatus {
    let text = |value: &str| (!value.is_empty()).then(|| value.to_owned());
    let (current, target) = (text(current), text(target));
    HostStatus {
        host: host.to_owned(),
        state,
        current,
        target,
        online: true,
        waits_for: None,
        fetching: None,
        reboot_pending: false,
    }
}

pub(crate) fn status() -> Status {
    let old = "/nix/store/5rkbw3i8xgkhn1c3bvkv4vcy9cpb3yvz-nixos-system-db-01-26.05";
    let new = "/nix/store/0c0kbw3i8xgkhn1c3bvkv4vcy9cpb3yv-nixos-system-db-01-26.11";
    let mut hosts = vec![
        host("db-01", Some(HostState::Pending), old, new),
        host("edge-01", None, "", "dir:v2"),
        host("web-01", Some(HostState::Converged), "dir:v2", "dir:v2"),
        host("web-02", Some(HostState::Soaking), "dir:v2", "dir:v2"),
    ];
    hosts[0].waits_for = Some("web-02 to converge (wave 2 of 3)".to_owned());
    hosts[1].online = false;
    Status {
        schema: SCHEMA,
        fleet: "home".to_owned(),
        host: "web-01".to_owned(),
        fleet_serial: Some(4),
        quorum: Quorum { reachable: 3, needed: 2, of: 3, missing: Vec::new() },
        coordinator: Some("web-02".to_owned()),
        alarms: Vec::new(),
        held: None,
        command_serial: Some(6),
        channels: vec![
            ChannelStatus {
                channel: "edge".to_owned(),
                r#ref: None,
                ref_serial: None,
                rollout: None,
                state: None,
                wave: None,
                waves: None,
            },
            ChannelStatus {
                channel: "stable".to_owned(),
                r#ref: Some("v2".to_owned()),
                ref_serial: Some(41),
                rollout: Some("stable@v2".to_owned()),
                state: Some(RolloutState::Active),
                wave: Some(1),
                waves: Some(3),
            },
        ],
        hosts,
        hooks: Vec::new(),
    }
}

/// The operator who signs.
pub(crate) fn operator() -> SigningKey {
    SigningKey::from_seed([7; 32])
}

/// The fleet document's bytes.
pub(crate) fn fleet_bytes() -> Vec<u8> {
    let alice = operator().public().to_openssh();
    let host = |seed| serde_json::json!({ "key": SigningKey::from_seed([seed; 32]).public().to_openssh(), "channel": "stable" });
    let policy = serde_json::json!({ "waves": [{ "selector": { "all": true }, "soakMinutes": 0 }] });
    serde_json::json!({
        "kind": "muster/fleet/1", "fleet": "home", "serial": 4, "signedAt": at(-9000),
        "operators": { "alice": alice },
        "thresholds": { "fleet": 1, "channelRef": 1, "command": 1 },
        "hosts": { "db-01": host(1), "web-01": host(2), "web-02": host(3) },
        "channels": { "stable": { "rolloutPolicy": "all", "freshnessWindowMinutes": 60 } },
        "rolloutPolicies": { "all": policy }
    })
    .to_string()
    .into_bytes()
}

pub(crate) fn fleet() -> FleetDocument {
    let bytes = fleet_bytes();
    FleetDocument {
        schema: SCHEMA,
        serial: 4,
        hash: sha256(&bytes).to_string(),
        signatures: vec![armor(&sign_document(&operator(), Namespace::Fleet, &bytes))],
        document: BASE64.encode(&bytes),
    }
}

pub(crate) fn peers() -> Peers {
    let silent = Peer {
        host: "edge-01".to_owned(),
        peer_id: "12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo".to_owned(),
        connected: false,
        transport: None,
        address: None,
        round_trip_ms: None,
        clock_offset_ms: None,
        agent_version: None,
        last_heard: None,
        feed_incarnation: None,
        feed_seq: None,
        feed_behind: None,
        fleet_serial: None,
        outbox: None,
    };
    let lively = Peer {
        host: "web-02".to_owned(),
        peer_id: "12D3KooWLJtG8fd2hkQzTn96MrLvThmnNQjTUFZwGEsLRz5EmSzc".to_owned(),
        connected: true,
        transport: Some("quic".to_owned()),
        address: Some("/ip4/192.0.2.7/udp/7946/quic-v1".to_owned()),
        round_trip_ms: Some(1.25),
        clock_offset_ms: Some(-40),
        agent_version: Some("0.1.0".to_owned()),
        last_heard: Some(at(-4)),
        feed_incarnation: Some(1_794_000_000),
        feed_seq: Some(812),
        feed_behind: Some(0),
        fleet_serial: Some(4),
        outbox: Some(2),
    };
    Peers { schema: SCHEMA, peers: vec![silent, lively] }
}

pub(crate) fn rollout() -> Rollout {
    Rollout {
        id: "stable@v2".to_owned(),
        channel: "stable".to_owned(),
        r#ref: "v2".to_owned(),
        state: RolloutState::Active,
        wave: 1,
        waves: 3,
        opened_at: at(-300),
        ended_at: None,
        hosts_total: 3,
        hosts_converged: 1,
        hosts_failed: 0,
    }
}

pub(crate) fn rollouts() -> Rollouts {
    let before = Rollout {
        id: "stable@v1".to_owned(),
        r#ref: "v1".to_owned(),
        state: RolloutState::Terminal,
        wave: 2,
        opened_at: at(-90_000),
        ended_at: Some(at(-89_000)),
        hosts_converged: 3,
        ..rollout()
    };
    Rollouts { schema: SCHEMA, rollouts: vec![rollout(), before] }
}

pub(crate) fn rollout_show() -> RolloutShow {
    let waiting = RolloutHost {
        host: "db-01".to_owned(),
        wave: 2,
        state: None,
        excused: None,
        target: "dir:v2".to_owned(),
        dispatched_at: None,
        acknowledged_at: None,
        activated_at: None,
        converged_at: None,
        failed_at: None,
        reverted_at: None,
    };
    let soaking = RolloutHost {
        host: "web-02".to_owned(),
        wave: 1,
        state: Some(HostState::Soaking),
        dispatched_at: Some(at(-60)),
        acknowledged_at: Some(at(-59)),
        activated_at: Some(at(-40)),
        ..waiting.clone()
    };
    let converged = RolloutHost {
        host: "web-01".to_owned(),
        wave: 0,
        state: Some(HostState::Converged),
        dispatched_at: Some(at(-290)),
        acknowledged_at: Some(at(-289)),
        activated_at: Some(at(-280)),
        converged_at: Some(at(-70)),
        ..waiting.clone()
    };
    let wave = |wave, host: &str| Wave {
        wave,
        soak_secs: 60,
        manual_promotion: false,
        promoted: false,
        hosts: vec![host.to_owned()],
    };
    let moment = |secs, what: &str, cause: Option<&str>| Moment {
        at: at(secs),
        what: what.to_owned(),
        cause: cause.map(str::to_owned),
        host: what.split(' ').next().filter(|word| word.starts_with("web")).map(str::to_owned),
        signers: cause
            .and_then(|cause| Some(cause.split_once("signed by ")?.1.to_owned()))
            .into_iter()
            .collect(),
    };
    RolloutShow {
        schema: SCHEMA,
        rollout: rollout(),
        waves: vec![wave(0, "web-01"), wave(1, "web-02"), wave(2, "db-01")],
        hosts: vec![converged, soaking, waiting],
        timeline: vec![
            moment(-300, "opened", Some("channel ref stable 7 signed by alice")),
            moment(-290, "web-01 dispatched in wave 1", None),
            moment(-70, "wave 2 begins", Some("web-01 converged")),
        ],
    }
}

pub(crate) fn event(position: u64) -> Event {
    Event {
        position,
        at: at(i64::try_from(position).unwrap_or(0)),
        kind: EventKind::Event,
        host: Some("web-01".to_owned()),
        rollout: Some("stable@v2".to_owned()),
        name: "Converged".to_owned(),
        detail: "runs dir:v2".to_owned(),
        verified: true,
    }
}

pub(crate) fn quarantines() -> Quarantines {
    let quarantine = Quarantine {
        channel: "stable".to_owned(),
        closure: "dir:v3-broken".to_owned(),
        since: at(-7200),
        rollout: Some("stable@v3".to_owned()),
        host: Some("web-02".to_owned()),
        decision: DecisionId { log_index: 41, ordinal: 0 },
    };
    Quarantines { schema: SCHEMA, quarantines: vec![quarantine] }
}

pub(crate) fn explain() -> Explain {
    Explain {
        schema: SCHEMA,
        subject: "db-01".to_owned(),
        host: Some("db-01".to_owned()),
        rollout: Some("stable@v2".to_owned()),
        summary: "db-01 waits for web-02 to converge".to_owned(),
        gates: vec![
            BlockedGate {
                gate: "window".to_owned(),
                host: Some("db-01".to_owned()),
                reason: "no maintenance window of stable is open".to_owned(),
                waits_for: None,
                way_out: Some("wait, or sign a fleet document with another window".to_owned()),
                opens_at: Some(at(5400)),
            },
            BlockedGate {
                gate: "wave".to_owned(),
                host: Some("db-01".to_owned()),
                reason: "wave 2 is not done".to_owned(),
                waits_for: Some("web-02".to_owned()),
                way_out: None,
                opens_at: None,
            },
        ],
        last_report: Some(LastReport {
            name: "Converged".to_owned(),
            at: at(-80_000),
            detail: "stable@v1, runs dir:v1".to_owned(),
        }),
    }
}

pub(crate) fn plan() -> Plan {
    let gate = |gate: &str, host: &str, reason: &str, way_out: &str| BlockedGate {
        gate: gate.to_owned(),
        host: Some(host.to_owned()),
        reason: reason.to_owned(),
        waits_for: None,
        way_out: Some(way_out.to_owned()),
        opens_at: None,
    };
    let full = gate(
        "budget",
        "web-02",
        "budget 1 is full: 1 of 1 in flight (web-01)",
        "wait for one of them; of one that failed, muster skip web-01 frees the slot",
    );
    let mut shut = explain().gates[0].clone();
    shut.reason = "no maintenance window is open".to_owned();
    let first = PlannedHost {
        host: "web-01".to_owned(),
        target: "dir:v3".to_owned(),
        current: Some("dir:v2".to_owned()),
        on_target: false,
        online: Some(true),
        state: None,
        first: true,
        gates: Vec::new(),
    };
    let second = PlannedHost {
        host: "web-02".to_owned(),
        current: Some("dir:v3".to_owned()),
        on_target: true,
        first: false,
        gates: vec![full],
        ..first.clone()
    };
    let offline = gate("online", "db-01", "the host has not been heard of", "start its agent");
    let wave = gate("wave", "db-01", "wave 1 is not done: waits for web-01, web-02", "muster explain web-01");
    let last = PlannedHost {
        host: "db-01".to_owned(),
        online: Some(false),
        first: false,
        gates: vec![shut, wave, offline],
        ..first.clone()
    };
    Plan {
        schema: SCHEMA,
        fleet: "home".to_owned(),
        rollout: "stable@v3".to_owned(),
        at: at(0),
        refreshes: false,
        supersedes: vec![Superseded { id: "stable@v2".to_owned(), state: RolloutState::Active }],
        signed: 0,
        needed: 1,
        quorum: status().quorum,
        waves: vec![
            PlannedWave { wave: 0, soak_secs: 600, manual_promotion: true, hosts: vec![first, second] },
            PlannedWave { wave: 1, soak_secs: 0, manual_promotion: false, hosts: vec![last] },
        ],
        left_out: vec!["db-02".to_owned()],
    }
}

pub(crate) fn channel() -> Channel {
    let released = |name: &str, serial, state, closure: &str| Released {
        r#ref: name.to_owned(),
        serial,
        fleet_serial: 4,
        signed_at: at(-600),
        state: Some(state),
        targets: [("web-01".to_owned(), closure.to_owned())].into(),
    };
    let refs = vec![
        released("v2", 41, RolloutState::Active, "dir:v2"),
        released("v1", 40, RolloutState::Terminal, "dir:v1"),
    ];
    Channel { schema: SCHEMA, channel: "stable".to_owned(), refs }
}

pub(crate) fn id() -> Id {
    Id {
        schema: SCHEMA,
        fleet: "home".to_owned(),
        host: "web-01".to_owned(),
        peer_id: "12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo".to_owned(),
        public_key: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINYwMmR+z7YBvZ0hyyVQ6EUyEJSa1vVYmyUcFEVD2s9K"
            .to_owned(),
        incarnation: 1_794_000_000,
    }
}

pub(crate) fn store() -> StoreInfo {
    let table = |table: &str, rows, bytes, class: &str| StoreTable {
        table: table.to_owned(),
        rows,
        bytes,
        class: class.to_owned(),
    };
    StoreInfo {
        schema: SCHEMA,
        path: "/var/lib/muster/muster.redb".to_owned(),
        bytes: 1_589_248,
        tables: vec![table("feeds", 812, 402_100, "canonical"), table("host_records", 4, 960, "derived")],
        outbox: 2,
        health: "ok".to_owned(),
    }
}

pub(crate) fn store_verified() -> StoreVerified {
    StoreVerified { schema: SCHEMA, arrivals: Some(812), views: Some(40), ok: true, fault: None }
}

pub(crate) fn document() -> DocumentInfo {
    DocumentInfo {
        schema: SCHEMA,
        hash: format!("sha256-{}", "ab".repeat(32)),
        kind: "channel-ref".to_owned(),
        serial: Some(8),
        accepted: true,
        stored_by: vec!["db-01".to_owned(), "web-01".to_owned()],
        quorum: true,
        effect: None,
    }
}

/// One hook that goes well, and one that does not.
pub(crate) fn hooks() -> Vec<HookStatus> {
    let reason = "https://pager.example.org: status 503 Service Unavailable".to_owned();
    let chat = HookStatus {
        name: "chat".to_owned(),
        calls: "/etc/muster/tell-the-chat".to_owned(),
        events: vec!["rollout-completed".to_owned(), "rollout-failed".to_owned()],
        pending: 0,
        delivered: 7,
        failed: 1,
        given_up: 0,
        failed_last: None,
        failed_last_at: None,
        dead: Vec::new(),
    };
    let dead = DeadCall {
        id: "quorum-lost:seen:web-01:1795000020000".to_owned(),
        event: "quorum-lost".to_owned(),
        at: at(-7200),
        rollout: None,
        host: None,
        given_up_at: at(-60),
        tries: 20,
        reason: reason.clone(),
    };
    let pager = HookStatus {
        name: "pager".to_owned(),
        calls: "https://pager.example.org".to_owned(),
        events: vec!["quorum-lost".to_owned()],
        pending: 2,
        delivered: 1,
        failed: 21,
        given_up: 1,
        failed_last: Some(reason),
        failed_last_at: Some(at(-7200)),
        dead: vec![dead],
    };
    vec![chat, pager]
}

/// A hook that was called.
pub(crate) fn hook_done(hook: &str) -> HookDone {
    HookDone { schema: SCHEMA, hook: hook.to_owned(), ok: true, reason: None, calls: 1 }
}
