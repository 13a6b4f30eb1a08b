// The grid: a window of chunks of tiles over a list of any length. Chunks far from the screen are taken out of the
// document and asked for again when they are near; two spacers stand for them. Rows are justified by the pictures'
// ratios, which the server names, so nothing moves when a picture arrives.

import { isWaiting, labelOf, learn, sessionId } from "./marks.js";

const NEAR = 1.5; // screens around the one that is seen for which tiles are loaded
const FAR = 2.5; // screens beyond which they are taken out
const TALLEST_PX = 8e6; // of both spacers: browsers cannot scroll much further
const SELECTED_MOST = 5000;
const STATES = { 1: "marked right", "-1": "marked wrong", 0: "not marked" };

let root = null;
let above = null;
let below = null;
let address = "";
let total = 0;
let page = 1;
let unit = 1; // height that a spacer gives to a chunk, px
let filling = false;
let generation = 0;
let cursor = null; // id of the tile that keys act on
let anchor = null; // id where a selection began
const selected = new Set();

export const tileOf = (element) => element?.closest?.(".tile");
export const origin = () => root?.dataset.origin ?? "user";
export const length = () => total;
export const selection = () => [...selected];
export const byId = (item) => document.getElementById(`tile-${item}`);
const chunks = () => [...root.querySelectorAll(".chunk")];
const numberOf = (chunk) => Math.round(Number(chunk.dataset.offset) / page);
const last = () => Math.max(0, Math.ceil(total / page) - 1);
const tilesOf = (chunk) => [...chunk.children];
export const tiles = () => (root ? chunks().flatMap(tilesOf) : []);
export const idOf = (tile) => Number(tile.dataset.id);
export const place = (tile) => Number(tile.getAttribute("aria-posinset"));

export function current() {
  return tileOf(document.activeElement) ?? (cursor === null ? null : byId(cursor)) ?? tiles()[0] ?? null;
}

// Takes over the grid that is in the document now.
export function setUp() {
  const found = document.getElementById("grid");
  if (!found || found === root) return false;
  root = found;
  generation += 1;
  filling = false;
  address = root.dataset.address;
  total = Number(root.dataset.total);
  page = Number(root.dataset.page);
  cursor = anchor = null;
  selected.clear();
  above = spacer();
  below = spacer();
  root.prepend(above);
  root.append(below);
  for (const chunk of chunks()) dress(chunk);
  measure();
  fill();
  return true;
}

function spacer() {
  const element = document.createElement("div");
  element.className = "spacer";
  return element;
}

function measure() {
  const some = chunks()[0];
  const whole = some ? (some.offsetHeight * page) / Math.max(1, some.children.length) : 1;
  unit = Math.max(1, Math.min(whole, TALLEST_PX / (last() + 1)));
  stretch();
}

function stretch() {
  const loaded = chunks();
  if (!loaded.length) return;
  above.style.height = `${numberOf(loaded[0]) * unit}px`;
  below.style.height = `${(last() - numberOf(loaded.at(-1))) * unit}px`;
}

function dress(chunk) {
  for (const image of chunk.querySelectorAll(".pick img")) if (image.complete && !image.naturalWidth) image.remove();
  justify(chunk);
  for (const tile of tilesOf(chunk)) {
    learn(idOf(tile), Number(tile.dataset.mark));
    paint(tile);
  }
  htmx.process(chunk);
}

// Cuts a chunk into rows of nearly the same height, each as wide as the grid; the end of the list may be narrower.
function justify(chunk) {
  const all = tilesOf(chunk);
  const style = getComputedStyle(root);
  const { width } = root.getBoundingClientRect();
  const gap = parseFloat(style.columnGap) || 0;
  const wanted = parseFloat(style.getPropertyValue("--row")) || 170;
  const ratios = all.map((tile) => Math.min(2.6, Math.max(0.6, Number(tile.dataset.ratio) || 1)));
  const ending = numberOf(chunk) === last();
  const sum = ratios.reduce((a, b) => a + b, 0);
  const count = Math.max(1, Math.round((sum * (wanted + gap)) / (width + gap)));
  let start = 0;
  let done = 0;
  for (let row = 1; row <= count && start < all.length; row += 1) {
    let end = start;
    let inside = 0;
    while (end < all.length && (end === start || row === count || done + inside + ratios[end] / 2 <= (sum * row) / count)) {
      inside += ratios[end];
      end += 1;
    }
    done += inside;
    const height = Math.min(wanted * (ending ? 1.35 : 2.5), (width - gap * (end - start - 1)) / inside);
    for (let at = start; at < end; at += 1) {
      all[at].style.width = `${Math.floor(height * ratios[at] * 64) / 64}px`;
      all[at].style.setProperty("--height", `${Math.floor(height)}px`);
    }
    start = end;
  }
}

// Shows on a tile what is marked, waiting and selected.
export function paint(tile) {
  const item = idOf(tile);
  const label = labelOf(item);
  const waiting = isWaiting(item);
  tile.dataset.mark = label;
  tile.classList.toggle("waiting", waiting);
  tile.classList.toggle("selected", selected.has(item));
  tile.querySelector(".mark.right").setAttribute("aria-pressed", label === 1);
  tile.querySelector(".mark.wrong").setAttribute("aria-pressed", label === -1);
  const words = [STATES[label], waiting && "waiting for the server", selected.has(item) && "selected"].filter(Boolean);
  document.getElementById(`state-${item}`).textContent = words.join(", ");
}

export function repaint(items) {
  for (const item of items) {
    const tile = byId(item);
    if (tile) paint(tile);
  }
}

export const repaintAll = () => tiles().forEach(paint);

// The window

async function fetchChunk(number) {
  const mine = generation;
  const headers = { "HX-Request": "true", "X-Session": sessionId() };
  const response = await fetch(`${address}${address.includes("?") ? "&" : "?"}offset=${number * page}`, { headers });
  if (!response.ok) throw new Error(`chunk ${number}: ${response.status}`);
  const holder = document.createElement("template");
  holder.innerHTML = await response.text();
  const chunk = holder.content.querySelector(".chunk");
  if (mine !== generation) return null;
  if (Number(chunk.dataset.found) !== total) {
    generation += 1;
    htmx.ajax("GET", address, { target: "#results", swap: "innerHTML" }); // the list is another one by now
    return null;
  }
  return document.importNode(chunk, true);
}

// Does something to the grid while what is on the screen stays where it is.
function steadily(change) {
  const kept = chunks().find((chunk) => chunk.getBoundingClientRect().bottom > 0) ?? chunks()[0];
  const before = kept?.getBoundingClientRect().top;
  change();
  if (kept?.isConnected) {
    const moved = kept.getBoundingClientRect().top - before;
    if (Math.abs(moved) >= 1) window.scrollBy({ top: moved, behavior: "instant" });
  }
}

async function add(number) {
  const chunk = await fetchChunk(number);
  if (!chunk) return false;
  const loaded = chunks();
  const next = loaded.find((other) => numberOf(other) > number);
  if (loaded.some((other) => numberOf(other) === number)) return true;
  steadily(() => {
    (next ?? below).before(chunk);
    dress(chunk);
    stretch();
  });
  return true;
}

async function replaceAll(number) {
  const chunk = await fetchChunk(number);
  if (!chunk) return false;
  for (const other of chunks()) other.remove();
  below.before(chunk);
  dress(chunk);
  stretch();
  return true;
}

function drop(chunk) {
  steadily(() => {
    chunk.remove();
    stretch();
  });
}

// The chunk that a place in a spacer stands for.
function numberAt(y) {
  const loaded = chunks();
  const top = above.getBoundingClientRect().top;
  const bottom = below.getBoundingClientRect().top;
  const number = y < bottom ? (y - top) / unit : numberOf(loaded.at(-1)) + 1 + (y - bottom) / unit;
  return Math.min(last(), Math.max(0, Math.floor(number)));
}

async function step() {
  const loaded = chunks();
  if (!loaded.length || !address) return false;
  const view = window.innerHeight;
  const first = loaded[0];
  const final = loaded.at(-1);
  const top = first.getBoundingClientRect().top;
  const bottom = final.getBoundingClientRect().bottom;
  if (bottom < -NEAR * view || top > (1 + NEAR) * view) return replaceAll(numberAt(view / 2));
  if (loaded.length > 1 && first.getBoundingClientRect().bottom < -FAR * view) return drop(first), true;
  if (loaded.length > 1 && final.getBoundingClientRect().top > (1 + FAR) * view) return drop(final), true;
  if (numberOf(final) < last() && bottom < (1 + NEAR) * view) return add(numberOf(final) + 1);
  if (numberOf(first) > 0 && top > -NEAR * view) return add(numberOf(first) - 1);
  return false;
}

// What changes which chunks are there is done one after the other.
let work = Promise.resolve();
function alone(task) {
  const done = work.then(task);
  work = done.catch(() => {});
  return done;
}

// Loads and drops chunks until the window fits the screen.
export function fill() {
  if (!root || filling) return;
  filling = true;
  const mine = generation;
  root.setAttribute("aria-busy", "true");
  const more = async () => {
    if (mine !== generation) return;
    if (await alone(step)) return more();
  };
  more()
    .catch(() => setTimeout(fill, 2000)) // the server does not answer; scrolling tries again, too
    .finally(() => {
      if (mine !== generation) return;
      root.removeAttribute("aria-busy");
      filling = false;
    });
}

// Brings a chunk into the document and returns it; null if it cannot be had.
async function chunkOf(number) {
  const find = () => chunks().find((chunk) => numberOf(chunk) === number);
  if (number < 0 || number > last()) return null;
  if (find()) return find();
  await alone(async () => {
    const loaded = chunks().map(numberOf);
    if (loaded.includes(number)) return;
    if (loaded.includes(number - 1) || loaded.includes(number + 1)) await add(number);
    else if (await replaceAll(number)) find().scrollIntoView({ behavior: "instant" }); // or it would be taken out as far away
  }).catch(() => {});
  return find() ?? null;
}

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

// The tile in the next row whose middle is nearest; `by` rows of it away.
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
  return Math.max(1, Math.floor((window.innerHeight - headHeight()) / (tile.offsetHeight + 8)) - 1);
}

function headHeight() {
  const head = document.querySelector(".top");
  return getComputedStyle(head).position === "sticky" ? head.offsetHeight : 0;
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

// The cursor may be on a tile that was scrolled away: what is in the middle of the screen then takes its place.
function nearCursor() {
  const held = tileOf(document.activeElement) ?? (cursor === null ? null : byId(cursor));
  return held ?? visible()[0] ?? tiles()[0] ?? null;
}

// Moves and what is done at their end come one after the other, however fast the keys are pressed.
let moving = Promise.resolve();
export function afterMoves(task) {
  moving = moving.then(task).catch(() => {});
  return moving;
}

export function move(key, extend = false) {
  return afterMoves(async () => {
    const here = nearCursor();
    if (!here) return;
    const begun = tileOf(document.activeElement) || cursor !== null;
    if (begun) focusTile(here); // what is beside a tile that is not seen would be taken out as far away
    const there = (begun ? await MOVES[key](here) : here) ?? here;
    if (extend) anchor ??= idOf(here);
    focusTile(there);
    if (extend) select(range(anchor, idOf(there)));
    else if (selected.size) select([]);
    if (!extend) anchor = null;
  });
}

export function focusTile(tile, quietly = false) {
  if (!tile) return;
  for (const pick of root.querySelectorAll(".pick[tabindex='0']")) pick.tabIndex = -1;
  const pick = tile.querySelector(".pick");
  pick.tabIndex = 0;
  cursor = idOf(tile);
  if (!quietly) pick.focus({ preventScroll: true });
  const box = tile.getBoundingClientRect();
  const head = headHeight();
  if (box.top < head + 8) window.scrollBy({ top: box.top - head - 8, behavior: "instant" });
  else if (box.bottom > window.innerHeight - 8) window.scrollBy({ top: box.bottom - window.innerHeight + 8, behavior: "instant" });
}

// Selecting

function range(from, to) {
  const all = tiles().map(idOf);
  const [a, b] = [all.indexOf(from), all.indexOf(to)];
  if (a < 0) return [...new Set([...selected, to])]; // it began on a tile that is out of the document by now
  return all.slice(Math.min(a, b), Math.max(a, b) + 1);
}

export function select(items) {
  const before = [...selected];
  selected.clear();
  for (const item of items.slice(0, SELECTED_MOST)) selected.add(item);
  if (!selected.size) anchor = null;
  repaint(new Set([...before, ...selected]));
  const said = document.getElementById("said");
  if (said && (selected.size || before.length)) said.textContent = selected.size ? `${selected.size} selected` : "Nothing selected";
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
  const head = headHeight();
  return tiles().filter((tile) => {
    const box = tile.getBoundingClientRect();
    return box.bottom > head && box.top < window.innerHeight;
  });
}

// Keeps the rows as they should be in a window of another size, and the tile at hand in view.
export function resize() {
  if (!root) return;
  steadily(() => {
    chunks().forEach(justify);
    measure();
  });
  fill();
}
