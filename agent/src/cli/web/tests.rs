//! The page over real TCP, in front of a stand-in for the agent.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::control::tests::Bench;
use crate::control::wire::{SCHEMA, fixtures};
use crate::control::{self, Answer, Ask, Code, Problem, Query, Request, wire};

fn stub(request: &Request) -> Option<Result<Answer, Problem>> {
    Some(match &request.ask {
        Ask::Query(Query::Status) => Ok(Answer::Status(fixtures::status())),
        Ask::Query(Query::Rollout(id)) if id == "stable@v2" => Ok(Answer::Rollout(fixtures::rollout_show())),
        Ask::Query(Query::Events(_)) => {
            Ok(Answer::Events(wire::Events { schema: SCHEMA, events: vec![fixtures::event(3)] }))
        }
        Ask::Query(Query::Peers) => Ok(Answer::Peers(fixtures::peers())),
        Ask::Query(_) | Ask::VerifyStore | Ask::Publish(_) | Ask::Plan(_) | Ask::Hook { .. } => {
            Err(Problem::new(Code::NotFound, "no such thing"))
        }
    })
}

/// Runs a test against the page's server.
fn check(test: impl AsyncFnOnce(SocketAddr)) {
    control::tests::check(Limits::default(), stub, async |bench: &Bench| {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback can be listened on");
        let address = listener.local_addr().expect("it has an address");
        let router = routes::router(bench.client.clone(), Names::new(&["web-01".to_owned()]));
        let accept = move |cx: &mut std::task::Context<'_>| {
            listener.poll_accept(cx).map_ok(|(stream, _)| (Client { credentials: None }, stream))
        };
        let serving = server::attend(accept, router, Limits::default(), std::future::pending());
        tokio::select! {
            () = serving => {}
            () = test(address) => {}
        }
    });
}

/// Sends a request and reads until the server closes, or until `enough` has come.
async fn ask(address: SocketAddr, head: &str, enough: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let request = format!("{head}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let read = stream.read(&mut piece).await.expect("it answers");
        answer.extend_from_slice(&piece[..read]);
        let text = String::from_utf8_lossy(&answer);
        if read == 0 || (!enough.is_empty() && text.contains(enough)) {
            return text.into_owned();
        }
    }
}

#[test]
fn the_page_and_the_agents_answers_are_served_under_a_strict_policy() {
    check(async |address| {
        for (path, status, part) in [
            ("/", 200, "<script type=\"module\" src=\"/app.js\">"),
            ("/app.js", 200, "EventSource"),
            ("/views.js", 200, "export const views"),
            ("/page.css", 200, ".tile"),
            ("/chart.css", 200, "prefers-color-scheme"),
            ("/icon.svg", 200, "<svg"),
            ("/api/status", 200, "\"fleet\":\"home\""),
            ("/api/peers", 200, "edge-01"),
            ("/api/events?limit=5", 200, "\"position\":3"),
            ("/api/events?follow=1", 200, "\"position\":3"),
            ("/api/rollouts/stable%40v2", 200, "\"timeline\""),
            ("/api/rollouts/stable@v2/chart", 200, "<svg viewBox"),
            ("/api/rollouts/stable@none", 404, "no such thing"),
            ("/api/store", 404, "no such list"),
            ("/v1/status", 404, "the page is at /"),
        ] {
            let answer = ask(address, &format!("GET {path} HTTP/1.1\r\nHost: localhost"), "").await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer}");
            assert!(answer.contains(part), "{path}: {answer}");
            for header in [
                "content-security-policy: default-src 'none'; script-src 'self';",
                "x-content-type-options: nosniff",
                "cache-control: no-store",
            ] {
                assert!(answer.contains(header), "{path}: {answer}");
            }
            assert!(!answer.contains("set-cookie") && !answer.contains("unsafe-inline"), "{path}: {answer}");
        }
    });
}

#[test]
fn nobody_changes_anything_or_asks_under_a_strangers_name() {
    check(async |address| {
        for (head, status) in [
            ("GET / HTTP/1.1\r\nHost: evil.example", 421),
            ("GET / HTTP/1.1", 421),
            ("GET / HTTP/1.1\r\nHost: web-01:9747", 200),
            ("POST /api/status HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0", 405),
            ("GET /api/status HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: cross-site", 403),
            ("GET /api/status HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: same-origin", 200),
            (
                "GET / HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document",
                200,
            ),
        ] {
            let answer = ask(address, head, "").await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{head}: {answer}");
        }
    });
}

#[test]
fn whoever_looks_is_told_what_is_seen_first_and_then_what_changes() {
    check(async |address| {
        let request = "GET /api/live HTTP/1.1\r\nHost: [::1]:1";
        let answer = ask(address, request, "\n\n").await;
        assert!(answer.contains("event: fleet") && answer.contains("\"position\":3"), "{answer}");
    });
}

#[test]
fn an_address_that_others_reach_is_listened_on_only_when_told() {
    let socket = Socket { socket: "/nonexistent/muster.sock".into() };
    let listen = "0.0.0.0:0".parse().expect("an address");
    let web = Web { agent: socket, listen, allow_remote: false, name: Vec::new() };
    let failure = web.run().expect_err("it is refused");
    assert_eq!(failure.exit, Exit::Usage);
    assert!(failure.hint.is_some_and(|hint| hint.contains("--allow-remote")));
}
