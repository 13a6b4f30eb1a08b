// The search field and the filter: items added to the query or subtracted from it, uploaded pictures, the condition.

import { ROOT, sessionId, state, stored } from "./marks.js";
import { t } from "./texts.js";
import { resize } from "./window.js";

const $ = (id) => document.getElementById(id);
let warn = () => {};

export function begin(told) {
  warn = told;
}

// After new results: shows the query and the filter as the server read them, unless the user is typing.
export function setUp() {
  const { query, where } = $("grid").dataset;
  if (query && document.activeElement !== $("q")) $("q").value = query;
  const { named } = $("grid").dataset;
  $("session-name").textContent = named;
  $("to-sessions").ariaLabel = named ? t("sessions-named", { name: named }) : t("sessions");
  $("size").textContent = $("grid").dataset.size;
  $("applied").value = where;
  if (document.activeElement !== $("where")) {
    $("where").value = where;
    $("where-told").replaceChildren();
  }
  $("filter").classList.toggle("on", Boolean(where));
}

const submit = () => $("q").form.requestSubmit();

// What is wrong with a query is told until the next one is typed.
$("q").addEventListener("input", () => $("search-told").replaceChildren());

export function searchFor(name) {
  $("q").value = name;
  $("search-told").replaceChildren();
  submit();
}

function tell(text) {
  const told = document.createElement("div");
  told.className = "alert";
  told.append(Object.assign(document.createElement("p"), { textContent: text }));
  $("search-told").replaceChildren(told);
}

// A new idea

let continued = false; // whether the query that is sent now continues the last one

// Returns whether a query has nothing of the last one while there are marks, which are for the last one.
function isNewIdea(query) {
  const [now, before] = [query, $("grid").dataset.asked].map((text) => text.trim().toLowerCase());
  const { positive, negative } = state();
  return positive + negative > 0 && before !== "" && !now.includes(before) && !before.includes(now);
}

// Begins a session without marks, at once with a query if there is one.
export async function newSearch(query = "") {
  await stored();
  htmx.ajax("POST", `${ROOT}/sessions/new`, { values: { q: query }, swap: "none" });
}

// Before a new idea is searched for, asks whether the marks are to be kept.
let asked = null; // the query that waits for the answer, and the function that sends it

document.addEventListener("htmx:confirm", (event) => {
  if (event.detail.elt !== $("q").form) return;
  const query = $("q").value;
  if (continued || !isNewIdea(query)) return (continued = false);
  event.preventDefault();
  const { positive, negative } = state();
  const count = positive + negative;
  const before = $("grid").dataset.asked.replace(/picture:\w+/g, t("your-picture"));
  $("ask-new-marks").textContent = t("ask-new-marks", { count, query: before });
  $("ask-new-keep").textContent = t("ask-new-keep", { count });
  asked = { query, send: () => event.detail.issueRequest(true) };
  $("ask-new").returnValue = "";
  $("ask-new").showModal();
});

// The browser reports that a dialog was closed later than it closes it: by then the dialog may be open again.
$("ask-new").addEventListener("close", () => {
  if ($("ask-new").open) return;
  const { query, send } = asked;
  if ($("ask-new").returnValue === "new") newSearch(query);
  else if ($("ask-new").returnValue === "keep") send();
  else $("q").focus();
});

// Adds an item to the query or subtracts it. An item that is in the query changes its sign.
export function combine(sign, item) {
  const terms = $("q").value.trim().split(new RegExp(`(?:^|\\s+)[+-]\\s+#${item}(?=\\s|$)|^#${item}(?=\\s|$)`));
  const rest = terms.join("").trim().replace(/^\+\s+/, "");
  $("q").value = sign === "+" && !rest ? `#${item}` : `${rest} ${sign} #${item}`.trim();
  continued = true;
  submit();
}

// The filter

// Returns whether the filter stands beside the pictures, in a wide window, instead of over them.
export const isBeside = () => matchMedia("(min-width: 84rem)").matches;

export const openFilter = () => {
  $("places").classList.add("open");
  $("filter").open = true;
  $("where").focus();
};

// Requests the list again within the filter if the server can read it; otherwise the old filter stays. A list of matches is
// found again, because a find all covers the whole catalog.
async function apply() {
  const where = $("where").value.trim();
  await htmx.ajax("GET", `${ROOT}/filter/count?where=${encodeURIComponent(where)}`, { target: "#where-told" });
  if ($("where-told").querySelector(".wrong")) return $("where").focus();
  if (!isBeside()) $("filter").open = false;
  $("applied").value = where;
  const { address, kind } = $("grid").dataset;
  if (["matches", "suggest", "audit", "map"].includes(kind)) return $("find").click();
  const to = new URL(address, location.href);
  to.searchParams.delete("where");
  if (where) to.searchParams.set("where", where);
  htmx.ajax("GET", `${to.pathname}${to.search}`, { target: "#results", swap: "innerHTML show:window:top" });
}

export function unfilter() {
  $("where").value = "";
  apply();
}

$("filter").addEventListener("toggle", () => isBeside() && resize());

$("filter-form").addEventListener("submit", (event) => {
  event.preventDefault();
  apply();
});

// The server edits the filter: it returns the text for a chosen value, and with the count which values are on.
document.addEventListener("htmx:afterSwap", (event) => {
  if (!["where-told", "columns"].includes(event.detail.target.id)) return;
  const told = $("where-told").firstElementChild;
  if (told?.hasAttribute("data-where")) $("where").value = told.dataset.where;
  const on = new Set(JSON.parse(told?.dataset.chosen ?? "[]"));
  for (const choice of $("columns").querySelectorAll(".chip")) choice.setAttribute("aria-pressed", on.has(choice.value));
});

// Pictures

export const choosePicture = () => $("picture-file").click();

async function send(file) {
  if (!$("by-picture")) return warn(t("picture-unread"));
  $("by-picture").setAttribute("aria-busy", true);
  try {
    const headers = { Accept: "application/json", "HX-Request": "true", "X-Session": sessionId(), "Content-Type": file.type };
    const response = await fetch(`${ROOT}/pictures`, { method: "POST", headers, body: file });
    const answer = await response.json().catch(() => ({}));
    if (!response.ok) return tell(answer.error ?? t("server-said", { status: String(response.status) }));
    const before = $("q").value.trim();
    $("q").value = /(^|\s)[+-]$/.test(before) ? `${before} picture:${answer.name}` : `picture:${answer.name}`;
    submit();
  } catch {
    warn(t("picture-unsent"));
  } finally {
    $("by-picture").removeAttribute("aria-busy");
  }
}

function sendFirst(files, event) {
  const picture = [...(files ?? [])].find((file) => file.type.startsWith("image/"));
  if (!picture) return false;
  event.preventDefault();
  send(picture);
  return true;
}

$("picture-file")?.addEventListener("change", (event) => {
  const [file] = event.target.files;
  if (file && !sendFirst([file], event)) tell(t("picture-not", { file: file.name }));
  event.target.value = "";
});

document.addEventListener("paste", (event) => sendFirst(event.clipboardData?.files, event));

const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");

document.addEventListener("dragover", (event) => {
  if (!holdsFiles(event)) return;
  event.preventDefault();
  document.body.classList.add("dropping");
});

document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dropping");
});

document.addEventListener("drop", (event) => {
  document.body.classList.remove("dropping");
  if (!holdsFiles(event)) return;
  event.preventDefault();
  const picture = [...event.dataTransfer.files].some((file) => file.type.startsWith("image/"));
  if (picture) sendFirst(event.dataTransfer.files, event);
  else warn(t("picture-not-dropped"));
});
