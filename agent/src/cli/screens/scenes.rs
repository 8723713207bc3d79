//! Fleets as one agent may see them, for the screens: one in the middle of everything, one at rest, one without a quorum,
//! one that has just begun.

use super::desk;
use crate::control::wire::fixtures::{self, at};
use crate::control::wire::*;
use crate::control::{Answer, Ask, Code, EventFilter, Problem, Query, Request};

/// What the agent of `web-01` is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scene {
    /// A rollout in each state, hosts in each state, trouble of each kind.
    Busy,
    /// Everything has converged, and nothing is to do.
    Calm,
    /// Two of three coordinators are gone.
    NoQuorum,
    /// The agent was started a moment ago, and holds nothing.
    Fresh,
}

/// What its agent answers.
pub(super) fn answer(scene: Scene, request: &Request) -> Result<Answer, Problem> {
    let fresh = scene == Scene::Fresh;
    let query = match &request.ask {
        Ask::Publish(parts) => {
            let hash = muster_signing::sha256(&parts.bytes).to_string();
            return Ok(Answer::Receipt(DocumentReceipt { schema: SCHEMA, hash, duplicate: false }));
        }
        Ask::VerifyStore => return Ok(Answer::StoreVerified(fixtures::store_verified())),
        Ask::Plan(_) => return Ok(Answer::Plan(plan())),
        Ask::Hook { name, .. } => return Ok(Answer::Hook(hook_done(name))),
        Ask::Query(query) => query,
    };
    let missing = |what: &str| Err(Problem::new(Code::NotFound, what));
    match query {
        Query::Status => Ok(Answer::Status(status(scene))),
        Query::Fleet if fresh => missing("this host holds no fleet document yet"),
        Query::Fleet => Ok(Answer::Fleet(fixtures::fleet())),
        Query::Peers if fresh => Ok(Answer::Peers(Peers { schema: SCHEMA, peers: Vec::new() })),
        Query::Peers => Ok(Answer::Peers(peers())),
        Query::Rollouts if fresh => Ok(Answer::Rollouts(Rollouts { schema: SCHEMA, rollouts: Vec::new() })),
        Query::Rollouts => Ok(Answer::Rollouts(rollouts())),
        Query::Rollout(id) => match rollouts().rollouts.into_iter().find(|it| it.id == *id) {
            Some(rollout) => Ok(Answer::Rollout(show(rollout))),
            None => missing(&format!("no rollout {id}")),
        },
        Query::RolloutNow(id) => match rollouts().rollouts.into_iter().find(|it| it.id == *id) {
            Some(rollout) => Ok(Answer::Rollout(RolloutShow { timeline: Vec::new(), ..show(rollout) })),
            None => missing("no such rollout"),
        },
        Query::Explain(subject) => Ok(Answer::Explain(explain(subject))),
        Query::Events(_) if fresh => Ok(Answer::Events(Events { schema: SCHEMA, events: Vec::new() })),
        Query::Events(EventFilter { after: Some(_), .. }) => {
            Err(Problem::new(Code::Unavailable, "the agent stops"))
        }
        Query::Events(EventFilter { limit: 1, .. }) => {
            Ok(Answer::Events(Events { schema: SCHEMA, events: vec![fixtures::event(1000)] }))
        }
        Query::Events(_) => Ok(Answer::Events(events())),
        Query::Quarantines if scene == Scene::Busy => Ok(Answer::Quarantines(quarantines())),
        Query::Quarantines => {
            Ok(Answer::Quarantines(Quarantines { schema: SCHEMA, quarantines: Vec::new() }))
        }
        Query::Channel(_) => Ok(Answer::Channel(fixtures::channel())),
        Query::Id => {
            let public_key = desk::host_key().public().to_openssh();
            Ok(Answer::Id(Id { public_key, ..fixtures::id() }))
        }
        Query::Store => Ok(Answer::Store(fixtures::store())),
        Query::Document(hash) => Ok(Answer::Document(document(hash))),
        Query::Metrics => Ok(Answer::Metrics("# EOF\n".to_owned())),
    }
}

/// A system in the Nix store.
fn system(hash: char, host: &str, version: &str) -> String {
    let hash: String = std::iter::repeat_n(hash, 32).collect();
    format!("/nix/store/{hash}-nixos-system-{host}-{version}")
}

fn text(value: &str) -> Option<String> {
    (!value.is_empty()).then(|| value.to_owned())
}

fn host(name: &str, state: Option<HostState>, waits_for: &str) -> HostStatus {
    let (old, new) = (system('a', name, "26.05"), system('b', name, "26.11"));
    let moved = matches!(state, Some(HostState::Soaking | HostState::Converged | HostState::Failed));
    HostStatus {
        host: name.to_owned(),
        state,
        current: Some(if moved { new.clone() } else { old }),
        target: Some(new),
        online: true,
        waits_for: text(waits_for),
        fetching: None,
        reboot_pending: false,
    }
}

fn hosts() -> Vec<HostStatus> {
    let paused = "channel stable is paused: the database moves tonight";
    let mut hosts = vec![
        host("backup-01", None, ""),
        host("cache-01", Some(HostState::Pending), "the host still fetches its target"),
        host("db-01", Some(HostState::Deferred), ""),
        host("db-02", None, "wave 2 is not done: waits for db-01, web-02, web-03"),
        host("edge-01", None, "the host has not been heard of for 3 heartbeats"),
        host("mail-01", Some(HostState::Failed), ""),
        host("mail-02", Some(HostState::Reverted), ""),
        host("monitoring-and-logging-01", None, paused),
        host("web-01", Some(HostState::Converged), ""),
        host("web-02", Some(HostState::Soaking), ""),
        host("web-03", Some(HostState::Activating), ""),
    ];
    hosts[0].target = None;
    hosts[1].fetching = Some("214 of 893 paths, 1.2 GiB to go".to_owned());
    hosts[4].online = false;
    hosts[8].reboot_pending = true;
    hosts
}

fn channel(channel: &str, released: Option<(&str, RolloutState, u32)>) -> ChannelStatus {
    ChannelStatus {
        channel: channel.to_owned(),
        r#ref: released.map(|(name, ..)| name.to_owned()),
        ref_serial: released.map(|_| 41),
        rollout: released.map(|(name, ..)| format!("{channel}@{name}")),
        state: released.map(|(_, state, _)| state),
        wave: released.map(|(.., wave)| wave),
        waves: released.map(|_| 3),
    }
}

fn status(scene: Scene) -> Status {
    let missing = |hosts: &[&str]| hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut status = Status {
        schema: SCHEMA,
        fleet: "home".to_owned(),
        host: "web-01".to_owned(),
        fleet_serial: Some(4),
        quorum: Quorum { reachable: 2, needed: 2, of: 3, missing: missing(&["db-01"]) },
        coordinator: Some("web-02".to_owned()),
        alarms: vec![
            "web-09 signed two different envelopes for place 17 of its feed: it is no longer believed"
                .to_owned(),
        ],
        held: None,
        command_serial: Some(6),
        channels: vec![
            channel("archive", Some(("v7", RolloutState::Superseded, 1))),
            channel("canary", Some(("v9", RolloutState::Reverted, 0))),
            channel("edge", Some(("v4", RolloutState::Failed, 1))),
            channel("infra", Some(("v5", RolloutState::Terminal, 2))),
            channel("lab", None),
            channel("ops", Some(("v1", RolloutState::Opening, 0))),
            channel("stable", Some(("v2", RolloutState::Active, 1))),
            channel("web", Some(("v3", RolloutState::Converging, 2))),
        ],
        hosts: hosts(),
        hooks: Vec::new(),
    };
    match scene {
        Scene::Busy => status.hooks = hooks(),
        Scene::Calm => {
            status.quorum = Quorum { reachable: 3, missing: Vec::new(), ..status.quorum };
            status.alarms.clear();
            status.channels = vec![channel("stable", Some(("v2", RolloutState::Terminal, 2)))];
            let names = ["db-01", "web-01", "web-02"];
            status.hosts = names.iter().map(|name| host(name, Some(HostState::Converged), "")).collect();
        }
        Scene::NoQuorum => {
            status.quorum = Quorum { reachable: 1, missing: missing(&["db-01", "web-02"]), ..status.quorum };
            status.coordinator = None;
            status.held = Some(
                "1 of 3 coordinators can be reached and 2 are needed; missing: db-01, web-02".to_owned(),
            );
            status.channels = vec![channel("stable", Some(("v2", RolloutState::Active, 1)))];
        }
        Scene::Fresh => {
            status.fleet_serial = None;
            status.quorum = Quorum { reachable: 0, needed: 0, of: 0, missing: Vec::new() };
            status.coordinator = None;
            status.alarms.clear();
            status.held = Some(
                "this host holds no fleet document yet; publish one, or name a bootstrap peer".to_owned(),
            );
            (status.command_serial, status.channels, status.hosts) = (None, Vec::new(), Vec::new());
        }
    }
    status
}

fn peers() -> Peers {
    let mut peers = fixtures::peers().peers;
    let (silent, lively) = (peers[0].clone(), peers[1].clone());
    peers.push(Peer {
        host: "monitoring-and-logging-01".to_owned(),
        transport: Some("tcp".to_owned()),
        address: Some("/dns4/monitoring-and-logging-01.example.org/tcp/7946".to_owned()),
        round_trip_ms: Some(212.0),
        clock_offset_ms: Some(94_000),
        feed_behind: Some(14),
        outbox: Some(0),
        last_heard: Some(at(-40)),
        ..lively
    });
    peers.push(Peer { host: "web-03".to_owned(), last_heard: Some(at(-86_400)), ..silent });
    Peers { schema: SCHEMA, peers }
}

fn rollout(id: &str, state: RolloutState, wave: u32, opened: i64, took: Option<i64>) -> Rollout {
    let (channel, name) = id.split_once('@').unwrap_or((id, ""));
    let failed = matches!(state, RolloutState::Failed | RolloutState::Reverted);
    Rollout {
        id: id.to_owned(),
        channel: channel.to_owned(),
        r#ref: name.to_owned(),
        state,
        wave,
        waves: 3,
        opened_at: at(opened),
        ended_at: took.map(|took| at(opened + took)),
        hosts_total: 10,
        hosts_converged: if state == RolloutState::Terminal { 10 } else { wave * 3 },
        hosts_failed: u32::from(failed) * 2,
    }
}

/// One in each state.
fn rollouts() -> Rollouts {
    use RolloutState::{Active, Converging, Failed, Opening, Pruned, Reverted, Superseded, Terminal};
    let rollouts = vec![
        rollout("ops@v1", Opening, 0, -2, None),
        rollout("stable@v2", Active, 1, -300, None),
        rollout("web@v3", Converging, 2, -7200, None),
        rollout("edge@v4", Failed, 1, -30_000, Some(1900)),
        rollout("canary@v9", Reverted, 0, -80_000, Some(95)),
        rollout("stable@v1", Terminal, 2, -90_000, Some(4000)),
        rollout("archive@v7", Superseded, 1, -900_000, Some(200_000)),
        rollout("infra@2026.05.1-with-a-name-of-some-length", Pruned, 2, -9_000_000, Some(5000)),
    ];
    Rollouts { schema: SCHEMA, rollouts }
}

fn rollout_host(name: &str, wave: u32, state: Option<HostState>) -> RolloutHost {
    let times = |wanted: &[HostState], secs| state.filter(|state| wanted.contains(state)).map(|_| at(secs));
    use HostState::{Activating, Converged, Deferred, Failed, Reverted, Soaking};
    RolloutHost {
        host: name.to_owned(),
        wave,
        state,
        excused: None,
        target: system('b', name, "26.11"),
        dispatched_at: state.map(|_| at(-290)),
        acknowledged_at: times(&[Activating, Deferred, Soaking, Converged, Failed, Reverted], -289),
        activated_at: times(&[Soaking, Converged, Failed], -240),
        converged_at: times(&[Converged], -70),
        failed_at: times(&[Failed, Reverted], -60),
        reverted_at: times(&[Reverted], -45),
    }
}

fn show(rollout: Rollout) -> RolloutShow {
    use HostState::{Activating, Converged, Deferred, Failed, Pending, Reverted, Soaking};
    let stands = match rollout.state {
        RolloutState::Opening => [None; 10],
        RolloutState::Terminal | RolloutState::Pruned | RolloutState::Converging => [Some(Converged); 10],
        RolloutState::Failed | RolloutState::Reverted => {
            let (failed, back) = (Some(Failed), Some(Reverted));
            [Some(Converged), back, failed, None, None, None, None, None, None, None]
        }
        RolloutState::Active | RolloutState::Superseded | RolloutState::Unknown => [
            Some(Converged),
            Some(Converged),
            Some(Failed),
            Some(Soaking),
            Some(Activating),
            Some(Deferred),
            Some(Pending),
            None,
            None,
            None,
        ],
    };
    let names = [
        "web-01",
        "web-04",
        "mail-01",
        "web-02",
        "web-03",
        "db-01",
        "cache-01",
        "db-02",
        "edge-01",
        "monitoring-and-logging-01",
    ];
    let place = |wave: u32| names.iter().skip(wave as usize * 3).take(if wave == 2 { 4 } else { 3 });
    let mut hosts: Vec<RolloutHost> = (0..3)
        .flat_map(|wave| place(wave).map(move |name| (wave, *name)))
        .zip(stands)
        .map(|((wave, name), state)| rollout_host(name, wave, state))
        .collect();
    if rollout.state == RolloutState::Active {
        hosts[2].excused = Some("failed, as many may".to_owned());
        hosts[8].excused = Some("offline before it was dispatched".to_owned());
    }
    let waves = (0..3).map(|wave| Wave {
        wave,
        soak_secs: [600, 60, 0][wave as usize],
        manual_promotion: wave == 0,
        promoted: wave == 0,
        hosts: place(wave).map(|name| (*name).to_owned()).collect(),
    });
    RolloutShow { schema: SCHEMA, waves: waves.collect(), hosts, timeline: timeline(&rollout), rollout }
}

fn timeline(rollout: &Rollout) -> Vec<Moment> {
    let begun = rollout.opened_at;
    let moment = |secs, what: &str, cause: &str, host: &str, signers: &[&str]| Moment {
        at: begun + chrono::TimeDelta::seconds(secs),
        what: what.to_owned(),
        cause: text(cause),
        host: text(host),
        signers: signers.iter().map(|name| (*name).to_owned()).collect(),
    };
    let agreed = "signed by db-01, web-02";
    let mut moments = vec![
        moment(-4, "the release is signed", "channel ref, serial 41", "", &["alice"]),
        moment(0, "the rollout opens", agreed, "", &["db-01", "web-02"]),
    ];
    if rollout.state != RolloutState::Opening {
        moments.extend([
            moment(10, "web-01 is dispatched in wave 1", agreed, "web-01", &["db-01", "web-02"]),
            moment(11, "web-01: DispatchAck", "will activate; runs dir:v1", "web-01", &["web-01"]),
            moment(60, "web-01: ActivationCompleted", "runs dir:v2", "web-01", &["web-01"]),
        ]);
    }
    if matches!(rollout.state, RolloutState::Failed | RolloutState::Reverted) {
        let why = "site failed for 60 s";
        moments.extend([
            moment(80, "mail-01: Failed", why, "mail-01", &["mail-01"]),
            moment(
                84,
                "dir:v2 is quarantined: it failed on mail-01",
                agreed,
                "mail-01",
                &["db-01", "web-02"],
            ),
            moment(95, "mail-01: RollbackComplete", "went back to dir:v1", "mail-01", &["mail-01"]),
        ]);
    }
    moments
}

fn gate(gate: &str, host: &str, reason: &str, way_out: &str) -> BlockedGate {
    BlockedGate {
        gate: gate.to_owned(),
        host: Some(host.to_owned()),
        reason: reason.to_owned(),
        waits_for: None,
        way_out: text(way_out),
        opens_at: None,
    }
}

fn explain(subject: &str) -> Explain {
    let rollout = subject.contains('@');
    let held = gate(
        "budget",
        "db-02",
        "budget 1 is full: 3 of 3 in flight (db-01, web-02, web-03)",
        "wait for one of them; of one that failed, muster skip HOST frees the slot",
    );
    let mut window =
        gate("window", "db-02", "no maintenance window of stable is open", "wait, or sign another window");
    window.opens_at = Some(at(5400));
    let mut wave = gate("wave", "db-02", "wave 2 is not done", "");
    wave.waits_for = Some("db-01, web-02, web-03".to_owned());
    let paused = gate(
        "paused",
        "db-02",
        "channel stable is paused: the database moves tonight",
        "muster resume stable --reason '...' --key KEY",
    );
    Explain {
        schema: SCHEMA,
        subject: subject.to_owned(),
        host: (!rollout).then(|| subject.to_owned()),
        rollout: Some("stable@v2".to_owned()),
        summary: format!("{subject} waits: 4 gates are closed"),
        gates: vec![paused, window, wave, held],
        last_report: (!rollout).then(|| LastReport {
            name: "Converged".to_owned(),
            at: at(-80_000),
            detail: "stable@v1, runs dir:v1".to_owned(),
        }),
    }
}

/// One that goes well, and one whose receiver is broken.
fn hooks() -> Vec<HookStatus> {
    let mut hooks = fixtures::hooks();
    if let Some(dead) = hooks[1].dead.first_mut() {
        (dead.rollout, dead.host) = (text("edge@v4"), text("mail-01"));
    }
    hooks
}

fn hook_done(name: &str) -> HookDone {
    let reason = (name == "pager").then(|| "status 503 Service Unavailable".to_owned());
    HookDone { ok: reason.is_none(), reason, ..fixtures::hook_done(name) }
}

fn plan() -> Plan {
    let mut plan = fixtures::plan();
    plan.waves[0].hosts[1].state = Some(HostState::Converged);
    plan.waves[1].hosts[0].gates[1].waits_for = text("web-01, web-02");
    plan
}

fn events() -> Events {
    let event = |position, kind, host: &str, name: &str, detail: &str, verified| Event {
        kind,
        host: text(host),
        rollout: (kind != EventKind::Document).then(|| "stable@v2".to_owned()),
        name: name.to_owned(),
        detail: detail.to_owned(),
        verified,
        ..fixtures::event(position)
    };
    let failure =
        "site fails: http://127.0.0.1:8080/health answered 503 Service Unavailable, not 200, in 12 ms";
    let events = vec![
        event(1, EventKind::Document, "", "channel-ref", "stable, serial 41, by alice", true),
        event(2, EventKind::Log, "", "RolloutOpened", "opened for v2", true),
        event(3, EventKind::Decision, "web-01", "Dispatch", "wave 1, signed by db-01, web-02", true),
        event(4, EventKind::Event, "web-01", "Converged", "runs dir:v2, healthy", true),
        event(5, EventKind::Event, "monitoring-and-logging-01", "ProbeResult", failure, true),
        event(6, EventKind::Event, "web-09", "Converged", "runs dir:v2, healthy", false),
    ];
    Events { schema: SCHEMA, events }
}

fn quarantines() -> Quarantines {
    let mut quarantines = fixtures::quarantines().quarantines;
    let system = system('c', "mail-01", "26.11");
    quarantines.push(Quarantine { closure: system, since: at(-60), host: None, ..quarantines[0].clone() });
    Quarantines { schema: SCHEMA, quarantines }
}

fn document(hash: &str) -> DocumentInfo {
    let effect = CommandEffect {
        in_effect: true,
        summary: "stable is paused".to_owned(),
        detail: Some("3 hosts not dispatched wait, 2 hosts in flight finish by themselves".to_owned()),
        held: vec!["db-02".to_owned()],
        free: Vec::new(),
        in_flight: vec!["web-02".to_owned(), "web-03".to_owned()],
    };
    DocumentInfo { hash: hash.to_owned(), effect: Some(effect), ..fixtures::document() }
}
