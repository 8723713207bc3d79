//! The time line as SVG: a row for each host, wave by wave, under the decisions that moved them.

use std::fmt::Write;

use chrono::{DateTime, Utc};

use super::super::render::{closure, moment};
use super::scale::{Scale, since};
use super::{Story, escaped, sign};
use crate::control::wire::{HostState, Moment, RolloutHost};

/// The chart's width, in its own units.
const WIDTH: f64 = 1080.0;
/// How much of it the hosts' names have.
const GUTTER: f64 = 170.0;
/// What is left free at the right for the last sign.
const MARGIN: f64 = 34.0;
/// The height of a host's row.
const ROW: f64 = 26.0;
/// The height of a bar in it.
const BAR: f64 = 14.0;
/// The height of a wave's heading.
const HEADING: f64 = 30.0;
/// Where the first wave begins: below the ticks and the lane of decisions.
const TOP: f64 = 74.0;
/// The least width at which a bar can be seen.
const SEEN: f64 = 2.5;
/// How many characters of a host's name fit in the gutter.
const NAME_CHARS: usize = 20;

/// A piece of a host's way.
#[derive(Debug, PartialEq)]
struct Piece {
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    class: &'static str,
    what: &'static str,
}

/// Draws it.
pub(super) fn svg(story: &Story) -> String {
    let show = &story.show;
    let scale = Scale::new(first(story), last(story), GUTTER, WIDTH - GUTTER - MARGIN);
    let mut rows = String::new();
    let mut y = TOP;
    for wave in &show.waves {
        heading(&mut rows, y, u64::from(wave.wave) + 1, wave.soak_secs);
        y += HEADING;
        for host in show.hosts.iter().filter(|host| host.wave == wave.wave) {
            row(&mut rows, y, host, &scale, story);
            y += ROW;
        }
    }
    let height = y + 12.0;
    let mut text = String::new();
    let _ = writeln!(
        text,
        r#"<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="chart-title chart-text" class="chart">
<title id="chart-title">Time line of {id}</title>
<desc id="chart-text">{summary} Every time in it stands in the tables below.</desc>
{PATTERNS}"#,
        id = escaped(&show.rollout.id),
        summary = escaped(summary(story)),
    );
    for (x, label) in scale.ticks() {
        let _ = writeln!(text, r#"<line class="tick" x1="{x:.1}" x2="{x:.1}" y1="24" y2="{height:.0}"/>"#);
        let _ =
            writeln!(text, r#"<text class="label" x="{x:.1}" y="15" text-anchor="middle">{label}</text>"#);
    }
    lane(&mut text, &show.timeline, &scale);
    text.push_str(&rows);
    text.push_str("</svg>\n");
    text
}

/// What the chart shows, in words.
pub(super) fn summary(story: &Story) -> String {
    let show = &story.show;
    let count = |of: HostState| show.hosts.iter().filter(|host| host.state == Some(of)).count();
    let took = (last(story) - show.rollout.opened_at).num_seconds();
    format!(
        "{} hosts in {} waves over {}: {} converged, {} failed, {} went back.",
        show.hosts.len(),
        show.waves.len(),
        since(took),
        count(HostState::Converged),
        count(HostState::Failed),
        count(HostState::Reverted),
    )
}

/// Textures, so that no piece is told apart by its colour alone.
const PATTERNS: &str = r#"<defs>
<pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><line class="mark" x1="0" y1="0" x2="0" y2="6"/></pattern>
<pattern id="dots" width="7" height="7" patternUnits="userSpaceOnUse"><circle class="dot" cx="3.5" cy="3.5" r="1.1"/></pattern>
<pattern id="cross" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><path class="mark" d="M0 3.5H7M3.5 0V7"/></pattern>
</defs>"#;

fn heading(text: &mut String, y: f64, wave: u64, soak_secs: u64) {
    let soak = since(i64::try_from(soak_secs).unwrap_or(i64::MAX));
    let soak = if soak_secs == 0 { "no soak".to_owned() } else { format!("soaks {soak}") };
    let base = y + 20.0;
    let _ = writeln!(
        text,
        r#"<text class="wave" x="0" y="{base:.0}">Wave {wave}<tspan class="label" dx="8">{soak}</tspan></text>"#
    );
    let _ = writeln!(text, r#"<line class="rule" x1="0" x2="{WIDTH}" y1="{y:.0}" y2="{y:.0}"/>"#);
}

/// The decisions above the hosts: what the coordinators and the operators signed for the whole rollout.
fn lane(text: &mut String, timeline: &[Moment], scale: &Scale) {
    let _ = writeln!(text, r#"<text class="name" x="0" y="54">decisions</text>"#);
    for entry in timeline.iter().filter(|entry| entry.host.is_none()) {
        let x = scale.at(entry.at);
        let by = if entry.signers.is_empty() {
            String::new()
        } else {
            format!(", signed by {}", entry.signers.join(", "))
        };
        let title = escaped(format_args!("{}: {}{by}", moment(entry.at), entry.what));
        let _ = writeln!(
            text,
            r#"<path class="decision" d="M{x:.1} 42l6 8l-6 8l-6 -8z"><title>{title}</title></path>"#
        );
    }
}

fn row(text: &mut String, y: f64, host: &RolloutHost, scale: &Scale, story: &Story) {
    let middle = y + ROW / 2.0;
    let (symbol, word, class) = sign(host.state, host.excused.is_some());
    let short: String = host.host.chars().take(NAME_CHARS).collect();
    let target = escaped(closure(&host.target, &host.host));
    let _ = writeln!(text, r#"<g><title>{}: {word}; {target}</title>"#, escaped(&host.host));
    let _ = writeln!(text, r#"<text class="name" x="0" y="{:.1}">{}</text>"#, middle + 4.0, escaped(short));
    let _ = writeln!(
        text,
        r#"<line class="path" x1="{GUTTER}" x2="{:.0}" y1="{middle:.1}" y2="{middle:.1}"/>"#,
        WIDTH - MARGIN
    );
    let pieces = pieces(host, story.now.min(last(story)));
    for piece in &pieces {
        let (x, width) = (scale.at(piece.from), (scale.at(piece.to) - scale.at(piece.from)).max(SEEN));
        let top = middle - BAR / 2.0;
        let title = escaped(format_args!(
            "{}: {} from {} to {}",
            host.host,
            piece.what,
            moment(piece.from),
            moment(piece.to)
        ));
        let class = piece.class;
        let _ = writeln!(
            text,
            r#"<g class="piece {class}"><title>{title}</title><rect class="fill" x="{x:.1}" y="{top:.1}" width="{width:.1}" height="{BAR}" rx="3"/><rect class="texture" x="{x:.1}" y="{top:.1}" width="{width:.1}" height="{BAR}" rx="3"/></g>"#
        );
    }
    if let Some(dispatched) = host.dispatched_at {
        let x = scale.at(dispatched);
        let by = dispatch_signers(host, &story.show.timeline);
        let title = escaped(format_args!("{}: dispatched at {}{by}", host.host, moment(dispatched)));
        let _ = writeln!(
            text,
            r#"<path class="dispatch" d="M{x:.1} {:.1}v18"><title>{title}</title></path>"#,
            middle - 9.0
        );
    }
    let end = pieces.last().map_or(GUTTER, |piece| scale.at(piece.to));
    let _ = writeln!(
        text,
        r#"<text class="sign {class}" x="{:.1}" y="{:.1}">{symbol}</text></g>"#,
        end + 7.0,
        middle + 5.0
    );
}

fn dispatch_signers(host: &RolloutHost, timeline: &[Moment]) -> String {
    let of = timeline.iter().find(|entry| {
        entry.host.as_deref() == Some(&host.host)
            && Some(entry.at) == host.dispatched_at
            && !entry.signers.is_empty()
    });
    of.map(|entry| format!(", signed by {}", entry.signers.join(", "))).unwrap_or_default()
}

/// A host's way through the rollout, piece by piece; what it is in now reaches to the end.
fn pieces(host: &RolloutHost, end: DateTime<Utc>) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut piece = |from: Option<DateTime<Utc>>, to: DateTime<Utc>, class, what| {
        if let Some(from) = from {
            pieces.push(Piece { from, to: to.max(from), class, what });
        }
    };
    let over = host.converged_at.or(host.failed_at);
    let begun = host.acknowledged_at.or(host.activated_at).or(host.failed_at);
    piece(host.dispatched_at, begun.unwrap_or(end), "asked", "dispatched, no answer yet");
    piece(host.acknowledged_at, host.activated_at.or(over).unwrap_or(end), "switch", "switches");
    piece(host.activated_at, over.unwrap_or(end), "soak", "soaks");
    piece(host.failed_at, host.reverted_at.unwrap_or(end), "bad", "failed, goes back");
    if host.reverted_at.is_none()
        && host.state == Some(HostState::Failed)
        && let Some(last) = pieces.last_mut()
    {
        last.what = "failed";
    }
    pieces
}

fn first(story: &Story) -> DateTime<Utc> {
    let opened = story.show.rollout.opened_at;
    let hosts = story.show.hosts.iter().filter_map(|host| host.dispatched_at);
    hosts.fold(opened, DateTime::min)
}

/// When it ended, or was told; what came later still belongs to it.
fn last(story: &Story) -> DateTime<Utc> {
    let end = story.show.rollout.ended_at.unwrap_or(story.now);
    let hosts = story.show.hosts.iter();
    let moments =
        hosts.flat_map(|host| [host.activated_at, host.converged_at, host.failed_at, host.reverted_at]);
    moments.flatten().fold(end, DateTime::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::wire::fixtures::{self, at};

    #[test]
    fn a_hosts_way_is_cut_where_its_state_changed() {
        let show = fixtures::rollout_show();
        let classes = |host: &RolloutHost| -> Vec<_> {
            pieces(host, at(0)).into_iter().map(|it| (it.class, (it.to - it.from).num_seconds())).collect()
        };
        assert_eq!(classes(&show.hosts[0]), [("asked", 1), ("switch", 9), ("soak", 210)]);
        assert_eq!(
            classes(&show.hosts[1]),
            [("asked", 1), ("switch", 19), ("soak", 40)],
            "it soaks until now"
        );
        assert_eq!(classes(&show.hosts[2]), [], "it waits");
        let failed = RolloutHost {
            state: Some(HostState::Reverted),
            failed_at: Some(at(-30)),
            reverted_at: Some(at(-20)),
            ..show.hosts[1].clone()
        };
        assert_eq!(classes(&failed), [("asked", 1), ("switch", 19), ("soak", 10), ("bad", 10)]);
        // Clocks of hosts differ: nothing has a negative length.
        let early = RolloutHost { acknowledged_at: Some(at(-90)), ..failed };
        assert!(classes(&early).iter().all(|(_, secs)| *secs >= 0));
    }
}
