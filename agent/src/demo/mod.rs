//! The whole story on one machine: real agents as child processes, a good release, a coordinator that is killed, and a
//! release that breaks its health.
//!
//! [`Demo`] has the fleet's folder and its agents, and cleans up after them. The [`story`] is told over them from outside:
//! whatever it says, it has seen through an agent's control socket, in a host's `current` link, or in `/proc`.

pub mod agents;
mod error;
pub mod fleet;
mod home;
pub mod json;
mod story;
pub mod tell;
mod watch;

use std::path::{Path, PathBuf};

use chrono::Utc;

use agents::Agents;
pub use error::DemoError;
use fleet::Fleet;
use home::Home;
use json::Report;
use story::Story;
use tell::Teller;
use watch::Watch;

/// How often a fleet is made anew because somebody else took one of its ports meanwhile.
const START_TRIES: u32 = 3;

/// One demo, from its empty folder until its agents are gone.
#[derive(Debug)]
pub struct Demo {
    home: Home,
    hosts: usize,
    cast: Option<Cast>,
}

#[derive(Debug)]
struct Cast {
    fleet: Fleet,
    agents: Agents,
}

impl Demo {
    /// Prepares a demo of so many hosts, in a temporary folder or in `keep`.
    pub fn new(hosts: usize, keep: Option<&Path>) -> Result<Self, DemoError> {
        let hosts = hosts.clamp(fleet::HOSTS_MIN, fleet::HOSTS_MAX);
        Ok(Self { home: Home::make(keep)?, hosts, cast: None })
    }

    /// Tells the story to its end.
    pub async fn run(&mut self, tell: &mut Teller) -> Result<Report, DemoError> {
        story::welcome(tell, self.hosts, &self.home);
        self.start().await?;
        let Some(Cast { fleet, agents }) = &mut self.cast else {
            return Err(DemoError::Unexpected("the agents were not started".to_owned()));
        };
        let report = Story::new(fleet, agents, tell).run().await?;
        story::farewell(tell, fleet, &report, &self.home);
        Ok(report)
    }

    /// Starts the agents, on other ports if one of the chosen ones is taken by now.
    async fn start(&mut self) -> Result<(), DemoError> {
        let mut tries = 1;
        loop {
            let fleet = Fleet::make(self.home.path(), self.hosts, Utc::now())?;
            let agents = Agents::start(&fleet)?;
            let cast = self.cast.insert(Cast { fleet, agents });
            match Watch::new(&cast.fleet).started(&mut cast.agents).await {
                // An agent that cannot have its port ends at once.
                Err(DemoError::AgentEnded { .. }) if tries < START_TRIES => {
                    tries += 1;
                    cast.agents.end().await;
                    self.home.clear()?;
                }
                done => return done,
            }
        }
    }

    /// What each agent said last, by its host's name.
    pub fn log_tails(&self) -> Vec<(String, String)> {
        let hosts = self.cast.iter().flat_map(|cast| &cast.fleet.hosts);
        hosts.map(|host| (host.name.clone(), agents::log_tail(host))).collect()
    }

    /// Leaves the agents of a kept demo running; ends those of another one.
    pub async fn finish(mut self) -> Result<(), DemoError> {
        match &mut self.cast {
            Some(cast) if self.home.is_kept() => {
                cast.agents.leave();
                Ok(())
            }
            Some(_) | None => self.end().await,
        }
    }

    /// Ends the agents, and removes the folder unless it is to be kept.
    pub async fn end(&mut self) -> Result<(), DemoError> {
        if let Some(cast) = &mut self.cast {
            cast.agents.end().await;
        }
        self.home.remove().await.map_err(DemoError::io(self.home.path()))
    }

    /// The folder, if it stays.
    pub fn kept(&self) -> Option<PathBuf> {
        self.home.is_kept().then(|| self.home.path().to_owned())
    }
}
