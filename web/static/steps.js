// The line of next steps: how much of a suggestion or a check is done, what the marks changed of the answer, and the one
// button that comes next.

import * as grid from "./grid.js";
import { ROOT, labelOf, sessionId, state } from "./marks.js";
import { number, t } from "./texts.js";

const JUDGE_MS = 250; // from a mark to the request for what it changed
const $ = (selector) => document.querySelector(selector);
let judging = 0;

// Shows what is true now: after new results, and after each mark.
export function update() {
  const left = progress();
  const { positive, negative } = state();
  $("#steps").dataset.marks = positive ? (negative ? "both" : "right") : negative ? "wrong" : "none";
  const next = nextButton(left);
  for (const button of document.querySelectorAll("[data-step]")) button.classList.toggle("primary", `#${button.id}` === next);
}

// Returns the selector of the button that comes next, "" for none. left: how many items are still to be marked.
function nextButton(left) {
  const { kind } = $("#grid").dataset;
  const { answered, reached, target } = $("#steps").dataset;
  const changed = $("#new-marks").textContent !== "";
  if (target !== undefined && kind !== "matches") return left < grid.length() ? "#next" : "";
  if (kind === "audit") return left === 0 ? "#to-matches" : "";
  if (kind === "suggest") return changed ? "#find" : "";
  if ($("#again")) return "#again";
  if (answered === undefined) return state().positive ? "#find" : kind === "home" ? "#search" : "";
  if (changed) return "#find";
  if (kind !== "matches") return "#to-matches";
  return reached === undefined ? "#next" : "#export";
}

// Tells how many of the items to check or to mark are done and returns how many are not; after the last check it is
// estimated anew.
function progress() {
  if (!$("#progress")) return null;
  const { kind } = $("#grid").dataset;
  const total = grid.length();
  const left = grid.tiles().filter((tile) => labelOf(grid.idOf(tile)) === 0).length;
  const before = $("#progress").dataset.left;
  $("#progress").dataset.left = left;
  $("#progress").textContent = t("progress", { kind, done: total - left, total, left });
  if (left === 0 && before !== undefined && before !== "0") $("#estimate")?.click();
  return left;
}

// Tells what marks changed since the last find all: on the button, in the heading, and soon in the estimate.
export function found({ new_marks, matches, total, since }) {
  newMarks(new_marks ?? "");
  if (matches === null) return;
  if ($("#to-matches b")) $("#to-matches b").textContent = number(total);
  if (!$("#completeness")) return;
  const { part, address } = $("#grid").dataset;
  if (part === "all" && !address.includes("unmarked=")) $("#heading").textContent = matches;
  if ($("#since")) $("#since").textContent = since;
  clearTimeout(judging);
  judging = setTimeout(judge, JUDGE_MS);
}

export const newMarks = (text) => ($("#new-marks").textContent = text && ` · ${text}`);

// Shows the sentence about completeness and the counts of the tabs as they are under the marks.
async function judge() {
  if (!$("#completeness")) return;
  const headers = { "HX-Request": "true", "X-Session": sessionId() };
  const response = await fetch(`${ROOT}/completeness/now?tier=${$("#grid").dataset.part}`, { headers }).catch(() => null);
  if (!response?.ok || !$("#completeness")) return;
  const told = new DOMParser().parseFromString(await response.text(), "text/html");
  for (const part of document.querySelectorAll("#completeness :is(.told, .intervals)")) {
    part.textContent = told.querySelector(`#completeness .${part.classList.item(part.classList.length - 1)}`).textContent;
  }
  for (const count of document.querySelectorAll("#completeness .tabs b")) {
    count.textContent = told.querySelector(`#${count.parentElement.id} b`).textContent;
  }
}
