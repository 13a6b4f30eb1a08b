// Marks by click and by key, and where the focus goes. Everything else is htmx.
"use strict";

const $ = (selector) => document.querySelector(selector);
const tileOf = (element) => element?.closest?.(".tile");
const tiles = () => [...document.querySelectorAll(".tile")];

// One queue for all marks, in the order they were made: #marker outlives the tiles it marks.
function mark(tile, value) {
  htmx.ajax("POST", "/mark", { source: "#marker", values: { id: tile.dataset.id, value, origin: $("#grid").dataset.origin } });
}

function focusTile(tile) {
  if (!tile) return;
  for (const pick of document.querySelectorAll(".pick[tabindex='0']")) pick.tabIndex = -1;
  const pick = tile.querySelector(".pick");
  pick.tabIndex = 0;
  pick.focus({ preventScroll: true });
  tile.scrollIntoView({ block: "nearest" });
}

function currentTile() {
  return tileOf(document.activeElement) ?? tileOf($(".pick[tabindex='0']"));
}

function columns(all) {
  const top = all[0].offsetTop;
  const second = all.findIndex((tile) => tile.offsetTop > top);
  return second < 0 ? all.length : second;
}

function move(key) {
  const all = tiles();
  if (!all.length) return;
  const here = all.indexOf(tileOf(document.activeElement));
  if (here < 0) return focusTile(currentTile() ?? all[0]);
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns(all), ArrowDown: columns(all) }[key];
  const there = here + step;
  if (there >= all.length && $("#more")) return $("#more").focus();
  if (all[there]) focusTile(all[there]);
}

function press(selector) {
  const element = typeof selector === "string" ? $(selector) : selector;
  element?.click();
}

function search() {
  const field = $("#q") ?? $("#start-id");
  field?.focus();
  field?.select();
}

function onTile(action) {
  return () => {
    const tile = currentTile();
    if (tile) action(tile);
  };
}

const right = onTile((tile) => mark(tile, 1));
const wrong = onTile((tile) => mark(tile, -1));
const unmark = onTile((tile) => mark(tile, 0));
const KEYS = {
  "+": right, "y": right, "-": wrong, "n": wrong, "0": unmark, "Delete": unmark,
  "u": () => press("#undo"),
  "f": () => press("#find"),
  "s": () => press("#suggest"),
  "m": onTile((tile) => press(tile.querySelector(".like"))),
  "o": onTile((tile) => press(tile.querySelector(".open"))),
  "w": onTile((tile) => press(tile.querySelector(".why"))),
  "/": search,
  "?": () => $("#keys").showModal(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || $("dialog[open]")) return;
  const typing = event.target.closest("input:not([type=radio], [type=checkbox]), textarea, select");
  if (typing) {
    if (event.key === "Escape") focusTile(currentTile() ?? tiles()[0]);
    if (event.key === "/" && typing.id === "q" && !typing.value) event.preventDefault();
    return;
  }
  const inMenu = event.target.closest(".menu");
  if (event.key === "Escape" && inMenu) {
    inMenu.open = false;
    inMenu.querySelector("summary").focus();
  } else if (event.key.startsWith("Arrow") && !event.shiftKey && !inMenu) {
    event.preventDefault();
    move(event.key);
  } else if (event.key === "Enter" && event.target.matches(".pick")) {
    event.preventDefault();
    if (!event.repeat) right();
  } else if (Object.hasOwn(KEYS, event.key) && !event.repeat) {
    event.preventDefault();
    KEYS[event.key]();
  }
});

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-mark]");
  if (button) {
    const tile = tileOf(button);
    const pressed = button.getAttribute("aria-pressed") === "true";
    mark(tile, pressed ? 0 : button.dataset.mark);
    if (button.matches(".pick")) focusTile(tile);
  }
  if (event.target.closest("[data-dismiss]")) $("#alert")?.replaceChildren();
  if (event.target.closest("#show-keys")) $("#keys").showModal();
  for (const menu of document.querySelectorAll(".menu[open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});

// A picture that cannot be loaded gives way to the blank tile under it, also one that failed before this script ran.
for (const image of document.querySelectorAll(".pick img")) {
  if (image.complete && !image.naturalWidth) image.remove();
}
document.addEventListener("error", (event) => {
  if (event.target.matches?.(".pick img")) event.target.remove();
}, true);

document.addEventListener("htmx:afterRequest", (event) => {
  if (event.detail.successful) $("#alert").replaceChildren();
});

document.addEventListener("htmx:sendError", () => {
  const message = document.createElement("p");
  message.textContent = "The server did not answer. Nothing was changed; is it still running?";
  const alert = document.createElement("div");
  alert.className = "alert";
  alert.append(message);
  $("#alert").replaceChildren(alert);
});

// After new results the keys work at once; after "show more" the first new item has the focus.
document.addEventListener("htmx:afterSettle", (event) => {
  const target = event.detail.target;
  if (target.id === "why-told") $("#why").showModal();
  const idle = document.activeElement === document.body || document.activeElement === $("#q");
  if (target.id === "results" && (idle || document.activeElement.closest("#bar"))) focusTile(tiles()[0]);
});

document.addEventListener("htmx:beforeSwap", (event) => {
  const last = event.detail.target.matches?.("li.more") ? tiles().at(-1) : null;
  if (last && document.activeElement.id === "more") {
    document.addEventListener("htmx:afterSettle", () => focusTile(last.nextElementSibling), { once: true });
  }
});
