// Keys, clicks and messages. Marks are in marks.js, the grid in grid.js over window.js, the large view in large.js, the
// search field and the filter in search.js.

import * as search from "./search.js";
import * as grid from "./grid.js";
import * as large from "./large.js";
import * as marks from "./marks.js";

const $ = (selector) => document.querySelector(selector);
const say = (text) => ($("#said").textContent = text);
const named = (ids) => (ids.length === 1 ? `#${ids[0]}` : `${ids.length.toLocaleString("en")} items`);
const WAIT_MS = 600; // from which on a request that waits for the marks is told
const TOAST_MS = 8000;
let toasting = 0;
const JUDGE_MS = 250; // from a mark to the request for what it changed
let judging = 0;
const ANSWER_MS = 2000; // the longest that keys wait for the response to an undo
const NAMED = { 1: "right", "-1": "wrong", 0: "no longer" };

// Marking

// Marks the selected items, or else the item under the cursor, and moves on; after removing a mark the cursor stays.
async function markChosen(value) {
  const held = large.isOpen() ? [large.shownItem()] : grid.selection();
  const tile = grid.current();
  const ids = held.length ? held : tile ? [grid.idOf(tile)] : [];
  marks.mark(ids, value, grid.origin());
  if (!large.isOpen() && held.length) grid.select([]);
  if (value) show(await grid.following(ids), deed({ done: { path: "mark", ids, value } }));
}

// Moves the cursor to a tile, in the large view if it is open. A button that was pressed by a key keeps the focus.
function show(tile, done) {
  if (!tile) return;
  if (large.isOpen()) large.open(tile, done);
  else grid.focusTile(tile, document.activeElement.matches("#undo:focus-visible, #redo:focus-visible"));
}

const marked = (value) => () => grid.afterMoves(() => markChosen(value));

function markRest(value) {
  const ids = grid.visible().map(grid.idOf).filter((item) => marks.labelOf(item) === 0);
  marks.mark(ids, value, grid.origin());
  if (!ids.length) say("All that is on the screen is marked");
}

// Undoes or redoes and moves the cursor to the changed item before the next key acts, but waits only ANSWER_MS.
const takeBack = (path, step) => () => grid.afterMoves(async () => {
  const late = new Promise((resolve) => setTimeout(resolve, marks.state().offline ? 0 : ANSWER_MS));
  const items = (await Promise.race([step(), late]))?.items ?? [];
  show(await grid.found(items), deed({ done: { path }, items }));
});

// Tells what was done, on the screen and to a screen reader.
marks.onChange((changed, what) => {
  if (changed.length > 200) grid.repaintAll();
  else grid.repaint(changed);
  const { positive, negative, waiting, offline } = marks.state();
  if (!$("#positive")) return;
  $("#positive").textContent = positive.toLocaleString("en");
  $("#negative").textContent = negative.toLocaleString("en");
  $("#waiting").textContent = offline && waiting ? `${waiting} to send when the server answers again` : "";
  if (what.why) warn(what.failed ? `${what.why} What you did was taken back.` : what.why);
  if (what.found) found(what.found);
  progress();
  if (what.done) $("#alert").replaceChildren();
  if (what.done) say(`${deed(what)}. ${positive} right, ${negative} wrong.`), toast(what);
});

function deed({ done, items }) {
  if (done.path === "mark") return `${named(done.ids)} marked ${NAMED[done.value]}`;
  if (done.path === "clear") return "All marks removed; undo brings them back";
  if (!items.length) return `Nothing left to ${done.path}`;
  return `${done.path === "undo" ? "Taken back" : "Brought back"}: ${named(items)}`;
}

// Tells what the marks changed of the answer: its heading, the button that finds all, and how complete it is.
function found({ new_marks, matches, since, can_undo, can_redo }) {
  $("#undo").ariaDisabled = !can_undo;
  $("#redo").ariaDisabled = !can_redo;
  newMarks(new_marks ?? "");
  if (matches === null) return;
  if ($("#to-matches")) $("#to-matches b").textContent = matches.split(" ")[0];
  if (!$("#completeness")) return;
  if ($("#grid").dataset.part === "all") $("#heading").firstChild.data = $("#heading").textContent.replace(/^\S+ match(es)?/, matches);
  if ($("#since")) $("#since").textContent = since;
  clearTimeout(judging);
  judging = setTimeout(judge, JUDGE_MS);
}

// Tells how many of the items to check or to mark are done; after the last check it is estimated anew.
function progress() {
  if (!$("#progress")) return;
  const all = grid.tiles().map(grid.idOf);
  const left = all.filter((item) => marks.labelOf(item) === 0).length;
  const { done } = $("#progress").dataset;
  const before = $("#progress").textContent;
  const text = left || !all.length ? `${all.length - left} of ${all.length} ${done}` : `All ${all.length} are ${done}`;
  $("#progress").textContent = text;
  $("#to-matches").classList.toggle("primary", left === 0);
  if (left === 0 && text !== before) press("#estimate");
}

const newMarks = (text) => ($("#new-marks").textContent = text && ` · ${text}`);

// Shows the sentence about completeness and the counts of the tabs as they are under the marks.
async function judge() {
  if (!$("#completeness")) return;
  const headers = { "HX-Request": "true", "X-Session": marks.sessionId() };
  const response = await fetch(`${marks.ROOT}/completeness/now?tier=${$("#grid").dataset.part}`, { headers }).catch(() => null);
  if (!response?.ok || !$("#completeness")) return;
  const told = new DOMParser().parseFromString(await response.text(), "text/html");
  for (const part of [".note", ".how p", ".tabs"]) {
    const [shown, now] = [$(`#completeness ${part}`), told.querySelector(`#completeness ${part}`)];
    if (part !== ".tabs") shown.textContent = now.textContent;
    else for (const count of shown?.querySelectorAll("b") ?? []) count.textContent = told.querySelector(`#${count.parentElement.id} b`).textContent;
  }
}

// Shows for a while what was done to many marks or taken back, with a button for the way back.
function toast({ done, items }) {
  const undone = done.path === "undo";
  if (awaited) return;
  if (done.path === "mark" && done.ids.length < 2) return hideToast();
  if (items && !items.length) return hideToast();
  const many = items?.length ?? done.ids?.length;
  const count = many === 1 ? "1 mark" : `${many?.toLocaleString("en")} marks`;
  const said = { undo: `Taken back: ${count}`, redo: `Brought back: ${count}`, clear: "All marks removed" };
  showToast(said[done.path] ?? deed({ done }), undone ? "redo" : "undo", undone ? DEEDS.redo : DEEDS.undo);
}

function showToast(text, label, action, stays = false) {
  clearTimeout(toasting);
  $("#toast-said").textContent = `${text} ·`;
  $("#toast-do").textContent = label;
  $("#toast-do").onclick = action;
  $("#toast").hidden = false;
  if (!stays) toasting = setTimeout(hideToast, TOAST_MS);
}

function hideToast() {
  if ($("#toast").contains(document.activeElement)) grid.focusTile(grid.current());
  $("#toast").hidden = true;
}

function warn(text) {
  const message = document.createElement("p");
  message.textContent = text;
  const close = document.createElement("button");
  close.type = "button";
  close.dataset.dismiss = "";
  close.ariaLabel = "Dismiss this message";
  close.textContent = "✕";
  const alert = document.createElement("div");
  alert.className = "alert";
  alert.append(message, close);
  $("#alert").replaceChildren(alert);
}

// Keys

function press(selector) {
  const element = typeof selector === "string" ? $(selector) : selector;
  element?.click();
}

function focusSearch() {
  const field = $("#q") ?? $("#start-id");
  field?.focus();
  field?.select();
}

function openMenu(selector) {
  const menu = $(selector);
  if (!menu) return;
  menu.open = true;
  menu.querySelector("a, button, input")?.focus();
}

function captions() {
  const on = document.documentElement.classList.toggle("captions");
  pressCaptions();
  try {
    localStorage.setItem("gpubranches:captions", on ? "1" : "");
  } catch {
    // The setting is of this page only.
  }
  grid.resize();
}

function pressCaptions() {
  const on = document.documentElement.classList.contains("captions");
  for (const button of document.querySelectorAll("[data-do=captions]")) button.setAttribute("aria-pressed", on);
}

// Adds the item under the cursor to the query, or subtracts it.
const combined = (sign) => () => grid.afterMoves(() => {
  const item = large.isOpen() ? large.shownItem() : grid.current() && grid.idOf(grid.current());
  if (item === null) return;
  if (large.isOpen()) large.shut();
  search.combine(sign, item);
});

const onTile = (action) => () => grid.afterMoves(() => grid.current() && action(grid.current()));
const DEEDS = {
  "right": marked(1), "wrong": marked(-1), "unmark": marked(0),
  "rest-wrong": () => grid.afterMoves(() => markRest(-1)), "rest-right": () => grid.afterMoves(() => markRest(1)),
  "undo": takeBack("undo", marks.undo), "redo": takeBack("redo", marks.redo), "clear": () => marks.clear(),
  "captions": captions,
  "before": () => large.go(-1), "after": () => large.go(1), "zoom": () => large.zoom(),
  "details": () => (large.isOpen() ? large.toggleDetails() : onTile(large.openDetails)()),
  "shut": () => large.shut(),
  "large": onTile((tile) => large.open(tile)),
  "keys": () => $("#keys").showModal(),
  "add": combined("+"), "subtract": combined("-"),
  "new-search": () => search.newSearch(), "picture": search.choosePicture, "unfilter": search.unfilter,
};
const KEYS = {
  "a": DEEDS.right, "+": DEEDS.right, "y": DEEDS.right, "x": DEEDS.wrong, "-": DEEDS.wrong, "n": DEEDS.wrong,
  " ": DEEDS.unmark, "0": DEEDS.unmark, "Delete": DEEDS.unmark,
  "A": DEEDS["rest-right"], "X": DEEDS["rest-wrong"],
  "u": DEEDS.undo, "i": DEEDS.details, "o": DEEDS.large, "c": DEEDS.captions, "?": DEEDS.keys,
  "f": () => press("#find"),
  "s": () => press("#suggest"),
  "k": () => press("#audit"),
  "b": () => press("#to-matches"),
  "e": () => openMenu(".export"),
  "m": onTile((tile) => press(tile.querySelector(".like"))),
  "M": DEEDS.add, "l": DEEDS.subtract, "g": search.openFilter,
  "w": onTile((tile) => press(tile.querySelector(".why"))),
  "/": focusSearch,
};
const LARGE_KEYS = {
  "a": KEYS.a, "+": KEYS.a, "y": KEYS.a, "Enter": KEYS.a, "x": KEYS.x, "-": KEYS.x, "n": KEYS.x,
  " ": KEYS[" "], "0": KEYS[" "], "Delete": KEYS[" "], "u": KEYS.u,
  "ArrowLeft": DEEDS.before, "ArrowUp": DEEDS.before, "ArrowRight": DEEDS.after, "ArrowDown": DEEDS.after,
  "M": DEEDS.add, "l": DEEDS.subtract,
  "z": DEEDS.zoom, "i": DEEDS.details, "o": DEEDS.shut,
};
const REPEATED = new Set(["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"]);

function onUndoKeys(event) {
  if (event.altKey || !(event.ctrlKey || event.metaKey) || event.key.toLowerCase() !== "z") return false;
  event.preventDefault();
  if (event.shiftKey) DEEDS.redo();
  else DEEDS.undo();
  return true;
}

function onLargeKey(event) {
  const button = event.target.closest("button");
  if (!Object.hasOwn(LARGE_KEYS, event.key) || (button && [" ", "Enter"].includes(event.key))) return;
  event.preventDefault();
  if (!event.repeat || REPEATED.has(event.key)) LARGE_KEYS[event.key]();
}

function onTyping(event, field) {
  if (event.key === "Escape" && !shutMenu(field)) grid.focusTile(grid.current());
  if (event.key === "/" && field.id === "q" && !field.value) event.preventDefault();
}

// Closes the menu around an element, and returns the focus to the button that opened it.
function shutMenu(element) {
  const menu = element.closest(".menu");
  if (!menu) return false;
  menu.open = false;
  menu.querySelector("summary").focus();
  return true;
}

function onGridKey(event) {
  const inMenu = event.target.closest(".menu");
  const inGrid = event.target.closest("#grid") || event.target === document.body || event.target.id === "results";
  if (event.key === "Escape") {
    if (!shutMenu(event.target)) grid.select([]);
  } else if (grid.isMove(event.key) && !inMenu) {
    event.preventDefault();
    grid.move(event.key, event.shiftKey);
  } else if (event.key === "Enter" && event.target.matches(".pick")) {
    event.preventDefault();
    if (!event.repeat) DEEDS.right();
  } else if (Object.hasOwn(KEYS, event.key) && (event.key !== " " || inGrid)) {
    event.preventDefault();
    if (!event.repeat) KEYS[event.key]();
  }
}

document.addEventListener("keydown", (event) => {
  if (event.isComposing) return;
  const field = event.target.closest("input:not([type=radio], [type=checkbox]), textarea, select");
  if (field) return onTyping(event, field);
  if ($("#keys").open || $("#why").open || $("#ask-new").open) return;
  if (onUndoKeys(event) || event.ctrlKey || event.metaKey || event.altKey) return;
  if (large.isOpen()) onLargeKey(event);
  else onGridKey(event);
});

// Releasing the space key would click a button that has the focus.
document.addEventListener("keyup", (event) => {
  if (event.key === " " && event.target.closest?.("#grid")) event.preventDefault();
});

// Clicks and drags

let band = null;
let dragged = false;

document.addEventListener("click", (event) => {
  if (dragged) {
    dragged = false;
    event.preventDefault();
    return;
  }
  const tile = grid.tileOf(event.target);
  const button = event.target.closest("[data-mark]:not(.tile, dialog)");
  if (button && tile) onMarkClick(event, button, tile);
  if (tile && event.target.closest(".open")) large.open(tile);
  const deed = event.target.closest("[data-do]");
  if (deed) DEEDS[deed.dataset.do]();
  if (event.target.closest("[data-dismiss]")) event.target.closest(".alert").remove();
  const instead = event.target.closest("#search-told [data-search]");
  if (instead) {
    event.preventDefault();
    search.searchFor(instead.dataset.search);
  }
  if (event.target.closest("#show-keys")) DEEDS.keys();
  for (const menu of document.querySelectorAll(".menu[open]")) {
    const used = menu.contains(event.target) && (deed || event.target.closest("a"));
    if (!menu.contains(event.target) || used) menu.open = false;
    if (used) grid.focusTile(grid.current()); // what had the focus is hidden now
  }
});

function onMarkClick(event, button, tile) {
  const item = grid.idOf(tile);
  const label = marks.labelOf(item);
  if (button.dataset.mark !== "next") {
    const value = Number(button.dataset.mark);
    return marks.mark([item], label === value ? 0 : value, grid.origin());
  }
  if (event.shiftKey) return grid.selectTo(tile);
  if (event.ctrlKey || event.metaKey) return grid.toggle(tile);
  if (grid.selection().length) grid.select([]);
  grid.focusTile(tile);
  marks.mark([item], { 0: 1, 1: -1, "-1": 0 }[label], grid.origin());
}

// A long press opens the large view; the click that may follow it marks nothing.
const LONG_MS = 500;
let pressing = null;
document.addEventListener("pointerdown", (event) => {
  const tile = grid.tileOf(event.target);
  if (event.pointerType !== "touch" || !tile) return;
  const at = { x: event.clientX, y: event.clientY };
  pressing = { at, timer: setTimeout(() => ((dragged = true), large.open(tile)), LONG_MS) };
});
document.addEventListener("pointermove", (event) => {
  if (pressing && Math.hypot(event.clientX - pressing.at.x, event.clientY - pressing.at.y) > 10) clearTimeout(pressing.timer);
});
document.addEventListener("contextmenu", (event) => {
  if (pressing && grid.tileOf(event.target)) event.preventDefault();
});

document.addEventListener("pointerdown", (event) => {
  dragged = false;
  if (event.button !== 0 || event.pointerType === "touch" || !event.target.closest?.("#grid")) return;
  band = { x: event.pageX, y: event.pageY, kept: event.ctrlKey || event.metaKey ? grid.selection() : [] };
});

document.addEventListener("pointermove", (event) => {
  if (!band || (!dragged && Math.hypot(event.pageX - band.x, event.pageY - band.y) < 8)) return;
  dragged = true;
  const box = {
    left: Math.min(band.x, event.pageX), top: Math.min(band.y, event.pageY),
    right: Math.max(band.x, event.pageX), bottom: Math.max(band.y, event.pageY),
  };
  draw(box);
  const inside = grid.tiles().filter((tile) => {
    const at = tile.getBoundingClientRect();
    const [left, top] = [at.left + window.scrollX, at.top + window.scrollY];
    return left < box.right && left + at.width > box.left && top < box.bottom && top + at.height > box.top;
  });
  grid.select([...new Set([...band.kept, ...inside.map(grid.idOf)])]);
});

function draw(box) {
  band.element ??= document.body.appendChild(Object.assign(document.createElement("div"), { className: "band" }));
  Object.assign(band.element.style, {
    left: `${box.left}px`, top: `${box.top}px`, width: `${box.right - box.left}px`, height: `${box.bottom - box.top}px`,
  });
}

for (const end of ["pointerup", "pointercancel"]) {
  document.addEventListener(end, () => {
    clearTimeout(pressing?.timer);
    pressing = null;
    band?.element?.remove();
    band = null;
  });
}

// Removes a picture that cannot be loaded, so that the blank tile under it is seen.
document.addEventListener("error", (event) => {
  if (event.target.matches?.(".pick img")) event.target.remove();
  if (event.target.id === "large-picture") large.showBlank();
}, true);

// htmx

document.addEventListener("htmx:configRequest", (event) => {
  event.detail.headers["X-Session"] = marks.sessionId();
});

// Requests that compute from the marks wait until the marks are stored. One waits at a time; the page says so, and it is
// cancelled by the user, or when the user goes on to another list.
let awaited = null;
document.addEventListener("htmx:confirm", (event) => {
  if (!/^\/(refine|next|suggest|audit|completeness)/.test(event.detail.path.slice(marks.ROOT.length)) || !marks.state().waiting) return;
  event.preventDefault();
  if (awaited?.elt === event.detail.elt) return;
  const mine = (awaited = { elt: event.detail.elt });
  const named = event.detail.elt.id === "refine" ? "Find all" : "The request";
  setTimeout(() => mine === awaited && showToast(`${named} waits for the server`, "cancel", cancelAwaited, true), WAIT_MS);
  marks.stored().then(() => {
    if (mine !== awaited) return;
    cancelAwaited();
    event.detail.issueRequest(true);
  });
});

function cancelAwaited() {
  awaited = null;
  hideToast();
}

document.addEventListener("htmx:beforeRequest", (event) => {
  if (awaited && event.detail.target.id === "results") cancelAwaited();
});

document.addEventListener("htmx:beforeRequest", (event) => {
  if (event.detail.requestConfig.path === `${marks.ROOT}/refine`) say("Finding all that match");
});

document.addEventListener("htmx:afterRequest", (event) => {
  if (event.detail.successful) $("#alert").replaceChildren(), $("#search-told").replaceChildren();
});

document.addEventListener("htmx:sendError", () => {
  warn("The server did not answer. Nothing was changed; is it still running?");
});

// The address names the session, so that tabs are independent of each other and a link can be shared.
function nameSession() {
  const url = new URL(location);
  url.searchParams.set("session", marks.sessionId());
  history.replaceState(history.state, "", url);
}

document.addEventListener("htmx:pushedIntoHistory", nameSession);

// After new results keys work at once.
document.addEventListener("htmx:afterSettle", (event) => {
  const target = event.detail.target;
  if (target.id === "why-told") $("#why").showModal();
  const idle = document.activeElement === document.body || document.activeElement.closest("#bar, #filter, .search");
  const fresh = grid.setUp();
  if (fresh) here = place();
  if (fresh) search.setUp(), newMarks($("#grid").dataset.newMarks), progress();
  if (fresh && idle) grid.focusTile(grid.tiles()[0]);
});

// A page that is loaded again, as by Back, continues at the item where it was left.
const place = () => `gpubranches:at:${location.pathname}${location.search}`;
let here = ""; // the place of the list that is shown

function remember() {
  const tile = grid.atCursor();
  try {
    if (tile) sessionStorage.setItem(here, grid.idOf(tile));
  } catch {
    // It continues at the first item.
  }
}

function goOn() {
  if (performance.getEntriesByType("navigation")[0]?.type === "navigate" || document.activeElement !== document.body) return;
  let item = null;
  try {
    item = sessionStorage.getItem(here);
  } catch {
    // It continues nowhere.
  }
  if (item) grid.focusTile(grid.byId(item) ?? grid.tiles()[0]);
}

window.addEventListener("pagehide", remember);
document.addEventListener("htmx:beforeSwap", (event) => event.detail.target.id === "results" && remember());

let scrolled = false;
window.addEventListener("scroll", () => {
  if (scrolled) return;
  scrolled = true;
  requestAnimationFrame(() => {
    scrolled = false;
    grid.fill();
  });
}, { passive: true });

let width = window.innerWidth;
window.addEventListener("resize", () => {
  if (window.innerWidth !== width) grid.resize();
  width = window.innerWidth;
});

try {
  if (localStorage.getItem("gpubranches:captions")) document.documentElement.classList.add("captions");
} catch {
  // Captions are off.
}
pressCaptions();
const count = (selector) => Number($(selector).textContent.replaceAll(",", ""));
marks.begin($("#grid").dataset.session, { positive: count("#positive"), negative: count("#negative") });
nameSession();
search.begin(warn);
grid.setUp();
search.setUp();
here = place();
goOn();
