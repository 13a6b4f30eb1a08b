// The map of an answer: it moves and zooms, shows what lies under the pointer, and selects by a lasso or a rectangle. Points
// and their index are in map_points.js, what is drawn of them in map_canvas.js, gestures in map_gestures.js, the card of an
// item in map_card.js, pictures in map_pictures.js, the legend in map_legend.js. The lists have the same items for those who
// use no map.

import { drawArea, drawDisc, drawMark, drawPicture, drawRing, paint, readColours, representatives, shownBox, toMap, toScreen } from "./map_canvas.js";
import * as card from "./map_card.js";
import * as gestures from "./map_gestures.js";
import * as legend from "./map_legend.js";
import { pictureOf } from "./map_pictures.js";
import { fromText, index, nearest, toText, within } from "./map_points.js";
import { ROOT, labelOf, mark, onChange, sessionId } from "./marks.js";
import { t } from "./texts.js";

const MARKED_MOST = 5000; // items that one step marks
const HIT_PX = 12;
const PICTURES_MOST = 48;
const PICTURE_PX = 44;
const CELL_PX = 84;
const IDLE_MS = 150; // from the last move to new pictures
const ZOOM = 1.6;
const DEEPEST = 400; // times the scale at which the whole map is shown
const $ = (id) => document.getElementById(id);

let root = null; // the map in the document
let context = null;
let points = null;
let version = ""; // of the points
let owner = ""; // the session that they are of
let shown = []; // by kind
let labels = new Int8Array(0); // by point
let marked = []; // points with a mark
let chosen = new Uint8Array(0); // by point
let selection = [];
let areas = [];
let view = { width: 1, height: 1, ratio: 1, scale: 1, x: 0, y: 0 };
let whole = 1; // the scale at which the whole map is shown
let tool = "move";
let withPictures = true;
let colours = null;
let image = null;
let stale = true; // whether the points have to be painted anew
let asked = false; // whether a frame is asked for
let pictured = []; // points with pictures
let resting = 0;
let hovered = -1;
let pinned = -1;
let drawn = null; // the area that is being drawn
export const frames = { drawn: 0, work: null }; // how many were drawn, and the work of the last one that painted points

// Returns where the points lie on the canvas, in px, and the selected items; for tests.
export const screenPlaces = () => [...points.ids.keys()].map((i) => ({ item: points.ids[i], kind: points.kinds[i], ...toScreen(view, points.x[i], points.y[i]) }));
export const selectedItems = () => selection.map((point) => points.ids[point]);

// Attaches to the map in the document, if there is one that is not attached yet.
export function setUp() {
  const found = $("map");
  if (!found || found === root) return;
  root = found;
  context = $("map-canvas").getContext("2d");
  image = null;
  drawn = null;
  hovered = pinned = -1;
  listen();
  setTool(tool);
  recolourAll();
  new ResizeObserver(measure).observe($("map-stage"));
  measure();
  load();
}

async function load() {
  const wanted = root.dataset.version;
  if (!points || !wanted || wanted !== version || owner !== sessionId()) {
    root.setAttribute("aria-busy", "true");
    const mine = root;
    const headers = { "HX-Request": "true", Accept: "application/json", "X-Session": sessionId() };
    const response = await fetch(`${ROOT}/map/points`, { headers }).catch(() => null);
    if (mine !== root) return;
    root.removeAttribute("aria-busy");
    if (!response?.ok) return ($("map-state").textContent = t("map-failed"));
    take(await response.json());
  }
  const named = root.dataset.area;
  areas = version === root.dataset.version ? fromText(named) : [];
  if (named && !areas.length) $("map-state").textContent = t("map-changed");
  legend.draw(root, points, shown);
  recolour();
  choose(areas);
}

function take(told) {
  points = index(told);
  ({ version } = told);
  owner = sessionId();
  shown = told.kind_names.map(() => true);
  const counts = told.kind_names.map(() => 0);
  for (const kind of told.kinds) counts[kind] += 1;
  Object.assign(points, { counts, totals: told.totals });
  labels = new Int8Array(points.n);
  chosen = new Uint8Array(points.n);
  pictured = [];
  showWhole();
}

// What the map shows

function recolourAll() {
  colours = readColours(root);
  refresh();
}

function measure() {
  if (!root?.isConnected) return;
  const { width, height } = $("map-stage").getBoundingClientRect();
  if (!width || !height) return;
  const ratio = Math.min(2, window.devicePixelRatio || 1);
  const canvas = $("map-canvas");
  const before = whole;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  image = context.createImageData(canvas.width, canvas.height);
  Object.assign(view, { width, height, ratio });
  if (points) {
    whole = fitted();
    view.scale *= whole / before;
  }
  refresh();
}

const place = (point) => toScreen(view, points.x[point], points.y[point]);
const fitted = () => 0.86 * Math.min(view.width / points.width, view.height / points.height);

function showWhole() {
  const { bounds } = points;
  whole = fitted();
  Object.assign(view, { scale: whole, x: (bounds.left + bounds.right) / 2, y: (bounds.bottom + bounds.top) / 2 });
  refresh();
}

function zoom(by, at = { x: view.width / 2, y: view.height / 2 }) {
  if (!points) return;
  const kept = toMap(view, at.x, at.y);
  view.scale = Math.min(DEEPEST * whole, Math.max(0.5 * whole, view.scale * by));
  const moved = toMap(view, at.x, at.y);
  pan((moved.x - kept.x) * view.scale, (kept.y - moved.y) * view.scale);
}

// Moves by px of the screen; the middle stays over the map.
function pan(right, down) {
  if (!points) return;
  const { bounds } = points;
  view.x = Math.min(bounds.right, Math.max(bounds.left, view.x - right / view.scale));
  view.y = Math.min(bounds.top, Math.max(bounds.bottom, view.y + down / view.scale));
  if (pinned < 0) hideCard();
  refresh();
}

// Asks for a frame in which the points are painted anew; `overlay` for one in which they stay.
function refresh() {
  stale = true;
  overlay();
  clearTimeout(resting);
  resting = setTimeout(choosePictures, IDLE_MS);
}

function overlay() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(draw);
}

function draw() {
  asked = false;
  if (!root?.isConnected || !image || !colours) return;
  if (stale && points) {
    frames.work = paint(image, points, view, { shown, colours, chosen, skipped: labels });
  }
  if (points) {
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.putImageData(image, 0, 0);
    context.setTransform(view.ratio, 0, 0, view.ratio, 0, 0);
    if (picturesShown()) for (const point of pictured) drawPictureOf(point);
    drawMarks();
    for (const area of drawn ? [...areas, drawn] : areas) drawArea(context, area.map(([x, y]) => toScreen(view, x, y)), colours.text.chosen);
    for (const point of [hovered, pinned]) if (point >= 0) drawRing(context, place(point), colours.text.ink);
  }
  stale = false;
  frames.drawn += 1;
  if (pinned >= 0) card.put(place(pinned));
}

function drawMarks() {
  const box = shownBox(view);
  const radius = marked.length > 1000 ? 4.5 : 7;
  const [covered, corner] = [new Set(picturesShown() ? pictured : []), PICTURE_PX / 2 - 3];
  for (const point of marked) {
    const [x, y] = [points.x[point], points.y[point]];
    if (!shown[points.kinds[point]] || x < box.left || x > box.right || y < box.bottom || y > box.top) continue;
    const at = place(point);
    if (covered.has(point) && pictureOf(points.ids[point])) (at.x -= corner), (at.y -= corner); // at the corner of its picture
    else if (chosen[point]) drawDisc(context, at, radius + 3, colours.text.chosen);
    drawMark(context, at, labels[point], colours.text, radius);
  }
}

// Pictures on the map

const picturesShown = () => withPictures && root.dataset.pictures !== "";

function choosePictures() {
  if (!points || !root?.isConnected || !picturesShown()) return;
  pictured = representatives(points, view, shown, CELL_PX, PICTURES_MOST);
  overlay();
}

function drawPictureOf(point) {
  const picture = pictureOf(points.ids[point], overlay);
  if (!picture) return;
  const label = labels[point];
  const { right, wrong, chosen: selected } = colours.text;
  const edge = label ? (label > 0 ? right : wrong) : `rgb(${colours.kinds[points.kinds[point]].join(" ")})`;
  drawPicture(context, picture, place(point), PICTURE_PX, chosen[point] ? selected : edge, chosen[point] ? 4 : 2.5);
}

// Marks and the selection

function recolour(items = null) {
  if (!points) return;
  for (const point of items ? items.map((item) => points.rows.get(item)) : points.ids.keys()) {
    if (point !== undefined) labels[point] = labelOf(points.ids[point]);
  }
  marked = [];
  for (let point = 0; point < points.n; point += 1) if (labels[point]) marked.push(point);
  if (pinned >= 0) tellCard(pinned, true);
  refresh();
}

function choose(some) {
  areas = some;
  selection = within(points, areas, shown);
  chosen.fill(0);
  for (const point of selection) chosen[point] = 1;
  const count = selection.length;
  $("map-chosen").hidden = !areas.length;
  $("map-count").textContent = areas.length ? t("map-chosen", { count }) : "";
  const tooMany = count > MARKED_MOST;
  for (const button of $("map-chosen").querySelectorAll("[data-map-mark]")) button.disabled = !count || tooMany;
  $("map-list").disabled = !count;
  if (tooMany) $("map-state").textContent = t("map-too-many", { most: MARKED_MOST });
  else if (areas.length) $("map-state").textContent = "";
  refresh();
}

function markChosen(value) {
  if (!selection.length || selection.length > MARKED_MOST) return;
  mark(selection.map((point) => points.ids[point]), value, "user");
}

function list() {
  const kinds = shown.every(Boolean) ? "" : `&kinds=${shown.map((on, kind) => (on ? kind : "")).join("")}`;
  htmx.ajax("GET", `${ROOT}/map?version=${version}&area=${toText(areas)}${kinds}`, { target: "#results", swap: "innerHTML" });
}

// Whole numbers, as they are in an address.
const corner = (x, y) => {
  const at = toMap(view, x, y);
  return [Math.round(at.x), Math.round(at.y)];
};

const rectangle = (a, b) => [corner(a.x, a.y), corner(b.x, a.y), corner(b.x, b.y), corner(a.x, b.y)];

function chooseView() {
  if (points) choose([rectangle({ x: 0, y: 0 }, { x: view.width, y: view.height })]);
}

// The card of an item

function tellCard(point, pin) {
  const item = points.ids[point];
  card.show({ item, kind: points.kinds[point], label: labels[point], withPicture: Boolean(root.dataset.pictures) }, place(point), pin);
}

function hideCard() {
  if (hovered < 0 && pinned < 0) return;
  hovered = pinned = -1;
  card.hide();
  overlay();
}

function pin(point) {
  if (point < 0) return hideCard();
  pinned = point;
  tellCard(point, true);
  overlay();
}

// Returns the point under a place of the screen, -1 for none; a drawn picture stands for its point.
function hit(at) {
  if (!points) return -1;
  if (picturesShown()) {
    for (const point of [...pictured].reverse()) {
      const there = place(point);
      const reach = pictureOf(points.ids[point]) ? PICTURE_PX / 2 : 0;
      if (Math.abs(there.x - at.x) < reach && Math.abs(there.y - at.y) < reach) return point;
    }
  }
  const found = nearest(points, toMap(view, at.x, at.y), HIT_PX / view.scale, shown);
  return found.point;
}

// A card under the pointer would cover what is being drawn around, and what was chosen by it.
function hover(at) {
  if (pinned >= 0 || tool !== "move") return;
  const point = hit(at);
  if (point === hovered) return;
  if (point < 0) return hideCard();
  hovered = point;
  tellCard(point, false);
  overlay();
}

// Gestures

const ON = {
  point: hover,
  leave: () => pinned < 0 && hideCard(),
  press: (at) => pin(hit(at)),
  drag: (from, last, at) => {
    if (tool === "move") pan(at.x - last.x, at.y - last.y);
    else if (points) draft(from, at);
  },
  drop: (from, at, added) => {
    const area = drawn;
    drawn = null;
    if (area?.length > 2) choose(added ? [...areas, area] : [area]);
    else overlay();
  },
  stop: () => (drawn = null, overlay()),
  pinch: (at, right, down, factor) => (pan(right, down), zoom(factor, at)),
  wheel: zoom,
};

// Draws on the area of a rectangle or a lasso.
function draft(from, at) {
  overlay();
  if (tool === "rectangle") return (drawn = rectangle(from, at));
  drawn ??= [corner(from.x, from.y)];
  const [x, y] = corner(at.x, at.y);
  const [px, py] = drawn.at(-1);
  if (drawn.length < 400 && Math.hypot(x - px, y - py) * view.scale > 3) drawn.push([x, y]);
}

function setTool(name) {
  tool = name;
  if (pinned < 0) hideCard();
  $("map-stage").dataset.tool = name;
  for (const button of root.querySelectorAll("button[data-tool]")) button.setAttribute("aria-pressed", button.dataset.tool === name);
}

// Buttons and keys

const DEEDS = {
  "in": () => zoom(ZOOM), "out": () => zoom(1 / ZOOM), "whole": () => points && showWhole(),
  "view": chooseView, "clear": () => points && (choose([]), $("map-canvas").focus({ preventScroll: true })), "list": list,
  "pictures": () => {
    if (!root.dataset.pictures) return;
    withPictures = !withPictures;
    root.querySelector("[data-map-do=pictures]").setAttribute("aria-pressed", withPictures);
    choosePictures();
    overlay();
  },
};
const STEP_PX = 60;
const KEYS = {
  "ArrowLeft": () => pan(STEP_PX, 0), "ArrowRight": () => pan(-STEP_PX, 0), "ArrowUp": () => pan(0, STEP_PX), "ArrowDown": () => pan(0, -STEP_PX),
  "+": DEEDS.in, "=": DEEDS.in, "-": DEEDS.out, "0": DEEDS.whole, "Home": DEEDS.whole, "Enter": DEEDS.view, "v": DEEDS.view,
  "l": () => setTool("lasso"), "r": () => setTool("rectangle"), "h": () => setTool("move"), "p": DEEDS.pictures,
  "a": () => markChosen(1), "x": () => markChosen(-1), " ": () => markChosen(0), "Delete": () => markChosen(0),
  "Escape": () => (pinned >= 0 ? hideCard() : DEEDS.clear()),
};

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || !Object.hasOwn(KEYS, event.key)) return;
  if (event.target.closest("button, a") && [" ", "Enter"].includes(event.key)) return event.stopPropagation();
  event.preventDefault();
  event.stopPropagation();
  KEYS[event.key]();
}

function onClick(event) {
  const button = event.target.closest("button");
  if (!button) return;
  const { tool: named, mapDo, mapMark, kind, label } = button.dataset;
  if (named) setTool(named);
  else if (mapDo) DEEDS[mapDo]();
  else if (mapMark) markChosen(Number(mapMark));
  else if (kind) toggle(Number(kind), button);
  else if (label && pinned >= 0) mark([points.ids[pinned]], labels[pinned] === Number(label) ? 0 : Number(label), "user");
}

function listen() {
  gestures.listen($("map-canvas"), ON);
  root.addEventListener("keydown", onKey);
  root.addEventListener("click", onClick);
}

function toggle(kind, button) {
  shown[kind] = !shown[kind];
  button.setAttribute("aria-pressed", shown[kind]);
  if (pinned >= 0 && !shown[points.kinds[pinned]]) hideCard();
  choose(areas);
}

onChange((items) => root?.isConnected && recolour(items.length > 200 ? null : items));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => root?.isConnected && recolourAll());
new MutationObserver(() => root?.isConnected && recolourAll()).observe(document.documentElement, { attributes: true });
