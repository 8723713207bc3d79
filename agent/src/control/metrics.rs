//! Metrics over TCP, for those who may not use the socket: `/metrics` and `/healthz`, and nothing else.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Context;
use std::time::Instant;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::Mutex;

use super::routes::{self, Client};
use super::server::{self, Limits};
use super::{Answer, Ask, Code, Door, Problem, Query};

/// A TCP address, listening. Whoever reaches it may read: there are no passwords.
#[derive(Debug)]
pub struct MetricsListener {
    listener: TcpListener,
}

impl MetricsListener {
    /// Listens at an address.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        Ok(Self { listener: TcpListener::bind(address).await? })
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers clients until `shutdown` is done; requests that are being answered then are cut off.
    pub async fn serve(self, door: Door, limits: Limits, shutdown: impl Future<Output = ()>) {
        let accept = |cx: &mut Context<'_>| {
            let accepted = self.listener.poll_accept(cx);
            accepted.map_ok(|(stream, _)| (Client { credentials: None }, stream))
        };
        server::attend(accept, router(door, limits), limits, shutdown).await;
    }
}

/// What the loop said last. Others cannot keep it busy with questions: it hears one in each span of time.
#[derive(Debug, Clone)]
struct Shared {
    door: Door,
    limits: Limits,
    last: Arc<Mutex<Option<Told>>>,
}

/// An answer of the loop, and when it gave it.
#[derive(Debug)]
struct Told {
    at: Instant,
    text: Result<String, Problem>,
}

impl Shared {
    async fn text(&self) -> Result<String, Problem> {
        let mut last = self.last.lock().await;
        if let Some(told) = last.as_ref().filter(|told| told.at.elapsed() < self.limits.metrics_age) {
            return told.text.clone();
        }
        let text = match self.door.ask(Ask::Query(Query::Metrics), None).await {
            Ok(Answer::Metrics(text)) => Ok(text),
            Ok(_) => Err(Problem::new(Code::Internal, "the answer is to another question")),
            Err(problem) => Err(problem),
        };
        *last = Some(Told { at: Instant::now(), text: text.clone() });
        text
    }
}

fn router(door: Door, limits: Limits) -> Router {
    let shared = Shared { door, limits, last: Arc::default() };
    let router = Router::new().route("/metrics", get(tell)).route("/healthz", get(healthz));
    routes::with_refusals(
        router,
        "no such route; /metrics and /healthz are here, the rest at the control socket",
    )
    .with_state(shared)
}

async fn tell(State(shared): State<Shared>) -> Result<Response, Problem> {
    Ok(routes::openmetrics(shared.text().await?))
}

async fn healthz(State(shared): State<Shared>) -> Result<Response, Problem> {
    shared.text().await?;
    Ok(routes::healthy().into_response())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::cell::Cell;
    use std::rc::Rc;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::task;

    use super::*;
    use crate::control::{self, Inbox};

    /// Sends a request over TCP and reads until the server closes.
    async fn over_tcp(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    fn get(route: &str) -> String {
        format!("GET {route} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    }

    /// Runs a test against the metrics' server over TCP; it is given the address, and how often the loop was asked.
    fn check(
        limits: Limits,
        answer: impl Fn() -> Result<Answer, Problem> + 'static,
        test: impl AsyncFnOnce(SocketAddr, &Cell<u32>),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        task::LocalSet::new().block_on(&runtime, async {
            let (door, Inbox { mut requests, .. }) = control::door();
            let listener = MetricsListener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
            let address = listener.address().unwrap();
            task::spawn_local(listener.serve(door, limits, std::future::pending()));
            let asked = Rc::new(Cell::new(0));
            let count = Rc::clone(&asked);
            task::spawn_local(async move {
                while let Some(request) = requests.recv().await {
                    assert_eq!((&request.ask, request.peer), (&Ask::Query(Query::Metrics), None));
                    count.set(count.get() + 1);
                    drop(request.reply.send(answer()));
                }
            });
            test(address, &asked).await;
        });
    }

    #[test]
    fn metrics_and_health_are_told_over_tcp_and_nothing_else_is() {
        let limits = Limits { metrics_age: Duration::from_secs(3600), ..Limits::default() };
        let tells = || Ok(Answer::Metrics("# EOF\n".to_owned()));
        check(limits, tells, async |address, asked| {
            for (request, status, part) in [
                ("GET /metrics", "200 OK", "content-type: application/openmetrics-text"),
                ("GET /metrics", "200 OK", "\r\n\r\n# EOF\n"),
                ("GET /healthz", "200 OK", r#""status":"ok""#),
                ("GET /v1/status", "404 Not Found", r#""code":"not_found""#),
                ("POST /v1/documents", "404 Not Found", r#""code":"not_found""#),
                ("POST /metrics", "405 Method Not Allowed", r#""code":"method_not_allowed""#),
            ] {
                let whole = format!(
                    "{request} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                );
                let answer = over_tcp(address, &whole).await;
                assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {answer}");
                assert!(answer.contains(part), "{request}: {answer}");
            }
            assert_eq!(asked.get(), 1, "what the loop said is told again for a while");
        });
    }

    #[test]
    fn a_loop_that_says_no_is_not_healthy_over_tcp() {
        let limits = Limits { metrics_age: Duration::ZERO, ..Limits::default() };
        let stops = || Err(Problem::new(Code::Unavailable, "the agent is stopping"));
        check(limits, stops, async |address, asked| {
            for route in ["/healthz", "/metrics"] {
                let answer = over_tcp(address, &get(route)).await;
                assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("unavailable"), "{answer}");
            }
            assert_eq!(asked.get(), 2);
        });
    }

    #[test]
    fn a_client_over_tcp_is_kept_to_the_limits_of_the_socket() {
        let tells = || Ok(Answer::Metrics("# EOF\n".to_owned()));
        let hasty = Limits { request_time: Duration::from_millis(20), ..Limits::default() };
        check(hasty, tells, async |address, _| {
            assert_eq!(over_tcp(address, "GET /met").await, "");
        });
        let narrow = Limits { connections: 1, ..Limits::default() };
        check(narrow, tells, async |address, _| {
            let held = TcpStream::connect(address).await.unwrap();
            let refused = over_tcp(address, &get("/metrics")).await;
            assert!(refused.contains(r#""code":"too_many_clients""#), "{refused}");
            drop(held);
            while !over_tcp(address, &get("/metrics")).await.contains("# EOF") {
                task::yield_now().await;
            }
        });
    }
}
