//! A probe that opens a connection and closes it again.

use serde::Deserialize;
use tokio::net::TcpStream;

/// Where something must be listening.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tcp {
    /// A name or an address.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Tcp {
    /// Runs the probe; the error is why it fails.
    pub async fn run(&self) -> Result<(), String> {
        connect(&self.host, self.port).await.map(drop)
    }
}

/// Connects, with an error that names the place.
async fn connect(host: &str, port: u16) -> Result<TcpStream, String> {
    TcpStream::connect((host, port)).await.map_err(|error| format!("{host} port {port}: {error}"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[tokio::test]
    async fn an_open_port_passes_and_a_closed_one_fails_with_its_name() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let probe = Tcp { host: "127.0.0.1".to_owned(), port };
        assert_eq!(probe.run().await, Ok(()));
        drop(listener);
        let reason = probe.run().await.unwrap_err();
        assert!(reason.contains(&format!("127.0.0.1 port {port}")), "{reason}");
    }
}
