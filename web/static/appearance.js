// The theme and the language that a user chooses. Cookies hold them, so that the server sends each page as it was chosen; a
// script that changed a page once it is there would let it be seen in the other theme first.

const root = document.documentElement;
const YEAR_S = 365 * 86400;

document.addEventListener("change", ({ target }) => {
  const cookie = target.dataset.cookie;
  if (!cookie) return;
  const age = target.value ? YEAR_S : 0; // without a cookie the system's theme and the browser's language hold
  document.cookie = `${cookie}=${target.value}; path=${root.dataset.root}/; max-age=${age}; samesite=lax`;
  if (target.name === "language") return location.reload();
  root.dataset.theme = target.value;
  document.querySelector("meta[name='color-scheme']").content = target.value || "light dark";
});
