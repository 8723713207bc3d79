//! Every limit and timing of the fleet's network, with its reason.

use std::time::Duration;

/// A gossiped message holds at most this many bytes; what is larger travels by sync alone.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// One log message, a sync answer and an enrolment answer hold at most this many bytes.
pub const FRAME_BYTES_MAX: usize = 1024 * 1024;
/// Room that a sync answer leaves for its own framing.
pub const FRAME_BYTES_RESERVED: usize = 64 * 1024;
/// The payload of one answer; a larger item is fetched in parts.
pub const ANSWER_BYTES_MAX: usize = FRAME_BYTES_MAX - FRAME_BYTES_RESERVED;
/// A single item: a document of 4 MiB, the most that is ever signed, and its signatures.
pub const ITEM_BYTES_MAX: usize = 5 * 1024 * 1024;
/// Fleet documents that a newcomer is told, the newest ones.
pub const ENROLL_DOCUMENTS_MAX: usize = 32;
/// Requests that a stranger may make in one connection: one per document, and parts of the large ones.
pub const ENROLL_REQUESTS_MAX: usize = 64;
/// One sync request holds at most this many bytes: 1,024 identifiers and their frame.
pub const REQUEST_BYTES_MAX: usize = 64 * 1024;

/// Feeds, documents, decisions, proofs and notices are each compared by this many bucket digests.
pub const BUCKETS: usize = 256;
/// Bytes of a bucket's digest.
pub const DIGEST_BYTES: usize = 16;
/// Identifiers asked for in one request.
pub const IDS_PER_REQUEST_MAX: usize = 1024;
/// Feed ranges asked for in one request.
pub const RANGES_PER_REQUEST_MAX: usize = 256;
/// Heads in one answer: what fits into it, with room to spare.
pub const HEADS_PER_ANSWER_MAX: usize = 8 * 1024;
/// Items of one section that one pull plans for; the next pull goes on.
pub const WANTED_MAX: usize = 64 * 1024;
/// Requests of one pull: an end to what a peer that makes up endless feeds can cost.
pub const REQUESTS_PER_PULL_MAX: usize = 1024;
/// Pulls that run at once: each may hold one answer, and several would fetch the same.
pub const PULLS_MAX: usize = 3;
/// Answers that are being made or sent at once: each may be a whole frame, and a peer may be slow to take it.
pub const ANSWERS_MAX: usize = 8;
/// Answers for one peer among them; a pull asks one thing at a time.
pub const ANSWERS_PER_PEER_MAX: usize = 2;
/// Bytes of unfinished frames of one protocol, from all peers together; beyond it streams are refused.
pub const READ_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The step in which a frame is read.
pub const READ_CHUNK_BYTES: usize = 16 * 1024;
/// How often a pull asks again after `Busy`, before it gives up.
pub const BUSY_RETRIES_MAX: usize = 20;
/// The longest that a peer can make a pull wait by `Busy`.
pub const BUSY_WAIT_MAX: Duration = Duration::from_secs(5);
/// What a peer is told to wait when too many answers are being made.
pub const BUSY_WAIT: Duration = Duration::from_millis(100);

/// Bytes of sync answers that a peer may take at once.
pub const SYNC_BURST_BYTES: u64 = 16 * 1024 * 1024;
/// Bytes of sync answers per second that a peer may take for long.
pub const SYNC_BYTES_PER_SECOND: u64 = 4 * 1024 * 1024;
/// What every sync request costs of that allowance, however small its answer.
pub const SYNC_REQUEST_COST_BYTES: u64 = 4 * 1024;

/// Events that wait for the node; beyond it network messages are dropped and sync brings them again.
pub const EVENTS_MAX: usize = 4096;
/// Bytes of events that wait for the node.
pub const EVENT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Orders of the node that wait for the swarm; beyond it they are dropped and counted.
pub const COMMANDS_MAX: usize = 4096;
/// Bytes of orders that wait for the swarm.
pub const COMMAND_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Requests of pulls that wait for the swarm.
pub const ASKS_MAX: usize = 16;
/// Log messages on their way to one peer; more are dropped, the log's protocol sends again.
pub const LOGS_IN_FLIGHT_MAX: usize = 64;

/// Strangers connected at once; they are told fleet documents and nothing else.
pub const GUESTS_MAX: usize = 8;
/// How long a stranger stays connected.
pub const GUEST_TIME: Duration = Duration::from_secs(10);
/// How long a stranger stays that was told everything: closing QUIC at once would lose what is still on its way.
pub const GUEST_GRACE: Duration = Duration::from_secs(2);
/// Connections with one member: both may have dialled at once, over either transport.
pub const CONNECTIONS_PER_PEER_MAX: usize = 4;
/// Connections with members in all; coordinators are let in beyond it.
pub const CONNECTIONS_MAX: usize = 128;
/// Connections in the middle of their handshake, which anybody can begin.
pub const HANDSHAKES_MAX: usize = 64;
/// Roster members that are kept in mind: design limit of a fleet, twice.
pub const MEMBERS_MAX: usize = 20_000;
/// Addresses of one member that are dialled.
pub const ADDRESSES_PER_MEMBER_MAX: usize = 8;

/// Up to this many members, everybody connects to all coordinators; beyond it hosts that are none keep a few, or
/// every coordinator would hold a connection with every host.
pub const SMALL_FLEET: usize = 64;
/// Coordinators that a host of a large fleet dials when it is none itself.
pub const COORDINATORS_KEPT: usize = 2;
/// Other members dialled when fewer than `PEERS_KEPT_MIN` are connected.
pub const PEERS_KEPT_MAX: usize = 12;
/// Fewer connected members than this, beside the coordinators, and more are dialled.
pub const PEERS_KEPT_MIN: usize = 8;

/// First pause after a failed dial; doubles up to `BACKOFF_MAX`, jittered by a quarter.
pub const BACKOFF_MIN: Duration = Duration::from_millis(250);
/// Longest pause between two dials of one peer.
pub const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// Longest pause between two dials of a bootstrap peer while there is no fleet document: a person is waiting.
pub const ENROLL_BACKOFF_MAX: Duration = Duration::from_secs(1);

/// A peer that died without a word is noticed after this long: QUIC has no reset that a dead process' kernel would
/// send, and coordinators must not wait for one that is gone. Four lost keep-alives in a row.
pub const QUIC_IDLE_TIMEOUT: Duration = Duration::from_secs(2);
/// Pause after which a quiet connection shows that it lives.
pub const QUIC_KEEP_ALIVE: Duration = Duration::from_millis(500);
/// How long a network that ends waits for its connections to close in order.
pub const PARTING_TIME: Duration = Duration::from_millis(500);
/// QUIC and TCP handshakes take at most this long.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Unacknowledged bytes on one stream: bounds what a peer makes us buffer, and still fills a home's link.
pub const STREAM_WINDOW_BYTES: u32 = 512 * 1024;
/// Unacknowledged bytes on one connection.
pub const CONNECTION_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
/// Streams that a peer may hold open in one connection.
pub const STREAMS_MAX: usize = 128;
/// Streams of one protocol in one connection that are served at once.
pub const STREAMS_PER_PROTOCOL_MAX: usize = 64;
/// A request without an answer for this long has failed.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause between two pings of a peer, which measure the round trip.
pub const PING_INTERVAL: Duration = Duration::from_secs(5);
/// A ping without an answer for this long closes the connection.
pub const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// How often the swarm is woken when nothing happens: dials, guests' time, and gossipsub's heartbeat, whose own timer
/// is set again without being polled in libp2p-gossipsub 0.50 and so does not wake a quiet swarm.
pub const PULSE: Duration = Duration::from_millis(250);
/// Pause between two heartbeats of the mesh: short, so that a new peer is grafted soon.
pub const HEARTBEAT: Duration = Duration::from_millis(700);
/// Peers of a topic's mesh: all of a small fleet; in a large one, six hops reach ten thousand hosts.
pub const MESH_PEERS: usize = 6;
/// Fewer mesh peers than this, and more are grafted.
pub const MESH_PEERS_LOW: usize = 4;
/// More mesh peers than this, and some are pruned.
pub const MESH_PEERS_HIGH: usize = 12;
/// How long the identity of a message is remembered; the node finds older repeats stale by itself.
pub const DUPLICATES_REMEMBERED: Duration = Duration::from_secs(120);
/// Messages that wait for one slow peer.
pub const GOSSIP_QUEUE_MAX: usize = 512;
/// Seconds in which half of a peer's rejected messages are forgiven.
pub const REJECTS_HALF_LIFE_SECS: u32 = 120;
/// Rejected messages of one peer, on one topic, after which its gossip is no longer heard.
pub const REJECTS_MAX: u32 = 10;

/// Pause between two pulls from random peers, unless the configuration says otherwise.
pub const SYNC_INTERVAL: Duration = Duration::from_secs(10);
