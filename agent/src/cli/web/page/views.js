// What each view shows. Each gives the nodes of the whole view; what stays the same is not touched.
import { h } from "/app.js";

/** A sign that needs no colour, a word, and the name of a colour, for each state of a host. */
const HOST_STATES = {
  Pending: ["·", "no answer yet", "waits"],
  Activating: ["»", "switches", "switch"],
  Deferred: ["◷", "waits for a reboot", "switch"],
  Soaking: ["◔", "soaks", "soak"],
  Converged: ["✓", "converged", "good"],
  Failed: ["✗", "failed", "bad"],
  Reverted: ["↶", "went back", "back"],
};
/** The same for a rollout. */
const ROLLOUT_STATES = {
  Opening: ["»", "switch"],
  Active: ["»", "switch"],
  Converging: ["»", "switch"],
  Terminal: ["✓", "good"],
  Failed: ["✗", "bad"],
  Reverted: ["↶", "bad"],
};
/** States in which hosts are still to be dispatched. */
const OPEN = ["Opening", "Active", "Converging"];
/** How many events are shown. */
const EVENTS = 200;

const hostLink = (host) => h("a", { href: `#/hosts/${encodeURIComponent(host)}` }, host);
const rolloutLink = (id) => h("a", { href: `#/rollouts/${encodeURIComponent(id)}` }, id);
const code = (text) => (text ? h("code", {}, short(text)) : "");

/** A store path as short as it can be told apart. */
function short(closure) {
  const path = /^\/nix\/store\/([0-9a-z]{8})[0-9a-z]{24}-(.*)$/.exec(closure);
  return path ? `${path[1]}-${path[2].replace(/^nixos-system-/, "")}` : closure;
}

function time(at) {
  if (!at) return "";
  const date = new Date(at);
  const [day, clock] = date.toISOString().split("T");
  const today = day === new Date().toISOString().split("T")[0];
  return h("time", { datetime: at, title: at }, today ? clock.slice(0, 8) : `${day} ${clock.slice(0, 8)}`);
}

/** A time span in its largest unit. */
function span(seconds) {
  const whole = Math.round(seconds);
  if (whole < 120) return `${whole} s`;
  if (whole < 7200) return `${Math.floor(whole / 60)} min`;
  if (whole < 172800) return `${Math.floor(whole / 3600)} h`;
  return `${Math.floor(whole / 86400)} days`;
}

const ago = (at) => (at ? `${span(Math.max(0, (Date.now() - Date.parse(at)) / 1000))} ago` : "never");
const between = (from, to) => span((Date.parse(to) - Date.parse(from)) / 1000);

/** A host's state: sign and word. */
function hostState(state, { excused = null, online = true } = {}) {
  const [sign, word, tone] = !online
    ? ["✗", "offline", "bad"]
    : excused
      ? ["–", `excused: ${excused}`, "waits"]
      : (HOST_STATES[state] ?? ["·", state ?? "idle", "waits"]);
  return h("span", {}, h("span", { class: `sign ${tone}`, "aria-hidden": "true" }, sign), ` ${word}`);
}

function pill(state) {
  const [sign, tone] = ROLLOUT_STATES[state] ?? ["–", "waits"];
  return h("span", { class: `state ${tone}` }, `${sign} ${state}`);
}

/** A table whose rows are arrays of cells; the first cell that is asked for names its row. */
function table(label, titles, rows, { head = 0, long = [] } = {}) {
  const cell = (content, place) =>
    place === head
      ? h("th", { scope: "row" }, content)
      : h("td", { class: long.includes(place) ? "long" : null }, content ?? "");
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": label },
    h(
      "table",
      {},
      h("thead", {}, h("tr", {}, titles.map((title) => h("th", { scope: "col" }, title)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, row.map(cell)))),
    ),
  );
}

function banners(status) {
  const { quorum, alarms, held } = status;
  const banner = (tone, sign, title, text) =>
    h("div", { class: `banner ${tone}`, role: "alert" }, h("strong", {}, `${sign} ${title}`), text);
  const lost = quorum.reachable < quorum.needed && status.fleet_serial !== null;
  return [
    lost &&
      banner("bad", "✗", "No quorum", `${quorum.reachable} of ${quorum.of} coordinators in reach, ${quorum.needed} needed. Nothing new is dispatched until enough of these are back: ${quorum.missing.join(", ")}`),
    ...alarms.map((alarm) => banner("bad", "!", "Alarm", alarm)),
    held && !lost && banner("switch", "‖", "Nothing moves", held),
  ].filter(Boolean);
}

/** A wave as one tile a host. */
function wave(show, of) {
  const hosts = show.hosts.filter((host) => host.wave === of.wave);
  const done = hosts.filter((host) => host.excused || host.state === "Converged").length;
  const tile = (host) => {
    const [sign, word, tone] = host.excused ? ["–", "excused", "waits"] : (HOST_STATES[host.state] ?? ["·", "not dispatched", "waits"]);
    const label = `${host.host}: ${word}`;
    return h("a", { class: `tile ${tone}`, href: `#/hosts/${encodeURIComponent(host.host)}`, title: label, "aria-label": label }, sign);
  };
  return h(
    "li",
    {},
    h("span", { class: "name" }, `Wave ${of.wave + 1}`),
    h("span", { class: "tiles" }, hosts.map(tile)),
    h("span", { class: "done" }, `${done} of ${hosts.length}`),
  );
}

function channel(of, show) {
  const title = [h("span", {}, of.channel), of.ref && h("code", {}, of.ref), of.state && pill(of.state)];
  const where = show && OPEN.includes(of.state) ? `wave ${of.wave + 1} of ${of.waves}` : null;
  return h(
    "section",
    { class: "card" },
    h("h2", {}, title),
    h("p", {}, of.rollout ? [rolloutLink(of.rollout), where && `, ${where}`] : "nothing released yet"),
    show && h("ul", { class: "waves" }, show.waves.map((each) => wave(show, each))),
  );
}

async function fleet(api, { status }) {
  const shows = await Promise.all(
    status.channels.map((of) => (of.rollout ? api.json(`rollouts/${encodeURIComponent(of.rollout)}?timeline=0`).catch(() => null) : null)),
  );
  const { quorum } = status;
  const lead =
    status.fleet_serial === null
      ? "No fleet document yet; publish the first one here or wait for a peer."
      : `${quorum.reachable} of ${quorum.of} coordinators in reach, ${quorum.needed} needed${status.coordinator ? `; ${status.coordinator} leads` : ""}. Fleet document ${status.fleet_serial}.`;
  const rows = status.hosts.map((host) => [
    hostLink(host.host),
    hostState(host.state, { online: host.online }),
    code(host.current),
    host.target && host.target === host.current ? "same" : code(host.target),
    host.waits_for,
  ]);
  return [
    ...banners(status),
    h("h1", {}, status.fleet),
    h("p", { class: "lead" }, lead),
    h("div", { class: "cards" }, status.channels.map((of, place) => channel(of, shows[place]))),
    h("h2", {}, "Hosts"),
    table("Hosts", ["Host", "State", "Runs", "Target", "Waits for"], rows, { long: [4] }),
  ];
}

async function rollouts(api) {
  const [{ rollouts: all }, { quarantines }] = await Promise.all([api.json("rollouts"), api.json("quarantines")]);
  const rows = all.map((each) => [
    rolloutLink(each.id),
    pill(each.state),
    OPEN.includes(each.state) ? `${each.wave + 1} of ${each.waves}` : `${each.waves}`,
    `${each.hosts_converged} of ${each.hosts_total}`,
    `${each.hosts_failed}`,
    time(each.opened_at),
    each.ended_at ? between(each.opened_at, each.ended_at) : "",
  ]);
  const barred = quarantines.map((each) => [
    code(each.closure),
    each.channel,
    time(each.since),
    each.host && hostLink(each.host),
    each.rollout && rolloutLink(each.rollout),
  ]);
  return [
    h("h1", {}, "Rollouts"),
    rows.length
      ? table("Rollouts", ["Rollout", "State", "Wave", "Converged", "Failed", "Opened", "Took"], rows)
      : h("p", { class: "lead" }, "Nothing was rolled out yet."),
    barred.length > 0 && h("h2", {}, "Quarantined closures"),
    barred.length > 0 && table("Quarantined closures", ["Closure", "Channel", "Since", "Failed on", "In"], barred),
  ].filter(Boolean);
}

/** The agent's drawing; parsed without running anything, and nothing in it is markup but the server's own. */
function drawing(text) {
  const svg = new DOMParser().parseFromString(text, "text/html").querySelector("svg");
  return svg ? document.importNode(svg, true) : "";
}

async function rollout(api, state, id) {
  const path = `rollouts/${encodeURIComponent(id)}`;
  const [show, chart] = await Promise.all([api.json(path), api.text(`${path}/chart`)]);
  const { rollout: of } = show;
  const fact = (name, value) => h("div", {}, h("dt", {}, name), h("dd", {}, value));
  const hosts = show.hosts.map((host) => [
    hostLink(host.host),
    `${host.wave + 1}`,
    hostState(host.state ?? "not dispatched", { excused: host.excused }),
    code(host.target),
    time(host.dispatched_at),
    time(host.activated_at),
    time(host.converged_at ?? host.failed_at),
    time(host.reverted_at),
  ]);
  const moments = show.timeline.map((entry) => [time(entry.at), entry.what, entry.cause, entry.signers.join(", ")]);
  return [
    h("h1", {}, h("span", {}, of.id), " ", pill(of.state)),
    h(
      "dl",
      { class: "facts" },
      fact("opened", time(of.opened_at)),
      of.ended_at ? fact("took", between(of.opened_at, of.ended_at)) : fact("wave", `${of.wave + 1} of ${of.waves}`),
      fact("converged", `${of.hosts_converged} of ${of.hosts_total}`),
      fact("failed", `${of.hosts_failed}`),
    ),
    h("h2", {}, "Time line"),
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Time line" }, drawing(chart)),
    h("h2", {}, "Hosts"),
    table("Hosts", ["Host", "Wave", "State", "Target", "Dispatched", "Switched", "Converged or failed", "Back"], hosts),
    h("h2", {}, "What happened"),
    table("What happened", ["When", "What", "Because of", "Signed by"], moments, { head: -1, long: [1, 2] }),
  ];
}

async function host(api, state, name) {
  const [explained, { events }] = await Promise.all([
    api.json(`explain/${encodeURIComponent(name)}`),
    api.json(`events?host=${encodeURIComponent(name)}&limit=50`),
  ]);
  const of = state.status?.hosts.find((each) => each.host === name);
  const gate = (each) =>
    h(
      "div",
      { class: "card gate" },
      h("h2", {}, `‖ ${each.gate}`),
      h("p", {}, each.reason),
      each.waits_for && h("p", {}, `waits for ${each.waits_for}`),
      each.opens_at && h("p", {}, "opens at the earliest at ", time(each.opens_at)),
    );
  return [
    h("h1", {}, name),
    h("p", { class: "lead" }, explained.summary),
    of &&
      h(
        "dl",
        { class: "facts" },
        h("div", {}, h("dt", {}, "state"), h("dd", {}, hostState(of.state, { online: of.online }))),
        h("div", {}, h("dt", {}, "runs"), h("dd", {}, code(of.current) || "unknown")),
        h("div", {}, h("dt", {}, "target"), h("dd", {}, code(of.target) || "none")),
        explained.rollout && h("div", {}, h("dt", {}, "rollout"), h("dd", {}, rolloutLink(explained.rollout))),
        explained.last_report && h("div", {}, h("dt", {}, "last reported"), h("dd", {}, `${explained.last_report.name}, `, time(explained.last_report.at))),
      ),
    ...explained.gates.map(gate),
    h("h2", {}, "What it said, and what was said of it"),
    eventTable(events),
  ].filter(Boolean);
}

async function peers(api) {
  const { peers: all } = await api.json("peers");
  const rows = all.map((peer) => [
    hostLink(peer.host),
    peer.connected ? h("span", {}, h("span", { class: "sign good", "aria-hidden": "true" }, "●"), ` ${peer.transport ?? "up"}`) : h("span", {}, h("span", { class: "sign bad", "aria-hidden": "true" }, "○"), " down"),
    peer.round_trip_ms === null ? "" : `${peer.round_trip_ms.toFixed(1)} ms`,
    peer.clock_offset_ms === null ? "" : `${peer.clock_offset_ms > 0 ? "+" : ""}${peer.clock_offset_ms} ms`,
    ago(peer.last_heard),
    peer.feed_behind === null ? "" : `${peer.feed_behind}`,
    peer.fleet_serial === null ? "" : `${peer.fleet_serial}`,
    peer.agent_version ?? "",
    code(peer.address),
  ]);
  const connected = all.filter((peer) => peer.connected).length;
  return [
    h("h1", {}, "Peers"),
    h("p", { class: "lead" }, `${connected} of ${all.length} connected.`),
    h("h2", {}, "Every other host"),
    table("Peers", ["Host", "Link", "Round trip", "Clock", "Heard", "Behind", "Fleet", "Agent", "Address"], rows),
  ];
}

function eventTable(events) {
  const rows = [...events].reverse().map((event) => [
    time(event.at),
    event.host ? hostLink(event.host) : event.kind,
    event.verified ? event.name : h("span", { class: "bad" }, `✗ UNVERIFIED ${event.name}`),
    event.detail,
    event.rollout && rolloutLink(event.rollout),
  ]);
  return table("Events", ["When", "Who", "What", "Detail", "Rollout"], rows, { head: -1, long: [3] });
}

async function events(api, state) {
  const { events: all } = await api.json(`events?limit=${EVENTS}`);
  const text = (event) => [event.host, event.name, event.detail, event.rollout, event.kind].join(" ").toLowerCase();
  const seen = all.filter((event) => text(event).includes(state.filter));
  return [
    h("h1", {}, "Events"),
    h("p", { class: "lead" }, `The newest ${all.length}, every signature looked at again.`),
    h("p", {}, h("input", { type: "search", id: "filter", placeholder: "a host, a rollout, a word", "aria-label": "Show only events with" })),
    eventTable(seen),
  ];
}

export const views = {
  fleet: { needsStatus: true, draw: fleet },
  rollouts: { draw: rollouts },
  "rollouts/": { draw: rollout },
  "hosts/": { draw: host },
  peers: { draw: peers },
  events: { draw: events },
};
