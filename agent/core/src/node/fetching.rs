//! What this host fetches ahead of its dispatch, so that a wave begins with everything in place.

use std::collections::BTreeMap;

use muster_signing::Digest;

use super::door::{Fetch, Goods, HostOrder};
use super::turn::Turn;
use super::{Node, Output};
use crate::document::Document;
use crate::id::Closure;

/// The most bytes that a host says of how its fetching goes.
const TOLD_BYTES_MAX: usize = 256;

/// What is fetched ahead, and how that goes; gone with the process, since what is held is found out again at once.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    goods: BTreeMap<Closure, (Option<Digest>, Option<Fetch>)>,
}

impl Ahead {
    /// The closures that are held.
    pub(super) fn held(&self) -> Vec<Closure> {
        let done = self.goods.iter().filter(|(_, (_, fetch))| *fetch == Some(Fetch::Done));
        done.map(|(closure, _)| closure.clone()).collect()
    }

    /// How the first fetching goes that is not done, in words; empty if there is none.
    pub(super) fn told(&self) -> String {
        let words = self.goods.values().find_map(|(_, fetch)| match fetch {
            Some(Fetch::Goes(words) | Fetch::Fails(words)) => Some(words.as_str()),
            Some(Fetch::Done) | None => None,
        });
        let words = words.unwrap_or_default();
        let end = (0..=words.len().min(TOLD_BYTES_MAX)).rev().find(|end| words.is_char_boundary(*end));
        words[..end.unwrap_or_default()].to_owned()
    }
}

impl Node {
    /// How the fetching of this host's next target goes, in words; empty if nothing is missing.
    pub fn fetching_told(&self) -> String {
        self.own.ahead.told()
    }

    /// Whether a part of what this host runs takes effect at the next boot only.
    pub fn reboot_is_pending(&self) -> bool {
        self.own.reboot_pending
    }

    /// Has the backend fetch what the newest refs name for this host, as soon as they are accepted.
    pub(super) fn fetch_targets(&mut self, turn: &mut Turn) {
        if !self.settings.backend.prefetches() {
            return;
        }
        let (me, documents) = (&self.settings.host, self.ledger.documents());
        let named = documents.channel_refs().filter_map(|(_, held)| {
            let closure = held.targets.get(me).filter(|closure| self.settings.backend.accepts(closure))?;
            Some((closure.clone(), held.contents.get(me).copied()))
        });
        let wanted: BTreeMap<Closure, Option<Digest>> = named.collect();
        let known = self.own.ahead.goods.iter().map(|(closure, (contents, _))| (closure, contents));
        if known.eq(wanted.iter()) {
            return;
        }
        let goods: Vec<Goods> = wanted
            .iter()
            .map(|(closure, contents)| Goods { closure: closure.clone(), contents: *contents })
            .collect();
        let mut before = std::mem::take(&mut self.own.ahead.goods);
        for (closure, contents) in wanted {
            let fetch = before.remove(&closure).filter(|(same, _)| *same == contents).and_then(|(_, it)| it);
            self.own.ahead.goods.insert(closure, (contents, fetch));
        }
        turn.outputs.push(Output::Order(HostOrder::Fetch(goods)));
    }

    /// The backend said how a fetching goes; of what is not wanted any more nothing is kept.
    pub(super) fn fetching(&mut self, closure: Closure, fetch: Fetch) {
        let Some((_, known)) = self.own.ahead.goods.get_mut(&closure) else { return };
        // Progress alone travels with the next heartbeat.
        self.presence_wanted |= !matches!(fetch, Fetch::Goes(_)) && known.as_ref() != Some(&fetch);
        *known = Some(fetch);
    }

    /// What the operators signed of the contents of this host's target.
    pub(super) fn signed_contents(&self, channel_ref: &Digest) -> Option<Digest> {
        match self.ledger.documents().get(channel_ref)? {
            Document::ChannelRef(held) => held.contents.get(&self.settings.host).copied(),
            Document::Fleet(_) | Document::Command(_) => None,
        }
    }
}
