// The card of an item of the map: its picture, its caption, what it is, and buttons while it is pinned.

import { thumbnail } from "./map_pictures.js";
import { ROOT, sessionId } from "./marks.js";
import { t } from "./texts.js";

const ASK_MS = 80; // from pointing at an item to the request for its caption
const GAP_PX = 16;
const EDGE_PX = 4;
const $ = (id) => document.getElementById(id);
const captions = new Map(); // item -> text
let asking = 0;
let at = { x: 0, y: 0 };

// told: { item, kind, label, withPicture }; place: of its point on the canvas, in px; pinned: whether it stays, with buttons.
export function show({ item, kind, label, withPicture }, place, pinned) {
  const card = $("map-card");
  card.hidden = false;
  card.classList.toggle("pinned", pinned);
  if (card.dataset.item !== String(item)) begin(item, withPicture);
  $("map-told").textContent = `#${item} · ${label ? t("mark-state", { label }) : t("map-kind", { kind })}`;
  for (const button of card.querySelectorAll(".mark")) button.setAttribute("aria-pressed", label === Number(button.dataset.label));
  $("map-like").href = `${ROOT}/like?id=${item}&session=${sessionId()}`;
  put(place);
}

function begin(item, withPicture) {
  $("map-card").dataset.item = item;
  const picture = $("map-picture");
  picture.hidden = !withPicture;
  picture.onerror = () => (picture.hidden = true);
  if (withPicture) picture.src = thumbnail(item);
  clearTimeout(asking);
  $("map-caption").textContent = captions.get(item) ?? "";
  if (!captions.has(item)) asking = setTimeout(ask, ASK_MS, item);
}

// Asks for the caption of an item and shows it, if the card is still of that item.
async function ask(item) {
  const response = await fetch(`${ROOT}/items/${item}`, { headers: { "HX-Request": "true" } }).catch(() => null);
  if (!response?.ok) return;
  captions.set(item, new DOMParser().parseFromString(await response.text(), "text/html").querySelector("h3").textContent);
  if ($("map-card")?.dataset.item !== String(item)) return;
  $("map-caption").textContent = captions.get(item);
  put(at);
}

// Puts the card beside a place of the canvas, within its edges.
export function put(place) {
  at = place;
  const card = $("map-card");
  const { clientWidth, clientHeight } = card.parentElement;
  const [width, height] = [card.offsetWidth, card.offsetHeight];
  const fits = at.x + GAP_PX + width <= clientWidth;
  const within = (value, most) => `${Math.max(EDGE_PX, Math.min(most - EDGE_PX, value))}px`;
  card.style.left = within(fits ? at.x + GAP_PX : at.x - GAP_PX - width, clientWidth - width);
  card.style.top = within(at.y - height / 2, clientHeight - height);
}

export function hide() {
  if ($("map-card").contains(document.activeElement)) $("map-canvas").focus({ preventScroll: true });
  $("map-card").hidden = true;
}
