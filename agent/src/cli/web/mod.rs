//! `muster web`: the fleet on a page that is served from this host's agent, read-only.

mod feed;
mod guard;
mod routes;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;

use clap::Args;
use tokio::net::TcpListener;

use super::asking::Socket;
use super::output::{Tone, line, toned};
use super::{Exit, Failure};
use crate::control::client::Client as Agent;
use crate::control::server::{self, Client, Limits};
use guard::Names;

/// Where the page is served unless the command line says otherwise.
const LISTEN_DEFAULT: &str = "127.0.0.1:9747";

/// Serves the fleet as a live page: hosts, rollouts, what holds a host, peers, events. Nothing can be changed there.
///
/// The page is read from the control socket of this host's agent, loads nothing from elsewhere, and stores nothing in the
/// browser. Whoever can reach the address can read it, so it is a loopback address unless --allow-remote is given; from
/// another machine, forward it: ssh -L 9747:127.0.0.1:9747 HOST.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  muster web                                   then open http://127.0.0.1:9747/
  muster web --listen 127.0.0.1:0              any free port, which is said
  muster web --listen 10.0.0.7:9747 --allow-remote --name web-01.example.org

Runs until it is interrupted. An agent that restarts is waited for.")]
pub(super) struct Web {
    #[command(flatten)]
    agent: Socket,
    /// Where to listen.
    #[arg(long, value_name = "ADDRESS", default_value = LISTEN_DEFAULT)]
    listen: SocketAddr,
    /// Listen although others than this machine may reach the address: there are no passwords.
    #[arg(long)]
    allow_remote: bool,
    /// A name by which browsers may call this server besides localhost and bare addresses; may be given more than once.
    #[arg(long, value_name = "NAME")]
    name: Vec<String>,
}

impl Web {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        if !self.listen.ip().is_loopback() && !self.allow_remote {
            let what = format_args!("{} is no loopback address, and there are no passwords", self.listen);
            return Err(Failure::usage(what).hint(
                "ssh -L 9747:127.0.0.1:9747 HOST brings the page to you; --allow-remote listens all the same",
            ));
        }
        self.agent.ask(async |agent| serve(agent.clone(), self.listen, Names::new(&self.name)).await)
    }
}

async fn serve(agent: Agent, listen: SocketAddr, names: Names) -> Result<Exit, Failure> {
    let listener = TcpListener::bind(listen).await.map_err(|error| {
        let failure = Failure::new(format_args!("{listen} cannot be listened on: {error}"));
        failure.hint("--listen 127.0.0.1:0 takes any free port")
    })?;
    let address = listener.local_addr().map_err(Failure::new)?;
    line(format_args!("the fleet is at {}", toned(Tone::Strong, format_args!("http://{address}/"))));
    let router = routes::router(agent, names);
    let accept = |cx: &mut std::task::Context<'_>| {
        let accepted = listener.poll_accept(cx);
        accepted.map_ok(|(stream, _)| (Client { credentials: None }, stream))
    };
    let interrupted = async {
        // Without the signal there is nothing to wait for: it runs until it is killed.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    server::attend(accept, router, Limits::default(), interrupted).await;
    Ok(Exit::Done)
}
