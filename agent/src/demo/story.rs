//! The story, act by act: what happens, why it is safe, and how long it took.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use chrono::{DateTime, SubsecRound, Utc};
use tokio::time::sleep;

use super::DemoError;
use super::agents::Agents;
use super::fleet::{CHANNEL, COORDINATORS, Fleet, Release, SUSTAINED_FAILURE_SECS, V1, V2, V3};
use super::home::Home;
use super::json::{QuarantineReport, Report, RolloutReport, median, tenths};
use super::tell::{Teller, list};
use super::watch::Watch;
use crate::control::wire::{Event, Explain, HostState, RolloutShow, RolloutState};

/// How long the agents may take to find each other and elect a coordinator.
const GATHERING_MAX: Duration = Duration::from_secs(20);
/// How long a rollout may take.
const ROLLOUT_MAX: Duration = Duration::from_secs(40);
/// How long the survivors of a coordinator may take for their next decision.
const RECOVERY_MAX: Duration = Duration::from_secs(20);
/// How long it may take until everybody knows and has what is decided.
const SETTLING_MAX: Duration = Duration::from_secs(20);
/// How long the canary has soaked when the coordinator is killed: all other hosts are still to be dispatched.
const KILL_AFTER: Duration = Duration::from_millis(300);

/// The story over one fleet.
pub(super) struct Story<'a> {
    fleet: &'a Fleet,
    agents: &'a mut Agents,
    tell: &'a mut Teller,
    watch: Watch,
    /// From each publishing until each first host took its dispatch, in milliseconds.
    dispatch_ms: Vec<f64>,
    rollouts: Vec<RolloutReport>,
}

/// Says what is about to be seen.
pub(super) fn welcome(tell: &Teller, hosts: usize, home: &Home) {
    tell.title(&format!("muster demo: {hosts} hosts, {COORDINATORS} of them coordinators, and no server"));
    let path = home.path().display();
    let end = if home.is_kept() { "stays there" } else { "goes away at the end" };
    tell.say(&format!(
        "Each host is a real agent: a process with its own key and store, talking QUIC over loopback. It needs no root and no \
         Nix. Everything is in {path} and {end}."
    ));
}

/// Says what was measured, and what to try next.
pub(super) fn farewell(tell: &Teller, fleet: &Fleet, report: &Report, home: &Home) {
    let recovered = report.rollouts.iter().find_map(|rollout| rollout.recovered_ms).unwrap_or_default();
    tell.title("What was measured");
    tell.show(&format!(
        "{:>7} ms   from publishing a ref to a host's dispatch (median)",
        report.publish_to_dispatch_ms
    ));
    tell.show(&format!("{recovered:>7} ms   from killing the coordinator to the next certified decision"));
    tell.show(&format!("{:>7} MiB  of memory at most, in any agent", report.agents_max_rss_mib));
    tell.show(&format!(
        "{:>7}      of {} hosts on the bad release",
        report.hosts_on_bad_release, report.hosts
    ));
    tell.show(&format!("{:>7} s    for all of it", report.seconds));
    tell.title("What to try next");
    if home.is_kept() {
        let dir = home.path().display();
        tell.say("The agents go on running. Ask any of them:");
        // A coordinator also knows who leads.
        let asked = fleet.hosts.iter().find(|host| host.coordinator).unwrap_or(fleet.canary());
        tell.show(&format!("export MUSTER_SOCKET={}", asked.socket().display()));
        tell.show("muster status");
        tell.show(&format!("muster rollout show {}", V3.rollout()));
        tell.show("muster events");
        tell.say("Release something yourself, and end them all when you have seen enough:");
        tell.show(&format!(
            "muster sign channel-ref --channel {CHANNEL} --ref v4 --serial {} --targets {dir}/v2.targets.json --fleet \
             {dir}/fleet.json --key {dir}/operator --out {dir}/v4.json",
            V3.serial + 1
        ));
        tell.show(&format!("muster publish {dir}/v4.json"));
        tell.show(&format!("muster demo --stop {dir}"));
    } else {
        tell.show("muster demo --keep DIR    the same fleet, left running for you to look around");
        tell.show(
            "muster fleet check FILE   what a fleet document of your own comes to: waves, budgets, quorum",
        );
        tell.show("muster --help             everything else");
    }
}

impl<'a> Story<'a> {
    /// A story that has not begun.
    pub(super) fn new(fleet: &'a Fleet, agents: &'a mut Agents, tell: &'a mut Teller) -> Self {
        let watch = Watch::new(fleet);
        Self { fleet, agents, tell, watch, dispatch_ms: Vec::new(), rollouts: Vec::new() }
    }

    /// Tells it to its end.
    pub(super) async fn run(mut self) -> Result<Report, DemoError> {
        self.gather().await?;
        self.good_release().await?;
        self.coordinator_dies().await?;
        let quarantined = self.broken_release().await?;
        self.agents.measure();
        Ok(Report {
            schema: 1,
            seconds: tenths(self.tell.elapsed().as_secs_f64()),
            hosts: self.fleet.hosts.len(),
            coordinators: COORDINATORS,
            rollouts: self.rollouts,
            quarantined,
            hosts_on_bad_release: self.fleet.names(|host| host.current().as_deref() == Some(V3.name)).len(),
            publish_to_dispatch_ms: tenths(median(self.dispatch_ms).unwrap_or_default()),
            agents_max_rss_mib: tenths(self.agents.peak_mib()),
        })
    }

    async fn gather(&mut self) -> Result<(), DemoError> {
        let canary = self.fleet.canary().name.as_str();
        self.tell.title("They meet");
        self.tell.say(&format!(
            "The operator's key signed the fleet document: who takes part, in which waves, how many at once. {canary} is \
             handed it, and the others pull it from their peers. They take it for its signature, whoever brings it."
        ));
        let started = Instant::now();
        self.watch.publish(canary, &self.fleet.signed()?).await?;
        self.whole("every agent sees the whole fleet", GATHERING_MAX).await?;
        let leader = self.leader(None).await?;
        self.tell.good(&format!(
            "All {} agents hold it after {:.1} s, and the coordinators {} elected {leader}.",
            self.fleet.hosts.len(),
            started.elapsed().as_secs_f64(),
            list(&self.fleet.names(|host| host.coordinator)),
        ));
        let quorum = COORDINATORS / 2 + 1;
        self.tell.say(&format!(
            "{leader} plans; it cannot dispatch alone. A host acts only on what {quorum} of the {COORDINATORS} coordinators \
             signed, and only if the operator signed that very closure for it."
        ));
        Ok(())
    }

    async fn good_release(&mut self) -> Result<(), DemoError> {
        self.tell.title("1. A release, in waves");
        let at = self.publish(V1, 1).await?;
        let id = V1.rollout();
        self.tell.say(&format!(
            "{id} is signed and handed to {}: any host will do. Each wave activates, soaks for a second with its health \
             check passing, and only then the next one goes.",
            self.fleet.hosts[1].name
        ));
        let leader = self.leader(None).await?;
        let observer = self.survivor(&leader);
        let show = self.follow(observer, V1, &mut BTreeSet::new(), ended).await?;
        self.close(&show, V1, RolloutState::Terminal, at, None).await?;
        self.tell.good(&format!(
            "{id} is {} after {:.1} s: all {} hosts run {}, and are healthy.",
            show.rollout.state,
            since(at),
            self.fleet.hosts.len(),
            V1.name
        ));
        Ok(())
    }

    async fn coordinator_dies(&mut self) -> Result<(), DemoError> {
        self.tell.title("2. The next release, and its coordinator is killed");
        let leader = self.leader(None).await?;
        let observer = self.survivor(&leader);
        let at = self.publish(V2, 2).await?;
        let id = V2.rollout();
        let canary = self.fleet.canary().name.as_str();
        let mut told = BTreeSet::new();
        let soaks = |show: &RolloutShow| state_of(show, canary) >= Some(HostRank::Soaking);
        self.follow(observer, V2, &mut told, soaks).await?;
        let (recovered_ms, what) = self.kill(&leader, observer, &mut told).await?;
        self.agents.restart(self.fleet.host(&leader).ok_or_else(|| no_host(&leader))?)?;
        let now_leads = self.leader(Some(&leader)).await.ok();
        self.tell.good(&format!(
            "{recovered_ms} ms later {} have certified the next decision: {what}.{} Both have the whole log and everybody's \
             signed reports, so nothing is lost and nothing is done twice.",
            list(&self.fleet.names(|host| host.coordinator && host.name != leader)),
            now_leads.map(|name| format!(" {name} leads now.")).unwrap_or_default()
        ));
        self.tell.say(&format!(
            "{leader} is started again. It opens its store, catches up, and takes part again."
        ));
        let show = self.follow(observer, V2, &mut told, ended).await?;
        self.close(&show, V2, RolloutState::Terminal, at, Some((leader.clone(), recovered_ms))).await?;
        let fleet = self.fleet;
        let all_current = async |_: &Watch| {
            let current = fleet.hosts.iter().all(|host| host.current().as_deref() == Some(V2.name));
            Ok(current.then_some(()))
        };
        self.watch.until(self.agents, "every host runs v2", SETTLING_MAX, all_current).await?;
        self.tell.good(&format!(
            "{id} is {} after {:.1} s: all {} hosts run {}, {leader} too.",
            show.rollout.state,
            since(at),
            self.fleet.hosts.len(),
            V2.name
        ));
        Ok(())
    }

    /// Kills the leading coordinator: how long the next certified decision took, and what it was.
    async fn kill(
        &mut self,
        leader: &str,
        observer: &str,
        told: &mut BTreeSet<String>,
    ) -> Result<(u64, String), DemoError> {
        let survivors = self.fleet.names(|host| host.coordinator && host.name != leader);
        sleep(KILL_AFTER).await;
        let show = self.follow(observer, V2, told, |_| true).await?;
        let waiting = show.hosts.iter().filter(|host| host.dispatched_at.is_none()).count();
        self.tell.bad(&format!(
            "{leader} leads, and {} still to be dispatched: its agent is killed now (SIGKILL).",
            if waiting == 1 { "1 host is".to_owned() } else { format!("{waiting} hosts are") }
        ));
        let positions = self.watch.positions(&survivors).await?;
        let since = Utc::now().trunc_subsecs(3);
        let killed = self.agents.kill(leader).await?;
        let watch = self.watch.clone();
        let (event, seen) = tokio::select! {
            decision = watch.decision(positions, (killed, since), RECOVERY_MAX) => decision?,
            // It never has enough, so it ends only with an error.
            failed = self.follow(observer, V2, told, |_| false) => {
                return Err(failed.err().unwrap_or_else(|| DemoError::Unexpected("the rollout ended".to_owned())));
            }
        };
        Ok((u64::try_from((seen - killed).as_millis()).unwrap_or(u64::MAX), in_words(&event)))
    }

    async fn broken_release(&mut self) -> Result<Vec<QuarantineReport>, DemoError> {
        self.tell.title("3. A release that does not work");
        self.whole("every agent sees the whole fleet again", SETTLING_MAX).await?;
        let leader = self.leader(None).await?;
        let at = self.publish(V3, 0).await?;
        let (id, canary) = (V3.rollout(), self.fleet.canary().name.as_str());
        self.tell.say(&format!(
            "{id} activates without an error, but its front page answers 500. Only the canary {canary} gets to see it."
        ));
        let observer = self.survivor(&leader);
        let reverted = |show: &RolloutShow| {
            matches!(
                show.rollout.state,
                RolloutState::Reverted | RolloutState::Terminal | RolloutState::Superseded
            )
        };
        let show = self.follow(observer, V3, &mut BTreeSet::new(), reverted).await?;
        self.close(&show, V3, RolloutState::Reverted, at, None).await?;
        let events = self.watch.own_events(canary, &id).await?;
        let failed =
            events.iter().rfind(|event| event.name == "ProbeResult" && event.detail.contains("fail"));
        self.tell.bad(&format!(
            "{canary}: {}, for {SUSTAINED_FAILURE_SECS} s without a pass.",
            failed.map_or("its health check fails", |event| event.detail.as_str())
        ));
        self.tell.good(&format!(
            "{canary} went back to {} by itself, as the signed policy says: for that it needs nobody's leave.",
            self.fleet.canary().current().unwrap_or_default()
        ));
        let quarantined = self.quarantined().await?;
        let count = self.fleet.hosts.len();
        self.tell.good(&format!(
            "{id} is {}, and {} is quarantined on {CHANNEL} by a quorum. All {count} hosts know: none will be sent there again.",
            show.rollout.state,
            V3.closure()
        ));
        let others = show.hosts.iter().filter(|host| host.host != canary);
        if others.clone().all(|host| host.dispatched_at.is_none()) {
            self.tell
                .good(&format!("The wave gate held the other {}: they never touched it.", others.count()));
        }
        Ok(quarantined)
    }

    /// Waits until every agent knows of the quarantine, and says what is quarantined.
    async fn quarantined(&mut self) -> Result<Vec<QuarantineReport>, DemoError> {
        let (names, closure) = (self.fleet.names(|_| true), V3.closure());
        let known = async |watch: &Watch| {
            let mut listed = Vec::new();
            for name in &names {
                listed = watch.quarantines(name).await?;
                if !listed.iter().any(|quarantine| quarantine.closure == closure) {
                    return Ok(None);
                }
            }
            Ok(Some(listed))
        };
        let what = format!("every agent knows that {closure} is quarantined");
        let listed = self.watch.until(self.agents, &what, SETTLING_MAX, known).await?;
        let report = |quarantine: crate::control::wire::Quarantine| QuarantineReport {
            channel: quarantine.channel,
            closure: quarantine.closure,
        };
        Ok(listed.into_iter().map(report).collect())
    }

    /// Signs a release and hands it to one of the agents; says when.
    async fn publish(&mut self, release: Release, host: usize) -> Result<DateTime<Utc>, DemoError> {
        let host = &self.fleet.hosts[host % self.fleet.hosts.len()].name;
        let document = self.fleet.release(release, Utc::now())?;
        self.tell.begin(&self.fleet.names(|_| true));
        // Agents write down times in whole milliseconds.
        let at = Utc::now().trunc_subsecs(3);
        self.watch.publish(host, &document).await?;
        Ok(at)
    }

    /// Shows a rollout live until `enough`.
    async fn follow(
        &mut self,
        observer: &str,
        release: Release,
        told: &mut BTreeSet<String>,
        enough: impl Fn(&RolloutShow) -> bool,
    ) -> Result<RolloutShow, DemoError> {
        let (tell, all) = (&mut *self.tell, self.fleet.names(|_| true));
        let change = |show: &RolloutShow, why: &Explain| {
            tell_held(tell, told, &all, why);
            for host in &show.hosts {
                let held = why.gates.iter().find(|gate| gate.host.as_deref() == Some(&host.host));
                tell.host(host, held.map(|gate| format!("{} gate", gate.gate)).as_deref());
            }
        };
        let id = release.rollout();
        self.watch.rollout(self.agents, (observer, &id), ROLLOUT_MAX, change, enough).await
    }

    /// Ends a rollout's display, checks how it ended, and notes its figures.
    async fn close(
        &mut self,
        show: &RolloutShow,
        release: Release,
        expected: RolloutState,
        published: DateTime<Utc>,
        killed: Option<(String, u64)>,
    ) -> Result<(), DemoError> {
        self.tell.end();
        self.agents.measure();
        let (id, state) = (release.rollout(), show.rollout.state);
        if state != expected {
            return Err(DemoError::Unexpected(format!(
                "{id} ended as {state}, where {expected} was expected"
            )));
        }
        for host in show.hosts.iter().filter(|host| host.wave == 0) {
            let events = self.watch.own_events(&host.host, &id).await?;
            let taken = events.iter().find(|event| event.name == "DispatchAck");
            let Some(taken) = taken else {
                let host = &host.host;
                return Err(DemoError::Unexpected(format!(
                    "{host} has no dispatch of {id} among its events"
                )));
            };
            let micros =
                (taken.at - published).num_microseconds().and_then(|micros| i32::try_from(micros).ok());
            self.dispatch_ms.push(f64::from(micros.unwrap_or(i32::MAX)) / 1000.0);
        }
        let (coordinator_killed, recovered_ms) = killed.unzip();
        self.rollouts.push(RolloutReport { id, state, coordinator_killed, recovered_ms });
        Ok(())
    }

    /// Waits until every agent holds the fleet document and hears of every host, and the coordinators have a leader.
    async fn whole(&mut self, what: &str, limit: Duration) -> Result<(), DemoError> {
        let fleet = self.fleet;
        let whole = async |watch: &Watch| {
            for host in &fleet.hosts {
                let status = watch.status(&host.name).await?;
                let all =
                    status.hosts.len() == fleet.hosts.len() && status.hosts.iter().all(|host| host.online);
                let led = !host.coordinator || status.coordinator.is_some();
                if status.fleet_serial.is_none() || !all || !led || !status.quorum.missing.is_empty() {
                    return Ok(None);
                }
            }
            Ok(Some(()))
        };
        self.watch.until(self.agents, what, limit, whole).await
    }

    /// The coordinator that leads by its own word; `gone` is not asked.
    async fn leader(&mut self, gone: Option<&str>) -> Result<String, DemoError> {
        let names = self.fleet.names(|host| host.coordinator && Some(host.name.as_str()) != gone);
        let leads = async |watch: &Watch| {
            for name in &names {
                if watch.status(name).await?.coordinator.as_deref() == Some(name) {
                    return Ok(Some((*name).to_owned()));
                }
            }
            Ok(None)
        };
        self.watch.until(self.agents, "a coordinator leads", RECOVERY_MAX, leads).await
    }

    /// A coordinator other than that one, to be asked how things go.
    fn survivor(&self, leader: &str) -> &'a str {
        let fleet: &'a Fleet = self.fleet;
        fleet.names(|host| host.coordinator && host.name != leader).first().copied().unwrap_or_default()
    }
}

/// Says which gate holds whom, each gate once.
fn tell_held(tell: &Teller, told: &mut BTreeSet<String>, all: &[&str], why: &Explain) {
    for gate in &why.gates {
        if !told.insert(gate.gate.clone()) {
            continue;
        }
        let holds = |host: &&str| {
            why.gates.iter().any(|other| other.gate == gate.gate && other.host.as_deref() == Some(*host))
        };
        let held: Vec<&str> = all.iter().copied().filter(holds).collect();
        tell.say(&format!("The {} gate holds {}: {}.", gate.gate, list(&held), gate.reason));
    }
}

/// A certified decision, as it stands in a sentence.
fn in_words(event: &Event) -> String {
    match &event.host {
        Some(host) if event.name == "Dispatch" => format!("{host} is dispatched"),
        Some(_) | None => event.detail.split(';').next().unwrap_or(&event.name).to_owned(),
    }
}

/// How far a host is, in the order in which it gets there.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum HostRank {
    Before,
    Soaking,
    After,
}

fn state_of(show: &RolloutShow, host: &str) -> Option<HostRank> {
    let state = show.hosts.iter().find(|entry| entry.host == host)?.state?;
    Some(match state {
        HostState::Pending | HostState::Activating | HostState::Deferred | HostState::Unknown => {
            HostRank::Before
        }
        HostState::Soaking => HostRank::Soaking,
        HostState::Converged | HostState::Failed | HostState::Reverted => HostRank::After,
    })
}

fn ended(show: &RolloutShow) -> bool {
    !show.rollout.state.is_open()
}

fn no_host(name: &str) -> DemoError {
    DemoError::Unexpected(format!("there is no host {name}"))
}

fn since(at: DateTime<Utc>) -> f64 {
    (Utc::now() - at).to_std().unwrap_or_default().as_secs_f64()
}
