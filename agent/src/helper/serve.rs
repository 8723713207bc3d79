//! The privileged process: one connection, one request, one answer.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use muster_core::document::{Trust, TrustError};
use muster_core::id::Closure;
use muster_core::wire::codec::DecodeError;
use muster_signing::Digest;
use nix::unistd::Uid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::authorize::{Act, Refused, Site, authorize};
use super::caller::{Allowed, CallerError};
use super::protocol::{Answer, CarryOut, REQUEST_BYTES_MAX, Request};
use super::restart;
use super::trusted::{self, TrustedError};
use super::vault::{Vault, VaultError};
use crate::activation::nixos::machine::Machine;
use crate::activation::nixos::root::{Root, Unit};
use crate::config::{Config, ConfigError};

/// How long a caller may take to say what it wants, and to hear what came of it.
const TALK_TIME_MAX: Duration = Duration::from_secs(10);
/// The most that is read of a configuration or a trust file.
const FILE_BYTES_MAX: usize = 1024 * 1024;

/// Why nothing was carried out.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A stranger calls.
    #[error(transparent)]
    Caller(#[from] CallerError),
    /// The caller takes its time.
    #[error("the request did not end within {} s", .0.as_secs_f32())]
    Slow(Duration),
    /// The request has no end.
    #[error("a request has at most {REQUEST_BYTES_MAX} bytes")]
    Oversized,
    /// The connection broke.
    #[error("the request cannot be read: {0}")]
    Broken(std::io::Error),
    /// It is no request.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
    /// A file that has to be root's is not, or cannot be read.
    #[error(transparent)]
    File(#[from] TrustedError),
    /// The configuration is not one.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The trust file is not one.
    #[error("{path}: {error}")]
    Trust {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: TrustError,
    },
    /// The pinned fleet is not the configured one.
    #[error("{trust} pins the fleet {pinned}, {config} is of {configured}")]
    TwoFleets {
        /// The trust file.
        trust: PathBuf,
        /// Its fleet.
        pinned: String,
        /// The configuration.
        config: PathBuf,
        /// Its fleet.
        configured: String,
    },
    /// The memory is not there, or cannot be written.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The store holds something else than operators signed.
    #[error("{0}")]
    Contents(String),
    /// A rule forbids it.
    #[error(transparent)]
    Refused(#[from] Refused),
}

impl ServeError {
    /// The rule's name.
    pub fn rule(&self) -> &'static str {
        match self {
            Self::Caller(_) => "stranger",
            Self::Slow(_) => "slow",
            Self::Oversized => "oversized",
            Self::Broken(_) => "broken",
            Self::Malformed(_) => "malformed",
            Self::File(_) => "file",
            Self::Config(_) | Self::TwoFleets { .. } => "config",
            Self::Trust { .. } => "trust",
            Self::Vault(_) => "memory",
            Self::Contents(_) => "contents",
            Self::Refused(refused) => refused.rule(),
        }
    }
}

/// What carries out what was authorized.
pub trait Hands {
    /// What runs now.
    fn running(&self) -> Option<Closure>;

    /// Checks that the store holds what operators signed of a system's contents.
    fn check_contents(&self, system: &Closure, signed: Digest) -> impl Future<Output = Result<(), String>>;

    /// Carries out an order; a switch goes on after this returns.
    fn carry_out(&self, act: &Act) -> impl Future<Output = Result<(), String>>;

    /// The end of what a unit said that it started.
    fn said(&self, unit: &Unit) -> impl Future<Output = String>;

    /// Restarts the agent, if its unit file names another program than the one that runs; says what was done.
    fn restart(&self) -> impl Future<Output = Result<String, String>>;
}

impl Hands for Machine {
    fn running(&self) -> Option<Closure> {
        self.current()
    }

    async fn check_contents(&self, system: &Closure, signed: Digest) -> Result<(), String> {
        Self::check_contents(self, system, signed).await.map_err(|error| error.to_string())
    }

    async fn carry_out(&self, act: &Act) -> Result<(), String> {
        Root::carry_out(self, act.order()).await.map_err(|error| error.to_string())
    }

    async fn said(&self, unit: &Unit) -> String {
        Self::said(self, unit).await
    }

    async fn restart(&self) -> Result<String, String> {
        restart::restart(self, Path::new("/proc")).await.map(|done| done.to_string())
    }
}

/// Where the helper finds what it believes.
#[derive(Debug, Clone)]
pub struct Door {
    /// The agent's configuration, which names this host, its fleet and the trust file.
    pub config: PathBuf,
    /// The folder of the memory.
    pub state: PathBuf,
    /// Who besides root may own these: the user that the helper runs as.
    pub owner: Uid,
    /// Who may give orders.
    pub allowed: Allowed,
    /// How long a caller may take to say what it wants.
    pub talk_time: Duration,
}

impl Door {
    /// The door of the process that runs.
    pub fn new(config: PathBuf, state: PathBuf, allowed: Allowed) -> Self {
        Self { config, state, owner: nix::unistd::geteuid(), allowed, talk_time: TALK_TIME_MAX }
    }

    /// Serves one connection to its end.
    pub async fn serve(&self, mut connection: UnixStream, hands: &impl Hands) {
        let answer = match self.hear(&mut connection).await {
            Ok(request) => self.obey(&request, hands, Utc::now()).await,
            Err(error) => Err(error),
        };
        let answer = answer.unwrap_or_else(|error| {
            tracing::error!(rule = error.rule(), "nothing is carried out: {error}");
            Answer::Refused { rule: error.rule().to_owned(), reason: error.to_string() }
        });
        let told = timeout(self.talk_time, async {
            connection.write_all(&answer.encode()).await?;
            connection.shutdown().await
        });
        // Who asked may be gone; what was done is done, and the next start of the agent looks for it.
        drop(told.await);
    }

    /// Reads the one request of a connection.
    async fn hear(&self, connection: &mut UnixStream) -> Result<Request, ServeError> {
        self.allowed.check(connection)?;
        let limit = u64::try_from(REQUEST_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
        let mut bytes = Vec::new();
        let mut bounded = connection.take(limit);
        match timeout(self.talk_time, bounded.read_to_end(&mut bytes)).await {
            Err(_) => return Err(ServeError::Slow(self.talk_time)),
            Ok(Err(error)) => return Err(ServeError::Broken(error)),
            Ok(Ok(_)) if bytes.len() > REQUEST_BYTES_MAX => return Err(ServeError::Oversized),
            Ok(Ok(_)) => {}
        }
        Ok(Request::decode(&bytes)?)
    }

    async fn obey(
        &self,
        request: &Request,
        hands: &impl Hands,
        now: DateTime<Utc>,
    ) -> Result<Answer, ServeError> {
        match request {
            Request::Restart => Ok(match hands.restart().await {
                Ok(done) => Answer::Done(done),
                Err(reason) => Answer::Failed(reason),
            }),
            Request::Said(unit) => Ok(Answer::said(&hands.said(unit).await)),
            Request::CarryOut(asked) => self.carry_out(asked, hands, now).await,
        }
    }

    /// Judges an order, writes down what is remembered of it, and only then carries it out.
    async fn carry_out(
        &self,
        asked: &CarryOut,
        hands: &impl Hands,
        now: DateTime<Utc>,
    ) -> Result<Answer, ServeError> {
        let vault = Vault::open(&self.state, self.owner)?;
        let memory = vault.load()?;
        let site = self.site(hands.running())?;
        let authorized = authorize(asked, &site, &memory, now)?;
        // A store path names how something was built, and only this the bytes themselves.
        if let Some((system, signed)) = authorized.contents() {
            hands.check_contents(system, signed).await.map_err(ServeError::Contents)?;
        }
        let act = authorized.remembered(|memory| vault.store(memory))?;
        if let Err(reason) = hands.carry_out(&act).await {
            tracing::error!(order = ?act.order(), "an order was allowed and did not work: {reason}");
            return Ok(Answer::Failed(reason));
        }
        tracing::info!(order = ?act.order(), "an order is carried out");
        if let Some(memory) = act.done()
            && let Err(error) = vault.store(&memory)
        {
            tracing::error!("that the order was carried out cannot be written down: {error}");
        }
        Ok(Answer::Done("it is carried out".to_owned()))
    }

    /// What this host knows of itself, from files that only root can have written.
    fn site(&self, running: Option<Closure>) -> Result<Site, ServeError> {
        let text = trusted::read(&self.config, self.owner, FILE_BYTES_MAX)?;
        let text = String::from_utf8_lossy(&text);
        let config = Config::from_text(&self.config, &text, |_| None)?;
        let bytes = trusted::read(&config.trust, self.owner, FILE_BYTES_MAX)?;
        let trust =
            Trust::parse(&bytes).map_err(|error| ServeError::Trust { path: config.trust.clone(), error })?;
        if trust.fleet != config.fleet {
            return Err(ServeError::TwoFleets {
                trust: config.trust,
                pinned: trust.fleet.to_string(),
                config: self.config.clone(),
                configured: config.fleet.to_string(),
            });
        }
        Ok(Site { host: config.host, trust, running })
    }
}
