//! The other end of the control socket, for the command line.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::events::PROBLEM_FRAME;
use super::wire::{Event, SignedDocument};
use super::{Code, HOOK_TIMEOUT, Problem, VERIFY_TIMEOUT};

/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(super::ANSWER_TIMEOUT.as_secs() + MARGIN.as_secs());
/// How much longer it is waited for than the agent gives itself.
const MARGIN: Duration = Duration::from_secs(5);
/// The longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;
/// The longest line of a stream of events, in bytes.
const LINE_BYTES_MAX: usize = 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("no agent answers at {path}: {source}")]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is there and says nothing.
    #[error("the agent at {path} gave no answer within {} s", waited.as_secs())]
    Silent {
        /// The socket.
        path: PathBuf,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The agent says no.
    #[error(transparent)]
    Refused(Box<Problem>),
    /// What came is no answer.
    #[error("the agent's answer makes no sense: {0}")]
    Protocol(String),
}

impl From<hyper::Error> for ClientError {
    fn from(error: hyper::Error) -> Self {
        Self::Protocol(error.to_string())
    }
}

/// Asks the agent behind one socket. Each question is a connection of its own.
#[derive(Debug, Clone)]
pub struct Client {
    path: PathBuf,
}

impl Client {
    /// An agent's socket; nothing is connected yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads a route: its body, unchanged.
    pub async fn get(&self, route: &str) -> Result<Bytes, ClientError> {
        self.in_time(async { collect(self.send(Method::GET, route, Bytes::new()).await?).await }).await
    }

    /// Reads a route.
    pub async fn read<T: DeserializeOwned>(&self, route: &str) -> Result<T, ClientError> {
        parse(&self.get(route).await?)
    }

    /// Has the agent verify its store, which may take minutes: the answer's body, unchanged.
    pub async fn verify_store(&self) -> Result<Bytes, ClientError> {
        let answer = async { collect(self.send(Method::GET, "/v1/store/verify", Bytes::new()).await?).await };
        self.within(VERIFY_TIMEOUT + MARGIN, answer).await
    }

    /// Hands a document in; returns the receipt's body, unchanged.
    pub async fn publish(&self, document: &SignedDocument) -> Result<Bytes, ClientError> {
        self.post("/v1/documents", document).await
    }

    /// Asks what publishing a document would do; returns the answer's body, unchanged.
    pub async fn plan(&self, document: &SignedDocument) -> Result<Bytes, ClientError> {
        self.post("/v1/plan", document).await
    }

    /// Has a hook of the agent do something, which may take as long as the hook; returns the answer's body, unchanged.
    pub async fn hook(&self, name: &str, verb: &str) -> Result<Bytes, ClientError> {
        let route = format!("/v1/hooks/{}/{verb}", encoded(name));
        let answer = async { collect(self.send(Method::POST, &route, Bytes::new()).await?).await };
        self.within(HOOK_TIMEOUT + MARGIN, answer).await
    }

    async fn post(&self, route: &str, document: &SignedDocument) -> Result<Bytes, ClientError> {
        let body = serde_json::to_vec(document).map_err(|error| ClientError::Protocol(error.to_string()))?;
        self.in_time(async { collect(self.send(Method::POST, route, body.into()).await?).await }).await
    }

    /// Follows a route of server-sent events.
    pub async fn follow(&self, route: &str) -> Result<EventStream, ClientError> {
        self.in_time(async {
            let response = self.send(Method::GET, route, Bytes::new()).await?;
            if response.status() == StatusCode::OK {
                return Ok(EventStream {
                    body: response.into_body(),
                    buffer: Vec::new(),
                    frame: Frame::default(),
                });
            }
            Err(match collect(response).await {
                Err(error) => error,
                Ok(_) => ClientError::Protocol("no stream of events".to_owned()),
            })
        })
        .await
    }

    async fn in_time<T>(
        &self,
        answer: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        self.within(ANSWER_TIMEOUT, answer).await
    }

    async fn within<T>(
        &self,
        patience: Duration,
        answer: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        let silent = |_| ClientError::Silent { path: self.path.clone(), waited: patience };
        timeout(patience, answer).await.map_err(silent)?
    }

    async fn send(
        &self,
        method: Method,
        route: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, ClientError> {
        let unreachable = |source| ClientError::Unreachable { path: self.path.clone(), source };
        let stream = UnixStream::connect(&self.path).await.map_err(unreachable)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // It ends with the answer's body; an error of it is seen by whoever reads that.
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(route)
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| ClientError::Protocol(error.to_string()))?;
        Ok(sender.send_request(request).await?)
    }
}

/// Reads a body as what its route gives.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(body).map_err(|error| ClientError::Protocol(error.to_string()))
}

/// Writes a name so that it can stand in a path or a query.
pub fn encoded(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'@' | b':' => {
                text.push(char::from(byte));
            }
            other => text.push_str(&format!("%{other:02X}")),
        }
    }
    text
}

async fn collect(response: Response<Incoming>) -> Result<Bytes, ClientError> {
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    let bytes = body.map_err(|error| ClientError::Protocol(error.to_string()))?.to_bytes();
    if status.is_success() {
        return Ok(bytes);
    }
    let problem = serde_json::from_slice::<Problem>(&bytes)
        .unwrap_or_else(|_| Problem::new(Code::Unknown, format_args!("the agent answered {status}")));
    Err(ClientError::Refused(Box::new(problem)))
}

/// Events as they come.
#[derive(Debug)]
pub struct EventStream {
    body: Incoming,
    buffer: Vec<u8>,
    frame: Frame,
}

#[derive(Debug, Default)]
struct Frame {
    name: String,
    data: String,
}

impl EventStream {
    /// The next event; `None` once the agent has ended the stream. Can be given up and called again.
    pub async fn next(&mut self) -> Result<Option<Event>, ClientError> {
        loop {
            while let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                if let Some(event) = self.frame.take(String::from_utf8_lossy(&line).trim_end())? {
                    return Ok(Some(event));
                }
            }
            if self.buffer.len() > LINE_BYTES_MAX || self.frame.data.len() > LINE_BYTES_MAX {
                return Err(ClientError::Protocol(format!("an event has more than {LINE_BYTES_MAX} bytes")));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(data) = frame?.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}

impl Frame {
    /// Takes the next line of the stream; the empty one completes an event.
    fn take(&mut self, line: &str) -> Result<Option<Event>, ClientError> {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" if line.is_empty() && !self.data.is_empty() => {
                let whole = std::mem::take(self);
                if whole.name == PROBLEM_FRAME {
                    return Err(ClientError::Refused(Box::new(parse(whole.data.as_bytes())?)));
                }
                return parse(whole.data.as_bytes()).map(Some);
            }
            "event" => value.clone_into(&mut self.name),
            "data" => self.data.push_str(value),
            _ => {}
        }
        Ok(None)
    }
}
