//! What the task does with the protocols' events: verdicts, questions, answers, log messages.

use std::sync::Arc;
use std::time::Instant;

use libp2p::request_response::{Event as Exchange, InboundRequestId, Message, ResponseChannel};
use libp2p::swarm::ConnectionId;
use libp2p::{PeerId, gossipsub, ping};

use crate::behaviour::{MembersEvent, ProtocolsEvent};
use crate::event::{Event, MessageRef, Topic, Verdict};
use crate::gossip::acceptance;
use crate::identity::{HostKey, host_key, peer_id};
use crate::limits::{BUSY_WAIT, ENROLL_REQUESTS_MAX, LOGS_IN_FLIGHT_MAX};
use crate::network::{Command, count, count_bytes};
use crate::sync::answer;
use crate::sync::frame::{Answer, encode};
use crate::sync::pull::{Ask, Asker, Protocol, Pull, PullError};
use crate::task::{Ready, Task};

/// A request that a peer puts to this node.
struct Asked {
    peer: PeerId,
    connection: ConnectionId,
    id: InboundRequestId,
    request: Vec<u8>,
    channel: ResponseChannel<Vec<u8>>,
}

type Exchanged = Exchange<Vec<u8>, Vec<u8>>;

impl Task {
    pub(crate) fn on_command(&mut self, command: Command) {
        match command {
            Command::Publish(topic, bytes) => self.gossip(topic, bytes),
            Command::Verdict(message, verdict) => self.judge(message, verdict),
            Command::SendLog(to, bytes) => self.send_log(&to, bytes),
            Command::Sync(Some(key)) => {
                if let Some(peer) = peer_id(&key).filter(|peer| self.peers.contains_key(peer)) {
                    self.pulls.request(peer);
                }
            }
            Command::Sync(None) => self.peers.keys().for_each(|peer| self.pulls.request(*peer)),
            #[cfg(test)]
            Command::Rejoin => {
                for topic in self.topics.all() {
                    let mesh = &mut self.swarm.behaviour_mut().members.inner_mut().mesh;
                    assert!(mesh.unsubscribe(topic) && matches!(mesh.subscribe(topic), Ok(true)));
                }
            }
        }
    }

    fn gossip(&mut self, topic: Topic, bytes: Vec<u8>) {
        if !self.publish {
            return;
        }
        let hash = self.topics.hash(topic);
        let mesh = &mut self.swarm.behaviour_mut().members.inner_mut().mesh;
        match mesh.publish(hash, bytes) {
            Ok(_) | Err(gossipsub::PublishError::Duplicate) => {}
            Err(error) => {
                tracing::debug!(%error, topic = topic.name(), "not gossiped; sync will carry it");
                count(&self.counts.publishes_dropped);
            }
        }
    }

    fn judge(&mut self, message: MessageRef, verdict: Verdict) {
        if verdict == Verdict::Reject {
            count(&self.counts.rejected);
        }
        let id = gossipsub::MessageId::new(&message.id);
        let mesh = &mut self.swarm.behaviour_mut().members.inner_mut().mesh;
        mesh.report_message_validation_result(&id, &message.from, acceptance(verdict));
    }

    fn send_log(&mut self, to: &HostKey, bytes: Vec<u8>) {
        let peer = peer_id(to);
        let known = peer.and_then(|peer| Some((peer, self.peers.get_mut(&peer)?)));
        let log = &mut self.swarm.behaviour_mut().members.inner_mut().log;
        match known {
            // A request to a peer without a connection would make the protocol dial by itself.
            Some((peer, known)) if log.is_connected(&peer) && known.logs_in_flight < LOGS_IN_FLIGHT_MAX => {
                known.logs_in_flight += 1;
                log.send_request(&peer, bytes);
            }
            Some(_) | None => count(&self.counts.logs_dropped),
        }
    }

    pub(crate) fn on_protocol(&mut self, event: ProtocolsEvent) {
        match event {
            ProtocolsEvent::Members(MembersEvent::Mesh(event)) => self.on_mesh(event),
            ProtocolsEvent::Members(MembersEvent::Sync(event)) => self.on_sync(event),
            ProtocolsEvent::Members(MembersEvent::Log(event)) => self.on_log(event),
            ProtocolsEvent::Members(MembersEvent::Ping(ping::Event { peer, connection, result })) => {
                match result {
                    Ok(round_trip) => {
                        if let Some(known) = self.peers.get_mut(&peer) {
                            known.round_trip = Some(round_trip);
                            self.tell_peers();
                        }
                    }
                    // A member of an older fleet document does not speak it yet; only silence is a reason to part.
                    Err(ping::Failure::Unsupported) => {}
                    Err(ping::Failure::Timeout | ping::Failure::Other { .. }) => {
                        self.swarm.behaviour_mut().members.close(connection);
                    }
                }
            }
            ProtocolsEvent::Enroll(event) => self.on_enroll(event),
            ProtocolsEvent::Limits(never) => match never {},
        }
    }

    fn on_mesh(&mut self, event: gossipsub::Event) {
        match event {
            gossipsub::Event::Message { propagation_source: from, message_id, message } => {
                let (topic, key) = (self.topics.find(&message.topic), host_key(&from));
                let id = <[u8; 32]>::try_from(message_id.0.as_slice());
                let (Some(topic), Some(key), Ok(id)) = (topic, key, id) else { return };
                let reference = MessageRef { id, from };
                if !self.offer(Event::Message { topic, from: key, reference, bytes: message.data }) {
                    self.judge(reference, Verdict::Ignore);
                }
            }
            gossipsub::Event::Subscribed { .. }
            | gossipsub::Event::Unsubscribed { .. }
            | gossipsub::Event::GossipsubNotSupported { .. }
            | gossipsub::Event::SlowPeer { .. } => tracing::trace!(?event, "mesh"),
        }
    }

    fn on_log(&mut self, event: Exchanged) {
        match event {
            Exchange::Message { peer, message: Message::Request { request, channel, .. }, .. } => {
                let Some(key) = host_key(&peer) else { return };
                if self.coordinators.contains(&peer) && self.offer(Event::Log { from: key, bytes: request }) {
                    let log = &mut self.swarm.behaviour_mut().members.inner_mut().log;
                    if log.send_response(channel, Vec::new()).is_err() {
                        tracing::trace!(%peer, "a log message's sender is gone");
                    }
                }
            }
            Exchange::Message { peer, message: Message::Response { .. }, .. } => self.log_ended(&peer),
            Exchange::OutboundFailure { peer, error, .. } => {
                tracing::debug!(%peer, %error, "a log message was lost");
                count(&self.counts.logs_dropped);
                self.log_ended(&peer);
            }
            Exchange::InboundFailure { .. } | Exchange::ResponseSent { .. } => {}
        }
    }

    fn log_ended(&mut self, peer: &PeerId) {
        if let Some(known) = self.peers.get_mut(peer) {
            known.logs_in_flight = known.logs_in_flight.saturating_sub(1);
        }
    }

    fn on_sync(&mut self, event: Exchanged) {
        match event {
            Exchange::Message {
                peer,
                connection_id,
                message: Message::Request { request_id, request, channel },
            } => {
                let asked = Asked { peer, connection: connection_id, id: request_id, request, channel };
                self.answer_sync(asked);
            }
            Exchange::Message { peer, message: Message::Response { request_id, response }, .. } => {
                self.dialer.proven(peer, Instant::now());
                count_bytes(&self.counts.sync_bytes_in, response.len());
                if let Some(reply) = self.sync_replies.remove(&request_id) {
                    // A pull that broke off reads no answer.
                    let _unread = reply.send(response);
                }
            }
            Exchange::OutboundFailure { peer, request_id, error, .. } => {
                tracing::debug!(%peer, %error, "a sync request failed");
                self.sync_replies.remove(&request_id);
            }
            Exchange::InboundFailure { request_id, .. } | Exchange::ResponseSent { request_id, .. } => {
                self.unanswered.end(Protocol::Sync, request_id);
            }
        }
    }

    fn answer_sync(&mut self, asked: Asked) {
        let Asked { peer, connection, id, request, channel } = asked;
        count_bytes(&self.counts.sync_bytes_in, request.len());
        let wait = match self.allowances.request(peer, Instant::now()) {
            Err(wait) => Some(wait),
            Ok(()) if self.unanswered.begin(Protocol::Sync, id, peer) => None,
            Ok(()) => Some(BUSY_WAIT),
        };
        if let Some(wait) = wait {
            count(&self.counts.answered_busy);
            let wait_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
            let answer = encode(&Answer::Busy { wait_ms });
            return self.on_ready(Some(Ready { peer, connection, channel, answer, last: false }));
        }
        let library = Arc::clone(&self.library);
        self.answering.spawn_blocking(move || {
            let answer = answer::sync(library.as_ref(), &request);
            let answer =
                answer.inspect_err(|error| tracing::debug!(%peer, %error, "a sync request is malformed"));
            Some(Ready { peer, connection, channel, answer: answer.ok()?, last: false })
        });
    }

    fn on_enroll(&mut self, event: Exchanged) {
        match event {
            Exchange::Message {
                peer,
                connection_id,
                message: Message::Request { request_id, request, channel },
            } => {
                let asked = Asked { peer, connection: connection_id, id: request_id, request, channel };
                self.answer_enroll(asked);
            }
            Exchange::Message { message: Message::Response { request_id, response }, .. } => {
                count_bytes(&self.counts.sync_bytes_in, response.len());
                if let Some(reply) = self.enroll_replies.remove(&request_id) {
                    let _unread = reply.send(response);
                }
            }
            Exchange::OutboundFailure { peer, request_id, error, .. } => {
                tracing::debug!(%peer, %error, "no fleet documents from this peer");
                self.enroll_replies.remove(&request_id);
            }
            Exchange::InboundFailure { request_id, .. } | Exchange::ResponseSent { request_id, .. } => {
                self.unanswered.end(Protocol::Enroll, request_id);
            }
        }
    }

    fn answer_enroll(&mut self, asked: Asked) {
        let Asked { peer, connection, id, request, channel } = asked;
        count_bytes(&self.counts.sync_bytes_in, request.len());
        let requests = self.guest_requests.entry(connection).or_default();
        *requests += 1;
        // Dropping the channel refuses: the stream is closed without an answer.
        if *requests > ENROLL_REQUESTS_MAX || !self.unanswered.begin(Protocol::Enroll, id, peer) {
            return;
        }
        let library = Arc::clone(&self.library);
        self.answering.spawn_blocking(move || {
            let (answer, last) = answer::enroll(library.as_ref(), &request).ok()?;
            Some(Ready { peer, connection, channel, answer, last })
        });
    }

    pub(crate) fn on_ready(&mut self, ready: Option<Ready>) {
        let Some(Ready { peer, connection, channel, answer, last }) = ready else { return };
        self.allowances.answered(&peer, answer.len());
        count_bytes(&self.counts.sync_bytes_out, answer.len());
        let protocols = self.swarm.behaviour_mut();
        if last {
            protocols.members.hurry(connection, Instant::now());
        }
        // Both protocols answer through the channel itself, so either may be asked to send.
        if protocols.enroll.send_response(channel, answer).is_err() {
            tracing::trace!(%peer, "the asker is gone");
        }
    }

    pub(crate) fn on_ask(&mut self, ask: Ask) {
        let protocols = self.swarm.behaviour_mut();
        let Ask { peer, protocol, request, reply } = ask;
        count_bytes(&self.counts.sync_bytes_out, request.len());
        match protocol {
            Protocol::Sync => {
                let sync = &mut protocols.members.inner_mut().sync;
                if sync.is_connected(&peer) {
                    self.sync_replies.insert(sync.send_request(&peer, request), reply);
                }
            }
            Protocol::Enroll => {
                if protocols.enroll.is_connected(&peer) {
                    self.enroll_replies.insert(protocols.enroll.send_request(&peer, request), reply);
                }
            }
        }
    }

    pub(crate) fn on_pulled(
        &mut self,
        pulled: Option<(PeerId, Option<ConnectionId>, Result<(), PullError>)>,
    ) {
        let Some((peer, guest, result)) = pulled else { return };
        match &result {
            Ok(()) => count(&self.counts.pulls),
            Err(error) => {
                tracing::debug!(%peer, %error, "a pull broke off");
                count(&self.counts.pulls_failed);
            }
        }
        match guest {
            Some(connection) => self.swarm.behaviour_mut().members.close(connection),
            None => {
                self.pulls.ended(&peer);
                // What was too much for one pull goes on in the next.
                if matches!(result, Err(PullError::TooMuch)) {
                    self.pulls.request(peer);
                }
            }
        }
    }

    /// Asks for a pull from any connected member.
    pub(crate) fn sync_with_random(&mut self) {
        let place = self.random.below(self.peers.len());
        if let Some(peer) = self.peers.keys().nth(place) {
            self.pulls.request(*peer);
        }
    }

    /// Starts the pulls there is room for.
    pub(crate) fn start_pulls(&mut self) {
        while let Some(peer) = self.pulls.next() {
            let Some(from) = host_key(&peer) else { continue };
            let asker = Asker::new(peer, self.asks_in.clone());
            let pull = Pull::new(from, asker, Arc::clone(&self.library), self.events.clone());
            self.pulling.spawn(async move { (peer, None, pull.run().await) });
        }
    }
}
