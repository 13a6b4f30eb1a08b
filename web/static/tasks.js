// Requests that take long. Those that compute from the marks wait until the marks are stored. A find all of more than a second
// tells its stage, and can be cancelled; the server stops it where its next stage begins.

import { ROOT, sessionId, state, stored } from "./marks.js";
import { t } from "./texts.js";
import * as toast from "./toast.js";

const WAIT_MS = 600; // from which on it is told that a request waits for the marks
const LONG_MS = 1000;
const POLL_MS = 400;
const LONG = /^\/(refine|next)$/;
const BY_MARKS = /^\/(refine|next|suggest|audit|completeness)/;
let awaited = null; // the request that waits for the marks
let running = null; // the request that is watched

const fits = (paths, path) => paths.test(path.slice(ROOT.length));

export const isAwaited = () => awaited !== null;

// One waits at a time; it is cancelled by the user, or when the user goes on to another list.
document.addEventListener("htmx:confirm", (event) => {
  if (!fits(BY_MARKS, event.detail.path) || !state().waiting) return;
  event.preventDefault();
  if (awaited?.elt === event.detail.elt) return;
  const mine = (awaited = { elt: event.detail.elt, toast: 0 });
  const tellWaiting = () => toast.show(t("awaited", { what: mine.elt.id }), t("cancel"), cancelAwaited, true);
  setTimeout(() => mine === awaited && (mine.toast = tellWaiting()), WAIT_MS);
  stored().then(() => {
    if (mine !== awaited) return;
    cancelAwaited();
    event.detail.issueRequest(true);
  });
});

function cancelAwaited() {
  toast.hide(awaited.toast);
  awaited = null;
}

document.addEventListener("htmx:configRequest", (event) => {
  if (!fits(LONG, event.detail.path)) return;
  event.detail.parameters.task = crypto.getRandomValues(new Uint32Array(4)).reduce((text, part) => text + part.toString(36), "t").padEnd(8, "0");
});

document.addEventListener("htmx:beforeRequest", (event) => {
  if (awaited && event.detail.target.id === "results") cancelAwaited();
  const { path, parameters } = event.detail.requestConfig;
  if (!fits(LONG, path)) return;
  const mine = (running = { name: parameters.task, elt: event.detail.elt, toast: 0 });
  setTimeout(() => mine === running && watch(mine), LONG_MS);
});

document.addEventListener("htmx:afterRequest", (event) => {
  if (running && event.detail.requestConfig?.parameters.task === running.name) end();
});

async function watch(task) {
  tell(task, "");
  while (task === running) {
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    const response = await ask(task).catch(() => null);
    if (task === running && response?.ok) tell(task, (await response.json()).stage);
  }
}

function tell(task, stage) {
  task.toast = toast.show(t("finding", { stage }), t("cancel"), () => cancel(task), true);
}

function ask(task, method = "GET", ending = "") {
  const headers = { Accept: "application/json", "HX-Request": "true", "X-Session": sessionId() };
  return fetch(`${ROOT}/tasks/${task.name}${ending}`, { method, headers });
}

function cancel(task) {
  if (task === running) end();
  ask(task, "POST", "/cancel").catch(() => {});
  htmx.trigger(task.elt, "htmx:abort");
}

function end() {
  toast.hide(running.toast);
  running = null;
}
