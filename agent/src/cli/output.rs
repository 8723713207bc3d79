//! The one place that writes to the terminal: data to stdout, everything else to stderr.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::OnceLock;

use owo_colors::{OwoColorize, Stream};
use serde::Serialize;
use tokio::io::Interest;
use tokio::net::unix::pipe::Sender;

use super::render::{COLUMNS_MIN, Look};

/// What a piece of text means, for those who see colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Good,
    /// Look at it.
    Warn,
    /// Not as it should be.
    Bad,
    /// Less important than what stands around it.
    Faint,
    /// More important than what stands around it.
    Strong,
}

/// Writes a line of data. A reader that has gone away has had enough: that is no error.
pub fn line(text: impl Display) {
    #[cfg(test)]
    if super::stage::with(|stage| stage.out.push_str(&format!("{text}\n"))).is_some() {
        return;
    }
    match writeln!(io::stdout().lock(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => drop(LOST.set(error.to_string())),
        Ok(()) | Err(_) => {}
    }
}

/// Why some of the data could not be written.
static LOST: OnceLock<String> = OnceLock::new();

/// Why some of the data could not be written, if so; that nobody reads it any more is no reason.
pub(super) fn lost() -> Option<&'static str> {
    LOST.get().map(String::as_str)
}

/// Waits until the reader of stdout has gone away; for ever if it is no pipe.
pub(super) async fn reader_gone() {
    let gone = async {
        // A copy that is only waited for: how stdout itself is written to stays as it is.
        let watched = Sender::from_owned_fd_unchecked(io::stdout().as_fd().try_clone_to_owned()?)?;
        watched.ready(Interest::ERROR).await.map(drop)
    };
    if gone.await.is_err() {
        std::future::pending().await
    }
}

/// Writes a line for people, beside the data.
pub fn note(text: impl Display) {
    #[cfg(test)]
    if super::stage::with(|stage| stage.notes.push_str(&format!("{text}\n"))).is_some() {
        return;
    }
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// How wide the terminal is that stdout goes to; none if it goes elsewhere, where lines may be long.
pub(super) fn columns() -> Option<u16> {
    #[cfg(test)]
    if let Some(width) = super::stage::with(|stage| stage.width) {
        return Some(width);
    }
    io::stdout().is_terminal().then(|| Look::of_stdout().width)
}

/// The same of stderr.
pub(super) fn note_columns() -> Option<u16> {
    #[cfg(test)]
    if let Some(width) = super::stage::with(|stage| stage.width) {
        return Some(width);
    }
    Some(console::Term::stderr().size_checked()?.1.max(COLUMNS_MIN))
}

/// Writes a value as JSON, readable and in one piece.
pub fn json(value: &impl Serialize) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => line(text),
        Err(error) => note(format_args!("muster: the answer is no JSON: {error}")),
    }
}

/// The text in its tone, if stdout is a terminal that shows colours and its user wants them.
pub fn toned(tone: Tone, text: impl Display) -> String {
    painted(Stream::Stdout, tone, text)
}

/// The same for stderr.
pub fn toned_note(tone: Tone, text: impl Display) -> String {
    painted(Stream::Stderr, tone, text)
}

fn painted(stream: Stream, tone: Tone, text: impl Display) -> String {
    let text = text.to_string();
    match tone {
        Tone::Good => text.if_supports_color(stream, |text| text.green()).to_string(),
        Tone::Warn => text.if_supports_color(stream, |text| text.yellow()).to_string(),
        Tone::Bad => text.if_supports_color(stream, |text| text.red()).to_string(),
        Tone::Faint => text.if_supports_color(stream, |text| text.dimmed()).to_string(),
        Tone::Strong => text.if_supports_color(stream, |text| text.bold()).to_string(),
    }
}

/// Text that others wrote, with what would steer the terminal made visible.
pub fn plain(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => safe.push(c),
            c if c.is_control() => safe.extend(c.escape_default()),
            c => safe.push(c),
        }
    }
    safe
}

/// "1 host", "2 hosts".
pub fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_cannot_steer_the_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb\rc\u{9b}d\né"), "a\\u{1b}[2Jb\\rc\\u{9b}d\né");
    }

    #[test]
    fn colours_are_left_out_where_stdout_is_no_terminal() {
        owo_colors::set_override(false);
        for tone in [Tone::Good, Tone::Warn, Tone::Bad, Tone::Faint, Tone::Strong] {
            assert_eq!(toned(tone, "x"), "x");
        }
        owo_colors::unset_override();
    }

    #[test]
    fn numbers_agree_with_their_nouns() {
        assert_eq!((count(1, "host"), count(0, "host")), ("1 host".to_owned(), "0 hosts".to_owned()));
    }
}
