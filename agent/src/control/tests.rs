//! Server and client over a real socket, with a stand-in for the daemon's loop behind it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::time::Duration;

use data_encoding::BASE64;
use muster_signing::{Namespace, SigningKey, armor, sign_document};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::oneshot;

use super::client::{Client, ClientError, encoded};
use super::server::{BindError, Limits, Listener};
use super::wire::{self, SCHEMA, SignedDocument, fixtures};
use super::*;

mod following;

/// A socket with a server on it, and the loop's end.
pub(crate) struct Bench {
    pub(crate) path: PathBuf,
    pub(crate) client: Client,
    position: watch::Sender<u64>,
}

/// Runs a test against a server whose loop answers as `answer` says.
pub(crate) fn check(
    limits: Limits,
    answer: impl Fn(&Request) -> Option<Result<Answer, Problem>> + 'static,
    test: impl AsyncFnOnce(&Bench),
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("muster.sock");
        let (door, Inbox { mut requests, position }) = door();
        let listener = Listener::bind(&path).unwrap();
        tokio::task::spawn_local(listener.serve(door, limits, std::future::pending()));
        tokio::task::spawn_local(async move {
            let mut kept = Vec::new();
            while let Some(request) = requests.recv().await {
                match answer(&request) {
                    Some(answer) => drop(request.reply.send(answer)),
                    None => kept.push(request),
                }
            }
        });
        let client = Client::new(&path);
        test(&Bench { path, client, position }).await;
    });
}

/// What the stand-in answers: the fixtures, and for each kind of refusal a name that asks for it.
fn stub(request: &Request) -> Option<Result<Answer, Problem>> {
    assert_eq!(request.peer.map(|peer| peer.pid), i32::try_from(std::process::id()).ok());
    let query = match &request.ask {
        Ask::Publish(parts) => {
            let code = Code::ALL.iter().find(|code| code.name().as_bytes() == parts.bytes);
            let receipt = wire::DocumentReceipt { schema: SCHEMA, hash: "ab".repeat(32), duplicate: false };
            return Some(
                code.map_or(Ok(Answer::Receipt(receipt)), |code| Err(Problem::new(*code, "as asked"))),
            );
        }
        Ask::VerifyStore => return Some(Ok(Answer::StoreVerified(fixtures::store_verified()))),
        Ask::Plan(_) => return Some(Ok(Answer::Plan(fixtures::plan()))),
        Ask::Hook { name, .. } => return Some(Ok(Answer::Hook(fixtures::hook_done(name)))),
        Ask::Query(query) => query,
    };
    Some(match query {
        Query::Status => Ok(Answer::Status(fixtures::status())),
        Query::Fleet => Ok(Answer::Fleet(fixtures::fleet())),
        Query::Peers => Ok(Answer::Peers(fixtures::peers())),
        Query::Rollouts => Ok(Answer::Rollouts(fixtures::rollouts())),
        Query::Rollout(id) if id == "stable@v2" => Ok(Answer::Rollout(fixtures::rollout_show())),
        Query::RolloutNow(id) if id == "stable@v2" => {
            Ok(Answer::Rollout(wire::RolloutShow { timeline: Vec::new(), ..fixtures::rollout_show() }))
        }
        Query::Rollout(id) | Query::RolloutNow(id) => {
            Err(Problem::new(Code::NotFound, format_args!("no rollout {id}")))
        }
        Query::Explain(_) => Ok(Answer::Explain(fixtures::explain())),
        Query::Events(filter) => {
            let first =
                filter.after.map_or(4u64.saturating_sub(filter.limit.into()).max(1), |after| after + 1);
            let events = (first..=3).take(filter.limit as usize).map(fixtures::event).collect();
            Ok(Answer::Events(wire::Events { schema: SCHEMA, events }))
        }
        Query::Quarantines => Ok(Answer::Quarantines(fixtures::quarantines())),
        Query::Channel(_) => Ok(Answer::Channel(fixtures::channel())),
        Query::Id => Ok(Answer::Id(fixtures::id())),
        Query::Store => Ok(Answer::Store(fixtures::store())),
        Query::Document(hash) if *hash != fixtures::document().hash => {
            Err(Problem::new(Code::NotFound, format_args!("no document {hash}")))
        }
        Query::Document(_) => Ok(Answer::Document(fixtures::document())),
        Query::Metrics => Ok(Answer::Metrics("# EOF\n".to_owned())),
    })
}

/// Sends bytes as they are and reads until the server closes.
async fn raw(path: &PathBuf, request: &str) -> String {
    let mut stream = UnixStream::connect(path).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

fn refusal<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> Problem {
    match answer.unwrap_err() {
        ClientError::Refused(problem) => *problem,
        other @ (ClientError::Unreachable { .. } | ClientError::Silent { .. } | ClientError::Protocol(_)) => {
            panic!("{other}")
        }
    }
}

fn signed(document: &[u8]) -> SignedDocument {
    let key = SigningKey::from_seed([7; 32]);
    let signature = armor(&sign_document(&key, Namespace::ChannelRef, document));
    SignedDocument { document: BASE64.encode(document), signatures: vec![signature] }
}

#[test]
fn every_route_answers_with_its_wire_type() {
    check(Limits::default(), stub, async |bench| {
        fn json(value: impl serde::Serialize) -> Value {
            serde_json::to_value(value).unwrap()
        }
        let hash = "AB".repeat(32);
        let prefixed = format!("sha256-{hash}");
        let now = wire::RolloutShow { timeline: Vec::new(), ..fixtures::rollout_show() };
        let events = wire::Events { schema: SCHEMA, events: (1..=3).map(fixtures::event).collect() };
        let cases = [
            ("/v1/status".to_owned(), json(fixtures::status())),
            ("/v1/fleet".to_owned(), json(fixtures::fleet())),
            ("/v1/peers".to_owned(), json(fixtures::peers())),
            ("/v1/rollouts".to_owned(), json(fixtures::rollouts())),
            ("/v1/rollouts/stable@v2".to_owned(), json(fixtures::rollout_show())),
            ("/v1/rollouts/stable%40v2".to_owned(), json(fixtures::rollout_show())),
            ("/v1/rollouts/stable@v2?timeline=0".to_owned(), json(now)),
            ("/v1/explain/db-01".to_owned(), json(fixtures::explain())),
            ("/v1/events".to_owned(), json(events)),
            ("/v1/quarantines".to_owned(), json(fixtures::quarantines())),
            ("/v1/id".to_owned(), json(fixtures::id())),
            ("/v1/store".to_owned(), json(fixtures::store())),
            ("/v1/store/verify".to_owned(), json(fixtures::store_verified())),
            (format!("/v1/documents/{hash}"), json(fixtures::document())),
            (format!("/v1/documents/{prefixed}"), json(fixtures::document())),
            ("/healthz".to_owned(), json!({ "schema": 1, "status": "ok" })),
        ];
        for (route, expected) in cases {
            assert_eq!(bench.client.read::<Value>(&route).await.unwrap(), expected, "{route}");
        }
        assert_eq!(&bench.client.get("/metrics").await.unwrap()[..], b"# EOF\n");
    });
}

#[test]
fn absent_is_null_and_times_are_utc() {
    let status = serde_json::to_value(fixtures::status()).unwrap();
    assert_eq!(
        status["channels"][0],
        json!({
            "channel": "edge", "ref": null, "ref_serial": null, "rollout": null, "state": null, "wave": null,
            "waves": null
        })
    );
    assert_eq!(status["hosts"][1]["waits_for"], Value::Null);
    let show = serde_json::to_value(fixtures::rollout_show()).unwrap();
    assert_eq!(show["rollout"]["opened_at"], json!("2026-11-18T11:01:40Z"));
    assert_eq!(show["hosts"][1]["state"], json!("Soaking"));
}

#[test]
fn states_of_a_newer_agent_are_read_as_unknown() {
    assert_eq!(
        serde_json::from_value::<wire::HostState>(json!("Dreaming")).unwrap(),
        wire::HostState::Unknown
    );
    assert_eq!(
        serde_json::from_value::<wire::RolloutState>(json!("Dreaming")).unwrap(),
        wire::RolloutState::Unknown
    );
}

#[test]
fn plain_http_clients_are_understood() {
    check(Limits::default(), stub, async |bench| {
        let request = "GET /v1/id HTTP/1.1\r\nHost: localhost\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\nConnection: close\r\n\r\n";
        let answer = raw(&bench.path, request).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"), "{answer}");
        let problem = raw(&bench.path, "GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        assert!(problem.contains("content-type: application/problem+json\r\n"), "{problem}");
    });
}

#[test]
fn what_cannot_be_asked_is_a_problem_with_a_code() {
    check(Limits::default(), stub, async |bench| {
        let long = format!("/v1/explain/{}", "x".repeat(300));
        for (route, code) in [
            ("/", Code::NotFound),
            ("/v1/nothing", Code::NotFound),
            ("/v1/rollouts/stable@v9", Code::NotFound),
            ("/v1/documents", Code::MethodNotAllowed),
            ("/v1/documents/abc", Code::BadRequest),
            ("/v1/rollouts/stable@v2?timeline=maybe", Code::BadRequest),
            ("/v1/rollouts/stable@v2?times=0", Code::BadRequest),
            ("/v1/explain/a%20b", Code::BadRequest),
            ("/v1/explain/%ff", Code::BadRequest),
            ("/v1/explain/%1b%5b2J", Code::BadRequest),
            (&long, Code::BadRequest),
            ("/v1/events?since=yesterday", Code::BadRequest),
            ("/v1/events?limit=-1", Code::BadRequest),
            ("/v1/events?colour=red", Code::BadRequest),
            ("/v1/events?follow=maybe", Code::BadRequest),
        ] {
            let problem = refusal(bench.client.get(route).await);
            assert_eq!((problem.code, problem.status), (code, code.status()), "{route}: {problem:?}");
        }
    });
}

#[test]
fn a_signed_document_is_taken_and_every_refusal_of_the_loop_comes_through() {
    check(Limits::default(), stub, async |bench| {
        let receipt: wire::DocumentReceipt =
            client::parse(&bench.client.publish(&signed(b"{}")).await.unwrap()).unwrap();
        assert_eq!((receipt.schema, receipt.duplicate), (1, false));
        for code in Code::ALL {
            let problem = refusal(bench.client.publish(&signed(code.name().as_bytes())).await);
            assert_eq!((problem.code, problem.status), (*code, code.status()));
        }
    });
}

#[test]
fn documents_in_a_wrong_form_are_refused_before_the_loop_sees_them() {
    let unseen = |request: &Request| -> Option<Result<Answer, Problem>> { panic!("{request:?}") };
    check(Limits::default(), unseen, async |bench| {
        let good = signed(b"{}");
        let with = |change: &dyn Fn(&mut SignedDocument)| {
            let mut document = good.clone();
            change(&mut document);
            serde_json::to_string(&document).unwrap()
        };
        for (body, code) in [
            ("{".to_owned(), Code::NotJson),
            (String::new(), Code::NotJson),
            ("[]".to_owned(), Code::Invalid),
            (r#"{"document":"","signatures":[],"more":1}"#.to_owned(), Code::UnknownField),
            (with(&|it| it.signatures.clear()), Code::Unsigned),
            (with(&|it| it.signatures = vec![good.signatures[0].clone(); 1000]), Code::Invalid),
            (with(&|it| it.signatures.push("-----BEGIN PGP SIGNATURE-----".to_owned())), Code::BadSignature),
            (with(&|it| it.document = "?".to_owned()), Code::Invalid),
            (with(&|it| it.document = BASE64.encode(&vec![b' '; 5 << 20])), Code::TooLarge),
            (with(&|it| it.document = "A".repeat(9 << 20)), Code::TooLarge),
        ] {
            let length = body.len();
            let request = format!(
                "POST /v1/documents HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
            let mut stream = UnixStream::connect(&bench.path).await.unwrap();
            let (mut reader, mut writer) = stream.split();
            let mut answer = Vec::new();
            // The server may answer, and close, before it has read all of it.
            let _ = tokio::join!(writer.write_all(request.as_bytes()), reader.read_to_end(&mut answer));
            let answer = String::from_utf8_lossy(&answer);
            assert!(answer.starts_with("HTTP/1.1 422 "), "{code:?}: {answer}");
            assert!(answer.contains(&format!(r#""code":"{}""#, code.name())), "{code:?}: {answer}");
        }
    });
}

#[test]
fn filters_reach_the_loop_as_they_were_given() {
    let (seen, mut filters) = mpsc::unbounded_channel();
    let note = move |request: &Request| {
        if let Ask::Query(Query::Events(filter)) = &request.ask {
            seen.send(filter.clone()).unwrap();
        }
        stub(request)
    };
    check(Limits::default(), note, async |bench| {
        let since = encoded("2026-11-18T12:00:00+01:00");
        let route = format!("/v1/events?host=web-01&rollout=stable@v2&since={since}&after=1&limit=999999");
        bench.client.get(&route).await.unwrap();
        bench.client.get("/v1/events?limit=0&follow=0").await.unwrap();
        let given = EventFilter {
            host: Some("web-01".to_owned()),
            rollout: Some("stable@v2".to_owned()),
            since: Some(fixtures::at(-400)),
            after: Some(1),
            limit: EVENTS_MAX,
        };
        assert_eq!(filters.recv().await, Some(given));
        assert_eq!(filters.recv().await, Some(EventFilter { limit: 1, ..EventFilter::default() }));
    });
}

#[test]
fn a_stream_ends_with_the_problem_that_ended_it() {
    let fails_behind_two = |request: &Request| match &request.ask {
        Ask::Query(Query::Events(EventFilter { after: Some(2), .. })) => {
            Some(Err(Problem::new(Code::Internal, "the disk is gone")))
        }
        Ask::Query(_) | Ask::VerifyStore | Ask::Publish(_) | Ask::Plan(_) | Ask::Hook { .. } => stub(request),
    };
    check(Limits::default(), fails_behind_two, async |bench| {
        let mut stream = bench.client.follow("/v1/events?follow=1&after=1&limit=1").await.unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap().position, 2);
        assert_eq!(refusal(stream.next().await).detail, "the disk is gone");
    });
}

#[test]
fn who_comes_when_all_places_are_taken_is_told_so_at_once() {
    let limits = Limits { connections: 2, ..Limits::default() };
    check(limits, stub, async |bench| {
        let first = bench.client.follow("/v1/events?follow=1").await.unwrap();
        let _second = bench.client.follow("/v1/events?follow=1").await.unwrap();
        let problem = refusal(bench.client.get("/v1/status").await);
        assert_eq!((problem.code, problem.status), (Code::TooManyClients, 503));
        drop(first);
        // The place is free once the server has seen that its client went.
        while let Err(error) = bench.client.get("/v1/status").await {
            assert!(matches!(error, ClientError::Refused(_)), "{error}");
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn followers_leave_places_for_questions() {
    let limits = Limits { followers: 1, ..Limits::default() };
    check(limits, stub, async |bench| {
        let _first = bench.client.follow("/v1/events?follow=1").await.unwrap();
        assert_eq!(refusal(bench.client.follow("/v1/events?follow=1").await).code, Code::TooManyClients);
        bench.client.get("/v1/status").await.unwrap();
    });
}

#[test]
fn a_client_that_does_not_finish_its_request_is_let_go() {
    let limits = Limits { request_time: Duration::from_millis(20), ..Limits::default() };
    check(limits, stub, async |bench| {
        for beginning in ["", "GET /v1/sta", "GET /v1/status HTTP/1.1\r\nHost: x\r\n"] {
            assert_eq!(raw(&bench.path, beginning).await, "", "{beginning:?}");
        }
        let answer =
            raw(&bench.path, "POST /v1/documents HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{").await;
        assert!(answer.contains(r#""code":"request_timeout""#), "{answer}");
    });
}

#[test]
fn a_client_that_reads_nothing_is_let_go() {
    let limits = Limits { write_time: Duration::from_millis(20), connections: 1, ..Limits::default() };
    let much = |request: &Request| match &request.ask {
        Ask::Query(Query::Metrics) => Some(Ok(Answer::Metrics("x".repeat(8 << 20)))),
        Ask::Query(_) | Ask::VerifyStore | Ask::Publish(_) | Ask::Plan(_) | Ask::Hook { .. } => stub(request),
    };
    check(limits, much, async |bench| {
        let mut stuck = UnixStream::connect(&bench.path).await.unwrap();
        stuck.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        while bench.client.get("/v1/status").await.is_err() {
            tokio::task::yield_now().await;
        }
        drop(stuck);
    });
}

#[test]
fn a_loop_that_is_gone_is_told_apart_from_one_that_says_no() {
    check(Limits::default(), stub, async |bench| {
        let (door, inbox) = door();
        drop(inbox);
        let problem = door.ask(Ask::Query(Query::Id), None).await.unwrap_err();
        assert_eq!(problem.code, Code::Unavailable);
        let absent = Client::new(bench.path.with_file_name("absent.sock"));
        assert!(matches!(absent.get("/v1/id").await, Err(ClientError::Unreachable { .. })));
    });
}

#[test]
fn the_socket_is_private_to_its_group_and_goes_with_the_server() {
    check(Limits::default(), stub, async |bench| {
        let path = bench.path.with_file_name("other.sock");
        let listener = Listener::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        let (door, _inbox) = door();
        let (stop, stopped) = oneshot::channel::<()>();
        let served = tokio::task::spawn_local(listener.serve(door, Limits::default(), async {
            let _ = stopped.await;
        }));
        stop.send(()).unwrap();
        served.await.unwrap();
        assert!(!path.exists());
    });
}

#[test]
fn only_what_a_dead_server_left_behind_is_replaced() {
    check(Limits::default(), stub, async |bench| {
        assert!(matches!(Listener::bind(&bench.path), Err(BindError::InUse { .. })));
        let file = bench.path.with_file_name("file");
        fs::write(&file, "precious").unwrap();
        assert!(matches!(Listener::bind(&file), Err(BindError::NotASocket { .. })));
        assert_eq!(fs::read(&file).unwrap(), b"precious");
        let long = bench.path.with_file_name("x".repeat(120));
        assert!(matches!(Listener::bind(&long), Err(BindError::PathTooLong { .. })));

        let stale = bench.path.with_file_name("stale.sock");
        drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
        let inode = fs::metadata(&stale).unwrap().ino();
        let first = Listener::bind(&stale).unwrap();
        assert_eq!(first.path(), stale);
        // A server that was replaced does not take its successor's socket away.
        fs::remove_file(&stale).unwrap();
        let second = Listener::bind(&stale).unwrap();
        drop(first);
        assert!(stale.exists(), "inode {inode}");
        drop(second);
        assert!(!stale.exists());
    });
}
