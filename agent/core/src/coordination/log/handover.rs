//! Leaders that must not lead on: one that shuts down, and one whose disk is full.

use super::Ready;
use super::message::MemberId;
use super::state::{Log, Role};
use crate::time::Now;

impl Log {
    /// Stops taking proposals and lets the voter with the newest log take over, as soon as one has all of this one's.
    pub fn hand_over(&mut self, now: Now) -> Ready {
        self.begin_handing_over(now);
        self.finish()
    }

    /// Hears whether the store can take writes. A member whose disk is full does not lead and does not stand: it hands
    /// over, and follows as far as it can.
    pub fn can_write(&mut self, now: Now, can: bool) -> Ready {
        if can && !self.writable && !matches!(self.role, Role::Leader(_)) {
            self.draw_election(now.mono);
        }
        self.writable = can;
        if !can {
            self.begin_handing_over(now);
        }
        self.finish()
    }

    /// Stops leading without waiting for anything, since nothing that this member appends can be stored any more: the
    /// voter with the newest log takes over. It does not stand until [`Log::can_write`] says that it can.
    pub fn give_way(&mut self, now: Now) -> Ready {
        self.writable = false;
        if let Role::Leader(leadership) = &self.role {
            let voters = &self.membership().voters;
            let heirs = leadership.peers.iter().filter(|(member, _)| voters.contains(member));
            let heir = heirs.max_by_key(|(_, peer)| (peer.matched, peer.heard)).map(|(member, _)| *member);
            if let Some(heir) = heir {
                self.send_timeout_now(heir);
            }
            self.follow(now, self.hard.term, None);
        }
        self.finish()
    }

    pub(super) fn begin_handing_over(&mut self, now: Now) {
        let alone = self.other_voters().is_empty();
        if let Role::Leader(leadership) = &mut self.role
            && !alone
        {
            leadership.handing_over = Some(now.mono);
            self.try_hand_over();
        }
    }

    pub(super) fn try_hand_over(&mut self) {
        let last = self.last_index();
        let Role::Leader(leadership) = &self.role else { return };
        if leadership.handing_over.is_none() {
            return;
        }
        let voters = &self.membership().voters;
        let heir = leadership
            .peers
            .iter()
            .filter(|(member, peer)| peer.matched == last && voters.contains(member))
            .max_by_key(|(_, peer)| peer.heard);
        if let Some(heir) = heir.map(|(member, _)| *member) {
            self.send_timeout_now(heir);
        }
    }

    pub(super) fn on_timeout_now(&mut self, now: Now, from: MemberId) {
        if matches!(self.role, Role::Follower) && self.leader == Some(from) && self.may_stand() {
            self.campaign(now, true);
        }
    }
}
