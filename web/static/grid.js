// The tiles of the grid: the cursor, which keys act on, its moves, the selection, and what a tile shows.

import { isWaiting, labelOf } from "./marks.js";
import { t } from "./texts.js";
import { bringBack, chunkOf, idOf, last, numberOf, open, tiles } from "./window.js";

export { fill, idOf, length, resize, setFactor, tiles } from "./window.js";

const SELECTED_MOST = 5000;

let cursor = null; // id of the tile under the cursor
let anchor = null; // id where the selection began
const selected = new Set();

export const tileOf = (element) => element?.closest?.(".tile");
export const origin = () => document.getElementById("grid").dataset.origin;
export const selection = () => [...selected];
export const byId = (item) => document.getElementById(`tile-${item}`);
export const place = (tile) => Number(tile.getAttribute("aria-posinset"));

// If the tile under the cursor was scrolled away, the cursor moves to the top of the screen.
export function current() {
  const held = tileOf(document.activeElement) ?? (cursor === null ? null : byId(cursor));
  return held ?? visible()[0] ?? tiles()[0] ?? null;
}

// Returns the tile under the cursor, null if the cursor was not moved yet or its tile was scrolled away.
export const atCursor = () => (cursor === null ? null : byId(cursor));

// Attaches to the grid in the document.
export function setUp() {
  if (!open(paint)) return false;
  cursor = null;
  select([]);
  return true;
}

// Shows whether a tile is marked, waiting to be stored, and selected.
export function paint(tile) {
  const item = idOf(tile);
  const label = labelOf(item);
  const waiting = isWaiting(item);
  tile.dataset.mark = label;
  tile.classList.toggle("waiting", waiting);
  tile.classList.toggle("selected", selected.has(item));
  tile.querySelector(".mark.right").setAttribute("aria-pressed", label === 1);
  tile.querySelector(".mark.wrong").setAttribute("aria-pressed", label === -1);
  const words = [t("mark-state", { label }), waiting && t("mark-state.waiting"), selected.has(item) && t("mark-state.selected")].filter(Boolean);
  document.getElementById(`state-${item}`).textContent = words.join(", ");
}

export function repaint(items) {
  for (const item of items) {
    const tile = byId(item);
    if (tile) paint(tile);
  }
}

export const repaintAll = () => tiles().forEach(paint);

// Moves

async function beside(tile, by) {
  let chunk = tile.parentElement;
  let next = by > 0 ? tile.nextElementSibling : tile.previousElementSibling;
  for (let number = numberOf(chunk) + by; !next && number >= 0 && number <= last(); number += by) {
    chunk = await chunkOf(number);
    if (!chunk) return null;
    next = by > 0 ? chunk.firstElementChild : chunk.lastElementChild;
  }
  return next;
}

// Returns the tile `by` rows away whose middle is nearest.
async function vertically(tile, by) {
  const middle = (other) => other.offsetLeft + other.offsetWidth / 2;
  const sign = Math.sign(by);
  let here = tile;
  for (let rows = Math.abs(by); rows > 0; rows -= 1) {
    let next = here;
    while (next && next.offsetTop === here.offsetTop) next = await beside(next, sign);
    if (!next) break;
    let best = next;
    for (const other of next.parentElement.children) {
      const nearer = Math.abs(middle(other) - middle(tile)) < Math.abs(middle(best) - middle(tile));
      if (other.offsetTop === next.offsetTop && nearer) best = other;
    }
    here = best;
  }
  return here;
}

async function edge(number, final) {
  const chunk = await chunkOf(number);
  return final ? chunk?.lastElementChild : chunk?.firstElementChild;
}

function rowsOnScreen(tile) {
  return Math.max(1, Math.floor((footTop() - headHeight()) / (tile.offsetHeight + 8)) - 1);
}

// Returns the visible part of the grid: below the header and above the bar, both of which may cover it.
function headHeight() {
  const head = document.querySelector(".top");
  return getComputedStyle(head).position === "sticky" ? head.offsetHeight : 0;
}

function footTop() {
  const bar = document.getElementById("bar");
  return getComputedStyle(bar).position === "fixed" ? bar.getBoundingClientRect().top : window.innerHeight;
}

const MOVES = {
  ArrowLeft: (tile) => beside(tile, -1),
  ArrowRight: (tile) => beside(tile, 1),
  ArrowUp: (tile) => vertically(tile, -1),
  ArrowDown: (tile) => vertically(tile, 1),
  PageUp: (tile) => vertically(tile, -rowsOnScreen(tile)),
  PageDown: (tile) => vertically(tile, rowsOnScreen(tile)),
  Home: () => edge(0, false),
  End: () => edge(last(), true),
};
export const isMove = (key) => Object.hasOwn(MOVES, key);

// Moves, and what follows them, run one after the other, however fast keys are pressed.
let moving = Promise.resolve();
export function afterMoves(task) {
  moving = moving.then(task).catch(() => {});
  return moving;
}

export function move(key, extend = false) {
  return afterMoves(async () => {
    const here = current();
    if (!here) return;
    const begun = tileOf(document.activeElement) || cursor !== null;
    if (begun) focusTile(here); // neighbours of a tile out of view would be removed as far away
    const there = (begun ? await MOVES[key](here) : here) ?? here;
    if (extend) anchor ??= idOf(here);
    focusTile(there);
    if (extend) select(range(anchor, idOf(there)));
    else if (selected.size) select([]);
    if (!extend) anchor = null;
  });
}

// Where to go after marking: the next unmarked tile in the document, else the next one, else the same.
export async function following(items) {
  const marked = new Set(items);
  const all = tiles();
  const here = all.findLast((tile) => marked.has(idOf(tile)));
  if (!here) return null;
  const open = all.slice(all.indexOf(here) + 1).find((tile) => labelOf(idOf(tile)) === 0);
  return open ?? (await beside(here, 1)) ?? here;
}

// Returns the first of some items that is in the document, or that can be loaded again.
export async function found(items) {
  const wanted = new Set(items);
  const here = tiles().find((tile) => wanted.has(idOf(tile)));
  if (here || !items.length) return here ?? null;
  await bringBack(items[0]);
  return byId(items[0]);
}

export function focusTile(tile, quietly = false) {
  if (!tile) return;
  for (const pick of document.querySelectorAll(".pick[tabindex='0']")) pick.tabIndex = -1;
  const pick = tile.querySelector(".pick");
  pick.tabIndex = 0;
  cursor = idOf(tile);
  if (!quietly) pick.focus({ preventScroll: true });
  const box = tile.getBoundingClientRect();
  const head = headHeight();
  if (box.top < head + 8) window.scrollBy({ top: box.top - head - 8, behavior: "instant" });
  else if (box.bottom > footTop() - 8) window.scrollBy({ top: box.bottom - footTop() + 8, behavior: "instant" });
}

// Selecting

function range(from, to) {
  const all = tiles().map(idOf);
  const [a, b] = [all.indexOf(from), all.indexOf(to)];
  if (a < 0) return [...new Set([...selected, to])]; // it began on a tile that was removed since
  return all.slice(Math.min(a, b), Math.max(a, b) + 1);
}

export function select(items) {
  const before = [...selected];
  selected.clear();
  for (const item of items.slice(0, SELECTED_MOST)) selected.add(item);
  if (!selected.size) anchor = null;
  repaint(new Set([...before, ...selected]));
  const said = document.getElementById("said");
  if (said && (selected.size || before.length)) said.textContent = t("selected", { count: selected.size });
}

export function selectTo(tile) {
  anchor ??= cursor ?? idOf(tile);
  focusTile(tile);
  select(range(anchor, idOf(tile)));
}

export function toggle(tile) {
  const item = idOf(tile);
  focusTile(tile);
  select(selected.has(item) ? selection().filter((other) => other !== item) : [...selected, item]);
  anchor = item;
}

export function visible() {
  const [head, foot] = [headHeight(), footTop()];
  return tiles().filter((tile) => {
    const box = tile.getBoundingClientRect();
    return box.bottom > head && box.top < foot;
  });
}
