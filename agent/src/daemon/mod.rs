//! The daemon: one task owns the node, and everything else sends it facts.
//!
//! The loop below takes one fact at a time, local work before the network's, steps the node, and carries out
//! what comes out ([`hands`]). It decides nothing. What is slow runs elsewhere and answers with a fact: writes
//! on the store's own thread, switches and probes in tasks ([`workers`]), the swarm in its own task, requests of
//! the control socket in theirs.

mod answers;
mod figures;
mod full;
mod hands;
mod helping;
mod hooks;
mod ingress;
mod library;
mod patience;
mod readers;
#[cfg(test)]
mod testing;
mod verifier;
mod workers;
mod writes;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use chrono::{SubsecRound, Utc};
use muster_core::document::Trust;
use muster_core::drive::Drive;
use muster_core::node::{self, Input, Node, Origin, Output, RequestId, Settings};
use muster_core::time::{Mono, Now};
use muster_signing::SigningKey;
use muster_store::{CommitError, Identity, Store};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::activation::Backend;
use crate::config::{BackendKind, Config};
use crate::control::metrics::MetricsListener;
use crate::control::{self, Ask, Request};
use crate::probe::Surroundings;
use crate::{keys, storage};
use full::Disk;
use hands::Hands;
use helping::Helping;
use hooks::Hooks;
use library::Shelf;
use patience::Patience;
use readers::Readers;
use verifier::Verifier;
use workers::{Said, Workers};

pub use answers::past;

/// How long a leader's hand-over may take when the agent stops.
const PARTING_TIME: Duration = Duration::from_millis(500);
/// The longest the loop sleeps: the watchdog of systemd wants to hear of it.
const SLEEP_MAX: Duration = Duration::from_secs(5);
/// How long a day is.
const DAY_SECS: u64 = 24 * 60 * 60;

/// Runs the agent until it is told to stop.
pub fn run(config: Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the asynchronous runtime cannot be set up")?;
    runtime.block_on(async {
        let mut daemon = Daemon::start(config).await?;
        daemon.serve().await
    })
}

struct Daemon {
    node: Node,
    drive: Drive,
    hands: Hands,
    workers: Workers,
    helping: Helping,
    reports: mpsc::Receiver<Said>,
    written: mpsc::UnboundedReceiver<(u64, Result<(), CommitError>)>,
    inbox: control::Inbox,
    events: muster_gossip::Events,
    /// What a sync brought and the node has not heard of; no more is taken from the network before it has.
    backlog: VecDeque<muster_gossip::Item>,
    clock: Instant,
    store_path: PathBuf,
    key: SigningKey,
    pins: Vec<Trust>,
    disk: Disk,
    requests: u64,
    readers: Readers,
    verifier: Verifier,
    hooks: Hooks,
    /// Closes the control socket and the metrics' when it is dropped.
    _closing: watch::Sender<()>,
}

impl Daemon {
    async fn start(config: Config) -> anyhow::Result<Self> {
        for idle in config.honoured()? {
            tracing::warn!("{idle}");
        }
        let backend = Backend::new(&config.activation, &config.state_dir)?;
        Self::start_on(config, backend, boot_id()).await
    }

    /// Starts on a machine that is in this boot.
    async fn start_on(config: Config, backend: Backend, boot_id: String) -> anyhow::Result<Self> {
        let patience = Patience::ask();
        let key = keys::read_private(&config.identity).context("this host's key cannot be read")?;
        let pins = vec![read_trust(&config.trust)?];
        if pins.iter().any(|pin| pin.fleet != config.fleet) {
            bail!("{} pins another fleet than {}", config.trust.display(), config.fleet);
        }
        std::fs::create_dir_all(&config.state_dir)
            .with_context(|| format!("{} cannot be made", config.state_dir.display()))?;
        let store_path = config.state_dir.join(storage::STORE_FILE);
        let identity = Identity { fleet: config.fleet.to_string(), host: config.host.to_string() };
        let store = Arc::new(Store::open(&store_path, identity)?);
        compact(&store);
        // What is there already needs no room: a host whose disk is full starts all the same.
        if !storage::has_pins(&store.read()?, &pins)? {
            store.commit_wait(vec![storage::pins_row(&pins)]).context("the store takes no writes")?;
        }
        let shelf = Arc::new(Shelf::open(Arc::clone(&store))?);
        let (helping, backend) = Helping::new(&config, &store, backend);
        let settings = settings(&config, boot_id.clone())?;
        let clock = Instant::now();
        let (node, outputs) = full::build(settings, &key, &pins, &store, &store_path, clock)?;

        let mut network = muster_gossip::Config::new(config.fleet.as_str(), *key.seed());
        network.listen = config.listen.clone();
        network.bootstrap = config.bootstrap.clone();
        network.publish = config.gossip.publish;
        let (network, events) = muster_gossip::start(network, Arc::clone(&shelf) as _)?;
        let around = Surroundings { peers: network.watch_peers(), key: key.public() };
        let (workers, reports) = Workers::new(backend, config.health_checks.clone(), boot_id, around);
        let (inbox, closing) = open_doors(&config).await?;
        let hooks = Hooks::start(&config, &store, &key, clock, &inbox.position)?;
        let (sender, written) = mpsc::unbounded_channel();
        let hands = Hands::new(network, store, shelf, sender);
        let mut daemon = Self {
            node,
            drive: Drive::new(),
            hands,
            workers,
            helping,
            reports,
            written,
            inbox,
            events,
            backlog: VecDeque::new(),
            clock,
            store_path,
            key,
            pins,
            disk: Disk::default(),
            requests: 0,
            readers: Readers::new(),
            verifier: Verifier::new(),
            hooks,
            _closing: closing,
        };
        daemon.carry_out(outputs);
        drop(patience);
        tracing::info!(host = %config.host, fleet = %config.fleet, "the agent runs");
        Ok(daemon)
    }

    async fn serve(&mut self) -> anyhow::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        // Without a service manager there is nobody to tell.
        drop(sd_notify::notify(&[sd_notify::NotifyState::Ready]));
        loop {
            let sleep = self.sleep();
            let works = !self.disk.is_full();
            let room = works && self.hands.writes.has_room();
            let behind = !self.backlog.is_empty();
            tokio::select! {
                biased;
                _ = terminate.recv() => return self.stop().await,
                _ = interrupt.recv() => return self.stop().await,
                Some((batch, result)) = self.written.recv() => self.stored(batch, result)?,
                Some(said) = self.reports.recv(), if works => self.said(said),
                report = self.workers.probe_ran(), if works => self.step(Input::Host(report)),
                Some(request) = self.inbox.requests.recv() => self.request(request),
                // The swarm has a turn after every item.
                () = tokio::task::yield_now(), if room && behind => self.catch_up(),
                Some(event) = self.events.recv(), if room && !behind => self.event(event),
                () = tokio::time::sleep(sleep), if works => self.step(Input::Tick),
                () = self.disk.try_again(), if !works => self.try_the_disk(),
            }
            self.look_at_the_quorum();
            drop(sd_notify::notify(&[sd_notify::NotifyState::Watchdog]));
        }
    }

    /// Tells the hooks how the quorum is; with a full disk nobody is heard, and nothing is said of whom.
    fn look_at_the_quorum(&mut self) {
        if !self.disk.is_full() {
            self.hooks.look(|| hooks::Quorum::of(&self.node.quorum(now(self.clock).mono)));
        }
    }

    /// Hands over, lets what was written become durable, and closes.
    async fn stop(&mut self) -> anyhow::Result<()> {
        drop(sd_notify::notify(&[sd_notify::NotifyState::Stopping]));
        tracing::info!("the agent stops");
        self.step(Input::Stopping);
        let parting = tokio::time::sleep(PARTING_TIME);
        tokio::pin!(parting);
        while !self.disk.is_full() && (self.node.leads() || !self.hands.writes.is_empty()) {
            tokio::select! {
                biased;
                Some((batch, result)) = self.written.recv() => self.stored(batch, result)?,
                Some(event) = self.events.recv() => self.event(event),
                () = &mut parting => break,
            }
        }
        self.hands.network.shutdown();
        self.hands.store.close().context("the store did not close in order")?;
        Ok(())
    }

    fn sleep(&self) -> Duration {
        let now = now(self.clock).mono;
        self.node.wakes_at().map_or(SLEEP_MAX, |at| at.since(now)).min(SLEEP_MAX)
    }

    fn step(&mut self, input: Input) {
        // What the node believes is ahead of a full disk.
        if self.disk.is_full() {
            return;
        }
        let outputs = self.node.step(now(self.clock), input);
        self.carry_out(outputs);
    }

    fn carry_out(&mut self, outputs: Vec<Output>) {
        self.drive.carry_out(outputs, &mut self.hands);
        self.after_orders();
    }

    /// What the node's orders left for the loop itself.
    fn after_orders(&mut self) {
        let orders = std::mem::take(&mut self.hands.orders);
        if !orders.is_empty() {
            self.helping.follow(self.node.ledger().documents());
        }
        for order in orders {
            self.hands.figures.ordered(&order);
            self.workers.obey(order);
        }
        if std::mem::take(&mut self.hands.settled).contains(&self.node.settings().host) {
            self.helping.renew();
        }
        if std::mem::take(&mut self.hands.enrolled) {
            self.hands.network.set_roster(answers::roster(&self.node));
        }
    }

    /// A write has ended. One that failed ends the agent, unless the disk is full: the store knows what is durable,
    /// and the next start asks it.
    fn stored(&mut self, batch: u64, result: Result<(), CommitError>) -> anyhow::Result<()> {
        if batch == hands::TRIAL {
            return self.tried(result);
        }
        match result {
            Ok(()) => self.disk.has_room(),
            Err(CommitError::Full) => {
                self.run_out_of_space();
                return Ok(());
            }
            Err(error) => return Err(self.no_more_writes(error)),
        }
        let position = self.hands.durable(batch);
        self.inbox
            .position
            .send_if_modified(|known| position > std::mem::replace(known, position.max(*known)));
        self.drive.stored(batch, &mut self.hands);
        self.after_orders();
        self.step(Input::Stored { batch });
        Ok(())
    }

    fn no_more_writes(&self, error: CommitError) -> anyhow::Error {
        anyhow::Error::new(error).context(format!("{} takes no more writes", self.store_path.display()))
    }

    fn said(&mut self, said: Said) {
        match said {
            Said::Report(report) => {
                self.hands.figures.reported(&report);
                self.step(Input::Host(report));
            }
            Said::Probes(generation, specs) => self.workers.run_probes(generation, &specs),
        }
    }

    fn event(&mut self, event: muster_gossip::Event) {
        let roster = self.node.ledger().roster().clone();
        let Hands { shelf, pending, network, figures, .. } = &mut self.hands;
        let backlog = &mut self.backlog;
        if let Some(input) = ingress::input(event, &roster, shelf, pending, network, backlog, figures) {
            self.step(input);
        }
    }

    /// Takes in the next thing that a sync brought, under the roster as the things before it have left it.
    fn catch_up(&mut self) {
        let Some(item) = self.backlog.pop_front() else { return };
        let roster = self.node.ledger().roster().clone();
        if let Some(input) = ingress::caught_up(&item, &roster, &self.hands.shelf) {
            self.step(input);
        }
    }

    fn request(&mut self, request: Request) {
        let Request { ask, peer, reply } = request;
        match ask {
            Ask::Query(query) => {
                let asked = self.asked();
                self.readers.answer(answers::prepare(&asked, query), reply);
            }
            Ask::VerifyStore => self.verifier.begin(&self.hands.store, &self.store_path, reply),
            Ask::Plan(parts) => {
                let asked = self.asked();
                self.readers.answer(answers::foresee(&asked, parts), reply);
            }
            Ask::Hook { name, verb } => self.hooks.obey(&name, verb, reply),
            // Who asked may have hung up.
            Ask::Publish(_) if self.disk.is_full() => drop(reply.send(Err(full::refusal()))),
            Ask::Publish(parts) => {
                tracing::info!(?peer, bytes = parts.bytes.len(), "a document is published");
                let document = muster_core::verify::document_parts(parts);
                if let Some(misfit) = self.node.misfit(now(self.clock), &document) {
                    return drop(reply.send(Err(answers::misfit(&misfit))));
                }
                self.requests += 1;
                let request = self.requests;
                self.hands.waiters.insert(request, reply);
                let origin = Origin::Operator(RequestId(request));
                self.step(Input::Document { document, origin });
            }
        }
    }

    fn asked(&self) -> answers::Asked<'_> {
        answers::Asked {
            node: &self.node,
            hands: &self.hands,
            hooks: &self.hooks,
            store_path: &self.store_path,
            disk_full: self.disk.is_full(),
            now: now(self.clock),
        }
    }
}

/// Gives the store's unused half back to the disk. An agent whose disk has no room for that does without.
fn compact(store: &Store) {
    let compacted = match store.stats() {
        Ok(stats) if stats.worth_compacting() => store.compact(),
        Ok(_) => return,
        Err(error) => Err(error),
    };
    match compacted {
        Ok(bytes) => tracing::info!(bytes, "the store was compacted"),
        Err(error) => tracing::warn!(%error, "the store could not be compacted"),
    }
}

/// Opens the control socket, and the metrics' address if there is one; both close when the sender is dropped.
async fn open_doors(config: &Config) -> anyhow::Result<(control::Inbox, watch::Sender<()>)> {
    let (door, inbox) = control::door();
    let limits = control::server::Limits::default();
    let (closing, closed) = watch::channel(());
    let socket = control::server::Listener::bind(&config.socket)?;
    if let Some(address) = config.metrics.listen {
        let metrics = MetricsListener::bind(address).await;
        let metrics =
            metrics.with_context(|| format!("metrics.listen = \"{address}\" cannot be listened on"))?;
        tracing::info!(address = %metrics.address()?, "metrics are served over TCP");
        tokio::spawn(metrics.serve(door.clone(), limits, gone(closed.clone())));
    }
    tokio::spawn(socket.serve(door, limits, gone(closed)));
    Ok((inbox, closing))
}

fn settings(config: &Config, boot_id: String) -> anyhow::Result<Settings> {
    Ok(Settings {
        fleet: config.fleet.clone(),
        host: config.host.clone(),
        heartbeat: config.heartbeat,
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        boot_id,
        backend: match config.activation.backend {
            BackendKind::Nixos => node::BackendKind::Nixos,
            BackendKind::Directory => node::BackendKind::Directory,
        },
        rules: muster_core::wire::RULES,
        retention: Duration::from_secs(u64::from(config.retention_days) * DAY_SECS),
        snapshot_entries: config.snapshot_entries,
        seed: full::seed()?,
    })
}

/// Waits until the daemon is gone.
async fn gone(mut closed: watch::Receiver<()>) {
    while closed.changed().await.is_ok() {}
}

fn now(clock: Instant) -> Now {
    let mono = u64::try_from(clock.elapsed().as_micros()).unwrap_or(u64::MAX);
    Now { utc: Utc::now().trunc_subsecs(3), mono: Mono(mono) }
}

fn read_trust(path: &Path) -> anyhow::Result<Trust> {
    let bytes = std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    Trust::parse(&bytes).with_context(|| format!("{} is not a trust file", path.display()))
}

/// The machine's boot id; without one every restart counts as in another boot, which only makes a host soak again.
fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().to_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod recovery_tests;
#[cfg(test)]
mod tests;
