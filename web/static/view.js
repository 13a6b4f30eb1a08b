// How the grid looks: captions under the pictures and the size of the tiles, both remembered by the browser.

import * as grid from "./grid.js";

const STEP = 1.15; // of the height of a row, for one step of the slider
const $ = (id) => document.getElementById(id);

function remembered(name) {
  try {
    return localStorage.getItem(`gpubranches:${name}`) ?? "";
  } catch {
    return "";
  }
}

function remember(name, value) {
  try {
    localStorage.setItem(`gpubranches:${name}`, value);
  } catch {
    // The setting is of this page only.
  }
}

export function toggleCaptions() {
  const on = document.documentElement.classList.toggle("captions");
  $("captions").setAttribute("aria-pressed", on);
  remember("captions", on ? "1" : "");
  grid.resize();
}

// Makes tiles larger or smaller by a step of the slider.
export function resizeBy(steps) {
  $("tile-size").valueAsNumber += steps;
  setSize();
}

function setSize() {
  const steps = $("tile-size").valueAsNumber;
  remember("size", steps || "");
  grid.setFactor(STEP ** steps);
  grid.resize();
}

export function begin() {
  document.documentElement.classList.toggle("captions", Boolean(remembered("captions")));
  $("captions").setAttribute("aria-pressed", Boolean(remembered("captions")));
  $("tile-size").value = Number(remembered("size")) || 0;
  grid.setFactor(STEP ** $("tile-size").valueAsNumber);
  $("tile-size").addEventListener("input", setSize);
}
