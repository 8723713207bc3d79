//! The page around the time line: the facts, the hosts, every moment with its signers.

use std::fmt::Write;

use data_encoding::BASE64;
use muster_signing::sha256;

use super::super::render::{moment, span};
use super::{Story, chart, escaped, sign};
use crate::control::wire::{RolloutHost, RolloutState};

/// How the page looks; the only style that the page's own policy allows.
const STYLE: &str = include_str!("report.css");

/// The whole page.
pub(super) fn html(story: &Story) -> String {
    let rollout = &story.show.rollout;
    let (id, fleet) = (escaped(&rollout.id), escaped(&story.fleet));
    let (state_sign, state_class) = ending(rollout.state);
    let policy =
        format!("default-src 'none'; style-src 'sha256-{}'", BASE64.encode(&sha256(STYLE.as_bytes()).0));
    let mut text = String::new();
    let _ = write!(
        text,
        r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="generator" content="muster {version}">
<title>{id} on {fleet}</title>
<style>{STYLE}</style>
</head>
<body>
<header>
<p class="fleet">fleet {fleet}</p>
<h1>{id} <span class="state {state_class}">{state_sign} {state}</span></h1>
<p class="lead">{summary}</p>
</header>
<main>
"#,
        version = env!("CARGO_PKG_VERSION"),
        state = escaped(rollout.state),
        summary = escaped(chart::summary(story)),
    );
    facts(&mut text, story);
    text.push_str("<section aria-labelledby=\"line\"><h2 id=\"line\">Time line</h2>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-labelledby=\"line\">\n");
    text.push_str(&chart::svg(story));
    text.push_str("</div>\n");
    text.push_str(LEGEND);
    text.push_str("</section>\n");
    hosts(&mut text, &story.show.hosts);
    moments(&mut text, story);
    let _ = write!(
        text,
        "</main>\n<footer>Told by {} on {}; times are UTC, each by the clock of whoever signed.</footer>\n</body>\n</html>\n",
        escaped(&story.told_by),
        moment(story.now)
    );
    text
}

/// What the pieces of the chart mean.
const LEGEND: &str = r#"<ul class="legend">
<li><span class="swatch decision" aria-hidden="true">◆</span> signed for the whole rollout</li>
<li><span class="swatch dispatch" aria-hidden="true">|</span> dispatched</li>
<li><span class="swatch switch" aria-hidden="true">»</span> switches (hatched)</li>
<li><span class="swatch soak" aria-hidden="true">◔</span> soaks (dotted)</li>
<li><span class="swatch bad" aria-hidden="true">✗</span> failed, until it is back (crossed)</li>
<li><span class="swatch good" aria-hidden="true">✓</span> converged</li>
<li><span class="swatch back" aria-hidden="true">↶</span> went back</li>
</ul>
"#;

fn ending(state: RolloutState) -> (&'static str, &'static str) {
    match state {
        RolloutState::Terminal => ("✓", "good"),
        RolloutState::Failed => ("✗", "bad"),
        RolloutState::Reverted => ("↶", "bad"),
        RolloutState::Opening | RolloutState::Active | RolloutState::Converging => ("»", "switch"),
        RolloutState::Superseded | RolloutState::Pruned | RolloutState::Unknown => ("–", "waits"),
    }
}

fn facts(text: &mut String, story: &Story) {
    let rollout = &story.show.rollout;
    let mut list = String::new();
    let mut fact = |name: &str, value: String| {
        let _ = writeln!(list, "<div><dt>{name}</dt><dd>{value}</dd></div>");
    };
    fact("opened", moment(rollout.opened_at));
    match rollout.ended_at {
        Some(ended) => {
            let secs = u64::try_from((ended - rollout.opened_at).num_seconds()).unwrap_or(0);
            fact("ended", moment(ended));
            fact("took", span(secs));
        }
        None => fact("wave", format!("{} of {}", u64::from(rollout.wave) + 1, rollout.waves)),
    }
    fact("converged", format!("{} of {}", rollout.hosts_converged, rollout.hosts_total));
    fact("failed", rollout.hosts_failed.to_string());
    let signed = story.show.timeline.iter().find(|entry| entry.host.is_none() && !entry.signers.is_empty());
    if let Some(entry) = signed {
        fact("signed by", escaped(entry.signers.join(", ")));
    }
    for quarantine in &story.quarantines {
        let on = quarantine
            .host
            .as_ref()
            .map(|host| format!(", it failed on {}", escaped(host)))
            .unwrap_or_default();
        fact("quarantined", format!("<code>{}</code>{on}", escaped(&quarantine.closure)));
    }
    let _ = writeln!(text, "<dl class=\"facts\">\n{list}</dl>");
}

fn hosts(text: &mut String, hosts: &[RolloutHost]) {
    text.push_str("<section aria-labelledby=\"hosts\"><h2 id=\"hosts\">Hosts</h2>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-labelledby=\"hosts\"><table>\n<thead><tr>");
    for title in [
        "Wave",
        "Host",
        "State",
        "Target",
        "Dispatched",
        "Acknowledged",
        "Switched",
        "Converged",
        "Failed",
        "Back",
    ] {
        let _ = write!(text, "<th scope=\"col\">{title}</th>");
    }
    text.push_str("</tr></thead>\n<tbody>\n");
    for host in hosts {
        let (symbol, word, class) = sign(host.state, host.excused.is_some());
        let word =
            host.excused.as_ref().map_or_else(|| word.to_owned(), |why| format!("excused: {}", escaped(why)));
        let _ = write!(
            text,
            "<tr><td>{}</td><th scope=\"row\">{}</th><td><span class=\"sign {class}\" aria-hidden=\"true\">{symbol}</span> {word}</td><td><code>{}</code></td>",
            u64::from(host.wave) + 1,
            escaped(&host.host),
            escaped(&host.target)
        );
        for at in [
            host.dispatched_at,
            host.acknowledged_at,
            host.activated_at,
            host.converged_at,
            host.failed_at,
            host.reverted_at,
        ] {
            let _ = write!(text, "<td>{}</td>", at.map(time).unwrap_or_default());
        }
        text.push_str("</tr>\n");
    }
    text.push_str("</tbody></table></div></section>\n");
}

/// A time whose date is left to whoever wants it, since most rollouts take less than a day.
fn time(at: chrono::DateTime<chrono::Utc>) -> String {
    format!("<time datetime=\"{}\" title=\"{0}\">{}</time>", moment(at), at.format("%H:%M:%S"))
}

fn moments(text: &mut String, story: &Story) {
    text.push_str("<section aria-labelledby=\"moments\"><h2 id=\"moments\">What happened</h2>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-labelledby=\"moments\"><table>\n<thead><tr><th scope=\"col\">When</th><th scope=\"col\">What</th><th scope=\"col\">Because of</th><th scope=\"col\">Signed by</th></tr></thead>\n<tbody>\n");
    for entry in &story.show.timeline {
        let signers = match entry.signers.as_slice() {
            [] => "<span class=\"sign bad\">nobody whose signature holds now</span>".to_owned(),
            signers => escaped(signers.join(", ")),
        };
        let _ = writeln!(
            text,
            "<tr><td><time>{}</time></td><td>{}</td><td>{}</td><td>{signers}</td></tr>",
            moment(entry.at),
            escaped(&entry.what),
            escaped(entry.cause.as_deref().unwrap_or_default()),
        );
    }
    text.push_str("</tbody></table></div></section>\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::wire::fixtures::{self, at};

    fn story() -> Story {
        Story {
            fleet: "home".to_owned(),
            told_by: "the agent of web-01".to_owned(),
            show: fixtures::rollout_show(),
            quarantines: fixtures::quarantines().quarantines,
            now: at(0),
        }
    }

    #[test]
    fn the_page_speaks_of_every_host_wave_moment_and_signer() {
        let page = html(&story());
        for part in [
            "<title>stable@v2 on home</title>",
            "Wave 1",
            "Wave 3",
            "web-01",
            "db-01",
            "signed by alice",
            "dir:v3-broken",
            "3 hosts in 3 waves over 5 min: 1 converged, 0 failed, 0 went back.",
            "Told by the agent of web-01",
        ] {
            assert!(page.contains(part), "{part}:\n{page}");
        }
        assert_eq!(page.matches("<dl").count(), 1);
        assert_eq!(page.matches("<dl").count(), page.matches("</dl>").count());
    }

    #[test]
    fn the_page_asks_nobody_for_anything_and_runs_nothing() {
        let mut story = story();
        story.show.hosts[0].host = "<img src=//evil onerror=alert(1)>".to_owned();
        story.show.timeline[0].what = "<script>alert(1)</script>".to_owned();
        story.show.timeline[0].signers = vec!["</td><iframe src=x>".to_owned()];
        let page = html(&story);
        for bad in
            ["<script", "<img", "<iframe", "<link", "http://", "https://", "url(h", "@import", " style=\""]
        {
            assert!(!page.contains(bad), "{bad}:\n{page}");
        }
        assert!(page.contains("default-src 'none'; style-src 'sha256-"), "{page}");
    }

    #[test]
    fn the_page_can_be_read_aloud() {
        let page = html(&story());
        for part in ["lang=\"en\"", "role=\"img\"", "<desc", "<th scope=\"row\">", "<h2 id=\"hosts\">"] {
            assert!(page.contains(part), "{part}");
        }
        assert!(STYLE.contains("@media print") && STYLE.contains("prefers-color-scheme: dark"));
    }
}
