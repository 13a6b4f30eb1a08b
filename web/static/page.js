// Keys, clicks and messages. Marks are in marks.js, the grid in grid.js over window.js, how it looks in view.js, the large
// view in large.js, the map in map.js, the search field and the filter in search.js, the next steps in steps.js, long
// requests in tasks.js, long presses and drags in pointer.js, where a page goes on in place.js.

import * as search from "./search.js";
import * as grid from "./grid.js";
import * as large from "./large.js";
import * as map from "./map.js";
import * as marks from "./marks.js";
import * as pointer from "./pointer.js";
import * as place from "./place.js";
import * as steps from "./steps.js";
import { isAwaited } from "./tasks.js";
import { number, t } from "./texts.js";
import * as toast from "./toast.js";
import * as view from "./view.js";

const $ = (selector) => document.querySelector(selector);
const say = (text) => ($("#said").textContent = text);
const ANSWER_MS = 2000; // the longest that keys wait for the response to an undo

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
  if (!ids.length) say(t("nothing-unmarked"));
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
  $("#positive").textContent = number(positive);
  $("#negative").textContent = number(negative);
  $("#waiting").textContent = offline && waiting ? t("waiting", { count: waiting }) : "";
  if (what.why) warn(what.failed ? t("refused", { why: what.why }) : what.why);
  if (what.found) undoable(what.found), steps.found(what.found);
  steps.update();
  if (what.done) $("#alert").replaceChildren();
  if (what.done) say(t("deed-counts", { deed: deed(what), positive, negative })), tellDeed(what);
});

function deed({ done, items }) {
  const ids = items ?? done.ids ?? [];
  const [count, id, nothing] = [ids.length, String(ids[0]), items && !items.length ? "yes" : "no"];
  if (done.path === "mark") return t("marked", { count, id, value: done.value });
  if (done.path === "clear") return t("cleared");
  return t("taken-back", { path: done.path, count, id, nothing });
}

function undoable({ can_undo, can_redo }) {
  $("#undo").ariaDisabled = !can_undo;
  $("#redo").ariaDisabled = !can_redo;
}

let deedToast = 0;

// Shows for a while what was done to many marks or taken back, with a button for the way back. A single mark needs no
// telling; it ends what was told of the deed before, which undo would no longer take back.
function tellDeed({ done, items }) {
  if (isAwaited()) return;
  if ((done.path === "mark" && done.ids.length < 2) || (items && !items.length)) return toast.hide(deedToast);
  const said = { undo: "undo", redo: "redo" }[done.path]
    ? t("taken-back-marks", { path: done.path, count: items.length })
    : deed({ done, items });
  const back = done.path === "undo" ? "redo" : "undo";
  deedToast = toast.show(said, back === "redo" ? t("redo-word") : t("undo-word"), DEEDS[back]);
}

function warn(text) {
  const message = document.createElement("p");
  message.textContent = text;
  const close = document.createElement("button");
  close.type = "button";
  close.dataset.dismiss = "";
  close.ariaLabel = t("dismiss");
  close.textContent = "✕";
  const alert = document.createElement("div");
  alert.className = "alert";
  alert.append(message, close);
  $("#alert").replaceChildren(alert);
}

// Keys

const press = (element) => element?.click();

let hint = 0; // the toast that tells where a key works

// Presses a button of the matches; where it is missing, tells where it is.
function pressThere(selector) {
  const answered = $("#steps").dataset.answered !== undefined;
  if ($(selector)) $(selector).click();
  else if (answered) hint = toast.show(t("key-of-matches"), t("key-to-matches"), () => press($("#to-matches")));
  else hint = toast.show(t("key-of-answer"), t("find-all"), () => press($("#find")));
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

// Shows or hides the buttons that have no room on a phone.
function unfold(button) {
  button.ariaExpanded = document.getElementById(button.getAttribute("aria-controls")).classList.toggle("open");
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
  "captions": view.toggleCaptions, "cut": view.toggleCut, "unfold": unfold,
  "before": () => large.go(-1), "after": () => large.go(1), "frame-before": () => large.goInTime(-1), "frame-after": () => large.goInTime(1),
  "zoom": () => large.zoom(),
  "details": () => (large.isOpen() ? large.toggleDetails() : onTile(large.openDetails)()),
  "shut": () => large.shut(),
  "large": onTile((tile) => large.open(tile)),
  "keys": () => $("#keys").showModal(),
  "add": combined("+"), "subtract": combined("-"),
  "new-search": () => search.newSearch(), "picture": search.choosePicture, "unfilter": search.unfilter,
};
const KEYS = {
  "a": DEEDS.right, "y": DEEDS.right, "x": DEEDS.wrong, "n": DEEDS.wrong,
  "+": () => view.resizeBy(1), "-": () => view.resizeBy(-1),
  " ": DEEDS.unmark, "0": DEEDS.unmark, "Delete": DEEDS.unmark,
  "A": DEEDS["rest-right"], "X": DEEDS["rest-wrong"],
  "u": DEEDS.undo, "i": DEEDS.details, "o": DEEDS.large, "c": DEEDS.captions, "?": DEEDS.keys,
  "f": () => press($("#find")), "b": () => press($("#to-matches")), "t": () => pressThere("#next"),
  "s": () => pressThere("#suggest"), "k": () => pressThere("#audit"),
  "p": () => pressThere("#tab-map"), "r": () => pressThere("#review"),
  "e": () => openMenu(".export"),
  "m": onTile((tile) => press(tile.querySelector(".like"))),
  "M": DEEDS.add, "l": DEEDS.subtract, "g": search.openFilter,
  "w": onTile((tile) => press(tile.querySelector(".why"))),
  "/": focusSearch,
};
const LARGE_KEYS = {
  "a": KEYS.a, "y": KEYS.a, "Enter": KEYS.a, "x": KEYS.x, "n": KEYS.x,
  " ": KEYS[" "], "0": KEYS[" "], "Delete": KEYS[" "], "u": KEYS.u,
  "ArrowLeft": DEEDS.before, "ArrowUp": DEEDS.before, "ArrowRight": DEEDS.after, "ArrowDown": DEEDS.after,
  ",": DEEDS["frame-before"], ".": DEEDS["frame-after"],
  "M": DEEDS.add, "l": DEEDS.subtract,
  "z": DEEDS.zoom, "i": DEEDS.details, "o": DEEDS.shut,
};
const REPEATED = new Set(["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "+", "-", ",", "."]);

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
    if (!event.repeat || REPEATED.has(event.key)) KEYS[event.key]();
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

// Clicks

document.addEventListener("click", (event) => {
  if (pointer.endedDrag()) return event.preventDefault();
  const tile = grid.tileOf(event.target);
  const button = event.target.closest("[data-mark]:not(.tile, dialog)");
  if (button && tile) onMarkClick(event, button, tile);
  if (tile && event.target.closest(".open")) large.open(tile);
  const deed = event.target.closest("[data-do]");
  if (deed) DEEDS[deed.dataset.do](deed);
  if (event.target.closest("[data-dismiss]")) event.target.closest(".alert").remove();
  const instead = event.target.closest("#search-told [data-search]");
  if (instead) {
    event.preventDefault();
    search.searchFor(instead.dataset.search);
  }
  if (event.target.closest("#show-keys")) DEEDS.keys();
  for (const menu of document.querySelectorAll(".menu[open]")) {
    const used = menu.contains(event.target) && (deed || event.target.closest("a"));
    if (menu.id === "filter" && search.isBeside()) continue;
    if (menu.id === "view" && menu.contains(event.target)) continue;
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

// Removes a picture that cannot be loaded, so that the blank tile under it is seen.
document.addEventListener("error", (event) => {
  if (event.target.matches?.(".pick img, .frame img")) event.target.remove();
  if (event.target.id === "large-picture") large.showBlank();
}, true);

// htmx

document.addEventListener("htmx:configRequest", (event) => {
  event.detail.headers["X-Session"] = marks.sessionId();
});

document.addEventListener("htmx:beforeRequest", (event) => {
  if (event.detail.requestConfig.path === `${marks.ROOT}/refine`) say(t("finding-all"));
});

document.addEventListener("htmx:afterRequest", (event) => {
  if (!event.detail.successful || event.detail.target.id === "where-told") return; // counts answer no search
  $("#alert").replaceChildren();
  $("#search-told").replaceChildren();
});

document.addEventListener("htmx:sendError", () => {
  warn(t("no-answer"));
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
  view.paintCut();
  if (target.id === "why-told") $("#why").showModal();
  const idle = document.activeElement === document.body || document.activeElement.closest("#bar, #filter, .search");
  const fresh = grid.setUp();
  map.setUp();
  if (fresh) place.arrive(), toast.hide(hint);
  if (fresh) search.setUp(), steps.newMarks($("#grid").dataset.newMarks), steps.update();
  if (fresh && idle) grid.focusTile(grid.tiles()[0]);
});

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

// The slider of the cut shows its number while it moves.
document.addEventListener("input", (event) => {
  if (event.target.id === "lean") $("#lean-told").textContent = t("lean-value", { value: event.target.valueAsNumber });
});

const count = (selector) => Number($(selector).textContent.replace(/\D/g, ""));
toast.begin(() => grid.focusTile(grid.current()));
view.begin();
marks.begin($("#grid").dataset.session, { positive: count("#positive"), negative: count("#negative") });
nameSession();
search.begin(warn);
grid.setUp();
map.setUp();
search.setUp();
steps.update();
place.arrive();
place.goOn();
