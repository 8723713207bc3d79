//! A view that is drawn again and again: on a terminal in place and without flicker, elsewhere as plain lines.

use std::io::{self, IsTerminal, Write};

use console::{Term, truncate_str};

use super::output::line;

/// Begins and ends a frame that the terminal shows at once, where it knows how to.
const FRAME: (&str, &str) = ("\u{1b}[?2026h", "\u{1b}[?2026l");
/// Another screen without a cursor, which leaves what was there as it was; and back.
const SCREEN: (&str, &str) = ("\u{1b}[?1049h\u{1b}[?25l", "\u{1b}[?25h\u{1b}[?1049l");
/// To the upper left corner; clears the rest of a line; clears all below.
const HOME: &str = "\u{1b}[H";
const CLEAR_LINE: &str = "\u{1b}[K";
const CLEAR_BELOW: &str = "\u{1b}[J";

/// Where a view is drawn.
#[derive(Debug)]
pub(super) struct Screen {
    /// Whether there is a terminal whose screen was taken.
    live: bool,
    last: String,
    size: (u16, u16),
}

impl Screen {
    /// Takes the terminal's screen, if stdout is one; `plain` leaves it alone.
    pub(super) fn take(plain: bool) -> Self {
        let live = !plain && io::stdout().is_terminal();
        if live {
            put(SCREEN.0);
        }
        Self { live, last: String::new(), size: (0, 0) }
    }

    /// Whether nothing was shown yet.
    pub(super) fn is_empty(&self) -> bool {
        self.last.is_empty()
    }

    /// Shows a text, if it is another one, or if the terminal's size has changed.
    pub(super) fn show(&mut self, text: &str) {
        let text = text.trim_end();
        if !self.live {
            if text != self.last {
                line(text);
                text.clone_into(&mut self.last);
            }
            return;
        }
        let size = Term::stdout().size_checked().unwrap_or((24, 80));
        if text == self.last && size == self.size {
            return;
        }
        put(&frame(text, size));
        text.clone_into(&mut self.last);
        self.size = size;
    }
}

impl Drop for Screen {
    /// Gives the screen back, and leaves on it what was seen last.
    fn drop(&mut self) {
        if self.live {
            put(SCREEN.1);
            if !self.last.is_empty() {
                line(&self.last);
            }
        }
    }
}

/// All that draws a text over the one before: every line is cut to the width and cleared behind its end.
fn frame(text: &str, (rows, columns): (u16, u16)) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let rows = usize::from(rows).max(2);
    // Behind a character in the last column some terminals clear that character with the rest of the line.
    let columns = usize::from(columns).saturating_sub(1);
    let mut drawn = format!("{}{HOME}", FRAME.0);
    let shown = if lines.len() > rows { rows - 1 } else { lines.len() };
    for (place, line) in lines[..shown].iter().enumerate() {
        if place > 0 {
            drawn.push_str("\r\n");
        }
        drawn.push_str(&truncate_str(line, columns, "…"));
        drawn.push_str(CLEAR_LINE);
    }
    if shown < lines.len() {
        drawn.push_str(&format!("\r\n… {} more lines", lines.len() - shown));
        drawn.push_str(CLEAR_LINE);
    }
    drawn.push_str(CLEAR_BELOW);
    drawn.push_str(FRAME.1);
    drawn
}

fn put(text: &str) {
    let mut out = io::stdout().lock();
    // A terminal that has gone away has seen enough.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a terminal of that size shows after a frame, line by line.
    fn shown(text: &str, size: (u16, u16)) -> Vec<String> {
        let drawn = frame(text, size);
        assert!(drawn.starts_with(FRAME.0) && drawn.ends_with(FRAME.1), "{drawn:?}");
        let bare = console::strip_ansi_codes(&drawn).into_owned();
        bare.split("\r\n").map(str::to_owned).collect()
    }

    #[test]
    fn a_frame_fits_the_terminal_whatever_its_size() {
        let text = "one\ntwo is longer\n\u{1b}[31mthree is red and longer\u{1b}[0m\nfour";
        assert_eq!(shown(text, (24, 80)), ["one", "two is longer", "three is red and longer", "four"]);
        assert_eq!(shown(text, (24, 10)), ["one", "two is l…", "three is…", "four"]);
        assert_eq!(shown(text, (3, 80)), ["one", "two is longer", "… 2 more lines"]);
        assert_eq!(shown(text, (0, 80)).len(), 2);
        assert_eq!(shown("", (24, 80)), [""]);
    }

    #[test]
    fn what_was_there_before_is_cleared_line_by_line_and_never_all_at_once() {
        let drawn = frame("a\nb", (24, 80));
        assert_eq!(drawn.matches(CLEAR_LINE).count(), 2);
        assert!(drawn.find(CLEAR_BELOW) > drawn.rfind(CLEAR_LINE), "the rest of the screen is cleared last");
        assert!(!drawn.contains("\u{1b}[2J"), "a cleared screen flickers");
    }
}
