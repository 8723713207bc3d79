//! A client of the ssh-agent: asks which keys it holds and lets it sign, so that a secret need not lie in a file.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_signing::OperatorKey;

/// The largest message that is read, as in OpenSSH.
const MESSAGE_BYTES_MAX: u32 = 256 * 1024;
/// The most keys that are looked at.
const KEYS_MAX: u32 = 2048;
/// How long a list of keys may take.
const LIST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a signature may take: a person has to find and touch the token.
const SIGN_TIMEOUT: Duration = Duration::from_secs(120);

// Numbers of messages: draft-ietf-sshm-ssh-agent, section 6.1.
const FAILURE: u8 = 5;
const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;

/// Why the ssh-agent does not serve.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Nobody said where it is.
    #[error(
        "the file holds a public key, whose private half only an ssh-agent can hold, and SSH_AUTH_SOCK is not set"
    )]
    NoSocket,
    /// It does not answer.
    #[error("the ssh-agent at {path}: {source}")]
    Io {
        /// Its socket.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It answers something else.
    #[error("the ssh-agent's answer cannot be used: {0}")]
    Answer(String),
    /// It lacks the key.
    #[error("the ssh-agent does not hold {key}")]
    NotHeld {
        /// The key.
        key: String,
    },
    /// It does not sign, or its user refused.
    #[error("the ssh-agent refused to sign with {key}")]
    Refused {
        /// The key.
        key: String,
    },
}

/// An ssh-agent, by its socket.
#[derive(Debug, Clone)]
pub struct Agent {
    socket: PathBuf,
}

impl Agent {
    /// The agent that listens there.
    pub fn at(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// The keys that it holds, of the kinds that can sign documents.
    pub fn keys(&self) -> Result<Vec<OperatorKey>, AgentError> {
        let answer = self.ask(&[REQUEST_IDENTITIES], LIST_TIMEOUT)?;
        let mut reader = Reader(&answer);
        if reader.byte() != Some(IDENTITIES_ANSWER) {
            return Err(AgentError::Answer("it lists no keys".to_owned()));
        }
        let Some(count) = reader.number() else {
            return Err(AgentError::Answer("it does not count its keys".to_owned()));
        };
        let mut keys = Vec::new();
        for _ in 0..count.min(KEYS_MAX) {
            let (blob, comment) = (reader.string(), reader.string());
            let (Some(blob), Some(_)) = (blob, comment) else {
                return Err(AgentError::Answer("its list of keys is cut off".to_owned()));
            };
            // Keys of other kinds are of no use here.
            keys.extend(OperatorKey::from_ssh_blob(blob).ok());
        }
        Ok(keys)
    }

    /// A signature over `data`, in SSH's form.
    pub fn sign(&self, key: &OperatorKey, data: &[u8]) -> Result<Vec<u8>, AgentError> {
        let mut request = vec![SIGN_REQUEST];
        put_string(&mut request, &key.ssh_blob());
        put_string(&mut request, data);
        request.extend_from_slice(&0_u32.to_be_bytes());
        let answer = self.ask(&request, SIGN_TIMEOUT)?;
        let mut reader = Reader(&answer);
        match reader.byte() {
            Some(SIGN_RESPONSE) => {}
            Some(FAILURE) => return Err(AgentError::Refused { key: key.to_openssh() }),
            Some(other) => return Err(AgentError::Answer(format!("message {other} is no signature"))),
            None => return Err(AgentError::Answer("it is empty".to_owned())),
        }
        let signature = reader.string();
        signature.map(<[u8]>::to_vec).ok_or_else(|| AgentError::Answer("its signature is cut off".to_owned()))
    }

    fn ask(&self, request: &[u8], patience: Duration) -> Result<Vec<u8>, AgentError> {
        self.exchange(request, patience)
            .map_err(|source| AgentError::Io { path: self.socket.clone(), source })
    }

    fn exchange(&self, request: &[u8], patience: Duration) -> io::Result<Vec<u8>> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(LIST_TIMEOUT))?;
        let mut message = Vec::new();
        put_string(&mut message, request);
        stream.write_all(&message)?;
        let mut len = [0; 4];
        stream.read_exact(&mut len)?;
        let len = u32::from_be_bytes(len);
        if len > MESSAGE_BYTES_MAX {
            return Err(io::Error::other(format!(
                "an answer of {len} bytes is more than {MESSAGE_BYTES_MAX}"
            )));
        }
        let mut answer = Vec::new();
        stream.take(u64::from(len)).read_to_end(&mut answer)?;
        if u32::try_from(answer.len()) == Ok(len) {
            Ok(answer)
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }
}

fn put_string(message: &mut Vec<u8>, bytes: &[u8]) {
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    message.extend_from_slice(&len.to_be_bytes());
    message.extend_from_slice(bytes);
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn number(&mut self) -> Option<u32> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*first))
    }

    fn string(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.number()?).ok()?;
        let (first, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::os::unix::net::UnixListener;

    use super::*;

    /// Asks an agent that gives these bytes to whatever is asked.
    fn check(answer: &[u8], what: impl FnOnce(&Agent) -> Result<(), AgentError>, problem: &str) {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("agent");
        let listener = UnixListener::bind(&socket).unwrap();
        let answer = answer.to_vec();
        let serve = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut len = [0; 4];
            stream.read_exact(&mut len).unwrap();
            let mut asked = vec![0; usize::try_from(u32::from_be_bytes(len)).unwrap()];
            stream.read_exact(&mut asked).unwrap();
            stream.write_all(&answer).unwrap();
        });
        let error = what(&Agent::at(&socket)).unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
        serve.join().unwrap();
    }

    #[test]
    fn a_lying_agent_is_an_error_and_nothing_more() {
        let key = OperatorKey::from(muster_signing::SigningKey::from_seed([1; 32]).public());
        let list = |agent: &Agent| agent.keys().map(drop);
        let sign = |agent: &Agent| agent.sign(&key, b"x").map(drop);
        check(&[0xff; 8], list, "4294967295 bytes is more than 262144");
        check(&[0, 0, 0, 9, 12], list, "unexpected end of file");
        check(&[0, 0, 0, 1, FAILURE], list, "lists no keys");
        check(&[0, 0, 0, 5, IDENTITIES_ANSWER, 0xff, 0xff, 0xff, 0xff], list, "cut off");
        check(&[0, 0, 0, 0], list, "lists no keys");
        check(&[0, 0, 0, 2, IDENTITIES_ANSWER, 0], list, "does not count");
        check(&[0, 0, 0, 1, FAILURE], sign, "refused to sign with ssh-ed25519 ");
        check(&[0, 0, 0, 1, 99], sign, "message 99");
        check(&[0, 0, 0, 0], sign, "empty");
        check(&[0, 0, 0, 5, SIGN_RESPONSE, 0, 0, 1, 0], sign, "cut off");
    }

    #[test]
    fn no_agent_is_an_error_that_names_its_socket() {
        let error = Agent::at(Path::new("/nowhere/agent")).keys().unwrap_err().to_string();
        assert!(error.contains("/nowhere/agent"), "{error}");
    }
}
