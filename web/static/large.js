// The large view of an item: zoom, previous and next, its mark and its columns; of a frame of a video also the frames
// before and after it in time, which need not be in the list.

import * as grid from "./grid.js";
import { ROOT, labelOf, onChange } from "./marks.js";
import { t } from "./texts.js";

const FACTORS = [0, 1, 2, 4]; // 0: fit to the window; else pixels of the screen per pixel of the picture
const SWIPE_PX = 50; // from which on a touch that moves sideways goes to a neighbour
const $ = (id) => document.getElementById(id);
let item = null;
let before = ""; // what was done to the previous item
let framesTold = Promise.resolve(); // fulfilled when the frames around the item are shown
let factor = 0;
let details = false;
let entered = false; // whether the history has an entry for the open view, which Back leaves
let leaving = false; // whether that entry is being left, since the view was closed

export const isOpen = () => Boolean($("large")?.open);
export const shownItem = () => item;

// Shows the item of a tile. done: what was done just before, which is told with it.
export function open(tile, done = "") {
  if (!tile || !$("large")) return;
  show(tile, done);
  if (!isOpen()) {
    $("large").showModal();
    if (!entered) history.pushState(history.state, "");
    entered = true;
  }
  tellMark();
  $("stage").focus({ preventScroll: true });
}

export function openDetails(tile) {
  details = true;
  open(tile);
}

export function shut() {
  $("large").close();
}

function show(tile, done = "") {
  before = grid.idOf(tile) === item ? "" : done;
  grid.focusTile(tile, true);
  const data = tile.querySelector(".open").dataset;
  const title = tile.querySelector(".caption .text").textContent;
  present(grid.idOf(tile), data, title, t("large-title", { place: grid.place(tile), count: grid.length(), title }));
  const next = tile.nextElementSibling?.querySelector(".open").dataset.picture;
  if (next) {
    const ahead = new Image();
    ahead.referrerPolicy = "no-referrer";
    ahead.src = next;
  }
}

// Shows an item. data: the addresses of its picture and of its source, and its time in a video; heading: the title in its list.
function present(id, { picture: source, source: origin, time }, title, heading) {
  item = id;
  const picture = $("large-picture");
  picture.hidden = !source;
  $("large-blank").hidden = Boolean(source);
  if (source) {
    picture.src = source;
    picture.alt = title;
  } else picture.removeAttribute("src");
  for (const link of [$("large-original"), $("large-download")]) link.hidden = !source || Boolean(origin && source === origin);
  $("large-original").href = `${ROOT}/originals/${item}`;
  $("large-download").href = `${ROOT}/originals/${item}?download=1`;
  $("large-title").textContent = heading;
  $("large-source").hidden = !origin;
  if (origin) $("large-source").href = origin;
  setZoom(0);
  paint();
  tell();
  framesTold = tellFrames(Boolean(time));
}

// Says that there is no picture, where one cannot be loaded.
export function showBlank() {
  $("large-picture").hidden = true;
  $("large-blank").hidden = false;
}

function paint() {
  if (item === null) return;
  const label = labelOf(item);
  $("large").dataset.mark = label;
  $("large").querySelector(".mark.right").setAttribute("aria-pressed", label === 1);
  $("large").querySelector(".mark.wrong").setAttribute("aria-pressed", label === -1);
  paintFrames();
  tellMark();
}

// While a dialog is open, a screen reader reads only messages inside it.
function tellMark() {
  const now = t("large-now", { id: String(item), label: labelOf(item) });
  const said = before ? `${before}. ${now}` : now;
  if (isOpen() && $("large-said").textContent !== said) $("large-said").textContent = said;
}

function setZoom(to) {
  factor = to;
  const picture = $("large-picture");
  $("stage").classList.toggle("zoomed", factor > 0);
  picture.style.width = factor ? `${picture.naturalWidth * factor}px` : "";
  $("zoom-factor").textContent = t("zoom", { factor });
  if (factor) $("stage").scrollTo(($("stage").scrollWidth - $("stage").clientWidth) / 2, ($("stage").scrollHeight - $("stage").clientHeight) / 2);
}

export const zoom = () => setZoom(FACTORS[(FACTORS.indexOf(factor) + 1) % FACTORS.length]);

export function toggleDetails() {
  details = !details;
  tell();
}

// Requests the columns of the item, if they are shown.
async function tell() {
  const aside = $("details");
  aside.hidden = !details;
  $("show-details").setAttribute("aria-pressed", details);
  if (!details) return;
  const asked = item;
  aside.setAttribute("aria-busy", "true");
  const response = await fetch(`${ROOT}/items/${asked}`, { headers: { "HX-Request": "true" } }).catch(() => null);
  if (asked !== item) return;
  aside.innerHTML = response?.ok ? await response.text() : `<p>${t("no-answer")}</p>`;
  aside.removeAttribute("aria-busy");
}

export async function go(by) {
  await grid.move(by > 0 ? "ArrowRight" : "ArrowLeft");
  const tile = grid.current();
  if (isOpen() && tile) show(tile);
  $("stage").focus({ preventScroll: true });
}

// Shows the frames around the item, if it is one. Those from before stay until the answer comes, if it is among them.
async function tellFrames(isFrame) {
  const strip = $("frames");
  if (!isFrame || !frameButton(item)) strip.replaceChildren();
  strip.hidden = !strip.firstElementChild;
  paintFrames();
  if (!isFrame) return;
  const asked = item;
  const response = await fetch(`${ROOT}/items/${asked}/frames`, { headers: { "HX-Request": "true" } }).catch(() => null);
  const frames = response?.ok ? await response.text() : "";
  if (asked !== item || !frames) return;
  strip.innerHTML = frames;
  strip.hidden = false;
  paintFrames();
}

const frameButton = (id) => $("frames").querySelector(`[data-frame="${id}"]`);

function paintFrames() {
  for (const button of $("frames").querySelectorAll(".frame")) {
    button.dataset.mark = labelOf(Number(button.dataset.frame));
    button.ariaCurrent = Number(button.dataset.frame) === item ? "true" : null;
  }
}

// Goes to the previous or next frame of the video.
export async function goInTime(by) {
  const beside = () => {
    const entry = frameButton(item)?.parentElement;
    return (by > 0 ? entry?.nextElementSibling : entry?.previousElementSibling)?.firstElementChild;
  };
  if (!beside()) await framesTold;
  if (isOpen() && beside()) showFrame(beside());
}

// Shows a frame: as an item of the list if its tile is in the document, else apart from the list.
function showFrame(button) {
  const id = Number(button.dataset.frame);
  const tile = grid.byId(id);
  before = "";
  if (tile) show(tile);
  else present(id, { ...button.dataset, time: true }, button.dataset.title, button.dataset.title);
  $("stage").focus({ preventScroll: true });
}

$("frames")?.addEventListener("click", (event) => {
  const button = event.target.closest(".frame");
  if (button) showFrame(button);
});

onChange(paint);

// Dragging moves a picture that is larger than the window.
let held = null;
document.addEventListener("pointerdown", (event) => {
  if (event.target.closest?.("#stage.zoomed") && event.button === 0) held = { x: event.clientX, y: event.clientY };
});
document.addEventListener("pointermove", (event) => {
  if (!held) return;
  $("stage").scrollBy(held.x - event.clientX, held.y - event.clientY);
  held = { x: event.clientX, y: event.clientY };
});
document.addEventListener("pointerup", () => (held = null));
// A swipe goes to a neighbour, unless the picture is zoomed.
let swiped = null;
$("stage")?.addEventListener("touchstart", (event) => {
  swiped = event.touches.length === 1 && !factor ? event.touches[0].clientX : null;
}, { passive: true });
$("stage")?.addEventListener("touchend", (event) => {
  const by = swiped === null ? 0 : event.changedTouches[0].clientX - swiped;
  swiped = null;
  if (Math.abs(by) > SWIPE_PX) go(by < 0 ? 1 : -1);
});
// The browser reports that a dialog was closed later than it closes it: by then the view may be open again.
document.addEventListener("close", (event) => {
  if (event.target.id !== "large" || isOpen()) return;
  if (entered) {
    leaving = true;
    history.back();
  }
  entered = false;
  grid.focusTile(grid.byId(item) ?? grid.current());
}, true);

// Back closes the view and stays on the page; htmx would load the page again, so this listens in the capture phase.
window.addEventListener("popstate", (event) => {
  if (!leaving && !isOpen()) return;
  event.stopImmediatePropagation();
  if (leaving) return (leaving = false);
  entered = false;
  $("large").close();
}, true);
