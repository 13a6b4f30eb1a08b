"""Measure how long a frame of the map takes in Chromium, and what work it does, by the number of points.

    python -m benchmarks.map_frames --out benchmarks/results/map-frames.md

The scripts are those of the page, from web/static; the points are drawn at random, in clusters. A frame paints all
points and sends the image to the canvas. A move of the map needs one frame; a step of the pointer needs a look-up of
the nearest point. The time of a frame is printed beside that of an empty map in the same run. Needs playwright and
Chromium.
"""

from __future__ import annotations

import argparse
import functools
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from benchmarks.harness.options import out_file, whole
from benchmarks.harness.publishing import command_line, document, publish
from gpubranches.core import assets
from gpubranches.research.tables import markdown_table

PAINT = """async ([n, frames, ratio]) => {
    const { index, nearest, within } = await import("/static/map_points.js");
    const { paint, representatives } = await import("/static/map_canvas.js");
    let seed = 7;
    const random = () => (seed = (seed * 16807) % 2147483647) / 2147483647;
    const normal = () => Math.sqrt(-2 * Math.log(random())) * Math.cos(2 * Math.PI * random());
    const columns = { ids: [], x: [], y: [], kinds: [], kind_names: [0, 1, 2, 3, 4, 5] };
    for (let i = 0; i < n; i += 1) {
        const cluster = i % 12;
        columns.ids.push(i);
        columns.x.push(Math.round(6000 * Math.cos(cluster) + 1500 * normal()));
        columns.y.push(Math.round(4000 * Math.sin(2 * cluster) + 1500 * normal()));
        columns.kinds.push(cluster % 6);
    }
    const timed = (count, task) => {
        const took = [];
        for (let step = 0; step < count; step += 1) {
            const start = performance.now();
            task(step);
            took.push(performance.now() - start);
        }
        return took.sort((a, b) => a - b);
    };
    const middle = took => took[Math.floor(took.length / 2)];
    let points = null;
    const indexing = middle(timed(3, () => (points = index(columns))));
    const canvas = document.createElement("canvas");
    const [width, height] = [1400, 800];
    Object.assign(canvas, { width: width * ratio, height: height * ratio });
    const context = canvas.getContext("2d");
    const image = context.createImageData(canvas.width, canvas.height);
    const none = new Uint8Array(n);
    const shown = Array(6).fill(true);
    const colours = { ground: [255, 255, 255], chosen: [200, 0, 100], kinds: Array(6).fill([50, 60, 200]) };
    const view = { width, height, ratio, scale: 0.05, x: 0, y: 0 };
    let work = null;
    const took = timed(frames, step => {
        view.x = 40 * step;
        work = paint(image, points, view, { shown, colours, chosen: none, skipped: none });
        context.putImageData(image, 0, 0);
    });
    const looking = timed(frames, step => nearest(points, { x: 100 * step - 5000, y: 0 }, 12 / view.scale, shown));
    const choosing = timed(9, () => representatives(points, view, shown, 84, 48));
    const lasso = [[-5000, -3000], [4000, -4000], [3000, 5000], [-200, 600]];
    const selecting = timed(9, () => within(points, [lasso]));
    return {
        frame: middle(took), fastest: took[0], slow: took[Math.floor(took.length * 0.95)], work, indexing,
        looking: middle(looking), choosing: middle(choosing), selecting: middle(selecting),
    };
}"""


class _Handler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing of each request."""


def main() -> None:
    """Read the options, run, print and write the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.map_frames",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--points", type=whole(0), nargs="+", default=[0, 1_000, 10_000, 100_000])
    parser.add_argument("--frames", type=whole(3), default=60, help="frames of each number of points")
    parser.add_argument("--chromium", type=Path, default=Path("/usr/bin/chromium"))
    parser.add_argument("--out", type=out_file, help="write this Markdown file")
    options = parser.parse_args()
    rows = [_row(result) for result in measured(options.points, options.frames, options.chromium)]
    head = ("points", "pixels to a px", "a frame", "the fastest", "19 of 20 within", "times an empty one")
    tail = ("pixels blended", "radius", "look-up of the nearest", "choice of pictures", "lasso", "index, once")
    introduction = (
        f"A canvas of 1,400 x 800 px, {options.frames} frames each, one core. Milliseconds, medians; 16.7 ms are 60 "
        "frames a second."
    )
    page = document(
        "How long a frame of the map takes", command_line("map_frames"), introduction, markdown_table(head + tail, rows)
    )
    publish(page, options.out)


def measured(sizes: list[int], frames: int, chromium: Path) -> list[dict[str, Any]]:
    """Return the results for each number of points, with one and with two pixels to a px of the screen."""
    from playwright.sync_api import sync_playwright

    handler = functools.partial(_Handler, directory=str(assets.folder("web")))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    results = []
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=str(chromium), args=["--no-sandbox", "--disable-gpu"])
            page = browser.new_page()
            page.goto(f"http://127.0.0.1:{server.server_port}/static/")
            for ratio in (1, 2):
                empty = page.evaluate(PAINT, [0, frames, ratio])["frame"]
                for size in sizes:
                    found = page.evaluate(PAINT, [size, frames, ratio])
                    results.append({**found, "points": size, "ratio": ratio, "empty": empty})
            browser.close()
    finally:
        server.shutdown()
        server.server_close()
    return results


def _row(found: dict[str, Any]) -> tuple[str, ...]:
    work = found["work"]
    milliseconds = [f"{found[name]:.1f}" for name in ("looking", "choosing", "selecting", "indexing")]
    return (
        f"{found['points']:,}",
        str(found["ratio"]),
        f"{found['frame']:.1f}",
        f"{found['fastest']:.1f}",
        f"{found['slow']:.1f}",
        f"{found['frame'] / max(found['empty'], 0.05):.1f}",
        f"{work['pixels']:,}",
        f"{work['radius']:g}",
        *milliseconds,
    )


if __name__ == "__main__":
    main()
