// Draws the view that the address names, and again whenever the agent has something new.
import { views } from "/views.js";

const main = document.getElementById("main");
const state = { status: null, position: 0, trouble: null, filter: "", events: null };

/** Makes an element; text stays text, whatever is in it. */
export function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) element.setAttribute(key, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Makes the children of an element equal to others, touching only what differs: focus and scrolling stay. */
function patch(parent, children) {
  const old = [...parent.childNodes];
  children.forEach((child, place) => (old[place] ? morph(old[place], child) : parent.append(child)));
  old.slice(children.length).forEach((gone) => gone.remove());
}

function morph(was, now) {
  if (was.nodeType !== now.nodeType || was.nodeName !== now.nodeName) return was.replaceWith(now);
  if (was.nodeType !== Node.ELEMENT_NODE) {
    if (was.data !== now.data) was.data = now.data;
    return undefined;
  }
  for (const { name, value } of now.attributes) {
    if (was.getAttribute(name) !== value) was.setAttribute(name, value);
  }
  for (const { name } of [...was.attributes]) {
    if (!now.hasAttribute(name)) was.removeAttribute(name);
  }
  return patch(was, [...now.childNodes]);
}

/** How long the agent took for its answers since the last drawing, in milliseconds. */
let asked = 0;

/** Reads from the agent; a refusal is thrown in its own words. */
async function read(path) {
  const begun = performance.now();
  const answer = await fetch(`/api/${path}`);
  asked += performance.now() - begun;
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({ detail: answer.statusText }));
  throw new Error(problem.detail || problem.title);
}

const api = {
  json: async (path) => (await read(path)).json(),
  text: async (path) => (await read(path)).text(),
};

function route() {
  const [, name = "", ...rest] = location.hash.split("/");
  return { name: name || "fleet", subject: decodeURIComponent(rest.join("/")) };
}

/** The rest between two drawings, in milliseconds, and how much longer it is than the agent's answers took. */
const REST = 200;
const REST_MAX = 5000;
const REST_FACTOR = 100;

let drawing = false;
let again = false;
let urged = false;
let drawn = "";

/** Rests so that looking costs the agent next to nothing, unless another view is wanted or somebody types. */
async function rest(address) {
  const begun = performance.now();
  const most = Math.min(REST_MAX, asked * REST_FACTOR);
  const rested = () => performance.now() - begun;
  while (location.hash === address && (rested() < REST || (rested() < most && !urged))) {
    await new Promise((resume) => setTimeout(resume, 50));
  }
}

async function draw() {
  again = true;
  if (drawing) return;
  drawing = true;
  while (again) {
    [again, urged, asked] = [false, false, 0];
    const address = location.hash;
    const { name, subject } = route();
    const view = (subject && views[`${name}/`]) || views[name] || views.fleet;
    let nodes;
    try {
      nodes = state.status || !view.needsStatus ? await view.draw(api, state, subject) : [];
    } catch (error) {
      nodes = [h("h1", {}, "That cannot be shown"), h("p", { class: "lead" }, error.message)];
    }
    const here = route();
    if (here.name !== name || here.subject !== subject) again = true;
    else if (nodes.length) show(name, location.hash, nodes);
    await rest(address);
  }
  drawing = false;
}

function show(name, address, nodes) {
  const first = drawn !== address;
  patch(main, nodes);
  for (const link of document.querySelectorAll("nav a")) {
    const current = link.dataset.view === name;
    if (current) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const title = main.querySelector("h1")?.textContent ?? "muster";
  document.title = `${title} · muster`;
  if (first) {
    if (drawn) {
      main.focus({ preventScroll: true });
      scrollTo(0, 0);
    }
    drawn = address || "#/";
  }
}

function live(sign, words, tone) {
  const place = document.getElementById("live");
  const text = `${sign} ${words}`;
  if (place.textContent !== text) place.textContent = text;
  place.className = `live ${tone}`;
}

function listen() {
  const source = new EventSource("/api/live");
  source.addEventListener("fleet", (event) => {
    Object.assign(state, JSON.parse(event.data), { trouble: null });
    document.getElementById("fleet").textContent = state.status.fleet;
    document.getElementById("host").textContent = state.status.host;
    live("●", "live", "good");
    draw();
  });
  source.addEventListener("trouble", (event) => {
    state.trouble = JSON.parse(event.data).detail;
    live("✗", "the agent does not answer", "bad");
  });
  source.onerror = () => live("○", "connecting again", "waits");
}

addEventListener("hashchange", () => {
  if (location.hash === "#main") {
    main.focus();
    history.replaceState(null, "", drawn);
    return;
  }
  draw();
});
addEventListener("keydown", (event) => {
  const typing = event.target instanceof HTMLInputElement || event.ctrlKey || event.metaKey || event.altKey;
  const link = typing ? null : document.querySelectorAll("nav a")[Number(event.key) - 1];
  if (link) location.hash = link.getAttribute("href");
});
addEventListener("input", (event) => {
  if (event.target.id !== "filter") return;
  state.filter = event.target.value.trim().toLowerCase();
  urged = true;
  draw();
});
// What changes without the fleet changing: round trips, clocks, and who was heard when.
setInterval(() => {
  if (route().name === "peers" && !document.hidden) draw();
}, 2000);

draw();
listen();
