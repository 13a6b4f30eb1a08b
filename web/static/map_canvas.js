// Paints the points of a map. Points are small discs that are blended into the pixels of one image; their radius follows from
// how many are in view, so that a frame never blends more than PIXELS_A_FRAME. Marks and pictures are drawn over them.

import { countIn, runs } from "./map_points.js";

export const PIXELS_A_FRAME = 8e5;
const RADII = [5, 4, 3.2, 2.6, 2.1, 1.7, 1.3, 1, 0.7, 0.4]; // of a disc, px of the screen
const SIZES = [1, 1.05, 1.2, 1.2, 1.2, 1.2]; // times the radius, by kind: what matches is a little larger
const ALPHAS = [0.55, 0.75, 0.95, 0.95, 0.95, 0.95];

// A view is { width, height, ratio, scale, x, y }: of the canvas in px of the screen, device pixels per px, px per unit of the
// map, and the place in the middle.
export function toScreen(view, x, y) {
  return { x: view.width / 2 + (x - view.x) * view.scale, y: view.height / 2 - (y - view.y) * view.scale };
}

export function toMap(view, x, y) {
  return { x: view.x + (x - view.width / 2) / view.scale, y: view.y - (y - view.height / 2) / view.scale };
}

// Returns what a view shows as a box of the map, with a margin in px.
export function shownBox(view, margin = 8) {
  const low = toMap(view, -margin, view.height + margin);
  const high = toMap(view, view.width + margin, -margin);
  return { left: low.x, right: high.x, bottom: low.y, top: high.y };
}

// Returns the colours that the style sheet gives a map: [red, green, blue] for points, as CSS for what is drawn over them.
export function readColours(root) {
  const probe = root.appendChild(document.createElement("i"));
  const read = (name) => {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color;
  };
  const rgb = (name) => read(name).match(/\d+/g).slice(0, 3).map(Number);
  const colours = {
    ground: rgb("map-ground"), chosen: rgb("map-chosen"),
    kinds: ["rest", "below", "borderline", "likely", "sure", "match"].map((name) => rgb(`map-${name}`)),
    text: { ground: read("map-ground"), right: read("right"), wrong: read("wrong"), chosen: read("map-chosen"), ink: read("ink") },
  };
  probe.remove();
  return colours;
}

const stamps = new Map();

// Returns the pixels of a disc around its middle: arrays dx, dy and alpha, 0 to 256; and how far it reaches.
function stamp(radius, alpha) {
  const key = `${radius.toFixed(2)} ${alpha}`;
  if (stamps.has(key)) return stamps.get(key);
  const reach = Math.ceil(radius);
  const made = { dx: [], dy: [], alpha: [], reach };
  for (let dy = -reach; dy <= reach; dy += 1) {
    for (let dx = -reach; dx <= reach; dx += 1) {
      const covered = Math.min(1, Math.max(0, radius + 0.5 - Math.hypot(dx, dy)));
      if (covered < 0.05) continue;
      made.dx.push(dx);
      made.dy.push(dy);
      made.alpha.push(Math.round(256 * alpha * covered));
    }
  }
  stamps.set(key, made);
  return made;
}

// Returns the largest radius with which `count` discs stay within the pixels of a frame.
export function radiusFor(count, ratio) {
  const fits = (radius) => count * stamp(radius * SIZES.at(-1) * ratio, 1).dx.length <= PIXELS_A_FRAME;
  const most = count > 20_000 ? 2.1 : count > 4_000 ? 2.6 : count > 600 ? 3.2 : count > 100 ? 4 : 5;
  return RADII.find((radius) => radius <= most && fits(radius)) ?? RADII.at(-1);
}

// Blends all points of the shown kinds into `image`, an ImageData of the view's size. colours: { ground, kinds, chosen } of
// [red, green, blue]; chosen: 1 for a selected point, by number; skipped: the same for points that are drawn otherwise.
// Returns the work that was done.
export function paint(image, points, view, { shown, colours, chosen, skipped }) {
  const { ratio } = view;
  const { width, height } = image;
  const pixels = new Uint32Array(image.data.buffer);
  const [red, green, blue] = colours.ground;
  pixels.fill((0xff000000 | (blue << 16) | (green << 8) | red) >>> 0);
  const box = shownBox(view);
  const radius = radiusFor(countIn(points, box, shown), ratio);
  const work = { points: 0, pixels: 0, radius };
  const scale = view.scale * ratio;
  const left = width / 2 - view.x * scale;
  const top = height / 2 + view.y * scale;
  const { order, xs, ys } = points;
  for (let kind = 0; kind < points.layers; kind += 1) {
    if (!shown[kind]) continue;
    const disc = stamp(radius * SIZES[kind] * ratio, ALPHAS[kind]);
    const plain = brush(disc, colours.kinds[kind], width);
    const marked = brush(disc, colours.chosen, width);
    runs(points, kind, box, (begin, end) => {
      for (let k = begin; k < end; k += 1) {
        const i = order[k];
        if (skipped[i]) continue;
        const x = Math.round(left + xs[k] * scale);
        const y = Math.round(top - ys[k] * scale);
        blend(pixels, width, height, x, y, chosen[i] ? marked : plain);
        work.points += 1;
        work.pixels += disc.alpha.length;
      }
    });
  }
  return work;
}

// Returns a disc in a colour, for rows of `width` pixels. Red and blue share a number, so that one product scales both.
function brush({ dx, dy, alpha, reach }, [red, green, blue], width) {
  return {
    dx, dy, reach,
    at: Int32Array.from(dx, (right, k) => dy[k] * width + right),
    ends: Int32Array.from(alpha, (a) => Math.imul((blue << 16) | red, a)),
    middles: Int32Array.from(alpha, (a) => Math.imul(green << 8, a)),
    rest: Int32Array.from(alpha, (a) => 256 - a),
  };
}

function blend(pixels, width, height, x, y, { dx, dy, reach, at, ends, middles, rest }) {
  const whole = x >= reach && y >= reach && x < width - reach && y < height - reach;
  const middle = y * width + x;
  for (let k = 0; k < at.length; k += 1) {
    if (!whole && (x + dx[k] < 0 || y + dy[k] < 0 || x + dx[k] >= width || y + dy[k] >= height)) continue;
    const below = pixels[middle + at[k]];
    const outer = (ends[k] + Math.imul(below & 0xff00ff, rest[k])) >>> 8;
    const inner = (middles[k] + Math.imul(below & 0xff00, rest[k])) >>> 8;
    pixels[middle + at[k]] = 0xff000000 | (outer & 0xff00ff) | (inner & 0xff00);
  }
}

// Draws a marked point: a disc with a check for right, a ring with a cross for wrong.
export function drawMark(context, at, label, { ground, right, wrong }, radius = 7) {
  context.lineCap = "round";
  context.beginPath();
  context.arc(at.x, at.y, radius, 0, 2 * Math.PI);
  context.fillStyle = label > 0 ? right : ground;
  context.fill();
  context.lineWidth = 1.6;
  context.strokeStyle = label > 0 ? ground : wrong;
  context.stroke();
  context.beginPath();
  const r = radius * 0.42;
  if (label > 0) {
    context.moveTo(at.x - r, at.y);
    context.lineTo(at.x - r * 0.2, at.y + r * 0.8);
    context.lineTo(at.x + r * 1.1, at.y - r * 0.8);
  } else {
    context.moveTo(at.x - r, at.y - r);
    context.lineTo(at.x + r, at.y + r);
    context.moveTo(at.x + r, at.y - r);
    context.lineTo(at.x - r, at.y + r);
  }
  context.stroke();
}

export function drawDisc(context, at, radius, colour) {
  context.beginPath();
  context.arc(at.x, at.y, radius, 0, 2 * Math.PI);
  context.fillStyle = colour;
  context.fill();
}

// Draws a ring around the point that is told of.
export function drawRing(context, at, colour) {
  context.beginPath();
  context.arc(at.x, at.y, 10, 0, 2 * Math.PI);
  context.lineWidth = 2;
  context.strokeStyle = colour;
  context.stroke();
}

// Draws a selected area. corners: places of the screen.
export function drawArea(context, corners, colour) {
  context.beginPath();
  for (const { x, y } of corners) context.lineTo(x, y);
  context.closePath();
  context.fillStyle = colour;
  context.globalAlpha = 0.1;
  context.fill("evenodd");
  context.globalAlpha = 1;
  context.setLineDash([5, 4]);
  context.lineWidth = 1.5;
  context.strokeStyle = colour;
  context.stroke();
  context.setLineDash([]);
}

// Draws the middle of a picture as a square around a place, with an edge of `thick` px.
export function drawPicture(context, picture, at, side, edge, thick) {
  const cut = Math.min(picture.naturalWidth, picture.naturalHeight);
  const [left, top] = [Math.round(at.x - side / 2), Math.round(at.y - side / 2)];
  context.save();
  context.beginPath();
  context.roundRect(left, top, side, side, 7);
  context.clip();
  context.drawImage(picture, (picture.naturalWidth - cut) / 2, (picture.naturalHeight - cut) / 2, cut, cut, left, top, side, side);
  context.restore();
  context.beginPath();
  context.roundRect(left, top, side, side, 7);
  context.lineWidth = thick;
  context.strokeStyle = edge;
  context.stroke();
}

// Chooses points whose pictures are drawn: one for each cell of about `side` px that has any, the nearest to the middle of the
// cell, a match before others; at most `most`, of the fullest cells. The cells stay with the map while it is moved.
export function representatives(points, view, shown, side, most) {
  const step = side / 2 ** Math.round(Math.log2(view.scale));
  const cells = new Map();
  const box = shownBox(view, 0);
  for (let kind = points.layers - 1; kind >= 0; kind -= 1) {
    if (!shown[kind]) continue;
    runs(points, kind, box, (begin, end) => {
      const stride = Math.ceil((end - begin) / 200); // some of many are enough
      for (let k = begin; k < end; k += stride) {
        const i = points.order[k];
        const x = points.xs[k];
        const y = points.ys[k];
        if (x < box.left || x > box.right || y < box.bottom || y > box.top) continue;
        const column = Math.floor(x / step);
        const row = Math.floor(y / step);
        const gap = (x - (column + 0.5) * step) ** 2 + (y - (row + 0.5) * step) ** 2;
        const key = column * 65_536 + row;
        const cell = cells.get(key);
        if (!cell) cells.set(key, { count: stride, point: i, gap, match: kind > 1 });
        else {
          cell.count += stride;
          if (gap < cell.gap && kind > 1 === cell.match) Object.assign(cell, { point: i, gap });
        }
      }
    });
  }
  return [...cells.values()].sort((a, b) => b.count - a.count).slice(0, most).map((cell) => cell.point);
}
