//! Decides who may connect, and keeps every member protocol away from who may not.
//!
//! Wraps the protocols of members. A connection with a roster member gets their handlers; a connection with a
//! stranger gets an empty one in their place, so that no message of gossip, log or sync can pass over it whatever the
//! stranger tries. The two kinds never exist with one peer at the same time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use libp2p::core::{Endpoint, transport::PortUse};
use libp2p::swarm::{
    CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm, derive_prelude::Either, dummy,
};
use libp2p::{Multiaddr, PeerId};

use crate::limits::{
    CONNECTIONS_MAX, CONNECTIONS_PER_PEER_MAX, GUEST_GRACE, GUEST_TIME, GUESTS_MAX, HANDSHAKE_TIMEOUT,
};

/// Why a connection was refused.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("the peer is in no roster, and {GUESTS_MAX} strangers are connected already")]
    TooManyGuests,
    #[error("the peer is in no roster")]
    Stranger,
    #[error("the peer has {CONNECTIONS_PER_PEER_MAX} connections already")]
    TooManyOfPeer,
    #[error("{CONNECTIONS_MAX} members are connected already")]
    TooManyMembers,
    #[error("the peer's earlier connection is not closed yet")]
    Changing,
}

/// What a connection is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Everything.
    Member,
    /// Fleet documents, until the given time.
    Guest(Instant),
}

impl Kind {
    fn is_guest(self) -> bool {
        matches!(self, Self::Guest(_))
    }
}

/// How a connection came to be.
#[derive(Debug, Clone, Copy)]
struct Origin {
    since: Instant,
    /// Whether this host dialled.
    dialled: bool,
}

/// The allow-list around the protocols of members.
pub(crate) struct Admission<B> {
    inner: B,
    members: BTreeSet<PeerId>,
    coordinators: BTreeSet<PeerId>,
    bootstrap: BTreeSet<PeerId>,
    connections: BTreeMap<ConnectionId, (PeerId, Kind)>,
    origins: BTreeMap<ConnectionId, Origin>,
    closing: VecDeque<(PeerId, ConnectionId)>,
    waker: Option<Waker>,
}

impl<B> Admission<B> {
    /// Lets nobody in until there are members; bootstrap peers may be dialled.
    pub(crate) fn new(inner: B, bootstrap: BTreeSet<PeerId>) -> Self {
        Self {
            inner,
            members: BTreeSet::new(),
            coordinators: BTreeSet::new(),
            bootstrap,
            connections: BTreeMap::new(),
            origins: BTreeMap::new(),
            closing: VecDeque::new(),
            waker: None,
        }
    }

    /// The protocols of members.
    pub(crate) fn inner_mut(&mut self) -> &mut B {
        &mut self.inner
    }

    /// The protocols of members.
    pub(crate) fn inner(&self) -> &B {
        &self.inner
    }

    /// Replaces the members and closes every connection whose kind is no longer right.
    pub(crate) fn set_members(&mut self, members: BTreeSet<PeerId>, coordinators: BTreeSet<PeerId>) {
        self.members = members;
        self.coordinators = coordinators;
        let wrong = |(peer, kind): &(PeerId, Kind)| kind.is_guest() == self.members.contains(peer);
        let wrong = self.connections.iter().filter(|(_, held)| wrong(held));
        let closing: Vec<_> = wrong.map(|(id, (peer, _))| (*peer, *id)).collect();
        self.close_all(closing);
    }

    /// Closes the connections of guests whose time is over.
    pub(crate) fn expire(&mut self, now: Instant) {
        let over = |kind: &Kind| matches!(kind, Kind::Guest(until) if *until <= now);
        let over = self.connections.iter().filter(|(_, (_, kind))| over(kind));
        let closing: Vec<_> = over.map(|(id, (peer, _))| (*peer, *id)).collect();
        self.close_all(closing);
    }

    /// Leaves a guest no more time than it takes to receive what was sent.
    pub(crate) fn hurry(&mut self, id: ConnectionId, now: Instant) {
        if let Some((_, Kind::Guest(until))) = self.connections.get_mut(&id) {
            *until = (*until).min(now + GUEST_GRACE);
        }
    }

    /// Closes one connection.
    pub(crate) fn close(&mut self, id: ConnectionId) {
        if let Some((peer, _)) = self.connections.get(&id) {
            let closing = vec![(*peer, id)];
            self.close_all(closing);
        }
    }

    /// Says what a connection is good for.
    pub(crate) fn kind(&self, id: ConnectionId) -> Option<Kind> {
        self.connections.get(&id).map(|(_, kind)| *kind)
    }

    fn close_all(&mut self, connections: Vec<(PeerId, ConnectionId)>) {
        self.closing.extend(connections);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Admits a connection or says why not. A stranger is let in only by its own dial, or by ours to a bootstrap peer.
    fn admit(&mut self, id: ConnectionId, peer: PeerId, dialled: bool) -> Result<Kind, Refused> {
        let of_peer = |guest: bool| {
            self.connections.values().filter(|(of, kind)| *of == peer && kind.is_guest() == guest).count()
        };
        let (guests_of_peer, members_of_peer) = (of_peer(true), of_peer(false));
        let kind = if self.members.contains(&peer) {
            if guests_of_peer > 0 {
                return Err(Refused::Changing);
            }
            if members_of_peer >= CONNECTIONS_PER_PEER_MAX {
                return Err(Refused::TooManyOfPeer);
            }
            let members = self.connections.values().filter(|(_, kind)| !kind.is_guest()).count();
            if members >= CONNECTIONS_MAX && !self.coordinators.contains(&peer) {
                return Err(Refused::TooManyMembers);
            }
            Kind::Member
        } else {
            if members_of_peer > 0 || guests_of_peer > 0 {
                return Err(Refused::Changing);
            }
            if dialled && !self.bootstrap.contains(&peer) {
                return Err(Refused::Stranger);
            }
            if self.connections.values().filter(|(_, kind)| kind.is_guest()).count() >= GUESTS_MAX {
                return Err(Refused::TooManyGuests);
            }
            Kind::Guest(Instant::now() + GUEST_TIME)
        };
        self.connections.insert(id, (peer, kind));
        self.origins.insert(id, Origin { since: Instant::now(), dialled });
        Ok(kind)
    }

    /// Refuses a dial of a member that holds a connection already, and closes that one: whoever dials anew has lost it.
    ///
    /// An agent that was killed and is back within seconds finds its old connection still open here. Were the new one let
    /// in beside it, the peer would not be told who listens to which topic, since that is said on a first connection only,
    /// and nothing that it publishes would reach anybody. It dials again at once, and then finds none.
    fn supersede(&mut self, peer: PeerId, now: Instant) -> Result<(), Refused> {
        // Two that dial each other at once do so within a handshake's time; both connections are alive then.
        let lost = |origin: &Origin| {
            !origin.dialled || now.saturating_duration_since(origin.since) > HANDSHAKE_TIMEOUT
        };
        let of_peer = self.connections.iter().filter(|(_, held)| **held == (peer, Kind::Member));
        let lost: Vec<_> = of_peer
            .filter(|(id, _)| self.origins.get(id).is_some_and(lost))
            .map(|(id, _)| (peer, *id))
            .collect();
        if lost.is_empty() {
            return Ok(());
        }
        self.close_all(lost);
        Err(Refused::Changing)
    }

    /// Whether an event speaks of a connection that the protocols of members do not know.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "libp2p's enum grows, and only these name a connection"
    )]
    fn concerns_guest(&self, event: &FromSwarm<'_>) -> bool {
        let id = match event {
            FromSwarm::ConnectionEstablished(established) => established.connection_id,
            FromSwarm::ConnectionClosed(closed) => closed.connection_id,
            FromSwarm::AddressChange(change) => change.connection_id,
            _ => return false,
        };
        self.kind(id).is_none_or(Kind::is_guest)
    }
}

impl<B: NetworkBehaviour> NetworkBehaviour for Admission<B> {
    type ConnectionHandler = Either<THandler<B>, dummy::ConnectionHandler>;
    type ToSwarm = B::ToSwarm;

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.supersede(peer, Instant::now()).map_err(ConnectionDenied::new)?;
        match self.admit(id, peer, false).map_err(ConnectionDenied::new)? {
            Kind::Member => {
                let handler = self.inner.handle_established_inbound_connection(id, peer, local, remote)?;
                Ok(Either::Left(handler))
            }
            Kind::Guest(_) => Ok(Either::Right(dummy::ConnectionHandler)),
        }
    }

    fn handle_pending_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: Option<PeerId>,
        _: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        match peer {
            Some(peer) if self.members.contains(&peer) || self.bootstrap.contains(&peer) => Ok(Vec::new()),
            Some(_) | None => Err(ConnectionDenied::new(Refused::Stranger)),
        }
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        match self.admit(id, peer, true).map_err(ConnectionDenied::new)? {
            Kind::Member => {
                let handler =
                    self.inner.handle_established_outbound_connection(id, peer, address, role, port)?;
                Ok(Either::Left(handler))
            }
            Kind::Guest(_) => Ok(Either::Right(dummy::ConnectionHandler)),
        }
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        let closed =
            if let FromSwarm::ConnectionClosed(closed) = &event { Some(closed.connection_id) } else { None };
        if !self.concerns_guest(&event) {
            self.inner.on_swarm_event(event);
        }
        if let Some(id) = closed {
            self.connections.remove(&id);
            self.origins.remove(&id);
        }
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, id: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {
            Either::Left(event) => self.inner.on_connection_handler_event(peer, id, event),
            Either::Right(never) => match never {},
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        if let Some((peer_id, id)) = self.closing.pop_front() {
            return Poll::Ready(ToSwarm::CloseConnection { peer_id, connection: CloseConnection::One(id) });
        }
        self.waker = Some(cx.waker().clone());
        self.inner.poll(cx).map(|order| order.map_in(Either::Left))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn admission(members: &[PeerId], coordinators: &[PeerId]) -> Admission<dummy::Behaviour> {
        let mut admission = Admission::new(dummy::Behaviour, BTreeSet::new());
        admission.set_members(members.iter().copied().collect(), coordinators.iter().copied().collect());
        admission
    }

    fn peers(count: usize) -> Vec<PeerId> {
        (0..count).map(|_| PeerId::random()).collect()
    }

    #[test]
    fn only_so_many_strangers_are_let_in_and_none_is_dialled() {
        let strangers = peers(GUESTS_MAX + 1);
        let mut admission = admission(&[], &[]);
        for (place, stranger) in strangers.iter().enumerate() {
            let admitted = admission.admit(ConnectionId::new_unchecked(place), *stranger, false);
            assert_eq!(matches!(admitted, Ok(Kind::Guest(_))), place < GUESTS_MAX, "stranger {place}");
        }
        let dialled = admission.admit(ConnectionId::new_unchecked(99), PeerId::random(), true);
        assert!(matches!(dialled, Err(Refused::Stranger)));
        let again = admission.admit(ConnectionId::new_unchecked(98), strangers[0], false);
        assert!(matches!(again, Err(Refused::Changing)), "one connection each");
    }

    #[test]
    fn coordinators_are_let_in_when_it_is_full() {
        let members = peers(CONNECTIONS_MAX + 2);
        let (coordinator, late) = (members[CONNECTIONS_MAX], members[CONNECTIONS_MAX + 1]);
        let mut admission = admission(&members, &[coordinator]);
        for (place, member) in members[..CONNECTIONS_MAX].iter().enumerate() {
            let admitted = admission.admit(ConnectionId::new_unchecked(place), *member, false);
            assert!(matches!(admitted, Ok(Kind::Member)));
        }
        let admitted = admission.admit(ConnectionId::new_unchecked(1000), late, false);
        assert!(matches!(admitted, Err(Refused::TooManyMembers)));
        for place in 0..=CONNECTIONS_PER_PEER_MAX {
            let admitted = admission.admit(ConnectionId::new_unchecked(2000 + place), coordinator, false);
            assert_eq!(admitted.is_ok(), place < CONNECTIONS_PER_PEER_MAX, "connection {place}");
        }
    }

    #[test]
    fn change_of_the_roster_closes_what_is_no_longer_right() {
        let [leaving, staying, joining] = [PeerId::random(), PeerId::random(), PeerId::random()];
        let mut admission = admission(&[leaving, staying], &[]);
        let ids = [0, 1, 2].map(ConnectionId::new_unchecked);
        for (id, peer) in ids.iter().zip([leaving, staying, joining]) {
            assert!(admission.admit(*id, peer, false).is_ok());
        }
        admission.set_members(BTreeSet::from([staying, joining]), BTreeSet::new());
        assert_eq!(
            admission.closing,
            [(leaving, ids[0]), (joining, ids[2])],
            "the guest comes back as a member"
        );
        let early = admission.admit(ConnectionId::new_unchecked(3), joining, false);
        assert!(matches!(early, Err(Refused::Changing)), "never a guest's and a member's connection at once");
    }

    #[test]
    fn who_dials_again_has_lost_its_connection() {
        let peer = PeerId::random();
        let id = ConnectionId::new_unchecked(0);
        let now = Instant::now();
        for (dialled, later, refused) in [
            (false, Duration::ZERO, true),
            (true, Duration::ZERO, false),
            (true, HANDSHAKE_TIMEOUT + Duration::from_secs(1), true),
        ] {
            let mut admission = admission(&[peer], &[]);
            assert!(admission.supersede(peer, now).is_ok(), "nothing to lose yet");
            assert!(admission.admit(id, peer, dialled).is_ok());
            assert!(admission.supersede(PeerId::random(), now + later).is_ok(), "somebody else");
            let again = admission.supersede(peer, now + later);
            assert_eq!(again.is_err(), refused, "dialled {dialled}, {later:?} later");
            assert_eq!(admission.closing.len(), usize::from(refused));
        }
    }

    #[test]
    fn time_of_a_guest_ends() {
        let mut admission = admission(&[], &[]);
        let (id, guest, now) = (ConnectionId::new_unchecked(0), PeerId::random(), Instant::now());
        assert!(admission.admit(id, guest, false).is_ok());
        admission.expire(now);
        assert!(admission.closing.is_empty());
        admission.hurry(id, now);
        admission.expire(now + GUEST_GRACE);
        assert_eq!(admission.closing, [(guest, id)]);
    }
}
