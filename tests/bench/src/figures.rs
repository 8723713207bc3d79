//! Figures, and how they are printed.

use std::fs;
use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// Writes a line of what was found.
pub(crate) fn say(line: impl std::fmt::Display) {
    // A closed terminal has seen enough.
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// The machine, and how busy it is with other things.
pub(crate) fn machine() -> String {
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<&str> = load.split(' ').take(3).collect();
    format!("{cpus} processors, load {}", load.join(" "))
}

/// Times of many runs.
#[derive(Debug)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn of(mut times: Vec<Duration>) -> Self {
        times.sort();
        Self(times)
    }

    /// The time that so many of a hundred runs were below.
    fn percentile(&self, of_hundred: usize) -> Duration {
        let last = self.0.len().saturating_sub(1);
        self.0.get((self.0.len() * of_hundred / 100).min(last)).copied().unwrap_or_default()
    }
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let millis = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1000.0);
        let (median, tail, worst) = (self.percentile(50), self.percentile(95), self.percentile(100));
        write!(f, "median {:>9}   p95 {:>9}   worst {:>9}", millis(median), millis(tail), millis(worst))
    }
}

/// How long a process has had a processor so far.
pub(crate) fn processor_time(pid: u32) -> Result<Duration> {
    time_in(&format!("/proc/{pid}/stat"), 11)
}

/// How long the processes that this one has started and waited for had one.
pub(crate) fn processor_time_of_children() -> Result<Duration> {
    time_in("/proc/self/stat", 13)
}

/// The sum of two fields that count the kernel's ticks.
fn time_in(path: &str, first: usize) -> Result<Duration> {
    let stat = fs::read_to_string(path).with_context(|| format!("{path} cannot be read"))?;
    // Behind the name, which may hold anything: user and system time are next to each other.
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |place: usize| fields.get(place).and_then(|field| field.parse::<u64>().ok());
    let ticks = ticks(first).zip(ticks(first + 1)).context("the kernel says how long a process has run")?;
    let a_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?.unwrap_or(100);
    let a_second = u64::try_from(a_second).unwrap_or(100).max(1);
    Ok(Duration::from_millis((ticks.0 + ticks.1) * 1000 / a_second))
}
