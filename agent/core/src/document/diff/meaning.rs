//! What a changed fleet document means for rollouts that are open when it is published.

use super::{About, Change, Kind, list};
use crate::document::fleet::Fleet;

pub(super) fn of(old: &Fleet, new: &Fleet, changes: &[Change]) -> Vec<String> {
    let mut means = Vec::new();
    if old.serial == new.serial && changes.is_empty() {
        return means;
    }
    means.push(format!(
        "from now on a rollout opens only for a ref that names serial {}: sign the next ref of each channel with it",
        new.serial
    ));
    let of = |about: About, kind: Kind| -> Vec<&str> {
        let found = changes.iter().filter(|change| change.about == about && change.kind == kind);
        found.map(|change| change.subject.as_str()).collect()
    };
    hosts(&of, &mut means);
    let touches = |abouts: &[About]| changes.iter().any(|change| abouts.contains(&change.about));
    if touches(&[About::Channel, About::Policy, About::Edge]) {
        means.push(
            "open rollouts keep the waves, policies, edges and windows of the document that their ref names; the \
             changed ones count from the next ref on"
                .to_owned(),
        );
    }
    if touches(&[About::Budget]) {
        means.push(
            "budgets count in both documents while a rollout of the older one is open: the tighter one holds"
                .to_owned(),
        );
    }
    if !of(About::Operator, Kind::Removed).is_empty()
        || !of(About::Operator, Kind::Rekeyed).is_empty()
        || new.thresholds.channel_ref > old.thresholds.channel_ref
        || new.thresholds.command > old.thresholds.command
    {
        means.push(
            "refs and commands that too few of the operators named here have signed count no more: open rollouts \
             stand still until their ref is signed anew, and such pauses and skips lapse"
                .to_owned(),
        );
    }
    if !of(About::Coordinators, Kind::Changed).is_empty() {
        means.push(match new.replaces {
            Some(serial) => format!("a recovery document: it starts a new log in place of serial {serial}"),
            None => "the coordinators walk there one at a time; rollouts go on meanwhile".to_owned(),
        });
    }
    means
}

fn hosts<'a>(of: &dyn Fn(About, Kind) -> Vec<&'a str>, means: &mut Vec<String>) {
    let mut say = |kind: Kind, text: &str| {
        let hosts = of(About::Host, kind);
        if !hosts.is_empty() {
            means.push(format!("{}: {text}", list(hosts)));
        }
    };
    say(Kind::Added, "nothing is dispatched there until a ref names a target for it");
    say(
        Kind::Removed,
        "no open rollout waits for it any more, its slots are free, and nobody connects to it; what it runs stays",
    );
    say(
        Kind::Moved,
        "the open rollout of its old channel goes on without it; it follows the next ref of its new channel",
    );
    say(Kind::Rekeyed, "what it says with its old key counts no more, and its history begins anew");
    say(
        Kind::Renamed,
        "to the fleet it is another host: its history begins anew, and refs have to name it so",
    );
}
