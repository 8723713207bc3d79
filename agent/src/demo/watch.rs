//! Watches the fleet from outside: asks each agent over its control socket, as anybody could.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use tokio::time::sleep;

use super::DemoError;
use super::agents::Agents;
use super::fleet::Fleet;
use crate::control::client::{Client, ClientError, encoded};
use crate::control::wire::{
    Event, EventKind, Events, Explain, Id, Quarantine, Quarantines, RolloutShow, SignedDocument, Status,
};

/// How often the agents are asked.
const LOOK: Duration = Duration::from_millis(80);
/// The same while a time is taken.
const CLOSE_LOOK: Duration = Duration::from_millis(15);
/// How long a message can be on its way from an agent that is no more.
const ON_ITS_WAY_MAX: Duration = Duration::from_millis(200);
/// How long an agent may take until it answers.
const STARTING_MAX: Duration = Duration::from_secs(10);

/// Asks the agents of one fleet.
#[derive(Debug, Clone)]
pub(super) struct Watch {
    clients: BTreeMap<String, Client>,
}

impl Watch {
    /// The agents of a fleet.
    pub(super) fn new(fleet: &Fleet) -> Self {
        let clients = fleet.hosts.iter().map(|host| (host.name.clone(), Client::new(host.socket())));
        Self { clients: clients.collect() }
    }

    /// Waits until every agent answers.
    pub(super) async fn started(&self, agents: &mut Agents) -> Result<(), DemoError> {
        let answered = async |watch: &Self| {
            for host in watch.clients.keys() {
                let _: Id = watch.read(host, "/v1/id").await?;
            }
            Ok(Some(()))
        };
        self.until(agents, "every agent answers", STARTING_MAX, answered).await
    }

    /// Hands a document to one agent.
    pub(super) async fn publish(&self, host: &str, document: &SignedDocument) -> Result<(), DemoError> {
        let published = self.client(host)?.publish(document).await;
        published.map(drop).map_err(|source| DemoError::Agent { host: host.to_owned(), source })
    }

    /// What an agent says of the fleet.
    pub(super) async fn status(&self, host: &str) -> Result<Status, DemoError> {
        self.read(host, "/v1/status").await
    }

    /// Why a rollout does not move.
    pub(super) async fn explain(&self, host: &str, id: &str) -> Result<Explain, DemoError> {
        self.read(host, &format!("/v1/explain/{}", encoded(id))).await
    }

    /// What must not be activated, as one agent knows it.
    pub(super) async fn quarantines(&self, host: &str) -> Result<Vec<Quarantine>, DemoError> {
        Ok(self.read::<Quarantines>(host, "/v1/quarantines").await?.quarantines)
    }

    /// What an agent itself has said in a rollout.
    pub(super) async fn own_events(&self, host: &str, rollout: &str) -> Result<Vec<Event>, DemoError> {
        let route = format!("/v1/events?host={}&rollout={}", encoded(host), encoded(rollout));
        let events = self.read::<Events>(host, &route).await?.events;
        Ok(events.into_iter().filter(|event| event.kind == EventKind::Event).collect())
    }

    /// Asks until there is an answer that serves; agents that are starting, or do not know yet, are asked again.
    pub(super) async fn until<T>(
        &self,
        agents: &mut Agents,
        what: &str,
        limit: Duration,
        mut ask: impl AsyncFnMut(&Self) -> Result<Option<T>, DemoError>,
    ) -> Result<T, DemoError> {
        let started = Instant::now();
        loop {
            agents.check()?;
            match ask(self).await {
                Ok(Some(answer)) => return Ok(answer),
                Ok(None) | Err(DemoError::Agent { source: ClientError::Unreachable { .. }, .. }) => {}
                Err(DemoError::Agent { source: ClientError::Refused(problem), .. })
                    if problem.status == 404 => {}
                Err(error) => return Err(error),
            }
            if started.elapsed() > limit {
                return Err(DemoError::Late { what: what.to_owned(), secs: limit.as_secs() });
            }
            sleep(LOOK).await;
        }
    }

    /// Follows a rollout as one agent sees it, shows every change, and returns when `enough` says so.
    pub(super) async fn rollout(
        &self,
        agents: &mut Agents,
        (at, id): (&str, &str),
        limit: Duration,
        mut change: impl FnMut(&RolloutShow, &Explain),
        enough: impl Fn(&RolloutShow) -> bool,
    ) -> Result<RolloutShow, DemoError> {
        let route = format!("/v1/rollouts/{}", encoded(id));
        let mut shown: Option<RolloutShow> = None;
        self.until(agents, &format!("{id} goes on"), limit, async |watch| {
            let show: RolloutShow = watch.read(at, &route).await?;
            if shown.as_ref() != Some(&show) {
                change(&show, &watch.explain(at, id).await?);
                shown = Some(show.clone());
            }
            Ok(enough(&show).then_some(show))
        })
        .await
    }

    /// The newest position in what each of these agents has learnt.
    pub(super) async fn positions(&self, hosts: &[&str]) -> Result<BTreeMap<String, u64>, DemoError> {
        let mut positions = BTreeMap::new();
        for host in hosts {
            let newest: Events = self.read(host, "/v1/events?limit=1").await?;
            positions.insert((*host).to_owned(), newest.events.last().map_or(0, |event| event.position));
        }
        Ok(positions)
    }

    /// The first decision, certified after `killed`, that any of the agents shows behind those positions, and when it did.
    pub(super) async fn decision(
        &self,
        mut positions: BTreeMap<String, u64>,
        killed: (Instant, DateTime<Utc>),
        limit: Duration,
    ) -> Result<(Event, Instant), DemoError> {
        while killed.0.elapsed() < limit {
            for (host, position) in &mut positions {
                let learnt: Events = self.read(host, &format!("/v1/events?after={position}")).await?;
                for event in learnt.events {
                    *position = event.position;
                    // What was decided before may have been certified before, and still have been on its way.
                    let fresh = event.at >= killed.1 || killed.0.elapsed() > ON_ITS_WAY_MAX;
                    if event.kind == EventKind::Decision && fresh {
                        return Ok((event, Instant::now()));
                    }
                }
            }
            sleep(CLOSE_LOOK).await;
        }
        Err(DemoError::Late { what: "the next certified decision".to_owned(), secs: limit.as_secs() })
    }

    async fn read<T: DeserializeOwned>(&self, host: &str, route: &str) -> Result<T, DemoError> {
        let read = self.client(host)?.read(route).await;
        read.map_err(|source| DemoError::Agent { host: host.to_owned(), source })
    }

    fn client(&self, host: &str) -> Result<&Client, DemoError> {
        self.clients.get(host).ok_or_else(|| DemoError::Unexpected(format!("there is no host {host}")))
    }
}
