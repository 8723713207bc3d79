//! What people and programs read: every command in text and in JSON, and the same over the socket.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use muster_tests::{Agent, Fleet, Muster, Release, has_program, poll, wait_for};
use serde_json::{Value, json};

/// A command, the route whose body `--json` repeats, and what its text must speak of.
const COMMANDS: [(&[&str], &str, &[&str]); 8] = [
    (&["status"], "/v1/status", &["stable", "host-0", "host-1", "host-2"]),
    (&["peers"], "/v1/peers", &["host-1", "host-2", "quic"]),
    (&["rollout", "list"], "/v1/rollouts", &["stable@r1", "Terminal"]),
    (&["rollout", "show", "stable@r1"], "/v1/rollouts/stable@r1", &["stable@r1", "host-2", "Converged"]),
    (&["explain", "host-1"], "/v1/explain/host-1", &["host-1"]),
    (&["explain", "stable@r1"], "/v1/explain/stable@r1", &["stable@r1"]),
    (&["events"], "/v1/events", &["Converged", "host-2"]),
    (&["quarantine", "list"], "/v1/quarantines", &[]),
];

/// What is in step between two looks a moment apart: without times, round trips and the like.
fn settled(mut body: Value) -> Value {
    if let Some(peers) = body["peers"].as_array_mut() {
        for peer in peers {
            for moving in
                ["round_trip_ms", "clock_offset_ms", "last_heard", "feed_behind", "outbox", "address"]
            {
                peer[moving] = Value::Null;
            }
        }
    }
    body
}

#[test]
fn every_reading_command_answers_in_text_and_in_json() {
    let fleet = Fleet::of(3).build();
    fleet.install("v1", Release::GOOD);
    fleet.launch();
    let rollout = fleet.roll_out("r1", "v1");
    fleet.wait_for_rollout(&rollout, "Terminal");
    let agent = &fleet.agents[0];
    for (arguments, route, words) in COMMANDS {
        let text = agent.muster(arguments.iter().copied()).run().ok();
        for word in words {
            assert!(text.contains(word), "{arguments:?} does not speak of {word}:\n{text}");
        }
        assert!(!text.contains('\u{1b}'), "{arguments:?} has colours though nobody sees them:\n{text}");
        let body = agent.muster(arguments.iter().copied()).arg("--json").run().json();
        assert_eq!(body["schema"], 1, "{arguments:?}");
        assert_eq!(settled(body), settled(agent.look(route)), "{arguments:?} --json is the body of {route}");
    }
    let stats = agent.muster(["store", "stats", "--json"]).run().json();
    assert_eq!(stats["schema"], 1);
    assert_eq!(stats["health"], "ok", "{stats}");
    let tables: Vec<_> = stats["tables"].as_array().unwrap().iter().map(|table| &table["table"]).collect();
    assert!(tables.contains(&&json!("feeds")), "{tables:?}");
    assert!(agent.muster(["store", "stats"]).run().ok().contains("feeds"));
    the_socket_is_plain_http(&fleet);
    who_looks_on_ends_with_its_reader(agent);
    a_host_knows_who_it_is(&fleet);
}

/// `muster events --follow | head -1` ends although nothing more happens; what cannot be written is an error.
fn who_looks_on_ends_with_its_reader(agent: &Agent) {
    for arguments in [&["events", "--follow"][..], &["status", "--watch"]] {
        let mut first = String::new();
        let status = agent.muster(arguments.iter().copied()).read(|out| {
            BufReader::new(out).read_line(&mut first).unwrap();
        });
        assert!(status.success() && !first.is_empty(), "{arguments:?}: {status}, {first:?}");
    }
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let ran = agent.muster(["status"]).into_file(full).expect_code(1);
    assert!(ran.stderr.contains("could not be written"), "{ran:?}");
}

fn a_host_knows_who_it_is(fleet: &Fleet) {
    let agent = &fleet.agents[0];
    let key = agent.folder.join("key");
    let id = || Muster::new(["id", "--host", "host-0", "--identity"]).arg(&key);
    assert!(id().run().ok().contains(&agent.key.public().to_openssh()));
    let (read, told) = (id().arg("--json").run().json(), agent.look("/v1/id"));
    assert_eq!(read["schema"], 1);
    assert_eq!((&read["key"], &read["peer_id"]), (&told["public_key"], &told["peer_id"]), "{told}");
    assert_eq!(told["peer_id"], agent.key.public().peer_id().to_string());
}

fn the_socket_is_plain_http(fleet: &Fleet) {
    let agent = &fleet.agents[0];
    let metrics = agent.ask("/metrics").unwrap();
    let text = String::from_utf8(metrics.body).unwrap();
    assert!(metrics.media_type.starts_with("application/openmetrics-text"), "{}", metrics.media_type);
    assert!(text.contains("muster_build_info") && text.ends_with("# EOF\n"), "{text}");
    let missing = agent.ask("/v1/rollouts/stable@nothing").unwrap();
    assert_eq!((missing.status, &missing.json()["code"]), (404, &json!("not_found")));
    agent.muster(["rollout", "show", "stable@nothing"]).run().expect_code(1);
    if has_program("curl") {
        let socket = agent.socket();
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--fail", "--unix-socket"])
            .arg(socket)
            .arg("http://muster/v1/status")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let seen: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(seen["hosts"], agent.look("/v1/status")["hosts"]);
    }
}

#[test]
fn whoever_follows_the_events_misses_none() {
    let fleet = Fleet::of(3).build();
    fleet.install("v1", Release::GOOD);
    fleet.launch();
    let positions = |events: &mut dyn Iterator<Item = Value>| -> Vec<u64> {
        events.map(|event| event["position"].as_u64().unwrap()).collect()
    };
    let told = |file: &Path| {
        let text = fs::read_to_string(file).unwrap();
        // The last line may be half written.
        positions(&mut text.lines().map_while(|line| serde_json::from_str(line).ok()))
    };
    let follow = |agent: &Agent| {
        let file = fleet.folder().join(format!("{}.told", agent.name));
        (agent.muster(["events", "--follow", "--json"]).follow(&file), file)
    };
    let followers: Vec<_> = fleet.agents.iter().map(follow).collect();
    for (_, file) in &followers {
        wait_for("something is told", Duration::from_secs(30), || (!told(file).is_empty()).then_some(()));
    }
    let rollout = fleet.roll_out("r1", "v1");
    fleet.wait_for_rollout(&rollout, "Terminal");
    for (agent, (_, file)) in fleet.agents.iter().zip(&followers) {
        let first = told(file)[0];
        let mut seen = (Vec::new(), Vec::new());
        let told_all = poll(Duration::from_secs(20), || {
            let all =
                positions(&mut agent.events().into_iter()).into_iter().filter(|position| *position >= first);
            seen = (told(file), all.collect());
            (seen.0 == seen.1).then_some(())
        });
        assert!(told_all.is_some(), "{}: told {:?} of {:?}", agent.name, seen.0, seen.1);
    }
}

#[test]
fn usage_errors_and_absent_agents_have_their_own_exit_codes() {
    for (arguments, code) in [
        (&["status", "--socket", "/nonexistent/muster.sock"][..], 3),
        (&["stattus"], 2),
        (&["rollout", "show"], 2),
        (&["--help"], 0),
        (&["--version"], 0),
    ] {
        let ran = Muster::new(arguments).run().expect_code(code);
        assert!(code == 0 || !ran.stderr.is_empty(), "{arguments:?} says what is wrong");
    }
}
