// A page that is loaded again, as by Back, continues at the item where it was left.

import * as grid from "./grid.js";

let here = ""; // the list that is shown

export function arrive() {
  here = `gpubranches:at:${location.pathname}${location.search}`;
}

function remember() {
  const tile = grid.atCursor();
  try {
    if (tile) sessionStorage.setItem(here, grid.idOf(tile));
  } catch {
    // It continues at the first item.
  }
}

export function goOn() {
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
