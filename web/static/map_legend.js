// The legend of the map: how many points of each kind there are, and which kinds are shown.

import { number, t } from "./texts.js";

// root: the map in the document; points: as of map_points.js, with `counts` and `totals`; shown: whether a kind is shown.
export function draw(root, { counts, totals }, shown) {
  for (const button of root.querySelectorAll(".legend [data-kind]")) {
    const kind = Number(button.dataset.kind);
    button.parentElement.hidden = !counts[kind];
    button.querySelector("b").textContent = number(counts[kind]);
    button.setAttribute("aria-pressed", shown[kind]);
  }
  const [rest, below, ...found] = counts;
  const matches = found.reduce((a, b) => a + b, 0);
  const { matches: of, below: ranked, rest: others } = totals;
  document.getElementById("map-drawn").textContent = t("map-drawn", { matches, of, below, ranked, rest, others });
}
