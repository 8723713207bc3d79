//! Turns answers into text that fits the terminal; nothing here prints.

use chrono::{DateTime, SecondsFormat, Utc};
use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};
use owo_colors::OwoColorize;

use super::output::{Tone, plain, toned};
use super::when;
use crate::control::wire::{HostState, RolloutState};

/// Narrower than this no terminal is.
pub(super) const COLUMNS_MIN: u16 = 40;
/// How wide text is where there is no terminal to ask.
const WIDTH_DEFAULT: u16 = 120;
/// How wide a progress bar is, in characters.
const BAR_CHARS: usize = 20;
/// How many characters of a store path's hash tell two of them apart.
const HASH_CHARS: usize = 8;
/// How long a store path's hash is.
const STORE_HASH_CHARS: usize = 32;
/// How many hosts are named that are held by the same.
const NAMED_MAX: usize = 4;
/// What stands for what is not known.
pub(super) const NONE: &str = "-";

/// How the output is to look.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    /// How many characters fit in a line.
    pub(super) width: u16,
    /// Whether colours are shown.
    pub(super) colour: bool,
    /// What "ago" is counted from.
    pub(super) now: DateTime<Utc>,
}

impl Look {
    /// As it suits stdout.
    pub(super) fn of_stdout() -> Self {
        #[cfg(test)]
        if let Some(look) =
            super::stage::with(|stage| Self { width: stage.width, colour: false, now: stage.now })
        {
            return look;
        }
        Self {
            width: Table::new().width().unwrap_or(WIDTH_DEFAULT).max(COLUMNS_MIN),
            colour: toned(Tone::Strong, "x") != "x",
            now: when::now(),
        }
    }

    /// Text of others in its tone, on one line.
    pub(super) fn tone(&self, tone: Tone, text: &str) -> String {
        let text = flat(text);
        if !self.colour {
            return text;
        }
        match tone {
            Tone::Good => text.green().to_string(),
            Tone::Warn => text.yellow().to_string(),
            Tone::Bad => text.red().to_string(),
            Tone::Faint => text.dimmed().to_string(),
            Tone::Strong => text.bold().to_string(),
        }
    }

    /// A table without lines; what does not fit is broken inside its column.
    pub(super) fn table(&self, headers: &[&str], rows: impl IntoIterator<Item = Vec<Field>>) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        table.set_width(self.width);
        if self.colour {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        table.set_header(headers.iter().map(|header| Cell::new(header).add_attribute(Attribute::Dim)));
        for row in rows {
            table.add_row(row.into_iter().map(Field::cell));
        }
        let last = headers.len().saturating_sub(1);
        for (place, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, if place == last { 0 } else { 2 }));
        }
        let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
        lines.join("\n")
    }
}

/// A field of a table.
#[derive(Debug)]
pub(super) struct Field {
    text: String,
    tone: Option<Tone>,
}

impl Field {
    fn cell(self) -> Cell {
        let cell = Cell::new(flat(&self.text));
        match self.tone {
            None => cell,
            Some(Tone::Good) => cell.fg(Color::Green),
            Some(Tone::Warn) => cell.fg(Color::Yellow),
            Some(Tone::Bad) => cell.fg(Color::Red),
            Some(Tone::Faint) => cell.add_attribute(Attribute::Dim),
            Some(Tone::Strong) => cell.add_attribute(Attribute::Bold),
        }
    }
}

/// A plain field.
pub(super) fn field(text: impl ToString) -> Field {
    Field { text: text.to_string(), tone: None }
}

/// A field that may have nothing to say.
pub(super) fn field_or_none(text: Option<impl ToString>) -> Field {
    match text {
        Some(text) => field(text),
        None => tinted(Tone::Faint, NONE),
    }
}

/// A field in a tone.
pub(super) fn tinted(tone: Tone, text: impl ToString) -> Field {
    Field { text: text.to_string(), tone: Some(tone) }
}

/// Text of others on one line, without anything that would steer the terminal.
pub(super) fn flat(text: &str) -> String {
    plain(text).replace(['\n', '\t'], " ")
}

/// A sentence in lines of at most `width` characters, each indented; a word that is longer has a line to itself.
pub(super) fn wrapped(sentence: &str, width: usize, indent: usize) -> Vec<String> {
    hanging(sentence, width, indent, indent)
}

/// The same where the first line has another indent than the rest.
pub(super) fn hanging(sentence: &str, width: usize, first: usize, rest: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in sentence.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) => lines.push(format!("{}{word}", " ".repeat(rest))),
            None => lines.push(format!("{}{word}", " ".repeat(first))),
        }
    }
    lines
}

/// Text behind a label that stands in a tone, in as many lines as it takes, the later ones `rest` to the right.
pub(super) fn labelled(look: &Look, tone: Tone, label: &str, sentence: &str, rest: usize) -> String {
    let label = flat(label);
    let whole = format!("{label} {}", flat(sentence));
    let mut lines = hanging(&whole, usize::from(look.width), 0, rest);
    if let Some(first) = lines.first_mut() {
        // A label that was broken itself stays as it is.
        if let Some(behind) = first.strip_prefix(&label) {
            *first = format!("{}{behind}", look.tone(tone, &label));
        }
    }
    lines.join("\n")
}

/// Reasons in the order in which they come, each once, behind all whom it holds.
pub(super) fn grouped<'a>(look: &Look, held: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for (host, reason) in held {
        match reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, held)) => held.push(host),
            None => reasons.push((reason, vec![host])),
        }
    }
    let mut text = String::new();
    for (reason, held) in reasons {
        text.push_str(&labelled(look, Tone::Warn, &format!("{}:", names(&held)), reason, 2));
        text.push('\n');
    }
    text
}

/// The first few of many names.
fn names(hosts: &[&str]) -> String {
    let named = hosts.iter().take(NAMED_MAX).copied().collect::<Vec<_>>().join(", ");
    match hosts.len().saturating_sub(NAMED_MAX) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// How a host's state is to be seen.
pub(super) fn host_tone(state: HostState) -> Tone {
    match state {
        HostState::Converged => Tone::Good,
        HostState::Activating | HostState::Soaking | HostState::Deferred => Tone::Warn,
        HostState::Failed | HostState::Reverted => Tone::Bad,
        HostState::Pending | HostState::Unknown => Tone::Faint,
    }
}

/// How a rollout's state is to be seen.
pub(super) fn rollout_tone(state: RolloutState) -> Tone {
    match state {
        RolloutState::Terminal => Tone::Good,
        RolloutState::Opening | RolloutState::Active | RolloutState::Converging => Tone::Warn,
        RolloutState::Failed | RolloutState::Reverted => Tone::Bad,
        RolloutState::Superseded | RolloutState::Pruned | RolloutState::Unknown => Tone::Faint,
    }
}

/// A bar that is full when `done` is `total`.
pub(super) fn bar(done: usize, total: usize) -> String {
    let filled = (done * BAR_CHARS).checked_div(total).unwrap_or(0).min(BAR_CHARS);
    format!("{}{}", "█".repeat(filled), "░".repeat(BAR_CHARS - filled))
}

/// A closure as short as it can be told apart: of a store path the beginning of its hash, and what its name says beyond
/// the host's.
pub(super) fn closure(closure: &str, host: &str) -> String {
    let Some(path) = closure.strip_prefix("/nix/store/") else { return closure.to_owned() };
    let Some((hash, name)) = path.split_once('-').filter(|(hash, _)| hash.len() == STORE_HASH_CHARS) else {
        return closure.to_owned();
    };
    let name = name.strip_prefix(&format!("nixos-system-{host}-")).unwrap_or(name);
    let short: String = hash.chars().take(HASH_CHARS).collect();
    format!("{short}-{name}")
}

/// A time as the log has it.
pub(super) fn moment(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// "5 s ago", "in 2 h".
pub(super) fn relative(at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let secs = (now - at).num_seconds();
    match secs {
        0 => "now".to_owned(),
        1.. => format!("{} ago", span(secs.unsigned_abs())),
        _ => format!("in {}", span(secs.unsigned_abs())),
    }
}

/// A time span in its largest unit.
pub(super) fn span(secs: u64) -> String {
    match secs {
        0..120 => format!("{secs} s"),
        120..7200 => format!("{} min", secs / 60),
        7200..172_800 => format!("{} h", secs / 3600),
        _ => format!("{} days", secs / 86_400),
    }
}

/// A number of bytes, rounded.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut tenths = count.saturating_mul(10) / 1024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::control::wire::fixtures::at;

    /// How the snapshots look.
    pub(in crate::cli) fn look() -> Look {
        Look { width: 80, colour: false, now: at(0) }
    }

    /// Compares text with what is expected, line by line.
    pub(in crate::cli) fn check(found: &str, expected: &[&str]) {
        check_at(80, found, expected);
    }

    /// The same, of text that was made for a terminal of that width.
    pub(in crate::cli) fn check_at(width: usize, found: &str, expected: &[&str]) {
        let found: Vec<&str> = found.trim_end().lines().collect();
        assert_eq!(found, expected, "\n{}\n", found.join("\n"));
        for line in found {
            assert!(line.chars().count() <= width, "{line}");
        }
    }

    #[test]
    fn closures_are_cut_to_what_tells_them_apart() {
        let hash = "5rkbw3i8xgkhn1c3bvkv4vcy9cpb3yvz";
        for (whole, short) in [
            (format!("/nix/store/{hash}-nixos-system-db-01-26.05"), "5rkbw3i8-26.05"),
            (format!("/nix/store/{hash}-nixos-system-db-1-26.05"), "5rkbw3i8-nixos-system-db-1-26.05"),
            ("/nix/store/short-x".to_owned(), "/nix/store/short-x"),
            ("dir:v2".to_owned(), "dir:v2"),
        ] {
            assert_eq!(closure(&whole, "db-01"), short);
        }
    }

    #[test]
    fn spans_and_sizes_are_in_the_unit_that_is_read_most_easily() {
        for (secs, text) in [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (400_000, "4 days")] {
            assert_eq!(span(secs), text);
        }
        for (secs, text) in [(0, "now"), (-5, "5 s ago"), (7200, "in 2 h")] {
            assert_eq!(relative(at(secs), at(0)), text);
        }
        for (count, text) in [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (1_589_248, "1.5 MiB")] {
            assert_eq!(bytes(count), text);
        }
        assert_eq!(bytes(u64::MAX).split(' ').next_back(), Some("TiB"));
    }

    #[test]
    fn bars_are_as_full_as_they_should_be() {
        assert_eq!(bar(0, 0), "░".repeat(20));
        assert_eq!(bar(1, 4), format!("{}{}", "█".repeat(5), "░".repeat(15)));
        assert_eq!(bar(9, 4), "█".repeat(20));
    }

    #[test]
    fn tables_carry_neither_colours_nor_what_others_wrote_to_steer_the_terminal() {
        let table = look().table(&["A", "B"], [vec![tinted(Tone::Bad, "a\u{1b}[2J\nb"), field("c")]]);
        assert_eq!(table, "A             B\na\\u{1b}[2J b  c");
        let coloured = Look { colour: true, ..look() };
        assert!(coloured.table(&["A"], [vec![tinted(Tone::Bad, "a")]]).contains("\u{1b}["));
        assert_eq!(coloured.tone(Tone::Bad, "a"), "\u{1b}[31ma\u{1b}[39m");
    }
}
