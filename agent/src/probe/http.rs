//! A probe that asks a web server, over plain HTTP.

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, USER_AGENT};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;

use super::tcp::connect;

/// The most of an answer's body that is read.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;

/// A question and the answer of health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    url: Uri,
    host: String,
    port: u16,
    expect_status: u16,
    body_contains: Option<String>,
}

impl Http {
    /// Reads a probe's parts; the error is why they do not serve.
    pub fn new(url: &str, expect_status: u16, body_contains: Option<String>) -> Result<Self, String> {
        let parsed: Uri = url.parse().map_err(|error| format!("{url:?} is no URL: {error}"))?;
        match parsed.scheme_str() {
            Some("http") => {}
            Some("https") => {
                return Err(format!(
                    "{url:?}: https is not built into this version; ask the server over http on the loopback, or use an \
                     exec probe"
                ));
            }
            Some(_) | None => return Err(format!("{url:?} does not begin with http://")),
        }
        let authority = parsed.authority().map_or("", |authority| authority.as_str());
        if authority.contains('@') {
            return Err(format!("{url:?}: a URL with a user's name or password is not supported"));
        }
        if !(100..=599).contains(&expect_status) {
            return Err(format!("expectStatus {expect_status} is not in 100 to 599"));
        }
        let host = parsed.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = parsed.port_u16().unwrap_or(80);
        Ok(Self { url: parsed, host, port, expect_status, body_contains })
    }

    /// Runs the probe; the error is why it fails.
    pub async fn run(&self) -> Result<(), String> {
        let stream = connect(&self.host, self.port).await?;
        let says = |error: hyper::Error| format!("{}: {error}", self.url);
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(says)?;
        // The connection ends with this function, also when it is dropped in the middle.
        let mut tasks = JoinSet::new();
        tasks.spawn(connection);
        let response = sender.send_request(self.request()?).await.map_err(says)?;
        let status = response.status().as_u16();
        if status != self.expect_status {
            return Err(format!("{}: status {status}, expected {}", self.url, self.expect_status));
        }
        match &self.body_contains {
            None => Ok(()),
            Some(wanted) => self.look_for(wanted, response).await,
        }
    }

    fn request(&self) -> Result<Request<Empty<Bytes>>, String> {
        let path = self.url.path_and_query().map_or("/", |path| path.as_str());
        let authority = self.url.authority().map_or("", |authority| authority.as_str());
        Request::get(path)
            .header(HOST, authority)
            .header(USER_AGENT, concat!("muster/", env!("CARGO_PKG_VERSION")))
            .header(CONNECTION, "close")
            .body(Empty::new())
            .map_err(|error| format!("{}: {error}", self.url))
    }

    async fn look_for(&self, wanted: &str, response: Response<Incoming>) -> Result<(), String> {
        let mut body = response.into_body();
        let mut read = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| format!("{}: {error}", self.url))?;
            let Some(data) = frame.data_ref() else { continue };
            // Only where the new bytes begin can the text lie that was not there before.
            let from = read.len().saturating_sub(wanted.len());
            let room = BODY_BYTES_MAX - read.len();
            read.extend_from_slice(&data[..data.len().min(room)]);
            if contains(&read[from..], wanted.as_bytes()) {
                return Ok(());
            }
            if read.len() == BODY_BYTES_MAX {
                return Err(format!(
                    "{}: {wanted:?} is not in the body's first {BODY_BYTES_MAX} bytes",
                    self.url
                ));
            }
        }
        Err(format!("{}: {wanted:?} is not in the body", self.url))
    }
}

fn contains(text: &[u8], wanted: &[u8]) -> bool {
    wanted.is_empty() || text.windows(wanted.len()).any(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::super::{Check, ProbeSpec};
    use super::*;

    /// Asks a server that gives this answer to whatever is asked.
    async fn check(answer: Vec<u8>, body_contains: Option<&str>) -> Result<(), String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/health?x=1", listener.local_addr().unwrap());
        let probe = Http::new(&url, 200, body_contains.map(str::to_owned)).unwrap();
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).await.unwrap();
                asked.push(byte[0]);
            }
            assert!(asked.starts_with(b"GET /health?x=1 HTTP/1.1\r\nhost: 127.0.0.1:"));
            // The probe may have heard enough before everything is sent.
            let _ = stream.write_all(&answer).await;
        };
        tokio::join!(probe.run(), serve).0.map_err(|reason| reason.replace(&url, "URL"))
    }

    fn answer(status: &str, body: &str) -> Vec<u8> {
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
    }

    #[tokio::test]
    async fn status_and_body_decide() {
        assert_eq!(check(answer("200 OK", "all good"), None).await, Ok(()));
        assert_eq!(check(answer("200 OK", "all good"), Some("good")).await, Ok(()));
        let bad = check(answer("503 Service Unavailable", ""), None).await;
        assert_eq!(bad, Err("URL: status 503, expected 200".to_owned()));
        let moved = check(answer("301 Moved\r\nlocation: http://127.0.0.1:1/", ""), None).await;
        assert_eq!(moved, Err("URL: status 301, expected 200".to_owned()));
        let other = check(answer("200 OK", "all good"), Some("bad")).await;
        assert_eq!(other, Err("URL: \"bad\" is not in the body".to_owned()));
    }

    #[tokio::test]
    async fn no_more_than_a_mebibyte_of_the_body_is_read() {
        let mut body = "x".repeat(BODY_BYTES_MAX);
        body.push_str("good");
        let reason = check(answer("200 OK", &body), Some("good")).await.unwrap_err();
        assert!(reason.ends_with("is not in the body's first 1048576 bytes"), "{reason}");
        body.replace_range(BODY_BYTES_MAX - 4..BODY_BYTES_MAX, "good");
        assert_eq!(check(answer("200 OK", &body), Some("good")).await, Ok(()));
    }

    #[tokio::test]
    async fn what_is_not_http_fails() {
        assert!(check(b"SSH-2.0-OpenSSH_9\r\n\r\n".to_vec(), None).await.is_err());
        assert!(check(Vec::new(), None).await.is_err());
    }

    #[tokio::test]
    async fn a_server_that_never_answers_fails_at_the_timeout() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let spec = ProbeSpec {
            name: "mute".parse().unwrap(),
            mode: muster_core::wire::ProbeMode::Enforce,
            interval: Duration::from_secs(1),
            timeout: Duration::from_millis(100),
            check: Check::Http(Http::new(&url, 200, None).unwrap()),
        };
        let (result, _) = spec.run(&crate::probe::tests::around(), &mut Default::default()).await;
        assert_eq!(result, Err("no answer after 0.1 s".to_owned()));
    }

    #[test]
    fn only_plain_urls_are_taken() {
        for (url, problem) in [
            ("https://x/", "https is not built"),
            ("ftp://x/", "does not begin with http://"),
            ("/health", "does not begin with http://"),
            ("http://me:secret@x/", "user's name"),
            ("http://", "is no URL"),
        ] {
            let reason = Http::new(url, 200, None).unwrap_err();
            assert!(reason.contains(problem), "{url}: {reason}");
        }
        let six = Http::new("http://[::1]:8080", 200, None).unwrap();
        assert_eq!((six.host.as_str(), six.port), ("::1", 8080));
        assert!(Http::new("http://x", 20, None).is_err());
    }
}
