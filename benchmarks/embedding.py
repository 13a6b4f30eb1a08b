"""Compare the images per second of an ingest with those of a bare loop of open_clip with a DataLoader.

    python -m benchmarks.embedding photos --out benchmarks/results/embedding.md

Both embed all pictures of a folder, by default scenes of the demo, with the same model of random weights, on a GPU if
there is one. They take turns in one run. The ingest makes a whole catalog: it reads and digests every file, decodes,
embeds, writes, makes codes and syncs. The loop decodes in one worker process per core, and keeps the embeddings in
memory. Loading the model is in neither.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.machine import machine_facts
from benchmarks.harness.options import in_one_sentence, out_file, whole
from benchmarks.harness.publishing import command_line, document, goals_section, publish
from gpubranches.encoders import Embedder, open_embedder
from gpubranches.encoders.torchvision_ops import declare_torchvision_ops
from gpubranches.errors import UsageError
from gpubranches.ingestion import build_catalog
from gpubranches.ingestion.inputs import scan
from gpubranches.research.tables import markdown_table

TINY = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": 224, "layers": 2, "width": 128, "patch_size": 32, "head_width": 64},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1},
}
"""A model so small that decoding takes most of the time."""
GOAL = 1.0


def write_model(folder: Path, name: str) -> None:
    """Write a model of open_clip with random weights: "tiny", or the name of a model that open_clip lists."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    if name != "tiny" and name not in open_clip.list_models():
        raise UsageError(f"--model: expected tiny or a model of open_clip such as ViT-B-32, got {name!r}")
    config = TINY if name == "tiny" else open_clip.get_model_config(name)
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    torch.manual_seed(0)
    if name == "tiny":
        model = open_clip.CLIP(**TINY)
    else:
        model = open_clip.create_model(name, load_weights=False, pretrained_text=False)
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, folder / "model.safetensors")


def draw_scenes(folder: Path, count: int) -> None:
    """Write scenes of the demo as JPEG."""
    from gpubranches.demo import scenes

    folder.mkdir()
    for number, scene in enumerate(scenes.draw_scenes(count, 0)):
        scenes.render(scene).save(folder / f"{number:06}.jpg", "JPEG", quality=90)


class BareLoop:
    """open_clip as its users call it: a DataLoader with one worker per core, inference mode, unit rows."""

    def __init__(self, model: Path, files: list[Path], batch_size: int):
        import open_clip
        import torch

        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model, self.transform = open_clip.create_model_from_pretrained(f"local-dir:{model}", device=self.device)
        self.model.eval()
        self.files = files
        self.batch_size = batch_size

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.files)

    def __getitem__(self, number: int) -> Any:
        """Return the model's input of one picture; called in the workers."""
        from PIL import Image

        with Image.open(self.files[number]) as image:
            return self.transform(image)

    def run(self) -> np.ndarray[Any, Any]:
        """Return the embeddings of all pictures, (n, D) float32."""
        import torch
        from torch.utils.data import DataLoader

        workers = len(os.sched_getaffinity(0))
        loader: Any = DataLoader(self, self.batch_size, num_workers=workers, pin_memory=self.device == "cuda")
        rows = []
        with torch.inference_mode(), torch.autocast("cuda", enabled=self.device == "cuda"):
            for batch in loader:
                embeddings = self.model.encode_image(batch.to(self.device, non_blocking=True)).float()
                rows.append(torch.nn.functional.normalize(embeddings, dim=-1).cpu().numpy())
        return np.concatenate(rows)


def ingest(folder: Path, out: Path, embedder: Embedder, batch_size: int) -> tuple[float, float]:
    """Make a catalog of a folder; return the pictures a second of decoding and of the model, each while at work."""
    report = build_catalog([folder], out, embedder=embedder, batch_size=batch_size)
    if report.errors:
        raise UsageError(f"{folder}: expected pictures that can be read, {report.errors} cannot be; remove them")
    return report.decoded_per_s, report.embedded_per_s


def measure(folder: Path, model: Path, work: Path, repeats: int, batch_size: int) -> dict[str, Any]:
    """Return the images per second of both, by round, and the largest difference between their embeddings."""
    from gpubranches import Catalog

    (scanned,) = scan([folder])
    if scanned.source is not None or not scanned.pieces:
        raise UsageError(f"{folder}: expected a folder of pictures, found none")
    files = [Path(piece.path) for piece in scanned.pieces]
    loop, embedder = BareLoop(model, files, batch_size), open_embedder(f"open_clip:{model}")
    _ = embedder.text_mean  # part of opening the model
    found: dict[str, Any] = {"n": len(files), "loop": [], "ingest": [], "decoding": [], "model": []}
    for turn in range(repeats + 1):  # the first is a warm one
        for side in ("loop", "ingest") if turn % 2 else ("ingest", "loop"):
            out = work / f"catalog-{turn}"
            began = time.perf_counter()
            if side == "loop":
                rows = loop.run()
            else:
                decoding, by_model = ingest(folder, out, embedder, batch_size)
            if turn:
                found[side].append(len(files) / (time.perf_counter() - began))
        if turn:
            found["decoding"].append(decoding)
            found["model"].append(by_model)
        stored = Catalog.open(out).embeddings(np.arange(len(files)))
        found["difference"] = float(np.abs(stored - rows).max())
        shutil.rmtree(out)
        print(f"round {turn}: { ({k: v[-1:] for k, v in found.items() if isinstance(v, list)}) }", file=sys.stderr)
    return found


def report(found: dict[str, Any], model: str, facts: dict[str, Any]) -> str:
    """Return the page of results."""
    medians = {name: float(np.median(values)) for name, values in found.items() if isinstance(values, list)}
    ratio = float(np.median(np.array(found["ingest"]) / np.array(found["loop"])))
    rows = [
        ("a whole ingest", f"{medians['ingest']:,.0f}"),
        ("the bare loop with a DataLoader", f"{medians['loop']:,.0f}"),
        ("decoding in the ingest, while at work", f"{medians['decoding']:,.0f}"),
        ("the model in the ingest, while at work", f"{medians['model']:,.0f}"),
    ]
    told = (
        f"{found['n']:,} pictures, the model {model} with random weights, medians of {len(found['loop'])} rounds. The "
        f"largest difference of a stored number from the loop's is {found['difference']:.1e}; stored are float16. "
        f"{facts['processor']}, {facts['cores']} cores, load {facts['load_before']} before and {facts['load_after']} "
        f"after, {facts['date']}."
    )
    goals = [(f"an ingest embeds at least {GOAL:.1f} times the loop's images a second", f"{ratio:.2f}", ratio >= GOAL)]
    table = markdown_table(("what", "images a second"), rows)
    return document("Embedding", command_line("embedding"), told, table, goals_section(goals))


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="a folder of pictures; by default scenes are drawn")
    parser.add_argument("--scenes", type=whole(1), default=4000, help="scenes to draw without a folder")
    parser.add_argument("--model", default="tiny", help="tiny, or a model that open_clip lists, such as ViT-B-32")
    parser.add_argument("--batch-size", type=whole(1), default=64)
    parser.add_argument("--repeats", type=whole(1), default=3)
    parser.add_argument("--out", type=out_file, help="a file for the table; by default it is only printed")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    declare_torchvision_ops()
    with in_one_sentence(), tempfile.TemporaryDirectory() as name:
        work = Path(name)
        folder = options.folder or work / "scenes"
        if options.folder is None:
            draw_scenes(folder, options.scenes)
        write_model(work / "model", options.model)
        found = measure(folder, work / "model", work, options.repeats, options.batch_size)
        publish(report(found, options.model, machine_facts(load)), options.out)


if __name__ == "__main__":
    main()
