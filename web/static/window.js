// A virtual list of any length: chunks of tiles near the screen are in the document, two spacers stand for the others. Far
// chunks are removed and requested again when they come near. Rows are justified by the pictures' ratios, which the server
// sends, so nothing moves when a picture arrives.

import { learn, sessionId } from "./marks.js";

const NEAR = 1.5; // screens above and below the visible one for which tiles are loaded
const FAR = 2.5; // screens beyond which they are removed
const TALLEST_PX = 8e6; // of both spacers: browsers cannot scroll much further

let root = null;
let above = null;
let below = null;
let address = "";
let total = 0;
let page = 1;
let unit = 1; // height of a spacer per chunk, px
let filling = false;
let generation = 0;
let factor = 1; // of the height of rows, as the user set it
let paint = () => {};
const seenIn = new Map(); // item -> number of its chunk, for all items that were in the document

export const chunks = () => (root ? [...root.querySelectorAll(".chunk")] : []);
export const numberOf = (chunk) => Math.round(Number(chunk.dataset.offset) / page);
export const last = () => Math.max(0, Math.ceil(total / page) - 1);
export const length = () => total;
const tilesOf = (chunk) => [...chunk.children];
export const tiles = () => chunks().flatMap(tilesOf);
export const idOf = (tile) => Number(tile.dataset.id);
export const setFactor = (to) => (factor = to);

// Attaches to the grid in the document; `look` shows the mark of a tile. Returns false if the grid is the same one.
export function open(look) {
  const found = document.getElementById("grid");
  if (!found || found === root) return false;
  root = found;
  paint = look;
  generation += 1;
  filling = false;
  seenIn.clear();
  address = root.dataset.address;
  total = Number(root.dataset.total);
  page = Number(root.dataset.page);
  above = spacer();
  below = spacer();
  root.prepend(above);
  root.append(below);
  for (const chunk of chunks()) dress(chunk);
  root.classList.add("laid");
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
    seenIn.set(idOf(tile), numberOf(chunk));
    learn(idOf(tile), Number(tile.dataset.mark));
    paint(tile);
  }
  htmx.process(chunk);
}

// Splits a chunk into rows of similar height, each as wide as the grid; the last row of the list may be narrower.
function justify(chunk) {
  const all = tilesOf(chunk);
  const style = getComputedStyle(root);
  const { width } = root.getBoundingClientRect();
  const gap = parseFloat(style.columnGap) || 0;
  const ratios = all.map((tile) => Math.min(2.6, Math.max(0.6, Number(tile.dataset.ratio) || 1)));
  const ending = numberOf(chunk) === last();
  const sum = ratios.reduce((a, b) => a + b, 0);
  const row = parseFloat(style.getPropertyValue("--row")) || 170;
  const wanted = (last() === 0 ? heightToFill(row, width, sum) : row) * factor;
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

// Returns the height of rows with which a list of one chunk fills the window: at least `row`, at most twice as much.
function heightToFill(row, width, sum) {
  const free = window.innerHeight - root.getBoundingClientRect().top - window.scrollY;
  const rows = Math.floor(Math.sqrt((Math.max(0, free) * sum) / width));
  return Math.min(2 * row, Math.max(row, (width * rows) / sum));
}

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
    htmx.ajax("GET", address, { target: "#results", swap: "innerHTML" }); // the list has changed on the server
    return null;
  }
  return document.importNode(chunk, true);
}

// Changes the grid without moving what is on the screen.
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

// Returns the chunk for a position in a spacer.
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

// Changes of the set of chunks run one after the other.
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
    .catch(() => setTimeout(fill, 2000)) // the server did not answer; scrolling tries again, too
    .finally(() => {
      if (mine !== generation) return;
      root.removeAttribute("aria-busy");
      filling = false;
    });
}

// Loads a chunk into the document and returns it; null if it cannot be loaded.
export async function chunkOf(number) {
  const find = () => chunks().find((chunk) => numberOf(chunk) === number);
  if (number < 0 || number > last()) return null;
  if (find()) return find();
  await alone(async () => {
    const loaded = chunks().map(numberOf);
    if (loaded.includes(number)) return;
    if (loaded.includes(number - 1) || loaded.includes(number + 1)) await add(number);
    else if (await replaceAll(number)) find().scrollIntoView({ behavior: "instant" }); // or it would be removed as far away
  }).catch(() => {});
  return find() ?? null;
}

// Loads the chunk of an item into the document, if it was there before.
export const bringBack = (item) => (seenIn.has(item) ? chunkOf(seenIn.get(item)) : null);

// Lays the rows out again after a resize, and keeps the current tile in view.
export function resize() {
  if (!root) return;
  steadily(() => {
    chunks().forEach(justify);
    measure();
  });
  fill();
}
