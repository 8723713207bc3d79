//! The daemon's half: asks the privileged helper, and shows it the proofs.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::papers::{Archive, PapersError};
use super::protocol::{ANSWER_BYTES_MAX, Answer, CarryOut, REQUEST_BYTES_MAX, Request};
use crate::activation::nixos::root::{Order, Root, RootError, Unit};

/// How long the helper may take: it verifies, asks Nix for contents, sets a profile, and may have to stop a switch that runs.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(900);

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The proofs cannot be found.
    #[error("the helper cannot be asked: {0}")]
    Papers(#[from] PapersError),
    /// The proofs are too long.
    #[error("the helper cannot be asked: the request would have {0} bytes, more than {REQUEST_BYTES_MAX}")]
    TooLong(usize),
    /// The helper cannot be reached, or broke off.
    #[error("the helper at {socket}: {detail}")]
    Unreachable {
        /// Its socket.
        socket: PathBuf,
        /// Why not.
        detail: String,
    },
    /// The helper refused.
    #[error("the helper refuses ({rule}): {reason}")]
    Refused {
        /// The rule.
        rule: String,
        /// Why.
        reason: String,
    },
    /// It did not work.
    #[error("{0}")]
    Failed(String),
}

/// Asks the helper behind one socket.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
    archive: Arc<Archive>,
}

impl Client {
    /// A client of the helper behind a socket, which takes its proofs out of an archive.
    pub fn new(socket: PathBuf, archive: Arc<Archive>) -> Self {
        Self { socket, archive }
    }

    /// Asks for an order to be carried out, with what proves it.
    pub async fn carry_out(&self, order: &Order) -> Result<String, ClientError> {
        let papers = match order {
            Order::Switch { dispatch, .. } | Order::Boot { dispatch, .. } => {
                Some(Arc::clone(&self.archive).papers(dispatch.clone()).await?)
            }
            Order::RollBack { .. } | Order::Reset(_) => None,
        };
        self.ask(&Request::CarryOut(CarryOut { order: order.clone(), papers })).await
    }

    /// Asks for the agent's own restart, if its unit file names another program by now.
    pub async fn restart(&self) -> Result<String, ClientError> {
        self.ask(&Request::Restart).await
    }

    /// Asks what a unit said.
    pub async fn said(&self, unit: &Unit) -> Result<String, ClientError> {
        self.ask(&Request::Said(unit.clone())).await
    }

    async fn ask(&self, request: &Request) -> Result<String, ClientError> {
        let bytes = request.encode();
        if bytes.len() > REQUEST_BYTES_MAX {
            return Err(ClientError::TooLong(bytes.len()));
        }
        let unreachable = |detail: String| ClientError::Unreachable { socket: self.socket.clone(), detail };
        let answer = timeout(ANSWER_TIME_MAX, self.talk(&bytes)).await;
        let answer = answer
            .map_err(|_| unreachable(format!("no answer within {} s", ANSWER_TIME_MAX.as_secs())))?
            .map_err(|error| unreachable(error.to_string()))?;
        match Answer::decode(&answer).map_err(|error| unreachable(error.to_string()))? {
            Answer::Done(what) => Ok(what),
            Answer::Refused { rule, reason } => Err(ClientError::Refused { rule, reason }),
            Answer::Failed(why) => Err(ClientError::Failed(why)),
        }
    }

    async fn talk(&self, request: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut connection = UnixStream::connect(&self.socket).await?;
        let said = async {
            connection.write_all(request).await?;
            connection.shutdown().await
        };
        // A helper that does not want to hear the rest may have said why.
        let said = said.await;
        let limit = u64::try_from(ANSWER_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
        let mut answer = Vec::new();
        let heard = connection.take(limit).read_to_end(&mut answer).await;
        if answer.is_empty() {
            said?;
            heard?;
        }
        Ok(answer)
    }
}

impl Root for Client {
    fn carry_out<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<(), RootError>> {
        Box::pin(async move {
            match Self::carry_out(self, order).await {
                Ok(_) => Ok(()),
                Err(error) => Err(RootError::NotDone(error.to_string())),
            }
        })
    }

    fn said<'a>(&'a self, unit: &'a Unit) -> BoxFuture<'a, String> {
        Box::pin(async move {
            Self::said(self, unit).await.unwrap_or_else(|error| {
                tracing::warn!(unit = unit.name(), %error, "what a unit said cannot be told");
                String::new()
            })
        })
    }
}
