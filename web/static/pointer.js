// Long presses, which open an item large, and drags, which select items. The click that ends one of them does nothing else.

import * as grid from "./grid.js";
import * as large from "./large.js";

let band = null;
let dragged = false;

// Returns whether a click ends a drag or a long press.
export function endedDrag() {
  const ended = dragged;
  dragged = false;
  return ended;
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
