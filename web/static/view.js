// How the page looks: captions under the pictures, the size of the tiles, and whether what moves the cut is shown. The browser
// remembers it.

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

export function toggleCut() {
  remember("cut", document.documentElement.classList.toggle("cut-shown") ? "1" : "");
  paintCut();
}

// The button comes anew with each list.
export function paintCut() {
  $("show-cut")?.setAttribute("aria-expanded", document.documentElement.classList.contains("cut-shown"));
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
  document.documentElement.classList.toggle("cut-shown", Boolean(remembered("cut")));
  paintCut();
  new ResizeObserver(tellFoot).observe($("bar"));
}

// What is fixed at the bottom stands above the bar, which is there on a phone.
function tellFoot() {
  const fixed = getComputedStyle($("bar")).position === "fixed";
  document.documentElement.style.setProperty("--foot", fixed ? `${$("bar").offsetHeight}px` : "0px");
}
