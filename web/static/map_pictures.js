// The pictures that a map draws, loaded once for each item.

import { ROOT } from "./marks.js";

const KEPT = 600;
const pictures = new Map(); // item -> Image; null while it loads, and for an item without one

export const thumbnail = (item) => `${ROOT}/thumbnails/small/${item}.jpg`;

// Returns the picture of an item if it is there; else loads it, and calls `come` when it has come.
export function pictureOf(item, come = null) {
  if (!pictures.has(item) && come) {
    const picture = new Image();
    pictures.set(item, null);
    picture.onload = () => (pictures.set(item, picture), come());
    picture.src = thumbnail(item);
    if (pictures.size > KEPT) pictures.delete(pictures.keys().next().value);
  }
  return pictures.get(item) ?? null;
}
