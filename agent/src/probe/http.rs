//! A probe that asks a web server, over plain HTTP or TLS.

use std::path::PathBuf;

use http_body_util::{BodyExt, Empty};
use hyper::Method;
use hyper::body::Bytes;

use crate::http_client::{Answer, Server};

/// The most of an answer's body that is read.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;

/// A question and the answer of health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    server: Server,
    expect_status: u16,
    body_contains: Option<String>,
}

impl Http {
    /// Reads a probe's parts; the error is why they do not serve.
    pub fn new(
        url: &str,
        ca_file: Option<PathBuf>,
        expect_status: u16,
        body_contains: Option<String>,
    ) -> Result<Self, String> {
        let server = Server::new(url, ca_file).map_err(|reason| format!("{url:?}: {reason}"))?;
        if !(100..=599).contains(&expect_status) {
            return Err(format!("expectStatus {expect_status} is not in 100 to 599"));
        }
        Ok(Self { server, expect_status, body_contains })
    }

    /// Runs the probe; the error is why it fails.
    pub async fn run(&self) -> Result<(), String> {
        let request = self.server.request(Method::GET).body(Empty::<Bytes>::new());
        let request = request.map_err(|error| self.says(&error))?;
        let answer = self.server.send(request).await.map_err(|reason| self.says(&reason))?;
        let status = answer.response.status().as_u16();
        if status != self.expect_status {
            return Err(self.says(&format_args!("status {status}, expected {}", self.expect_status)));
        }
        match &self.body_contains {
            None => Ok(()),
            Some(wanted) => self.look_for(wanted, answer).await,
        }
    }

    fn says(&self, what: &dyn std::fmt::Display) -> String {
        format!("{}: {what}", self.server.url())
    }

    async fn look_for(&self, wanted: &str, mut answer: Answer) -> Result<(), String> {
        let body = answer.response.body_mut();
        let mut read = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| self.says(&error))?;
            let Some(data) = frame.data_ref() else { continue };
            // Only where the new bytes begin can the text lie that was not there before.
            let from = read.len().saturating_sub(wanted.len());
            let room = BODY_BYTES_MAX - read.len();
            read.extend_from_slice(&data[..data.len().min(room)]);
            if contains(&read[from..], wanted.as_bytes()) {
                return Ok(());
            }
            if read.len() == BODY_BYTES_MAX {
                let first = format_args!("{wanted:?} is not in the body's first {BODY_BYTES_MAX} bytes");
                return Err(self.says(&first));
            }
        }
        Err(self.says(&format_args!("{wanted:?} is not in the body")))
    }
}

fn contains(text: &[u8], wanted: &[u8]) -> bool {
    wanted.is_empty() || text.windows(wanted.len()).any(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::time::Duration;

    use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::super::{Check, ProbeSpec};
    use super::*;
    use crate::http_client::testing::Authority;

    /// Asks a server that gives this answer to whatever is asked.
    async fn check(answer: Vec<u8>, body_contains: Option<&str>) -> Result<(), String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/health?x=1", listener.local_addr().unwrap());
        let probe = Http::new(&url, None, 200, body_contains.map(str::to_owned)).unwrap();
        let serve = async {
            let (stream, _) = listener.accept().await.unwrap();
            serve(stream, &answer).await;
        };
        tokio::join!(probe.run(), serve).0.map_err(|reason| reason.replace(&url, "URL"))
    }

    /// Reads a question and gives the answer.
    async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &[u8]) {
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            asked.push(stream.read_u8().await.unwrap());
        }
        assert!(asked.starts_with(b"GET /health?x=1 HTTP/1.1\r\nhost: "));
        // The probe may have heard enough before everything is sent.
        let _ = stream.write_all(answer).await;
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
            check: Check::Http(Http::new(&url, None, 200, None).unwrap()),
        };
        let (result, _) = spec.run(&crate::probe::tests::around(), &mut Default::default()).await;
        assert_eq!(result, Err("no answer after 0.1 s".to_owned()));
    }

    /// Asks a server of a name that it shows a certificate for, with the authorities of a file.
    async fn check_securely(shown: &str, ca_file: PathBuf, authority: &Authority) -> Result<(), String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}/health?x=1", listener.local_addr().unwrap().port());
        let probe = Http::new(&url, Some(ca_file), 200, Some("good".to_owned())).unwrap();
        let serve = async {
            let (stream, _) = listener.accept().await.unwrap();
            // A client that does not believe the certificate hangs up.
            if let Ok(stream) = authority.acceptor(shown).accept(stream).await {
                serve(stream, &answer("200 OK", "all good")).await;
            }
        };
        tokio::join!(probe.run(), serve).0
    }

    #[tokio::test]
    async fn a_certificate_must_be_the_servers_own_and_of_an_authority_that_is_believed() {
        let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let authorities = [(); 2].map(|()| Authority::new());
        let [ours, theirs] = [0, 1].map(|n: usize| authorities[n].file(folders[n].path()));
        assert_eq!(check_securely("localhost", ours.clone(), &authorities[0]).await, Ok(()));
        let other_name = check_securely("example.org", ours.clone(), &authorities[0]).await.unwrap_err();
        assert!(other_name.contains("not valid for name \"localhost\""), "{other_name}");
        let stranger = check_securely("localhost", theirs, &authorities[0]).await.unwrap_err();
        assert!(stranger.contains("invalid peer certificate"), "{stranger}");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}/", listener.local_addr().unwrap());
        let plain = Http::new(&url, Some(ours), 200, None).unwrap();
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        };
        assert!(tokio::join!(plain.run(), serve).0.is_err(), "a server without TLS is not asked in clear");
    }

    #[test]
    fn what_cannot_be_asked_is_refused_with_its_url() {
        let reason = Http::new("ftp://x/", None, 200, None).unwrap_err();
        assert_eq!(reason, "\"ftp://x/\": a URL begins with http:// or https://");
        assert!(Http::new("http://x", None, 20, None).is_err());
    }
}
