//! `muster-bench cli`: what a person waits for at the command line, and what watching costs the agent.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::figures::{Times, machine, processor_time, processor_time_of_children, say};
use crate::fleet::Fleet;
use crate::served::Served;

/// Times commands from their start to their end, and watches a rollout that is under way.
#[derive(Debug, Args)]
pub(crate) struct Cli {
    /// How many hosts the fleet has.
    #[arg(long, default_value_t = 30)]
    hosts: usize,
    /// How many rollouts are over already; each leaves some seven records for each host.
    #[arg(long, default_value_t = 3)]
    history: usize,
    /// How often each command is run.
    #[arg(long, default_value_t = 200)]
    runs: usize,
    /// How long each watching client watches, in seconds.
    #[arg(long, default_value_t = 20)]
    watch: u64,
    /// The program to measure.
    #[arg(long, default_value_os_t = beside())]
    muster: PathBuf,
}

/// The `muster` that was built with this program.
fn beside() -> PathBuf {
    std::env::current_exe().unwrap_or_default().with_file_name("muster")
}

/// Something that looks again and again; it ends when this is dropped.
struct Watcher(Child);

impl Drop for Watcher {
    fn drop(&mut self) {
        // It may have ended by itself, which is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Cli {
    pub(crate) fn run(self) -> Result<()> {
        say(machine());
        let begun = Instant::now();
        let fleet = Fleet::play(self.hosts, self.history)?;
        let (records, open) = (fleet.records(), fleet.open_rollout());
        let made = begun.elapsed().as_secs_f64();
        say(format_args!("{} hosts, {records} records, {open} under way; made in {made:.1} s", self.hosts));
        let served = Served::start(&self.muster, &fleet)?;
        say(format_args!("the agent answers after {:.1} s", served.began_in.as_secs_f64()));
        drop(fleet);
        let next = served.next_ref();
        for arguments in [
            &["status"][..],
            &["status", "--json"],
            &["peers"],
            &["rollout", "list"],
            &["rollout", "show", &open],
            &["explain", &open],
            &["events", "--limit", "100"],
            &["plan", &next],
        ] {
            let name = arguments.join(" ").replace(&next, "FILE");
            say(format_args!("muster {name:<24} {}", self.time(&served, arguments)?));
        }
        let idle = self.cost(&served, || Ok(Vec::new()))?;
        say(format_args!("the agent by itself       {idle:.2} % of a processor"));
        for (name, arguments) in
            [("status --watch", &["status", "--watch"][..]), ("rollout watch", &["rollout", "watch", &open])]
        {
            let cost = self.cost(&served, || Ok(vec![watch(&served, arguments)?]))?;
            say(format_args!("{name:<24}  {:.2} % of a processor more", cost - idle));
        }
        let cost = self.cost(&served, || page(&served))?;
        say(format_args!("the live page             {:.2} % of a processor more", cost - idle));
        say(machine());
        Ok(())
    }

    /// How long a command takes, and how much of it the program and the agent compute.
    fn time(&self, served: &Served, arguments: &[&str]) -> Result<String> {
        let mut times = Vec::new();
        let (program, agent) = (processor_time_of_children()?, processor_time(served.pid())?);
        for _ in 0..self.runs {
            let mut command = served.muster(arguments);
            let begun = Instant::now();
            let ran = command.output()?;
            times.push(begun.elapsed());
            if !ran.status.success() {
                bail!("muster {}: {}", arguments.join(" "), String::from_utf8_lossy(&ran.stderr));
            }
        }
        let each = |time: Duration| time.as_secs_f64() * 1000.0 / self.runs.max(1) as f64;
        let program = each(processor_time_of_children()?.saturating_sub(program));
        let agent = each(processor_time(served.pid())?.saturating_sub(agent));
        Ok(format!(
            "{}   of which {program:.1} ms in the program, {agent:.1} ms in the agent",
            Times::of(times)
        ))
    }

    /// How much of a processor the agent has while somebody watches, in percent.
    fn cost(&self, served: &Served, begin: impl FnOnce() -> Result<Vec<Watcher>>) -> Result<f64> {
        let watchers = begin()?;
        // The first look is a new client's, not a watching one's.
        std::thread::sleep(Duration::from_secs(2));
        let (before, begun) = (processor_time(served.pid())?, Instant::now());
        std::thread::sleep(Duration::from_secs(self.watch));
        let used = processor_time(served.pid())?.saturating_sub(before);
        let share = used.as_secs_f64() / begun.elapsed().as_secs_f64();
        drop(watchers);
        Ok(share * 100.0)
    }
}

fn watch(served: &Served, arguments: &[&str]) -> Result<Watcher> {
    let mut command = served.muster(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(Watcher(command.spawn()?))
}

/// `muster web`, and a browser's one request that never ends.
fn page(served: &Served) -> Result<Vec<Watcher>> {
    let mut command = served.muster(&["web", "--listen", "127.0.0.1:0"]);
    let mut web = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let said = web.stdout.take().context("the page's address is said")?;
    let web = Watcher(web);
    let mut address = None;
    for line in BufReader::new(said).lines() {
        let line = line?;
        address = line
            .split_once("http://")
            .map(|(_, rest)| rest.split(['/', ' ']).next().unwrap_or(rest).to_owned());
        if address.is_some() {
            break;
        }
    }
    let address = address.context("the page's address is said")?;
    let mut browser = std::process::Command::new("curl");
    browser.args(["--silent", "--no-buffer", "--output", "/dev/null", &format!("http://{address}/api/live")]);
    Ok(vec![web, Watcher(browser.spawn().context("curl stands in for a browser")?)])
}
