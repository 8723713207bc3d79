//! Tells the story: live bars on a terminal, plain lines elsewhere.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::cli::output::{Tone, line, note, toned, toned_note};
use crate::control::wire::{HostState, RolloutHost};

/// How wide the text of the story is, in characters.
const WIDTH: usize = 92;
/// What a host goes through until it has converged: dispatched, activating, soaking, converged.
const STEPS: u64 = 4;
const TICK: Duration = Duration::from_millis(100);

/// Who tells.
#[derive(Debug)]
pub struct Teller {
    aside: bool,
    began: Instant,
    bars: Option<MultiProgress>,
    hosts: BTreeMap<String, Shown>,
}

#[derive(Debug)]
struct Shown {
    text: String,
    bar: Option<ProgressBar>,
}

impl Teller {
    /// Tells on stdout, or, `aside`, on stderr.
    pub fn new(aside: bool) -> Self {
        let live = io::stderr().is_terminal() && (aside || io::stdout().is_terminal());
        Self { aside, began: Instant::now(), bars: live.then(MultiProgress::new), hosts: BTreeMap::new() }
    }

    /// How long it has been telling.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Begins a part of the story.
    pub fn title(&self, text: &str) {
        self.write("");
        self.write(&self.painted(Tone::Strong, text));
    }

    /// Tells a sentence or a few.
    pub fn say(&self, text: &str) {
        for text in wrapped(text, WIDTH) {
            self.write(&format!("  {text}"));
        }
    }

    /// Tells that all is well.
    pub fn good(&self, text: &str) {
        self.marked(Tone::Good, text);
    }

    /// Tells that something went wrong, as it was to.
    pub fn bad(&self, text: &str) {
        self.marked(Tone::Bad, text);
    }

    /// Shows something to be typed, or a figure.
    pub fn show(&self, text: &str) {
        self.write(&format!("    {text}"));
    }

    /// Begins to show the hosts of a rollout.
    pub fn begin(&mut self, hosts: &[&str]) {
        self.end();
        let name_chars = hosts.iter().map(|host| host.len()).max().unwrap_or(0);
        for host in hosts {
            let bar = self.bars.as_ref().map(|bars| {
                let bar = bars.add(ProgressBar::new(STEPS));
                let form = "    {prefix:.bold} {bar:16.cyan/dim} {msg}";
                if let Ok(style) = ProgressStyle::with_template(form) {
                    bar.set_style(style.progress_chars("━━─"));
                }
                bar.set_message("waits");
                bar.set_prefix(format!("{host:name_chars$}"));
                bar.enable_steady_tick(TICK);
                bar
            });
            self.hosts.insert((*host).to_owned(), Shown { text: String::new(), bar });
        }
    }

    /// Shows what one of them does; `held` is why it does nothing yet.
    pub fn host(&mut self, host: &RolloutHost, held: Option<&str>) {
        let (step, text) = told(host);
        let Some(shown) = self.hosts.get_mut(&host.host) else { return };
        if let Some(bar) = &shown.bar {
            bar.set_position(step);
            let wave = host.wave + 1;
            bar.set_message(match held {
                Some(held) if step == 0 => format!("wave {wave}: {text} ({held})"),
                _ => format!("wave {wave}: {text}"),
            });
        }
        if shown.text == text {
            return;
        }
        let plain = shown.bar.is_none() && (host.dispatched_at.is_some() || host.excused.is_some());
        shown.text.clone_from(&text);
        if plain {
            let time = format!("{:6.2} s", self.began.elapsed().as_secs_f64());
            let time = self.painted(Tone::Faint, &time);
            self.write(&format!("  {time}  {:6} {text}", host.host));
        }
    }

    /// Shows the hosts no more.
    pub fn end(&mut self) {
        for shown in std::mem::take(&mut self.hosts).into_values() {
            if let Some(bar) = shown.bar {
                bar.finish_and_clear();
            }
        }
    }

    fn marked(&self, tone: Tone, text: &str) {
        let mark = self.painted(tone, if tone == Tone::Bad { "✗" } else { "✓" });
        for (place, text) in wrapped(text, WIDTH - 2).iter().enumerate() {
            let mark = if place == 0 { mark.as_str() } else { " " };
            self.write(&format!("  {mark} {text}"));
        }
    }

    fn painted(&self, tone: Tone, text: &str) -> String {
        if self.aside { toned_note(tone, text) } else { toned(tone, text) }
    }

    fn write(&self, text: &str) {
        let write = || if self.aside { note(text) } else { line(text) };
        match &self.bars {
            Some(bars) => bars.suspend(write),
            None => write(),
        }
    }
}

/// How far a host is, and what it does, in words.
fn told(host: &RolloutHost) -> (u64, String) {
    if let Some(excused) = &host.excused {
        return (0, format!("excused: {excused}"));
    }
    match host.state {
        None | Some(HostState::Pending) if host.dispatched_at.is_none() => (0, "waits".to_owned()),
        None | Some(HostState::Pending) => (1, "dispatched: a quorum of coordinators has signed".to_owned()),
        Some(HostState::Activating) => (2, format!("activating {}", host.target)),
        Some(HostState::Soaking) => (3, format!("soaking on {}, its health watched", host.target)),
        Some(HostState::Converged) => (4, format!("converged on {}", host.target)),
        Some(HostState::Failed) => (2, "failed its health check, goes back by itself".to_owned()),
        Some(HostState::Reverted) => (1, "back on what it ran before".to_owned()),
        Some(state @ (HostState::Deferred | HostState::Unknown)) => (2, state.to_string()),
    }
}

/// Breaks text between words into lines of at most `width` characters.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut current = String::new();
    for word in text.split_whitespace() {
        if !current.is_empty() && current.chars().count() + 1 + word.chars().count() > width {
            lines.push(std::mem::take(&mut current));
        }
        if !current.is_empty() {
            current.push(' ');
        }
        current.push_str(word);
    }
    lines.push(current);
    lines
}

/// "a", "a and b", "a, b and c".
pub fn list(names: &[impl AsRef<str>]) -> String {
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    match names.as_slice() {
        [] => "nobody".to_owned(),
        [only] => (*only).to_owned(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_broken_between_words() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("unbreakable a", 4), ["unbreakable", "a"]);
        assert_eq!(wrapped("é é é", 3), ["é é", "é"]);
        assert_eq!(wrapped("", 3), [""]);
    }

    #[test]
    fn names_are_listed_as_in_a_sentence() {
        assert_eq!(list(&[] as &[&str]), "nobody");
        assert_eq!(list(&["a"]), "a");
        assert_eq!(list(&["a", "b"]), "a and b");
        assert_eq!(list(&["a", "b", "c"]), "a, b and c");
    }

    #[test]
    fn a_host_moves_on_with_its_state() {
        let host = |state, dispatched: bool| RolloutHost {
            host: "web-1".to_owned(),
            wave: 0,
            state,
            excused: None,
            target: "dir:v1".to_owned(),
            dispatched_at: dispatched.then(chrono::Utc::now),
            acknowledged_at: None,
            activated_at: None,
            converged_at: None,
            failed_at: None,
            reverted_at: None,
        };
        let steps = [
            host(None, false),
            host(Some(HostState::Pending), true),
            host(Some(HostState::Activating), true),
            host(Some(HostState::Soaking), true),
            host(Some(HostState::Converged), true),
        ];
        assert_eq!(steps.map(|host| told(&host).0), [0, 1, 2, 3, STEPS]);
    }
}
