//! What the commands that ask a running agent have in common.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::output;
use super::screen::Screen;
use super::{Exit, Failure};
use crate::config::SOCKET_DEFAULT;
use crate::control::Code;
use crate::control::client::{Client, ClientError};

/// How often a live view asks again.
pub(super) const REFRESH: Duration = Duration::from_millis(500);
/// Whoever asks again and again rests so many times as long as the answer took, so that it costs the agent under 1 % of a
/// processor.
const REST: u32 = 100;
/// The longest rest.
const REST_MAX: Duration = Duration::from_secs(5);

/// How long to rest before the agent is asked the same again: at least so long, and longer after an answer that took long.
pub(super) fn rest(least: Duration, took: Duration) -> Duration {
    took.saturating_mul(REST).clamp(least, REST_MAX)
}

/// Which agent is asked.
#[derive(Debug, Args)]
pub(super) struct Socket {
    /// The agent's control socket.
    #[arg(long, env = "MUSTER_SOCKET", default_value = SOCKET_DEFAULT, value_name = "PATH")]
    pub(super) socket: PathBuf,
}

/// Which agent is asked, and in what form it answers.
#[derive(Debug, Args)]
pub(super) struct Agent {
    #[command(flatten)]
    pub(super) socket: Socket,
    /// Print the agent's answer as JSON, unchanged.
    #[arg(long)]
    pub(super) json: bool,
}

impl Socket {
    /// Runs what asks the agent.
    pub(super) fn ask<T>(&self, work: impl AsyncFnOnce(&Client) -> Result<T, Failure>) -> Result<T, Failure> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::new)?;
        runtime.block_on(work(&Client::new(&self.socket)))
    }
}

impl Agent {
    /// Runs what asks the agent.
    pub(super) fn ask<T>(&self, work: impl AsyncFnOnce(&Client) -> Result<T, Failure>) -> Result<T, Failure> {
        self.socket.ask(work)
    }

    /// Reads one route and prints it: as it came, or as `text` makes of it.
    pub(super) fn show<T: serde::de::DeserializeOwned>(
        &self,
        route: &str,
        text: impl FnOnce(&T) -> String,
    ) -> Result<Exit, Failure> {
        let body = self.ask(async |client| Ok(client.get(route).await?))?;
        if self.json {
            raw(&body);
        } else {
            output::line(text(&crate::control::client::parse(&body)?).trim_end());
        }
        Ok(Exit::Done)
    }

    /// Prints a view again and again, whenever it has changed, until the user has seen enough.
    pub(super) fn watch(
        &self,
        mut view: impl AsyncFnMut(&Client) -> Result<String, Failure>,
    ) -> Result<Exit, Failure> {
        self.ask(async |client| {
            let mut resized = signal(SignalKind::window_change()).map_err(Failure::new)?;
            let mut interrupted = signal(SignalKind::interrupt()).map_err(Failure::new)?;
            let mut terminated = signal(SignalKind::terminate()).map_err(Failure::new)?;
            let mut screen = Screen::take(self.json);
            loop {
                let asked = Instant::now();
                let text = match view(client).await {
                    Ok(text) => text,
                    // An agent that is restarted is waited for; one that never was there is not.
                    Err(failure) if failure.exit == Exit::NoAgent && !screen.is_empty() => {
                        failure.to_string()
                    }
                    Err(failure) => return Err(failure),
                };
                screen.show(&text);
                let rest = rest(REFRESH, asked.elapsed());
                tokio::select! {
                    _ = interrupted.recv() => return Ok(Exit::Done),
                    _ = terminated.recv() => return Ok(Exit::Done),
                    () = output::reader_gone() => return Ok(Exit::Done),
                    _ = resized.recv() => {}
                    () = tokio::time::sleep(rest) => {}
                }
            }
        })
    }
}

/// Prints an answer as it came.
pub(super) fn raw(body: &[u8]) {
    output::line(String::from_utf8_lossy(body).trim_end());
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let failure = Self::new(&error);
        match error {
            ClientError::Unreachable { source, .. } => {
                let hint = if source.kind() == std::io::ErrorKind::PermissionDenied {
                    "only root and the group muster may ask: sudo usermod -aG muster $USER, then log in again"
                } else {
                    "is it running? systemctl status muster; --socket or MUSTER_SOCKET names another agent"
                };
                Self { exit: Exit::NoAgent, ..failure.hint(hint) }
            }
            ClientError::Silent { .. } => {
                let hint = "it is there and busy, or stuck: journalctl -u muster -e";
                Self { exit: Exit::NoAgent, ..failure.hint(hint) }
            }
            ClientError::Refused(problem) => {
                let failure = Self::new(format_args!("{}: {}", problem.title, problem.detail));
                match problem.hint.or_else(|| hint(problem.code).map(str::to_owned)) {
                    Some(hint) => failure.hint(hint),
                    None => failure,
                }
            }
            ClientError::Protocol(_) => failure.hint("are muster and the agent of the same version?"),
        }
    }
}

fn hint(code: Code) -> Option<&'static str> {
    Some(match code {
        Code::Unsigned => {
            "muster sign adds an operator's signature beside the file; publish sends all it finds there"
        }
        Code::Threshold => "muster verify FILE says who has signed; muster sign --add adds one more",
        Code::BadSignature => {
            "the file was changed after it was signed, or the signature is another file's: sign it again"
        }
        Code::Expired | Code::Stale => "sign it again with a new date and the next serial",
        Code::NotYet => "is this machine's clock right? timedatectl",
        Code::Downgrade => "sign it again with a higher serial",
        Code::Equivocation => "two documents must not share a serial: sign yours again with the next one",
        Code::UnknownFleetDocument => "publish the fleet document first",
        Code::WrongFleet => "muster id --help; --socket names the agent of the fleet that is meant",
        Code::TooManyClients | Code::Unavailable => "try again in a moment",
        Code::NotFound => "muster status and muster rollout list show the names",
        Code::Internal => "journalctl -u muster -e says more",
        Code::TooLarge
        | Code::NotJson
        | Code::UnknownField
        | Code::Invalid
        | Code::Misfit
        | Code::BadRequest
        | Code::MethodNotAllowed
        | Code::RequestTimeout
        | Code::Unknown => return None,
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::control::Problem;

    #[test]
    fn who_asks_again_rests_for_as_long_as_the_answer_cost() {
        let (short, of) = (Duration::from_millis(100), Duration::from_millis);
        for (took, least, expected) in [
            (of(0), REFRESH, REFRESH),
            (of(4), REFRESH, REFRESH),
            (of(4), short, of(400)),
            (of(20), REFRESH, of(2000)),
            (of(900), REFRESH, REST_MAX),
            (Duration::MAX, short, REST_MAX),
        ] {
            assert_eq!(rest(least, took), expected, "{took:?}");
        }
    }

    #[test]
    fn an_agent_that_is_not_there_is_told_apart_by_the_exit_code() {
        let folder = tempfile::tempdir().unwrap();
        let socket = Socket { socket: folder.path().join("muster.sock") };
        let agent = Agent { socket, json: false };
        let failure = agent.show::<serde_json::Value>("/v1/status", |_| String::new()).unwrap_err();
        assert_eq!(failure.exit, Exit::NoAgent);
        assert!(failure.message.starts_with("no agent answers at "), "{failure}");
        assert!(failure.hint.unwrap().contains("MUSTER_SOCKET"));
    }

    #[test]
    fn a_refusal_says_what_is_wrong_and_what_to_do() {
        let problem = Problem::new(Code::Threshold, "1 of 2 operators signed");
        let failure = Failure::from(ClientError::Refused(Box::new(problem)));
        assert_eq!(failure.exit, Exit::Refused);
        assert_eq!(failure.message, "Too few operators signed the document: 1 of 2 operators signed");
        assert!(failure.hint.unwrap().contains("muster sign --add"));
    }
}
