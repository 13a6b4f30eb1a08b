// Long requests: one that takes more than a second tells its stage, and can be cancelled; the server stops it where its
// next stage begins.

import { ROOT, sessionId } from "./marks.js";
import { t } from "./texts.js";
import * as toast from "./toast.js";

const LONG_MS = 1000;
const POLL_MS = 400;
const PATHS = ["/refine", "/next"];
let running = null; // the request that is watched

const isLong = (path) => PATHS.includes(path.slice(ROOT.length));

document.addEventListener("htmx:configRequest", (event) => {
  if (!isLong(event.detail.path)) return;
  event.detail.parameters.task = crypto.getRandomValues(new Uint32Array(4)).reduce((text, part) => text + part.toString(36), "t").padEnd(8, "0");
});

document.addEventListener("htmx:beforeRequest", (event) => {
  const { path, parameters } = event.detail.requestConfig;
  if (!isLong(path)) return;
  const mine = (running = { name: parameters.task, elt: event.detail.elt });
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

const tell = (task, stage) => toast.show(t("finding", { stage }), t("cancel"), () => cancel(task), true);

function ask(task, method = "GET", ending = "") {
  const headers = { Accept: "application/json", "HX-Request": "true", "X-Session": sessionId() };
  return fetch(`${ROOT}/tasks/${task.name}${ending}`, { method, headers });
}

function cancel(task) {
  end();
  ask(task, "POST", "/cancel").catch(() => {});
  htmx.trigger(task.elt, "htmx:abort");
}

function end() {
  running = null;
  toast.hide();
}
