// The points of a map, sorted by what they are and where they lie, so that a part of the map is found without looking at
// every point.

const SIDE = 128; // cells of the map, across and down

// columns: those of the server, see AnswerMap.to_json. Returns the points and their index.
export function index({ ids, x, y, kinds, kind_names }) {
  const n = ids.length;
  const bounds = { left: Infinity, right: -Infinity, bottom: Infinity, top: -Infinity };
  for (let i = 0; i < n; i += 1) {
    bounds.left = Math.min(bounds.left, x[i]);
    bounds.right = Math.max(bounds.right, x[i]);
    bounds.bottom = Math.min(bounds.bottom, y[i]);
    bounds.top = Math.max(bounds.top, y[i]);
  }
  if (!n) Object.assign(bounds, { left: -1, right: 1, bottom: -1, top: 1 });
  const points = {
    n, bounds, ids: Float64Array.from(ids), x: Float64Array.from(x), y: Float64Array.from(y), kinds: Uint8Array.from(kinds),
    layers: kind_names.length, rows: new Map(),
    width: Math.max(1, bounds.right - bounds.left) * 1.0001, height: Math.max(1, bounds.top - bounds.bottom) * 1.0001,
  };
  for (let i = 0; i < n; i += 1) points.rows.set(ids[i], i);
  const starts = new Uint32Array(points.layers * SIDE * SIDE + 1);
  const slots = new Uint32Array(n);
  for (let i = 0; i < n; i += 1) {
    slots[i] = kinds[i] * SIDE * SIDE + across(points, y[i], "bottom", "height") * SIDE + across(points, x[i], "left", "width");
    starts[slots[i] + 1] += 1;
  }
  for (let slot = 0; slot < starts.length - 1; slot += 1) starts[slot + 1] += starts[slot];
  const next = starts.slice();
  const order = new Uint32Array(n);
  for (let i = 0; i < n; i += 1) order[next[slots[i]]++] = i;
  const [xs, ys] = [new Float64Array(n), new Float64Array(n)]; // in that order, which is read fastest
  for (let k = 0; k < n; k += 1) [xs[k], ys[k]] = [points.x[order[k]], points.y[order[k]]];
  return Object.assign(points, { starts, order, xs, ys });
}

function across(points, at, from, length) {
  return Math.min(SIDE - 1, Math.max(0, Math.floor(((at - points.bounds[from]) / points[length]) * SIDE)));
}

// Calls `visit(begin, end)` for the runs of `points.order` of one kind whose cells touch a box {left, right, bottom, top}.
export function runs(points, kind, box, visit) {
  if (box.right < points.bounds.left || box.left > points.bounds.right) return;
  if (box.top < points.bounds.bottom || box.bottom > points.bounds.top) return;
  const [first, last] = [across(points, box.left, "left", "width"), across(points, box.right, "left", "width")];
  const [low, high] = [across(points, box.bottom, "bottom", "height"), across(points, box.top, "bottom", "height")];
  for (let row = low; row <= high; row += 1) {
    const slot = (kind * SIDE + row) * SIDE;
    const [begin, end] = [points.starts[slot + first], points.starts[slot + last + 1]];
    if (end > begin) visit(begin, end);
  }
}

// Returns how many points of some kinds lie in the cells that a box touches. shown: whether a kind is shown, by number.
export function countIn(points, box, shown) {
  let count = 0;
  for (let kind = 0; kind < points.layers; kind += 1) {
    if (shown[kind]) runs(points, kind, box, (begin, end) => (count += end - begin));
  }
  return count;
}

// Returns the point nearest to a place, at most `radius` away, -1 for none, and how many points were looked at.
export function nearest(points, at, radius, shown) {
  const box = { left: at.x - radius, right: at.x + radius, bottom: at.y - radius, top: at.y + radius };
  const found = { point: -1, examined: 0 };
  let best = radius * radius;
  for (let kind = points.layers - 1; kind >= 0; kind -= 1) {
    if (!shown[kind]) continue;
    runs(points, kind, box, (begin, end) => {
      for (let k = begin; k < end; k += 1) {
        const gap = (points.xs[k] - at.x) ** 2 + (points.ys[k] - at.y) ** 2;
        if (gap < best) (best = gap), (found.point = points.order[k]);
      }
      found.examined += end - begin;
    });
  }
  return found;
}

// Returns the points within one of some areas, lists of corners [x, y], by the even-odd rule. The server finds the items of
// an area by the same arithmetic (service/answer_map.py).
export function within(points, areas, shown = null) {
  const chosen = new Set();
  for (const area of areas) {
    const [xs, ys] = [area.map(([x]) => x), area.map(([, y]) => y)];
    const box = { left: Math.min(...xs), right: Math.max(...xs), bottom: Math.min(...ys), top: Math.max(...ys) };
    for (let kind = 0; kind < points.layers; kind += 1) {
      if (shown && !shown[kind]) continue;
      runs(points, kind, box, (begin, end) => {
        for (let k = begin; k < end; k += 1) if (inside(points.xs[k], points.ys[k], xs, ys)) chosen.add(points.order[k]);
      });
    }
  }
  return [...chosen].sort((a, b) => a - b);
}

function inside(x, y, xs, ys) {
  let odd = false;
  for (let k = 0, last = xs.length - 1; k < xs.length; last = k, k += 1) {
    if (ys[last] > y !== ys[k] > y && x < ((xs[k] - xs[last]) * (y - ys[last])) / (ys[k] - ys[last]) + xs[last]) odd = !odd;
  }
  return odd;
}

export const toText = (areas) => areas.map((area) => area.flat().join("_")).join("~");

export function fromText(text) {
  if (!text) return [];
  return text.split("~").map((area) => {
    const numbers = area.split("_").map(Number);
    return numbers.flatMap((x, k) => (k % 2 ? [] : [[x, numbers[k + 1]]]));
  });
}
