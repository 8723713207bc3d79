//! A client of the control socket that shares no code with the agent: bytes of HTTP/1.1 over a Unix socket.

use std::io;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use data_encoding::BASE64;
use serde_json::{Value, json};

/// The longest that an agent may take to answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// An answer of the control socket.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The media type, with its parameters.
    pub media_type: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON; null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// An agent's control socket, and what tests ask it.
#[derive(Debug, Clone)]
pub struct Control {
    /// The socket.
    pub socket: PathBuf,
}

impl Control {
    /// Asks something.
    pub fn ask(&self, path: &str) -> io::Result<Answer> {
        request(&self.socket, "GET", path, None)
    }

    /// The JSON that is given; null while the agent cannot be reached or answers with a problem.
    pub fn look(&self, path: &str) -> Value {
        self.ask(path)
            .ok()
            .filter(|answer| answer.status == 200)
            .map(|answer| answer.json())
            .unwrap_or_default()
    }

    /// Hands over a document with armored signatures.
    pub fn post(&self, document: &[u8], signatures: &[String]) -> Answer {
        let body = json!({ "document": BASE64.encode(document), "signatures": signatures });
        request(&self.socket, "POST", "/v1/documents", Some(&body)).expect("the control socket answers")
    }

    /// Everything that the agent knows has happened, oldest first.
    pub fn events(&self) -> Vec<Value> {
        let mut all = Vec::new();
        let mut after = String::new();
        while let Some(Value::Array(page)) =
            self.look(&format!("/v1/events{after}")).get_mut("events").map(Value::take)
        {
            let Some(last) = page.last().and_then(|event| event["position"].as_u64()) else { break };
            after = format!("?after={last}");
            all.extend(page);
        }
        all
    }
}

/// Sends one request and reads the answer to its end.
pub fn request(socket: &Path, method: &str, path: &str, body: Option<&Value>) -> io::Result<Answer> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    exchange(stream, method, path, body)
}

/// Reads a path from a TCP address.
pub fn request_tcp(address: &str, path: &str) -> io::Result<Answer> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    exchange(stream, "GET", path, None)
}

fn exchange(
    mut stream: impl io::Read + io::Write,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> io::Result<Answer> {
    let body = body.map(Value::to_string).unwrap_or_default();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: muster\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    parse(&bytes).ok_or_else(|| io::Error::other(format!("not HTTP: {}", String::from_utf8_lossy(&bytes))))
}

pub(crate) fn parse(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = str::from_utf8(&bytes[..end]).ok()?;
    let status = head.lines().next()?.split(' ').nth(1)?.parse().ok()?;
    let field = |wanted: &str| {
        let fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
        fields.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim())
    };
    let body = &bytes[end + 4..];
    let chunked = field("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
    let body = if chunked { unchunked(body)? } else { body.to_vec() };
    Some(Answer { status, media_type: field("content-type").unwrap_or_default().to_owned(), body })
}

fn unchunked(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|window| window == b"\r\n")?;
        let size = usize::from_str_radix(str::from_utf8(&rest[..end]).ok()?.trim(), 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        let chunk = rest.get(end + 2..end + 2 + size)?;
        body.extend_from_slice(chunk);
        rest = rest.get(end + 2 + size + 2..)?;
    }
}
