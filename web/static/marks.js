// The marks of this page's session. Each mark is an event with a unique name. It is shown at once, kept in the browser's
// storage until the server has stored it, sent in order, and sent again after a failure; the server counts it once.

import { t } from "./texts.js";

const PAUSE_MS = 1000; // between two attempts while the server does not answer
const POLL_MS = 4000; // between two requests for marks of others
const UNREACHED = new Set([429, 502, 503, 504]); // from a proxy or a busy server: the event is sent again

export const ROOT = document.documentElement.dataset.root; // the prefix that a reverse proxy serves the page under, or ""

const listeners = new Set();
const confirmed = new Map(); // item -> label, as stored by the server
const counts = { positive: 0, negative: 0 };
const tab = Math.random().toString(36).slice(2);
const talk = "BroadcastChannel" in window ? new BroadcastChannel("gpubranches") : null;
let session = "";
let version = 0;
let known = false; // whether `confirmed` has all marks
let outbox = [];
let sending = false;
let offline = false;
let gone = false; // the session was deleted
let idle = [];

export const sessionId = () => session;
export const onChange = (listener) => listeners.add(listener);

// Until the server has sent all marks, those in the page hold.
export function learn(item, label) {
  if (!known && label) confirmed.set(item, label);
}

export function labelOf(item) {
  return overlay().get(item) ?? confirmed.get(item) ?? 0;
}

export function isWaiting(item) {
  return outbox.some((event) => event.ids?.includes(item));
}

export function state() {
  const shown = { ...counts, waiting: outbox.length, offline };
  for (const [item, label] of overlay()) {
    const before = confirmed.get(item) ?? 0;
    shown.positive += (label > 0) - (before > 0);
    shown.negative += (label < 0) - (before < 0);
  }
  return shown;
}

// The labels that the events in the outbox will set, as far as this tab knows.
function overlay() {
  const made = [];
  const taken = [];
  for (const event of outbox) {
    if (event.path === "mark") made.push(event), taken.splice(0);
    if (event.path === "undo" && made.length) taken.push(made.pop());
    if (event.path === "redo" && taken.length) made.push(taken.pop());
  }
  const labels = new Map();
  for (const event of made) for (const item of event.ids) labels.set(item, event.value);
  return labels;
}

export function mark(ids, value, origin) {
  if (ids.length) put({ path: "mark", ids, value, origin });
}

export const undo = () => put({ path: "undo" });
export const redo = () => put({ path: "redo" });
export const clear = () => put({ path: "clear" });

// Resolves with the server's response, however long that takes.
function put(event) {
  const name = crypto.getRandomValues(new Uint32Array(4)).reduce((text, part) => text + part.toString(36), "e");
  const answered = new Promise((resolve) => outbox.push({ ...event, name: name.padEnd(8, "0"), at: Date.now(), resolve }));
  keep();
  tell(outbox.flatMap((waiting) => waiting.ids ?? []));
  send();
  return answered;
}

// Resolves when all events are stored; requests that compute from the marks await it.
export function stored() {
  return outbox.length ? new Promise((resolve) => idle.push(resolve)) : Promise.resolve();
}

async function send() {
  if (sending) return;
  sending = true;
  while (outbox.length) {
    const event = outbox[0];
    let response, answer;
    try {
      response = await ask("POST", `${ROOT}/${event.path}`, event);
      // A server that stops may send half a response.
      answer = response.ok ? await response.json() : await response.json().catch(() => ({}));
    } catch {
      response = null;
    }
    if (!response || UNREACHED.has(response.status)) {
      if (!offline) (offline = true), tell([]);
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
      continue;
    }
    offline = false;
    outbox.shift();
    keep();
    if (response.ok) take(answer, event);
    else tell(event.ids ?? [], { failed: event, why: answer.error ?? t("server-said", { status: String(response.status) }) });
    event.resolve?.(answer);
  }
  sending = false;
  for (const resolve of idle.splice(0)) resolve();
}

function ask(method, path, event) {
  const headers = { Accept: "application/json", "HX-Request": "true", "X-Session": session };
  if (method === "GET") return fetch(`${path}?since=${version}`, { headers, signal: AbortSignal.timeout(20_000) });
  const form = new URLSearchParams({ event: event.name, since: known ? version : 0 });
  for (const item of event.ids ?? []) form.append("id", item);
  if (event.ids) form.set("value", event.value), form.set("origin", event.origin);
  return fetch(path, { method, headers, body: form, signal: AbortSignal.timeout(20_000) });
}

// Takes the marks of a response; returns the items that look different now.
function take(answer, event) {
  const items = new Set(event?.ids ?? []);
  for (const [item, label] of Object.entries(answer.marks ?? {})) {
    confirmed.set(Number(item), label);
    items.add(Number(item));
  }
  version = answer.version;
  known = true;
  counts.positive = answer.positive;
  counts.negative = answer.negative;
  const { new_marks, matches, total, since, can_undo, can_redo } = answer;
  tell([...items], { found: { new_marks, matches, total, since, can_undo, can_redo }, ...(event && { done: event, items: answer.items }) });
  if (event) talk?.postMessage(session);
}

async function look() {
  if (!session || gone || document.hidden || outbox.length) return;
  const [asked, before] = [session, version];
  try {
    const response = await ask("GET", `${ROOT}/marks`);
    const answer = await response.json();
    if (outbox.length || session !== asked || version !== before) return; // the response has the changes after `before`
    gone = response.status === 410;
    if (!response.ok) tell([], { why: answer.error });
    else if (answer.version < version) begin(session, {});
    else if (answer.version !== version || !known) take(answer);
  } catch {
    // The next poll or mark will show that the server does not answer.
  }
}

function tell(items, what = {}) {
  for (const listener of listeners) listener(items, what);
}

// Another process of the browser may have left events: they are older and are sent first.
export function begin(name, shown) {
  session = name;
  Object.assign(counts, shown);
  version = 0;
  known = false;
  confirmed.clear();
  outbox = adopt();
  keep();
  tell([]);
  if (outbox.length) send();
  else look();
}

const boxName = (owner) => `gpubranches:${session}:${owner}`;

function adopt() {
  const found = new Map();
  try {
    for (const key of Object.keys(localStorage).filter((key) => key.startsWith(boxName("")))) {
      for (const event of JSON.parse(localStorage.getItem(key))) found.set(event.name, event);
      localStorage.removeItem(key);
    }
  } catch {
    return [];
  }
  return [...found.values()].sort((a, b) => a.at - b.at);
}

function keep() {
  try {
    if (outbox.length) localStorage.setItem(boxName(tab), JSON.stringify(outbox));
    else localStorage.removeItem(boxName(tab));
  } catch {
    // Without storage, events last as long as this tab.
  }
}

window.addEventListener("online", send);
window.addEventListener("focus", look);
document.addEventListener("visibilitychange", look);
talk?.addEventListener("message", (event) => event.data === session && look());
setInterval(look, POLL_MS);
