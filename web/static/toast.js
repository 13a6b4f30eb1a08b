// One line at the bottom of the page: what was done or is being done, with a button that takes it back or cancels it.

const SHOWN_MS = 8000;
const $ = (id) => document.getElementById(id);
let timer = 0;
let whenLeft = () => {};

// hidden: called when the toast that has the focus is hidden. stays: until it is hidden.
export function begin(hidden) {
  whenLeft = hidden;
}

export function show(text, label, action, stays = false) {
  clearTimeout(timer);
  $("toast-said").textContent = `${text} ·`;
  $("toast-do").textContent = label;
  $("toast-do").onclick = action;
  $("toast").hidden = false;
  if (!stays) timer = setTimeout(hide, SHOWN_MS);
}

export function hide() {
  if ($("toast").contains(document.activeElement)) whenLeft();
  $("toast").hidden = true;
}
