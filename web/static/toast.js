// One line at the bottom of the page: what was done or is being done, with a button that takes it back or cancels it.

const SHOWN_MS = 8000;
const $ = (id) => document.getElementById(id);
let timer = 0;
let shown = 0; // the number of the last toast
let whenLeft = () => {};

// hidden: called when the toast that has the focus is hidden.
export function begin(hidden) {
  whenLeft = hidden;
}

// Returns the number of the toast, by which it is hidden. stays: until then, not for a while.
export function show(text, label, action, stays = false) {
  clearTimeout(timer);
  $("toast-said").textContent = `${text} ·`;
  $("toast-do").textContent = label;
  $("toast-do").onclick = action;
  $("toast").hidden = false;
  if (!stays) timer = setTimeout(hide, SHOWN_MS);
  return (shown += 1);
}

// Hides the toast of a number, unless another was shown since.
export function hide(toast = shown) {
  if (toast !== shown) return;
  if ($("toast").contains(document.activeElement)) whenLeft();
  $("toast").hidden = true;
}
